//! One connection: how it is opened, named, and how its end is told apart.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kingpost_model::Route;
use lapin::{
    Connect as _, Connection, ConnectionProperties, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Death of a silent broker is seen after two of these; the server's own default would need two minutes.
const HEARTBEAT_S: u16 = 10;
/// Two buffers of 32 frames are held per connection, so the frame size decides the memory of an idle worker; it
/// must still hold a header with two failure records.
const FRAME_MAX_BYTES: u32 = 65_536;

/// Where the URL comes from; asked again for every connection, so that a rotated password is picked up.
pub type UrlSource = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// How to reach the broker, and our own deadlines.
#[derive(Clone)]
pub struct BrokerConfig {
    /// The AMQP URL.
    pub url: UrlSource,
    /// PEM file of a certificate authority to trust besides the platform's.
    pub ca_file: Option<PathBuf>,
    /// Name shown in the broker's list of connections, such as `kingpost-loader/0.1.0`.
    pub name: String,
    /// Opening a connection, TCP and AMQP together.
    pub connect_timeout: Duration,
    /// The oldest unconfirmed publish; past it the session is rebuilt. The client library has no time-out.
    pub confirm_timeout: Duration,
    /// Writing acknowledgements, cancelling, closing.
    pub settle_timeout: Duration,
    /// A blocked publishing connection is rebuilt after this long, in case the broker died while blocking.
    pub blocked_timeout: Duration,
    /// Longest pause between two attempts to connect.
    pub reconnect_pause_max: Duration,
    /// How often the loaders of a sharded scheme are counted; up to a quarter more, so that they don't in step.
    pub roll_call_pause: Duration,
    /// The last attempt ended by our own deadline. The client can't abandon a handshake, it leaks a thread and a
    /// socket, so a silent broker is probed with a plain socket before it is tried again.
    silent: Arc<AtomicBool>,
}

impl BrokerConfig {
    /// A configuration with the usual deadlines.
    pub fn new(url: UrlSource, name: impl Into<String>) -> Self {
        BrokerConfig {
            url,
            ca_file: None,
            name: name.into(),
            connect_timeout: Duration::from_secs(15),
            confirm_timeout: Duration::from_secs(30),
            settle_timeout: Duration::from_secs(10),
            blocked_timeout: Duration::from_secs(300),
            reconnect_pause_max: Duration::from_secs(10),
            roll_call_pause: Duration::from_secs(1),
            silent: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A configuration for a fixed URL.
    pub fn for_url(url: impl Into<String>, name: impl Into<String>) -> Self {
        let url = SecretString::from(url.into());
        Self::new(Arc::new(move || Ok(url.clone())), name)
    }

    /// Host, port and virtual host, without who comes and with which password.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] when the URL can't be had or is none.
    pub fn place(&self) -> Result<String, ConnectError> {
        let url = (self.url)().map_err(ConnectError::Refused)?;
        let uri: AMQPUri = url
            .expose_secret()
            .parse()
            .map_err(|error| ConnectError::Refused(format!("AMQP_URL is no AMQP address: {error}")))?;
        let AMQPUri { authority, vhost, .. } = uri;
        Ok(format!("{}:{}, virtual host {vhost}", authority.host, authority.port))
    }
}

impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerConfig").field("url", &"***").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Publishing with confirms.
    Publish,
    /// Consuming and acknowledging.
    Consume,
    /// Cutting windows and moving a cursor.
    Lead,
    /// Reading depths and browsing.
    Inspect,
    /// Telling and hearing notices.
    Notice,
    /// Holding a lock.
    Lock,
    /// Writing the journal.
    Journal,
}

impl Role {
    /// The word used in connection names, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Consume => "consume",
            Role::Lead => "lead",
            Role::Inspect => "inspect",
            Role::Notice => "notice",
            Role::Lock => "lock",
            Role::Journal => "journal",
        }
    }
}

/// Told of what happens between this crate and the broker, for metrics and health.
pub trait Observer: Send + Sync + 'static {
    /// A session is up (true) or gone (false).
    fn connected(&self, _role: Role, _up: bool) {}
    /// A session ended and will be rebuilt; the reason is one of few words.
    fn rebuilt(&self, _role: Role, _reason: &'static str) {}
    /// The broker blocks (true) or unblocks (false) the publishing connection.
    fn blocked(&self, _blocked: bool) {}
    /// A group of messages was confirmed and routed.
    fn published(&self, _messages: usize, _seconds: f64) {}
    /// A message was returned because no queue takes it.
    fn unroutable(&self, _queue: &str) {}
    /// A message was refused by its queue.
    fn nacked(&self, _queue: &str) {}
    /// Messages of unknown fate were published again.
    fn republished(&self, _messages: usize) {}
    /// Acknowledgements were lost with their session; the messages come again.
    fn acks_lost(&self, _messages: usize) {}
    /// A queue delivers to us (true), which of a single-active-consumer queue means that we are the active one; or it
    /// was given up, or its session ended (false).
    fn active(&self, _route: &Route, _active: bool) {}
    /// Events of the journal were given up, because the broker did not take them in time.
    fn journal_dropped(&self, _events: usize) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Why a connection could not be opened, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The broker answered, and the answer will not change by waiting.
    #[error("{0}")]
    Refused(String),
    /// The broker is not there, or not ready; waiting helps.
    #[error("{0}")]
    Absent(String),
}

