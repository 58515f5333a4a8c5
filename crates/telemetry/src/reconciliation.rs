//! What is shown of the last comparison of both books.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use kingpost_model::Reconciled;

use crate::Metrics;

/// The last comparison of one scheme's books.
#[derive(Clone)]
pub struct ReconciliationMetrics {
    metrics: Metrics,
    scheme: String,
    /// Verdicts that are shown.
    shown: Arc<Mutex<BTreeSet<String>>>,
}

impl ReconciliationMetrics {
    pub(crate) fn new(metrics: Metrics, scheme: &str) -> Self {
        ReconciliationMetrics { metrics, scheme: scheme.to_owned(), shown: Arc::default() }
    }

    /// Shows a comparison in the place of the last one; with nothing no number is there any more, because there was no
    /// comparison, or another worker shows it.
    pub fn show(&self, last: Option<&Reconciled>) {
        let (families, scheme) = (self.metrics.families(), [self.scheme.as_str()]);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let words: BTreeSet<String> =
            last.map(|last| last.documents.keys().cloned().collect()).unwrap_or_default();
        for word in shown.difference(&words) {
            // Fails only for what isn't there.
            let _ = families.reconcile_documents.remove_label_values(&[&self.scheme, word]);
        }
        *shown = words;
        let single = [&families.reconcile_agrees, &families.reconcile_last, &families.reconcile_period_end];
        let Some(last) = last else {
            for family in single {
                let _ = family.remove_label_values(&scheme);
            }
            return;
        };
        for (word, count) in &last.documents {
            families.reconcile_documents.with_label_values(&[&self.scheme, word]).set(*count as f64);
        }
        let values = [f64::from(u8::from(last.agrees)), last.finished_s as f64, last.to_s as f64];
        for (family, value) in single.into_iter().zip(values) {
            family.with_label_values(&scheme).set(value);
        }
    }
}
