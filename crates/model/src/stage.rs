//! What a worker runs: a function from a batch of work to one verdict per item.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{Outcome, Route, Verdict, Work};

/// A future behind a pointer, so that stages and connectors can be held as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The message.
    pub work: Work,
    /// The broker has handed it out before, so somebody may have acted on it.
    pub redelivered: bool,
}

/// The right to act on what was delivered: gone when the connection that delivered it is gone, because from then
/// on another worker may hold the same messages.
#[derive(Clone, Debug)]
pub struct Lease {
    lost: Arc<AtomicBool>,
    pulse: Option<Arc<dyn Pulse>>,
    /// How long this worker has been receiving from this queue without a break, at the time of the batch.
    pub age: Duration,
}

impl Lease {
    /// A lease that is held until `lost` becomes true.
    pub const fn new(lost: Arc<AtomicBool>, age: Duration) -> Self {
        Lease { lost, pulse: None, age }
    }

    /// The same lease, held only while the pulse of its connection can be felt.
    #[must_use]
    pub fn with_pulse(mut self, pulse: Arc<dyn Pulse>) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// True while the connection that delivered the batch lives, and the broker has said so a moment ago. Ask right before
    /// every write: who was frozen, or is cut off, may not know yet that somebody else has the same messages.
    pub fn is_held(&self) -> bool {
        !self.is_lost() && self.pulse.as_ref().is_none_or(|pulse| pulse.beats())
    }

    /// True once the connection that delivered the batch is known to be gone: nothing of it can be settled any more.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// Whether the broker answered on a connection so lately that it can't have given the connection up.
pub trait Pulse: fmt::Debug + Send + Sync {
    /// True while it did.
    fn beats(&self) -> bool;
}

/// What a stage is given: items of one queue and the right to act on them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The items, in the order of the queue; never empty.
    pub items: Vec<Item>,
    /// The right to act.
    pub lease: Lease,
}

/// Publishing was given up because the worker is stopping; nothing that depends on it may be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker stopped before the broker had confirmed every message")
    }
}

impl std::error::Error for Abandoned {}

/// Where a stage puts what it produces. The harness flushes it once more before it settles anything.
pub trait Outbox: Send + Sync {
    /// Hands work over for publishing to a queue.
    fn put(&self, route: Route, work: Work);

    /// Tells whoever asked for it what became of a message; does nothing for one that nobody waits for. The harness
    /// itself tells of retries and dead letters.
    fn report(&self, _work: &Work, _outcome: Outcome) {}

    /// Waits until everything put so far is confirmed by the broker and routed to a queue.
    ///
    /// # Errors
    /// [`Abandoned`] when the worker stops first.
    fn flush(&self) -> BoxFuture<'_, Result<(), Abandoned>>;
}

/// One stage of the pipeline. It can't acknowledge, delay or dead-letter; it says what should happen.
pub trait Stage: Send + Sync + 'static {
    /// Processes a batch and returns exactly one verdict per item, in the order of the items.
    fn process<'a>(&'a self, batch: &'a Batch, outbox: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>>;

    /// Told of every message as it arrives, before any batch of it is begun, and again when its batch broke in mid-work.
    fn met(&self, _work: &Work, _redelivered: bool, _lease: &Lease) {}

    /// How long a write of the same key may still take effect, as far as this worker knows; zero when none may.
    fn in_flight_for(&self, _work: &Work) -> Duration {
        Duration::ZERO
    }

    /// How long a write of whatever key may still take effect that a predecessor has left behind; zero when none may.
    fn wary_for(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lease_is_lost_for_every_holder() {
        let lost = Arc::new(AtomicBool::new(false));
        let lease = Lease::new(Arc::clone(&lost), Duration::ZERO);
        let copy = lease.clone();
        assert!(lease.is_held() && copy.is_held());
        lost.store(true, Ordering::Release);
        assert!(!lease.is_held() && !copy.is_held() && copy.is_lost());
    }

    #[derive(Debug, Default)]
    struct Felt(AtomicBool);

    impl Pulse for Felt {
        fn beats(&self) -> bool {
            self.0.load(Ordering::Acquire)
        }
    }

    #[test]
    fn a_lease_without_a_pulse_is_not_held_and_not_lost_either() {
        let felt = Arc::new(Felt::default());
        let lease =
            Lease::new(Arc::default(), Duration::ZERO).with_pulse(Arc::clone(&felt) as Arc<dyn Pulse>);
        assert!(!lease.is_held() && !lease.is_lost());
        felt.0.store(true, Ordering::Release);
        assert!(lease.is_held());
    }
}
