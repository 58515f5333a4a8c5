//! The right to cut windows of a scheme, and its cursor.
//!
//! The right is an exclusive queue on the very connection that publishes windows and cursor: a leader that lost its
//! connection has lost the right and the means together, so it can't write after another one took over.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use kingpost_model::{RecordKey, Route, StageName, WORK_EXCHANGE, Work, WorkId};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind,
    options::{
        BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};

use tokio::time::Instant;
use tracing::warn;

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    desk::Desk,
    inspect::{QueueDepth, depth_of},
    setup::Setup,
    topology::{Topology, short},
    wire,
};

/// How often an absent cursor is looked for again: a predecessor that died with it in hand returns it a moment later
/// than the right to lead.
const CURSOR_LOOKS: u32 = 5;
/// Pause between two looks.
const CURSOR_PAUSE: Duration = Duration::from_millis(200);
/// How long a cursor is waited for that somebody else reads: as long as the broker takes to give up on a reader that is
/// frozen (two heartbeats and a bit more).
const READER_MAX: Duration = Duration::from_secs(150);
/// The broker has given a frozen reader up after two to three heartbeats, and its message is back a moment later.
const GIVEN_UP_HEARTBEATS: u32 = 3;
const GIVEN_UP_MARGIN: Duration = Duration::from_secs(5);

/// The right to cut windows of one scheme, held as long as its connection lives.
#[derive(Debug)]
pub struct Leadership {
    connection: Connection,
    channel: Channel,
    scheme: String,
    app: ShortString,
    timeout: Duration,
    /// Where instructions are read.
    instructions: Desk,
    /// Where results of comparisons are read.
    results: Desk,
}

const NO_INSTRUCTIONS: &str =
    "instructions can't be read, so `kingpost cursor set` and `kingpost backfill` wait";
const NO_RESULTS: &str = "results of `kingpost reconcile` can't be read, so no metric shows them";

fn answerless() -> ConnectError {
    ConnectError::Absent("the broker did not answer the scheduler in time".to_owned())
}

