//! One queue of one session: deliveries out, settlements in.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kingpost_model::{Lease, Route, Work};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{connection::Observer, wire};

/// A settled delivery behind an unsettled one waits this long for a common acknowledgement before it gets its own.
const STRAGGLER_PAUSE: Duration = Duration::from_millis(250);

/// The session that delivered a message; when it is gone nothing of it can be settled.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) lost: Arc<AtomicBool>,
    pub(crate) first_delivery: std::sync::OnceLock<Instant>,
}

#[derive(Debug)]
pub(crate) struct Settlement {
    epoch: u64,
    tags: Vec<u64>,
    requeue: bool,
}

/// One delivered message and the receipt that settles it.
#[derive(Debug)]
#[must_use]
pub struct Delivery {
    /// The message.
    pub work: Work,
    /// The broker has handed it out before.
    pub redelivered: bool,
    /// How often it was handed out without being settled, as far as the broker counts it.
    pub unsettled: u64,
    /// What settles it.
    pub receipt: Receipt,
}

/// What is owed to the broker for one delivery. It is settled once; dropped unsettled, the message goes back to its
/// queue.
#[derive(Debug)]
#[must_use]
pub struct Receipt {
    tag: u64,
    epoch: Arc<Epoch>,
    settle: mpsc::UnboundedSender<Settlement>,
    settled: bool,
}

impl Receipt {
    /// The right to act on the message.
    pub fn lease(&self) -> Lease {
        let age = self.epoch.first_delivery.get().map_or(Duration::ZERO, Instant::elapsed);
        Lease::new(Arc::clone(&self.epoch.lost), age)
    }

    /// Acknowledges deliveries of one inbox: whatever they led to is confirmed.
    pub fn acknowledge(receipts: Vec<Receipt>) {
        let mut rest = receipts.into_iter().peekable();
        while let Some(mut first) = rest.next() {
            first.settled = true;
            let mut tags = vec![first.tag];
            while let Some(mut next) = rest.next_if(|next| next.epoch.number == first.epoch.number) {
                next.settled = true;
                tags.push(next.tag);
            }
            // A lane that is gone has lost its session; the message comes again.
            let _ = first.settle.send(Settlement { epoch: first.epoch.number, tags, requeue: false });
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled {
            let settlement = Settlement { epoch: self.epoch.number, tags: vec![self.tag], requeue: true };
            let _ = self.settle.send(settlement);
        }
    }
}

/// Where the deliveries of one queue arrive, across sessions.
#[derive(Debug)]
pub struct Inbox {
    pub(crate) route: Arc<Route>,
    pub(crate) deliveries: mpsc::Receiver<Delivery>,
}

impl Inbox {
    /// The queue.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The next delivery; nothing once consuming has been stopped and all is handed out.
    pub async fn recv(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// Further deliveries that are here already, at most `limit`, appended to `to`.
    pub fn take_ready(&mut self, limit: usize, to: &mut Vec<Delivery>) {
        while to.len() < limit {
            match self.deliveries.try_recv() {
                Ok(delivery) => to.push(delivery),
                Err(_) => break,
            }
        }
    }
}

pub(crate) struct Lane {
    pub(crate) route: Arc<Route>,
    pub(crate) prefetch: u16,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) settle: mpsc::UnboundedSender<Settlement>,
    pub(crate) settlements: tokio::sync::Mutex<mpsc::UnboundedReceiver<Settlement>>,
    pub(crate) settle_timeout: Duration,
    pub(crate) observer: Arc<dyn Observer>,
}

/// Which tags are settled, so that one acknowledgement can cover as many as possible.
#[derive(Default)]
struct Tags {
    /// The tag of the first entry.
    base: u64,
    settled: VecDeque<Mark>,
    /// Settled tags that wait behind an unsettled one.
    behind: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Open,
    Settled,
    /// Acknowledged or returned by itself.
    Sent,
}

impl Tags {
    fn delivered(&mut self, tag: u64) {
        if self.settled.is_empty() {
            self.base = tag;
        }
        self.settled.push_back(Mark::Open);
    }

    fn mark(&mut self, tag: u64, mark: Mark) -> bool {
        let index = tag.checked_sub(self.base).and_then(|i| usize::try_from(i).ok());
        match index.and_then(|i| self.settled.get_mut(i)) {
            Some(old) if *old == Mark::Open => {
                *old = mark;
                self.behind += usize::from(mark == Mark::Settled);
                true
            }
            _ => false,
        }
    }

