//! What a lane does next: gathers batches and begins them, holds still, steps back from its queue, drains.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kingpost_broker::{Delivery, Inbox, Receipt};
use kingpost_telemetry::InHand;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{lane::Lane, plan::BatchPolicy};

/// A delivery that is held through a pause for longer than this goes round through a retry tier instead, before the
/// broker loses patience with its consumer, after thirty minutes: a delivery may have waited behind a batch of eleven
/// minutes before, and may be in one of eleven minutes afterwards.
const HELD_MAX: Duration = Duration::from_secs(420);
/// How often a lane at rest looks whether anything has grown old in its hands, besides when a doubt ends.
const STALE_LOOK: Duration = Duration::from_secs(5);

pub(crate) struct Held {
    since: Instant,
    pub(crate) delivery: Delivery,
    /// Counts it as in hand until it is settled, or given back.
    pub(crate) in_hand: InHand,
}

impl Held {
    /// The stage hears of it at once, since a batch beside it may hold another copy, and the queue may be passed on before
    /// its turn.
    fn new(lane: &Lane, delivery: Delivery) -> Self {
        lane.stage.met(&delivery.work, delivery.redelivered, &delivery.receipt.lease());
        let in_hand = lane.telemetry.taken(delivery.queued_ms);
        Held { since: Instant::now(), delivery, in_hand }
    }
}

/// A lane and what it has in hand.
struct Driver {
    lane: Arc<Lane>,
    inbox: Inbox,
    wait: Duration,
    /// Not begun, oldest first.
    held: Vec<Held>,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Deliveries that are sent round through a retry tier.
    aside: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// What a lane may do with what arrives.
#[derive(Clone, Copy)]
enum Mode {
    /// Leave it where it is.
    Full,
    /// Take it, and hold it.
    Paused,
    /// Make a batch of it.
    Open { rows: usize },
}

enum Arrived {
    /// A batch can begin.
    Batch,
    /// These have been held for too long.
    Stale(Vec<Held>),
    /// Nothing comes any more.
    Closed,
}

/// Runs a lane until `stop`, then finishes what is in flight and hands back what was not begun.
pub(crate) async fn run(lane: Arc<Lane>, inbox: Inbox, policy: BatchPolicy, stop: CancellationToken) {
    let mut driver = Driver {
        lane: Arc::clone(&lane),
        inbox,
        wait: policy.wait,
        held: Vec::new(),
        running: FuturesUnordered::new(),
        aside: FuturesUnordered::new(),
    };
    let mut asked = lane.asked_to_step_back.subscribe();
    let mut active = driver.inbox.active_since();
    lane.pace.joined_by(active.clone());
    while !stop.is_cancelled() {
        let limits = lane.pace.limits();
        let next_look = Instant::now() + STALE_LOOK;
        let look = lane.doubt().until().map_or(next_look, |until| until.min(next_look));
        let mode = match (driver.running.len() < limits.concurrency, lane.pace.is_open()) {
            (false, _) => Mode::Full,
            (true, false) => Mode::Paused,
            (true, true) => Mode::Open { rows: limits.rows },
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = until_asked(&mut asked) => driver.step_back().await,
            Ok(()) = active.changed() => lane.pace.look(),
            Some(()) = driver.running.next(), if !driver.running.is_empty() => {}
            Some(()) = driver.aside.next(), if !driver.aside.is_empty() => {}
            () = lane.pace.turn(), if matches!(mode, Mode::Paused) => {}
            arrived = arrive(&lane, &mut driver.inbox, &mut driver.held, mode, driver.wait) => match arrived {
                Arrived::Batch => driver.begin(),
                Arrived::Stale(old) => driver.hand_on(old),
                Arrived::Closed => break,
            },
            () = tokio::time::sleep_until(look.into()) => {}
        }
        lane.leaves_doubt();
    }
    driver.drain().await;
}

/// Takes what arrives. Cancelling it loses nothing: a delivery is held before the next await.
async fn arrive(lane: &Lane, inbox: &mut Inbox, held: &mut Vec<Held>, mode: Mode, wait: Duration) -> Arrived {
    match mode {
        Mode::Full => std::future::pending().await,
        Mode::Paused => Arrived::Stale(stale(lane, inbox, held).await),
        Mode::Open { rows } => gather(lane, inbox, held, rows, wait).await,
    }
}

/// Takes what is here already, at most so many.
fn take_in(lane: &Lane, inbox: &mut Inbox, held: &mut Vec<Held>, limit: usize) {
    let mut ready = Vec::new();
    inbox.take_ready(limit, &mut ready);
    held.extend(ready.into_iter().map(|delivery| Held::new(lane, delivery)));
}

/// The next batch: what is held first, then what arrives within the wait.
async fn gather(
    lane: &Lane,
    inbox: &mut Inbox,
    held: &mut Vec<Held>,
    rows: usize,
    wait: Duration,
) -> Arrived {
    if held.is_empty() {
        let Some(delivery) = inbox.recv().await else { return Arrived::Closed };
        held.push(Held::new(lane, delivery));
    }
    let deadline = held.first().map_or_else(Instant::now, |h| h.since) + wait;
    loop {
        take_in(lane, inbox, held, rows.saturating_sub(held.len()));
        if held.len() >= rows || Instant::now() >= deadline {
            return Arrived::Batch;
        }
        match tokio::time::timeout_at(deadline.into(), inbox.recv()).await {
            Ok(Some(delivery)) => held.push(Held::new(lane, delivery)),
            Ok(None) | Err(_) => return Arrived::Batch,
        }
    }
}

/// Holds what arrives during a pause; returns what has been held for too long.
async fn stale(lane: &Lane, inbox: &mut Inbox, held: &mut Vec<Held>) -> Vec<Held> {
    take_in(lane, inbox, held, usize::MAX);
    let old = outdated(held, |h| h.delivery.receipt.lease().is_lost(), |h| h.since, Instant::now());
    if old.is_empty() {
        // Whoever waits looks again after a while.
        std::future::pending().await
    }
    old
}

/// Takes out what has been held for too long, oldest first. What a lost session delivered is let go: it has been handed out
/// again, and sent round as well it would be there twice.
fn outdated<H>(
    held: &mut Vec<H>,
    is_lost: impl Fn(&H) -> bool,
    since: impl Fn(&H) -> Instant,
    now: Instant,
) -> Vec<H> {
    held.retain(|h| !is_lost(h));
    let old = held.iter().take_while(|h| now.saturating_duration_since(since(h)) > HELD_MAX).count();
    held.drain(..old).collect()
}

async fn until_asked(asked: &mut watch::Receiver<bool>) {
    if asked.wait_for(|asked| *asked).await.is_err() {
        std::future::pending().await
    }
}

impl Driver {
    /// Begins a batch of what is held, unless another queue of the scheme has begun the one probe meanwhile.
    fn begin(&mut self) {
        // What a lost session delivered has been handed out again; the rest is of one session.
        self.held.retain(|h| !h.delivery.receipt.lease().is_lost());
        if self.held.is_empty() {
            return;
        }
        let Some(permit) = self.lane.pace.begin() else { return };
        let take = self.lane.pace.limits().rows.min(self.held.len());
        let batch = self.held.drain(..take).collect();
        self.running.push(Box::pin(Arc::clone(&self.lane).process(batch, permit)));
    }

