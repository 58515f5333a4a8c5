//! One small event per document and stage, for whoever asks later what became of a document.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{FailureRecord, LoadedHow, Outcome, StageName, Work};

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum JournalStep {
    /// A window was read to its end.
    WindowRead {
        /// Distinct documents in it.
        documents: u64,
    },
    /// A window was handed on as narrower ones.
    WindowSplit {
        /// How many.
        windows: u64,
    },
    /// A document was read from the source and handed to the transformer.
    Extracted {
        /// The window it was read in, where it was read in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<String>,
        /// When the source last changed it, in milliseconds since the epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        modified_ms: Option<i64>,
    },
    /// A sender pushed a document, and it was handed to the transformer.
    Pushed {
        /// When the source last changed it, in milliseconds since the epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        modified_ms: Option<i64>,
    },
    /// A document was mapped and handed to the loader.
    Mapped {
        /// Its number in the target.
        target_number: String,
    },
    /// The scheme's filter leaves the document out.
    Filtered,
    /// The document is durably in the target.
    Loaded {
        /// Its number in the target.
        target_number: String,
        /// The target's internal id.
        target_id: String,
        /// How it came to be there.
        how: LoadedHow,
    },
    /// It failed and is tried again.
    Retry {
        /// The retry tier it waits in, such as `30s`.
        tier: String,
        /// How long it waits there, in milliseconds.
        after_ms: u64,
        /// Why.
        failure: JournalFailure,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        failure: JournalFailure,
    },
    /// A worker that stopped, or that held it through a pause for too long, gave it back unjudged.
    HandedBack,
    /// An operator sent it again.
    Replayed(JournalAction),
    /// An operator put an edited document in its place, which is a dead letter as well.
    Edited(JournalAction),
    /// An operator took it out of its dead-letter queue.
    Discarded(JournalAction),
    /// An operator put it into a dead-letter queue from a file.
    Imported(JournalAction),
    /// A step that this release doesn't know, as it is.
    #[serde(untagged)]
    Unknown {
        /// Its word.
        step: String,
        /// What else is said of it.
        #[serde(flatten)]
        details: Map<String, Value>,
    },
}

impl JournalStep {
    /// The word used in events.
    pub fn as_str(&self) -> &str {
        match self {
            JournalStep::WindowRead { .. } => "window-read",
            JournalStep::WindowSplit { .. } => "window-split",
            JournalStep::Extracted { .. } => "extracted",
            JournalStep::Pushed { .. } => "pushed",
            JournalStep::Mapped { .. } => "mapped",
            JournalStep::Filtered => "filtered",
            JournalStep::Loaded { .. } => "loaded",
            JournalStep::Retry { .. } => "retry",
            JournalStep::Dead { .. } => "dead",
            JournalStep::HandedBack => "handed-back",
            JournalStep::Replayed(_) => "replayed",
            JournalStep::Edited(_) => "edited",
            JournalStep::Discarded(_) => "discarded",
            JournalStep::Imported(_) => "imported",
            JournalStep::Unknown { step, .. } => step,
        }
    }

    /// True when nothing is on its way any more after it: the message is done, or lies dead.
    pub const fn is_end(&self) -> bool {
        match self {
            JournalStep::WindowRead { .. }
            | JournalStep::WindowSplit { .. }
            | JournalStep::Filtered
            | JournalStep::Loaded { .. }
            | JournalStep::Dead { .. }
            | JournalStep::Edited(_)
            | JournalStep::Discarded(_)
            | JournalStep::Imported(_) => true,
            JournalStep::Extracted { .. }
            | JournalStep::Pushed { .. }
            | JournalStep::Mapped { .. }
            | JournalStep::Retry { .. }
            | JournalStep::HandedBack
            | JournalStep::Replayed(_)
            | JournalStep::Unknown { .. } => false,
        }
    }

    /// The step that an outcome is; nothing for one that the harness tells of itself.
    pub fn of_outcome(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Loaded { number, id, how } => {
                Some(JournalStep::Loaded { target_number: number.clone(), target_id: id.clone(), how: *how })
            }
            Outcome::Filtered => Some(JournalStep::Filtered),
            Outcome::Read { handed_on, split: false } => {
                Some(JournalStep::WindowRead { documents: *handed_on })
            }
            Outcome::Read { handed_on, split: true } => {
                Some(JournalStep::WindowSplit { windows: *handed_on })
            }
            Outcome::Waiting { .. } | Outcome::Dead { .. } => None,
        }
    }
}

