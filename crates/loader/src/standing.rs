//! What is known about a document before it is posted.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kingpost_model::{Item, Lease, Origin, Standing};

/// Keys of which a write may still be running elsewhere. A broker may hand out a fresh copy of a key before the
/// redelivered one, so the key is remembered, not the message.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    until: Mutex<HashMap<String, Instant>>,
}

impl Unproven {
    fn contains(&self, number: &str) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(number).is_some_and(|until| *until > Instant::now())
    }

    fn insert(&self, number: &str, settle: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if until.len() >= 1_024 {
            until.retain(|_, until| *until > now);
        }
        until.insert(number.to_owned(), now + settle);
    }

    /// Learns from a batch before any of it is judged: every redelivered key is unproven, whichever copy comes first.
    pub(crate) fn learn(&self, items: &[Item], settle: Duration) {
        for item in items {
            if item.redelivered && item.work.unclear_since_ms.is_none() {
                self.insert(&item.work.key.number, settle);
            }
        }
    }

    /// A key whose write just ended without evidence.
    pub(crate) fn unclear(&self, number: &str, settle: Duration) {
        self.insert(number, settle);
    }

    /// What is known about an item. `settle` is how long a write may take to show after it was sent.
    pub(crate) fn standing(&self, item: &Item, lease: &Lease, settle: Duration, now_ms: i64) -> Standing {
        let work = &item.work;
        let settle_ms = i64::try_from(settle.as_millis()).unwrap_or(i64::MAX);
        match work.unclear_since_ms {
            // A clock that went back must not make a window of days.
            Some(since) if now_ms >= since && now_ms - since < settle_ms => Standing::Unproven,
            Some(since) if now_ms < since && since - now_ms < settle_ms => Standing::Unproven,
            Some(_) => Standing::Settled,
            None if item.redelivered || self.contains(&work.key.number) => Standing::Unproven,
            None if work.verify || work.attempt > 1 || work.origin != Origin::Live || lease.age < settle => {
                Standing::Verify
            }
            None => Standing::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicBool};

    use kingpost_model::{RecordKey, StageName, Work, WorkId};

    use super::*;

    const SETTLE: Duration = Duration::from_secs(240);

    fn item() -> Item {
        let key = RecordKey::new("STK_InStock", "RK1");
        Item { work: Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}"), redelivered: false }
    }

    fn lease(age_s: u64) -> Lease {
        Lease::new(Arc::new(AtomicBool::new(false)), Duration::from_secs(age_s))
    }

    fn standing(change: impl FnOnce(&mut Item), age_s: u64) -> Standing {
        let mut item = item();
        change(&mut item);
        Unproven::default().standing(&item, &lease(age_s), SETTLE, 1_000_000_000)
    }

    #[test]
    fn only_a_live_first_try_of_a_settled_owner_is_fresh() {
        assert_eq!(standing(|_| {}, 241), Standing::Fresh);
        assert_eq!(standing(|_| {}, 239), Standing::Verify);
        assert_eq!(standing(|i| i.work.attempt = 2, 241), Standing::Verify);
        assert_eq!(standing(|i| i.work.verify = true, 241), Standing::Verify);
        assert_eq!(standing(|i| i.work.origin = Origin::Backfill, 241), Standing::Verify);
        assert_eq!(standing(|i| i.work.origin = Origin::Replay, 241), Standing::Verify);
        assert_eq!(standing(|i| i.redelivered = true, 241), Standing::Unproven);
    }

    #[test]
    fn an_unclear_write_settles_after_its_window_and_not_before() {
        let at = |ms: i64| standing(|i| i.work.unclear_since_ms = Some(ms), 999);
        assert_eq!(at(1_000_000_000 - 239_999), Standing::Unproven);
        assert_eq!(at(1_000_000_000 - 240_000), Standing::Settled);
        assert_eq!(at(1_000_000_000 + 1_000), Standing::Unproven, "a clock a little ahead");
        assert_eq!(at(1_000_000_000 + 999_999_999), Standing::Settled, "a clock that was set back");
    }

    #[test]
    fn a_fresh_copy_of_a_redelivered_key_is_unproven_too() {
        let unproven = Unproven::default();
        let mut redelivered = item();
        redelivered.redelivered = true;
        unproven.learn(&[redelivered], SETTLE);
        assert_eq!(unproven.standing(&item(), &lease(999), SETTLE, 0), Standing::Unproven);
        let mut other = item();
        other.work.key.number = "RK2".into();
        assert_eq!(unproven.standing(&other, &lease(999), SETTLE, 0), Standing::Fresh);
    }
}
