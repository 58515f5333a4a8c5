//! What the harness tells metrics and health.

use std::path::PathBuf;
use std::time::Duration;

use kingpost_broker::{Observer, Role};
use kingpost_model::{Item, Origin, Route, StageName, Tier, Verdict};
use kingpost_telemetry::{
    Health, InHand, LaneMetrics, Metrics, PublisherMetrics, SessionMetrics, State, Watchdog,
};

use crate::clock::now_ms;

/// A batch that takes longer than this is stuck: the longest ERP call, its look-ups and its steps, twice over.
const STALL_LIMIT: Duration = Duration::from_secs(900);

/// The numbers of one lane.
pub(crate) struct LaneTelemetry {
    stage: StageName,
    metrics: LaneMetrics,
    watchdog: Watchdog,
    held: std::sync::atomic::AtomicUsize,
}

impl LaneTelemetry {
    pub(crate) fn new(
        metrics: &Metrics,
        health: &Health,
        scheme: &str,
        stage: StageName,
        queue: &str,
    ) -> Self {
        LaneTelemetry {
            stage,
            metrics: metrics.lane(scheme, stage),
            watchdog: health.watchdog(queue, STALL_LIMIT),
            held: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    pub(crate) fn begun(&self, items: &[Item]) {
        for item in items {
            self.metrics.received(item.redelivered);
        }
        self.hold(items.len(), true);
    }

    pub(crate) fn ended(&self, items: &[Item], verdicts: &[Verdict], took: Duration, settled: bool) {
        self.hold(items.len(), false);
        self.metrics.batch(items.len(), took);
        items.iter().for_each(|_| self.metrics.settled());
        if !settled {
            return;
        }
        self.metrics.progress();
        for (item, verdict) in items.iter().zip(verdicts) {
            self.carried_out(item, verdict);
            if matches!(verdict, Verdict::Done) && self.stage == StageName::Load {
                self.age(item);
            }
        }
    }

    /// A message was judged without being processed, and what was judged is confirmed.
    pub(crate) fn unsettled(&self, item: &Item, verdict: &Verdict) {
        self.metrics.delivery_limit();
        self.metrics.progress();
        self.carried_out(item, verdict);
    }

    fn carried_out(&self, item: &Item, verdict: &Verdict) {
        self.metrics.verdict(verdict);
        match verdict {
            Verdict::Dead { failure } => {
                self.metrics.dead_lettered(failure.kind);
                // As with ages: the objective is about live documents alone.
                if self.stage != StageName::Extract && item.work.origin == Origin::Live {
                    self.metrics.document_dead(failure.kind);
                }
            }
            Verdict::Retry { failure, after, .. } => {
                self.metrics.retry_scheduled(failure.kind, Tier::at_least(*after).name());
            }
            Verdict::Done => {}
        }
    }

    /// A message was taken out of the inbox; it is in hand until what this returns is dropped.
    pub(crate) fn taken(&self, queued_ms: Option<i64>) -> InHand {
        self.metrics.taken(queued_ms)
    }

    /// A document is in the target: how long after its change in the source? Of live ones alone, since what is read again
    /// or sent again is old by intention, and would count as late.
    fn age(&self, item: &Item) {
        let modified_ms = item.work.modified_ms.filter(|_| item.work.origin == Origin::Live);
        if let Some(age_ms) = modified_ms.and_then(|ms| u64::try_from(now_ms() - ms).ok()) {
            self.metrics.document_age(Duration::from_millis(age_ms));
        }
    }

    pub(crate) fn in_doubt(&self, shard: Option<u32>, kept: bool) {
        self.metrics.write_in_doubt(shard, kept);
    }

    fn hold(&self, items: usize, more: bool) {
        use std::sync::atomic::Ordering::Relaxed;
        let held = if more {
            self.held.fetch_add(items, Relaxed) + items
        } else {
            self.held.fetch_sub(items, Relaxed).saturating_sub(items)
        };
        self.watchdog.held(held);
        if !more {
            self.watchdog.progress();
        }
    }
}

/// Passes on what the broker crate sees.
pub(crate) struct BrokerTelemetry {
    /// What is trusted for the broker, read again for every session.
    ca_file: Option<PathBuf>,
    publisher: PublisherMetrics,
    publish: SessionMetrics,
    consume: SessionMetrics,
    health: Health,
    metrics: Metrics,
}

impl BrokerTelemetry {
    pub(crate) fn new(metrics: &Metrics, health: &Health, ca_file: Option<PathBuf>) -> Self {
        for component in ["publishing", "consuming"] {
            health.set(component, State::NotReady("not connected to RabbitMQ yet".to_owned()));
        }
        metrics.journal_dropped(0);
        BrokerTelemetry {
            ca_file,
            publisher: metrics.publisher(),
            publish: metrics.session(Role::Publish.as_str()),
            consume: metrics.session(Role::Consume.as_str()),
            health: health.clone(),
            metrics: metrics.clone(),
        }
    }
}

fn component(role: Role) -> Option<&'static str> {
    match role {
        Role::Publish => Some("publishing"),
        Role::Consume => Some("consuming"),
        Role::Lead | Role::Inspect | Role::Notice | Role::Lock | Role::Journal => None,
    }
}

impl Observer for BrokerTelemetry {
    fn connected(&self, role: Role, up: bool) {
        if let (true, Some(file)) = (up, &self.ca_file) {
            self.metrics.trusted_certificates("amqp", file);
        }
        if let Some(component) = component(role) {
            let down = || State::NotReady("no connection to RabbitMQ".to_owned());
            self.health.set(component, if up { State::Ready } else { down() });
        }
    }

