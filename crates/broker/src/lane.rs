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
use kingpost_model::{Lease, Pulse, Route, Work};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions},
    types::FieldTable,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{ConnectError, Observer},
    pulse::Answered,
    tags::{Mark, Tags},
    topology::short,
    wire,
};

/// A settled delivery behind an unsettled one waits this long for a common acknowledgement before it gets its own.
const STRAGGLER_PAUSE: Duration = Duration::from_millis(250);

/// The session that delivered a message, and since when it does without a break; when the session is gone nothing of
/// it can be settled.
#[derive(Debug)]
pub(crate) struct Epoch {
    number: u64,
    lost: Arc<AtomicBool>,
    answered: Arc<Answered>,
    first_delivery: std::sync::OnceLock<Instant>,
}

impl Epoch {
    pub(crate) fn new(number: u64, lost: &Arc<AtomicBool>, answered: &Arc<Answered>) -> Arc<Self> {
        let (lost, answered) = (Arc::clone(lost), Arc::clone(answered));
        Arc::new(Epoch { number, lost, answered, first_delivery: std::sync::OnceLock::new() })
    }
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
    /// When it came into its queue, in milliseconds since the epoch and to the second: its publish, or its return from a retry
    /// tier. Nothing when it doesn't say.
    pub queued_ms: Option<i64>,
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
        let answered = Arc::clone(&self.epoch.answered) as Arc<dyn Pulse>;
        Lease::new(Arc::clone(&self.epoch.lost), age).with_pulse(answered)
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

    /// Leaves a delivery to the end of its session, which returns it to its place with the mark of a redelivery and
    /// only then lets another consumer in.
    pub fn leave(mut self) {
        self.settled = true;
    }
}

/// The next delivery of a consumer; never while there is none.
async fn next(consumer: &mut Option<lapin::Consumer>) -> Option<Arrival> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
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
    /// What arrived while the queue was being given up.
    pub(crate) kept: VecDeque<Delivery>,
    pub(crate) reins: Reins,
}

impl Inbox {
    /// The queue.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The next delivery; nothing once consuming has been stopped and all is handed out.
    pub async fn recv(&mut self) -> Option<Delivery> {
        match self.kept.pop_front() {
            Some(delivery) => Some(delivery),
            None => self.deliveries.recv().await,
        }
    }

    /// Further deliveries that are here already, at most `limit`, appended to `to`.
    pub fn take_ready(&mut self, limit: usize, to: &mut Vec<Delivery>) {
        while to.len() < limit {
            match self.kept.pop_front().map_or_else(|| self.deliveries.try_recv().ok(), Some) {
                Some(delivery) => to.push(delivery),
                None => break,
            }
        }
    }

    /// Gives the queue up: cancels its consumer, and returns when the broker sends nothing more, which it does too when
    /// there is no session. What was delivered is still here and can be settled. Of a single-active-consumer queue the
    /// broker makes somebody else the active one at once, so nothing that was delivered may be running any more.
    pub async fn leave(&mut self) {
        self.reins.wanted.send_replace(false);
        loop {
            tokio::select! {
                biased;
                _ = self.reins.open.wait_for(|open| !*open) => break,
                Some(delivery) = self.deliveries.recv() => self.kept.push_back(delivery),
            }
        }
    }

    /// Consumes the queue again, behind everybody who waits for it.
    pub fn rejoin(&self) {
        self.reins.wanted.send_replace(true);
    }

    /// Since when the queue has been delivering to us without a break; nothing while it has not. That is how a consumer
    /// of a single-active-consumer queue knows that it is the active one.
    pub fn active_since(&self) -> watch::Receiver<Option<Instant>> {
        self.reins.active.clone()
    }
}

impl Drop for Inbox {
    /// What nobody took is left to the end of the session; returned now, it would only be delivered to nobody again.
    fn drop(&mut self) {
        self.deliveries.close();
        let rest = std::iter::from_fn(|| self.deliveries.try_recv().ok());
        self.kept.drain(..).chain(rest).for_each(|delivery| delivery.receipt.leave());
    }
}

/// How a lane is told whether to consume, and how it tells what is so.
#[derive(Clone, Debug)]
pub(crate) struct Reins {
    pub(crate) wanted: watch::Sender<bool>,
    /// Deliveries may come.
    pub(crate) open: watch::Receiver<bool>,
    pub(crate) active: watch::Receiver<Option<Instant>>,
}

/// The other end of [`Reins`].
pub(crate) struct Bit {
    wanted: watch::Receiver<bool>,
    open: watch::Sender<bool>,
    active: watch::Sender<Option<Instant>>,
}