/// A failure as the journal keeps it; the whole record is in the message's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalFailure {
    /// The word of its kind.
    pub kind: String,
    /// The word of whose fault it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fault: String,
    /// What happened.
    pub text: String,
    /// The other system's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The first field that has a problem, with what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl From<&FailureRecord> for JournalFailure {
    fn from(record: &FailureRecord) -> Self {
        JournalFailure {
            kind: record.kind.as_str().to_owned(),
            fault: record.fault.as_str().to_owned(),
            text: record.text.clone(),
            code: record.code.clone(),
            field: record
                .problems
                .iter()
                .find(|problem| !problem.field.is_empty())
                .map(|problem| format!("{}: {}", problem.field, problem.message)),
        }
    }
}

/// What an operator did, as the audit trail names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalAction {
    /// The id of the action in the audit trail.
    pub action: String,
    /// Who: `user@host`, or the name that was given.
    pub actor: String,
}

/// One event of the journal. It holds numbers and words, never a body and never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalEvent {
    /// When, in milliseconds since the epoch, by the clock of whoever writes.
    pub at_ms: i64,
    /// The scheme.
    pub scheme: String,
    /// The word of the stage.
    pub stage: String,
    /// The document type, or `window`.
    pub document: String,
    /// The number at this stage.
    pub number: String,
    /// The number in the source, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_number: Option<String>,
    /// What the target locks while it writes the document, such as a purchase order number; known once it is mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_key: Option<String>,
    /// The id of the message.
    pub work_id: String,
    /// The word of why the message exists.
    pub origin: String,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// Program and version, such as `kingpost-loader/0.1.0`.
    pub worker: String,
    /// The host it ran on.
    pub host: String,
    /// What happened.
    #[serde(flatten)]
    pub step: JournalStep,
}

/// Who writes events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalWriter {
    /// Program and version.
    pub worker: String,
    /// Its host.
    pub host: String,
}

impl JournalWriter {
    /// The event of a step of some work.
    pub fn event(&self, work: &Work, step: JournalStep, at_ms: i64) -> JournalEvent {
        JournalEvent {
            at_ms,
            scheme: work.scheme.clone(),
            stage: work.stage.as_str().to_owned(),
            document: work.key.document.clone(),
            number: work.key.number.clone(),
            source_number: work.source_number.clone(),
            write_key: work.write_key.clone(),
            work_id: work.id.as_str().to_owned(),
            origin: work.origin.as_str().to_owned(),
            attempt: work.attempt,
            worker: self.worker.clone(),
            host: self.host.clone(),
            step,
        }
    }

    /// The event of a document that a sender pushed and that is handed to the transformer.
    pub fn pushed(&self, next: &Work, at_ms: i64) -> JournalEvent {
        let mut event = self.event(next, JournalStep::Pushed { modified_ms: next.modified_ms }, at_ms);
        event.stage = StageName::Extract.as_str().to_owned();
        event
    }

    /// The event of work that was handed on: extracted for the transformer, mapped for the loader. Nothing for a window,
    /// whose own event says so.
    pub fn handed_on(&self, next: &Work, window: Option<&str>, at_ms: i64) -> Option<JournalEvent> {
        let (stage, step) = match next.stage {
            StageName::Extract => return None,
            StageName::Transform => {
                let window = window.map(str::to_owned);
                (StageName::Extract, JournalStep::Extracted { window, modified_ms: next.modified_ms })
            }
            StageName::Load => {
                (StageName::Transform, JournalStep::Mapped { target_number: next.key.number.clone() })
            }
        };
        let mut event = self.event(next, step, at_ms);
        event.stage = stage.as_str().to_owned();
        // At its stage it goes by the number that it had there.
        if let Some(source) = event.source_number.take() {
            event.number = source;
        }
        Some(event)
    }
}

impl JournalEvent {
    /// The number in the source.
    pub fn source_number(&self) -> &str {
        self.source_number.as_deref().unwrap_or(&self.number)
    }

