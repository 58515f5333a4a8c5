//! The queues and exchanges, as arguments that every release from 3.10 on understands.

use std::collections::BTreeMap;

use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, RETRY_TIERS, Route, StageName, WORK_EXCHANGE};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use crate::connection::ConnectError;

/// Where a retry tier's messages come back to their own queue, by their own routing key.
pub const RESUME_EXCHANGE: &str = "kingpost.resume";
/// Brings a notice to everybody who listens just then.
pub const NOTICE_EXCHANGE: &str = "kingpost.notices";
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

    /// The queue in which a scheme's scheduler finds what people ask of it.
    pub fn instructions_queue(scheme: &str) -> String {
        format!("instructions.{scheme}")
    }

    /// The queue in which a scheme's scheduler finds how the last comparison of both books ended.
    pub fn reconcile_queue(scheme: &str) -> String {
        format!("reconcile.{scheme}")
    }

    /// The queue by which loaders of a sharded scheme count each other: each consumes it, and nothing is ever put into
    /// it. A queue's own count leaves out those that wait behind the active one of a single-active-consumer queue.
    pub fn roll_call_queue(scheme: &str) -> String {
        format!("loaders.{scheme}")
    }

    /// Every queue with the arguments that this release declares, as RabbitMQ's management API writes them.
    pub fn queues(&self) -> Vec<(String, BTreeMap<String, serde_json::Value>)> {
        let queue = |part| match part {
            Part::Queue { name, arguments } => Some((name, plain(&arguments))),
            Part::Exchange { .. } | Part::Binding { .. } => None,
        };
        self.parts().into_iter().filter_map(queue).collect()
    }

    /// Everything that has to be there, in the order in which it can be declared.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = shared();
        for scheme in &self.schemes {
            of_scheme(scheme, &mut parts);
        }
        // Last, because a user with the rights of an earlier release is refused here, and has declared all else by then.
        for scheme in &self.schemes {
            newest(&Topology::reconcile_queue(&scheme.scheme), &mut parts);
        }
        parts
    }
}

/// One thing that has to be there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Exchange { name: String, kind: ExchangeKind, arguments: FieldTable },
    Queue { name: String, arguments: FieldTable },
    Binding { queue: String, exchange: String, key: String },
}

impl Part {
    pub(crate) fn exchange(name: &str, kind: ExchangeKind) -> Self {
        Part::Exchange { name: name.to_owned(), kind, arguments: FieldTable::default() }
    }

    fn queue(name: &str, arguments: &[(&str, AMQPValue)]) -> Self {
        let mut arguments = table(arguments);
        arguments.insert("x-queue-type".into(), text("quorum"));
        Part::Queue { name: name.to_owned(), arguments }
    }

    pub(crate) fn binding(queue: &str, exchange: &str, key: &str) -> Self {
        Part::Binding { queue: queue.to_owned(), exchange: exchange.to_owned(), key: key.to_owned() }
    }

    /// `exchange`, `queue` or `binding`.
    pub(crate) const fn what(&self) -> &'static str {
        match self {
            Part::Exchange { .. } => "exchange",
            Part::Queue { .. } => "queue",
            Part::Binding { .. } => "binding",
        }
    }

    /// The name of the exchange or queue; a binding's says what is bound to what.
    pub(crate) fn name(&self) -> String {
        match self {
            Part::Exchange { name, .. } | Part::Queue { name, .. } => name.clone(),
            Part::Binding { queue, exchange, key } => format!("{queue} <- {exchange} ({key})"),
        }
    }

    /// Declares it. An error closes the channel.
    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Part::Exchange { name, kind, arguments } => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(named(name), kind.clone(), options, arguments.clone()).await
            }
            Part::Queue { name, arguments } => {
                let options = QueueDeclareOptions::durable();
                channel.queue_declare(named(name), options, arguments.clone()).await.map(|_| ())
            }
            Part::Binding { queue, exchange, key } => {
                let (queue, exchange, key) = (named(queue), named(exchange), named(key));
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await
            }
        }
    }

    /// Asks whether it is there; a binding can't be asked about. An error closes the channel.
    pub(crate) async fn look(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Part::Exchange { name, kind, .. } => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(named(name), kind.clone(), options, FieldTable::default()).await
            }
            Part::Queue { name, .. } => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(named(name), options, FieldTable::default()).await.map(|_| ())
            }
            Part::Binding { .. } => Ok(()),
        }
    }
}