pub(crate) fn reins() -> (Reins, Bit) {
    let (wanted, wanted_seen) = watch::channel(true);
    let (open_set, open) = watch::channel(false);
    let (active_set, active) = watch::channel(None);
    (Reins { wanted, open, active }, Bit { wanted: wanted_seen, open: open_set, active: active_set })
}

pub(crate) struct Lane {
    pub(crate) route: Arc<Route>,
    pub(crate) prefetch: u16,
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    pub(crate) settle: mpsc::UnboundedSender<Settlement>,
    pub(crate) settlements: tokio::sync::Mutex<mpsc::UnboundedReceiver<Settlement>>,
    pub(crate) settle_timeout: Duration,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) bit: Bit,
}

/// How the consuming of one queue ended.
pub(crate) struct LaneEnd {
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    /// Dropped only after the connection is closed: a consumer that is dropped is cancelled, and the broker would let
    /// another one in before it has returned to the queue what we hold.
    pub(crate) consumer: Option<lapin::Consumer>,
}

impl LaneEnd {
    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        LaneEnd { reason, detail: detail.into(), consumer: None }
    }
}

type Arrival = lapin::Result<lapin::message::Delivery>;
type Write = BoxFuture<'static, Result<(), String>>;

/// A lane on its channel.
pub(crate) struct Running {
    lane: Arc<Lane>,
    channel: Channel,
    wanted: watch::Receiver<bool>,
    epoch: Arc<Epoch>,
    consumer: Option<lapin::Consumer>,
    /// The consumer is cancelled, and what was on its way still comes.
    cancelled: bool,
    /// The session is to end.
    close: CancellationToken,
    tags: Tags,
    writes: FuturesUnordered<Write>,
}

impl Lane {
    /// Begins with a queue on its channel.
    pub(crate) async fn start(
        self: Arc<Self>,
        channel: Channel,
        epoch: Arc<Epoch>,
        close: CancellationToken,
    ) -> Result<Running, ConnectError> {
        let wanted = self.bit.wanted.clone();
        let mut running = Running {
            lane: self,
            channel,
            wanted,
            epoch,
            consumer: None,
            cancelled: false,
            close,
            tags: Tags::default(),
            writes: FuturesUnordered::new(),
        };
        running.consume().await?;
        Ok(running)
    }

    /// Notes that nothing more can be delivered.
    pub(crate) fn shut(&self) {
        if self.bit.active.send_replace(None).is_some() {
            self.observer.active(&self.route, false);
        }
        self.bit.open.send_replace(false);
    }
}

impl Running {
    /// Runs until the session ends.
    pub(crate) async fn run(mut self) -> LaneEnd {
        let (lane, close) = (Arc::clone(&self.lane), self.close.clone());
        let mut settlements = lane.settlements.lock().await;
        let mut tick = tokio::time::interval(STRAGGLER_PAUSE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end = loop {
            let stepped = tokio::select! {
                Some(settlement) = settlements.recv() => {
                    self.settle(settlement);
                    while let Ok(settlement) = settlements.try_recv() {
                        self.settle(settlement);
                    }
                    self.acknowledge_prefix();
                    Ok(())
                }
                delivery = next(&mut self.consumer) => self.received(delivery).await,
                Some(written) = self.writes.next(), if !self.writes.is_empty() => {
                    while let Some(Some(Ok(()))) = self.writes.next().now_or_never() {}
                    written.map_err(|detail| LaneEnd::new("settle", detail))
                }
                Ok(()) = self.wanted.changed() => self.rein().await,
                _ = tick.tick() => {
                    self.acknowledge_stragglers();
                    match self.is_cut_off() {
                        true => Err(LaneEnd::new("channel", "the broker closed the channel")),
                        false => Ok(()),
                    }
                }
                () = close.cancelled() => break self.finish(&mut settlements).await,
            };
            if let Err(end) = stepped {
                break end;
            }
        };
        self.epoch.lost.store(true, Ordering::Release);
        let lost = self.tags.behind() + self.writes.len();
        if lost > 0 {
            lane.observer.acks_lost(lost);
        }
        end.consumer = self.consumer.take();
        end
    }

    /// Consumes if that is wanted, and starts to count anew since when.
    async fn consume(&mut self) -> Result<(), ConnectError> {
        // In this order, and in the other one in `Inbox::leave`: one of the two sees the other.
        self.lane.bit.open.send_replace(true);
        if !*self.wanted.borrow_and_update() {
            self.lane.shut();
            return Ok(());
        }
        self.epoch = Epoch::new(self.epoch.number, &self.epoch.lost, &self.epoch.answered);
        let queue = short(&self.lane.route.queue())?;
        let options = BasicConsumeOptions::default();
        let consume = self.channel.basic_consume(queue, "".into(), options, FieldTable::default());
        self.consumer = Some(consume.await.map_err(|e| ConnectError::of(&e))?);
        Ok(())
    }

    /// Does what was last wanted.
    async fn rein(&mut self) -> Result<(), LaneEnd> {
        let wanted = *self.wanted.borrow_and_update();
        match &self.consumer {
            Some(consumer) if !wanted && !self.cancelled => {
                let cancel = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                match tokio::time::timeout(self.lane.settle_timeout, cancel).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(LaneEnd::new("cancel", error.to_string())),
                    Err(_) => return Err(LaneEnd::new("cancel", "no answer to a cancel")),
                }
                self.cancelled = true;
                Ok(())
            }
            None => self.consume_in_time().await,
            Some(_) => Ok(()),
        }
    }

