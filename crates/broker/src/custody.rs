//! The right to act on the dead letters of one stage of one scheme, and the means to do it without losing one.
//!
//! The right is an exclusive queue on the very connection that takes letters, publishes their copies and acknowledges
//! them: a holder that lost its connection has lost the right and the means together, so that two commands never act on
//! the same letters. That is also why copies don't go through the workers' publisher, which would go on over another
//! connection and try again until a queue takes them: a person is told at once instead, and the letter stays.

use std::{collections::HashMap, fmt, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, Route, StageName, WORK_EXCHANGE};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    inspect::{QueueDepth, depth_of},
    letter::Letter,
    posting::{Destination, Posting},
    topology::short,
    walk::{Ticket, Walk},
    wire,
};

/// Copies that are published before their confirms are awaited.
const GROUP: usize = 512;
/// Bytes of them.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Silence after which no further letter is expected.
const QUIET: Duration = Duration::from_secs(2);
/// Pause between two looks whether everything is back, and how many of them.
const RETURN_PAUSE: Duration = Duration::from_millis(20);
const RETURN_LOOKS: usize = 100;

/// Why something could not be done with dead letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    /// Somebody else holds the right.
    #[error(
        "another kingpost dead command is at work on the dead letters of {stage} of {scheme}; wait for it to end \
         (one that was killed over a broken network is noticed within half a minute)"
    )]
    Taken {
        /// The stage.
        stage: StageName,
        /// The scheme.
        scheme: String,
    },
    /// There is no such dead-letter queue.
    #[error("there is no queue {0}; no worker has declared it yet, or AMQP_URL names another virtual host")]
    Missing(String),
    /// The broker can't be reached or refuses, before anything was done.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The connection ended on the way. Copies may have been published whose letters are still there.
    #[error(
        "the connection was lost while dead letters of {queue} were handled: {text}. Nothing is lost: what was not \
         acknowledged is still there, perhaps beside a copy that was published; run the same command again"
    )]
    Lost {
        /// The dead-letter queue.
        queue: String,
        /// What happened.
        text: String,
    },
}

/// Something to be published under custody.
#[derive(Clone, Debug, PartialEq)]
pub enum Parcel {
    /// Work for a queue.
    Posting(Box<Posting>),
    /// A letter for its own dead-letter queue, as it was; how an exported one comes back.
    Letter(Box<Letter>),
}

impl From<Posting> for Parcel {
    fn from(posting: Posting) -> Self {
        Parcel::Posting(Box::new(posting))
    }
}

impl From<Letter> for Parcel {
    fn from(letter: Letter) -> Self {
        Parcel::Letter(Box::new(letter))
    }
}

/// The right to act on the dead letters of one stage of one scheme, held as long as its connection lives.
pub struct Custody {
    connection: Connection,
    /// In confirm mode.
    channel: Channel,
    route: Route,
    app: ShortString,
    timeout: Duration,
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody").field("queue", &self.queue()).finish_non_exhaustive()
    }
}

impl Custody {
    /// Takes the right.
    ///
    /// # Errors
    /// [`CustodyError::Taken`] when somebody else holds it; [`CustodyError::Missing`] when there is no such queue;
    /// [`CustodyError::Connect`] when the broker can't be reached or refuses.
    pub async fn take(config: &BrokerConfig, stage: StageName, scheme: &str) -> Result<Self, CustodyError> {
        let route = Route::new(stage, scheme);
        let connection = open(config, Role::Inspect).await?;
        let take = async {
            let lock = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let options =
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
            let name = short(&format!("custody.{stage}.{scheme}"))?;
            match lock.queue_declare(name, options, FieldTable::default()).await {
                Ok(_) => {}
                Err(error) if is_locked(&error) => {
                    return Err(CustodyError::Taken { stage, scheme: scheme.to_owned() });
                }
                Err(error) => return Err(ConnectError::of(&error).into()),
            }
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let select = channel.confirm_select(ConfirmSelectOptions::default()).await;
            select.map_err(|e| ConnectError::of(&e))?;
            there(&route.dead_queue(), depth_of(&connection, &route.dead_queue()).await?)?;
            Ok(channel)
        };
        let taken = tokio::time::timeout(config.connect_timeout, take).await;
        match taken.unwrap_or_else(|_| Err(ConnectError::Absent("RabbitMQ does not answer".into()).into())) {
            Ok(channel) => {
                let app = ShortString::try_new(config.name.as_str()).unwrap_or_default();
                Ok(Custody { connection, channel, route, app, timeout: config.confirm_timeout })
            }
            Err(error) => {
                let closing = connection.close(200, "not taken".into());
                let _ = tokio::time::timeout(config.settle_timeout, closing).await;
                Err(error)
            }
        }
    }