/// What every scheme uses.
fn shared() -> Vec<Part> {
    let mut parts = vec![
        Part::exchange(UNROUTABLE, ExchangeKind::Fanout),
        Part::queue(UNROUTABLE, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]),
        Part::binding(UNROUTABLE, UNROUTABLE, ""),
        Part::exchange(WORK_EXCHANGE, ExchangeKind::Direct),
        Part::exchange(DEAD_EXCHANGE, ExchangeKind::Direct),
        Part::exchange(REPLY_EXCHANGE, ExchangeKind::Direct),
        Part::exchange(NOTICE_EXCHANGE, ExchangeKind::Fanout),
        Part::Exchange {
            name: RESUME_EXCHANGE.to_owned(),
            kind: ExchangeKind::Direct,
            arguments: table(&[("alternate-exchange", text(UNROUTABLE))]),
        },
    ];
    for tier in RETRY_TIERS {
        let delay = i64::try_from(tier.delay.as_millis()).unwrap_or(i64::MAX);
        let arguments = [
            ("x-message-ttl", int(delay)),
            ("x-dead-letter-exchange", text(RESUME_EXCHANGE)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        parts.push(Part::exchange(tier.queue, ExchangeKind::Fanout));
        parts.push(Part::queue(tier.queue, &arguments));
        parts.push(Part::binding(tier.queue, tier.queue, ""));
    }
    parts
}

fn of_scheme(scheme: &SchemeQueues, parts: &mut Vec<Part>) {
    for stage in StageName::ALL {
        let dead = Route::new(stage, &scheme.scheme).dead_queue();
        parts.push(Part::queue(&dead, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]));
        parts.push(Part::binding(&dead, DEAD_EXCHANGE, &dead));
        for route in Route::all(stage, &scheme.scheme, scheme.shards) {
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
            parts.push(Part::queue(&name, &arguments));
            parts.push(Part::binding(&name, WORK_EXCHANGE, &name));
            parts.push(Part::binding(&name, RESUME_EXCHANGE, &name));
        }
    }
    if scheme.shards > 1 {
        let name = Topology::roll_call_queue(&scheme.scheme);
        parts.push(Part::queue(&name, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]));
    }
    newest(&Topology::cursor_queue(&scheme.scheme), parts);
    let instructions = Topology::instructions_queue(&scheme.scheme);
    parts.push(Part::queue(&instructions, &[("x-delivery-limit", int(NO_DELIVERY_LIMIT))]));
    parts.push(Part::binding(&instructions, WORK_EXCHANGE, &instructions));
}

/// A queue that holds the newest message and no other.
fn newest(name: &str, parts: &mut Vec<Part>) {
    let arguments = [
        ("x-max-length", int(1)),
        ("x-overflow", text("drop-head")),
        ("x-delivery-limit", int(NO_DELIVERY_LIMIT)),
    ];
    parts.push(Part::queue(name, &arguments));
    parts.push(Part::binding(name, WORK_EXCHANGE, name));
}

/// Arguments as JSON; only these three kinds are ever declared.
fn plain(arguments: &FieldTable) -> BTreeMap<String, serde_json::Value> {
    let value = |value: &AMQPValue| match value {
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned().into(),
        _ => serde_json::Value::Null,
    };
    arguments.inner().iter().map(|(name, found)| (name.to_string(), value(found))).collect()
}

pub(crate) fn int(n: i64) -> AMQPValue {
    AMQPValue::LongLongInt(n)
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_bytes()))
}

pub(crate) fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

/// Scheme names are at most 40 characters, so that the name of a queue always fits.
fn named(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_default()
}

pub(crate) fn short(name: &str) -> Result<ShortString, ConnectError> {
    ShortString::try_new(name)
        .map_err(|e| ConnectError::Refused(format!("the name `{name}` is too long: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_as_the_management_api_writes_them() {
        let queues = Topology::new([("a", 1)]).queues();
        let (_, load) = queues.iter().find(|(name, _)| name == "load.a").unwrap();
        assert_eq!(load["x-single-active-consumer"], true);
        assert_eq!((&load["x-delivery-limit"], &load["x-queue-type"]), (&1_000.into(), &"quorum".into()));
        assert!(queues.iter().flat_map(|(_, arguments)| arguments.values()).all(|value| !value.is_null()));
    }

    #[test]
    fn a_binding_comes_after_what_it_binds_and_a_name_once() {
        let parts = Topology::new([("a", 1), ("b", 3)]).parts();
        let mut there = std::collections::HashSet::new();
        for part in &parts {
            match part {
                Part::Binding { queue, exchange, .. } => {
                    assert!(there.contains(&("queue", queue.clone())), "{queue}");
                    assert!(there.contains(&("exchange", exchange.clone())), "{exchange}");
                }
                part => assert!(there.insert((part.what(), part.name())), "{} twice", part.name()),
            }
        }
        for queue in [
            "load.a",
            "load.b.0",
            "load.b.2",
            "loaders.b",
            "cursor.a",
            "instructions.a",
            "reconcile.b",
            "wait.2h",
        ] {
            assert!(there.contains(&("queue", queue.to_owned())), "{queue}");
        }
        assert!(!there.contains(&("queue", "loaders.a".to_owned())), "one queue has nothing to be balanced");
    }
}
