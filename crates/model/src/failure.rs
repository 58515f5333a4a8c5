//! What went wrong, whose fault it is, and the evidence.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{StageName, Work};

/// The kinds of failure. The kind, never the text, decides what happens next: see [`crate::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The body is not a document that can be read at all.
    Malformed,
    /// Fields of the document can't be mapped.
    Unmappable,
    /// The target doesn't know, or has closed, something that the document names.
    BaseData,
    /// The target refuses the document for what is in it.
    Refused,
    /// The number is taken in the target by a document with other content.
    Conflict,
    /// A write ended without evidence, and whether it took effect can't be decided yet.
    Unclear,
    /// A passing obstacle, such as a lock or a dead-locked transaction.
    Transient,
    /// A limit of calls was reached.
    Throttled,
    /// The system can't be reached or doesn't work.
    Unavailable,
    /// Credentials, permissions or the scheme are wrong, whatever the document.
    Configuration,
    /// A window could not be read completely.
    Incomplete,
    /// A mistake of this program.
    Internal,
}

impl FailureKind {
    /// Every kind, in the order of the runbook.
    pub const ALL: [FailureKind; 12] = [
        FailureKind::Malformed,
        FailureKind::Unmappable,
        FailureKind::BaseData,
        FailureKind::Refused,
        FailureKind::Conflict,
        FailureKind::Unclear,
        FailureKind::Transient,
        FailureKind::Throttled,
        FailureKind::Unavailable,
        FailureKind::Configuration,
        FailureKind::Incomplete,
        FailureKind::Internal,
    ];

    /// The word used in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::Malformed => "malformed",
            FailureKind::Unmappable => "unmappable",
            FailureKind::BaseData => "base-data",
            FailureKind::Refused => "refused",
            FailureKind::Conflict => "conflict",
            FailureKind::Unclear => "unclear",
            FailureKind::Transient => "transient",
            FailureKind::Throttled => "throttled",
            FailureKind::Unavailable => "unavailable",
            FailureKind::Configuration => "configuration",
            FailureKind::Incomplete => "incomplete",
            FailureKind::Internal => "internal",
        }
    }

    /// Whose fault it usually is.
    pub const fn usual_fault(self) -> Fault {
        match self {
            FailureKind::Malformed | FailureKind::Incomplete => Fault::Source,
            FailureKind::Unmappable
            | FailureKind::BaseData
            | FailureKind::Refused
            | FailureKind::Conflict => Fault::Data,
            FailureKind::Unclear
            | FailureKind::Transient
            | FailureKind::Throttled
            | FailureKind::Unavailable => Fault::Target,
            FailureKind::Configuration | FailureKind::Internal => Fault::Us,
        }
    }

    /// What the person who is told of it should do.
    pub const fn advice(self) -> &'static str {
        match self {
            FailureKind::Malformed => "show the body to whoever runs the source system; it is not a document",
            FailureKind::Unmappable => {
                "complete the document in the source system, or mend the scheme or its tables; then replay it"
            }
            FailureKind::BaseData => {
                "create, approve or enable what is named in the target system; then replay it"
            }
            FailureKind::Refused => {
                "read the target's own words, correct the document in the source system; then replay it"
            }
            FailureKind::Conflict => {
                "compare both documents; delete or renumber the wrong one in the target; then replay or discard it"
            }
            FailureKind::Unclear => {
                "search the target for the number; replay the message if it is absent, discard it if it is there"
            }
            FailureKind::Transient => "nothing, unless it lasts: it is tried again by itself; then replay it",
            FailureKind::Throttled => {
                "nothing: work goes on when the limit allows; lower the rate if it is frequent"
            }
            FailureKind::Unavailable => "see that the system runs and can be reached; work resumes by itself",
            FailureKind::Configuration => {
                "correct the credentials, the permission or the scheme that the text names; work resumes by itself"
            }
            FailureKind::Incomplete => {
                "read the evidence, then replay the window; compare the books of that period"
            }
            FailureKind::Internal => "report it with the evidence; replay the message after an update",
        }
    }

    /// True when trying again says nothing about the document, so that the try is not counted.
    pub const fn is_outage(self) -> bool {
        matches!(self, FailureKind::Throttled | FailureKind::Unavailable | FailureKind::Configuration)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose fault a failure is: the first thing that the person who is paged asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The system documents come from.
    Source,
    /// The system documents go to.
    Target,
    /// RabbitMQ, or the way to it.
    Broker,
    /// The document itself, or base data that it names.
    Data,
    /// This program, its settings or its scheme.
    Us,
}

