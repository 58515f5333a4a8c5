//! What the target has under a number, for a person who asks.

use kingpost_kingdee::{Catalogue, Cell, DocumentStatus, KingdeeClient, LookUp};
use kingpost_model::Failure;

use super::{failures, life::Finish};

/// A document as it stands in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its number.
    pub number: String,
    /// The target's internal id.
    pub id: String,
    /// Its state in the target's words and ours, such as `C audited`.
    pub status: String,
    /// It is as far as its scheme wants it to be.
    pub finished: bool,
    /// It is cancelled (作废), and occupies its number all the same.
    pub cancelled: bool,
    /// When it was created, as the target writes it.
    pub created: Option<String>,
    /// When it was last changed, as the target writes it.
    pub modified: Option<String>,
}

/// Looks documents of one form up by their number; writes nothing.
pub struct Looker {
    pub(crate) client: KingdeeClient,
    pub(crate) form: String,
    pub(crate) finish: Finish,
    pub(crate) texts: Catalogue,
}

impl Looker {
    /// Every document that has a number: none, one, or more than one, which must never be.
    ///
    /// # Errors
    /// A [`Failure`] when the target doesn't answer or refuses; that is never taken for an absent document.
    pub async fn present(&self, number: &str) -> Result<Vec<Present>, Failure> {
        let further_fields = ["FCreateDate", "FModifyDate"].map(str::to_owned).into();
        let look_up = LookUp { further_fields, ..LookUp::by_number(&*self.form) };
        let found = self.client.look_up(&look_up, &[number]).await;
        let found = found.map_err(|error| failures::reading(&self.texts, &error))?;
        let text = |cells: &[Cell], at: usize| {
            cells.get(at).and_then(Cell::text).map(|text| text.into_owned()).filter(|text| !text.is_empty())
        };
        // The database compares without regard to case.
        let documents = found.into_iter().filter(|found| found.number == number);
        Ok(documents
            .map(|found| Present {
                status: word(&found.status),
                finished: is_finished(&found.status, self.finish),
                created: text(&found.further, 0),
                modified: text(&found.further, 1),
                number: found.number,
                id: found.id,
                cancelled: found.cancelled,
            })
            .collect())
    }
}

fn word(status: &DocumentStatus) -> String {
    match status {
        DocumentStatus::Draft => "Z draft".to_owned(),
        DocumentStatus::Created => "A saved".to_owned(),
        DocumentStatus::Submitted => "B submitted".to_owned(),
        DocumentStatus::Approved => "C audited".to_owned(),
        DocumentStatus::Reopened => "D reopened".to_owned(),
        DocumentStatus::Other(code) => code.clone(),
    }
}

const fn is_finished(status: &DocumentStatus, finish: Finish) -> bool {
    match finish {
        Finish::Save => !matches!(status, DocumentStatus::Draft | DocumentStatus::Other(_)),
        Finish::Submit => matches!(status, DocumentStatus::Submitted | DocumentStatus::Approved),
        Finish::Audit => matches!(status, DocumentStatus::Approved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_finished_when_it_is_as_far_as_its_scheme_wants_it() {
        for (status, expected) in [
            ("Z", [false, false, false]),
            ("A", [true, false, false]),
            ("B", [true, true, false]),
            ("C", [true, true, true]),
            ("D", [true, false, false]),
            ("X", [false, false, false]),
        ] {
            let status = DocumentStatus::from(status);
            let found = [Finish::Save, Finish::Submit, Finish::Audit].map(|f| is_finished(&status, f));
            assert_eq!(found, expected, "{}", word(&status));
        }
    }
}
