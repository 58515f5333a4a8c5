//! Publishing: one task owns one confirm channel, and a group is done when every message of it is confirmed and
//! none was returned.
//!
//! Why a prefix decides. The client hands a returned message to whichever confirm completes next, and it unrolls a
//! coalesced confirm in any order, so a future that says "confirmed" proves nothing for its own message. But the
//! broker returns in the order of publishing and before it confirms, and every completed confirm takes one waiting
//! return. So when all messages up to one are confirmed, all returns up to that one have been seen, and are matched
//! by message id, exchange and routing key.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use kingpost_model::{Abandoned, BoxFuture};
use lapin::{
    Channel, Confirmation, Connection, Event, options::BasicPublishOptions, options::ConfirmSelectOptions,
    types::ShortString,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    aside::{self, Admission, Aside, Outcome},
    connection::{Backoff, BrokerConfig, ConnectError, Observer, Role, open},
    posting::{Envelope, Posting},
    setup::Setup,
};

/// Unconfirmed messages on the channel; more gains nothing on a quorum queue and costs memory.
const IN_FLIGHT_MESSAGES: usize = 1_024;
/// Unconfirmed bytes on the channel.
const IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;
/// Groups that may wait for the publisher before callers are held back.
const WAITING_GROUPS: usize = 64;
/// Pause before a refused or returned message is published again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

struct Group {
    left: usize,
    size: usize,
    since: Instant,
    done: oneshot::Sender<()>,
}

struct Job {
    envelopes: Vec<Envelope>,
    done: oneshot::Sender<()>,
}

/// Whether what is published now has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No session is up.
    Absent,
    /// The broker blocks publishing.
    Blocked,
    /// A session is up and not blocked, as far as is known.
    Open,
}

/// The wait for the broker's word on one message.
pub type Confirm = BoxFuture<'static, Result<(), Abandoned>>;

/// The way to publish; cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    jobs: mpsc::Sender<Vec<Job>>,
    standing: watch::Receiver<Standing>,
    app: ShortString,
}

impl Outbound {
    /// Whether what is published now has to wait for a session.
    pub fn standing(&self) -> Standing {
        if self.jobs.is_closed() { Standing::Absent } else { *self.standing.borrow() }
    }

    /// Publishes a group and returns when the broker has confirmed every message of it and has returned none.
    /// What is refused or returned is published again until it is taken, so the wait may be long.
    ///
    /// # Errors
    /// [`Abandoned`] when the publisher has stopped; any part of the group may have been published.
    pub async fn publish(&self, postings: Vec<Posting>) -> Result<(), Abandoned> {
        if postings.is_empty() {
            return Ok(());
        }
        for confirmed in self.hand_over(vec![postings]).await? {
            confirmed.await.map_err(|_| Abandoned)?;
        }
        Ok(())
    }

    /// Publishes messages in this order and returns the wait for each of them, which [`Outbound::publish`] describes:
    /// for whoever wants to know of those that were taken although another one wasn't. To drop a wait changes nothing.
    ///
    /// # Errors
    /// [`Abandoned`] when the publisher has stopped; nothing was published then.
    pub async fn publish_each(&self, postings: Vec<Posting>) -> Result<Vec<Confirm>, Abandoned> {
        let confirms = self.hand_over(postings.into_iter().map(|posting| vec![posting]).collect()).await?;
        let wait = |confirmed: oneshot::Receiver<()>| -> Confirm {
            Box::pin(async move { confirmed.await.map_err(|_| Abandoned) })
        };
        Ok(confirms.into_iter().map(wait).collect())
    }