impl Fault {
    /// The word used in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Source => "source",
            Fault::Target => "target",
            Fault::Broker => "broker",
            Fault::Data => "data",
            Fault::Us => "us",
        }
    }
}

/// One field that could not be mapped, or that the target refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// The target field, such as `FInStockEntry[3].FTaxPrice`.
    pub field: String,
    /// The rule of the scheme that it comes from, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Where its input stands in the source document; the value itself stays in the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// What is wrong.
    pub message: String,
}

/// What went wrong with one piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind, which decides what happens next.
    pub kind: FailureKind,
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened, for a person; no secrets and no document bodies.
    pub text: String,
    /// The other system's own code, such as a `MsgCode` or a `sub_code`.
    pub code: Option<String>,
    /// Every field that has a problem.
    pub problems: Vec<FieldProblem>,
    /// How long the other system asks to be left alone.
    pub retry_after: Option<Duration>,
    /// A write was sent by this very try and may still take effect.
    pub in_flight: bool,
    /// This very try has saved the document, and failed at a later step: a look-up may not show it at once.
    pub saved: bool,
}

impl Failure {
    /// A failure of a kind, with what happened.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Failure {
            kind,
            fault: kind.usual_fault(),
            text: text.into(),
            code: None,
            problems: Vec::new(),
            retry_after: None,
            in_flight: false,
            saved: false,
        }
    }

    /// The same failure with another culprit.
    #[must_use]
    pub fn by(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// The same failure with the other system's code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same failure with the fields concerned.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<FieldProblem>) -> Self {
        self.problems = problems;
        self
    }

    /// The same failure with the time the other system asks for.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same failure, left by a write that may still take effect.
    #[must_use]
    pub fn leaving_a_write_in_flight(mut self) -> Self {
        self.in_flight = true;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)?;
        for problem in &self.problems {
            write!(f, "; {}: {}", problem.field, problem.message)?;
        }
        Ok(())
    }
}