    /// The channel has ended, which a lane without a consumer hears of by nothing else.
    fn is_cut_off(&self) -> bool {
        self.consumer.is_none() && !self.channel.status().connected()
    }

    async fn consume_in_time(&mut self) -> Result<(), LaneEnd> {
        match tokio::time::timeout(self.lane.settle_timeout, self.consume()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(LaneEnd::new("setup", error.to_string())),
            Err(_) => Err(LaneEnd::new("setup", "no answer while consuming was set up")),
        }
    }

    async fn received(&mut self, delivery: Option<Arrival>) -> Result<(), LaneEnd> {
        match delivery {
            Some(Ok(delivery)) => {
                self.deliver(delivery).await;
                Ok(())
            }
            Some(Err(error)) => Err(LaneEnd::new("channel", error.to_string())),
            None if self.cancelled => {
                (self.consumer, self.cancelled) = (None, false);
                self.lane.shut();
                // Meanwhile it may be wanted again.
                self.consume_in_time().await
            }
            None => {
                let detail = "the broker cancelled the consumer (queue deleted or moved)";
                Err(LaneEnd::new("cancelled", detail))
            }
        }
    }

    /// Writes what is settled, before the session closes.
    async fn finish(&mut self, settlements: &mut mpsc::UnboundedReceiver<Settlement>) -> LaneEnd {
        while let Ok(settlement) = settlements.try_recv() {
            self.settle(settlement);
        }
        self.acknowledge_stragglers();
        while let Some(written) = self.writes.next().await {
            if let Err(detail) = written {
                return LaneEnd::new("settle", detail);
            }
        }
        LaneEnd::new("closed", "")
    }

    async fn deliver(&mut self, delivery: lapin::message::Delivery) {
        if self.epoch.first_delivery.get().is_none() {
            let now = *self.epoch.first_delivery.get_or_init(Instant::now);
            self.lane.bit.active.send_replace(Some(now));
            self.lane.observer.active(&self.lane.route, true);
        }
        self.tags.delivered(delivery.delivery_tag);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let work = wire::work(&self.lane.route, &delivery.properties, delivery.data.into(), now_ms);
        // A moved message may carry the count of the queue it came from; a first delivery has none of its own.
        let unsettled = if delivery.redelivered { wire::delivery_count(&delivery.properties) } else { 0 };
        let queued_ms = wire::queued_ms(&delivery.properties);
        let receipt = Receipt {
            tag: delivery.delivery_tag,
            epoch: Arc::clone(&self.epoch),
            settle: self.lane.settle.clone(),
            settled: false,
        };
        let delivery = Delivery { work, redelivered: delivery.redelivered, unsettled, queued_ms, receipt };
        // The inbox holds as many as the prefetch allows, so this waits only for a worker that is slow to give up what
        // a lost session left. One that is gone gets nothing more: returned, it would only be delivered again.
        if let Err(refused) = self.lane.deliveries.send(delivery).await {
            refused.0.receipt.leave();
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        let stale = settlement.epoch != self.epoch.number;
        #[cfg(kingpost_bugs)]
        let stale = stale && !kingpost_settings::bug("ignore-stale-session");
        if stale {
            if !settlement.requeue {
                self.lane.observer.acks_lost(settlement.tags.len());
            }
            return;
        }
        if settlement.requeue && self.close.is_cancelled() {
            // The closing returns it.
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
        if self.tags.behind() > 0 {
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
