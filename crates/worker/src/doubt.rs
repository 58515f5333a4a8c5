//! What keeps a successor careful.
//!
//! A write that ended without an answer may still take effect after its message was put into a retry tier and
//! acknowledged. We remember its key; whoever owns the queue after us doesn't, and would post another copy of it. So one
//! delivery is kept unsettled until the outcome is known. The next owner gets it first, as a redelivered message of a
//! young lease, and then posts nothing that it doesn't find until the settle window is over.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kingpost_broker::Receipt;
use kingpost_model::{FailureKind, Item, Verdict};

/// The longest that a delivery is kept: longer than any settle window that is usual, and well below the broker's
/// patience with its consumer (30 minutes).
const KEPT_MAX: Duration = Duration::from_secs(600);

/// The writes of a queue whose outcome isn't known, and the delivery that is kept for them.
#[derive(Debug)]
pub(crate) struct Doubt<R = Receipt> {
    numbers: HashMap<String, Instant>,
    kept: Option<R>,
}

impl<R> Default for Doubt<R> {
    fn default() -> Self {
        Doubt { numbers: HashMap::new(), kept: None }
    }
}

impl<R> Doubt<R> {
    /// Takes the receipts of a batch that is concluded, and returns those to be acknowledged.
    pub(crate) fn conclude(
        &mut self,
        items: &[Item],
        verdicts: &[Verdict],
        receipts: Vec<R>,
        now: Instant,
    ) -> Vec<R> {
        let mut due = Vec::with_capacity(receipts.len() + 1);
        for ((item, verdict), receipt) in items.iter().zip(verdicts).zip(receipts) {
            let number = &item.work.key.number;
            if leaves_doubt(verdict) {
                self.numbers.insert(number.clone(), now);
                due.extend(self.kept.replace(receipt));
            } else {
                if ends_doubt(item, verdict) {
                    self.numbers.remove(number);
                }
                due.push(receipt);
            }
        }
        due.extend(self.expire(now));
        due
    }

    /// Forgets what was kept in a session that is lost: whoever has the queue now gets that delivery, as redelivered.
    pub(crate) fn forget_lost(&mut self, is_held: impl Fn(&R) -> bool) {
        if self.kept.as_ref().is_some_and(|kept| !is_held(kept)) {
            *self = Self::default();
        }
    }

    /// The kept delivery, once there is nothing more to keep it for.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<R> {
        self.numbers.retain(|_, since| now.saturating_duration_since(*since) < KEPT_MAX);
        if self.numbers.is_empty() { self.kept.take() } else { None }
    }

    /// Whether a write may still take effect.
    pub(crate) fn is_left(&self) -> bool {
        self.kept.is_some()
    }

    /// The kept delivery, whatever it is kept for.
    pub(crate) fn give_up(&mut self) -> Option<R> {
        self.numbers.clear();
        self.kept.take()
    }
}

fn leaves_doubt(verdict: &Verdict) -> bool {
    let (Verdict::Retry { failure, .. } | Verdict::Dead { failure }) = verdict else { return false };
    failure.kind == FailureKind::Unclear && failure.in_flight
}

/// A document that is there is no longer in doubt; neither is one that was judged anew after its unclear write.
fn ends_doubt(item: &Item, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Done => true,
        Verdict::Retry { failure, .. } => {
            let waits = failure.kind == FailureKind::Unclear || failure.kind.is_outage();
            item.work.unclear_since_ms.is_some() && !waits
        }
        Verdict::Dead { .. } => item.work.unclear_since_ms.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, RecordKey, StageName, Work, WorkId, decide};

    use super::*;

    fn item(number: &str, unclear: bool) -> Item {
        let key = RecordKey::new("STK_InStock", number);
        let mut work = Work::new(WorkId::new(number), StageName::Load, "s", key, "{}");
        work.unclear_since_ms = unclear.then_some(1);
        Item { work, redelivered: false }
    }

    fn hanging() -> Verdict {
        decide(Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight(), 1)
    }

    fn waiting() -> Verdict {
        decide(Failure::new(FailureKind::Unclear, "not there yet"), 1)
    }

    #[test]
    fn one_delivery_is_kept_until_every_outcome_is_known() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        let items = [item("A", false), item("B", false), item("C", false)];
        let due = doubt.conclude(&items, &[hanging(), Verdict::Done, hanging()], vec![1, 2, 3], now);
        assert_eq!((due, doubt.is_left()), (vec![2, 1], true), "the newest is kept, for both");
        assert_eq!(doubt.conclude(&[item("A", true)], &[waiting()], vec![4], now), [4]);
        assert_eq!(doubt.conclude(&[item("A", true)], &[Verdict::Done], vec![5], now), [5]);
        assert!(doubt.is_left(), "C is unknown");
        let refused = decide(Failure::new(FailureKind::Refused, "no"), 2);
        let other_copy = doubt.conclude(&[item("C", false)], std::slice::from_ref(&refused), vec![6], now);
        assert_eq!(
            (other_copy, doubt.is_left()),
            (vec![6], true),
            "a refused copy says nothing of the write"
        );
        assert_eq!(doubt.conclude(&[item("C", true)], &[refused], vec![7], now), [7, 3]);
        assert!(!doubt.is_left());
    }

    #[test]
    fn what_a_lost_session_left_is_kept_for_nothing() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        // A is unclear, the session is lost, and another owner settles A; later B is unclear here, and then settled.
        assert!(doubt.conclude(&[item("A", false)], &[hanging()], vec![1], now).is_empty());
        doubt.forget_lost(|receipt| *receipt > 1);
        assert!(!doubt.is_left());
        assert!(doubt.conclude(&[item("B", false)], &[hanging()], vec![2], now).is_empty());
        doubt.forget_lost(|receipt| *receipt > 1);
        assert!(doubt.is_left());
        assert_eq!(doubt.conclude(&[item("B", true)], &[Verdict::Done], vec![3], now), [3, 2]);
    }

    #[test]
    fn no_delivery_is_kept_for_ever() {
        let (mut doubt, now) = (Doubt::<u32>::default(), Instant::now());
        assert!(doubt.conclude(&[item("A", false)], &[hanging()], vec![1], now).is_empty());
        assert_eq!(doubt.expire(now + KEPT_MAX / 2), None);
        assert_eq!(doubt.expire(now + KEPT_MAX), Some(1));
        assert!(!doubt.is_left());
    }
}