    async fn hand_over(&self, groups: Vec<Vec<Posting>>) -> Result<Vec<oneshot::Receiver<()>>, Abandoned> {
        let job = |postings: Vec<Posting>| {
            let (done, confirmed) = oneshot::channel();
            let envelopes = postings.into_iter().map(|posting| Envelope::of(posting, &self.app)).collect();
            (Job { envelopes, done }, confirmed)
        };
        let (jobs, confirms): (Vec<_>, Vec<_>) = groups.into_iter().map(job).unzip();
        self.jobs.send(jobs).await.map_err(|_| Abandoned)?;
        Ok(confirms)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Acked,
    Nacked,
}

struct Slot {
    envelope: Envelope,
    group: u64,
    sent: Instant,
    state: State,
    returned: bool,
}

pub(crate) struct Publisher {
    config: BrokerConfig,
    setup: Arc<Setup>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
    jobs: mpsc::Receiver<Vec<Job>>,
    groups: std::collections::HashMap<u64, Group>,
    next_group: u64,
    /// Not on the wire: new, or of unknown fate after a lost session.
    pending: VecDeque<(Envelope, u64)>,
    /// Refused or returned, and when to try again.
    delayed: VecDeque<(Instant, Envelope, u64)>,
    /// Tried alone, or set aside, because the broker closed the channel.
    aside: Aside,
    /// On the wire, in the order of publishing.
    ring: VecDeque<Slot>,
    ring_base: u64,
    ring_bytes: usize,
    blocked_since: Option<Instant>,
    connected: bool,
    /// Connected and not blocked, for those who would rather not wait.
    standing: watch::Sender<Standing>,
    redeclare: bool,
    /// The queues were just declared by whoever opened the first connection.
    declared: bool,
}

/// Starts the publisher on a first connection and returns the way to publish.
pub(crate) fn start(
    config: BrokerConfig,
    setup: Arc<Setup>,
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
    first: Connection,
) -> (Outbound, tokio::task::JoinHandle<()>) {
    let (sender, jobs) = mpsc::channel(WAITING_GROUPS);
    let app = ShortString::try_new(config.name.as_str()).unwrap_or_default();
    let (telling, standing) = watch::channel(Standing::Absent);
    let publisher = Publisher {
        config,
        setup,
        observer,
        stop,
        jobs,
        groups: std::collections::HashMap::new(),
        next_group: 0,
        pending: VecDeque::new(),
        delayed: VecDeque::new(),
        aside: Aside::default(),
        ring: VecDeque::new(),
        ring_base: 0,
        ring_bytes: 0,
        blocked_since: None,
        connected: false,
        standing: telling,
        redeclare: false,
        declared: true,
    };
    (Outbound { jobs: sender, standing, app }, tokio::spawn(publisher.run(first)))
}

async fn publish_one(
    channel: &Channel,
    order: &AtomicU64,
    expected: u64,
    envelope: Envelope,
) -> (u64, Result<Confirmation, String>) {
    // The prefix rule needs the order of the wire; the first poll of this future is what sends.
    if order.fetch_add(1, Ordering::Relaxed) != expected {
        return (expected, Err("messages were sent out of order".to_owned()));
    }
    let Envelope { exchange, routing_key, properties, body } = envelope;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
    let result = match sent {
        Ok(confirm) => confirm.await.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    (expected, result)
}

impl Publisher {
    async fn run(mut self, first: Connection) {
        let mut backoff = Backoff::new(self.config.reconnect_pause_max, u64::from(std::process::id()));
        let mut next = Some(first);
        loop {
            let connection = match next.take() {
                Some(connection) => connection,
                None => {
                    let opened = tokio::select! {
                        () = self.stop.cancelled() => break,
                        opened = open(&self.config, Role::Publish) => opened,
                    };
                    match opened {
                        Ok(connection) => connection,
                        Err(error) => {
                            warn!(role = Role::Publish.as_str(), %error, "no connection for publishing yet");
                            tokio::select! {
                                () = self.stop.cancelled() => break,
                                () = tokio::time::sleep(backoff.next_pause()) => continue,
                            }
                        }
                    }
                }
            };
            let (reason, detail) = self.session(&connection, &mut backoff).await;
            // In this order: the end of a block alone would count as ready.
            self.set_blocked(false);
            self.set_connected(false);
            if reason == STOPPED {
                let closing = connection.close(200, "stopping".into());
                let _ = tokio::time::timeout(self.config.settle_timeout, closing).await;
                break;
            }
            warn!(
                role = Role::Publish.as_str(),
                reason, detail, "publishing session ended; it is built anew"
            );
            self.observer.rebuilt(Role::Publish, reason);
            drop(connection);
            self.reclaim(reason);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(backoff.next_pause()) => {}
            }
        }
    }

    /// Puts everything of unknown fate back, to be published again with the same message ids: one at a time when the
    /// broker has something against one of them.
    fn reclaim(&mut self, reason: &'static str) {
        let unknown = self.ring.len();
        let ring = std::mem::take(&mut self.ring).into_iter().map(|slot| (slot.envelope, slot.group));
        self.aside.interrupt();
        if reason == REFUSED {
            self.aside.suspect(ring);
        } else {
            ring.rev().for_each(|message| self.pending.push_front(message));
        }
        self.ring_bytes = 0;
        if unknown > 0 {
            self.observer.republished(unknown);
        }
    }

    async fn prepare(&mut self, connection: &Connection) -> Result<Channel, ConnectError> {
        let declared = std::mem::take(&mut self.declared);
        let setup = Arc::clone(&self.setup);
        let prepare = async {
            if !declared {
                setup.ensure(connection).await?;
            }
            let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            let select = channel.confirm_select(ConfirmSelectOptions::default()).await;
            select.map_err(|e| ConnectError::of(&e))?;
            Ok(channel)
        };
        match tokio::time::timeout(self.config.connect_timeout, prepare).await {
            Ok(result) => result,
            Err(_) => {
                Err(ConnectError::Absent("the broker did not answer while the queues were declared".into()))
            }
        }
    }

    async fn session(&mut self, connection: &Connection, backoff: &mut Backoff) -> (&'static str, String) {
        let events = connection.events_listener();
        tokio::pin!(events);
        let channel = match self.prepare(connection).await {
            Ok(channel) => channel,
            Err(error) => return ("setup", error.to_string()),
        };
        self.set_connected(true);
        self.ring_base = 0;
        let order = AtomicU64::new(0);
        let mut confirms = FuturesUnordered::new();
        let (mut alone, mut attempt) = (None, None);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(envelope) = self.next_trial() {
                attempt = Some(aside::attempt(connection, alone.take(), envelope));
            }
            while let Some((sequence, envelope)) = self.next_to_send() {
                confirms.push(publish_one(&channel, &order, sequence, envelope));
            }
            tokio::select! {
                Some((sequence, result)) = confirms.next(), if !confirms.is_empty() => {
                    let mut next = Some((sequence, result));
                    while let Some((sequence, result)) = next {
                        if let Err(text) = self.confirmed(sequence, result) {
                            return (reason_of(connection, &channel, "confirm"), text);
                        }
                        next = confirms.next().now_or_never().flatten();
                    }
                    if self.settle_prefix() > 0 {
                        backoff.reset();
                    }
                }
                (channel, outcome) = aside::ended(&mut attempt) => {
                    alone = channel;
                    if let Outcome::Unknown(text) = outcome {
                        return ("confirm", text);
                    }
                    self.tried(outcome);
                    backoff.reset();
                }
                job = self.jobs.recv(), if self.pending.len() < IN_FLIGHT_MESSAGES => match job {
                    Some(jobs) => jobs.into_iter().for_each(|job| self.accept(job)),
                    None => return (STOPPED, String::new()),
                },
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        warn!(why, "the broker blocks publishing (memory or disk alarm); waiting for it");
                        self.set_blocked(true);
                    }
                    Some(Event::ConnectionUnblocked) => self.set_blocked(false),
                    // Of a channel on which this user was told that it may not look, not of ours.
                    Some(Event::Error(_)) if connection.status().connected() && channel.status().connected() => {}
                    Some(Event::Error(error)) => {
                        return (reason_of(connection, &channel, "connection"), error.to_string());
                    }
                    Some(_) => {}
                    None => return ("connection", "the connection ended".to_owned()),
                },
                () = self.stop.cancelled() => return (STOPPED, String::new()),
                _ = tick.tick() => {
                    if let Some(end) = self.overdue() {
                        return end;
                    }
                    self.wake_delayed(connection).await;
                }
            }
        }
    }

    /// The next message that is published alone.
    fn next_trial(&mut self) -> Option<Envelope> {
        let (next, dropped) = self.aside.next_trial(Instant::now());
        dropped.into_iter().for_each(|(_, group)| self.taken(group));
        next
    }

    /// The next message that is published with the others, and its place among them.
    fn next_to_send(&mut self) -> Option<(u64, Envelope)> {
        while self.ring.len() < IN_FLIGHT_MESSAGES && self.ring_bytes < IN_FLIGHT_BYTES && !self.aside.holds()
        {
            let sent = Instant::now();
            let (envelope, group) = match self.aside.admit(self.pending.pop_front()?, sent) {
                Admission::Publish(message) => message,
                Admission::Drop((_, group)) => {
                    self.taken(group);
                    continue;
                }
                Admission::Kept => continue,
            };
            let sequence = self.ring_base + self.ring.len() as u64;
            let copy = envelope.clone();
            self.ring_bytes += envelope.body.len();
            self.ring.push_back(Slot { envelope, group, sent, state: State::Sent, returned: false });
            return Some((sequence, copy));
        }
        None
    }

    /// A message was tried alone.
    fn tried(&mut self, outcome: Outcome) {
        let concluded = self.aside.conclude(outcome, Instant::now());
        if let Some(queue) = &concluded.refused {
            self.observer.nacked(queue.as_str());
        }
        concluded.freed.into_iter().rev().for_each(|message| self.pending.push_front(message));
        match concluded.ended {
            Some(((envelope, group), outcome)) if outcome != Outcome::Taken && !envelope.is_report() => {
                self.not_taken(envelope, group, outcome == Outcome::Returned);
            }
            Some(((_, group), _)) => self.taken(group),
            None => {}
        }
    }

    fn accept(&mut self, job: Job) {
        let group = self.next_group;
        self.next_group += 1;
        let size = job.envelopes.len();
        self.groups.insert(group, Group { left: size, size, since: Instant::now(), done: job.done });
        self.pending.extend(job.envelopes.into_iter().map(|envelope| (envelope, group)));
    }

    fn confirmed(&mut self, sequence: u64, result: Result<Confirmation, String>) -> Result<(), String> {
        let (state, returned) = match result? {
            Confirmation::Ack(returned) => (State::Acked, returned),
            Confirmation::Nack(returned) => (State::Nacked, returned),
            Confirmation::NotRequested => return Err("the channel is not in confirm mode".to_owned()),
        };
        if let Some(message) = returned {
            // Whose confirm brought it says nothing; its own id and address do.
            let id = message.properties.message_id();
            let slot = self.ring.iter_mut().find(|slot| {
                !slot.returned
                    && slot.envelope.properties.message_id() == id
                    && slot.envelope.exchange == message.exchange
                    && slot.envelope.routing_key == message.routing_key
            });
            match slot {
                Some(slot) => slot.returned = true,
                None => return Err("the broker returned a message that is not in flight".to_owned()),
            }
        }
        let index = usize::try_from(sequence - self.ring_base).unwrap_or(usize::MAX);
        match self.ring.get_mut(index) {
            Some(slot) => slot.state = state,
            None => return Err("the broker confirmed a message that is not in flight".to_owned()),
        }
        Ok(())
    }

    /// Settles the messages before which nothing is unconfirmed; returns how many were taken by their queues.
    fn settle_prefix(&mut self) -> usize {
        let mut taken = 0;
        while self.ring.front().is_some_and(|slot| slot.state != State::Sent) {
            let Some(slot) = self.ring.pop_front() else { break };
            self.ring_base += 1;
            self.ring_bytes -= slot.envelope.body.len();
            let failed = slot.returned || slot.state == State::Nacked;
            #[cfg(kingpost_bugs)]
            let failed = failed && !kingpost_settings::bug("ignore-returned");
            if failed && !slot.envelope.is_report() {
                self.not_taken(slot.envelope, slot.group, slot.returned);
                continue;
            }
            taken += 1;
            self.taken(slot.group);
        }
        taken
    }

    /// No queue takes a message, or its queue refuses it: it is published again a moment later.
    fn not_taken(&mut self, envelope: Envelope, group: u64, returned: bool) {
        let queue = envelope.routing_key.as_str();
        if returned {
            error!(
                queue,
                exchange = envelope.exchange.as_str(),
                "no queue takes a message; the queues are declared again, where this user may, and it is published again"
            );
            self.observer.unroutable(queue);
            self.redeclare = true;
        } else {
            warn!(queue, "the queue refused a message (full, or losing its leader); it is published again");
            self.observer.nacked(queue);
        }
        self.delayed.push_back((Instant::now() + REFUSED_PAUSE, envelope, group));
    }

    /// A message of a group needs nothing more.
    fn taken(&mut self, group: u64) {
        let Entry::Occupied(mut entry) = self.groups.entry(group) else { return };
        entry.get_mut().left -= 1;
        if entry.get().left == 0 {
            let group = entry.remove();
            self.observer.published(group.size, group.since.elapsed().as_secs_f64());
            // A caller that gave up doesn't listen any more.
            let _ = group.done.send(());
        }
    }

    fn set_connected(&mut self, connected: bool) {
        self.observer.connected(Role::Publish, connected);
        self.connected = connected;
        self.tell_standing();
    }

    fn tell_standing(&self) {
        self.standing.send_replace(match (self.connected, self.blocked_since) {
            (false, _) => Standing::Absent,
            (true, Some(_)) => Standing::Blocked,
            (true, None) => Standing::Open,
        });
    }

    fn set_blocked(&mut self, blocked: bool) {
        if blocked != self.blocked_since.is_some() {
            self.observer.blocked(blocked);
            let now = Instant::now();
            self.blocked_since = blocked.then_some(now);
            self.tell_standing();
            if !blocked {
                for slot in &mut self.ring {
                    slot.sent = now;
                }
                self.aside.unblocked();
            }
        }
    }

    fn overdue(&self) -> Option<(&'static str, String)> {
        if let Some(since) = self.blocked_since {
            let long = since.elapsed() > self.config.blocked_timeout;
            return long.then(|| ("blocked", "blocked for too long".to_owned()));
        }
        let sent = self.ring.front().map(|slot| slot.sent);
        let oldest = sent.into_iter().chain(self.aside.tried_since()).min()?.elapsed();
        (oldest > self.config.confirm_timeout)
            .then(|| ("confirm-timeout", format!("no confirm for {:.1} s", oldest.as_secs_f64())))
    }

    async fn wake_delayed(&mut self, connection: &Connection) {
        let due = self.delayed.front().is_some_and(|(at, ..)| *at <= Instant::now());
        if !due {
            return;
        }
        if std::mem::take(&mut self.redeclare) && self.setup.may_declare() {
            match tokio::time::timeout(self.config.settle_timeout, self.setup.ensure(connection)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "the queues could not be declared again"),
                Err(_) => error!("the queues could not be declared again: no answer"),
            }
        }
        while self.delayed.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            if let Some((_, envelope, group)) = self.delayed.pop_front() {
                self.pending.push_back((envelope, group));
            }
        }
    }
}

/// The one end of a session that is wanted.
const STOPPED: &str = "stopped";
/// The broker closed the channel for a message that it refuses, and nothing else.
const REFUSED: &str = "channel";

/// Why a session ended that lost its channel.
fn reason_of(connection: &Connection, channel: &Channel, otherwise: &'static str) -> &'static str {
    let refused = connection.status().connected() && !channel.status().connected();
    if refused { REFUSED } else { otherwise }
}