    /// The number in the target, where the event knows it.
    pub fn target_number(&self) -> Option<&str> {
        match &self.step {
            JournalStep::Mapped { target_number } | JournalStep::Loaded { target_number, .. } => {
                Some(target_number)
            }
            _ if self.stage == StageName::Load.as_str() => Some(&self.number),
            _ => None,
        }
    }

    /// Whether it is of the document that goes by this number, in the source or in the target, or of the message with this
    /// id, or of a document of this purchase order.
    pub fn concerns(&self, key: &str) -> bool {
        self.number == key
            || self.source_number.as_deref() == Some(key)
            || self.target_number() == Some(key)
            || self.write_key.as_deref() == Some(key)
            || self.work_id == key
    }

    /// Reads an event; what this release doesn't know of it is kept or passed over.
    ///
    /// # Errors
    /// The body is no JSON object.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Reads a message of the journal: one event, or a list of them, as writers pack them when there are many at a time.
    ///
    /// # Errors
    /// The body is neither.
    pub fn read_all(body: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => serde_json::from_slice(body),
            _ => Ok(vec![Self::read(body)?]),
        }
    }
}

/// What of an event is read whatever its step.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    at_ms: i64,
    scheme: String,
    stage: String,
    document: String,
    number: String,
    source_number: Option<String>,
    write_key: Option<String>,
    work_id: String,
    origin: String,
    attempt: u32,
    worker: String,
    host: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl<'de> Deserialize<'de> for JournalEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let envelope = Envelope::deserialize(deserializer)?;
        let step = step(envelope.rest);
        Ok(JournalEvent {
            at_ms: envelope.at_ms,
            scheme: envelope.scheme,
            stage: envelope.stage,
            document: envelope.document,
            number: envelope.number,
            source_number: envelope.source_number,
            write_key: envelope.write_key,
            work_id: envelope.work_id,
            origin: envelope.origin,
            attempt: envelope.attempt,
            worker: envelope.worker,
            host: envelope.host,
            step,
        })
    }
}

