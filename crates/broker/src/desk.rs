//! Messages that a leader takes one at a time from a queue, each settled once what it says is kept.

use std::time::Duration;

use bytes::Bytes;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicGetOptions},
};
use tokio::time::Instant;
use tracing::warn;

use crate::{connection::ConnectError, inspect::is_not_found, setup::REMEDY, topology::short};

/// How long a queue that isn't there is not looked for again; each look costs one of the 2,047 channels of a connection.
const MISSING: Duration = Duration::from_secs(600);

/// Where one queue is read.
#[derive(Debug)]
pub(crate) struct Desk {
    queue: String,
    /// What can't be done without it, and what to do; told once.
    lack: &'static str,
    /// Leading goes on without the queue.
    optional: bool,
    state: State,
}

/// A channel of its own: a broker closes the one on which it refuses something.
#[derive(Debug)]
enum State {
    Closed,
    /// The tag of the message in hand.
    Open(Channel, Option<u64>),
    /// The user may not read the queue, as one of a release before there was one.
    Forbidden,
    /// There is no such queue; it is looked for again then.
    Missing(Instant),
}

impl Desk {
    pub(crate) const fn new(queue: String, lack: &'static str, optional: bool) -> Self {
        Desk { queue, lack, optional, state: State::Closed }
    }

    /// The next message, if there is one. It stays in hand until [`Self::settle`], and goes back when the connection ends
    /// before.
    pub(crate) async fn take(&mut self, connection: &Connection) -> Result<Option<Bytes>, ConnectError> {
        match self.state {
            State::Closed => {}
            State::Missing(until) if Instant::now() >= until => {}
            State::Forbidden | State::Missing(_) => return Ok(None),
            State::Open(..) => return self.get().await,
        }
        let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        self.state = State::Open(channel, None);
        self.get().await
    }

    async fn get(&mut self) -> Result<Option<Bytes>, ConnectError> {
        let State::Open(channel, in_hand) = &mut self.state else { return Ok(None) };
        let error = match channel.basic_get(short(&self.queue)?, BasicGetOptions::default()).await {
            Ok(None) => return Ok(None),
            Ok(Some(message)) => {
                *in_hand = Some(message.delivery.delivery_tag);
                return Ok(Some(Bytes::from(message.delivery.data)));
            }
            Err(error) => error,
        };
        let queue = self.queue.as_str();
        if self.optional && is_not_found(&error) {
            warn!(queue, "there is no such queue: {}; {REMEDY}", self.lack);
            self.state = State::Missing(Instant::now() + MISSING);
            return Ok(None);
        }
        match ConnectError::of(&error) {
            ConnectError::Refused(text) => {
                warn!(queue, text, "{}; give the extractor's user the right to read it", self.lack);
                self.state = State::Forbidden;
                Ok(None)
            }
            absent => Err(absent),
        }
    }

    /// Settles the message in hand.
    pub(crate) async fn settle(&mut self) -> Result<(), ConnectError> {
        let State::Open(channel, in_hand) = &mut self.state else { return Ok(()) };
        let Some(tag) = in_hand.take() else { return Ok(()) };
        let acked = channel.basic_ack(tag, BasicAckOptions::default()).await;
        acked.map_err(|e| ConnectError::of(&e)).map(|_| ())
    }
}
