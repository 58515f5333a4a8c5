//! Reading without taking: depths of queues, and dead letters.

use std::{ops::ControlFlow, time::Duration};

use bytes::Bytes;
use lapin::{
    Channel, Connection, ErrorKind,
    options::QueueDeclareOptions,
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    letter::Letter,
    topology::short,
    walk::Walk,
    wire,
};

/// What a queue holds, without the messages that a consumer has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages ready for delivery.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// How much of a queue was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The queue is there.
    pub there: bool,
    /// Letters that were read.
    pub read: usize,
    /// Letters that it held when the reading began.
    pub held: usize,
    /// Others that were reading it, and may have had letters in hand that nobody else sees.
    pub readers: u32,
}

/// Silence after which no further letter is expected.
const QUIET: Duration = Duration::from_secs(2);
/// Pause between two looks whether everything is back.
pub(crate) const RETURN_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for everything to be back.
pub(crate) const RETURN_MAX: Duration = Duration::from_secs(2);

/// A connection that only looks.
pub struct Inspector {
    config: BrokerConfig,
    session: tokio::sync::Mutex<Session>,
    timeout: Duration,
}

struct Session {
    connection: Connection,
    /// Kept for the next question; asking about a queue that doesn't exist, or that this user may not see, closes it.
    channel: Option<Channel>,
    broken: usize,
}

/// The client keeps the number of a channel that the server closed, and there are 2,047 of them.
const BROKEN_CHANNELS_MAX: usize = 500;

impl Inspector {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn open(config: &BrokerConfig) -> Result<Self, ConnectError> {
        let connection = open(config, Role::Inspect).await?;
        let session = tokio::sync::Mutex::new(Session { connection, channel: None, broken: 0 });
        Ok(Inspector { config: config.clone(), session, timeout: config.confirm_timeout })
    }