impl ConnectError {
    /// Sorts a client error by whether waiting helps.
    pub(crate) fn of(error: &lapin::Error) -> Self {
        let text = error.to_string();
        let refused = match error.kind() {
            ErrorKind::ProtocolError(e) => match e.kind() {
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => !text.contains("is down"),
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED) => true,
                _ => false,
            },
            ErrorKind::InvalidProtocolVersion(_) => true,
            _ => false,
        };
        if refused { ConnectError::Refused(text) } else { ConnectError::Absent(text) }
    }
}

/// Opens a connection for a role.
pub(crate) async fn open(config: &BrokerConfig, role: Role) -> Result<Connection, ConnectError> {
    let url = (config.url)().map_err(ConnectError::Refused)?;
    let mut uri: AMQPUri = url
        .expose_secret()
        .parse()
        .map_err(|e: String| ConnectError::Refused(format!("AMQP_URL is not an AMQP URL: {e}")))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.frame_max.get_or_insert(FRAME_MAX_BYTES);
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    if config.silent.load(Ordering::Relaxed) {
        probe(&uri, config.connect_timeout).await?;
        config.silent.store(false, Ordering::Relaxed);
    }
    let tls = tls(config).await?;
    let runtime = lapin::runtime::default_runtime().map_err(|e| ConnectError::of(&e))?;
    let name = format!("{} {}", config.name, role.as_str());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = uri.connect_with_config(properties, tls, runtime);
    match tokio::time::timeout(config.connect_timeout, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match ConnectError::of(&error) {
            ConnectError::Refused(text) => {
                ConnectError::Refused(format!("RabbitMQ at {place} refuses us: {text}"))
            }
            ConnectError::Absent(text) => {
                ConnectError::Absent(format!("RabbitMQ at {place} can't be reached: {text}"))
            }
        }),
        Err(_) => {
            config.silent.store(true, Ordering::Relaxed);
            let seconds = config.connect_timeout.as_secs();
            Err(ConnectError::Absent(format!("RabbitMQ at {place} did not answer within {seconds} s")))
        }
    }
}

/// What is trusted besides the platform's authorities.
pub(crate) async fn tls(config: &BrokerConfig) -> Result<OwnedTLSConfig, ConnectError> {
    let Some(path) = &config.ca_file else { return Ok(OwnedTLSConfig::default()) };
    let chain = tokio::fs::read_to_string(path)
        .await
        .map_err(|e| ConnectError::Refused(format!("AMQP_CA_FILE {} can't be read: {e}", path.display())))?;
    Ok(OwnedTLSConfig { identity: None, cert_chain: Some(chain) })
}

/// Asks whether anybody answers at all: over AMQP the server speaks first once it has seen the protocol header.
async fn probe(uri: &AMQPUri, deadline: Duration) -> Result<(), ConnectError> {
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    let plain = uri.scheme == AMQPScheme::AMQP;
    let ask = async {
        let mut socket = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
        if plain {
            socket.write_all(b"AMQP\x00\x00\x09\x01").await?;
            let mut first = [0_u8; 1];
            socket.read_exact(&mut first).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(deadline, ask).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ConnectError::Absent(format!("RabbitMQ at {place} can't be reached: {error}"))),
        Err(_) => Err(ConnectError::Absent(format!("RabbitMQ at {place} still doesn't answer"))),
    }
}

/// Pauses between attempts: doubling from 100 ms to the maximum, each drawn from the upper half of its step so
/// that a fleet doesn't come back in step.
pub(crate) struct Backoff {
    step: Duration,
    max: Duration,
    salt: u64,
}

impl Backoff {
    pub(crate) fn new(max: Duration, salt: u64) -> Self {
        Backoff { step: Duration::from_millis(100), max, salt: salt | 1 }
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        // xorshift: the spread needs no quality, only difference between processes.
        self.salt ^= self.salt << 13;
        self.salt ^= self.salt >> 7;
        self.salt ^= self.salt << 17;
        let half = self.step / 2;
        let pause = half + half.mul_f64((self.salt % 1_000) as f64 / 1_000.0);
        self.step = (self.step * 2).min(self.max);
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.step = Duration::from_millis(100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_maximum_and_never_stop() {
        let mut backoff = Backoff::new(Duration::from_secs(10), 7);
        let pauses: Vec<_> = (0..50).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] < Duration::from_millis(101));
        assert!(pauses[20..].iter().all(|p| *p >= Duration::from_secs(5) && *p <= Duration::from_secs(10)));
        backoff.reset();
        assert!(backoff.next_pause() < Duration::from_millis(101));
    }

    #[test]
    fn a_place_is_told_without_user_and_password() {
        let config = BrokerConfig::for_url("amqps://ops:secret@mq.example:5671/%2fkp", "test");
        assert_eq!(config.place(), Ok("mq.example:5671, virtual host /kp".to_owned()));
        assert!(BrokerConfig::for_url("http://mq", "test").place().is_err());
    }

    #[test]
    fn the_url_never_shows_in_debug() {
        let config = BrokerConfig::for_url("amqp://user:marker-7f3a@host/%2f", "test");
        assert!(!format!("{config:?}").contains("marker-7f3a"));
    }
}
