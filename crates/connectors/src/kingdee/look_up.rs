//! Looking documents up, and telling ours from somebody else's.

use std::collections::BTreeMap;

use kingpost_kingdee::{BillQuery, Cell, DocumentStatus, KingdeeError, filter};
use kingpost_model::{Failure, FailureKind, LoadedHow, Standing};
use rust_decimal::Decimal;

use super::{
    failures,
    forms::{Content, day, decimal},
    identity,
    target::{Job, KingdeeTarget, Progress},
};

/// Rows of one query at most, as documented for `ExecuteBillQuery`; an entry field makes one row per line.
const ROWS_MAX: u32 = 10_000;
/// Keys of one query.
const KEYS_MAX: usize = 50;

/// A document as it stands in Kingdee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) status: DocumentStatus,
    pub(super) cancelled: bool,
    pub(super) content: Option<Content>,
}

impl KingdeeTarget {
    /// Fails what can't be looked up safely, or isn't what it is looked up as, before anything is sent.
    pub(super) fn check_keys(&self, jobs: &mut [Job<'_>]) {
        for job in jobs {
            if let Err(error) = filter::equals("FBillNo", &job.load.number) {
                let text =
                    format!("the number `{}` can't be used as a document number: {error}", job.load.number);
                job.fail(Failure::new(FailureKind::Refused, text));
            } else if let Err(text) = identity::check(&job.load.model, &job.load.number) {
                job.fail(Failure::new(FailureKind::Refused, text));
            }
        }
    }

    /// Looks documents up and settles what each look-up decides; absent ones that nobody can be writing stay absent.
    pub(super) async fn find(&self, jobs: &mut [&mut Job<'_>]) {
        if jobs.is_empty() {
            return;
        }
        let numbers: Vec<&str> = jobs.iter().map(|job| job.load.number.as_str()).collect();
        let found = match self.look_up(&numbers).await {
            Ok(found) => found,
            Err(error) => {
                for job in jobs {
                    job.fail(failures::reading(&error));
                }
                return;
            }
        };
        for job in jobs {
            let documents = found.get(&job.load.number).map_or(&[][..], Vec::as_slice);
            match documents {
                [] if job.load.standing == Standing::Unproven => {
                    let text = "not found, but a write of it may still be running; it is looked up again";
                    job.fail(Failure::new(FailureKind::Unclear, text));
                }
                [] => job.progress = Progress::Absent,
                [one] => self.adopt(job, one),
                many => job.fail(several(many)),
            }
        }
    }

    /// Takes a found document for ours if its content agrees.
    pub(super) fn adopt(&self, job: &mut Job<'_>, found: &Found) {
        if found.cancelled {
            let text = format!(
                "a cancelled (作废) document with the id {} holds this number; delete it or let it count as done",
                found.id
            );
            job.fail(Failure::new(FailureKind::Conflict, text));
            return;
        }
        let ours = self.form.and_then(|form| form.content(&job.load.model));
        let difference =
            ours.as_ref().zip(found.content.as_ref()).and_then(|(ours, there)| ours.difference(there));
        if let Some(difference) = difference {
            let text = format!("another document (id {}) holds this number: {difference}", found.id);
            job.fail(Failure::new(FailureKind::Conflict, text));
            return;
        }
        let finished = self.is_finished(&found.status);
        let how = if finished { LoadedHow::AlreadyThere } else { LoadedHow::Resumed };
        job.there(found.id.clone(), found.status.clone(), how);
    }

    /// The documents of some numbers; a number without one is not in the map.
    pub(super) async fn look_up(
        &self,
        numbers: &[&str],
    ) -> Result<BTreeMap<String, Vec<Found>>, KingdeeError> {
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
        let mut fields: Vec<String> =
            ["FID", "FBillNo", "FDocumentStatus", "FCancelStatus"].map(str::to_owned).into();
        if let Some(form) = self.form {
            fields.extend(["FDate".to_owned(), form.quantity.to_owned()]);
            if !form.partner.is_empty() {
                fields.push(format!("{}.FNumber", form.partner));
            }
        }
        let filter =
            filter::one_of("FBillNo", numbers).map_err(|e| KingdeeError::Invalid { text: e.to_string() })?;
        let form = self.spec.form.clone();
        Ok(BillQuery { form, fields, filter, order: "FID ASC".to_owned(), start_row: 0, limit: ROWS_MAX })
    }

    /// Gathers the rows of each document; without an entry field there is one row per document.
    fn collect(
        &self,
        rows: Vec<Vec<Cell>>,
        found: &mut BTreeMap<String, Vec<Found>>,
    ) -> Result<(), KingdeeError> {
        for row in rows {
            let text = |at: usize| row.get(at).and_then(Cell::text).unwrap_or_default().into_owned();
            let (id, number) = (text(0), text(1));
            if id.is_empty() || number.is_empty() {
                let text = "a look-up gave a row without id or number".to_owned();
                return Err(KingdeeError::Unexpected { write: false, text });
            }
            let documents = found.entry(number).or_default();
            let known = documents.iter().position(|document| document.id == id);
            let index = known.unwrap_or_else(|| {
                let content = self.form.map(|form| Content {
                    partner: (!form.partner.is_empty()).then(|| text(6)).filter(|p| !p.is_empty()),
                    date: day(&text(4)),
                    lines: 0,
                    quantity: Decimal::ZERO,
                });
                let status = DocumentStatus::from(text(2).as_str());
                documents.push(Found { id, status, cancelled: text(3) == "B", content });
                documents.len() - 1
            });
            if let Some(content) = documents.get_mut(index).and_then(|d| d.content.as_mut()) {
                let quantity = text(5);
                content.lines += usize::from(!quantity.is_empty());
                let sum = decimal(&quantity).and_then(|q| content.quantity.checked_add(q));
                content.quantity = sum.unwrap_or(content.quantity);
            }
        }
        Ok(())
    }
}

/// More than one document of one number: what must never happen. Nothing is written until a person has decided.
fn several(documents: &[Found]) -> Failure {
    let ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    let text = format!(
        "{} documents hold this number (ids {}); delete all but the right one in Kingdee",
        documents.len(),
        ids.join(", ")
    );
    Failure::new(FailureKind::Conflict, text).with_code("duplicate")
}
