//! One queue of one worker: runs the stage on a batch, carries out its verdicts, settles.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use kingpost_broker::{Delivery, Destination, Outbound, Posting, Receipt};
use kingpost_model::{
    Batch, Failure, FailureKind, FailureRecord, Fault, Item, JournalStep, Outbox as _, Outcome, Route, Stage,
    StageName, Tier, Verdict, Work, decide,
};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    clock::now_ms,
    doubt::{Doubt, Judged},
    drive::Held,
    observe::LaneTelemetry,
    outbox::{BatchOutbox, Scribe},
    pace::{Permit, SchemePace},
    traces::BatchTrace,
};

/// What the batches of a lane share.
pub(crate) struct Lane {
    pub(crate) route: Route,
    /// Which lane of its worker it is.
    pub(crate) index: usize,
    pub(crate) stage: Arc<dyn Stage>,
    pub(crate) outbound: Outbound,
    pub(crate) pace: Arc<SchemePace>,
    pub(crate) telemetry: LaneTelemetry,
    /// Program and version, for failure records.
    pub(crate) worker: String,
    pub(crate) scribe: Scribe,
    pub(crate) doubt: Mutex<Doubt>,
    /// Turns true when the queue is to be left to another worker.
    pub(crate) asked_to_step_back: watch::Sender<bool>,
}

/// Deliveries without a settlement after which a message is judged without being processed; the broker's own limit is
/// far behind.
const UNSETTLED_MAX: u64 = 20;

impl Lane {
    /// Whether the broker lets one worker at a time consume the queue.
    pub(crate) fn has_one_owner(&self) -> bool {
        self.route.stage == StageName::Load
    }

    pub(crate) fn doubt(&self) -> MutexGuard<'_, Doubt> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write may still take effect that a successor would not know of; what was kept for one that can't any
    /// more is acknowledged.
    pub(crate) fn leaves_doubt(&self) -> bool {
        let mut doubt = self.doubt();
        doubt.forget_lost(|receipt| receipt.lease().is_lost());
        let settled = doubt.expire(Instant::now());
        let left = doubt.is_left() || !self.stage.wary_for().is_zero();
        drop(doubt);
        Receipt::acknowledge(settled.into_iter().collect());
        if self.has_one_owner() {
            self.telemetry.in_doubt(self.route.shard, left);
        }
        left
    }