    /// The depth of a queue; nothing when there is no such queue.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer or refuses.
    pub async fn depth(&self, queue: &str) -> Result<Option<QueueDepth>, ConnectError> {
        let ask = async {
            let mut session = self.session.lock().await;
            if session.broken > BROKEN_CHANNELS_MAX || !session.connection.status().connected() {
                let connection = open(&self.config, Role::Inspect).await?;
                *session = Session { connection, channel: None, broken: 0 };
            }
            let channel = match session.channel.take() {
                Some(channel) => channel,
                None => session.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?,
            };
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            match channel.queue_declare(short(queue)?, options, FieldTable::default()).await {
                Ok(queue) => {
                    session.channel = Some(channel);
                    Ok(Some(QueueDepth { ready: queue.message_count(), consumers: queue.consumer_count() }))
                }
                Err(error) if is_not_found(&error) => {
                    session.broken += 1;
                    Ok(None)
                }
                Err(error) => {
                    session.broken += 1;
                    Err(ConnectError::of(&error))
                }
            }
        };
        tokio::time::timeout(self.timeout, ask)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Absent(format!("no answer about the queue `{queue}`"))))
    }

    /// Reads up to `limit` dead letters of a queue and puts them back in their places.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer or refuses.
    pub async fn browse(&self, queue: &str, limit: usize) -> Result<Vec<Letter>, ConnectError> {
        let mut letters = Vec::new();
        let keep = |letter| {
            letters.push(letter);
            ControlFlow::Continue(())
        };
        self.scan(queue, limit, keep).await?;
        Ok(letters)
    }

    /// Hands the first `limit` letters of a dead-letter queue to `each`, one by one in the order of the queue, until it
    /// breaks off; then all of them return. Memory doesn't grow with the number of letters, and no counter moves that
    /// anything goes by: dead-letter queues have a delivery limit that is never reached. A queue that is read whole keeps
    /// its order; of one that is read in part, what was read stands behind what had been returned before.
    ///
    /// # Errors
    /// [`ConnectError`] when the queue is no dead-letter queue, or the broker doesn't answer or refuses.
    pub async fn scan(
        &self,
        queue: &str,
        limit: usize,
        mut each: impl FnMut(Letter) -> ControlFlow<()>,
    ) -> Result<Scanned, ConnectError> {
        let Some(depth) = self.depth_without_readers(queue).await? else { return Ok(Scanned::default()) };
        if wire::route_of(queue).is_none() {
            return Err(ConnectError::Refused(format!("`{queue}` is not the queue of a stage and a scheme")));
        }
        let held = depth.ready as usize;
        // On a connection of its own: depths can be asked meanwhile, and nothing of it stays behind on an error.
        let connection = open(&self.config, Role::Inspect).await?;
        let mut walk = Walk::new(&connection, queue, limit.min(held), QUIET, self.timeout);
        while let Some((delivery, _)) = walk.next().await? {
            let letter = Letter::read(queue, delivery.properties, delivery.data.into());
            if letter.is_some_and(|letter| each(letter).is_break()) {
                break;
            }
        }
        let read = walk.seen();
        walk.close().await?;
        let _ = tokio::time::timeout(self.timeout, connection.close(200, "read".into())).await;
        self.wait_returned(queue, read).await;
        Ok(Scanned { there: true, read, held, readers: depth.consumers })
    }

    /// The depth, once nobody else reads: a reader that has just ended is counted for a moment. One that stays is told.
    async fn depth_without_readers(&self, queue: &str) -> Result<Option<QueueDepth>, ConnectError> {
        let until = tokio::time::Instant::now() + RETURN_MAX;
        loop {
            let depth = self.depth(queue).await?;
            if depth.is_none_or(|depth| depth.consumers == 0) || tokio::time::Instant::now() >= until {
                return Ok(depth);
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
    }

    /// The broker answers a close before it has put everything back; whoever looks meanwhile would see too few.
    async fn wait_returned(&self, queue: &str, count: usize) {
        let returned = async {
            loop {
                match self.depth(queue).await {
                    Ok(Some(depth)) if (depth.ready as usize) < count => {
                        tokio::time::sleep(RETURN_PAUSE).await
                    }
                    _ => break,
                }
            }
        };
        // Somebody else may have taken some: then it is only a short wait.
        let _ = tokio::time::timeout(RETURN_MAX, returned).await;
    }

    /// The one message of a queue of length one, which stays there; nothing when it has none, or isn't there. Whoever leads
    /// sees that it is read, and waits.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer or refuses, or others have the message in hand.
    pub async fn peek(&self, queue: &str) -> Result<Option<Bytes>, ConnectError> {
        Ok(self.peek_signed(queue).await?.map(|(body, _)| body))
    }

    /// The same, with the program and release that wrote it, if it says so.
    ///
    /// # Errors
    /// As of [`Self::peek`].
    pub async fn peek_signed(&self, queue: &str) -> Result<Option<(Bytes, Option<String>)>, ConnectError> {
        let until = tokio::time::Instant::now() + RETURN_MAX;
        loop {
            match self.depth(queue).await? {
                None => return Ok(None),
                Some(depth) if depth.ready > 0 => {
                    let connection = open(&self.config, Role::Inspect).await?;
                    let mut walk = Walk::new(&connection, queue, 1, RETURN_MAX, self.timeout);
                    let body = walk.next().await?.map(|(delivery, _)| {
                        let writer = delivery.properties.app_id().as_ref().map(ToString::to_string);
                        (Bytes::from(delivery.data), writer)
                    });
                    walk.close().await?;
                    let _ = tokio::time::timeout(self.timeout, connection.close(200, "read".into())).await;
                    self.wait_returned(queue, usize::from(body.is_some())).await;
                    if body.is_some() {
                        return Ok(body);
                    }
                }
                Some(_) => {}
            }
            // The leader replaces it, or another reader has it for a moment.
            if tokio::time::Instant::now() >= until {
                return match self.depth(queue).await? {
                    Some(depth) if depth.consumers > 0 => Err(ConnectError::Absent(format!(
                        "somebody else reads the queue `{queue}`; try again"
                    ))),
                    _ => Ok(None),
                };
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        let connection = self.session.into_inner().connection;
        let _ = tokio::time::timeout(self.timeout, connection.close(200, "read".into())).await;
    }
}

/// How many messages of a queue are ready, nothing when there is none; asked on a channel of its own, because a missing
/// queue ends the channel.
pub(crate) async fn ready(connection: &Connection, queue: &str) -> Result<Option<u32>, ConnectError> {
    Ok(depth_of(connection, queue).await?.map(|depth| depth.ready))
}

/// The same with the number of consumers.
pub(crate) async fn depth_of(
    connection: &Connection,
    queue: &str,
) -> Result<Option<QueueDepth>, ConnectError> {
    let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(short(queue)?, options, FieldTable::default()).await {
        Ok(found) => {
            let _ = channel.close(200, "asked".into()).await;
            Ok(Some(QueueDepth { ready: found.message_count(), consumers: found.consumer_count() }))
        }
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(ConnectError::of(&error)),
    }
}

pub(crate) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e) if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