    /// The dead-letter queue.
    pub fn queue(&self) -> String {
        self.route.dead_queue()
    }

    /// True while the connection, and with it the right, is held.
    pub fn is_held(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Begins a round over the letters that are there now, in the order of the queue; what arrives later doesn't belong to
    /// it. Letters that somebody else is browsing at this moment are out of sight until they are returned.
    ///
    /// # Errors
    /// [`CustodyError`] when the queue is gone or the broker doesn't answer.
    pub async fn round(&self) -> Result<Round<'_>, CustodyError> {
        let mark = self.depth().await? as usize;
        let walk = Walk::new(&self.connection, &self.queue(), mark, QUIET, self.timeout);
        Ok(Round { custody: self, walk })
    }

    /// How many letters are ready, those of a running round not among them.
    ///
    /// # Errors
    /// [`CustodyError`] when the queue is gone or the broker doesn't answer.
    pub async fn depth(&self) -> Result<u32, CustodyError> {
        Ok(self.look().await?.ready)
    }

    /// How many others are reading the queue; what they have in hand is out of sight. To be asked between rounds, since
    /// one of our own counts too. A reader that has just ended is counted for a moment, so it is asked a few times.
    ///
    /// # Errors
    /// [`CustodyError`] when the queue is gone or the broker doesn't answer.
    pub async fn readers(&self) -> Result<u32, CustodyError> {
        for _ in 0..RETURN_LOOKS {
            if self.look().await?.consumers == 0 {
                return Ok(0);
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
        Ok(self.look().await?.consumers)
    }

    async fn look(&self) -> Result<QueueDepth, CustodyError> {
        let queue = self.queue();
        let ask = tokio::time::timeout(self.timeout, depth_of(&self.connection, &queue)).await;
        let depth = ask.unwrap_or_else(|_| Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())));
        there(&queue, depth?)
    }

