//! What a sender sends.

use std::fmt;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use kingpost_model::TraceContext;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::answer::Answer;

/// Documents in one request.
pub(super) const DOCUMENTS_MAX: usize = 1_000;

/// Whether a request shows the token. The digests are compared, and whole: how long that takes tells nothing.
pub(super) fn presents(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, shown)) = shown.and_then(|value| value.split_once(' ')) else { return false };
    let (shown, token) = (Sha256::digest(shown.trim()), Sha256::digest(token));
    let differ = shown.iter().zip(token.iter()).fold(0, |differ, (a, b)| differ | (a ^ b));
    scheme.eq_ignore_ascii_case("bearer") && differ == 0
}

/// Checks what the head says of the body, and gives the bytes to keep free for it: the length that it tells, or the most
/// that is taken.
pub(super) fn check(headers: &HeaderMap, max_bytes: usize) -> Result<usize, Answer> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let text = "the body has to be JSON, with the header `Content-Type: application/json`";
        return Err(Answer::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if text(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let text = "the body has to come as it is, without a Content-Encoding";
        return Err(Answer::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    match length.unwrap_or(max_bytes) {
        length if length > max_bytes => Err(too_large(max_bytes)),
        length => Ok(length),
    }
}

/// Reads a body into the bytes that are kept free for it, and no further.
pub(super) async fn read(body: Body, room: usize, max_bytes: usize) -> Result<Bytes, Answer> {
    let mut parts = body.into_data_stream();
    // Made at once: one that grows would for a moment be in memory twice.
    let mut whole = Vec::with_capacity(room);
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|_| Answer::invalid(StatusCode::BAD_REQUEST, "the body broke off in the middle"))?;
        if whole.len() + part.len() > room {
            return Err(too_large(max_bytes));
        }
        whole.extend_from_slice(&part);
    }
    whole.shrink_to_fit();
    Ok(Bytes::from(whole))
}

fn too_large(max_bytes: usize) -> Answer {
    let text =
        format!("the body has more than {max_bytes} bytes (PUSH_MAX_BYTES); divide it into several requests");
    Answer::invalid(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// The documents of a body, byte for byte: one object, or an array of them. What an element is is looked at later.
pub(super) fn documents(body: &Bytes) -> Result<Vec<Bytes>, Answer> {
    let invalid = |text: String| Answer::invalid(StatusCode::BAD_REQUEST, text);
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| {
        invalid(format!("the body is no JSON: wrong at line {}, column {}", error.line(), error.column()))
    })?;
    let part = |value: &RawValue| body.slice_ref(value.get().as_bytes());
    match whole.get().as_bytes().first() {
        Some(b'{') => return Ok(vec![part(whole)]),
        Some(b'[') => {}
        _ => return Err(invalid("the body has to be a document, or an array of documents".to_owned())),
    }
    let Elements(elements) = serde_json::from_str(whole.get())
        .map_err(|_| invalid("the array can't be read; report this as a bug".to_owned()))?;
    match elements.len() {
        0 => Err(invalid("the array holds no document".to_owned())),
        1..=DOCUMENTS_MAX => Ok(elements.into_iter().map(part).collect()),
        _ => {
            let text = format!(
                "the array holds more than {DOCUMENTS_MAX} documents; divide it into several requests"
            );
            Err(Answer::invalid(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
    }
}

/// The elements of an array, up to one more than is taken: millions of small ones would fill the memory.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rest: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() <= DOCUMENTS_MAX {
                    match rest.next_element()? {
                        Some(element) => elements.push(element),
                        None => return Ok(Elements(elements)),
                    }
                }
                while rest.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Elements(elements))
            }
        }
        reader.deserialize_seq(Reading)
    }
}

/// The sender's place in a trace, when it is one. A header that comes twice is none.
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states: Option<Vec<&str>> =
        headers.get_all("tracestate").iter().map(|state| state.to_str().ok()).collect();
    TraceContext::parse(parent.to_str().ok()?, states.map(|states| states.join(",")).as_deref())
}
