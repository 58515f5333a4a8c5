//! What is counted of calls to an ERP.

use std::path::Path;
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
        metrics.families().erp_duplicates_prevented.with_label_values(&[system, "look-up"]);
        ErpMetrics { system: system.to_owned(), unclear, duplicates_found, metrics }
    }

    /// A request ended. `operation` is a call of the interface (`save`), `outcome` is how it ended (`ok`), both words of
    /// closed sets.
    pub fn request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        let labels = [&self.system, operation, outcome];
        self.metrics.families().erp_request.with_label_values(&labels).observe(took.as_secs_f64());
        traces::call(&self.system, operation, outcome, took);
    }

    /// The server at an address showed this certificate (DER); several accounts may have several addresses.
    pub fn peer_certificate(&self, address: &str, der: &[u8]) {
        self.metrics.peer_certificate(&self.system, address, der);
    }

    /// The certificates of this PEM file are trusted for the ERP.
    pub fn trusted_certificates(&self, file: &Path) {
        self.metrics.trusted_certificates(&self.system, file);
    }

    /// The application secret of an account expires then, in seconds since the epoch.
    pub fn secret_expires(&self, account: &str, unix_s: i64) {
        self.metrics.secret_expires(&self.system, account, unix_s);
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
