use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Parsed `ResponseStatus` of a save, submit or audit. `is_success` alone says nothing about one document: see
/// [`per_document`](crate::classify::per_document).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaveAnswer {
    /// `IsSuccess`; false when absent.
    pub is_success: bool,
    /// `SuccessEntitys` (sic).
    pub successes: Vec<Entity>,
    /// `Errors`.
    pub errors: Vec<FieldError>,
    /// `MsgCode`, one for the whole call (official manual, 0 to 15). `ErrorCode` is always 500 and not kept.
    pub msg_code: Option<i64>,
}

impl fmt::Display for SaveAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.msg_code {
            Some(code) => write!(f, "MsgCode {code}")?,
            None => f.write_str("no MsgCode")?,
        }
        if self.errors.is_empty() {
            f.write_str(", no error text")?;
        }
        for error in &self.errors {
            write!(f, "; {error}")?;
        }
        Ok(())
    }
}

/// A document that the server reports as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Internal id (`FID`), decimal digits; empty when absent.
    pub id: String,
    /// Document number; some servers have been seen to put the id here.
    pub number: String,
    /// `DIndex`: position in `Model`, from 0.
    pub index: Option<i64>,
}

/// One entry of `Errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldName`, if the error concerns a field.
    pub field: Option<String>,
    /// Text for people, in the language of the connection.
    pub message: String,
    /// `DIndex`: position in `Model`, from 0. Not to be trusted where the message names another document.
    pub index: Option<i64>,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// One cell of a query row, with the digits as sent.
#[derive(Clone)]
pub struct Cell(Box<RawValue>);

impl Cell {
    /// The JSON text of the cell.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.0.get()
    }

    /// A string's content, a number's or boolean's text, or `None` for null.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        scalar(&self.0)
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.raw())
    }
}

impl From<Box<RawValue>> for Cell {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw)
    }
}

/// `ResponseStatus` with every type the .NET, Java and PHP models disagree about left open.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ResponseStatus<'a> {
    #[serde(borrow)]
    is_success: Option<&'a RawValue>,
    #[serde(borrow)]
    msg_code: Option<&'a RawValue>,
    #[serde(borrow, alias = "SuccessEntities")]
    success_entitys: Option<Vec<RawEntity<'a>>>,
    #[serde(borrow)]
    errors: Option<Vec<RawError<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEntity<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    number: Option<&'a RawValue>,
    #[serde(borrow, rename = "DIndex")]
    index: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawError<'a> {
    #[serde(borrow)]
    field_name: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "DIndex")]
    index: Option<&'a RawValue>,
}

impl From<ResponseStatus<'_>> for SaveAnswer {
    fn from(status: ResponseStatus<'_>) -> Self {
        let text = |raw: Option<&RawValue>| raw.and_then(scalar).map(Cow::into_owned);
        let successes = status.success_entitys.unwrap_or_default();
        let errors = status.errors.unwrap_or_default();
        Self {
            is_success: status.is_success.is_some_and(truth),
            successes: successes
                .into_iter()
                .map(|entity| Entity {
                    id: text(entity.id).unwrap_or_default(),
                    number: text(entity.number).unwrap_or_default(),
                    index: entity.index.and_then(integer),
                })
                .collect(),
            errors: errors
                .into_iter()
                .map(|error| FieldError {
                    field: text(error.field_name).filter(|name| !name.is_empty()),
                    message: text(error.message).unwrap_or_default(),
                    index: error.index.and_then(integer),
                })
                .collect(),
            msg_code: status.msg_code.and_then(integer),
        }
    }
}

/// Text of a JSON scalar: strings unescaped, numbers and booleans as written, null as `None`.
pub(crate) fn scalar(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str::<String>(text).ok().map(Cow::Owned),
        text => Some(Cow::Borrowed(text)),
    }
}

/// An integer, as a number or in a string.
pub(crate) fn integer(raw: &RawValue) -> Option<i64> {
    scalar(raw)?.trim().parse().ok()
}

/// `true`, `"true"`, `"True"` and 1 are true; everything else is not.
pub(crate) fn truth(raw: &RawValue) -> bool {
    scalar(raw).is_some_and(|text| text.trim().eq_ignore_ascii_case("true") || text.trim() == "1")
}
