//! What an error text, field and MsgCode of Kingdee mean, as a table that can grow without a release.
//!
//! The texts come from the official manual and from published implementations; they change between patches of
//! the server, which is why a refusal with an unknown text is taken as a matter of the document's data, with
//! everything the server said kept for a person.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::answer::FieldError;

static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is part of the program and read by every test")]
    let rows = serde_json::from_str(include_str!("catalogue.json")).expect("the built-in table is valid");
    Catalogue { rows }
});

const UNKNOWN_TEXT: &str =
    "no rule knows this refusal: read the message, correct the document or the base data, then replay";

/// What has to be done about a refusal or a missing answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It will pass: repeat later.
    Transient,
    /// A limit of calls is reached: send nothing for a while, then more slowly.
    Throttled,
    /// The document has to change, or base data has to: put it aside, mend, replay.
    Data,
    /// The document is in another state than expected: read its status and continue from there.
    State,
    /// The scheme, connection, permission or licence is wrong: stop sending until a person has mended it.
    Config,
    /// The session is gone: log in again and look up.
    SessionLost,
    /// It may have been executed: look up before anything else.
    Unclear,
    /// The number exists already: look it up, then count it as done.
    Duplicate,
}

/// One row of the table. All conditions given must hold; of the rows that fit, the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Alternatives; in each, `…` separates fragments that occur in this order. Empty: any text.
    #[serde(default)]
    pub texts: Vec<String>,
    /// `FieldName`, without regard to case. Empty: any.
    #[serde(default)]
    pub fields: Vec<String>,
    /// `MsgCode` of the whole answer. Empty: any.
    #[serde(default)]
    pub msg_codes: Vec<i64>,
    /// Conclusion.
    pub class: Class,
    /// The cure is to create, approve, enable or allocate base data (基础资料).
    #[serde(default)]
    pub base_data: bool,
    /// What the operator does.
    pub advice: String,
}

/// Conclusion for one document or call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What has to be done.
    pub class: Class,
    /// The cure lies in base data.
    pub base_data: bool,
    /// What the operator does.
    pub advice: String,
}

/// A row that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error table: row {row} has no condition or an empty one: give it a text, a field or a MsgCode")]
pub struct Unconditional {
    /// Position among the rows given, from 1.
    pub row: usize,
}

/// The table. Text is judged before MsgCode, because one MsgCode stands for all documents of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    rows: Vec<Row>,
}

impl Catalogue {
    /// The table of this crate (`src/catalogue.json`).
    #[must_use]
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// The built-in table with further rows in front, so that they win.
    ///
    /// # Errors
    /// [`Unconditional`] when a row has no condition and would fit everything.
    pub fn extended(mut rows: Vec<Row>) -> Result<Self, Unconditional> {
        if let Some(at) = rows.iter().position(|row| !row.is_conditional()) {
            return Err(Unconditional { row: at + 1 });
        }
        rows.extend_from_slice(&BUILTIN.rows);
        Ok(Self { rows })
    }

    /// All rows, in order.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Conclusion for the errors of one document, or of a call. Of several errors the one that needs most care
    /// counts: a number in use, then an unclear outcome, a lost session, configuration, state, data, and only
    /// then what passes by itself. Without any error the MsgCode alone decides.
    #[must_use]
    pub fn rule(&self, msg_code: Option<i64>, errors: &[FieldError]) -> Ruling {
        let one = |field: Option<&str>, message: &str| {
            self.row(msg_code, field, message).map_or_else(unknown, |(_, row)| ruling(row))
        };
        errors
            .iter()
            .map(|error| one(error.field.as_deref(), &error.message))
            .reduce(|worst, next| if next.class > worst.class { next } else { worst })
            .unwrap_or_else(|| one(None, ""))
    }

    /// Conclusion from a text alone, such as an exception's message; `None` when no row knows it.
    #[must_use]
    pub fn by_text(&self, text: &str) -> Option<Ruling> {
        self.row(None, None, text).map(|(_, row)| ruling(row))
    }

    /// The first row that fits, with its position.
    #[must_use]
    pub fn row(&self, msg_code: Option<i64>, field: Option<&str>, message: &str) -> Option<(usize, &Row)> {
        self.rows.iter().enumerate().find(|(_, row)| row.fits(msg_code, field, message))
    }
}

impl Row {
    fn fits(&self, msg_code: Option<i64>, field: Option<&str>, message: &str) -> bool {
        (self.texts.is_empty() || self.texts.iter().any(|pattern| occurs(pattern, message)))
            && (self.fields.is_empty()
                || field
                    .is_some_and(|field| self.fields.iter().any(|known| known.eq_ignore_ascii_case(field))))
            && (self.msg_codes.is_empty() || msg_code.is_some_and(|code| self.msg_codes.contains(&code)))
    }

    fn is_conditional(&self) -> bool {
        let said = !self.texts.is_empty() || !self.fields.is_empty() || !self.msg_codes.is_empty();
        said && self.texts.iter().all(|pattern| !pattern.trim_matches('…').trim().is_empty())
    }
}

/// Whether the fragments of `pattern` occur in `message` one after the other.
fn occurs(pattern: &str, message: &str) -> bool {
    let mut rest = message;
    pattern.split('…').all(|fragment| match rest.find(fragment) {
        Some(at) => {
            rest = &rest[at + fragment.len()..];
            true
        }
        None => false,
    })
}

fn ruling(row: &Row) -> Ruling {
    Ruling { class: row.class, base_data: row.base_data, advice: row.advice.clone() }
}

fn unknown() -> Ruling {
    Ruling { class: Class::Data, base_data: false, advice: UNKNOWN_TEXT.to_owned() }
}
