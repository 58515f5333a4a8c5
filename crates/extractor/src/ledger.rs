//! What of one window was published, in all of its passes.

use std::collections::{BTreeMap, HashMap, HashSet};

use kingpost_model::{
    Document, Failure, FailureKind, FieldProblem, Origin, RecordKey, Route, StageName, TraceContext, Window,
    Work, WorkId,
};
use sha2::{Digest as _, Sha256};

/// The largest document that fits into a message.
const DOCUMENT_BYTES_MAX: usize = kingpost_broker::MAX_BODY_BYTES;

/// For whom documents become work.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) scheme: &'a str,
    /// The target's document type, the first half of every key.
    pub(crate) document: &'a str,
    pub(crate) origin: Origin,
    /// Every document may have been seen before.
    pub(crate) verify: bool,
    /// The place that documents come behind in their trace.
    pub(crate) trace: Option<&'a TraceContext>,
}

/// What of one window was published, and what can't be.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The versions that were published, by number.
    versions: HashMap<String, HashSet<WorkId>>,
    /// The sizes of documents that no message can hold, by number.
    oversized: BTreeMap<String, usize>,
}

impl Ledger {
    /// True when anything was published.
    pub(crate) fn is_begun(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Takes a document, notes it in `seen`, and returns the work that it becomes; nothing for a version that was
    /// published before, or that is too large.
    pub(crate) fn take(
        &mut self,
        sender: Sender<'_>,
        window: Window,
        document: Document,
        seen: &mut HashSet<String>,
        asked_ms: i64,
    ) -> Option<(Route, Work)> {
        let id = version_id(sender.scheme, &document);
        // A document without a number is told apart by its content; the transformer says what it lacks.
        let number = document.number.clone().unwrap_or_else(|| id.as_str().to_owned());
        seen.insert(number.clone());
        if document.body.len() > DOCUMENT_BYTES_MAX {
            self.oversized.insert(number, document.body.len());
            return None;
        }
        let versions = self.versions.entry(number.clone()).or_default();
        let other = !versions.is_empty();
        if !versions.insert(id.clone()) {
            return None;
        }
        let verify = sender.verify || other || was_in_reach(window, document.modified_ms);
        let key = RecordKey::new(sender.document, number);
        let mut work = Work::new(id, StageName::Transform, sender.scheme, key, document.body);
        if let Some(trace) = sender.trace {
            work.set_trace(trace);
        }
        work.origin = sender.origin;
        work.verify = verify;
        work.cancelled = document.cancelled;
        work.modified_ms = document.modified_ms;
        work.extracted_ms = Some(asked_ms);
        Some((Route::new(StageName::Transform, sender.scheme), work))
    }

    /// The failure of a window of which everything is published but what no message can hold.
    pub(crate) fn oversized(&self, window: Window) -> Option<Failure> {
        let (number, bytes) = self.oversized.first_key_value()?;
        let more = match self.oversized.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text = format!(
            "the document {number} of {window} has {bytes} bytes, a message holds {DOCUMENT_BYTES_MAX}{more}; all \
             other documents of the window are published; divide it in the source system, or enter it by hand"
        );
        Some(Failure::new(FailureKind::Malformed, text).with_problems(self.problems()))
    }

    /// One problem per document that no message can hold.
    pub(crate) fn problems(&self) -> Vec<FieldProblem> {
        let problem = |(number, bytes): (&String, &usize)| FieldProblem {
            field: number.clone(),
            message: format!("the document has {bytes} bytes, a message holds {DOCUMENT_BYTES_MAX}"),
            ..FieldProblem::default()
        };
        self.oversized.iter().map(problem).collect()
    }
}

/// True when an earlier window may have held the document too.
///
/// The source doesn't say whether its interval includes its end, so the second in which an earlier window ended belongs
/// to both; a document that doesn't say when it was changed may lie in whatever the window shares with earlier ones.
fn was_in_reach(window: Window, modified_ms: Option<i64>) -> bool {
    match modified_ms {
        Some(ms) => ms.div_euclid(1_000) <= window.fresh_from_s,
        None => window.from_s <= window.fresh_from_s,
    }
}

/// The identity of one version of a document: equal bytes have equal ids, whoever reads them and when.
pub(crate) fn version_id(scheme: &str, document: &Document) -> WorkId {
    let mut hash = Sha256::new();
    hash.update(scheme.as_bytes());
    hash.update([0]);
    hash.update(&document.body);
    let digest = hex::encode(&hash.finalize()[..12]);
    match &document.number {
        Some(number) => WorkId::new(format!("{}-{digest}", number.chars().take(64).collect::<String>())),
        None => WorkId::new(digest),
    }
}