    fn rebuilt(&self, role: Role, reason: &'static str) {
        match role {
            Role::Publish => self.publish.rebuilt(reason),
            Role::Consume => self.consume.rebuilt(reason),
            Role::Lead | Role::Inspect | Role::Notice | Role::Lock | Role::Journal => {}
        }
    }

    fn blocked(&self, blocked: bool) {
        self.publish.blocked(blocked);
        let why = || State::NotReady("RabbitMQ blocks publishing (memory or disk alarm)".to_owned());
        self.health.set("publishing", if blocked { why() } else { State::Ready });
    }

    fn published(&self, messages: usize, seconds: f64) {
        let after = Duration::from_secs_f64(seconds.max(0.0));
        (0..messages).for_each(|_| self.publisher.confirmed(after));
    }

    fn unroutable(&self, _queue: &str) {
        self.publisher.unroutable();
    }

    fn nacked(&self, _queue: &str) {
        self.publisher.nacked();
    }

    fn republished(&self, messages: usize) {
        (0..messages).for_each(|_| self.publisher.retried());
    }

    fn active(&self, route: &Route, active: bool) {
        if route.stage == StageName::Load {
            self.metrics.shard_active(&route.scheme, route.shard.unwrap_or(0), active);
        }
    }

    fn journal_dropped(&self, events: usize) {
        self.metrics.journal_dropped(events);
    }

    fn acks_lost(&self, messages: usize) {
        (0..messages).for_each(|_| self.publisher.ack_lost());
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureKind, RecordKey, Work, WorkId};

    use super::*;

    const ORIGINS: [Origin; 4] = [Origin::Live, Origin::Backfill, Origin::Remedy, Origin::Replay];

    #[test]
    fn the_age_of_live_documents_counts_and_not_of_those_that_are_read_or_sent_again() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let lane = LaneTelemetry::new(&metrics, &health, "s", StageName::Load, "load.s");
        for origin in ORIGINS {
            let key = RecordKey::new("STK_InStock", "RK1");
            let mut work = Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}");
            (work.origin, work.modified_ms) = (origin, Some(now_ms() - 1_000_000));
            let items = [Item { work, redelivered: false }];
            lane.begun(&items);
            lane.ended(&items, &[Verdict::Done], Duration::ZERO, true);
        }
        let text = metrics.render().unwrap();
        assert!(text.contains("kingpost_document_age_seconds_count{scheme=\"s\"} 1\n"), "{text}");
        assert!(
            text.contains("kingpost_verdicts_total{scheme=\"s\",stage=\"load\",verdict=\"done\"} 4\n"),
            "{text}"
        );
    }

    #[test]
    fn live_documents_that_die_count_for_the_objective_and_no_others() {
        let (metrics, health) = (Metrics::new(), Health::new());
        let dead = || Verdict::Dead { failure: Failure::new(FailureKind::Internal, "") };
        for stage in [StageName::Extract, StageName::Transform, StageName::Load] {
            let lane = LaneTelemetry::new(&metrics, &health, "s", stage, "q");
            for origin in ORIGINS {
                let mut work =
                    Work::new(WorkId::new("1"), stage, "s", RecordKey::new("STK_InStock", "RK1"), "{}");
                work.origin = origin;
                let items = [Item { work, redelivered: false }];
                lane.begun(&items);
                lane.ended(&items, &[dead()], Duration::ZERO, true);
                lane.unsettled(&items[0], &dead());
            }
        }
        let text = metrics.render().unwrap();
        let has = |name: &str, stage: &str, count: &str| {
            let line = format!("{name}{{kind=\"internal\",scheme=\"s\",stage=\"{stage}\"}} {count}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        };
        has("kingpost_dead_lettered_total", "extract", "8");
        has("kingpost_dead_lettered_total", "load", "8");
        has("kingpost_documents_dead_total", "transform", "2");
        has("kingpost_documents_dead_total", "load", "2");
        assert!(
            !text.contains("kingpost_documents_dead_total{kind=\"internal\",scheme=\"s\",stage=\"extract\"}")
        );
    }
}
