//! What is counted of one scheme's queue at one stage.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kingpost_model::{FailureKind, RETRY_TIERS, StageName, Verdict};
use prometheus::{Gauge, Histogram, IntCounter};

use crate::Metrics;
use crate::hand::{Hand, InHand, now_ms, seconds_since};

/// One scheme at one stage. Its children are made with it, so every number is there from the first scrape on, as a zero.
#[derive(Clone)]
pub struct LaneMetrics {
    metrics: Metrics,
    scheme: String,
    stage: StageName,
    fresh: IntCounter,
    redelivered: IntCounter,
    hand: Arc<Hand>,
    queue_wait: Histogram,
    inflight: Gauge,
    done: IntCounter,
    retry: IntCounter,
    dead: IntCounter,
    delivery_limit: IntCounter,
    seconds: Histogram,
    works: Histogram,
    last_progress: Gauge,
    age: Histogram,
}

impl LaneMetrics {
    pub(crate) fn new(metrics: Metrics, scheme: &str, stage: StageName, hand: Arc<Hand>) -> Self {
        let families = metrics.families();
        let lane = [scheme, stage.as_str()];
        let received = |flag| families.works_received.with_label_values(&[lane[0], lane[1], flag]);
        let verdict = |word| families.verdicts.with_label_values(&[lane[0], lane[1], word]);
        // There from the start, so that an alert on their rise sees the first one.
        for kind in FailureKind::ALL {
            let (word, fault) = (kind.as_str(), kind.usual_fault().as_str());
            families.dead_lettered.with_label_values(&[lane[0], lane[1], word]);
            families.failures.with_label_values(&[lane[0], lane[1], word, fault]);
            // What is read from the source are windows.
            if stage != StageName::Extract {
                families.documents_dead.with_label_values(&[lane[0], lane[1], word]);
            }
            for tier in RETRY_TIERS {
                families.retry_scheduled.with_label_values(&[lane[0], lane[1], word, tier.name()]);
            }
        }
        LaneMetrics {
            fresh: received("false"),
            redelivered: received("true"),
            hand,
            queue_wait: families.queue_wait.with_label_values(&lane),
            inflight: families.works_inflight.with_label_values(&lane),
            done: verdict("done"),
            retry: verdict("retry"),
            dead: verdict("dead"),
            delivery_limit: families.delivery_limit.with_label_values(&lane),
            seconds: families.stage_seconds.with_label_values(&lane),
            works: families.batch_size.with_label_values(&lane),
            last_progress: families.last_progress.with_label_values(&lane),
            age: families.document_age.with_label_values(&[scheme]),
            scheme: scheme.to_owned(),
            stage,
            metrics,
        }
    }

    /// A message was taken that came into its queue then, in milliseconds since the epoch, as far as that is known. It is in
    /// hand until what this returns is dropped.
    pub fn taken(&self, queued_ms: Option<i64>) -> InHand {
        let now = now_ms();
        if let Some(queued_ms) = queued_ms {
            self.queue_wait.observe(seconds_since(queued_ms, now));
        }
        self.hand.take(queued_ms.unwrap_or(now))
    }

    /// The broker delivered a message; it is in flight until [`LaneMetrics::settled`].
    pub fn received(&self, redelivered: bool) {
        if redelivered {
            self.redelivered.inc()
        } else {
            self.fresh.inc()
        }
        self.inflight.inc();
    }

    /// A delivery left our hands, settled or lost with its session.
    pub fn settled(&self) {
        self.inflight.dec();
    }

    /// Something moved: the worker isn't silent. Called after a settlement the broker took.
    pub fn progress(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_progress.set(now.as_secs_f64());
    }

    /// A stage judged a work: counts the verdict, and the failure in it.
    pub fn verdict(&self, verdict: &Verdict) {
        let failure = match verdict {
            Verdict::Done => {
                self.done.inc();
                return;
            }
            Verdict::Retry { failure, .. } => {
                self.retry.inc();
                failure
            }
            Verdict::Dead { failure } => {
                self.dead.inc();
                failure
            }
        };
        let labels = [&self.scheme, self.stage.as_str(), failure.kind.as_str(), failure.fault.as_str()];
        self.metrics.families().failures.with_label_values(&labels).inc();
    }

    /// A work was put into a retry tier, such as `30s`.
    pub fn retry_scheduled(&self, kind: FailureKind, tier: &str) {
        let labels = [&self.scheme, self.stage.as_str(), kind.as_str(), tier];
        self.metrics.families().retry_scheduled.with_label_values(&labels).inc();
    }

    /// The broker confirmed a dead letter.
    pub fn dead_lettered(&self, kind: FailureKind) {
        let labels = [&self.scheme, self.stage.as_str(), kind.as_str()];
        self.metrics.families().dead_lettered.with_label_values(&labels).inc();
    }

    /// A live document became a dead letter, and the broker has confirmed it. Not for windows, nor for what is read or sent
    /// again.
    pub fn document_dead(&self, kind: FailureKind) {
        let labels = [&self.scheme, self.stage.as_str(), kind.as_str()];
        self.metrics.families().documents_dead.with_label_values(&labels).inc();
    }

    /// A work was judged without being processed, because too many deliveries of it had ended without a settlement.
    pub fn delivery_limit(&self) {
        self.delivery_limit.inc();
    }

    /// A stage has processed a batch of `works` in `took`.
    pub fn batch(&self, works: usize, took: Duration) {
        self.works.observe(works as f64);
        self.seconds.observe(took.as_secs_f64());
    }

    /// A document is settled in the target, this long after its change in the source.
    pub fn document_age(&self, age: Duration) {
        self.age.observe(age.as_secs_f64());
    }

    /// Whether a delivery of a shard is kept because a write may still take effect; without shards it is shard 0.
    pub fn write_in_doubt(&self, shard: Option<u32>, kept: bool) {
        self.metrics.write_in_doubt(&self.scheme, shard.unwrap_or(0), kept);
    }

    /// Whether the stage holds the scheme back, and why, in one word of a closed set such as `configuration`.
    pub fn paused(&self, reason: &'static str, paused: bool) {
        let labels = [&self.scheme, self.stage.as_str(), reason];
        self.metrics.families().scheme_paused.with_label_values(&labels).set(if paused { 1.0 } else { 0.0 });
    }
}