    /// The tag up to which everything is settled, if an acknowledgement is due for it.
    fn prefix(&mut self) -> Option<u64> {
        let mut due = None;
        while let Some(mark) = self.settled.front().copied().filter(|mark| *mark != Mark::Open) {
            if mark == Mark::Settled {
                self.behind -= 1;
                due = Some(self.base);
            }
            self.settled.pop_front();
            self.base += 1;
        }
        due
    }

    /// Settled tags behind an unsettled one; they are taken as sent.
    fn stragglers(&mut self) -> Vec<u64> {
        let base = self.base;
        let settled = self.settled.iter_mut().zip(base..).filter(|(mark, _)| **mark == Mark::Settled);
        let tags = settled
            .map(|(mark, tag)| {
                *mark = Mark::Sent;
                tag
            })
            .collect();
        self.behind = 0;
        tags
    }
}

/// How the consuming of one queue ended.
#[derive(Debug)]
pub(crate) struct LaneEnd {
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
}

/// What a lane listens to besides the broker.
pub(crate) struct Signals {
    /// Turns true when consuming is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// The session is to end, once what was settled is written.
    pub(crate) close: CancellationToken,
    /// Told when no more deliveries can come.
    pub(crate) drained: mpsc::Sender<()>,
}

type Write = BoxFuture<'static, Result<(), String>>;

struct Running {
    lane: Arc<Lane>,
    channel: Channel,
    epoch: Arc<Epoch>,
    tags: Tags,
    writes: FuturesUnordered<Write>,
}

impl Lane {
    /// Runs one queue on its channel until the session ends.
    pub(crate) async fn run(
        self: Arc<Self>,
        channel: Channel,
        mut consumer: lapin::Consumer,
        epoch: Arc<Epoch>,
        signals: Signals,
    ) -> LaneEnd {
        let Signals { mut stop, close, drained } = signals;
        let mut settlements = self.settlements.lock().await;
        let tag = consumer.tag().clone();
        let mut running = Running {
            lane: Arc::clone(&self),
            channel,
            epoch,
            tags: Tags::default(),
            writes: FuturesUnordered::new(),
        };
        let mut tick = tokio::time::interval(STRAGGLER_PAUSE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        let end = loop {
            tokio::select! {
                Some(settlement) = settlements.recv() => {
                    running.settle(settlement);
                    while let Ok(settlement) = settlements.try_recv() {
                        running.settle(settlement);
                    }
                    running.acknowledge_prefix();
                }
                delivery = consumer.next(), if open => match delivery {
                    Some(Ok(delivery)) => running.deliver(delivery).await,
                    Some(Err(error)) => break LaneEnd { reason: "channel", detail: error.to_string() },
                    None if *stop.borrow() => {
                        open = false;
                        let _ = drained.try_send(());
                    }
                    None => break LaneEnd {
                        reason: "cancelled",
                        detail: "the broker cancelled the consumer (queue deleted or moved)".to_owned(),
                    },
                },
                Some(written) = running.writes.next(), if !running.writes.is_empty() => {
                    if let Err(detail) = written {
                        break LaneEnd { reason: "settle", detail };
                    }
                    while let Some(Some(Ok(()))) = running.writes.next().now_or_never() {}
                }
                Ok(()) = stop.changed() => {
                    let cancel = running.channel.basic_cancel(tag.clone(), BasicCancelOptions::default());
                    match tokio::time::timeout(self.settle_timeout, cancel).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => break LaneEnd { reason: "cancel", detail: error.to_string() },
                        Err(_) => break LaneEnd { reason: "cancel", detail: "no answer to a cancel".to_owned() },
                    }
                }
                _ = tick.tick() => running.acknowledge_stragglers(),
                () = close.cancelled() => break running.finish(&mut settlements).await,
            }
        };
        running.epoch.lost.store(true, Ordering::Release);
        let lost = running.tags.behind + running.writes.len();
        if lost > 0 {
            self.observer.acks_lost(lost);
        }
        end
    }
}

impl Running {
    /// Writes what is settled, before the session closes.
    async fn finish(&mut self, settlements: &mut mpsc::UnboundedReceiver<Settlement>) -> LaneEnd {
        while let Ok(settlement) = settlements.try_recv() {
            self.settle(settlement);
        }
        self.acknowledge_stragglers();
        while let Some(written) = self.writes.next().await {
            if let Err(detail) = written {
                return LaneEnd { reason: "settle", detail };
            }
        }
        LaneEnd { reason: "closed", detail: String::new() }
    }

