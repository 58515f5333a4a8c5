//! From one answer for many documents to one outcome for each.
//!
//! A `BatchSave` is not atomic: documents of one call succeed and fail one by one, and `IsSuccess` is false as
//! soon as one failed. The number a document was sent with is the strongest evidence, the index the next.

use crate::answer::{FieldError, SaveAnswer};
use crate::catalogue::{Catalogue, Class, Ruling};

/// What an answer says about one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentOutcome {
    /// The number is among the successes, with this internal id.
    Saved {
        /// `FID`, decimal digits.
        id: String,
    },
    /// Refused, with evidence that belongs to this document.
    Failed {
        /// What to do.
        ruling: Ruling,
        /// What the server said.
        errors: Vec<FieldError>,
    },
    /// Not decided: look the number up before doing anything else.
    Verify {
        /// Why.
        why: Doubt,
        /// What the server said about this document, if anything.
        errors: Vec<FieldError>,
    },
}

/// Why an answer does not decide about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// A success stands at its place with another number: renumbered by a code rule, perhaps.
    OtherNumber {
        /// The number in the answer.
        number: String,
    },
    /// The number is in use already.
    Duplicate,
    /// The text speaks of a time-out, a deadlock or the like.
    Unclear,
    /// It is among the successes without an id.
    NoId,
    /// It is mentioned nowhere.
    NotMentioned,
}

/// One outcome for each of `numbers`, the document numbers in the order of `Model`, all different.
#[must_use]
pub fn per_document(numbers: &[&str], answer: &SaveAnswer) -> Vec<DocumentOutcome> {
    per_document_with(Catalogue::builtin(), numbers, answer)
}

/// [`per_document`] with a table of one's own.
#[must_use]
pub fn per_document_with(
    catalogue: &Catalogue,
    numbers: &[&str],
    answer: &SaveAnswer,
) -> Vec<DocumentOutcome> {
    (0..numbers.len()).map(|at| outcome(catalogue, numbers, at, answer)).collect()
}

fn outcome(catalogue: &Catalogue, numbers: &[&str], at: usize, answer: &SaveAnswer) -> DocumentOutcome {
    let is_here = |index: Option<i64>| index.and_then(|index| usize::try_from(index).ok()) == Some(at);
    if let Some(entity) = answer.successes.iter().find(|entity| entity.number == numbers[at]) {
        return if matches!(entity.id.as_str(), "" | "0") {
            DocumentOutcome::Verify { why: Doubt::NoId, errors: Vec::new() }
        } else {
            DocumentOutcome::Saved { id: entity.id.clone() }
        };
    }
    if answer.is_success
        && let Some(entity) = answer.successes.iter().find(|entity| is_here(entity.index))
    {
        let why = Doubt::OtherNumber { number: entity.number.clone() };
        return DocumentOutcome::Verify { why, errors: Vec::new() };
    }
    let errors = errors_of(numbers, at, answer, is_here);
    if errors.is_empty() {
        return DocumentOutcome::Verify { why: Doubt::NotMentioned, errors };
    }
    let ruling = catalogue.rule(answer.msg_code, &errors);
    match ruling.class {
        Class::Duplicate => DocumentOutcome::Verify { why: Doubt::Duplicate, errors },
        Class::Unclear => DocumentOutcome::Verify { why: Doubt::Unclear, errors },
        _ => DocumentOutcome::Failed { ruling, errors },
    }
}

/// Errors with this document's index, or else those that name it, or else, when it was sent alone, all.
fn errors_of(
    numbers: &[&str],
    at: usize,
    answer: &SaveAnswer,
    is_here: impl Fn(Option<i64>) -> bool,
) -> Vec<FieldError> {
    let picked = |want: &dyn Fn(&FieldError) -> bool| -> Vec<FieldError> {
        answer.errors.iter().filter(|error| want(error)).cloned().collect()
    };
    // Some servers put the entry row into DIndex, and threads of BatchCount mix the order: an error that names
    // another document of this call is that document's.
    let is_anothers = |error: &FieldError| {
        !names(&error.message, numbers[at]) && numbers.iter().any(|number| names(&error.message, number))
    };
    let mut errors = picked(&|error| is_here(error.index) && !is_anothers(error));
    if errors.is_empty() {
        errors = picked(&|error| names(&error.message, numbers[at]));
    }
    if errors.is_empty() && numbers.len() == 1 {
        errors.clone_from(&answer.errors);
    }
    errors
}

/// Whether `number` stands in `message` as a whole, not as the beginning or end of a longer number.
fn names(message: &str, number: &str) -> bool {
    let joins = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !number.is_empty()
        && message.match_indices(number).any(|(at, _)| {
            !message[..at].ends_with(joins) && !message[at + number.len()..].starts_with(joins)
        })
}
