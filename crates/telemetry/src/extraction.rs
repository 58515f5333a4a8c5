//! What is counted of reading windows of time from a source.

use std::time::Duration;

use prometheus::Histogram;

use crate::Metrics;

/// The extraction of one scheme.
#[derive(Clone)]
pub struct ExtractionMetrics {
    metrics: Metrics,
    scheme: String,
    documents: Histogram,
}

impl ExtractionMetrics {
    pub(crate) fn new(metrics: Metrics, scheme: &str) -> Self {
        let families = metrics.families();
        // There from the start, so that an alert on their rise sees the first one.
        for outcome in ["read", "split", "failed"] {
            families.windows.with_label_values(&[scheme, outcome]);
        }
        ExtractionMetrics {
            documents: families.window_size.with_label_values(&[scheme]),
            scheme: scheme.to_owned(),
            metrics,
        }
    }

    /// A window was read whole with this many distinct documents.
    pub fn window_read(&self, documents: u64) {
        self.window("read");
        self.documents.observe(documents as f64);
    }

    /// A window ended otherwise; `outcome` is one word of a closed set, such as `split` or `failed`.
    pub fn window(&self, outcome: &'static str) {
        self.metrics.families().windows.with_label_values(&[&self.scheme, outcome]).inc();
    }

    /// How far the confirmed cursor is behind now.
    pub fn cursor_lag(&self, lag: Duration) {
        self.metrics.families().cursor_lag.with_label_values(&[&self.scheme]).set(lag.as_secs_f64());
    }

    /// Windows of history, second looks and backfills that are still to be cut.
    pub fn backlog(&self, windows: u64) {
        self.metrics.families().backlog_windows.with_label_values(&[&self.scheme]).set(windows as f64);
    }

    /// Another worker leads, or may: what it tells of cursor and backlog holds, and nothing that stands still here.
    pub fn resigned(&self) {
        let families = self.metrics.families();
        for family in [&families.cursor_lag, &families.backlog_windows] {
            // Fails only for what isn't there.
            let _ = family.remove_label_values(&[&self.scheme]);
        }
    }
}
