//! What is counted of calls to an ERP.

use std::time::Duration;

use prometheus::IntCounter;

use crate::{Metrics, traces};

/// One ERP. A request takes so much longer than finding its child that children aren't kept per operation.
#[derive(Clone)]
pub struct ErpMetrics {
    metrics: Metrics,
    system: String,
    unclear: IntCounter,
    duplicates_found: IntCounter,
}

impl ErpMetrics {
    pub(crate) fn new(metrics: Metrics, system: &str) -> Self {
        let unclear = metrics.families().erp_unclear.with_label_values(&[system]);
        // There from the start, so that an alert on its rise sees the first one.
        let duplicates_found = metrics.families().erp_duplicates_found.with_label_values(&[system]);
        ErpMetrics { system: system.to_owned(), unclear, duplicates_found, metrics }
    }

    /// A request ended. `operation` is a call of the interface (`save`), `outcome` is how it ended (`ok`), both words of
    /// closed sets.
    pub fn request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        let labels = [&self.system, operation, outcome];
        self.metrics.families().erp_request.with_label_values(&labels).observe(took.as_secs_f64());
        traces::call(&self.system, operation, outcome, took);
    }

    /// A post of a document had an unknown outcome.
    pub fn unclear(&self) {
        self.unclear.inc();
    }

    /// A document that was about to be posted is in the ERP already; `how` says what told so, in one word of a closed set.
    pub fn duplicate_prevented(&self, how: &'static str) {
        self.metrics.families().erp_duplicates_prevented.with_label_values(&[&self.system, how]).inc();
    }

    /// A number was found to have more than one document.
    pub fn duplicate_found(&self) {
        self.duplicates_found.inc();
    }
}
