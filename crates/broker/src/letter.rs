//! A dead letter, whole: what it says, why it is dead, and the message byte for byte.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kingpost_model::{Failure, FailureKind, FailureRecord, Route, Work};
use lapin::{BasicProperties, types::ShortString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{
    lossless::{properties_from_json, properties_to_json},
    wire,
};

/// Which message a letter is, whatever its place in the queue: two letters with one identity carry the same document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The message id.
    pub id: String,
    /// SHA-256 of the body, in hexadecimal.
    pub sha256: String,
}

/// Why a letter can't be read from a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LetterError(String);

/// One dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The queue it lies in.
    pub queue: String,
    /// The message, decoded.
    pub work: Work,
    /// Why it is there; for a message that no worker judged, what the broker says.
    pub failure: FailureRecord,
    /// The broker's own reason, `delivery_limit` for example, where it was the broker that gave up.
    pub broker_reason: Option<String>,
    /// How often the broker handed it out in this queue without a settlement; browsing counts up to RabbitMQ 4.2.
    pub handed_out: u64,
    /// When the message was published to this queue, in seconds since the epoch, where it says so.
    pub published_s: Option<u64>,
    /// What the publisher and the broker said about it, exactly.
    properties: BasicProperties,
}

impl Letter {
    /// A letter as it lies in a dead-letter queue; nothing when the queue's name is not one.
    pub(crate) fn read(queue: &str, properties: BasicProperties, body: Bytes) -> Option<Self> {
        let route = wire::route_of(queue)?;
        let work = wire::work(&route, &properties, body, 0);
        let broker_reason = wire::broker_reason(&properties);
        let failure = match (&broker_reason, &work.last_failure) {
            (Some(_), _) => FailureRecord::unjudged(route.stage, 0),
            (None, Some(record)) => (**record).clone(),
            (None, None) => unexplained(&work),
        };
        Some(Letter {
            queue: queue.to_owned(),
            failure,
            broker_reason,
            handed_out: wire::delivery_count(&properties),
            published_s: *properties.timestamp(),
            properties,
            work,
        })
    }

    /// The letter that a worker would leave of some work, whose last failure says why.
    pub fn of(work: &Work, now_s: u64) -> Self {
        let route = Route::new(work.stage, &*work.scheme);
        let properties = wire::properties(work, &route.queue(), &ShortString::default(), now_s);
        let failure = work.last_failure.as_deref().cloned().unwrap_or_else(|| unexplained(work));
        Letter {
            queue: route.dead_queue(),
            work: work.clone(),
            failure,
            broker_reason: None,
            handed_out: 0,
            published_s: Some(now_s),
            properties,
        }
    }

    /// Which message it is.
    pub fn identity(&self) -> Identity {
        Identity { id: self.work.id.as_str().to_owned(), sha256: sha256(&self.work.body) }
    }

    /// The text of one of its foreign headers, such as `kingpost-replay`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.work.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// SHA-256 over queue, properties and body, without what a broker counts or a new life would lose: equal for a letter
    /// and what an import makes of it, different for two that share no more than id and body.
    pub fn fingerprint(&self) -> String {
        let properties = properties_to_json(&self.properties_again());
        let whole =
            Value::from(vec![Value::from(&*self.queue), properties, Value::from(sha256(&self.work.body))]);
        sha256(whole.to_string().as_bytes())
    }

