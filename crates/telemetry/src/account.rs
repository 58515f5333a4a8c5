//! What is counted of the limits of an account.

use prometheus::{Gauge, IntCounter};

use crate::metrics::Families;

/// One account of an ERP.
#[derive(Clone)]
pub struct AccountMetrics {
    limits_met: IntCounter,
    calls_per_minute: Gauge,
    closed_until: Gauge,
}

impl AccountMetrics {
    pub(crate) fn new(families: &Families, system: &str, account: &str) -> Self {
        let labels = [system, account];
        AccountMetrics {
            limits_met: families.account_limits_met.with_label_values(&labels),
            calls_per_minute: families.account_calls_per_minute.with_label_values(&labels),
            closed_until: families.account_closed_until.with_label_values(&labels),
        }
    }

    /// A call has met a limit.
    pub fn limit_met(&self) {
        self.limits_met.inc();
    }

    /// How many calls a minute are allowed; nothing while no limit is known.
    pub fn pace(&self, calls_per_minute: Option<f64>) {
        self.calls_per_minute.set(calls_per_minute.unwrap_or(0.0));
    }

    /// Until when the account is left alone, in milliseconds since the epoch; nothing while it is open.
    pub fn closed_until(&self, ms: Option<i64>) {
        self.closed_until.set(ms.map_or(0.0, |ms| ms as f64 / 1_000.0));
    }
}