    /// Acknowledges what is settled, or hands it on under another delivery, but for the one that is kept for a write that
    /// may still take effect.
    fn acknowledge<'a>(&self, settled: impl Iterator<Item = (&'a Work, bool, Receipt)>) {
        let keeps = self.has_one_owner();
        #[cfg(kingpost_bugs)]
        let keeps = keeps && !kingpost_settings::bug("forgets-doubt");
        if !keeps {
            return Receipt::acknowledge(settled.map(|(_, _, receipt)| receipt).collect());
        }
        let mut doubt = self.doubt();
        doubt.forget_lost(|receipt| receipt.lease().is_lost());
        let judged = settled.map(|(work, done, receipt)| {
            let number = work.key.number.as_str();
            (Judged { number, done, in_flight_for: self.stage.in_flight_for(work) }, receipt)
        });
        let due = doubt.conclude(judged, self.stage.wary_for(), Instant::now());
        drop(doubt);
        Receipt::acknowledge(due);
    }

    /// Whether somebody may be writing what a delivery that was not begun asks for.
    fn is_suspect(&self, delivery: &Delivery) -> bool {
        let stage = &self.stage;
        delivery.redelivered || !stage.in_flight_for(&delivery.work).is_zero() || !stage.wary_for().is_zero()
    }

    /// Sends a delivery round through a retry tier, unjudged; one of a lost session has been handed out again.
    pub(crate) async fn hand_on(&self, delivery: Delivery) {
        if delivery.receipt.lease().is_lost() {
            return;
        }
        let tier = Tier::at_least(Duration::from_secs(60));
        let destination = Destination::Wait(tier, self.route.clone());
        let work = careful(delivery.work.clone(), self.is_suspect(&delivery));
        let event = self.scribe.event(&delivery.work, || JournalStep::HandedBack);
        if self.outbound.publish(vec![Posting { destination, work }]).await.is_ok() {
            self.scribe.write(event);
            self.acknowledge(std::iter::once((&delivery.work, false, delivery.receipt)));
        }
    }

    /// Gives back what was not begun: a fresh copy each, since a returned delivery would carry a mark that makes the
    /// next owner wait for a write that never was. One that carries the mark already is returned, to its place in front.
    pub(crate) async fn hand_back(&self, deliveries: Vec<Delivery>) {
        let is_fresh = |d: &Delivery| !d.redelivered && !d.receipt.lease().is_lost();
        let (deliveries, marked): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(is_fresh);
        drop(marked);
        if deliveries.is_empty() {
            return;
        }
        let copy = |d: Delivery| (careful(d.work.clone(), self.is_suspect(&d)), d.receipt);
        let (works, receipts): (Vec<_>, Vec<_>) = deliveries.into_iter().map(copy).unzip();
        let destination = Destination::Work(self.route.clone());
        let handed_back = |work| self.scribe.event(work, || JournalStep::HandedBack);
        let events: Vec<_> = works.iter().filter_map(handed_back).collect();
        let postings = works
            .into_iter()
            .map(|work| Posting { destination: destination.clone(), work })
            .collect::<Vec<_>>();
        let count = postings.len();
        if self.outbound.publish(postings).await.is_ok() {
            Receipt::acknowledge(receipts);
            self.scribe.write(events);
            info!(
                scheme = self.route.scheme,
                stage = self.route.stage.as_str(),
                count,
                "handed back what was not begun"
            );
        }
    }

    /// Processes one batch to the end and carries its verdicts out.
    pub(crate) async fn process(self: Arc<Self>, batch: Vec<Held>, permit: Permit) {
        let Some(lease) = batch.first().map(|held| held.delivery.receipt.lease()) else { return };
        let started = Instant::now();
        let (mut items, mut receipts, mut in_hand) = (
            Vec::with_capacity(batch.len()),
            Vec::with_capacity(batch.len()),
            Vec::with_capacity(batch.len()),
        );
        for Held { delivery, in_hand: kept, .. } in batch {
            in_hand.push(kept);
            if delivery.unsettled >= UNSETTLED_MAX {
                self.unsettled(delivery).await;
                continue;
            }
            items.push(Item { work: delivery.work, redelivered: delivery.redelivered });
            receipts.push(delivery.receipt);
        }
        if items.is_empty() {
            return;
        }
        self.telemetry.begun(&items);
        let trace = BatchTrace::begin(&mut items, self.route.queue());
        let mut batch = Batch { items, lease };
        let outbox = self.outbox(&batch);
        let mut verdicts = trace.run(self.judge(&mut batch, &outbox)).await;
        let lesson = permit.judge(self.index, &batch.items, &mut verdicts);
        let concluded = self.conclude(&batch, &verdicts, receipts, &outbox, &trace).await;
        trace.end(&verdicts, concluded);
        self.telemetry.ended(&batch.items, &verdicts, started.elapsed(), concluded);
        drop(in_hand);
        permit.end(&lesson);
    }

    /// Judges a message that was handed out again and again and never settled: it may kill its worker, or it may only
    /// have been in the hands of workers that lost their connections. The fresh copy starts its count anew.
    async fn unsettled(&self, delivery: Delivery) {
        let text = format!(
            "handed out {} times without being settled; does it kill its worker?",
            delivery.unsettled
        );
        let failure = Failure::new(FailureKind::Internal, text).by(Fault::Broker);
        let item = Item { work: delivery.work, redelivered: delivery.redelivered };
        let verdict = decide(failure, item.work.attempt);
        let Some(mut posting) = self.posting(&item, &verdict) else { return };
        posting.work = careful(posting.work, item.redelivered);
        let single = Batch { items: vec![item], lease: delivery.receipt.lease() };
        let outbox = self.outbox(&single);
        let Some(item) = single.items.first() else { return };
        self.tell(&outbox, item, &posting, &verdict);
        outbox.post(posting);
        if outbox.flush().await.is_ok() && !delivery.receipt.lease().is_lost() {
            self.acknowledge(std::iter::once((&item.work, false, delivery.receipt)));
            self.telemetry.unsettled(item, &verdict);
        }
    }

    /// One verdict per item, whatever the stage does.
    async fn judge(&self, batch: &mut Batch, outbox: &BatchOutbox) -> Vec<Verdict> {
        if let Some(verdicts) = self.attempt(batch, outbox).await {
            return verdicts;
        }
        outbox.clear();
        // The broken attempt may have acted on any of them. Told at once, before anybody waits: a batch beside this one may
        // hold another copy.
        for item in &mut batch.items {
            item.redelivered = true;
            self.stage.met(&item.work, true, &batch.lease);
        }
        if let [item] = batch.items.as_slice() {
            return vec![decide(crashed(), item.work.attempt)];
        }
        // One of them breaks the stage; alone, each stands for itself.
        let mut verdicts = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let single = Batch { items: vec![item.clone()], lease: batch.lease.clone() };
            let alone = self.outbox(&single);
            let verdict = match self.attempt(&single, &alone).await {
                Some(mut verdict) if alone.flush().await.is_ok() => verdict.pop(),
                Some(_) => return Vec::new(),
                None => None,
            };
            verdicts.push(verdict.unwrap_or_else(|| decide(crashed(), item.work.attempt)));
        }
        verdicts
    }

    fn outbox(&self, batch: &Batch) -> BatchOutbox {
        let window = match batch.items.as_slice() {
            [item] if self.route.stage == StageName::Extract => Some(item.work.key.number.clone()),
            _ => None,
        };
        let (outbound, lease, worker) = (self.outbound.clone(), batch.lease.clone(), self.worker.clone());
        BatchOutbox::new(outbound, lease, self.route.clone(), worker, self.scribe.clone(), window)
    }

    /// Runs the stage; nothing when it panicked or broke its contract.
    async fn attempt(&self, batch: &Batch, outbox: &BatchOutbox) -> Option<Vec<Verdict>> {
        match AssertUnwindSafe(self.stage.process(batch, outbox)).catch_unwind().await {
            Ok(verdicts) if verdicts.len() == batch.items.len() => Some(verdicts),
            Ok(verdicts) => {
                error!(
                    items = batch.items.len(),
                    verdicts = verdicts.len(),
                    "a stage returned too few or many verdicts"
                );
                None
            }
            Err(_) => {
                error!(items = batch.items.len(), scheme = self.route.scheme, "a stage panicked");
                None
            }
        }
    }

    /// The law of order: everything the batch led to is confirmed and routed before anything of it is acknowledged.
    /// Returns whether the batch was settled.
    async fn conclude(
        &self,
        batch: &Batch,
        verdicts: &[Verdict],
        receipts: Vec<Receipt>,
        outbox: &BatchOutbox,
        trace: &BatchTrace,
    ) -> bool {
        if verdicts.len() != batch.items.len() {
            return false;
        }
        #[cfg(kingpost_bugs)]
        let verdicts = &verdicts.iter().cloned().map(misjudged).collect::<Vec<_>>()[..];
        for (index, (item, verdict)) in batch.items.iter().zip(verdicts).enumerate() {
            if let Some(mut posting) = self.posting(item, verdict) {
                trace.restore(index, &mut posting.work);
                self.tell(outbox, item, &posting, verdict);
                outbox.post(posting);
            }
        }
        #[cfg(kingpost_bugs)]
        if kingpost_settings::bug("ack-before-confirm") {
            Receipt::acknowledge(receipts);
            return outbox.flush().await.is_ok();
        }
        if outbox.flush().await.is_err() || batch.lease.is_lost() {
            return false;
        }
        let settled = batch.items.iter().zip(verdicts).zip(receipts);
        self.acknowledge(
            settled.map(|((item, verdict), receipt)| (&item.work, matches!(verdict, Verdict::Done), receipt)),
        );
        true
    }

    /// The copy that a verdict sends on, logged once, here.
    fn posting(&self, item: &Item, verdict: &Verdict) -> Option<Posting> {
        let work = &item.work;
        let (failure, counted) = match verdict {
            Verdict::Done => return None,
            Verdict::Retry { failure, counted, .. } => (failure, *counted),
            Verdict::Dead { failure } => (failure, false),
        };
        let now = now_ms();
        let record = FailureRecord::of(failure, work, now, &self.worker);
        let mut next = work.after_failure(record, counted);
        // The copy doesn't carry the mark of a redelivery, whose write may have begun long after the last unclear one. One
        // that only waits for somebody else's write has none of its own, and must not make others wait for it in turn.
        if item.redelivered || failure.in_flight {
            next.unclear_since_ms = Some(now);
        }
        let destination = match verdict {
            Verdict::Retry { after, .. } => Destination::Wait(Tier::at_least(*after), self.route.clone()),
            _ => Destination::Dead(self.route.clone()),
        };
        let dead = matches!(destination, Destination::Dead(_));
        log(work, failure, dead);
        Some(Posting { destination, work: next })
    }

    /// Tells the journal, and whoever waits for the message, that it is tried again, or dead.
    fn tell(&self, outbox: &BatchOutbox, item: &Item, posting: &Posting, verdict: &Verdict) {
        let Some(failure) = posting.work.last_failure.as_deref() else { return };
        let outcome = match verdict {
            Verdict::Done => return,
            Verdict::Retry { after, .. } => {
                let tier = Tier::at_least(*after);
                let after_ms = u64::try_from(tier.delay.as_millis()).unwrap_or(u64::MAX);
                outbox.note(self.scribe.event(&item.work, || JournalStep::Retry {
                    tier: tier.queue.trim_start_matches("wait.").to_owned(),
                    after_ms,
                    failure: failure.into(),
                }));
                Outcome::Waiting { after_ms, failure: failure.clone() }
            }
            Verdict::Dead { .. } => {
                let dead = || JournalStep::Dead { failure: failure.into() };
                outbox.note(self.scribe.event(&item.work, dead));
                Outcome::Dead { failure: failure.clone() }
            }
        };
        outbox.report(&item.work, outcome);
    }
}

