//! Passing events on to the broker, whatever becomes of it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kingpost_model::JournalEvent;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use tracing::{info, warn};

use super::{JOURNAL, JournalKeep, Shared, queue};
use crate::connection::{Backoff, BrokerConfig, ConnectError, Role, open};

/// Events that are published before their confirms are awaited.
const GROUP: usize = 500;
/// A group of so many comes packed, since a message of its own for each would cost as much as the work itself. What is packed
/// has no number to be filtered by, and is read fast.
const PACKED_FROM: usize = 50;
/// Events in one message then.
const PACK: usize = 100;
/// How long the first event of a group waits for others; nobody waits for it meanwhile.
const LINGER: Duration = Duration::from_millis(200);
/// Pause after a refusal, which somebody may mend while we run.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Passes events on until told to stop, then what is left.
pub(super) async fn run(shared: Arc<Shared>, config: BrokerConfig, keep: JournalKeep) {
    let salt = u64::from(std::process::id()).wrapping_mul(29);
    let mut backoff = Backoff::new(config.reconnect_pause_max, salt);
    let mut pen = Pen { config, keep, session: None, told_difference: false };
    let mut trouble: Option<String> = None;
    let mut group: Vec<JournalEvent> = Vec::new();
    loop {
        if group.is_empty() {
            group = next_group(&shared).await;
        }
        if group.is_empty() {
            break;
        }
        match pen.write(&group).await {
            Ok(()) => {
                group.clear();
                shared.in_hand.store(0, Ordering::Relaxed);
                backoff.reset();
                if trouble.take().is_some() {
                    info!("the journal is written again");
                }
            }
            Err(error) => {
                pen.session = None;
                let pause = tell(&mut trouble, &error, &mut backoff);
                if shared.stop.is_cancelled() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.stop.cancelled() => {}
                }
            }
        }
    }
    pen.close().await;
}

/// Tells of trouble once as long as it stays the same, and says how long to wait.
fn tell(trouble: &mut Option<String>, error: &ConnectError, backoff: &mut Backoff) -> Duration {
    let (text, pause) = match error {
        ConnectError::Refused(text) => (text, REFUSED_PAUSE),
        ConnectError::Absent(text) => (text, backoff.next_pause()),
    };
    if trouble.is_none() || (matches!(error, ConnectError::Refused(_)) && trouble.as_ref() != Some(text)) {
        warn!(
            error = text,
            "the journal is not written, and work goes on without it; remedy: see that RabbitMQ has streams \
             (`rabbitmqctl enable_feature_flag stream_queue` where it says that they are disabled) and that the user of \
             AMQP_URL may configure, write and read `{JOURNAL}`, or set JOURNAL=off"
        );
        *trouble = Some(text.clone());
    }
    pause
}

/// The next events, as soon as there are some and a moment has passed; none when everything is passed on after a stop.
async fn next_group(shared: &Shared) -> Vec<JournalEvent> {
    while shared.buffer().is_empty() && !shared.stop.is_cancelled() {
        tokio::select! {
            () = shared.more.notified() => {}
            () = shared.stop.cancelled() => {}
        }
    }
    if shared.buffer().len() < GROUP {
        tokio::select! {
            () = tokio::time::sleep(LINGER) => {}
            () = shared.stop.cancelled() => {}
        }
    }
    let mut buffer = shared.buffer();
    let count = buffer.len().min(GROUP);
    shared.in_hand.store(count, Ordering::Relaxed);
    buffer.drain(..count).collect()
}

/// What writes, made anew after every failure.
struct Pen {
    config: BrokerConfig,
    keep: JournalKeep,
    session: Option<(Connection, Channel)>,
    told_difference: bool,
}

impl Pen {
    /// Publishes a group and waits for its confirms. After a failure any part of it may have been written, and comes again.
    async fn write(&mut self, group: &[JournalEvent]) -> Result<(), ConnectError> {
        let (_, channel) = match &mut self.session {
            Some(session) => session,
            None => {
                let limit = self.config.connect_timeout * 2;
                let silent = || ConnectError::Absent("RabbitMQ does not answer about the journal".to_owned());
                let opened =
                    tokio::time::timeout(limit, self.open()).await.unwrap_or_else(|_| Err(silent()))?;
                self.session.insert(opened)
            }
        };
        let app = ShortString::try_new(self.config.name.as_str()).unwrap_or_default();
        let publishing = publish(channel, group, &app);
        let late = || ConnectError::Absent("events of the journal were not confirmed in time".to_owned());
        tokio::time::timeout(self.config.confirm_timeout, publishing).await.unwrap_or_else(|_| Err(late()))
    }

    async fn open(&mut self) -> Result<(Connection, Channel), ConnectError> {
        let connection = open(&self.config, Role::Journal).await?;
        let timeout = self.config.confirm_timeout;
        queue::ensure(&connection, &self.keep, timeout, &mut self.told_difference).await?;
        let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|e| ConnectError::of(&e))?;
        Ok((connection, channel))
    }

    async fn close(self) {
        if let Some((connection, _)) = self.session {
            let closing = connection.close(200, "written".into());
            let _ = tokio::time::timeout(self.config.settle_timeout, closing).await;
        }
    }
}

async fn publish(channel: &Channel, group: &[JournalEvent], app: &ShortString) -> Result<(), ConnectError> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut confirms = Vec::with_capacity(group.len());
    for (body, number) in messages(group) {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_app_id(app.clone())
            .with_timestamp(now_s);
        let properties = match number {
            Some(number) => {
                let mut headers = FieldTable::default();
                let number = AMQPValue::LongString(LongString::from(number));
                headers.insert("x-stream-filter-value".into(), number);
                properties.with_headers(headers)
            }
            None => properties,
        };
        let published = channel.basic_publish(JOURNAL.into(), "".into(), options, &body, properties).await;
        confirms.push(published.map_err(|e| ConnectError::of(&e))?);
    }
    for confirm in confirms {
        match confirm.await.map_err(|e| ConnectError::of(&e))? {
            Confirmation::Ack(None) => {}
            _ => {
                return Err(ConnectError::Absent(format!(
                    "the stream `{JOURNAL}` is not there or takes nothing"
                )));
            }
        }
    }
    Ok(())
}

/// The messages of a group, each with the number that it can be filtered by. An event is made of texts and numbers alone,
/// so it can always be written.
fn messages(group: &[JournalEvent]) -> Vec<(Vec<u8>, Option<&str>)> {
    if group.len() >= PACKED_FROM {
        return group.chunks(PACK).map(|pack| (serde_json::to_vec(pack).unwrap_or_default(), None)).collect();
    }
    let alone = |event: &JournalEvent| serde_json::to_vec(event).unwrap_or_default();
    group.iter().map(|event| (alone(event), Some(event.number.as_str()))).collect()
}
