//! What keeps a successor careful.
//!
//! A write may still take effect after its message was put into a retry tier, or its copy was found, and all that was
//! delivered was acknowledged: one of ours that ended without an answer, or one that a predecessor left behind and that
//! we wait for ourselves. We remember it; whoever owns the queue after us doesn't, and would post another copy of its
//! document. So one delivery is kept unsettled for as long as the stage says so. The next owner gets it first, as a
//! redelivered message of a young lease, and then posts nothing that it doesn't find until the settle window is over.
//!
//! How long that is follows from the settle window alone, never from when a message comes back: a document that waits
//! behind a long queue doesn't hold up the passing on of that queue.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kingpost_broker::Receipt;

/// What an item of a batch came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) number: &'a str,
    /// Its document is there, so that nobody will post it again.
    pub(crate) done: bool,
    /// How long a write of it may still take effect.
    pub(crate) in_flight_for: Duration,
}

/// The writes of a queue that may still take effect, and the delivery that is kept for them.
#[derive(Debug)]
pub(crate) struct Doubt<R = Receipt> {
    /// By number, until when.
    numbers: HashMap<String, Instant>,
    /// Until when any number at all may be written by a predecessor.
    wary: Option<Instant>,
    kept: Option<R>,
}

impl<R> Default for Doubt<R> {
    fn default() -> Self {
        Doubt { numbers: HashMap::new(), wary: None, kept: None }
    }
}

impl<R> Doubt<R> {
    /// Takes the receipts of a batch that is concluded, and returns those to be acknowledged. `wary_for` is how long a
    /// write of whatever number may still take effect.
    pub(crate) fn conclude<'a>(
        &mut self,
        batch: impl Iterator<Item = (Judged<'a>, R)>,
        wary_for: Duration,
        now: Instant,
    ) -> Vec<R> {
        self.wary = (!wary_for.is_zero()).then(|| now + wary_for);
        let mut due = Vec::new();
        for (judged, receipt) in batch {
            if judged.done {
                self.numbers.remove(judged.number);
            } else if !judged.in_flight_for.is_zero() {
                self.numbers.insert(judged.number.to_owned(), now + judged.in_flight_for);
                // The newest: the broker's patience with a delivery is longer than any settle window, not endless.
                due.extend(self.kept.replace(receipt));
                continue;
            }
            due.push(receipt);
        }
        if self.wary.is_some() && self.kept.is_none() {
            self.kept = due.pop();
        }
        due.extend(self.expire(now));
        due
    }

    /// Forgets what was kept in a session that is lost: whoever has the queue now gets that delivery, as redelivered.
    pub(crate) fn forget_lost(&mut self, is_lost: impl Fn(&R) -> bool) {
        if self.kept.as_ref().is_some_and(is_lost) {
            *self = Self::default();
        }
    }

    /// The kept delivery, once there is nothing more to keep it for.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<R> {
        self.numbers.retain(|_, until| *until > now);
        self.wary = self.wary.filter(|until| *until > now);
        if self.numbers.is_empty() && self.wary.is_none() { self.kept.take() } else { None }
    }

    /// When the kept delivery may be let go at the latest; nothing while none is kept.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.kept.as_ref().and_then(|_| self.numbers.values().copied().chain(self.wary).max())
    }

    /// Whether a write may still take effect, as of the last look.
    pub(crate) fn is_left(&self) -> bool {
        self.kept.is_some()
    }

    /// The kept delivery, whatever it is kept for.
    pub(crate) fn give_up(&mut self) -> Option<R> {
        self.numbers.clear();
        self.wary = None;
        self.kept.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::ZERO;
    const WINDOW: Duration = Duration::from_secs(240);

    fn judged(number: &str, in_flight_for: Duration) -> Judged<'_> {
        Judged { number, done: false, in_flight_for }
    }

    fn done(number: &str) -> Judged<'_> {
        Judged { number, done: true, in_flight_for: WINDOW }
    }

    fn conclude(doubt: &mut Doubt<u32>, batch: &[(Judged<'_>, u32)], now: Instant) -> Vec<u32> {
        doubt.conclude(batch.iter().copied(), NEVER, now)
    }

    #[test]
    fn one_delivery_is_kept_until_every_outcome_is_known() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        let batch = [(judged("A", WINDOW), 1), (done("B"), 2), (judged("C", WINDOW), 3)];
        assert_eq!(conclude(&mut doubt, &batch, now), [2, 1], "the newest is kept, for both");
        assert!(doubt.is_left());
        let waits = WINDOW - Duration::from_secs(30);
        assert_eq!(
            conclude(&mut doubt, &[(judged("A", waits), 4)], now),
            [3],
            "one that only waits is newer"
        );
        assert_eq!(conclude(&mut doubt, &[(done("A"), 5)], now), [5]);
        assert!(doubt.is_left(), "C is unknown");
        assert_eq!(conclude(&mut doubt, &[(judged("D", NEVER), 6)], now), [6]);
        assert_eq!(conclude(&mut doubt, &[(done("C"), 7)], now), [7, 4]);
        assert!(!doubt.is_left());
    }

    #[test]
    fn who_was_warned_warns_the_next_one_though_all_is_done() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        let batch = [(done("A"), 1), (done("B"), 2)];
        assert_eq!(doubt.conclude(batch.into_iter(), WINDOW, now), [1]);
        assert_eq!(doubt.conclude([(done("C"), 3)].into_iter(), WINDOW / 2, now + WINDOW / 2), [3]);
        assert!(doubt.is_left());
        assert_eq!(doubt.expire(now + WINDOW), Some(2));
    }

    #[test]
    fn what_a_lost_session_left_is_kept_for_nothing() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        // A is unclear, the session is lost, and another owner settles A; later B is unclear here, and then settled.
        assert!(conclude(&mut doubt, &[(judged("A", WINDOW), 1)], now).is_empty());
        doubt.forget_lost(|receipt| *receipt <= 1);
        assert!(!doubt.is_left());
        assert!(conclude(&mut doubt, &[(judged("B", WINDOW), 2)], now).is_empty());
        doubt.forget_lost(|receipt| *receipt <= 1);
        assert!(doubt.is_left());
        assert_eq!(conclude(&mut doubt, &[(done("B"), 3)], now), [3, 2]);
    }

    #[test]
    fn nothing_is_kept_beyond_the_windows_of_its_numbers() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        let batch = [(judged("A", WINDOW), 1), (judged("B", WINDOW / 2), 2)];
        assert_eq!(conclude(&mut doubt, &batch, now), [1]);
        assert_eq!(doubt.expire(now + WINDOW / 2), None, "A is in doubt");
        assert_eq!(doubt.until(), Some(now + WINDOW));
        assert_eq!(doubt.expire(now + WINDOW), Some(2));
        assert!(!doubt.is_left());
    }
}
