//! What is shown of the comparisons of both books.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use kingpost_model::Comparisons;

use crate::Metrics;

/// The comparisons of one scheme's books.
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

    /// Shows how the books stand, in the place of what was shown before; with nothing no number is there any more, because
    /// there was no comparison, or another worker shows it.
    pub fn show(&self, comparisons: Option<&Comparisons>) {
        let (families, scheme) = (self.metrics.families(), [self.scheme.as_str()]);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let documents = comparisons.map(Comparisons::documents).unwrap_or_default();
        let words: BTreeSet<String> = documents.keys().cloned().collect();
        for word in shown.difference(&words) {
            // Fails only for what isn't there.
            let _ = families.reconcile_documents.remove_label_values(&[&self.scheme, word]);
        }
        *shown = words;
        let single = [&families.reconcile_agrees, &families.reconcile_last, &families.reconcile_period_end];
        let newest = comparisons.and_then(|all| Some((all.agree(), all.newest()?)));
        let Some((agree, newest)) = newest else {
            for family in single {
                let _ = family.remove_label_values(&scheme);
            }
            return;
        };
        for (word, count) in documents {
            families.reconcile_documents.with_label_values(&[&self.scheme, &word]).set(count as f64);
        }
        let values = [f64::from(u8::from(agree)), newest.finished_s as f64, newest.to_s as f64];
        for (family, value) in single.into_iter().zip(values) {
            family.with_label_values(&scheme).set(value);
        }
    }
}
