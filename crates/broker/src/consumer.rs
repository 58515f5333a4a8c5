//! Consuming: one supervised connection with a channel per queue, rebuilt from scratch whenever anything is odd.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use kingpost_model::Route;
use lapin::{
    Connection, Event,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    connection::{Backoff, BrokerConfig, ConnectError, Observer, Role, open},
    lane::{Epoch, Inbox, Lane, LaneEnd, Signals},
    topology::{Topology, short},
};

/// A session that lasts longer than this is sound, and its end is met with a quick reconnect.
const SETTLED_SESSION: Duration = Duration::from_secs(10);

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
    stop: watch::Sender<bool>,
    drained: watch::Receiver<bool>,
    close: CancellationToken,
    task: JoinHandle<()>,
}

impl Subscription {
    /// Cancels the consumers; returns when the broker sends nothing more, or after the deadline. What was delivered
    /// stays in the inboxes and can still be settled.
    pub async fn stop_consuming(&mut self, deadline: Duration) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(deadline, self.drained.wait_for(|drained| *drained)).await;
    }

    /// Closes the connection; whatever is unsettled goes back to its queue.
    pub async fn close(self, deadline: Duration) {
        self.close.cancel();
        let _ = tokio::time::timeout(deadline, self.task).await;
    }
}

struct Supervisor {
    config: BrokerConfig,
    topology: Arc<Topology>,
    observer: Arc<dyn Observer>,
    lanes: Vec<Arc<Lane>>,
    stop: watch::Receiver<bool>,
    drained: watch::Sender<bool>,
    close: CancellationToken,
    epoch: u64,
}

pub(crate) fn start(
    config: BrokerConfig,
    topology: Arc<Topology>,
    observer: Arc<dyn Observer>,
    specs: Vec<LaneSpec>,
) -> (Subscription, Vec<Inbox>) {
    let (stop, stop_seen) = watch::channel(false);
    let (drained_set, drained) = watch::channel(false);
    let close = CancellationToken::new();
    let (mut lanes, mut inboxes) = (Vec::new(), Vec::new());
    for spec in specs {
        let route = Arc::new(spec.route);
        let (deliveries, inbox) = mpsc::channel(usize::from(spec.prefetch).max(1));
        let (settle, settlements) = mpsc::unbounded_channel();
        inboxes.push(Inbox { route: Arc::clone(&route), deliveries: inbox });
        lanes.push(Arc::new(Lane {
            route,
            prefetch: spec.prefetch,
            deliveries,
            settle,
            settlements: tokio::sync::Mutex::new(settlements),
            settle_timeout: config.settle_timeout,
            observer: Arc::clone(&observer),
        }));
    }
    let supervisor = Supervisor {
        config,
        topology,
        observer,
        lanes,
        stop: stop_seen,
        drained: drained_set,
        close: close.clone(),
        epoch: 0,
    };
    let task = tokio::spawn(supervisor.run());
    (Subscription { stop, drained, close, task }, inboxes)
}

impl Supervisor {
    async fn run(mut self) {
        let salt = u64::from(std::process::id()).wrapping_mul(31);
        let mut backoff = Backoff::new(self.config.reconnect_pause_max, salt);
        while !self.close.is_cancelled() {
            if *self.stop.borrow() {
                // No session and none wanted: nothing more can arrive.
                let _ = self.drained.send(true);
                self.close.cancelled().await;
                break;
            }
            let opened = tokio::select! {
                () = self.close.cancelled() => break,
                opened = open(&self.config, Role::Consume) => opened,
            };
            match opened {
                Ok(connection) => {
                    let end = self.session(&connection, &mut backoff).await;
                    self.observer.connected(Role::Consume, false);
                    match end {
                        Some(end) => {
                            let (reason, detail) = (end.reason, end.detail);
                            warn!(
                                role = Role::Consume.as_str(),
                                reason, detail, "consuming session ended; it is built anew"
                            );
                            self.observer.rebuilt(Role::Consume, reason);
                        }
                        None => {
                            let closing = connection.close(200, "stopping".into());
                            let _ = tokio::time::timeout(self.config.settle_timeout, closing).await;
                            break;
                        }
                    }
                }
                Err(error) => warn!(role = Role::Consume.as_str(), %error, "no connection for consuming yet"),
            }
            tokio::select! {
                () = self.close.cancelled() => break,
                () = tokio::time::sleep(backoff.next_pause()) => {}
            }
        }
        let _ = self.drained.send(true);
    }

