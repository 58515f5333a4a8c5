//! Reading what Kingdee has: every document of a form in a period, or those of some numbers. Nothing is written.

use std::{sync::Arc, time::Instant};

use jiff::civil::Date;
use kingpost_kingdee::{BillQuery, Catalogue, Cell, DocumentStatus, KingdeeClient, KingdeeError, filter};
use kingpost_model::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use super::{content::Content, failures, forms::Form, look_up::HEADER, target::outcome};
use crate::Calls;

/// Rows of a page, one per line of a document; what Kingdee answers by itself when nothing is said.
const PAGE_ROWS: u32 = 2_000;
/// Rows of one query at most (`ExecuteBillQuery`).
const ROWS_MAX: u32 = 10_000;
/// Numbers of one query.
const NUMBERS_MAX: usize = 50;

/// A document as it stands in Kingdee's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// Its number (`FBillNo`); a draft may have none.
    pub number: String,
    /// Its internal id (`FID`).
    pub id: String,
    /// `FDocumentStatus` as Kingdee writes it: `Z`, `A`, `B`, `C`, `D`.
    pub status: String,
    /// It is void (作废).
    pub cancelled: bool,
    /// What it says.
    pub content: Content,
}

impl Booked {
    /// Its status.
    pub fn status(&self) -> DocumentStatus {
        DocumentStatus::from(self.status.as_str())
    }
}

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    number: String,
    id: String,
}

/// Some documents of a period, and where the rest begins; nothing when there is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookPage {
    /// Whole documents, in Kingdee's own order.
    pub documents: Vec<Booked>,
    /// Where the next page begins.
    pub next: Option<Place>,
}

/// Days by business date (`FDate`), the last one not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first day.
    pub from: Date,
    /// The first day after it.
    pub to: Date,
}

/// The documents of one form of one Kingdee account.
pub struct KingdeeBooks {
    client: KingdeeClient,
    form: &'static Form,
    texts: Catalogue,
    calls: Arc<dyn Calls>,
}

impl KingdeeBooks {
    /// The books of a form.
    pub fn new(client: KingdeeClient, form: &'static Form, texts: Catalogue, calls: Arc<dyn Calls>) -> Self {
        KingdeeBooks { client, form, texts, calls }
    }

    /// What is known of the form.
    pub fn form(&self) -> &'static Form {
        self.form
    }

    /// Some documents whose date lies in a period. Pages are told apart by number and id, never by counting rows, so that
    /// what is written meanwhile moves no document from one page to another; and in the order of Kingdee's database, which
    /// is nobody else's: it may take capitals for small letters and leave hyphens out.
    ///
    /// # Errors
    /// A [`Failure`] of the whole page; it never returns part of a document.
    pub async fn page(&self, days: Days, from: Option<&Place>) -> Result<BookPage, Failure> {
        let mut conditions = vec![format!(
            "FDate>={} and FDate<{}",
            filter::literal(&days.from.to_string()),
            filter::literal(&days.to.to_string())
        )];
        if let Some(Place { number, id }) = from {
            let number = filter::literal(number);
            conditions.push(format!("(FBillNo>{number} or (FBillNo={number} and FID>={id}))"));
        }
        let filter = conditions.join(" and ");
        for limit in [PAGE_ROWS, ROWS_MAX] {
            let rows = self.rows(filter.clone(), "FBillNo ASC,FID ASC", limit).await?;
            let whole = rows.len() < limit as usize;
            let mut documents = self.documents(rows)?;
            if whole {
                return Ok(BookPage { documents, next: None });
            }
            // The last one may go on behind the page.
            let cut = documents.pop().map(|cut| Place { number: cut.number, id: cut.id });
            match cut {
                Some(cut) if cut.number.is_empty() => {
                    let text = format!(
                        "Kingdee has {limit} lines and more of documents without a number in {} to {}; give the drafts \
                         numbers, or delete them",
                        days.from, days.to
                    );
                    return Err(Failure::new(FailureKind::Incomplete, text));
                }
                next if !documents.is_empty() => return Ok(BookPage { documents, next }),
                _ => {}
            }
        }
        let text =
            format!("a document of {} has {ROWS_MAX} lines or more, which can't be read", self.form.id);
        Err(Failure::new(FailureKind::Incomplete, text))
    }

    /// The documents of some numbers, whatever their date.
    ///
    /// # Errors
    /// A [`Failure`]; it proves nothing about any of them.
    pub async fn find(&self, numbers: &[String]) -> Result<Vec<Booked>, Failure> {
        let mut found = Vec::new();
        let mut chunks: Vec<&[String]> = numbers.chunks(NUMBERS_MAX).rev().collect();
        while let Some(chunk) = chunks.pop() {
            let quoted: Vec<String> = chunk.iter().map(|number| filter::literal(number)).collect();
            let rows = self.rows(format!("FBillNo in ({})", quoted.join(",")), "FID ASC", ROWS_MAX).await?;
            // A page that is full may have been cut off, and then proves nothing.
            if rows.len() >= ROWS_MAX as usize {
                if chunk.len() < 2 {
                    let text = format!("a look-up of one document gave {ROWS_MAX} rows or more");
                    return Err(Failure::new(FailureKind::Incomplete, text));
                }
                let (left, right) = chunk.split_at(chunk.len() / 2);
                chunks.extend([right, left]);
                continue;
            }
            // The database compares without regard to case.
            found.extend(self.documents(rows)?.into_iter().filter(|found| chunk.contains(&found.number)));
        }
        Ok(found)
    }

    async fn rows(&self, filter: String, order: &str, limit: u32) -> Result<Vec<Vec<Cell>>, Failure> {
        let mut fields: Vec<String> = HEADER.map(str::to_owned).into();
        fields.extend(self.form.fields());
        let (form, order) = (self.form.id.to_owned(), order.to_owned());
        let query = BillQuery { form, fields, filter, order, start_row: 0, limit };
        let started = Instant::now();
        let rows = self.client.execute_bill_query(&query).await;
        let ended = rows.as_ref().map_or_else(outcome, |_| "ok");
        self.calls.call("kingdee", "list", ended, started.elapsed());
        rows.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &KingdeeError) -> Failure {
        failures::reading(&self.texts, error)
    }

    /// Gathers the rows of each document, which stand together.
    fn documents(&self, rows: Vec<Vec<Cell>>) -> Result<Vec<Booked>, Failure> {
        let mut documents: Vec<Booked> = Vec::new();
        for row in rows {
            let text = |at: usize| row.get(at).and_then(Cell::text).unwrap_or_default().into_owned();
            let id = text(0);
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
                let text = format!("a query of {} gave a row whose FID is `{id}`", self.form.id);
                return Err(Failure::new(FailureKind::Transient, text));
            }
            let cells = row.get(HEADER.len()..).unwrap_or_default();
            if documents.last().is_none_or(|last| last.id != id) {
                documents.push(Booked {
                    number: text(1),
                    status: text(2),
                    cancelled: text(3) == "B",
                    content: Content::of_header(self.form, cells),
                    id,
                });
            }
            if let Some(document) = documents.last_mut() {
                document.content.add(self.form, cells);
            }
        }
        Ok(documents)
    }
}
