//! A TCP proxy that fails on demand: latency, stall, black hole, reset, small slices and narrow bandwidth.
//!
//! The kernel here has no `tc netem`, and what it could do would need root; a program in between does the same to the
//! two ends of a connection, and can be switched between two bytes of a frame. It copies bytes and understands none.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Bytes taken from a socket at once.
const READ: usize = 16 * 1024;
/// Reads kept per direction while it stalls or is late; then the kernel's buffers fill, as on a real network.
const KEPT: usize = 256;
/// No limit on the bytes until a cut.
const NO_CUT: i64 = i64::MAX;

/// A direction of the bytes, seen from the program that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the one that connected to the one that listens: publishes, acknowledgements, HTTP requests.
    ToServer,
    /// Back: deliveries, publisher confirms, HTTP answers.
    ToClient,
}

impl Way {
    /// Both directions.
    pub const BOTH: [Way; 2] = [Way::ToServer, Way::ToClient];
}

/// What becomes of new connections. Those that are open already are not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// They are passed on.
    #[default]
    Pass,
    /// They are accepted and reset at once.
    Reset,
    /// They are accepted and nothing is heard of them until this changes; then they are passed on.
    Hole,
}

/// What a proxy has seen since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted, including those that were reset at once.
    pub accepted: u64,
    /// Connections open now, including those in a hole.
    pub open: u64,
    /// Connections that were reset by the proxy.
    pub reset: u64,
    /// Bytes written to the server.
    pub to_server: u64,
    /// Bytes written to the client.
    pub to_client: u64,
}

/// How one direction behaves.
#[derive(Clone, Copy, Debug, Default)]
struct Behaviour {
    latency: Duration,
    jitter: Duration,
    stalled: bool,
    slice: Option<usize>,
    bytes_per_second: Option<u64>,
}

impl Behaviour {
    fn is_late(&self) -> bool {
        self.latency + self.jitter > Duration::ZERO
    }
}

/// A proxy on a free port of 127.0.0.1. All of it can be switched while connections are open; dropping it resets them.
///
/// ```no_run
/// # async fn example(broker: &e2e::lab::PrivateBroker) -> anyhow::Result<()> {
/// use std::time::Duration;
/// use e2e::lab::{Proxy, Way};
///
/// let proxy = Proxy::start(format!("127.0.0.1:{}", broker.amqp_port())).await?;
/// let amqp_url = format!("amqp://guest:guest@{}/%2f", proxy.address());
/// proxy.stall(Way::ToClient);      // the broker still hears us; its confirms wait
/// proxy.reset();                   // every connection ends with a TCP reset
/// proxy.heal();
/// # Ok(())
/// # }
/// ```
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    to_server: Lane,
    to_client: Lane,
    welcome: watch::Sender<Welcome>,
    /// Counts resets of everything; a connection ends when it changes.
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
    open: AtomicU64,
    reset: AtomicU64,
}

/// One direction of all connections.
struct Lane {
    behaviour: watch::Sender<Behaviour>,
    bytes: AtomicU64,
    /// Bytes that may still pass before the connection that carries them is cut.
    left: AtomicI64,
    /// Steps of the generator for jitter and slices.
    rolls: AtomicU64,
}

impl Proxy {
    /// Starts a proxy before `upstream`, a `HOST:PORT`. The server may come and go; it is looked for at each connection,
    /// and where it doesn't listen the client's connection is reset.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(upstream: impl Into<String>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port on 127.0.0.1")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            to_server: Lane::new(),
            to_client: Lane::new(),
            welcome: watch::Sender::new(Welcome::Pass),
            resets: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            reset: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// `127.0.0.1:PORT`, to connect to instead of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets bytes of a direction arrive later by `latency` plus a random part of `jitter`; their order is kept.
    pub fn delay(&self, way: Way, latency: Duration, jitter: Duration) {
        self.change(way, |behaviour| (behaviour.latency, behaviour.jitter) = (latency, jitter));
    }

    /// Holds back a direction: bytes are kept, the connections stay open, also when one of their ends is gone.
    pub fn stall(&self, way: Way) {
        self.change(way, |behaviour| behaviour.stalled = true);
    }

