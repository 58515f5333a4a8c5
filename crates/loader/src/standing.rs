//! What is known about a document before it is posted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kingpost_model::{Item, Lease, Standing, Work};
use kingpost_worker::now_ms;

/// What may still be being written by somebody else, or by ourselves without an answer.
///
/// A broker may hand out a fresh copy of a key before the redelivered one, so the key is remembered, not the message.
/// And where a predecessor did not end cleanly, which redelivered messages of a young lease show, a fresh copy of
/// *any* key may be one that it is just posting: its own message need not have come yet. Then nothing that a look-up
/// doesn't find is posted until the lease is as old as the settle window. Where none was redelivered the predecessor
/// had settled all it was given (unsettled messages return to their place in front of the queue, because our queues
/// have a delivery limit), and a look-up is enough.
///
/// There is no message so fresh that it may be posted unseen: a publisher whose confirms were lost publishes again, two
/// windows overlap, an order changes after it was posted, and Kingdee's own check for used numbers may be switched off
/// or too late. And what was just posted here may not show in a look-up yet, so it is remembered for a settle window.
#[derive(Debug)]
pub(crate) struct Unproven {
    until: Mutex<Until>,
    clock: fn() -> Moment,
}

#[derive(Debug, Default)]
struct Until {
    keys: HashMap<String, Instant>,
    everything: Option<Instant>,
    /// Numbers that were posted here, and until when a look-up may not find them.
    posted: HashMap<String, Instant>,
    /// The number of them at which those that are over are dropped.
    posted_max: usize,
}

/// One moment on both clocks: windows inside this process by the steady one, those that a message carries by the
/// wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) steady: Instant,
    /// Milliseconds since the epoch.
    pub(crate) wall_ms: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Moment { steady: Instant::now(), wall_ms: now_ms() }
    }
}

impl Until {
    fn posted(&mut self, number: &str, now: Instant, settle: Duration) {
        if self.posted.len() >= self.posted_max {
            self.posted.retain(|_, until| *until > now);
            self.posted_max = 1_024.max(self.posted.len() * 2);
        }
        self.posted.insert(number.to_owned(), now + settle);
    }

    fn insert(&mut self, number: &str, now: Instant, settle: Duration) {
        if self.keys.len() >= 1_024 {
            self.keys.retain(|_, until| *until > now);
        }
        let until = self.keys.entry(number.to_owned()).or_insert(now);
        *until = (*until).max(now + settle);
    }
}

impl Default for Unproven {
    fn default() -> Self {
        Self::by(Moment::now)
    }
}

impl Unproven {
    /// Nothing is known yet; `clock` says what time it is.
    pub(crate) fn by(clock: fn() -> Moment) -> Self {
        Unproven { until: Mutex::default(), clock }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Moment {
        (self.clock)()
    }

    fn until(&self) -> MutexGuard<'_, Until> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a message before it is judged: every redelivered key is unproven, whichever copy comes first and
    /// however long ago an earlier write of it was unclear. And a message that says that a write of its key was unclear
    /// says so for every copy of that key, which a fresh one doesn't say of itself.
    pub(crate) fn learn(&self, work: &Work, redelivered: bool, lease: &Lease, settle: Duration, now: Moment) {
        let mut until = self.until();
        let number = &work.key.number;
        if redelivered {
            until.insert(number, now.steady, settle);
            if lease.age < settle {
                until.everything = until.everything.max(Some(now.steady + (settle - lease.age)));
            }
        } else if let Some(left) = work.unclear_since_ms.and_then(|since| left(since, settle, now)) {
            until.insert(number, now.steady, left);
        }
    }

    /// A key whose write just ended without evidence.
    pub(crate) fn unclear(&self, number: &str, settle: Duration, now: Moment) {
        self.until().insert(number, now.steady, settle);
    }

    /// A document that was just posted.
    pub(crate) fn posted(&self, number: &str, settle: Duration, now: Moment) {
        self.until().posted(number, now.steady, settle);
    }

    fn is_posted(&self, number: &str, now: Moment) -> bool {
        self.until().posted.get(number).is_some_and(|until| *until > now.steady)
    }

    /// How long a write of a key may still take effect.
    pub(crate) fn key_for(&self, number: &str, now: Moment) -> Duration {
        self.until()
            .keys
            .get(number)
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now.steady))
    }

    /// How long a write of whatever key may still take effect.
    pub(crate) fn everything_for(&self, now: Moment) -> Duration {
        self.until().everything.map_or(Duration::ZERO, |until| until.saturating_duration_since(now.steady))
    }

    /// Whether a write of a key may still be running.
    fn holds(&self, number: &str, now: Moment) -> bool {
        !self.everything_for(now).is_zero() || !self.key_for(number, now).is_zero()
    }

    /// What is known about an item. `settle` is how long a write may take to show after it was sent.
    ///
    /// A redelivered message is unproven whatever it says of an earlier write: the owner before us may have judged
    /// that write settled and be posting again. It ends all the same: the copy that is retried for it is not
    /// redelivered and carries the time of the verdict, and the key was learnt before that verdict, so that the
    /// memory here never outlasts the window of the message.
    pub(crate) fn standing(&self, item: &Item, settle: Duration, now: Moment) -> Standing {
        let work = &item.work;
        #[cfg(kingpost_bugs)]
        if kingpost_settings::bug("no-settle-window") {
            return Standing::Verify;
        }
        let number = &work.key.number;
        if item.redelivered || self.holds(number, now) || self.is_posted(number, now) {
            return Standing::Unproven;
        }
        match work.unclear_since_ms {
            Some(since) if left(since, settle, now).is_some() => Standing::Unproven,
            Some(_) => Standing::Settled,
            None => Standing::Verify,
        }
    }
}