/// A failure as it is kept in the headers of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord {
    /// Its kind.
    pub kind: FailureKind,
    /// Whose fault it is.
    pub fault: Fault,
    /// The stage that failed.
    pub stage: String,
    /// What happened.
    pub text: String,
    /// The other system's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The fields concerned, as many as fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
    /// How many further fields had problems.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_problems: usize,
    /// Which try it was.
    pub attempt: u32,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Program and version, such as `kingpost-loader/0.1.0`.
    pub worker: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl FailureRecord {
    /// Longest text in characters.
    const TEXT_CHARS: usize = 500;
    /// Room for problems in bytes; an AMQP header frame has to hold two records and everything else.
    const PROBLEM_BYTES: usize = 3_000;

    /// The record of a failure of some work.
    pub fn of(failure: &Failure, work: &Work, at_ms: i64, worker: &str) -> Self {
        let mut room = Self::PROBLEM_BYTES;
        let problems: Vec<FieldProblem> = failure
            .problems
            .iter()
            .map(|p| FieldProblem {
                field: cut(&p.field, 120),
                rule: cut(&p.rule, 160),
                inputs: p.inputs.iter().take(4).map(|i| cut(i, 120)).collect(),
                message: cut(&p.message, 240),
            })
            .take_while(|p| {
                let size = p.field.len() + p.rule.len() + p.message.len() + 64;
                let size = size + p.inputs.iter().map(|i| i.len() + 4).sum::<usize>();
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            })
            .collect();
        FailureRecord {
            kind: failure.kind,
            fault: failure.fault,
            stage: work.stage.as_str().to_owned(),
            text: cut(&failure.text, Self::TEXT_CHARS),
            code: failure.code.as_deref().map(|code| cut(code, 80)),
            more_problems: failure.problems.len() - problems.len(),
            problems,
            attempt: work.attempt,
            at_ms,
            worker: cut(worker, 80),
        }
    }

    /// The record of a message that the broker gave up on because its delivery limit was reached: no worker
    /// ever judged it.
    pub fn unjudged(stage: StageName, at_ms: i64) -> Self {
        FailureRecord {
            kind: FailureKind::Internal,
            fault: Fault::Broker,
            stage: stage.as_str().to_owned(),
            text: "the broker gave up after too many deliveries; no worker ever judged this message"
                .to_owned(),
            code: Some("delivery_limit".to_owned()),
            problems: Vec::new(),
            more_problems: 0,
            attempt: 0,
            at_ms,
            worker: String::new(),
        }
    }

    /// A text that is equal for failures of one cause: numbers and quoted names are left out.
    pub fn cause(&self) -> String {
        let first = self.problems.first();
        let text = first.map_or(self.text.as_str(), |p| p.message.as_str());
        let mut cause = String::new();
        if let Some(field) = first.map(|p| p.field.as_str()).filter(|f| !f.is_empty()) {
            cause.push_str(&generalise(field));
            cause.push_str(": ");
        }
        cause.push_str(&generalise(text));
        cause
    }
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Replaces what differs between two failures of one cause: digits, and what stands in quotes or brackets.
fn generalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut closing: Option<char> = None;
    let mut in_word = false;
    for c in text.chars() {
        if let Some(end) = closing {
            if c == end {
                closing = None;
                out.push(c);
            }
            continue;
        }
        let end = match c {
            '[' => Some(']'),
            '“' => Some('”'),
            '\'' => Some('\''),
            '`' => Some('`'),
            '"' => Some('"'),
            _ => None,
        };
        if end.is_some() && !(c == '\'' && in_word) {
            closing = end;
            out.push(c);
            out.push('…');
            in_word = false;
        } else if c.is_ascii_digit() {
            if !out.ends_with('#') {
                out.push('#');
            }
            in_word = true;
        } else {
            out.push(c);
            in_word = c.is_alphanumeric();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordKey, WorkId};

    fn work() -> Work {
        Work::new(WorkId::new("w"), StageName::Load, "s", RecordKey::new("STK_InStock", "RK1"), "{}")
    }

    #[test]
    fn failures_of_one_cause_have_one_text() {
        let of = |text: &str| {
            FailureRecord::of(&Failure::new(FailureKind::BaseData, text), &work(), 0, "w").cause()
        };
        assert_eq!(of("物料[SP-1001]不存在"), of("物料[SP-9]不存在"));
        assert_eq!(of("line 12 of 300: don't"), of("line 7 of 12: don't"));
        assert_ne!(of("物料[SP-1001]不存在"), of("供应商[SP-1001]不存在"));
    }

    #[test]
    fn a_record_fits_a_header_whatever_the_document_holds() {
        let problem = FieldProblem {
            field: "F".repeat(900),
            rule: "规则".repeat(900),
            inputs: vec!["i".repeat(900); 9],
            message: "m".repeat(900),
        };
        let failure =
            Failure::new(FailureKind::Unmappable, "错".repeat(9_000)).with_problems(vec![problem; 200]);
        let record = FailureRecord::of(&failure, &work(), 0, "w");
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.len() < 6_000, "{}", json.len());
        assert_eq!(record.problems.len() + record.more_problems, 200);
    }

    #[test]
    fn every_kind_has_a_word_of_its_own_and_advice() {
        let words: std::collections::HashSet<_> = FailureKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(words.len(), FailureKind::ALL.len());
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert!(kind.advice().len() > 20);
        }
    }
}