/// What the table would never say.
#[cfg(kingpost_bugs)]
fn misjudged(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Dead { failure } if kingpost_settings::bug("retry-data-errors") => {
            Verdict::Retry { after: std::time::Duration::ZERO, counted: false, failure }
        }
        Verdict::Retry { failure, counted: false, .. } if kingpost_settings::bug("outage-kills") => {
            Verdict::Dead { failure }
        }
        verdict => verdict,
    }
}

fn crashed() -> Failure {
    Failure::new(FailureKind::Internal, "the stage broke on this message; the log of the worker says where")
}

/// A copy must not look fresher than the delivery it stands for.
fn careful(mut work: Work, suspect: bool) -> Work {
    if suspect {
        work.verify = true;
        work.unclear_since_ms = Some(now_ms());
    }
    work
}

fn log(work: &Work, failure: &Failure, dead: bool) {
    let (id, key) = (work.id.as_str(), work.key.to_string());
    let (kind, fault) = (failure.kind.as_str(), failure.fault.as_str());
    let (scheme, attempt, text) = (work.scheme.as_str(), work.attempt, failure.text.as_str());
    let problems = failure.problems.len();
    let (trace_id, span_id) = work.trace_ids();
    if dead {
        error!(
            message.id = id,
            record.key = key,
            scheme,
            attempt,
            kind,
            fault,
            problems,
            trace_id,
            span_id,
            "dead letter: {text}"
        );
    } else {
        warn!(
            message.id = id,
            record.key = key,
            scheme,
            attempt,
            kind,
            fault,
            problems,
            trace_id,
            span_id,
            "tried again later: {text}"
        );
    }
}
