//! Finding out what a user may do, and which RabbitMQ it is, without leaving a trace.

use std::{fmt, time::SystemTime};

use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};
use kingpost_model::{DEAD_EXCHANGE, REPLY_EXCHANGE, RETRY_TIERS, Route, StageName, WORK_EXCHANGE};
use lapin::{
    BasicProperties, Channel, Connection, ErrorKind, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    tcp::AMQPUriTcpExt as _,
    types::{FieldTable, ShortString},
    uri::AMQPUri,
};
use secrecy::ExposeSecret as _;

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open, tls},
    inspect::is_not_found,
    journal::JOURNAL,
    topology::{NOTICE_EXCHANGE, Topology, short, table, text},
};

/// What RabbitMQ can let a user do with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Declare it.
    Configure,
    /// Publish to it, or bind it.
    Write,
    /// Consume it, or bind to it.
    Read,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Right::Configure => "configure",
            Right::Write => "write",
            Right::Read => "read",
        })
    }
}

/// Something that a stage does and its user may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// Which right.
    pub right: Right,
    /// On which name, or on which kind of names, such as `scheduler.*`.
    pub name: String,
    /// The stage works without it, only less well.
    pub dispensable: bool,
}

/// One thing that is tried, on a channel of its own.
enum Attempt {
    /// Declares an exclusive queue, which is gone with the connection.
    Claim(&'static str),
    /// Hears notices, as an extractor does: declares, binds and consumes an exclusive queue.
    Listen,
    /// Publishes in a transaction that is rolled back.
    Publish(String),
    /// Asks to consume with an argument that can't be, which RabbitMQ looks at after the right to read.
    Consume(String),
}

/// A connection that finds out what its user may do.
pub struct Examiner {
    connection: Connection,
    config: BrokerConfig,
}

impl Examiner {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn open(config: &BrokerConfig) -> Result<Self, ConnectError> {
        let connection = open(config, Role::Inspect).await?;
        Ok(Examiner { connection, config: config.clone() })
    }

    /// The user that the broker took us for.
    pub fn user(&self) -> String {
        self.connection.status().username()
    }

    /// Its virtual host.
    pub fn vhost(&self) -> String {
        self.connection.status().vhost().to_string()
    }

    /// Everything that a stage does with the broker and this user may not. Nothing is published, taken or left behind; a
    /// queue or exchange that isn't there makes no difference, since the right is looked at first.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer.
    pub async fn missing_rights(
        &self,
        stage: StageName,
        topology: &Topology,
    ) -> Result<Vec<MissingRight>, ConnectError> {
        let mut missing = Vec::new();
        let trying = async {
            for (attempt, dispensable) in attempts(stage, topology) {
                if let Some((right, name)) = self.refused(&attempt).await? {
                    missing.push(MissingRight { right, name, dispensable });
                }
            }
            Ok(())
        };
        let silent = || ConnectError::Absent("RabbitMQ stopped answering while rights were tried".to_owned());
        tokio::time::timeout(self.config.confirm_timeout, trying).await.unwrap_or_else(|_| Err(silent()))?;
        Ok(missing)
    }

    /// Closes the connection.
    pub async fn close(self) {
        let closing = self.connection.close(200, "examined".into());
        let _ = tokio::time::timeout(self.config.settle_timeout, closing).await;
    }

    /// The broker may close a channel between a publish and the next question, and the client then doesn't tell why. There are
    /// two reasons only: the right is missing, or the exchange is.
    async fn is_hidden_or_there(&self, exchange: &str) -> Result<bool, ConnectError> {
        let channel = self.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let asked = channel
            .exchange_declare(short(exchange)?, ExchangeKind::Direct, options, FieldTable::default())
            .await;
        match asked {
            Ok(()) => {
                let _ = channel.close(200, "looked".into()).await;
                Ok(true)
            }
            Err(error) if is_not_found(&error) => Ok(false),
            error => refusal(error),
        }
    }

