//! From one answer for many documents to one outcome for each.
//!
//! A `BatchSave` is not atomic: documents of one call succeed and fail one by one, and `IsSuccess` is false as
//! soon as one failed. The number a document was sent with is the strongest evidence; an index is one only where it
//! can't be anything else ([`errors_per_document`]).

use std::collections::BTreeSet;

use crate::answer::{Entity, FieldError, SaveAnswer};
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
    /// Nothing in the answer is surely about it.
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
    let sent: Vec<Sent<'_>> = numbers.iter().map(|number| Sent { number, id: "" }).collect();
    let errors = errors_per_document(&sent, answer);
    let hangs = broken_off(catalogue, answer, &errors);
    let each = errors.into_iter().enumerate();
    each.map(|(at, errors)| match outcome(catalogue, sent[at], at, answer, errors) {
        DocumentOutcome::Verify { why: Doubt::NotMentioned, .. } if !hangs.is_empty() => {
            DocumentOutcome::Verify { why: Doubt::Unclear, errors: hangs.clone() }
        }
        outcome => outcome,
    })
    .collect()
}

/// The errors of nobody whose text speaks of a call that was broken off, such as a time-out inside the server: then no
/// document that the answer doesn't mention is known to be unwritten, and none may be sent again at once.
fn broken_off(
    catalogue: &Catalogue,
    answer: &SaveAnswer,
    per_document: &[Vec<FieldError>],
) -> Vec<FieldError> {
    let of_nobody =
        answer.errors.iter().filter(|error| !per_document.iter().flatten().any(|own| own == *error));
    let is_open =
        |error: &&FieldError| catalogue.by_text(&error.message).is_some_and(|r| r.class == Class::Unclear);
    of_nobody.filter(is_open).cloned().collect()
}

fn outcome(
    catalogue: &Catalogue,
    document: Sent<'_>,
    at: usize,
    answer: &SaveAnswer,
    errors: Vec<FieldError>,
) -> DocumentOutcome {
    if let Some(entity) = answer.successes.iter().find(|entity| document.is(entity)) {
        return if matches!(entity.id.as_str(), "" | "0") {
            DocumentOutcome::Verify { why: Doubt::NoId, errors: Vec::new() }
        } else {
            DocumentOutcome::Saved { id: entity.id.clone() }
        };
    }
    let is_here = |index: Option<i64>| index.and_then(|index| usize::try_from(index).ok()) == Some(at);
    if answer.is_success
        && let Some(entity) = answer.successes.iter().find(|entity| is_here(entity.index))
    {
        let why = Doubt::OtherNumber { number: entity.number.clone() };
        return DocumentOutcome::Verify { why, errors: Vec::new() };
    }
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

/// One document of a call, as its answer may speak of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Its number.
    pub number: &'a str,
    /// Its `FID`; empty before it is saved.
    pub id: &'a str,
}

impl Sent<'_> {
    /// Whether a success is this document's, by its id or its number.
    #[must_use]
    pub fn is(&self, entity: &Entity) -> bool {
        (!self.id.is_empty() && entity.id == self.id)
            || (!self.number.is_empty() && entity.number == self.number)
    }
}

/// The errors that belong to each document of one call, in the order of `sent`.
///
/// A document that was sent alone owns every error. Of several, one owns the errors whose text names it and no
/// other. `DIndex` counts only where it can't be anything but the position: some servers put an entry row there, and
/// the threads of `BatchCount` mix the order. So every error has to have one within the call, none may point at a
/// document that succeeded or that its text contradicts, and those that failed have to be exactly those that did not
/// succeed. What belongs to nobody by these rules is left out; sent alone, a document gets an answer of its own.
#[must_use]
pub fn errors_per_document(sent: &[Sent<'_>], answer: &SaveAnswer) -> Vec<Vec<FieldError>> {
    if sent.len() == 1 {
        return vec![answer.errors.clone()];
    }
    let by_index = indexes_are_positions(sent, answer);
    let owner = |error: &FieldError| {
        named(sent, error).or_else(|| if by_index { position(sent, error) } else { None })
    };
    let of = |at: usize| answer.errors.iter().filter(|error| owner(error) == Some(at)).cloned().collect();
    (0..sent.len()).map(of).collect()
}

/// Whether `number` stands in `message` as a whole, not as the beginning or end of a longer number.
#[must_use]
pub fn names(message: &str, number: &str) -> bool {
    let joins = |c: char| c.is_ascii_alphanumeric() || "-_/#+@~".contains(c);
    !number.is_empty()
        && message.match_indices(number).any(|(at, _)| {
            !message[..at].ends_with(joins) && !message[at + number.len()..].starts_with(joins)
        })
}

/// The one document that an error names.
fn named(sent: &[Sent<'_>], error: &FieldError) -> Option<usize> {
    let mut found = (0..sent.len()).filter(|at| names(&error.message, sent[*at].number));
    found.next().filter(|_| found.next().is_none())
}

/// Where the index of an error points, if it points into the call.
fn position(sent: &[Sent<'_>], error: &FieldError) -> Option<usize> {
    error.index.and_then(|index| usize::try_from(index).ok()).filter(|at| *at < sent.len())
}

fn indexes_are_positions(sent: &[Sent<'_>], answer: &SaveAnswer) -> bool {
    let failed: Option<BTreeSet<usize>> = answer.errors.iter().map(|error| position(sent, error)).collect();
    let Some(failed) = failed else { return false };
    let succeeded: BTreeSet<usize> =
        (0..sent.len()).filter(|at| answer.successes.iter().any(|entity| sent[*at].is(entity))).collect();
    let stranger = answer.successes.iter().any(|entity| !sent.iter().any(|document| document.is(entity)));
    let contradicted = answer
        .errors
        .iter()
        .any(|error| named(sent, error).is_some_and(|at| position(sent, error) != Some(at)));
    !stranger
        && !contradicted
        && failed.is_disjoint(&succeeded)
        && failed.len() + succeeded.len() == sent.len()
}
