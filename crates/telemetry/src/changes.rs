//! What is counted of documents that changed, or were cancelled, after they were posted.

use prometheus::IntCounter;

use crate::metrics::Families;

/// The changed documents of one scheme.
#[derive(Clone)]
pub struct ChangeMetrics {
    ignored: IntCounter,
    reported: IntCounter,
    updated: IntCounter,
    withdrawn: IntCounter,
}

impl ChangeMetrics {
    pub(crate) fn new(families: &Families, scheme: &str) -> Self {
        // There from the start, so that an alert on their rise sees the first one.
        let counter = |outcome: &str| families.changes.with_label_values(&[scheme, outcome]);
        ChangeMetrics {
            ignored: counter("ignored"),
            reported: counter("reported"),
            updated: counter("updated"),
            withdrawn: counter("withdrawn"),
        }
    }

    /// One was left as it stands in the target, because its scheme says so.
    pub fn ignored(&self) {
        self.ignored.inc();
    }

    /// One became a dead letter.
    pub fn reported(&self) {
        self.reported.inc();
    }

    /// The draft of one was overwritten.
    pub fn updated(&self) {
        self.updated.inc();
    }

    /// One was cancelled in the source, and there is nothing of it in the target.
    pub fn withdrawn(&self) {
        self.withdrawn.inc();
    }
}