    async fn refused(&self, attempt: &Attempt) -> Result<Option<(Right, String)>, ConnectError> {
        let channel = self.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        let tried = match attempt {
            Attempt::Claim(prefix) => {
                let asked = claim(&channel, prefix).await.map(|_| ());
                refusal(asked)?.then(|| (Right::Configure, format!("{prefix}.*")))
            }
            Attempt::Listen => listen(&channel).await?,
            Attempt::Publish(exchange) => {
                let refused = match publish(&channel, exchange).await {
                    Err(error) if matches!(error.kind(), ErrorKind::InvalidChannelState(..)) => {
                        self.is_hidden_or_there(exchange).await?
                    }
                    answer => refusal(answer)?,
                };
                refused.then(|| (Right::Write, exchange.clone()))
            }
            Attempt::Consume(queue) => {
                refusal(consume(&channel, short(queue)?).await)?.then(|| (Right::Read, queue.clone()))
            }
        };
        if channel.status().connected() {
            let _ = channel.close(200, "tried".into()).await;
        }
        Ok(tried)
    }
}

/// What a stage does, and whether it can do without.
fn attempts(stage: StageName, topology: &Topology) -> Vec<(Attempt, bool)> {
    let mut attempts = Vec::new();
    for exchange in [WORK_EXCHANGE, DEAD_EXCHANGE, REPLY_EXCHANGE] {
        attempts.push((Attempt::Publish(exchange.to_owned()), false));
    }
    attempts.extend(RETRY_TIERS.map(|tier| (Attempt::Publish(tier.queue.to_owned()), false)));
    attempts.push((Attempt::Publish(JOURNAL.to_owned()), true));
    if stage == StageName::Extract {
        attempts.push((Attempt::Claim("scheduler"), false));
        attempts.push((Attempt::Claim("prober"), true));
        attempts.push((Attempt::Listen, true));
        attempts.push((Attempt::Publish(NOTICE_EXCHANGE.to_owned()), true));
    }
    for scheme in &topology.schemes {
        let (name, mut queues) = (scheme.scheme.as_str(), Vec::new());
        queues.extend(Route::all(stage, name, scheme.shards).iter().map(Route::queue));
        match stage {
            StageName::Extract => {
                queues.extend([Topology::cursor_queue(name), Topology::instructions_queue(name)]);
            }
            StageName::Load if scheme.shards > 1 => queues.push(Topology::roll_call_queue(name)),
            StageName::Transform | StageName::Load => {}
        }
        attempts.extend(queues.into_iter().map(|queue| (Attempt::Consume(queue), false)));
    }
    attempts
}

/// Whether an answer is a refusal of the right. Every other refusal comes after the right was looked at.
fn refusal(answer: lapin::Result<()>) -> Result<bool, ConnectError> {
    let Err(error) = answer else { return Ok(false) };
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Ok(true),
            AMQPErrorKind::Soft(_) => Ok(false),
            AMQPErrorKind::Hard(_) => Err(ConnectError::of(&error)),
        },
        _ => Err(ConnectError::of(&error)),
    }
}

/// An exclusive queue of a name that no scheme, system or account can have.
async fn claim(channel: &Channel, prefix: &str) -> lapin::Result<ShortString> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = format!("{prefix}.doctor.{}.{since:x}", std::process::id());
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(queue.name().clone())
}

async fn listen(channel: &Channel) -> Result<Option<(Right, String)>, ConnectError> {
    let queue = match claim(channel, "notices").await {
        Ok(queue) => queue,
        Err(error) => {
            return Ok(refusal(Err(error))?.then(|| (Right::Configure, "notices.*".to_owned())));
        }
    };
    let bound = channel.queue_bind(
        queue.clone(),
        NOTICE_EXCHANGE.into(),
        ShortString::default(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    if refusal(bound.await)? {
        return Ok(Some((Right::Read, format!("{NOTICE_EXCHANGE}, or write on notices.*"))));
    }
    if !channel.status().connected() {
        return Ok(None);
    }
    Ok(refusal(consume(channel, queue).await)?.then(|| (Right::Read, "notices.*".to_owned())))
}

async fn publish(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    channel.tx_select().await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    // The refusal of a publish comes with whatever is asked next.
    channel.basic_publish(exchange.into(), "doctor".into(), options, b"", properties).await?;
    channel.tx_rollback().await
}

async fn consume(channel: &Channel, queue: ShortString) -> lapin::Result<()> {
    let impossible = table(&[("x-priority", text("none"))]);
    channel
        .basic_consume(queue, "doctor".into(), BasicConsumeOptions::default(), impossible)
        .await
        .map(|_| ())
}

/// The release that a broker names in its greeting, before anybody has logged in; nothing when it names none.
///
/// # Errors
/// [`ConnectError`] when nobody speaks AMQP there, or TLS fails.
pub async fn release(config: &BrokerConfig) -> Result<Option<String>, ConnectError> {
    let url = (config.url)().map_err(ConnectError::Refused)?;
    let uri: AMQPUri = url
        .expose_secret()
        .parse()
        .map_err(|error: String| ConnectError::Refused(format!("AMQP_URL is not an AMQP URL: {error}")))?;
    let (tls, runtime) =
        (tls(config).await?, lapin::runtime::default_runtime().map_err(|e| ConnectError::of(&e))?);
    let greeting = async {
        let mut stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        // A method frame of at most what a broker may send before the frame size is agreed on.
        let [1, _, _, size @ ..] = head else { return Ok(Vec::new()) };
        let size = u32::from_be_bytes(size).min(131_072);
        let mut payload = vec![0; usize::try_from(size).unwrap_or_default()];
        stream.read_exact(&mut payload).await?;
        Ok::<_, std::io::Error>(payload)
    };
    match tokio::time::timeout(config.connect_timeout, greeting).await {
        Ok(Ok(greeting)) => Ok(version_in(&greeting)),
        Ok(Err(error)) => Err(ConnectError::Absent(format!("no greeting from RabbitMQ: {error}"))),
        Err(_) => Err(ConnectError::Absent("no greeting from RabbitMQ in time".to_owned())),
    }
}

/// `version` among the server's properties: a short text as name, then `S` and a long text (AMQP 0-9-1, 4.2.5.5).
fn version_in(greeting: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\x07versionS";
    let at = greeting.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let (size, rest) = greeting.get(at..)?.split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*size)).ok()?)?;
    let text = std::str::from_utf8(text).ok()?;
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-~".contains(c));
    plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_a_greeting() {
        let greeting =
            b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x20\x07versionS\x00\x00\x00\x063.10.8\x08platformS";
        assert_eq!(version_in(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"\x07versionS\x00\x00\x00\x09x"), None);
        assert_eq!(version_in(b"HTTP/1.1 400 Bad Request"), None);
    }
}
