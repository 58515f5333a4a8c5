//! What is counted of documents that are pushed.

use std::time::Duration;

use prometheus::Histogram;

use crate::Metrics;

/// The pushing of documents, over all schemes.
#[derive(Clone)]
pub struct PushMetrics {
    metrics: Metrics,
    seconds: Histogram,
}

impl PushMetrics {
    pub(crate) fn new(metrics: Metrics) -> Self {
        // There from the start, so that an alert on their rise sees the first one.
        for outcome in ["accepted", "refused", "unauthorized", "invalid", "unavailable"] {
            metrics.families().push_requests.with_label_values(&[outcome]);
        }
        let seconds = metrics.families().push_seconds.with_label_values::<&str>(&[]);
        PushMetrics { seconds, metrics }
    }

    /// Documents of this scheme are taken: what becomes of them is there from now on, as 0.
    pub fn scheme(&self, scheme: &str) {
        for outcome in ["accepted", "refused", "duplicate", "unconfirmed"] {
            self.documents(scheme, outcome, 0);
        }
    }

    /// A request was answered; `outcome` is `accepted`, `refused`, `unauthorized`, `invalid` or `unavailable`.
    pub fn request(&self, outcome: &'static str, took: Duration) {
        self.metrics.families().push_requests.with_label_values(&[outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// What became of documents; `outcome` is `accepted`, `refused`, `duplicate` or `unconfirmed`.
    pub fn documents(&self, scheme: &str, outcome: &'static str, count: usize) {
        self.metrics.families().push_documents.with_label_values(&[scheme, outcome]).inc_by(count as u64);
    }
}
