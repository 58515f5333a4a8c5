//! Looking documents up, and telling ours from somebody else's.

use std::collections::BTreeMap;

use jiff::{civil, tz};
use kingpost_kingdee::{BillQuery, Cell, DocumentStatus, KingdeeError, filter};
use kingpost_model::{Failure, FailureKind, Load};

use super::{
    batch::{Batch, Call},
    content::Content,
    failures, identity,
    life::{OnChange, Seen},
    target::KingdeeTarget,
};

/// Rows of one query at most, as documented for `ExecuteBillQuery`; an entry field makes one row per line.
const ROWS_MAX: u32 = 10_000;
/// Keys of one query.
const KEYS_MAX: usize = 50;

/// What is read after the header where it matters when a document was last written; nothing else has to be there on every
/// form.
const WRITTEN: [&str; 2] = ["FCreateDate", "FModifyDate"];
/// What is read of every document, before its content.
pub(super) const HEADER: [&str; 4] = ["FID", "FBillNo", "FDocumentStatus", "FCancelStatus"];

/// A document as it stands in Kingdee.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    id: String,
    status: DocumentStatus,
    cancelled: bool,
    written_s: Option<i64>,
    content: Option<Content>,
}

impl KingdeeTarget {
    /// Looks documents up, and says of each what stands under its number.
    pub(super) async fn find(&self, call: &Call, loads: &[Load], batch: &mut Batch<'_>) {
        let loads: Vec<&Load> = call.members.iter().filter_map(|at| loads.get(*at)).collect();
        let numbers: Vec<&str> = loads.iter().map(|load| load.number.as_str()).collect();
        match self.look_up(&numbers).await {
            Ok(mut found) => {
                let seen = |load: &&Load| {
                    let ours = self.form.and_then(|form| form.content(&load.model));
                    let documents = found.remove(&load.number).unwrap_or_default();
                    documents.into_iter().map(|document| document.beside(ours.as_ref())).collect()
                };
                batch.looked_up(call, loads.iter().map(seen).collect());
            }
            Err(error) => batch.failed(call, &failures::reading(&self.spec.texts, &error)),
        }
    }

    /// The documents of some numbers; a number without one is not in the map.
    async fn look_up(&self, numbers: &[&str]) -> Result<BTreeMap<String, Vec<Found>>, KingdeeError> {
        let mut found = BTreeMap::new();
        let mut chunks: Vec<&[&str]> = numbers.chunks(KEYS_MAX).rev().collect();
        while let Some(chunk) = chunks.pop() {
            let rows = self.timed("look-up", self.client.execute_bill_query(&self.query(chunk)?)).await?;
            // A page that is full may have been cut off, and then proves nothing.
            if rows.len() >= ROWS_MAX as usize {
                if chunk.len() == 1 {
                    let text = format!("a look-up of one document gave {ROWS_MAX} rows or more");
                    return Err(KingdeeError::Unexpected { write: false, text });
                }
                let (left, right) = chunk.split_at(chunk.len() / 2);
                chunks.extend([right, left]);
                continue;
            }
            self.collect(rows, &mut found)?;
        }
        Ok(found)
    }

    fn query(&self, numbers: &[&str]) -> Result<BillQuery, KingdeeError> {
        let header = HEADER.into_iter().chain(self.written().iter().copied());
        let mut fields: Vec<String> = header.map(str::to_owned).collect();
        if let Some(form) = self.form {
            fields.extend(form.fields());
        }
        let filter =
            filter::one_of("FBillNo", numbers).map_err(|e| KingdeeError::Invalid { text: e.to_string() })?;
        let form = self.spec.form.clone();
        Ok(BillQuery { form, fields, filter, order: "FID ASC".to_owned(), start_row: 0, limit: ROWS_MAX })
    }

    fn written(&self) -> &'static [&'static str] {
        if self.spec.rules.on_change == OnChange::UpdateDraft { &WRITTEN } else { &[] }
    }

    /// Gathers the rows of each document; without an entry field there is one row per document.
    fn collect(
        &self,
        rows: Vec<Vec<Cell>>,
        found: &mut BTreeMap<String, Vec<Found>>,
    ) -> Result<(), KingdeeError> {
        let written = self.written().len();
        for row in rows {
            let content = row.get(HEADER.len() + written..).unwrap_or_default();
            let text = |at: usize| row.get(at).and_then(Cell::text).unwrap_or_default().into_owned();
            let (id, number) = (text(0), text(1));
            if id.is_empty() || number.is_empty() {
                let text = "a look-up gave a row without id or number".to_owned();
                return Err(KingdeeError::Unexpected { write: false, text });
            }
            let documents = found.entry(number).or_default();
            let known = documents.iter().position(|document| document.id == id);
            let index = known.unwrap_or_else(|| {
                let status = DocumentStatus::from(text(2).as_str());
                let times = (HEADER.len()..HEADER.len() + written).filter_map(|at| moment(&text(at)));
                documents.push(Found {
                    id,
                    status,
                    cancelled: text(3) == "B",
                    written_s: times.max(),
                    content: self.form.map(|form| Content::of_header(form, content)),
                });
                documents.len() - 1
            });
            let found = documents.get_mut(index).and_then(|document| document.content.as_mut());
            if let Some((found, form)) = found.zip(self.form) {
                found.add(form, content);
            }
        }
        Ok(())
    }
}

/// A time as Kingdee shows it, which is Beijing's, in seconds since the epoch.
fn moment(text: &str) -> Option<i64> {
    let civil: civil::DateTime = text.trim().replace(' ', "T").parse().ok()?;
    Some(tz::offset(8).to_timestamp(civil).ok()?.as_second())
}

/// What is wrong with a document that can't be looked up safely, or isn't what it is looked up as.
pub(super) fn unfit(load: &Load) -> Option<Failure> {
    let text = match filter::equals("FBillNo", &load.number) {
        Err(error) => format!("the number `{}` can't be used as a document number: {error}", load.number),
        Ok(_) => identity::check(&load.model, &load.number).err()?,
    };
    Some(Failure::new(FailureKind::Refused, text))
}

impl Found {
    fn beside(self, ours: Option<&Content>) -> Seen {
        let difference = ours.zip(self.content.as_ref()).and_then(|(ours, there)| ours.difference(there));
        let Found { id, status, cancelled, written_s, .. } = self;
        Seen { id, status, cancelled, written_s, difference }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_kingdee_is_of_beijing() {
        for text in ["2026-04-22T00:00:01", "2026-04-22 00:00:01", "2026-04-22T00:00:01.987"] {
            assert_eq!(moment(text), Some(1_776_787_201), "{text}");
        }
        assert_eq!(moment("2026-04-22"), Some(1_776_787_200));
        assert_eq!((moment(""), moment("yesterday")), (None, None));
    }
}
