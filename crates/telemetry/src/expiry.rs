//! When certificates and secrets expire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use prometheus::GaugeVec;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a gauge shows is the earliest over all places: accounts with an address each, files.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    /// By the labels of the gauge, then by place.
    known: Mutex<BTreeMap<Vec<String>, BTreeMap<String, i64>>>,
}

impl Expiries {
    /// What is known of a place from now on.
    pub(crate) fn set(&self, gauge: &GaugeVec, labels: &[&str], place: &str, unix_s: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let places = known.entry(labels.iter().map(|&label| label.to_owned()).collect()).or_default();
        places.insert(place.to_owned(), unix_s);
        if let Some(earliest) = places.values().min() {
            gauge.with_label_values(labels).set(*earliest as f64);
        }
    }
}

/// When a certificate expires, in seconds since the epoch; nothing when it can't be read.
pub(crate) fn of_der(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// When the first certificate of a PEM file expires; nothing when none can be read.
pub(crate) fn of_file(path: &Path) -> Option<i64> {
    let text = std::fs::read(path).ok()?;
    let certificates = Pem::iter_from_buffer(&text).filter_map(Result::ok);
    certificates.filter(|pem| pem.label == "CERTIFICATE").filter_map(|pem| of_der(&pem.contents)).min()
}
