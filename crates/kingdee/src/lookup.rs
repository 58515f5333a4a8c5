use std::fmt;

use crate::answer::Cell;
use crate::error::KingdeeError;
use crate::filter;
use crate::request::{BillQuery, invalid};

/// Keys in one query; more make filters that proxies and the server's parser dislike.
const KEYS_PER_QUERY: usize = 100;

/// Rows in one query. A page that is full may have been cut off, and then proves nothing.
const ROWS_PER_QUERY: u32 = 2000;

/// `FDocumentStatus` (official manual).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentStatus {
    /// `Z`, 暂存: incomplete, perhaps without a number.
    Draft,
    /// `A`, 创建: saved.
    Created,
    /// `B`, 审核中: submitted.
    Submitted,
    /// `C`, 已审核.
    Approved,
    /// `D`, 重新审核: rejected or un-audited.
    Reopened,
    /// Anything else, as sent.
    Other(String),
}

impl From<&str> for DocumentStatus {
    fn from(code: &str) -> Self {
        match code {
            "Z" => Self::Draft,
            "A" => Self::Created,
            "B" => Self::Submitted,
            "C" => Self::Approved,
            "D" => Self::Reopened,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for DocumentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draft => "Z",
            Self::Created => "A",
            Self::Submitted => "B",
            Self::Approved => "C",
            Self::Reopened => "D",
            Self::Other(code) => code,
        })
    }
}

/// Which documents of a form exist, by their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// Form id.
    pub form: String,
    /// Header field that holds the key: `FBillNo`, or a text field where the code rule forbids own numbers.
    pub key_field: String,
    /// Further header fields to read; an entry field would make one row for each entry.
    pub further_fields: Vec<String>,
}

/// One document that exists.
#[derive(Debug, Clone)]
pub struct Found {
    /// `FID`, decimal digits.
    pub id: String,
    /// `FBillNo`.
    pub number: String,
    /// Value of the key field. The database compares without regard to case, so compare it with what was asked.
    pub key: String,
    /// `FDocumentStatus`.
    pub status: DocumentStatus,
    /// `FCancelStatus` is `B` (作废). A cancelled document still occupies its number.
    pub cancelled: bool,
    /// The further fields, in the order asked for.
    pub further: Vec<Cell>,
}

impl LookUp {
    /// A look-up by `FBillNo` without further fields.
    #[must_use]
    pub fn by_number(form: impl Into<String>) -> Self {
        Self { form: form.into(), key_field: "FBillNo".to_owned(), further_fields: Vec::new() }
    }

    pub(crate) fn queries(&self, keys: &[&str]) -> Result<Vec<BillQuery>, KingdeeError> {
        keys.chunks(KEYS_PER_QUERY)
            .map(|chunk| {
                let fixed = ["FID", "FBillNo", "FDocumentStatus", "FCancelStatus"].map(str::to_owned);
                let key = (!self.is_by_number()).then(|| self.key_field.clone());
                Ok(BillQuery {
                    form: self.form.clone(),
                    fields: fixed.into_iter().chain(key).chain(self.further_fields.iter().cloned()).collect(),
                    filter: filter::one_of(&self.key_field, chunk).map_err(invalid)?,
                    order: "FID ASC".to_owned(),
                    start_row: 0,
                    limit: ROWS_PER_QUERY,
                })
            })
            .collect()
    }

    pub(crate) fn found(&self, rows: Vec<Vec<Cell>>) -> Result<Vec<Found>, KingdeeError> {
        if rows.len() >= usize::try_from(ROWS_PER_QUERY).unwrap_or(usize::MAX) {
            let text = format!(
                "a look-up in {} gave {} rows, perhaps not all: ask for fewer keys and no entry fields",
                self.form,
                rows.len()
            );
            return Err(KingdeeError::Unexpected { write: false, text });
        }
        rows.into_iter().map(|row| self.one(row)).collect()
    }

    fn one(&self, row: Vec<Cell>) -> Result<Found, KingdeeError> {
        let text = |at: usize| row.get(at).and_then(Cell::text).unwrap_or_default().into_owned();
        let (id, number, status, cancelled) = (text(0), text(1), text(2), text(3));
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            let text = format!("a look-up in {} gave the row {row:?}, whose FID is no number", self.form);
            return Err(KingdeeError::Unexpected { write: false, text });
        }
        let (key, fixed) = if self.is_by_number() { (number.clone(), 4) } else { (text(4), 5) };
        let further = row.into_iter().skip(fixed).collect();
        Ok(Found { id, number, key, status: status.as_str().into(), cancelled: cancelled == "B", further })
    }

    fn is_by_number(&self) -> bool {
        self.key_field.eq_ignore_ascii_case("FBillNo")
    }
}