    /// Publishes and waits until everything is confirmed. For each parcel, in order: nothing when a queue has taken it,
    /// else why none did.
    ///
    /// # Errors
    /// [`CustodyError::Lost`] when the connection ends or the broker doesn't confirm in time; any of them may have been
    /// published then.
    pub async fn publish(&self, parcels: Vec<Parcel>) -> Result<Vec<Option<String>>, CustodyError> {
        let mut refusals = Vec::with_capacity(parcels.len());
        let mut parcels = parcels.into_iter().map(|parcel| self.envelope(parcel)).peekable();
        while parcels.peek().is_some() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            while group.len() < GROUP && bytes < GROUP_BYTES {
                let Some(envelope) = parcels.next() else { break };
                bytes += envelope.body.len();
                group.push(envelope);
            }
            let published = tokio::time::timeout(self.timeout, self.publish_group(group)).await;
            match published {
                Ok(Ok(fates)) => refusals.extend(fates),
                Ok(Err(error)) => return Err(self.lost(error.to_string())),
                Err(_) => {
                    let text =
                        "no confirm in time; is there a memory or disk alarm, or a queue without a leader?";
                    return Err(self.lost(text));
                }
            }
        }
        Ok(refusals)
    }

    /// Gives the right up.
    pub async fn release(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.close(200, "released".into())).await;
    }

    /// When all confirms of a group are in, so are all returns, because the broker returns before it confirms and each
    /// completed confirm takes one waiting return; whose confirm brought one says nothing.
    async fn publish_group(&self, group: Vec<Envelope>) -> lapin::Result<Vec<Option<String>>> {
        let mut confirms = FuturesOrdered::new();
        let mut addresses = Vec::with_capacity(group.len());
        for envelope in group {
            let id = envelope.properties.message_id().clone();
            addresses.push((id, envelope.routing_key.clone()));
            confirms.push_back(self.publish_one(envelope));
        }
        let mut returned: HashMap<(Option<ShortString>, ShortString), String> = HashMap::new();
        let mut nacked = Vec::with_capacity(addresses.len());
        while let Some(confirmation) = confirms.next().await {
            let confirmation = confirmation?;
            nacked.push(!confirmation.is_ack());
            if let Some(message) = confirmation.take_message() {
                let id = message.delivery.properties.message_id().clone();
                returned.insert((id, message.delivery.routing_key.clone()), message.reply_text.to_string());
            }
        }
        let fates = addresses.into_iter().zip(nacked).map(|(address, nacked)| {
            if let Some(text) = returned.get(&address) {
                Some(format!("no queue takes it ({} for `{}`)", text, address.1))
            } else {
                nacked.then(|| format!("the queue `{}` refuses it: full, or without a leader", address.1))
            }
        });
        Ok(fates.collect())
    }

    async fn publish_one(&self, envelope: Envelope) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let Envelope { exchange, routing_key, properties, body } = envelope;
        self.channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await
    }

    fn envelope(&self, parcel: Parcel) -> Envelope {
        let posting = match parcel {
            Parcel::Posting(posting) => *posting,
            Parcel::Letter(letter) => {
                return Envelope {
                    exchange: DEAD_EXCHANGE.into(),
                    routing_key: ShortString::try_new(letter.queue.as_str()).unwrap_or_default(),
                    properties: letter.properties_again(),
                    body: letter.work.body,
                };
            }
        };
        let (exchange, route, routing_key) = match posting.destination {
            Destination::Work(route) => (WORK_EXCHANGE, route.queue(), None),
            Destination::Wait(tier, route) => (tier.queue, route.queue(), None),
            Destination::Dead(route) => (DEAD_EXCHANGE, route.queue(), Some(route.dead_queue())),
            Destination::Report(queue, route) => (REPLY_EXCHANGE, route.queue(), Some(queue)),
        };
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let properties =
            wire::properties(&posting.work, &route, &self.app, now_s.map_or(0, |since| since.as_secs()));
        Envelope {
            exchange: exchange.into(),
            routing_key: ShortString::try_new(routing_key.unwrap_or(route)).unwrap_or_default(),
            properties,
            body: posting.work.body,
        }
    }

    fn lost(&self, text: impl Into<String>) -> CustodyError {
        CustodyError::Lost { queue: self.queue(), text: text.into() }
    }
}

struct Envelope {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    body: Bytes,
}

/// A letter in hand. Dropped, it stays where it is.
#[derive(Debug)]
pub struct Held {
    /// The letter.
    pub letter: Letter,
    ticket: Ticket,
}

/// What became of a letter that was to be moved.
#[derive(Debug)]
pub struct Moved {
    /// The letter.
    pub letter: Letter,
    /// Why it stayed, when no queue took its copy.
    pub refused: Option<String>,
}

/// One pass over the letters of a dead-letter queue. What is neither moved nor removed returns to its place when the
/// round is closed or its custody ends. Rounds should take minutes at most: a broker takes back what is held for half an
/// hour.
pub struct Round<'a> {
    custody: &'a Custody,
    walk: Walk<'a>,
}

