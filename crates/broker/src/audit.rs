//! The trail of what people did: who, when, why, how many, which. Kept in the broker, only ever appended to.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ExchangeKind,
    message::Delivery,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    inspect::{RETURN_MAX, RETURN_PAUSE, depth_of, is_not_found},
    stream::{Offset, QUIET, Stream},
    walk::Walk,
};

/// The queue that holds the trail, and the fanout exchange that it is bound to.
pub const AUDIT_QUEUE: &str = "kingpost.audit";
/// Letters named in one event; more make further events of the same action.
const LETTERS_MAX: usize = 1_000;

/// Where an action stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditPhase {
    /// About to begin; recorded before the first message moves.
    Begun,
    /// Something on the way that should be remembered.
    Note,
    /// Over, with its counts.
    Ended,
}

impl AuditPhase {
    /// The word used in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditPhase::Begun => "begun",
            AuditPhase::Note => "note",
            AuditPhase::Ended => "ended",
        }
    }
}

/// A letter that an action concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLetter {
    /// Its message id.
    pub id: String,
    /// Its number.
    pub key: String,
    /// SHA-256 of its body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// One event of the trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Common to all events of one action.
    pub action: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Who: `user@host`, or the name that was given.
    pub actor: String,
    /// The command, such as `dead replay`.
    pub command: String,
    /// Where the action stands.
    pub phase: AuditPhase,
    /// Why, in the words of the actor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The dead-letter queues or schemes concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// How many letters the action concerns.
    #[serde(default)]
    pub count: u64,
    /// Which, where there are few enough to name; an action on many has several events, each with a part of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<AuditLetter>,
    /// Which part of how many, when the letters need several events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u32, u32)>,
    /// The plan that is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// SHA-256 over what was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How many ended how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: BTreeMap<String, u64>,
    /// What else belongs to it: for an edit, the original body and the difference.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl AuditEvent {
    /// An event with what every event has.
    pub fn new(
        action: impl Into<String>,
        at_ms: i64,
        actor: impl Into<String>,
        command: impl Into<String>,
        phase: AuditPhase,
    ) -> Self {
        AuditEvent {
            action: action.into(),
            at_ms,
            actor: actor.into(),
            command: command.into(),
            phase,
            reason: String::new(),
            queues: Vec::new(),
            count: 0,
            letters: Vec::new(),
            part: None,
            plan: None,
            digest: None,
            outcomes: BTreeMap::new(),
            details: Value::Null,
        }
    }
}

/// The trail: a stream without retention, or, where a broker has no streams, a quorum queue that nobody consumes.
pub struct AuditTrail {
    connection: Connection,
    channel: Channel,
    timeout: Duration,
}

impl AuditTrail {
    /// Opens the trail, making it where it doesn't exist.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached, or refuses to make it.
    pub async fn open(config: &BrokerConfig) -> Result<Self, ConnectError> {
        let mut refusal = None;
        // A refused declaration may end the whole connection, so each kind is tried on one of its own.
        for kind in [None, Some("stream"), Some("quorum")] {
            let connection = open(config, Role::Inspect).await?;
            let prepared = tokio::time::timeout(config.connect_timeout, prepare(&connection, kind)).await;
            match prepared {
                Ok(Ok(Some(channel))) => {
                    return Ok(AuditTrail { connection, channel, timeout: config.confirm_timeout });
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => refusal = Some(error),
                Err(_) => return Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())),
            }
            let _ = tokio::time::timeout(config.settle_timeout, connection.close(200, "asked".into())).await;
        }
        let why = refusal.map_or_else(String::new, |error| format!(": {error}"));
        Err(ConnectError::Refused(format!(
            "the audit trail `{AUDIT_QUEUE}` can't be made{why}; give the user of AMQP_URL configure, write and read \
             permission on it"
        )))
    }

    /// Appends an event and waits for its confirm; one that names many letters is written in parts.
    ///
    /// # Errors
    /// [`ConnectError`] when it is not confirmed; whatever it tells of must not go on then.
    pub async fn record(&self, event: &AuditEvent) -> Result<(), ConnectError> {
        let parts = u32::try_from(event.letters.len().div_ceil(LETTERS_MAX).max(1)).unwrap_or(u32::MAX);
        if parts == 1 {
            return self.append(event).await;
        }
        for (n, letters) in (1..).zip(event.letters.chunks(LETTERS_MAX)) {
            let part = AuditEvent { letters: letters.to_vec(), part: Some((n, parts)), ..bare(event) };
            self.append(&part).await?;
        }
        Ok(())
    }

    /// Hands every event since a point in time, in milliseconds since the epoch, to `each`, the oldest first.
    /// What this release can't read is handed over as an event of an unknown command, with the text in its details.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer or refuses.
    pub async fn read(&self, since_ms: i64, mut each: impl FnMut(AuditEvent)) -> Result<(), ConnectError> {
        let mut take = |body: &[u8]| {
            let event = event(body);
            if event.at_ms >= since_ms {
                each(event);
            }
        };
        let stream = Stream { connection: &self.connection, queue: AUDIT_QUEUE, timeout: self.timeout };
        match stream.end(|_| false).await? {
            Some(end) => {
                let Some(follower) = stream.follow(Offset::First, &[]).await? else { return Ok(()) };
                let each = |delivery: &Delivery| {
                    take(&delivery.data);
                    ControlFlow::Continue(())
                };
                stream.read(follower, end.as_ref(), each).await?;
            }
            // A quorum queue refuses an offset. What is acknowledged there is gone, so it is walked over instead.
            None => {
                let held = self.held_at_rest(0).await?;
                let mut walk = Walk::new(&self.connection, AUDIT_QUEUE, held, QUIET, self.timeout);
                while let Some((delivery, _)) = walk.next_within(self.timeout).await? {
                    take(&delivery.data);
                }
                let seen = walk.seen();
                walk.close().await?;
                if seen < held {
                    return Err(cut_off());
                }
                self.held_at_rest(held).await?;
            }
        }
        Ok(())
    }

    /// How many events a quorum queue holds, once no reader counts any more and at least so many are back: the broker
    /// answers a close before it has put back what was read. A reader that stays is not waited for longer than a moment.
    async fn held_at_rest(&self, least: usize) -> Result<usize, ConnectError> {
        let until = tokio::time::Instant::now() + RETURN_MAX;
        loop {
            let depth = depth_of(&self.connection, AUDIT_QUEUE).await?;
            let (ready, readers) = depth.map_or((0, 0), |depth| (depth.ready as usize, depth.consumers));
            if (readers == 0 && ready >= least) || tokio::time::Instant::now() >= until {
                return Ok(ready);
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.close(200, "read".into())).await;
    }

    async fn append(&self, event: &AuditEvent) -> Result<(), ConnectError> {
        let body = serde_json::to_vec(event)
            .map_err(|error| ConnectError::Refused(format!("an event of the audit trail: {error}")))?;
        let id = ShortString::try_new(event.action.as_str()).unwrap_or_default();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(id)
            .with_timestamp(u64::try_from(event.at_ms / 1_000).unwrap_or(0));
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let publish = async {
            self.channel.basic_publish(AUDIT_QUEUE.into(), "".into(), options, &body, properties).await?.await
        };
        match tokio::time::timeout(self.timeout, publish).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(_)) => {
                Err(ConnectError::Absent(format!("the queue `{AUDIT_QUEUE}` doesn't take an event")))
            }
            Ok(Err(error)) => Err(ConnectError::of(&error)),
            Err(_) => {
                Err(ConnectError::Absent("an event of the audit trail was not confirmed in time".into()))
            }
        }
    }
}

