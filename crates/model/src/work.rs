//! One message and the identity of what it carries.

use std::fmt;

use bytes::Bytes;

use crate::{FailureRecord, StageName};

/// The identity of one version of one document: the same order read twice unchanged has the same id on every
/// stage, so a log line, a queue and the ERP can be searched for it. Printable ASCII, at most 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId(String);

impl WorkId {
    /// Longest id in bytes; an AMQP short string holds 255.
    pub const MAX_BYTES: usize = 200;

    /// Takes any text: what is not printable ASCII becomes `_`, what is too long is cut.
    pub fn new(text: impl AsRef<str>) -> Self {
        let clean = text.as_ref().chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
        WorkId(clean.take(Self::MAX_BYTES).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The business identity of a document: its type and its number. Idempotency, ordering and search use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// The target's document type, such as `STK_InStock`, or `window` for an interval to extract.
    pub document: String,
    /// The document's number in that type, such as a WDT `order_no`.
    pub number: String,
}

impl RecordKey {
    /// A key of a document type and a number.
    pub fn new(document: impl Into<String>, number: impl Into<String>) -> Self {
        RecordKey { document: document.into(), number: number.into() }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.document, self.number)
    }
}

/// Why a message exists; everything that isn't live is looked up in the target before it is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A document met for the first time by the running schedule.
    #[default]
    Live,
    /// A document of a period that is read on demand, or beside the running schedule.
    Backfill,
    /// A document of a period that is looked at a second time, for what came late.
    Remedy,
    /// A dead letter that an operator sent again.
    Replay,
}

impl Origin {
    /// The word used in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Live => "live",
            Origin::Backfill => "backfill",
            Origin::Remedy => "remedy",
            Origin::Replay => "replay",
        }
    }

    /// The origin of a word; an unknown word is a replay, the most careful reading.
    pub fn parse(word: &str) -> Self {
        match word {
            "live" => Origin::Live,
            "backfill" => Origin::Backfill,
            "remedy" => Origin::Remedy,
            _ => Origin::Replay,
        }
    }
}

/// One message: what it is, where it is going, and its body byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Identity of this version of the document.
    pub id: WorkId,
    /// The stage that is to process it.
    pub stage: StageName,
    /// The scheme it belongs to.
    pub scheme: String,
    /// Business identity at this stage.
    pub key: RecordKey,
    /// The number in the source system, when it differs from the key's.
    pub source_number: Option<String>,
    /// What the target locks while it writes this document, such as a purchase order number.
    pub write_key: Option<String>,
    /// How often this work was tried, counting the coming try: 1 on first delivery. Our own count, since a
    /// broker's redelivery counter means different things in different releases.
    pub attempt: u32,
    /// Why the message exists.
    pub origin: Origin,
    /// Set when the document may have been seen before, so that the target is asked before it is posted.
    pub verify: bool,
    /// Set when the document was cancelled in the source: it is not posted, and looked up in the target.
    pub cancelled: bool,
    /// When the source last changed the document, in milliseconds since the epoch.
    pub modified_ms: Option<i64>,
    /// When the document was read from the source, in milliseconds since the epoch.
    pub extracted_ms: Option<i64>,
    /// When a write whose outcome is unknown was last sent, in milliseconds since the epoch.
    pub unclear_since_ms: Option<i64>,
    /// The queue that wants to be told what becomes of this message, and of what is made of it.
    pub reply_to: Option<String>,
    /// W3C trace context, as it stood in the message; [`Work::trace`] reads it.
    pub traceparent: Option<String>,
    /// What belongs to it, as it stood in the message.
    pub tracestate: Option<String>,
    /// The first failure of this work, kept through every retry and replay.
    pub first_failure: Option<Box<FailureRecord>>,
    /// The last failure of this work.
    pub last_failure: Option<Box<FailureRecord>>,
    /// Headers that other tools or later releases set; carried along unread.
    pub headers: Vec<(String, String)>,
    /// The document, byte for byte.
    pub body: Bytes,
}

impl Work {
    /// Fresh live work for a stage.
    pub fn new(
        id: WorkId,
        stage: StageName,
        scheme: impl Into<String>,
        key: RecordKey,
        body: impl Into<Bytes>,
    ) -> Self {
        Work {
            id,
            stage,
            scheme: scheme.into(),
            key,
            source_number: None,
            write_key: None,
            attempt: 1,
            origin: Origin::Live,
            verify: false,
            cancelled: false,
            modified_ms: None,
            extracted_ms: None,
            unclear_since_ms: None,
            reply_to: None,
            traceparent: None,
            tracestate: None,
            first_failure: None,
            last_failure: None,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same work after a failure: the record is kept as last failure, and as first if there was none;
    /// `counted` says whether the try counts as an attempt.
    #[must_use]
    pub fn after_failure(&self, record: FailureRecord, counted: bool) -> Self {
        let mut next = self.clone();
        next.attempt = self.attempt.saturating_add(u32::from(counted));
        next.verify = true;
        if next.first_failure.is_none() {
            next.first_failure = Some(Box::new(record.clone()));
        }
        next.last_failure = Some(Box::new(record));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, FailureKind};

    #[test]
    fn an_id_is_printable_and_short() {
        let id = WorkId::new(format!("采购 {}", "x".repeat(400)));
        assert_eq!(id.as_str().len(), WorkId::MAX_BYTES);
        assert!(id.as_str().starts_with("___x"));
    }

    #[test]
    fn an_unknown_origin_is_treated_with_most_care() {
        for origin in [Origin::Live, Origin::Backfill, Origin::Remedy, Origin::Replay] {
            assert_eq!(Origin::parse(origin.as_str()), origin);
        }
        assert_eq!(Origin::parse("something newer"), Origin::Replay);
    }

    #[test]
    fn the_first_failure_outlives_later_ones() {
        let key = RecordKey::new("STK_InStock", "RK1");
        let work = Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}");
        let first = FailureRecord::of(&Failure::new(FailureKind::Transient, "busy"), &work, 1, "w/1");
        let second = FailureRecord::of(&Failure::new(FailureKind::Refused, "no"), &work, 2, "w/1");
        let twice = work.after_failure(first.clone(), true).after_failure(second.clone(), false);
        assert_eq!(twice.attempt, 2);
        assert_eq!(twice.first_failure.as_deref(), Some(&first));
        assert_eq!(twice.last_failure.as_deref(), Some(&second));
        assert!(twice.verify, "what was tried once is looked up before it is posted again");
    }
}