    /// The whole message as JSON, from which [`Letter::from_json`] makes the same one: `queue`, `properties` with every
    /// header and its type, `bytes`, `sha256`, and `body`, or `body_base64` for a body that is no UTF-8.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("queue".to_owned(), Value::from(self.queue.as_str()));
        out.insert("properties".to_owned(), properties_to_json(&self.properties));
        out.insert("bytes".to_owned(), Value::from(self.work.body.len()));
        out.insert("sha256".to_owned(), Value::from(sha256(&self.work.body)));
        match std::str::from_utf8(&self.work.body) {
            Ok(text) => out.insert("body".to_owned(), Value::from(text)),
            Err(_) => out.insert("body_base64".to_owned(), Value::from(STANDARD.encode(&self.work.body))),
        };
        Value::Object(out)
    }

    /// Reads what [`Letter::to_json`] wrote; other members are left alone.
    ///
    /// # Errors
    /// [`LetterError`] when a member is missing or can't be read, when the queue is no dead-letter queue, or when the body
    /// is not the one whose hash is given.
    pub fn from_json(value: &Value) -> Result<Self, LetterError> {
        let text = |name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.ok_or_else(|| LetterError(format!("`{name}` is missing, or is no text")))
        };
        let queue = text("queue")?;
        let body = match value.get("body_base64") {
            Some(_) => STANDARD
                .decode(text("body_base64")?)
                .map_err(|error| LetterError(format!("`body_base64`: {error}")))?,
            None => text("body")?.as_bytes().to_vec(),
        };
        if sha256(&body) != text("sha256")? {
            let text = "the body is not the one that was exported: its SHA-256 differs from `sha256`";
            return Err(LetterError(text.to_owned()));
        }
        let properties =
            value.get("properties").ok_or_else(|| LetterError("`properties` is missing".into()))?;
        let properties = properties_from_json(properties).map_err(LetterError)?;
        let letter = Letter::read(queue, properties, body.into()).filter(|_| queue.ends_with(".dead"));
        letter.ok_or_else(|| LetterError(format!("`{queue}` is not a dead-letter queue")))
    }

    /// Its properties for a new life in its queue: without what the broker would refuse (a user id that isn't ours), act
    /// upon (further recipients), drop it for (an expiry), or count anew.
    pub(crate) fn properties_again(&self) -> BasicProperties {
        let old = &self.properties;
        let mut new = BasicProperties::default();
        macro_rules! keep {
            ($($get:ident $with:ident),*) => { $(if let Some(value) = old.$get() { new = new.$with(value.clone()); })* };
        }
        keep!(content_type with_content_type, content_encoding with_content_encoding, priority with_priority,
            correlation_id with_correlation_id, reply_to with_reply_to, message_id with_message_id,
            timestamp with_timestamp, kind with_type, app_id with_app_id);
        if let Some(headers) = old.headers() {
            let mut table = lapin::types::FieldTable::default();
            for (name, value) in headers {
                if !["CC", "BCC", "x-delivery-count", "x-acquired-count"].contains(&name.as_str()) {
                    table.insert(name.clone(), value.clone());
                }
            }
            new = new.with_headers(table);
        }
        new.with_delivery_mode(2)
    }
}

/// SHA-256 in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A dead letter whose reason this release can't read: put there by hand, or by a newer release.
fn unexplained(work: &Work) -> FailureRecord {
    let text = "no reason that this release can read; see the headers of the message";
    FailureRecord::of(&Failure::new(FailureKind::Internal, text), work, 0, "")
}

#[cfg(test)]
mod tests {
    use kingpost_model::{RecordKey, StageName, WorkId};

    use super::*;

    fn letter(body: &[u8]) -> Letter {
        let key = RecordKey::new("STK_InStock", "RK采购1");
        let mut work = Work::new(WorkId::new("s-RK1"), StageName::Load, "s", key, body.to_vec());
        work.headers = vec![("ticket".into(), "T-1".into())];
        work.write_key = Some("CG1".into());
        let failure = Failure::new(FailureKind::BaseData, "物料[A]不存在");
        let record = FailureRecord::of(&failure, &work, 1_700_000_000_000, "kingpost-loader/1");
        Letter::of(&work.after_failure(record, false), 1_700_000_000)
    }

    #[test]
    fn a_letter_survives_a_file_byte_for_byte() {
        for body in
            [&b"{ \"n\" : 1.200,\"t\":\"\\u0041\" }"[..], b"", b"\xff\xfe\x00", "数\u{7f}\r\n".as_bytes()]
        {
            let letter = letter(body);
            let line = letter.to_json().to_string();
            assert!(!line.contains('\n'));
            let back = Letter::from_json(&serde_json::from_str(&line).unwrap()).unwrap();
            assert_eq!(back, letter);
            assert_eq!(back.identity(), letter.identity());
            assert_eq!(back.failure.kind, FailureKind::BaseData);
        }
    }

    #[test]
    fn a_file_that_was_touched_is_refused() {
        let mut json = letter(b"{}").to_json();
        json["body"] = Value::from("{\"a\":1}");
        assert!(Letter::from_json(&json).unwrap_err().to_string().contains("SHA-256"));
        let mut json = letter(b"{}").to_json();
        json["queue"] = Value::from("load.s");
        assert!(Letter::from_json(&json).unwrap_err().to_string().contains("not a dead-letter queue"));
        assert!(Letter::from_json(&Value::Null).unwrap_err().to_string().contains("`queue` is missing"));
    }

    #[test]
    fn a_letter_that_is_put_back_keeps_all_but_what_the_broker_would_act_upon() {
        let mut letter = letter(b"{}");
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let mut more = headers.clone();
        more.insert("CC".into(), lapin::types::AMQPValue::Void);
        more.insert("x-delivery-count".into(), lapin::types::AMQPValue::LongLongInt(7));
        letter.properties = letter.properties.clone().with_headers(more).with_user_id("somebody".into());
        let again = letter.properties_again();
        assert_eq!(again.headers().as_ref(), Some(&headers));
        assert!(again.user_id().is_none());
        assert_eq!(again.message_id(), letter.properties.message_id());
        let read = Letter::read(&letter.queue, again, letter.work.body.clone()).unwrap();
        assert_eq!((read.work, read.failure), (letter.work, letter.failure));
    }
}
