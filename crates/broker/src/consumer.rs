//! Consuming: one supervised connection with a channel per queue, rebuilt from scratch whenever anything is odd.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all};
use kingpost_model::Route;
use lapin::{Connection, Event, options::BasicQosOptions};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    connection::{Backoff, BrokerConfig, ConnectError, Observer, Role, open},
    lane::{Epoch, Inbox, Lane, LaneEnd, Reins, reins},
    pulse::{self, Answered},
    roll::{self, Counts},
    setup::Setup,
};

/// A session that lasts longer than this is sound, and its end is met with a quick reconnect.
const SETTLED_SESSION: Duration = Duration::from_secs(10);
/// A connection that is over is given this long to close in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A queue to consume, and how many of its messages may be in hand at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// The queue.
    pub route: Route,
    /// Unsettled deliveries at most; the only bound on a worker's memory.
    pub prefetch: u16,
}

/// The consuming half of a worker.
#[derive(Debug)]
pub struct Subscription {
    reins: Vec<Reins>,
    counts: Arc<Counts>,
    close: CancellationToken,
    task: JoinHandle<()>,
}

impl Subscription {
    /// Cancels the consumers; returns when the broker sends nothing more, or after the deadline. What was delivered
    /// stays in the inboxes and can still be settled.
    pub async fn stop_consuming(&mut self, deadline: Duration) {
        for reins in &self.reins {
            reins.wanted.send_replace(false);
        }
        let shut = join_all(self.reins.iter_mut().map(|reins| reins.open.wait_for(|open| !*open)));
        let _ = tokio::time::timeout(deadline, shut).await;
    }

    /// How many loaders there are of a sharded scheme, 0 while that isn't known; sent anew with every count.
    pub fn loaders(&self, scheme: &str) -> Option<watch::Receiver<u32>> {
        self.counts.get(scheme).map(watch::Sender::subscribe)
    }

    /// Begins to close: what was acknowledged is written, nothing else is any more.
    pub fn begin_close(&self) {
        self.close.cancel();
    }

    /// Closes the connection; whatever is unsettled goes back to its queue.
    pub async fn close(self, deadline: Duration) {
        self.close.cancel();
        let _ = tokio::time::timeout(deadline, self.task).await;
    }
}

struct Supervisor {
    config: BrokerConfig,
    setup: Arc<Setup>,
    observer: Arc<dyn Observer>,
    lanes: Vec<Arc<Lane>>,
    counts: Arc<Counts>,
    /// That the loaders can't be counted was told.
    told: Arc<AtomicBool>,
    close: CancellationToken,
    epoch: u64,
}

pub(crate) fn start(
    config: BrokerConfig,
    setup: Arc<Setup>,
    observer: Arc<dyn Observer>,
    specs: Vec<LaneSpec>,
) -> (Subscription, Vec<Inbox>) {
    let close = CancellationToken::new();
    let counts = Arc::new(roll::counts(specs.iter().map(|spec| &spec.route)));
    let (mut lanes, mut inboxes, mut all_reins) = (Vec::new(), Vec::new(), Vec::new());
    for spec in specs {
        let route = Arc::new(spec.route);
        let (deliveries, inbox) = mpsc::channel(usize::from(spec.prefetch).max(1));
        let (settle, settlements) = mpsc::unbounded_channel();
        let (reins, bit) = reins();
        all_reins.push(reins.clone());
        let kept = std::collections::VecDeque::new();
        inboxes.push(Inbox { route: Arc::clone(&route), deliveries: inbox, kept, reins });
        lanes.push(Arc::new(Lane {
            route,
            prefetch: spec.prefetch,
            deliveries,
            settle,
            settlements: tokio::sync::Mutex::new(settlements),
            settle_timeout: config.settle_timeout,
            observer: Arc::clone(&observer),
            bit,
        }));
    }
    let supervisor = Supervisor {
        config,
        setup,
        observer,
        lanes,
        counts: Arc::clone(&counts),
        told: Arc::default(),
        close: close.clone(),
        epoch: 0,
    };
    let task = tokio::spawn(supervisor.run());
    (Subscription { reins: all_reins, counts, close, task }, inboxes)
}

/// What runs in a session.
struct Session {
    connection: Arc<Connection>,
    lost: Arc<AtomicBool>,
    answered: Arc<Answered>,
    lanes: JoinSet<LaneEnd>,
    /// Those that have ended, with their consumers.
    ended: Vec<LaneEnd>,
    /// Counts loaders.
    counting: JoinSet<()>,
    /// Feels the pulse; ends when the broker can't be asked any more.
    pulse: JoinSet<()>,
}