fn cut_off() -> ConnectError {
    ConnectError::Absent("the audit trail fell silent before its last event was read; try again".to_owned())
}

/// The event without its letters.
fn bare(event: &AuditEvent) -> AuditEvent {
    AuditEvent {
        letters: Vec::new(),
        queues: event.queues.clone(),
        outcomes: event.outcomes.clone(),
        details: event.details.clone(),
        plan: event.plan.clone(),
        digest: event.digest.clone(),
        reason: event.reason.clone(),
        count: event.count,
        ..AuditEvent::new(&*event.action, event.at_ms, &*event.actor, &*event.command, event.phase)
    }
}

fn event(body: &[u8]) -> AuditEvent {
    serde_json::from_slice(body).unwrap_or_else(|_| AuditEvent {
        details: Value::from(String::from_utf8_lossy(body).into_owned()),
        ..AuditEvent::new("", i64::MAX, "", "unreadable", AuditPhase::Note)
    })
}

/// A confirming channel beside the queue of a kind, made if need be; without a kind, nothing where there is none.
async fn prepare(connection: &Connection, kind: Option<&str>) -> Result<Option<Channel>, ConnectError> {
    let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
    let mut arguments = FieldTable::default();
    let options = match kind {
        Some(kind) => {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(kind)));
            if kind == "quorum" {
                arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000_000));
            }
            QueueDeclareOptions::durable()
        }
        None => QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() },
    };
    match channel.queue_declare(AUDIT_QUEUE.into(), options, arguments).await {
        Ok(_) => {}
        Err(error) if kind.is_none() && is_not_found(&error) => return Ok(None),
        Err(error) => return Err(ConnectError::of(&error)),
    }
    if kind.is_some() {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        let exchange = channel.exchange_declare(AUDIT_QUEUE.into(), ExchangeKind::Fanout, options, none());
        exchange.await.map_err(|e| ConnectError::of(&e))?;
        let options = QueueBindOptions::default();
        let bound =
            channel.queue_bind(AUDIT_QUEUE.into(), AUDIT_QUEUE.into(), "".into(), options, none()).await;
        bound.map_err(|e| ConnectError::of(&e))?;
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|e| ConnectError::of(&e))?;
    Ok(Some(channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_way_and_what_is_no_event_is_kept() {
        let mut given = AuditEvent::new("a-1", 5, "ops@demo-host", "dead replay", AuditPhase::Begun);
        given.letters = vec![AuditLetter { id: "w".into(), key: "RK1".into(), sha256: String::new() }];
        given.part = Some((1, 2));
        given.outcomes.insert("posted".into(), 3);
        let body = serde_json::to_vec(&given).unwrap();
        assert_eq!(event(&body), given);
        assert_eq!(bare(&given), AuditEvent { letters: Vec::new(), part: None, ..given });
        assert_eq!(event(b"<x>").details, Value::from("<x>"));
    }
}
