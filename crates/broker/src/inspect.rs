//! Reading without taking: depths of queues, and dead letters.

use std::time::Duration;

use futures_util::StreamExt as _;
use kingpost_model::{Failure, FailureKind, FailureRecord, Work};
use lapin::{
    Channel, Connection, ErrorKind,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    topology::short,
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

/// One dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The queue it lies in.
    pub queue: String,
    /// The message.
    pub work: Work,
    /// Why it is there; for a message that no worker judged, what the broker says.
    pub failure: FailureRecord,
}

/// Pause between two looks whether everything is back.
const RETURN_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for everything to be back.
const RETURN_MAX: Duration = Duration::from_secs(2);

/// A connection that only looks.
pub struct Inspector {
    config: BrokerConfig,
    session: tokio::sync::Mutex<Session>,
    timeout: Duration,
}

struct Session {
    connection: Connection,
    /// Kept for the next question; asking about a queue that doesn't exist closes it.
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
                Err(error) => Err(ConnectError::of(&error)),
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
    pub async fn browse(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>, ConnectError> {
        let Some(depth) = self.depth(queue).await? else { return Ok(Vec::new()) };
        let wanted = limit.min(depth.ready as usize);
        let Some(route) = wire::route_of(queue) else {
            return Err(ConnectError::Refused(format!("`{queue}` is not the queue of a stage and a scheme")));
        };
        let mut letters = Vec::with_capacity(wanted);
        if wanted == 0 {
            return Ok(letters);
        }
        let channel = self.session.lock().await.connection.create_channel().await;
        let channel = channel.map_err(|e| ConnectError::of(&e))?;
        let prefetch = u16::try_from(wanted).unwrap_or(0);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(|e| ConnectError::of(&e))?;
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(short(queue)?, "".into(), options, FieldTable::default());
        let mut consumer = consume.await.map_err(|e| ConnectError::of(&e))?;
        while letters.len() < wanted {
            // Somebody else may have taken some meanwhile: silence ends the reading as well.
            let Ok(Some(next)) = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await else {
                break;
            };
            let delivery = next.map_err(|e| ConnectError::of(&e))?;
            let work = wire::work(&route, &delivery.properties, delivery.data.into(), 0);
            let failure = match (wire::broker_reason(&delivery.properties), &work.last_failure) {
                (Some(_), _) => FailureRecord::unjudged(route.stage, 0),
                (None, Some(record)) => (**record).clone(),
                (None, None) => unexplained(&work),
            };
            letters.push(DeadLetter { queue: queue.to_owned(), work, failure });
        }
        // Closing the channel returns everything to its place, unacknowledged.
        let _ = tokio::time::timeout(self.timeout, channel.close(200, "read".into())).await;
        self.wait_returned(queue, letters.len()).await;
        Ok(letters)
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

    /// Closes the connection.
    pub async fn close(self) {
        let connection = self.session.into_inner().connection;
        let _ = tokio::time::timeout(self.timeout, connection.close(200, "read".into())).await;
    }
}

/// A dead letter whose reason this release can't read: put there by hand, or by a newer release.
fn unexplained(work: &Work) -> FailureRecord {
    let text = "no reason that this release can read; see the headers of the message";
    FailureRecord::of(&Failure::new(FailureKind::Internal, text), work, 0, "")
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e) if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}
