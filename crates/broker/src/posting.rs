//! What is published, and where to.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, Route, Tier, WORK_EXCHANGE, Work};
use lapin::{BasicProperties, types::ShortString};

use crate::wire;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The work queue of a route.
    Work(Route),
    /// A retry tier, to come back to the work queue of a route.
    Wait(Tier, Route),
    /// The dead-letter queue of a route.
    Dead(Route),
    /// A queue that asked for a report on work of a route. A report that no queue takes, or that is refused, is dropped: it
    /// must never hold back the work.
    Report(String, Route),
}

/// One message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Where it goes.
    pub destination: Destination,
    /// What it is.
    pub work: Work,
}

/// A message as it is published.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl Envelope {
    pub(crate) fn of(posting: Posting, app: &ShortString) -> Self {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (exchange, route, routing_key) = match posting.destination {
            Destination::Work(route) => (WORK_EXCHANGE, route.queue(), None),
            Destination::Wait(tier, route) => (tier.queue, route.queue(), None),
            Destination::Dead(route) => (DEAD_EXCHANGE, route.queue(), Some(route.dead_queue())),
            Destination::Report(queue, route) => (REPLY_EXCHANGE, route.queue(), Some(queue)),
        };
        let properties = wire::properties(&posting.work, &route, app, now_s);
        let routing_key = routing_key.unwrap_or(route);
        Envelope {
            exchange: exchange.into(),
            // Scheme names are at most 40 characters, so a queue name always fits; the name of a reply queue came as one.
            routing_key: ShortString::try_new(routing_key).unwrap_or_default(),
            properties,
            body: posting.work.body,
        }
    }

    /// Nobody waits for it.
    pub(crate) fn is_report(&self) -> bool {
        self.exchange.as_str() == REPLY_EXCHANGE
    }
}