    async fn deliver(&mut self, delivery: lapin::message::Delivery) {
        self.epoch.first_delivery.get_or_init(Instant::now);
        self.tags.delivered(delivery.delivery_tag);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let work = wire::work(&self.lane.route, &delivery.properties, delivery.data.into(), now_ms);
        // A moved message may carry the count of the queue it came from; a first delivery has none of its own.
        let unsettled = if delivery.redelivered { wire::delivery_count(&delivery.properties) } else { 0 };
        let receipt = Receipt {
            tag: delivery.delivery_tag,
            epoch: Arc::clone(&self.epoch),
            settle: self.lane.settle.clone(),
            settled: false,
        };
        let delivery = Delivery { work, redelivered: delivery.redelivered, unsettled, receipt };
        // The inbox holds as many as the prefetch allows, so this waits only for a worker that is gone.
        let _ = self.lane.deliveries.send(delivery).await;
    }

    fn settle(&mut self, settlement: Settlement) {
        if settlement.epoch != self.epoch.number {
            if !settlement.requeue {
                self.lane.observer.acks_lost(settlement.tags.len());
            }
            return;
        }
        for tag in settlement.tags {
            if !settlement.requeue {
                self.tags.mark(tag, Mark::Settled);
            } else if self.tags.mark(tag, Mark::Sent) {
                let channel = self.channel.clone();
                let nack = async move {
                    let options = BasicNackOptions { multiple: false, requeue: true };
                    channel.basic_nack(tag, options).await.map_err(|e| e.to_string())
                };
                self.write(nack);
            }
        }
    }

    fn acknowledge_prefix(&mut self) {
        if let Some(tag) = self.tags.prefix() {
            self.acknowledge(tag, true);
        }
    }

    fn acknowledge_stragglers(&mut self) {
        self.acknowledge_prefix();
        if self.tags.behind > 0 {
            for tag in self.tags.stragglers() {
                self.acknowledge(tag, false);
            }
        }
    }

    fn acknowledge(&mut self, tag: u64, multiple: bool) {
        let channel = self.channel.clone();
        self.write(async move {
            channel.basic_ack(tag, BasicAckOptions { multiple }).await.map_err(|e| e.to_string())
        });
    }

    fn write(&mut self, write: impl Future<Output = Result<(), String>> + Send + 'static) {
        let timeout = self.lane.settle_timeout;
        self.writes.push(
            async move {
                match tokio::time::timeout(timeout, write).await {
                    Ok(written) => written,
                    Err(_) => Err("an acknowledgement could not be written in time".to_owned()),
                }
            }
            .boxed(),
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_acknowledgement_covers_the_settled_prefix() {
        let mut tags = Tags::default();
        (1..=5).for_each(|tag| tags.delivered(tag));
        assert!(tags.mark(2, Mark::Settled));
        assert_eq!(tags.prefix(), None);
        assert!(tags.mark(1, Mark::Settled));
        assert_eq!(tags.prefix(), Some(2));
        assert!(tags.mark(4, Mark::Settled));
        assert_eq!(tags.stragglers(), [4]);
        assert!(!tags.mark(4, Mark::Settled), "a tag is settled once");
        assert!(tags.mark(3, Mark::Settled));
        assert_eq!(tags.prefix(), Some(3));
    }

    proptest! {
        #[test]
        fn every_settled_tag_is_acknowledged_once_and_no_other(
            order in Just((1_u64..60).collect::<Vec<_>>()).prop_shuffle(),
            settle in 0_usize..60,
            flush_every in 1_usize..9,
        ) {
            let mut tags = Tags::default();
            (1..60).for_each(|tag| tags.delivered(tag));
            let mut acknowledged = std::collections::BTreeMap::new();
            let mut sent_alone = std::collections::BTreeSet::new();
            let mut up_to = 0;
            for (n, tag) in order.iter().take(settle).enumerate() {
                prop_assert!(tags.mark(*tag, Mark::Settled));
                if let Some(prefix) = tags.prefix() {
                    for covered in up_to + 1..=prefix {
                        // "multiple" names only what is still outstanding.
                        if !sent_alone.contains(&covered) {
                            *acknowledged.entry(covered).or_insert(0) += 1;
                        }
                    }
                    up_to = prefix;
                }
                if n % flush_every == 0 {
                    for alone in tags.stragglers() {
                        sent_alone.insert(alone);
                        *acknowledged.entry(alone).or_insert(0) += 1;
                    }
                }
            }
            for alone in tags.stragglers() {
                *acknowledged.entry(alone).or_insert(0) += 1;
            }
            let expected: std::collections::BTreeMap<_, _> = order.iter().take(settle).map(|t| (*t, 1)).collect();
            prop_assert_eq!(acknowledged, expected);
        }
    }
}