/// What is left of the settle window of a write that was unclear at a time of the wall clock, if it is not over.
fn left(since_ms: i64, settle: Duration, now: Moment) -> Option<Duration> {
    // Both ways: a clock that went back must not make a window of days.
    let apart = Duration::from_millis(now.wall_ms.abs_diff(since_ms));
    let left = settle.checked_sub(apart).filter(|left| !left.is_zero())?;
    Some(if since_ms > now.wall_ms { settle } else { left })
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

    fn learn(unproven: &Unproven, item: &Item, age_s: u64, now: Moment) {
        unproven.learn(&item.work, item.redelivered, &lease(age_s), SETTLE, now);
    }

    const WALL_MS: i64 = 1_000_000_000;

    fn moment() -> Moment {
        Moment { steady: Instant::now(), wall_ms: WALL_MS }
    }

    impl Moment {
        fn plus_ms(self, ms: u32) -> Self {
            let steady = self.steady + Duration::from_millis(ms.into());
            Moment { steady, wall_ms: self.wall_ms + i64::from(ms) }
        }
    }

    fn redelivered() -> Item {
        Item { redelivered: true, ..item() }
    }

    fn other() -> Item {
        let mut other = item();
        other.work.key.number = "RK2".into();
        other
    }

    fn standing(change: impl FnOnce(&mut Item)) -> Standing {
        let mut item = item();
        change(&mut item);
        Unproven::default().standing(&item, SETTLE, moment())
    }

    #[test]
    fn nothing_is_posted_unseen() {
        assert_eq!(standing(|_| {}), Standing::Verify);
        assert_eq!(standing(|i| i.work.attempt = 2), Standing::Verify);
        assert_eq!(standing(|i| i.work.verify = true), Standing::Verify);
        assert_eq!(standing(|i| i.redelivered = true), Standing::Unproven);
    }

    #[test]
    fn what_was_just_posted_may_not_show_yet() {
        let (unproven, now) = (Unproven::default(), moment());
        for n in 0..5_000 {
            unproven.posted(&format!("N{n}"), SETTLE, now.plus_ms(n));
        }
        unproven.posted("RK1", SETTLE, now);
        assert_eq!(unproven.standing(&item(), SETTLE, now.plus_ms(239_999)), Standing::Unproven);
        assert_eq!(unproven.standing(&item(), SETTLE, now.plus_ms(240_000)), Standing::Verify);
        assert_eq!(unproven.standing(&other(), SETTLE, now), Standing::Verify);
        assert!(!unproven.holds("RK1", now), "its write is over");
    }

    #[test]
    fn an_unclear_write_settles_after_its_window_and_not_before() {
        let at = |ms: i64| standing(|i| i.work.unclear_since_ms = Some(ms));
        assert_eq!(at(WALL_MS - 239_999), Standing::Unproven);
        assert_eq!(at(WALL_MS - 240_000), Standing::Settled);
        assert_eq!(at(WALL_MS + 1_000), Standing::Unproven, "a clock a little ahead");
        assert_eq!(at(WALL_MS + 999_999_999), Standing::Settled, "a clock that was set back");
    }

    #[test]
    fn a_fresh_copy_of_a_redelivered_key_is_unproven_too() {
        let (unproven, now) = (Unproven::default(), moment());
        learn(&unproven, &redelivered(), 999, now);
        assert_eq!(unproven.standing(&item(), SETTLE, now), Standing::Unproven);
        assert_eq!(unproven.standing(&other(), SETTLE, now), Standing::Verify);
    }

    /// K was unclear long ago, its settled retry was being posted when the poster died, and it comes to us.
    #[test]
    fn an_old_unclear_write_does_not_excuse_a_fresh_redelivery() {
        let (unproven, now) = (Unproven::default(), moment());
        let old = Some(WALL_MS - 3_600_000);
        let mut again = redelivered();
        again.work.unclear_since_ms = old;
        assert_eq!(unproven.standing(&again, SETTLE, now), Standing::Unproven);
        learn(&unproven, &again, 999, now);
        let mut copy = item();
        copy.work.unclear_since_ms = old;
        assert_eq!(unproven.standing(&copy, SETTLE, now), Standing::Unproven);
    }

    /// Another loader was told nothing when it wrote K, its retried message comes to us, and then a fresh copy of K.
    #[test]
    fn a_fresh_copy_of_an_unclear_key_is_unproven_for_as_long_as_the_retried_one() {
        let (unproven, now) = (Unproven::default(), moment());
        let mut retried = item();
        (retried.work.attempt, retried.work.unclear_since_ms) = (2, Some(WALL_MS - 40_000));
        learn(&unproven, &retried.clone(), 999, now);
        for (ms, of_copy, of_retried) in [
            (0, Standing::Unproven, Standing::Unproven),
            (199_999, Standing::Unproven, Standing::Unproven),
            (200_000, Standing::Verify, Standing::Settled),
        ] {
            let then = now.plus_ms(ms);
            assert_eq!(unproven.standing(&item(), SETTLE, then), of_copy, "{ms}");
            assert_eq!(unproven.standing(&retried, SETTLE, then), of_retried, "{ms}");
        }
        assert_eq!(unproven.standing(&other(), SETTLE, now), Standing::Verify);
    }

    #[test]
    fn an_old_unclear_write_teaches_nothing_and_shortens_nothing() {
        let (unproven, now) = (Unproven::default(), moment());
        let mut old = item();
        old.work.unclear_since_ms = Some(WALL_MS - 240_000);
        learn(&unproven, &old.clone(), 999, now);
        assert_eq!(unproven.standing(&item(), SETTLE, now), Standing::Verify);
        unproven.unclear("RK1", SETTLE, now);
        old.work.unclear_since_ms = Some(WALL_MS - 239_000);
        learn(&unproven, &old, 999, now);
        let late = now.plus_ms(239_999);
        assert_eq!(unproven.standing(&item(), SETTLE, late), Standing::Unproven);
    }

    #[test]
    fn a_redelivered_key_settles_with_the_window_of_its_retried_copy() {
        let (unproven, now) = (Unproven::default(), moment());
        learn(&unproven, &redelivered(), 999, now);
        // The look-up took half a second, then the copy was published with the time of the verdict.
        let mut copy = item();
        copy.work.attempt = 2;
        copy.work.unclear_since_ms = Some(now.wall_ms + 500);
        let after = |ms| unproven.standing(&copy, SETTLE, now.plus_ms(ms));
        assert_eq!(after(5_000), Standing::Unproven);
        assert_eq!(after(240_499), Standing::Unproven);
        assert_eq!(after(240_500), Standing::Settled);
    }

    #[test]
    fn after_an_unclean_end_nothing_is_proven_until_the_lease_is_old() {
        let (unproven, now) = (Unproven::default(), moment());
        assert_eq!(unproven.standing(&other(), SETTLE, now), Standing::Verify, "a clean end");
        learn(&unproven, &redelivered(), 10, now);
        for mut next in [other(), other(), other()].into_iter().enumerate().map(|(n, mut item)| {
            item.work.verify = n == 1;
            item.work.unclear_since_ms = (n == 2).then_some(0);
            item
        }) {
            assert_eq!(unproven.standing(&next, SETTLE, now), Standing::Unproven);
            let late = now.plus_ms(229_999);
            assert_eq!(unproven.standing(&next, SETTLE, late), Standing::Unproven, "a late round");
            next.work.unclear_since_ms = Some(0);
            let old = now.plus_ms(230_000);
            assert_eq!(unproven.standing(&next, SETTLE, old), Standing::Settled);
        }
        assert_eq!(unproven.standing(&other(), SETTLE, now.plus_ms(230_000)), Standing::Verify);
    }

    #[test]
    fn a_message_that_an_old_lease_gave_back_concerns_its_own_key_only() {
        let (unproven, now) = (Unproven::default(), moment());
        learn(&unproven, &redelivered(), 240, now);
        assert_eq!(unproven.standing(&other(), SETTLE, now), Standing::Verify);
    }
}
