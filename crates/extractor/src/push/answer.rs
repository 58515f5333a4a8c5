//! What a sender is told.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// What became of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fate {
    /// The broker has it.
    Accepted,
    /// It can't be taken as it is.
    Refused,
    /// It stands in the same request before, byte for byte.
    Duplicate,
    /// It was published, and the broker hasn't said yet that it has it.
    Unconfirmed,
}

impl Fate {
    pub(super) const ALL: [Fate; 4] = [Fate::Accepted, Fate::Refused, Fate::Duplicate, Fate::Unconfirmed];

    /// The word used in answers and metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Fate::Accepted => "accepted",
            Fate::Refused => "refused",
            Fate::Duplicate => "duplicate",
            Fate::Unconfirmed => "unconfirmed",
        }
    }
}

/// One document of a request, in the order sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) fate: Fate,
    /// Which message of the request it became, or an equal one before it.
    message: Option<usize>,
    number: Option<String>,
    id: Option<String>,
    error: Option<String>,
}

impl Line {
    pub(super) fn refused(error: String) -> Self {
        Line { fate: Fate::Refused, message: None, number: None, id: None, error: Some(error) }
    }

    pub(super) fn taken(fate: Fate, message: usize, number: &str, id: &str) -> Self {
        let (number, id) = (Some(number.to_owned()), Some(id.to_owned()));
        Line { fate, message: Some(message), number, id, error: None }
    }

    /// What isn't among the confirmed messages is in doubt.
    pub(super) fn doubt(&mut self, confirmed: &[bool]) {
        let known = |message: usize| confirmed.get(message).copied().unwrap_or(false);
        if self.message.is_some_and(|message| !known(message)) {
            self.fate = Fate::Unconfirmed;
        }
    }
}

#[derive(Serialize)]
struct Account<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    accepted: usize,
    refused: usize,
    #[serde(skip_serializing_if = "is_zero")]
    duplicates: usize,
    #[serde(skip_serializing_if = "is_zero")]
    unconfirmed: usize,
    documents: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    status: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn of((index, line): (usize, &'a Line)) -> Self {
        Entry {
            index,
            number: line.number.as_deref(),
            id: line.id.as_deref(),
            status: line.fate,
            error: line.error.as_deref(),
        }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    outcome: &'static str,
    retry_after_s: Option<u64>,
    /// The connection ends with it.
    last: bool,
    body: String,
}

impl Answer {
    /// The request itself is wrong, and wouldn't be right the next time.
    pub(super) fn invalid(status: StatusCode, text: impl Into<String>) -> Self {
        Answer { status, outcome: "invalid", retry_after_s: None, last: false, body: error(&text.into()) }
    }

    /// The sender doesn't show the right token.
    pub(super) fn unauthorized() -> Self {
        let body = error("the header `Authorization: Bearer …` is missing, or its token is another one");
        let status = StatusCode::UNAUTHORIZED;
        Answer { status, outcome: "unauthorized", retry_after_s: None, last: false, body }
    }

    /// Nothing was taken; the same request may pass later.
    pub(super) fn unavailable(text: &str, retry_after_s: u64) -> Self {
        Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            outcome: "unavailable",
            retry_after_s: Some(retry_after_s),
            last: false,
            body: error(text),
        }
    }

    /// What became of each document.
    pub(super) fn of(lines: &[Line], retry_after_s: u64) -> Self {
        let count = |fate| lines.iter().filter(|line| line.fate == fate).count();
        let unconfirmed = count(Fate::Unconfirmed);
        let refused = count(Fate::Refused);
        let (status, outcome) = match (unconfirmed, refused == lines.len()) {
            (0, false) => (StatusCode::ACCEPTED, "accepted"),
            (0, true) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        let account = Account {
            error: (unconfirmed > 0).then_some(
                "RabbitMQ hasn't confirmed the unconfirmed documents in time; send those or all of them again, which is \
                 safe: none is posted twice",
            ),
            accepted: count(Fate::Accepted),
            refused,
            duplicates: count(Fate::Duplicate),
            unconfirmed,
            documents: lines.iter().enumerate().map(Entry::of).collect(),
        };
        let body = serde_json::to_string(&account).unwrap_or_default();
        Answer {
            status,
            outcome,
            retry_after_s: (unconfirmed > 0).then_some(retry_after_s),
            last: false,
            body,
        }
    }

    /// Says that the connection ends with it.
    pub(super) fn and_close(self) -> Self {
        Answer { last: true, ..self }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The word used in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        self.outcome
    }

    #[cfg(test)]
    pub(super) fn body(&self) -> &str {
        &self.body
    }
}

fn error(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
