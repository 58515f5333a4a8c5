//! What is counted of publishing, and of the sessions with the broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Counter, Gauge, Histogram, IntCounter};

use crate::Metrics;
use crate::metrics::Families;

/// Why a session ends, as far as it is known before one does.
const REBUILD_REASONS: [&str; 11] = [
    "setup",
    "connection",
    "confirm",
    "confirm-timeout",
    "blocked",
    "channel",
    "cancelled",
    "settle",
    "cancel",
    "closed",
    "lane",
];

/// The publisher of a program.
#[derive(Clone)]
pub struct PublisherMetrics {
    published: IntCounter,
    confirm: Histogram,
    unroutable: IntCounter,
    nacked: IntCounter,
    retried: IntCounter,
    ack_lost: IntCounter,
}

impl PublisherMetrics {
    pub(crate) fn new(families: &Families) -> Self {
        const NO_LABELS: &[&str] = &[];
        PublisherMetrics {
            published: families.published.with_label_values(NO_LABELS),
            confirm: families.publish_confirm.with_label_values(NO_LABELS),
            unroutable: families.publish_unroutable.with_label_values(NO_LABELS),
            nacked: families.publish_nacked.with_label_values(NO_LABELS),
            retried: families.publish_retried.with_label_values(NO_LABELS),
            ack_lost: families.ack_lost.with_label_values(NO_LABELS),
        }
    }

    /// The broker confirmed a message, and did not return it, this long after its publish.
    pub fn confirmed(&self, after: Duration) {
        self.published.inc();
        self.confirm.observe(after.as_secs_f64());
    }

    /// The broker returned a message: no queue would take it.
    pub fn unroutable(&self) {
        self.unroutable.inc();
    }

    /// The broker refused a message.
    pub fn nacked(&self) {
        self.nacked.inc();
    }

    /// A message was published again because its first confirm never came.
    pub fn retried(&self) {
        self.retried.inc();
    }

    /// A settlement did not reach the broker: the delivery's session was gone.
    pub fn ack_lost(&self) {
        self.ack_lost.inc();
    }
}

/// One session with the broker, over all the times it is rebuilt.
#[derive(Clone)]
pub struct SessionMetrics {
    metrics: Metrics,
    role: &'static str,
    blockage: Arc<Blockage>,
}

impl SessionMetrics {
    pub(crate) fn new(metrics: Metrics, role: &'static str) -> (Self, Arc<Blockage>) {
        let families = metrics.families();
        // There from the start, so that their rise shows the first one.
        for reason in REBUILD_REASONS {
            families.session_rebuilds.with_label_values(&[role, reason]);
        }
        let blockage = Arc::new(Blockage {
            flag: families.connection_blocked.with_label_values(&[role]),
            seconds: families.connection_blocked_seconds.with_label_values(&[role]),
            since: Mutex::default(),
        });
        (SessionMetrics { role, blockage: Arc::clone(&blockage), metrics }, blockage)
    }

    /// The session was built anew; `reason` is one word of a closed set, such as `heartbeat`.
    pub fn rebuilt(&self, reason: &'static str) {
        self.metrics.families().session_rebuilds.with_label_values(&[self.role, reason]).inc();
    }

    /// Whether the broker blocks the connection. A connection that is lost isn't blocked any more.
    pub fn blocked(&self, blocked: bool) {
        self.blockage.set(blocked, Instant::now());
    }
}

/// Adds up blocked time while it lasts, so that a scrape in the middle of an alarm sees it grow.
pub(crate) struct Blockage {
    flag: Gauge,
    seconds: Counter,
    since: Mutex<Option<Instant>>,
}

impl Blockage {
    pub(crate) fn add_up(&self) {
        self.add_up_at(Instant::now());
    }

    fn add_up_at(&self, now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = *since {
            self.seconds.inc_by(now.saturating_duration_since(start).as_secs_f64());
            *since = Some(now);
        }
    }

    fn set(&self, blocked: bool, now: Instant) {
        self.add_up_at(now);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = blocked.then_some(now);
        self.flag.set(if blocked { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_time_grows_while_the_alarm_lasts_and_stops_with_it() {
        let (_, blockage) = SessionMetrics::new(Metrics::new(), "publish");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        blockage.add_up_at(at(5));
        assert_eq!(blockage.seconds.get(), 0.0);
        blockage.set(true, at(10));
        blockage.add_up_at(at(13));
        assert_eq!((blockage.seconds.get(), blockage.flag.get()), (3.0, 1.0));
        blockage.set(true, at(14));
        blockage.set(false, at(20));
        blockage.add_up_at(at(30));
        assert_eq!((blockage.seconds.get(), blockage.flag.get()), (10.0, 0.0));
    }
}