    /// Runs one session; returns nothing when it was closed on demand.
    async fn session(&mut self, connection: &Connection, backoff: &mut Backoff) -> Option<LaneEnd> {
        let events = connection.events_listener();
        tokio::pin!(events);
        self.epoch += 1;
        let lost = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        let (drained, mut drained_seen) = mpsc::channel(self.lanes.len().max(1));
        let prepared = self.prepare(connection, &lost, &mut running, &drained);
        match tokio::time::timeout(self.config.connect_timeout, prepared).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return self.end(&lost, running, "setup", &error.to_string()).await,
            Err(_) => return self.end(&lost, running, "setup", "no answer while consuming was set up").await,
        }
        self.observer.connected(Role::Consume, true);
        let began = Instant::now();
        let mut to_drain = self.lanes.len();
        if to_drain == 0 {
            let _ = self.drained.send(true);
        }
        loop {
            tokio::select! {
                Some(end) = running.join_next(), if !self.close.is_cancelled() => {
                    // A session that ends at once is no reason to hurry: every end counts against what was in hand.
                    if began.elapsed() > SETTLED_SESSION {
                        backoff.reset();
                    }
                    if self.close.is_cancelled() {
                        self.settle_rest(&mut running).await;
                        lost.store(true, Ordering::Release);
                        return None;
                    }
                    let end = end.unwrap_or_else(|e| LaneEnd { reason: "lane", detail: e.to_string() });
                    return self.end(&lost, running, end.reason, &end.detail).await;
                }
                event = events.next() => match event {
                    Some(Event::Error(error)) => {
                        if began.elapsed() > SETTLED_SESSION {
                            backoff.reset();
                        }
                        return self.end(&lost, running, "connection", &error.to_string()).await;
                    }
                    Some(_) => {}
                    None => return self.end(&lost, running, "connection", "the connection ended").await,
                },
                Some(()) = drained_seen.recv() => {
                    to_drain -= 1;
                    if to_drain == 0 {
                        let _ = self.drained.send(true);
                    }
                }
                () = self.close.cancelled() => {
                    self.settle_rest(&mut running).await;
                    lost.store(true, Ordering::Release);
                    return None;
                }
            }
        }
    }

    /// Waits until the lanes, which see the closing too, have written what was settled.
    async fn settle_rest(&self, running: &mut JoinSet<LaneEnd>) {
        let rest = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.config.settle_timeout, rest).await;
        running.abort_all();
    }

    async fn end(
        &self,
        lost: &AtomicBool,
        mut running: JoinSet<LaneEnd>,
        reason: &'static str,
        detail: &str,
    ) -> Option<LaneEnd> {
        lost.store(true, Ordering::Release);
        running.abort_all();
        while running.join_next().await.is_some() {}
        Some(LaneEnd { reason, detail: detail.to_owned() })
    }

    async fn prepare(
        &self,
        connection: &Connection,
        lost: &Arc<AtomicBool>,
        running: &mut JoinSet<LaneEnd>,
        drained: &mpsc::Sender<()>,
    ) -> Result<(), ConnectError> {
        let setup = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        self.topology.declare(&setup).await?;
        let _ = setup.close(200, "declared".into()).await;
        for lane in &self.lanes {
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let qos = channel.basic_qos(lane.prefetch, BasicQosOptions::default()).await;
            qos.map_err(|e| ConnectError::of(&e))?;
            let consume = channel.basic_consume(
                short(&lane.route.queue())?,
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let consumer = consume.await.map_err(|e| ConnectError::of(&e))?;
            let epoch = Arc::new(Epoch {
                number: self.epoch,
                lost: Arc::clone(lost),
                first_delivery: OnceLock::new(),
            });
            let signals =
                Signals { stop: self.stop.clone(), close: self.close.clone(), drained: drained.clone() };
            running.spawn(Arc::clone(lane).run(channel, consumer, epoch, signals));
        }
        Ok(())
    }
}