impl Supervisor {
    async fn run(mut self) {
        let salt = u64::from(std::process::id()).wrapping_mul(31);
        let mut backoff = Backoff::new(self.config.reconnect_pause_max, salt);
        while !self.close.is_cancelled() {
            let opened = tokio::select! {
                () = self.close.cancelled() => break,
                opened = open(&self.config, Role::Consume) => opened,
            };
            match opened {
                Ok(connection) => {
                    let mut session = Session {
                        answered: Arc::new(Answered::now(connection.configuration().heartbeat())),
                        connection: Arc::new(connection),
                        lost: Arc::default(),
                        lanes: JoinSet::new(),
                        ended: Vec::new(),
                        counting: JoinSet::new(),
                        pulse: JoinSet::new(),
                    };
                    let end = self.session(&mut session, &mut backoff).await;
                    session.lost.store(true, Ordering::Release);
                    self.observer.connected(Role::Consume, false);
                    if let Some(end) = &end {
                        warn!(
                            role = Role::Consume.as_str(),
                            reason = end.reason,
                            detail = end.detail,
                            "consuming session ended; it is built anew"
                        );
                        self.observer.rebuilt(Role::Consume, end.reason);
                    }
                    self.dismiss(session).await;
                }
                Err(error) => warn!(role = Role::Consume.as_str(), %error, "no connection for consuming yet"),
            }
            tokio::select! {
                () = self.close.cancelled() => break,
                () = tokio::time::sleep(backoff.next_pause()) => {}
            }
        }
        self.lanes.iter().for_each(|lane| lane.shut());
    }

    /// Closes the connection while the consumers are still there, and only then drops them.
    async fn dismiss(&self, mut session: Session) {
        let closing = session.connection.close(200, "over".into());
        let _ = tokio::time::timeout(self.config.settle_timeout.min(CLOSE_TIMEOUT), closing).await;
        session.lanes.shutdown().await;
        session.counting.shutdown().await;
        session.pulse.shutdown().await;
        self.lanes.iter().for_each(|lane| lane.shut());
        for count in self.counts.values() {
            count.send_replace(0);
        }
    }

    /// Runs one session; returns nothing when it was closed on demand.
    async fn session(&mut self, session: &mut Session, backoff: &mut Backoff) -> Option<LaneEnd> {
        let connection = Arc::clone(&session.connection);
        self.epoch += 1;
        match tokio::time::timeout(self.config.connect_timeout, self.prepare(session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Some(LaneEnd::new("setup", error.to_string())),
            Err(_) => return Some(LaneEnd::new("setup", "no answer while consuming was set up")),
        }
        let events = connection.events_listener();
        tokio::pin!(events);
        if !connection.status().connected() {
            return Some(LaneEnd::new("connection", "the connection ended while consuming was set up"));
        }
        self.observer.connected(Role::Consume, true);
        let began = Instant::now();
        let end = loop {
            tokio::select! {
                () = self.close.cancelled() => {
                    self.settle_rest(session).await;
                    return None;
                }
                Some(end) = session.lanes.join_next() => {
                    if self.close.is_cancelled() {
                        session.ended.extend(end);
                        continue;
                    }
                    let mut end = end.unwrap_or_else(|e| LaneEnd::new("lane", e.to_string()));
                    let consumer = end.consumer.take();
                    session.ended.push(LaneEnd { consumer, ..LaneEnd::new(end.reason, "") });
                    break end;
                }
                Some(_) = session.pulse.join_next() => {
                    break LaneEnd::new("connection", "the broker can't be asked any more");
                }
                event = events.next() => match event {
                    // Of a channel on which this user was told that it may not look or count; a lane sees the end of its own.
                    Some(Event::Error(_)) if connection.status().connected() => {}
                    Some(Event::Error(error)) => break LaneEnd::new("connection", error.to_string()),
                    Some(_) => {}
                    None => break LaneEnd::new("connection", "the connection ended"),
                },
            }
        };
        // A session that ends at once is no reason to hurry: every end counts against what was in hand.
        if began.elapsed() > SETTLED_SESSION {
            backoff.reset();
        }
        Some(end)
    }

    /// Waits until the lanes, which see the closing too, have written what was settled.
    async fn settle_rest(&self, session: &mut Session) {
        let Session { lanes, ended, .. } = session;
        let rest = async {
            while let Some(end) = lanes.join_next().await {
                ended.extend(end);
            }
        };
        let _ = tokio::time::timeout(self.config.settle_timeout, rest).await;
    }

    async fn prepare(&self, session: &mut Session) -> Result<(), ConnectError> {
        let connection = &session.connection;
        session.pulse.spawn(pulse::feel(Arc::clone(connection), Arc::clone(&session.answered)));
        self.setup.ensure(connection).await?;
        for lane in &self.lanes {
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let qos = channel.basic_qos(lane.prefetch, BasicQosOptions::default()).await;
            qos.map_err(|e| ConnectError::of(&e))?;
            let epoch = Epoch::new(self.epoch, &session.lost, &session.answered);
            let running = Arc::clone(lane).start(channel, epoch, self.close.clone()).await?;
            session.lanes.spawn(running.run());
        }
        for scheme in self.counts.keys() {
            let (connection, counts) = (Arc::clone(connection), Arc::clone(&self.counts));
            let (every, told) = (self.config.roll_call_pause, Arc::clone(&self.told));
            session.counting.spawn(roll::call(connection, counts, scheme.clone(), every, told));
        }
        Ok(())
    }
}