/// The step that the rest of an event says; one that can't be read is kept as it is.
fn step(mut rest: Map<String, Value>) -> JournalStep {
    match serde_json::from_value(Value::Object(rest.clone())) {
        Ok(step) => step,
        Err(_) => {
            let word = rest.remove("step");
            let step = word.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            JournalStep::Unknown { step, details: rest }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, FailureKind, FieldProblem, RecordKey, WorkId};

    fn writer() -> JournalWriter {
        JournalWriter { worker: "kingpost-loader/0.1.0".into(), host: "demo-host".into() }
    }

    fn work(stage: StageName) -> Work {
        let mut work = Work::new(
            WorkId::new("RK1-ab"),
            stage,
            "purchase-stockin",
            RecordKey::new("STK_InStock", "CGRK1"),
            r#"{"secret-body":1}"#,
        );
        work.source_number = Some("RK1".into());
        work.write_key = Some("CG1".into());
        work
    }

    fn steps() -> Vec<JournalStep> {
        let problem =
            FieldProblem { field: "FDate".into(), message: "is no date".into(), ..Default::default() };
        let failure =
            Failure::new(FailureKind::BaseData, "物料[A]不存在").with_code("x").with_problems(vec![problem]);
        let record = FailureRecord::of(&failure, &work(StageName::Load), 5, "w/1");
        let action = JournalAction { action: "20261123-093000-3f9a1c".into(), actor: "ops@demo-host".into() };
        vec![
            JournalStep::WindowRead { documents: 3 },
            JournalStep::WindowSplit { windows: 2 },
            JournalStep::Extracted { window: Some("a..b".into()), modified_ms: Some(7) },
            JournalStep::Extracted { window: None, modified_ms: None },
            JournalStep::Pushed { modified_ms: Some(7) },
            JournalStep::Mapped { target_number: "CGRK1".into() },
            JournalStep::Filtered,
            JournalStep::Loaded {
                target_number: "CGRK1".into(),
                target_id: "100001".into(),
                how: LoadedHow::Posted,
            },
            JournalStep::Retry { tier: "5s".into(), after_ms: 5_000, failure: (&record).into() },
            JournalStep::Dead { failure: (&record).into() },
            JournalStep::HandedBack,
            JournalStep::Replayed(action.clone()),
            JournalStep::Edited(action.clone()),
            JournalStep::Discarded(action.clone()),
            JournalStep::Imported(action),
        ]
    }

    #[test]
    fn an_event_survives_its_way_and_holds_no_body() {
        for step in steps() {
            let event = writer().event(&work(StageName::Load), step, 9);
            let json = serde_json::to_string(&event).unwrap();
            assert_eq!(JournalEvent::read(json.as_bytes()).unwrap(), event, "{json}");
            assert!(json.contains(&format!(r#""step":"{}""#, event.step.as_str())), "{json}");
            assert!(!json.contains("secret-body"), "{json}");
        }
    }

    #[test]
    fn what_a_later_release_writes_is_shown_as_it_is() {
        let json = r#"{"at_ms":1,"number":"RK1","new":"x","step":"weighed","kilograms":"2.50"}"#;
        let event = JournalEvent::read(json.as_bytes()).unwrap();
        assert_eq!((event.number.as_str(), event.step.as_str(), event.attempt), ("RK1", "weighed", 0));
        let JournalStep::Unknown { details, .. } = &event.step else { panic!("{event:?}") };
        assert_eq!(details.get("kilograms").and_then(Value::as_str), Some("2.50"));
        let again = serde_json::to_vec(&event).unwrap();
        assert_eq!(JournalEvent::read(&again).unwrap(), event, "it is passed on as it is");
        // A step that is known, with more in it than is known.
        let json = r#"{"at_ms":1,"step":"window-read","documents":2,"pages":1}"#;
        let event = JournalEvent::read(json.as_bytes()).unwrap();
        assert_eq!(event.step, JournalStep::WindowRead { documents: 2 });
        assert!(JournalEvent::read(b"[]").is_err() && JournalEvent::read(b"<x>").is_err());
    }

    #[test]
    fn one_event_and_a_list_of_them_are_read_alike() {
        let events = steps().into_iter().map(|step| writer().event(&work(StageName::Load), step, 9));
        let events: Vec<_> = events.collect();
        let packed = serde_json::to_vec(&events).unwrap();
        assert_eq!(JournalEvent::read_all(&packed).unwrap(), events);
        let single = serde_json::to_vec(&events[0]).unwrap();
        assert_eq!(JournalEvent::read_all(&single).unwrap(), events[..1]);
        assert!(JournalEvent::read_all(b"").is_err() && JournalEvent::read_all(b"[1]").is_err());
    }

    #[test]
    fn a_document_is_found_by_each_of_its_numbers() {
        let event = writer().event(&work(StageName::Load), JournalStep::HandedBack, 9);
        for key in ["RK1", "CGRK1", "CG1", "RK1-ab"] {
            assert!(event.concerns(key), "{key}");
        }
        assert!(!event.concerns("RK") && !event.concerns("purchase-stockin"));
    }

    #[test]
    fn what_is_handed_on_goes_by_the_number_it_had() {
        let next = work(StageName::Load);
        let event = writer().handed_on(&next, None, 9).unwrap();
        assert_eq!((event.stage.as_str(), event.number.as_str()), ("transform", "RK1"));
        assert_eq!((event.target_number(), event.write_key.as_deref()), (Some("CGRK1"), Some("CG1")));
        let event = writer().handed_on(&work(StageName::Transform), Some("a..b"), 9).unwrap();
        assert_eq!((event.stage.as_str(), event.step.as_str()), ("extract", "extracted"));
        assert_eq!(writer().handed_on(&work(StageName::Extract), None, 9), None);
    }

    #[test]
    fn what_is_pushed_is_an_event_of_the_first_stage() {
        let mut next = work(StageName::Transform);
        next.modified_ms = Some(7);
        let event = writer().pushed(&next, 9);
        assert_eq!(
            (event.stage.as_str(), &event.step),
            ("extract", &JournalStep::Pushed { modified_ms: Some(7) })
        );
        assert_eq!((event.work_id.as_str(), event.at_ms), ("RK1-ab", 9));
    }

    #[test]
    fn an_end_is_told_from_what_waits() {
        let waiting: Vec<_> = steps().into_iter().filter(|step| !step.is_end()).collect();
        let words: Vec<_> = waiting.iter().map(JournalStep::as_str).collect();
        assert_eq!(words, ["extracted", "extracted", "pushed", "mapped", "retry", "handed-back", "replayed"]);
    }
}