    /// Lets a stalled direction go on with what was kept.
    pub fn flow(&self, way: Way) {
        self.change(way, |behaviour| behaviour.stalled = false);
    }

    /// Writes a direction in pieces of 1 to `most` bytes, each on its own.
    pub fn slice(&self, way: Way, most: usize) {
        self.change(way, |behaviour| behaviour.slice = Some(most.max(1)));
    }

    /// Lets so many bytes per second pass in a direction, on each connection.
    pub fn narrow(&self, way: Way, bytes_per_second: u64) {
        self.change(way, |behaviour| behaviour.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Decides what becomes of new connections.
    pub fn welcome(&self, welcome: Welcome) {
        self.shared.welcome.send_replace(welcome);
    }

    /// Ends every open connection with a TCP reset to both sides; bytes that were kept are gone.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Lets so many more bytes pass in a direction, then resets the connection that carries the next one; once.
    pub fn cut_after(&self, way: Way, bytes: u32) {
        self.shared.lane(way).left.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// Whether no cut is waiting in a direction: none was asked for, or it has been made.
    pub fn is_cut(&self, way: Way) -> bool {
        self.shared.lane(way).left.load(Ordering::SeqCst) == NO_CUT
    }

    /// Ends all that was asked for: everything passes at once again, kept bytes and connections first.
    pub fn heal(&self) {
        for way in Way::BOTH {
            self.shared.lane(way).left.store(NO_CUT, Ordering::SeqCst);
            self.change(way, |behaviour| *behaviour = Behaviour::default());
        }
        self.welcome(Welcome::Pass);
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        let shared = &self.shared;
        Traffic {
            accepted: shared.accepted.load(Ordering::Relaxed),
            open: shared.open.load(Ordering::Relaxed),
            reset: shared.reset.load(Ordering::Relaxed),
            to_server: shared.to_server.bytes.load(Ordering::Relaxed),
            to_client: shared.to_client.bytes.load(Ordering::Relaxed),
        }
    }

    fn change(&self, way: Way, change: impl FnOnce(&mut Behaviour)) {
        self.shared.lane(way).behaviour.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }
}

impl Lane {
    fn new() -> Self {
        Lane {
            behaviour: watch::Sender::new(Behaviour::default()),
            bytes: AtomicU64::new(0),
            left: AtomicI64::new(NO_CUT),
            rolls: AtomicU64::new(0),
        }
    }

    /// Waits until nothing is held back.
    async fn flows(&self) {
        // The sender lives as long as this lane, so the wait can't fail.
        let _ = self.behaviour.subscribe().wait_for(|behaviour| !behaviour.stalled).await;
    }

    /// Waits until `due`, or until the direction is no longer as `slow` says.
    async fn until(&self, due: Instant, slow: impl Fn(&Behaviour) -> bool) {
        let mut behaviour = self.behaviour.subscribe();
        let _ = tokio::time::timeout_at(due, behaviour.wait_for(|behaviour| !slow(behaviour))).await;
    }

    /// The next of a fixed row of numbers that look random (SplitMix64).
    fn roll(&self) -> u64 {
        let step = self.rolls.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut mixed = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// How late bytes that are here now are to be.
    fn lateness(&self) -> Duration {
        let Behaviour { latency, jitter, .. } = *self.behaviour.borrow();
        let most = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX - 1);
        latency + Duration::from_micros(self.roll() % (most + 1))
    }

    /// How many of the next bytes may be written at once; none when the cut is reached.
    fn allowed(&self, waiting: usize) -> usize {
        let Behaviour { slice, bytes_per_second, .. } = *self.behaviour.borrow();
        let slice = slice.map_or(waiting, |most| {
            let most = most.min(waiting) as u64;
            usize::try_from(self.roll() % most + 1).unwrap_or(1)
        });
        // A twentieth of a second at once, so that a narrow way is narrow for small writes too.
        let burst =
            bytes_per_second.map_or(waiting, |rate| usize::try_from(rate / 20 + 1).unwrap_or(waiting));
        let slice = slice.min(burst);
        let left = self.left.load(Ordering::SeqCst);
        slice.min(usize::try_from(left.max(0)).unwrap_or(usize::MAX))
    }

    /// Notes written bytes and waits as the bandwidth asks.
    async fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let spent = i64::try_from(bytes).unwrap_or(NO_CUT);
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left != NO_CUT).then(|| left.saturating_sub(spent))
        });
        let rate = self.behaviour.borrow().bytes_per_second;
        if let Some(rate) = rate {
            let due = Instant::now() + Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.until(due, |behaviour| behaviour.bytes_per_second.is_some()).await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the proxy, which ends the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => { connections.spawn(serve(client, Arc::clone(&shared))); }
                // Too many open files, for instance: the next one may succeed.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Counts a connection while it lives, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    shared.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(Arc::clone(&shared));
    // Armed until the connection ends in good order, so that dropping it, whenever that is, is a reset.
    let _ = client.set_zero_linger();
    let mut resets = shared.resets.subscribe();
    let mut server = None;
    let ended = tokio::select! {
        ended = relay(&mut client, &mut server, &shared) => ended,
        _ = resets.changed() => Err(io::Error::from(ErrorKind::ConnectionReset)),
    };
    match ended {
        Ok(()) => {
            let _ = linger(&client);
            let _ = server.as_ref().map(linger);
        }
        Err(_) => {
            shared.reset.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes back the reset on close.
#[expect(deprecated, reason = "a linger of its own could block in close; no linger can't")]
fn linger(stream: &TcpStream) -> io::Result<()> {
    stream.set_linger(None)
}

/// Copies both ways until both have ended; an error means that the connection is to be reset.
async fn relay(client: &mut TcpStream, server: &mut Option<TcpStream>, shared: &Shared) -> io::Result<()> {
    let mut welcome = shared.welcome.subscribe();
    // The sender lives in `shared`, so the wait can't fail.
    let decided = welcome.wait_for(|welcome| *welcome != Welcome::Hole).await.map(|welcome| *welcome);
    if decided.is_ok_and(|welcome| welcome == Welcome::Reset) {
        return Err(ErrorKind::ConnectionReset.into());
    }
    let server = server.insert(TcpStream::connect(&shared.upstream).await?);
    server.set_zero_linger()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, &shared.to_server, &shared.to_client),
        pump(from_server, to_client, &shared.to_client, &shared.to_server),
    )?;
    Ok(())
}

/// What was read, and when it is due; an error is passed on like bytes, after those before it.
type Piece = (Instant, io::Result<Bytes>);

async fn pump(from: ReadHalf<'_>, to: WriteHalf<'_>, lane: &Lane, back: &Lane) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(KEPT);
    let ((), written) = tokio::join!(read(from, sender, lane), write(to, receiver, lane, back));
    written
}

async fn read(mut from: ReadHalf<'_>, kept: mpsc::Sender<Piece>, lane: &Lane) {
    let mut buffer = vec![0; READ];
    let mut last = Instant::now();
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count,
            () = kept.closed() => return,
        };
        let (bytes, end) = match count {
            Ok(0) => return,
            Ok(count) => (Ok(Bytes::copy_from_slice(&buffer[..count])), false),
            Err(error) => (Err(error), true),
        };
        last = last.max(Instant::now() + lane.lateness());
        if kept.send((last, bytes)).await.is_err() || end {
            return;
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut kept: mpsc::Receiver<Piece>,
    lane: &Lane,
    back: &Lane,
) -> io::Result<()> {
    while let Some((due, bytes)) = kept.recv().await {
        lane.until(due, Behaviour::is_late).await;
        let mut bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                lane.flows().await;
                return Err(error);
            }
        };
        while !bytes.is_empty() {
            lane.flows().await;
            let count = lane.allowed(bytes.len());
            if count == 0 {
                lane.left.store(NO_CUT, Ordering::SeqCst);
                return Err(ErrorKind::ConnectionReset.into());
            }
            if let Err(error) = to.write_all(&bytes.split_to(count)).await {
                // The sender learns of it as from a packet that comes back: not while that direction stalls.
                back.flows().await;
                return Err(error);
            }
            lane.passed(count).await;
        }
    }
    lane.flows().await;
    to.shutdown().await
}