    fn hand_on(&mut self, old: Vec<Held>) {
        for Held { delivery, in_hand, .. } in old {
            let lane = Arc::clone(&self.lane);
            self.aside.push(Box::pin(async move {
                lane.hand_on(delivery).await;
                drop(in_hand);
            }));
        }
    }

    /// Waits until nothing runs any more.
    async fn finish(running: &mut FuturesUnordered<BoxFuture<'static, ()>>) {
        while running.next().await.is_some() {}
    }

    /// Whether a write may still take effect that a successor would not know of, by all that has arrived.
    fn leaves_doubt(&mut self) -> bool {
        take_in(&self.lane, &mut self.inbox, &mut self.held, usize::MAX);
        self.lane.leaves_doubt()
    }

    /// Leaves the queue to another worker, and waits behind it for the next turn. Nothing of ours may be running then,
    /// nor may a write without an answer be left, because the broker lets the other one in at once, and neither it nor
    /// the messages that it gets would know.
    async fn step_back(&mut self) {
        let lane = Arc::clone(&self.lane);
        // Asked again later, it may have settled.
        let left = self.leaves_doubt();
        if !left {
            Self::finish(&mut self.running).await;
            Self::finish(&mut self.aside).await;
        }
        if !left && !self.leaves_doubt() {
            self.inbox.leave().await;
            let rest = self.take_rest();
            lane.hand_back(rest).await;
            info!(
                scheme = lane.route.scheme,
                queue = lane.route.queue(),
                "left a shard to another loader, because this one had more than its share"
            );
        }
        // Before it is consumed again: what is asked from now on is about the next turn.
        lane.asked_to_step_back.send_replace(false);
        self.inbox.rejoin();
    }

    /// Finishes what is in flight and hands back what was not begun.
    ///
    /// A queue with one owner is given up only when nothing of it runs any more. With a write whose outcome isn't known
    /// it is not given up at all: the end of the connection returns what is in hand to its places first, marked, and the
    /// next owner is careful then.
    async fn drain(mut self) {
        let lane = Arc::clone(&self.lane);
        if !lane.has_one_owner() {
            tokio::join!(self.inbox.leave(), Self::finish(&mut self.running), Self::finish(&mut self.aside));
        } else {
            tokio::join!(Self::finish(&mut self.running), Self::finish(&mut self.aside));
            if self.leaves_doubt() {
                info!(
                    scheme = lane.route.scheme,
                    "a write may still take effect; what is in hand goes to the next loader with that warning"
                );
                let kept = lane.doubt().give_up();
                let rest = self.take_rest().into_iter().map(|delivery| delivery.receipt);
                rest.chain(kept).for_each(Receipt::leave);
                return;
            }
            self.inbox.leave().await;
        }
        let rest = self.take_rest();
        lane.hand_back(rest).await;
    }

    fn take_rest(&mut self) -> Vec<Delivery> {
        let mut rest: Vec<Delivery> = self.held.drain(..).map(|h| h.delivery).collect();
        self.inbox.take_ready(usize::MAX, &mut rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delivery: its message, its session, and when it came.
    #[derive(Clone, Copy)]
    struct Given(u32, u32, Instant);

    /// A broker hands out the same ten messages in one session after the other, while work pauses.
    #[test]
    fn sessions_that_are_lost_during_a_pause_make_no_copies() {
        let begun = Instant::now();
        let at = |s: u64| begun + Duration::from_secs(s);
        let (mut held, mut handed_on) = (Vec::new(), Vec::new());
        let mut session = 0;
        for second in (0..=700).step_by(5) {
            if [0, 100, 200].contains(&second) {
                session += 1;
                held.extend((0..10).map(|message| Given(message, session, at(second))));
            }
            let current = session;
            handed_on.extend(outdated(&mut held, |given| given.1 != current, |given| given.2, at(second)));
            assert!(held.len() <= 10, "{} held after {second} s", held.len());
        }
        let messages: Vec<u32> = handed_on.iter().map(|given| given.0).collect();
        assert_eq!(messages, (0..10).collect::<Vec<_>>(), "as many messages as before");
        assert!(held.is_empty() && handed_on.iter().all(|given| given.1 == session));
    }
}