impl Leadership {
    pub(crate) async fn acquire(
        config: &BrokerConfig,
        setup: &Arc<Setup>,
        scheme: &str,
    ) -> Result<Option<Self>, ConnectError> {
        let connection = open(config, Role::Lead).await?;
        let acquire = async {
            let lock = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let options =
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
            let name = format!("scheduler.{scheme}");
            match lock.queue_declare(short(&name)?, options, FieldTable::default()).await {
                Ok(_) => {}
                Err(error) if is_locked(&error) => return Ok(None),
                Err(error) => return Err(unlocked(&name, &error)),
            }
            setup.ensure(&connection).await?;
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let select = channel.confirm_select(ConfirmSelectOptions::default()).await;
            select.map_err(|e| ConnectError::of(&e))?;
            Ok(Some(channel))
        };
        let channel = match tokio::time::timeout(config.connect_timeout, acquire).await {
            Ok(Ok(Some(channel))) => channel,
            Ok(Ok(None)) => {
                let _ =
                    tokio::time::timeout(config.settle_timeout, connection.close(200, "standing by".into()))
                        .await;
                return Ok(None);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(answerless()),
        };
        let app = ShortString::try_new(config.name.as_str()).unwrap_or_default();
        let timeout = config.confirm_timeout;
        Ok(Some(Leadership {
            connection,
            channel,
            scheme: scheme.to_owned(),
            app,
            timeout,
            instructions: Desk::new(Topology::instructions_queue(scheme), NO_INSTRUCTIONS, false),
            results: Desk::new(Topology::reconcile_queue(scheme), NO_RESULTS, true),
        }))
    }

    /// True while the connection, and with it the right, is held.
    pub fn is_held(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// The last confirmed cursor. It is put back at once: a leader that died with it in hand would leave its successor
    /// an empty queue for a moment, and an empty queue means to begin anew. While somebody else reads it, it is waited for;
    /// who may not ask whether somebody does waits as long as a frozen reader could keep it.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer, or a reader keeps the cursor; the leadership is over then.
    pub async fn cursor(&self) -> Result<Option<Bytes>, ConnectError> {
        let name = Topology::cursor_queue(&self.scheme);
        let until = Instant::now() + READER_MAX;
        let (mut looks, mut unseen) = (0, None);
        loop {
            if let Some(cursor) = self.look(&name).await? {
                return Ok(Some(cursor));
            }
            // Asked once: each refusal costs one of the 2,047 channels of a connection.
            let depth = match unseen {
                None => self.depth(&name).await,
                Some(until) if Instant::now() >= until => return Ok(None),
                Some(_) => Ok(None),
            };
            match depth {
                Err(ConnectError::Refused(text)) => unseen = Some(self.reader_given_up(&name, &text)),
                Err(error) => return Err(error),
                Ok(_) if unseen.is_some() => {}
                Ok(Some(depth)) if depth.consumers > 0 => {
                    if Instant::now() >= until {
                        let text =
                            format!("somebody reads the queue `{name}` and doesn't give its message back");
                        return Err(ConnectError::Absent(text));
                    }
                    looks = 0;
                }
                Ok(_) if looks == CURSOR_LOOKS => return Ok(None),
                Ok(_) => looks += 1,
            }
            tokio::time::sleep(CURSOR_PAUSE).await;
        }
    }

    /// By when a reader that can't be seen has lost its message, if it is frozen; tells why it is waited for.
    fn reader_given_up(&self, queue: &str, text: &str) -> Instant {
        let wait = match self.connection.configuration().heartbeat() {
            // Then the broker gives nobody up for silence.
            0 => READER_MAX,
            heartbeat_s => Duration::from_secs(heartbeat_s.into()) * GIVEN_UP_HEARTBEATS + GIVEN_UP_MARGIN,
        };
        warn!(
            queue,
            text,
            seconds = wait.as_secs(),
            "there is no cursor, and this user may not ask whether somebody has it in hand, so it is waited for before \
             the scheme begins anew; RabbitMQ 4.2.6 and 4.3.0 refuse this question to all without configure permission, \
             later ones answer it"
        );
        Instant::now() + wait
    }

    /// One look at the message of a queue, which stays there.
    async fn look(&self, queue: &str) -> Result<Option<Bytes>, ConnectError> {
        let look = async {
            let message = self.channel.basic_get(short(queue)?, BasicGetOptions::default()).await;
            let Some(message) = message.map_err(|e| ConnectError::of(&e))? else { return Ok(None) };
            let options = BasicNackOptions { multiple: false, requeue: true };
            let back = self.channel.basic_nack(message.delivery.delivery_tag, options).await;
            back.map_err(|e| ConnectError::of(&e))?;
            Ok(Some(Bytes::from(message.delivery.data)))
        };
        tokio::time::timeout(self.timeout, look).await.map_err(|_| answerless())?
    }

    /// The next instruction of a person, if there is one. It stays in hand until [`Self::instructed`], and goes back when
    /// the connection ends before.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer; the leadership is over then.
    pub async fn instruction(&mut self) -> Result<Option<Bytes>, ConnectError> {
        let taking = self.instructions.take(&self.connection);
        tokio::time::timeout(self.timeout, taking).await.map_err(|_| answerless())?
    }

    /// Settles the instruction in hand: its answer is confirmed.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection is gone; the instruction comes again then.
    pub async fn instructed(&mut self) -> Result<(), ConnectError> {
        tokio::time::timeout(self.timeout, self.instructions.settle()).await.map_err(|_| answerless())?
    }

    /// The result of a comparison of both books, if there is a new one. It stays in hand until [`Self::noted`]. Without its
    /// queue, or the right to read it, there is none.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer; the leadership is over then.
    pub async fn result(&mut self) -> Result<Option<Bytes>, ConnectError> {
        let taking = self.results.take(&self.connection);
        tokio::time::timeout(self.timeout, taking).await.map_err(|_| answerless())?
    }

    /// Settles the result in hand: the agenda that holds it is confirmed.
    ///
    /// # Errors
    /// [`ConnectError`] when the connection is gone; the result comes again then.
    pub async fn noted(&mut self) -> Result<(), ConnectError> {
        tokio::time::timeout(self.timeout, self.results.settle()).await.map_err(|_| answerless())?
    }

    /// Publishes windows and, once every one of them is confirmed and routed, the cursor behind them.
    ///
    /// # Errors
    /// [`ConnectError`] when anything is not confirmed; the cursor has not moved then, or its fate is unknown, and
    /// the leadership has to be given up and taken again.
    pub async fn advance(&self, windows: Vec<Work>, cursor: Bytes) -> Result<(), ConnectError> {
        let key = Route::new(StageName::Extract, &self.scheme).queue();
        #[cfg(kingpost_bugs)]
        let late = kingpost_settings::bug("cursor-before-windows").then(|| windows.clone());
        #[cfg(kingpost_bugs)]
        let windows = if late.is_some() { Vec::new() } else { windows };
        self.publish(&key, windows).await?;
        let queue = Topology::cursor_queue(&self.scheme);
        let id = WorkId::new(format!("cursor-{}", self.scheme));
        let record = RecordKey::new("cursor", &*self.scheme);
        let work = Work::new(id, StageName::Extract, &*self.scheme, record, cursor);
        self.publish(&queue, vec![work]).await?;
        #[cfg(kingpost_bugs)]
        if let Some(windows) = late {
            self.publish(&key, windows).await?;
        }
        Ok(())
    }

    /// Publishes to one queue and waits until all are confirmed; any returned message fails them all.
    async fn publish(&self, queue: &str, works: Vec<Work>) -> Result<(), ConnectError> {
        let publishing = async {
            let mut confirms = futures_util::stream::FuturesOrdered::new();
            for work in works {
                confirms.push_back(self.publish_one(
                    queue,
                    wire::properties(&work, queue, &self.app, 0),
                    work.body,
                ));
            }
            while let Some(confirmation) = confirms.next().await {
                match confirmation.map_err(|e| ConnectError::of(&e))? {
                    Confirmation::Ack(None) => {}
                    Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                        return Err(ConnectError::Absent(format!("the queue `{queue}` is gone")));
                    }
                    _ => return Err(ConnectError::Absent(format!("the queue `{queue}` refused a message"))),
                }
            }
            Ok(())
        };
        tokio::time::timeout(self.timeout, publishing).await.map_err(|_| answerless())?
    }

    async fn publish_one(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: Bytes,
    ) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let key = ShortString::try_new(queue).unwrap_or_default();
        self.channel.basic_publish(WORK_EXCHANGE.into(), key, options, &body, properties).await?.await
    }

    /// What a queue holds; nothing when it isn't there.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer, or refuses to say.
    pub async fn depth(&self, queue: &str) -> Result<Option<QueueDepth>, ConnectError> {
        tokio::time::timeout(self.timeout, depth_of(&self.connection, queue))
            .await
            .map_err(|_| answerless())?
    }

    /// Gives the right up.
    pub async fn resign(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.close(200, "resigned".into())).await;
    }
}

fn is_locked(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e)
        if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}

fn unlocked(name: &str, error: &lapin::Error) -> ConnectError {
    match ConnectError::of(error) {
        ConnectError::Refused(text) => ConnectError::Refused(format!(
            "the lock `{name}`, an exclusive queue, can't be declared: {text}; give the extractor's user configure \
             permission on `^scheduler\\.`"
        )),
        absent => absent,
    }
}