impl Round<'_> {
    /// How many letters there were when it began, which is how many it shows at most.
    pub fn mark(&self) -> usize {
        self.walk.mark()
    }

    /// How many it has shown.
    pub fn seen(&self) -> usize {
        self.walk.seen()
    }

    /// The next letter; nothing after the last one that was there when the round began.
    ///
    /// # Errors
    /// [`CustodyError::Lost`] when the connection ends.
    pub async fn next(&mut self) -> Result<Option<Held>, CustodyError> {
        let next = self.walk.next().await.map_err(|error| self.custody.lost(error.to_string()))?;
        let Some((delivery, ticket)) = next else { return Ok(None) };
        let letter = Letter::read(&self.custody.queue(), delivery.properties, delivery.data.into());
        match letter {
            Some(letter) => Ok(Some(Held { letter, ticket })),
            None => Err(self.custody.lost("its name is not that of a stage and a scheme")),
        }
    }

    /// Moves letters: publishes what each becomes, waits until all is confirmed, then acknowledges those whose every copy
    /// was taken. One whose copy no queue takes stays where it is.
    ///
    /// # Errors
    /// [`CustodyError::Lost`] when the connection ends on the way; a letter may still be there beside its copy then.
    pub async fn move_to(&mut self, moves: Vec<(Held, Vec<Parcel>)>) -> Result<Vec<Moved>, CustodyError> {
        let (mut held, mut counts, mut parcels) = (Vec::new(), Vec::new(), Vec::new());
        for (letter, copies) in moves {
            held.push(letter);
            counts.push(copies.len());
            parcels.extend(copies);
        }
        #[cfg(kingpost_bugs)]
        if kingpost_settings::bug("replay-without-confirm") {
            let tickets: Vec<_> = held.iter().map(|held| held.ticket).collect();
            self.acknowledge(&tickets).await?;
        }
        let mut fates = self.custody.publish(parcels).await?.into_iter();
        let mut moved = Vec::with_capacity(held.len());
        let mut tickets = Vec::with_capacity(held.len());
        for (held, count) in held.into_iter().zip(counts) {
            let refused = fates.by_ref().take(count).fold(None, |first: Option<String>, fate| first.or(fate));
            if refused.is_none() {
                tickets.push(held.ticket);
            }
            moved.push(Moved { letter: held.letter, refused });
        }
        self.acknowledge(&tickets).await?;
        Ok(moved)
    }

    /// Takes letters out of the queue for good. Whoever calls this has kept them elsewhere.
    ///
    /// # Errors
    /// [`CustodyError::Lost`] when the connection ends on the way; any of them may still be there.
    pub async fn remove(&mut self, letters: Vec<Held>) -> Result<(), CustodyError> {
        let tickets: Vec<_> = letters.into_iter().map(|held| held.ticket).collect();
        self.acknowledge(&tickets).await
    }

    /// Leaves a letter where it is; the same as dropping it.
    pub fn leave(&self, _letter: Held) {}

    /// Ends the round. When this succeeds the broker has seen every acknowledgement, and what was left is back.
    ///
    /// # Errors
    /// [`CustodyError::Lost`] when the connection ends first; letters that were moved or removed may still be there.
    pub async fn close(self) -> Result<(), CustodyError> {
        let left = self.walk.seen() - self.walk.acked();
        self.walk.close().await.map_err(|error| self.custody.lost(error.to_string()))?;
        // The broker answers before it has put everything back, and the next round would begin with too few.
        for _ in 0..RETURN_LOOKS {
            if self.custody.depth().await? as usize >= left {
                break;
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, tickets: &[Ticket]) -> Result<(), CustodyError> {
        let custody = self.custody;
        self.walk.acknowledge(tickets).await.map_err(|error| custody.lost(error.to_string()))
    }
}

fn there(queue: &str, depth: Option<QueueDepth>) -> Result<QueueDepth, CustodyError> {
    depth.ok_or_else(|| CustodyError::Missing(queue.to_owned()))
}

fn is_locked(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e)
        if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}
