//! Kingdee's refusals and silences as failures.

use std::time::Duration;

use kingpost_kingdee::{Catalogue, Class, FieldError, KingdeeError, Ruling, SaveAnswer, UnknownCause};
use kingpost_model::{Failure, FailureKind, FieldProblem};

use crate::TIMED_OUT;

fn problems(errors: &[FieldError]) -> Vec<FieldProblem> {
    let problem = |error: &FieldError| FieldProblem {
        field: error.field.clone().unwrap_or_default(),
        message: error.message.clone(),
        ..FieldProblem::default()
    };
    errors.iter().map(problem).collect()
}

fn words(errors: &[FieldError]) -> String {
    match errors {
        [] => "Kingdee refuses it without a word".to_owned(),
        [one] => one.message.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
    }
}

/// A lost session is no outage to be waited out: the next call logs in.
const AFTER_SESSION: Duration = Duration::from_secs(1);

/// What was said and what to do about it; the kind of the failure alone doesn't say the latter.
fn explained(errors: &[FieldError], advice: &str) -> String {
    format!("{}: {advice}", words(errors))
}

/// A refusal of one document, by the class that the catalogue gives it.
pub(super) fn refused(ruling: &Ruling, errors: &[FieldError], msg_code: Option<i64>) -> Failure {
    let kind = match ruling.class {
        Class::Transient => FailureKind::Transient,
        // A session that ends says nothing about the documents of its call.
        Class::SessionLost => FailureKind::Unavailable,
        Class::Throttled => FailureKind::Throttled,
        Class::Data if ruling.base_data => FailureKind::BaseData,
        Class::Data | Class::State => FailureKind::Refused,
        Class::Config => FailureKind::Configuration,
        Class::Unclear => FailureKind::Unclear,
        Class::Duplicate => FailureKind::Conflict,
    };
    let failure = Failure::new(kind, explained(errors, &ruling.advice)).with_problems(problems(errors));
    match msg_code {
        Some(code) => failure.with_code(format!("MsgCode {code}")),
        None => failure,
    }
}

/// A refusal of a whole call.
pub(super) fn refused_whole(catalogue: &Catalogue, answer: &SaveAnswer) -> Failure {
    let ruling = catalogue.rule(answer.msg_code, &answer.errors);
    refused(&ruling, &answer.errors, answer.msg_code)
}

/// A reading call that failed: nothing was written by it, and what it was refused for is no fault of the document.
pub(crate) fn reading(catalogue: &Catalogue, error: &KingdeeError) -> Failure {
    let kind = match error.class_by(catalogue) {
        Class::Config => FailureKind::Configuration,
        Class::Throttled => FailureKind::Throttled,
        Class::Transient if matches!(error, KingdeeError::Refused(_)) => FailureKind::Transient,
        _ => FailureKind::Unavailable,
    };
    match error {
        KingdeeError::Busy { retry_after, .. } => turned_away(error, *retry_after),
        KingdeeError::Refused(answer) => Failure { kind, ..refused_whole(catalogue, answer) },
        other => Failure::new(kind, other.to_string()),
    }
    .by(kind.usual_fault())
}

/// A writing call that failed as a whole. Where something before Kingdee has answered, what it asks for is done, but the write
/// may be running all the same. A settle window for each batch that is turned away is the price; other documents go on.
pub(super) fn writing(catalogue: &Catalogue, error: &KingdeeError) -> Failure {
    let failure = unwritten(catalogue, error);
    if error.is_turned_away() { failure.leaving_a_write_in_flight() } else { failure }
}

fn unwritten(catalogue: &Catalogue, error: &KingdeeError) -> Failure {
    match error {
        KingdeeError::NotSent { .. } => Failure::new(FailureKind::Unavailable, error.to_string()),
        KingdeeError::Invalid { .. } => Failure::new(FailureKind::Internal, error.to_string()),
        KingdeeError::Refused(answer) => refused_whole(catalogue, answer),
        KingdeeError::Busy { retry_after, .. } => turned_away(error, *retry_after),
        other => match other.class_by(catalogue) {
            Class::Config => Failure::new(FailureKind::Configuration, other.to_string()),
            // That nothing is executed after a lost session is nowhere promised: the next try looks the number up, and finds
            // what a request did that Kingdee itself has answered.
            Class::SessionLost => {
                Failure::new(FailureKind::Unavailable, other.to_string()).retry_after(AFTER_SESSION)
            }
            Class::Transient => Failure::new(FailureKind::Unavailable, other.to_string()),
            _ => {
                let failure =
                    Failure::new(FailureKind::Unclear, other.to_string()).leaving_a_write_in_flight();
                if timed_out(other) { failure.with_code(TIMED_OUT) } else { failure }
            }
        },
    }
}

/// A call that was not handled at all, by the word of what stands before the server.
fn turned_away(error: &KingdeeError, retry_after: Option<Duration>) -> Failure {
    let failure = Failure::new(FailureKind::Throttled, error.to_string());
    Failure { retry_after, ..failure }
}

/// A deadline of ours, or that of a proxy before the server.
fn timed_out(error: &KingdeeError) -> bool {
    let KingdeeError::Unknown { cause, .. } = error else { return false };
    matches!(cause, UnknownCause::TimedOut | UnknownCause::Status(408 | 504))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_without_an_answer_is_unclear_and_a_time_out_is_told_apart() {
        for (cause, code) in [
            (UnknownCause::TimedOut, Some(TIMED_OUT)),
            (UnknownCause::Status(504), Some(TIMED_OUT)),
            (UnknownCause::Status(500), None),
            (UnknownCause::Transport, None),
            (UnknownCause::Html, None),
        ] {
            let error = KingdeeError::Unknown { cause, write: true, text: "x".to_owned() };
            let failure = writing(Catalogue::builtin(), &error);
            assert_eq!((failure.kind, failure.in_flight), (FailureKind::Unclear, true), "{cause}");
            assert_eq!(failure.code.as_deref(), code, "{cause}");
        }
        let error =
            KingdeeError::Unknown { cause: UnknownCause::TimedOut, write: false, text: "x".to_owned() };
        assert_eq!(reading(Catalogue::builtin(), &error).kind, FailureKind::Unavailable);
    }

    #[test]
    fn what_a_look_up_is_refused_for_kills_no_document() {
        for (code, text, kind) in [
            (4, "服务器出错", FailureKind::Unavailable),
            (11, "没有见过的说法", FailureKind::Unavailable),
            (2, "没有查看权限", FailureKind::Configuration),
            (13, "网控冲突，请稍候再使用", FailureKind::Transient),
            (14, "接口调用次数达到上限", FailureKind::Throttled),
        ] {
            let errors = vec![FieldError { field: None, message: text.to_owned(), index: None }];
            let answer = SaveAnswer { errors, msg_code: Some(code), ..SaveAnswer::default() };
            let failure = reading(Catalogue::builtin(), &KingdeeError::Refused(Box::new(answer)));
            assert_eq!((failure.kind, failure.in_flight), (kind, false), "{text}");
        }
    }
}
