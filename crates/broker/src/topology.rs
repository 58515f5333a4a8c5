//! The queues and exchanges, as arguments that every release from 3.10 on understands.

use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, RETRY_TIERS, Route, StageName, WORK_EXCHANGE};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::connection::ConnectError;

/// Where a retry tier's messages come back to their own queue, by their own routing key.
pub const RESUME_EXCHANGE: &str = "kingpost.resume";
/// Keeps what came back to a queue that is no longer there; also the name of its queue.
pub const UNROUTABLE: &str = "kingpost.unroutable";
/// Deliveries without a settlement after which the broker itself gives up on a message. Every lost connection counts
/// for every message in hand, touched or not, so this is only the last resort behind the worker's own judgement. It is
/// a queue argument, which can't be changed on a queue that exists; a policy may lower it.
const DELIVERY_LIMIT: i64 = 1_000;
/// For queues that are read and put back: never give up. 4.x would drop after 20 by default.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The queues of one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeQueues {
    /// The scheme's name.
    pub scheme: String,
    /// Over how many queues its loading is spread.
    pub shards: u32,
}

/// Everything that has to be declared for some schemes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The schemes.
    pub schemes: Vec<SchemeQueues>,
}

impl Topology {
    /// The topology of schemes given as name and shards.
    pub fn new<'a>(schemes: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let schemes = schemes.into_iter();
        Topology {
            schemes: schemes.map(|(s, shards)| SchemeQueues { scheme: s.to_owned(), shards }).collect(),
        }
    }

    /// The name of a scheme's cursor queue.
    pub fn cursor_queue(scheme: &str) -> String {
        format!("cursor.{scheme}")
    }

    /// Declares it all; safe to repeat.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] when something exists with other arguments, with the broker's words on the difference.
    pub(crate) async fn declare(&self, channel: &Channel) -> Result<(), ConnectError> {
        self.declare_shared(channel).await?;
        for scheme in &self.schemes {
            declare_scheme(channel, scheme).await?;
        }
        Ok(())
    }

    async fn declare_shared(&self, channel: &Channel) -> Result<(), ConnectError> {
        exchange(channel, UNROUTABLE, ExchangeKind::Fanout, &[]).await?;
        queue(channel, UNROUTABLE, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]).await?;
        bind(channel, UNROUTABLE, UNROUTABLE, "").await?;
        exchange(channel, WORK_EXCHANGE, ExchangeKind::Direct, &[]).await?;
        exchange(channel, DEAD_EXCHANGE, ExchangeKind::Direct, &[]).await?;
        exchange(channel, REPLY_EXCHANGE, ExchangeKind::Direct, &[]).await?;
        let alternate = [("alternate-exchange", text(UNROUTABLE))];
        exchange(channel, RESUME_EXCHANGE, ExchangeKind::Direct, &alternate).await?;
        for tier in RETRY_TIERS {
            let delay = i64::try_from(tier.delay.as_millis()).unwrap_or(i64::MAX);
            let arguments = [
                ("x-message-ttl", int(delay)),
                ("x-dead-letter-exchange", text(RESUME_EXCHANGE)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ];
            exchange(channel, tier.queue, ExchangeKind::Fanout, &[]).await?;
            queue(channel, tier.queue, &arguments).await?;
            bind(channel, tier.queue, tier.queue, "").await?;
        }
        Ok(())
    }
}

async fn declare_scheme(channel: &Channel, scheme: &SchemeQueues) -> Result<(), ConnectError> {
    for stage in StageName::ALL {
        let routes = Route::all(stage, &scheme.scheme, scheme.shards);
        let dead = Route::new(stage, &scheme.scheme).dead_queue();
        queue(channel, &dead, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]).await?;
        bind(channel, &dead, DEAD_EXCHANGE, &dead).await?;
        for route in routes {
            let name = route.queue();
            let mut arguments = vec![
                ("x-delivery-limit", int(DELIVERY_LIMIT)),
                ("x-dead-letter-exchange", text(DEAD_EXCHANGE)),
                ("x-dead-letter-routing-key", text(&dead)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ];
            if stage == StageName::Load {
                arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
            }
            queue(channel, &name, &arguments).await?;
            bind(channel, &name, WORK_EXCHANGE, &name).await?;
            bind(channel, &name, RESUME_EXCHANGE, &name).await?;
        }
    }
    let cursor = Topology::cursor_queue(&scheme.scheme);
    let arguments = [
        ("x-max-length", int(1)),
        ("x-overflow", text("drop-head")),
        ("x-delivery-limit", int(NO_DELIVERY_LIMIT)),
    ];
    queue(channel, &cursor, &arguments).await?;
    bind(channel, &cursor, WORK_EXCHANGE, &cursor).await
}

fn int(n: i64) -> AMQPValue {
    AMQPValue::LongLongInt(n)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_bytes()))
}

fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

pub(crate) fn short(name: &str) -> Result<ShortString, ConnectError> {
    ShortString::try_new(name)
        .map_err(|e| ConnectError::Refused(format!("the name `{name}` is too long: {e}")))
}

async fn exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    arguments: &[(&str, AMQPValue)],
) -> Result<(), ConnectError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(name)?, kind, options, table(arguments)).await;
    declared.map_err(|e| conflict("exchange", name, &e))
}

async fn queue(channel: &Channel, name: &str, arguments: &[(&str, AMQPValue)]) -> Result<(), ConnectError> {
    let mut table = table(arguments);
    table.insert("x-queue-type".into(), text("quorum"));
    let declared = channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), table).await;
    declared.map(|_| ()).map_err(|e| conflict("queue", name, &e))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), ConnectError> {
    let (name, source, key) = (short(queue)?, short(exchange)?, short(key)?);
    let bound =
        channel.queue_bind(name, source, key, QueueBindOptions::default(), FieldTable::default()).await;
    bound.map_err(|e| conflict("binding of queue", queue, &e))
}

fn conflict(what: &str, name: &str, error: &lapin::Error) -> ConnectError {
    match ConnectError::of(error) {
        ConnectError::Refused(text) if text.contains("PRECONDITION") => ConnectError::Refused(format!(
            "the {what} `{name}` exists with other arguments than this release declares: {text}; \
             empty it, delete it and start again, or give this installation a virtual host of its own"
        )),
        ConnectError::Refused(text) => ConnectError::Refused(format!(
            "the {what} `{name}` can't be declared: {text}; give the user of AMQP_URL configure, write and read \
             permission on it"
        )),
        ConnectError::Absent(text) => {
            ConnectError::Absent(format!("the {what} `{name}` can't be declared: {text}"))
        }
    }
}
