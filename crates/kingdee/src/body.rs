//! Every shape a body has been seen in, tried in the order in which they exclude each other.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Cell, ResponseStatus, SaveAnswer};
use crate::catalogue::{Catalogue, Class};
use crate::error::UnknownCause;

const EXCEPTION: &str = "response_error:";

/// How much of a foreign body goes into an error text, in characters.
const EXCERPT: usize = 600;

/// How much of a foreign body is looked at for that, in bytes.
const BEGINNING: usize = 64 * 1024;

/// A body that means something.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A `ResponseStatus`, with the two members that views and metadata calls carry beside it.
    Status { answer: SaveAnswer, result: Option<Box<RawValue>>, return_data: Option<Box<RawValue>> },
    /// Rows of a query.
    Rows(Vec<Vec<Cell>>),
}

/// A body that decides nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// The server doesn't know us; `answered` where it says so itself, and not by a status or a page.
    Session {
        answered: bool,
        text: String,
    },
    Unknown(UnknownCause, String),
    Unexpected(String),
}

/// Reads an answer. A session loss inside a `ResponseStatus` is left to the caller, who knows the MsgCode.
pub(crate) fn decode(status: u16, body: &[u8]) -> Result<Answer, BodyFault> {
    let lossy = String::from_utf8_lossy(body);
    match status {
        200 | 206 => {}
        401 => return Err(unknown_here(format!("http status 401: {}", beginning(&lossy)))),
        300..=399 => {
            return Err(unknown_here(format!("http status {status}, a redirect, as to a login page")));
        }
        _ => return Err(BodyFault::Unknown(UnknownCause::Status(status), beginning(&lossy))),
    }
    match std::str::from_utf8(body) {
        Ok(text) => decode_text(text.trim_start_matches('\u{feff}'), 0),
        Err(_) => Err(BodyFault::Unknown(UnknownCause::NotJson, beginning(&lossy))),
    }
}

/// The beginning of a foreign text on one line. Secrets have to be out of it already, or half a one may stay.
pub(crate) fn excerpt(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if line.is_empty() => "(no text)".to_owned(),
        None => line,
    }
}

/// Enough of a text to find secrets and write an excerpt.
fn beginning(text: &str) -> String {
    text[..text.floor_char_boundary(BEGINNING)].trim().to_owned()
}

fn decode_text(text: &str, unwrapped: u8) -> Result<Answer, BodyFault> {
    let text = text.trim();
    if let Some(exception) = text.strip_prefix(EXCEPTION) {
        return Err(thrown(exception));
    }
    if text.starts_with('<') {
        return Err(page(text));
    }
    if text.is_empty() || text == "null" {
        return Err(BodyFault::Unknown(UnknownCause::Empty, "the body has no content".to_owned()));
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        BodyFault::Unknown(UnknownCause::NotJson, format!("{error}: {}", beginning(text)))
    })?;
    match raw.get().as_bytes().first() {
        Some(b'"') if unwrapped < 2 => {
            let inner: String = serde_json::from_str(raw.get()).map_err(|_| unexpected(text))?;
            decode_text(&inner, unwrapped + 1)
        }
        Some(b'{') => status_of(raw)?.ok_or_else(|| unexpected(text)),
        Some(b'[') => array(raw),
        _ => Err(unexpected(text)),
    }
}

/// Whoever answers doesn't know us, and need not be Kingdee.
fn unknown_here(text: String) -> BodyFault {
    BodyFault::Session { answered: false, text }
}

fn unexpected(text: &str) -> BodyFault {
    BodyFault::Unexpected(format!("neither ResponseStatus nor rows: {}", beginning(text)))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exception {
    message: Option<String>,
    inner_ex_wrapper: Option<Box<Exception>>,
}

fn thrown(text: &str) -> BodyFault {
    let mut messages = Vec::new();
    let mut next =
        text.find('{').and_then(|at| serde_json::from_str::<Exception>(&text[at..]).ok().map(Box::new));
    while let Some(exception) = next {
        messages.extend(exception.message.filter(|message| !message.is_empty()));
        next = exception.inner_ex_wrapper;
    }
    let said = if messages.is_empty() { beginning(text) } else { messages.join(": ") };
    if Catalogue::builtin().by_text(&said).is_some_and(|ruling| ruling.class == Class::SessionLost) {
        BodyFault::Session { answered: true, text: said }
    } else {
        BodyFault::Unknown(UnknownCause::ResponseError, said)
    }
}

fn page(text: &str) -> BodyFault {
    let lower = text.to_lowercase();
    // The site's own login page; a proxy's error page names neither a password nor a login form.
    if lower.contains("type=\"password\"") || (lower.contains("k3cloud") && lower.contains("login")) {
        unknown_here(format!("a login page: {}", beginning(text)))
    } else {
        BodyFault::Unknown(UnknownCause::Html, beginning(text))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    response_status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner<'a> {
    #[serde(borrow)]
    response_status: Option<ResponseStatus<'a>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    need_return_data: Option<&'a RawValue>,
}

/// `Ok(None)` when the object has no `ResponseStatus` in either place.
fn status_of(raw: &RawValue) -> Result<Option<Answer>, BodyFault> {
    let misfit =
        |error: serde_json::Error| BodyFault::Unexpected(format!("{error}: {}", beginning(raw.get())));
    let envelope: Envelope<'_> = serde_json::from_str(raw.get()).map_err(misfit)?;
    if let Some(result) = envelope.result.filter(|result| result.get().starts_with('{')) {
        let inner: Inner<'_> = serde_json::from_str(result.get()).map_err(misfit)?;
        if let Some(status) = inner.response_status {
            return Ok(Some(Answer::Status {
                answer: status.into(),
                result: inner.result.map(ToOwned::to_owned),
                return_data: inner.need_return_data.map(ToOwned::to_owned),
            }));
        }
    }
    let Some(status) = envelope.response_status.filter(|status| status.get().starts_with('{')) else {
        return Ok(None);
    };
    let status: ResponseStatus<'_> = serde_json::from_str(status.get()).map_err(misfit)?;
    Ok(Some(Answer::Status { answer: status.into(), result: None, return_data: None }))
}

fn array(raw: &RawValue) -> Result<Answer, BodyFault> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| unexpected(raw.get()))?;
    // A refused query comes as `[[{"Result":…}]]`: dig for the first object.
    let mut first = items.first().copied();
    while let Some(item) = first.filter(|item| item.get().starts_with('[')) {
        let inside: Vec<&RawValue> = serde_json::from_str(item.get()).map_err(|_| unexpected(raw.get()))?;
        first = inside.first().copied();
    }
    if let Some(object) = first.filter(|item| item.get().starts_with('{'))
        && let Some(answer) = status_of(object)?
    {
        return Ok(answer);
    }
    let rows: Vec<Vec<Box<RawValue>>> = serde_json::from_str(raw.get()).map_err(|_| unexpected(raw.get()))?;
    Ok(Answer::Rows(rows.into_iter().map(|row| row.into_iter().map(Cell::from).collect()).collect()))
}

#[cfg(test)]
mod tests;
