//! What is said of a document whose try is over.

use kingpost_model::{Failure, FailureKind, Fault};

use super::Seen;
use crate::{CANCELLED, CHANGED, DUPLICATE};

/// What a loader reports whose broker is silent. It is carried out only if the connection turns out to be alive; where it is
/// lost, its deliveries are lost as well.
pub(in super::super) fn lease_lost() -> Failure {
    let text = "this loader has not heard of the broker for too long, or lost its connection, and posts nothing more";
    Failure::new(FailureKind::Unavailable, text).by(Fault::Broker)
}

/// More than one document of one number: what must never happen. Nothing is written until a person has decided.
pub(super) fn several(documents: &[Seen]) -> Failure {
    let ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    let text = format!(
        "{} documents hold this number (ids {}); delete all but the right one in Kingdee",
        documents.len(),
        ids.join(", ")
    );
    Failure::new(FailureKind::Conflict, text).with_code(DUPLICATE)
}

pub(super) fn gone(id: &str) -> Failure {
    let text = format!("the document (id {id}) was there and is not found any more");
    Failure::new(FailureKind::Transient, text)
}

pub(super) fn renumbered(number: &str) -> Failure {
    let text = format!(
        "Kingdee saved a document of this call under its own number {number}: a code rule (编码规则) overrides \
         FBillNo; allow manual numbers for this form, see whether {number} is this document, delete it if so, then replay"
    );
    Failure::new(FailureKind::Conflict, text)
}

pub(super) fn out_of_sight(words: &str) -> Failure {
    let text = format!(
        "Kingdee says the number is taken, but the user can't see the document: {words}; look for it in other \
         organisations and among deleted documents"
    );
    Failure::new(FailureKind::Conflict, text).with_code("MsgCode 11")
}

/// The number is held by a document that is cancelled in Kingdee.
pub(super) fn cancelled_there(id: &str) -> Failure {
    let text = format!(
        "a cancelled (作废) document with the id {id} holds this number; delete it or let it count as done"
    );
    Failure::new(FailureKind::Conflict, text)
}

/// What is there is not what is at hand; why it isn't updated, where the scheme would have it updated.
pub(super) fn changed(seen: &Seen, difference: &str, why_not: &str) -> Failure {
    let why_not =
        if why_not.is_empty() { String::new() } else { format!("; not updated, because {why_not}") };
    let text = format!(
        "the document of this number in Kingdee (id {}, status {}) differs: {difference}{why_not}; correct it there and \
         discard this letter, or delete it there and replay it",
        seen.id, seen.status
    );
    Failure::new(FailureKind::Conflict, text).with_code(CHANGED)
}

/// What was cancelled in the source stands in Kingdee. Nothing is ever deleted there by us.
pub(super) fn in_source_cancelled(seen: &Seen) -> Failure {
    let text = format!(
        "cancelled in the source, but it stands in Kingdee (id {}, status {}); a person has to delete or reverse it there, \
         and then discard this letter",
        seen.id, seen.status
    );
    Failure::new(FailureKind::Conflict, text).with_code(CANCELLED)
}
