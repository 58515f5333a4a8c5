//! How many calls a minute one process allows itself.
//!
//! When a limit is met, everybody who hears of it cuts the pace by one factor; while all is well, everybody who is held up
//! by it grows it by one amount. So the shares of the busy come to be equal without any of them knowing the others or the
//! limit (Chiu and Jain, 1989).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// What is left of the pace when a limit was met.
const CUT: f64 = 0.7;
/// By how many calls a minute the pace grows in a minute in which all of it was used.
const GROWTH: f64 = 1.0;
/// How often it doubles in such a minute while only one limit was met, which may have been a matter of the moment.
const DOUBLINGS: f64 = 2.0;
/// A limit that is met again within this time is no matter of the moment.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// A limit that is over so soon is waited out and slows nobody down.
const BRIEF: Duration = Duration::from_secs(5);
/// Unless so many of them are met in a minute.
const BRIEF_MOST: usize = 3;
/// Never slower than this: two passes over a window's pages fit into its time.
const LEAST: f64 = 6.0;
/// What limits are counted by.
const MINUTE: Duration = Duration::from_secs(60);
/// Calls that are remembered at most.
const REMEMBERED: usize = 10_000;

/// The pace of one account in this process; unlimited until a limit was ever met.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    per_minute: Option<f64>,
    /// When the calls of the last minute began.
    recent: VecDeque<Instant>,
    next: Option<Instant>,
    /// When brief limits of the last minute were met.
    brief: VecDeque<Instant>,
    /// When the pace was last cut.
    cut: Option<Instant>,
    /// While only one limit was met: the pace at which it was.
    once: Option<f64>,
}

impl Pace {
    /// Calls a minute; nothing while no limit is known.
    pub(crate) fn per_minute(&self) -> Option<f64> {
        self.per_minute
    }

    /// When the next call may begin.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        self.next.map_or(now, |next| next.max(now))
    }

    /// A call begins; returns whether it uses the pace, which one does that comes long after its turn doesn't.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let old = |at: &Instant| now.saturating_duration_since(*at) >= MINUTE;
        while self.recent.len() >= REMEMBERED || self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let Some(rate) = self.per_minute else { return false };
        let interval = MINUTE.div_f64(rate);
        let turn = self.next.filter(|next| now.saturating_duration_since(*next) <= interval / 2);
        // From one turn to the next, so that being a little late doesn't add up.
        self.next = Some(turn.unwrap_or(now) + interval);
        turn.is_some()
    }

    /// A call went well that used the pace. Whoever doesn't use it has no reason to want more. A single limit is forgotten
    /// when the pace has come to twice what it was met at.
    pub(crate) fn grow(&mut self) {
        let Some(rate) = self.per_minute else { return };
        match self.once {
            None => self.per_minute = Some(rate + GROWTH / rate),
            Some(met_at) if rate > met_at * 2.0 => (self.per_minute, self.once) = (None, None),
            Some(_) => self.per_minute = Some(rate * (DOUBLINGS / rate).exp2()),
        }
    }

    /// A limit was met that is over after `closed`. The first one is answered by the calls that were made: over as long
    /// as the limit lasts, since that is about what it is counted by, but never over more than a minute.
    pub(crate) fn meet(&mut self, closed: Duration, now: Instant) {
        if closed <= BRIEF {
            self.brief.retain(|at| now.saturating_duration_since(*at) < MINUTE);
            self.brief.push_back(now);
            if self.brief.len() < BRIEF_MOST {
                return;
            }
            self.brief.clear();
        }
        let over = closed.clamp(Duration::from_secs(1), MINUTE);
        let calls = self.recent.iter().rev().take_while(|at| now.saturating_duration_since(**at) <= over);
        let measured = calls.count() as f64 * 60.0 / over.as_secs_f64();
        let rate = self.per_minute.unwrap_or(measured);
        let again = self.cut.is_some_and(|cut| now.saturating_duration_since(cut) < AGAIN);
        self.once = (!again).then_some(rate.max(LEAST));
        self.per_minute = Some((rate * CUT).max(LEAST));
        self.cut = Some(now);
        self.next = None;
    }

    /// While only one limit was met: the pace at which it was.
    pub(crate) fn once(&self) -> Option<f64> {
        self.once
    }

    /// Begins as slowly as another one goes, if no limit was met here yet, and as cautiously.
    pub(crate) fn adopt(&mut self, per_minute: f64, once: Option<f64>) {
        if per_minute.is_finite() && self.per_minute.is_none() {
            self.per_minute = Some(per_minute.max(LEAST));
            self.once = once.filter(|met_at| met_at.is_finite());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A source that refuses every call beyond its limit until the minute is over.
    struct Counted {
        limit: u32,
        minute: u64,
        calls: u32,
    }

    impl Counted {
        fn takes(&mut self, since: Duration) -> bool {
            let minute = since.as_secs() / 60;
            if minute != self.minute {
                (self.minute, self.calls) = (minute, 0);
            }
            self.calls += 1;
            self.calls <= self.limit
        }
    }

    /// What each replica got through in the last hour of three, and how many calls were refused in it.
    fn last_hour(paces: &mut [Pace], limit: u32) -> (Vec<u32>, u32) {
        let begun = Instant::now();
        let mut source = Counted { limit, minute: 0, calls: 0 };
        let (mut got, mut refused, mut now) = (vec![0; paces.len()], 0, begun);
        loop {
            let due = (0..paces.len()).min_by_key(|replica| paces[*replica].next(now)).unwrap();
            // An unlimited one is as fast as the answers.
            now = paces[due].next(now) + Duration::from_millis(50);
            let since = now.duration_since(begun);
            if since > Duration::from_secs(3 * 3_600) {
                return (got, refused);
            }
            let counts = u32::from(since > Duration::from_secs(2 * 3_600));
            let used = paces[due].take(now);
            if source.takes(since) {
                got[due] += counts;
                if used {
                    paces[due].grow();
                }
            } else {
                refused += counts;
                let closed = Duration::from_secs(65);
                paces.iter_mut().for_each(|pace| pace.meet(closed, now));
                now += closed;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn three_who_are_busy_come_to_equal_shares_of_what_they_do_not_know(
            limit in 40_u32..90,
            starts in proptest::collection::vec(proptest::option::of(6.0_f64..80.0), 3),
        ) {
            let mut paces: Vec<Pace> = starts.iter().map(|per_minute| {
                let mut pace = Pace::default();
                per_minute.iter().for_each(|rate| pace.adopt(*rate, None));
                pace
            }).collect();
            let (got, refused) = last_hour(&mut paces, limit);
            let all: u32 = got.iter().sum();
            for share in &got {
                let part = f64::from(*share) / f64::from(all);
                prop_assert!((0.27..0.40).contains(&part), "{got:?}");
            }
            prop_assert!(all > limit * 60 * 55 / 100, "{all} of {} calls", limit * 60);
            prop_assert!(refused <= 15, "{refused} refusals in an hour");
        }
    }

    #[test]
    fn alone_it_settles_below_the_limit_and_uses_most_of_it() {
        let (got, refused) = last_hour(&mut [Pace::default()], 60);
        assert!(got[0] > 60 * 60 * 7 / 10 && refused <= 5, "{got:?}, {refused} refused");
    }

    #[test]
    fn the_first_limit_is_answered_by_what_was_called_while_it_was_counted() {
        let now = Instant::now();
        for (closed, calls, pace) in [(65, 60, 42.0), (6, 10, 70.0), (30_000, 60, 42.0), (65, 1, LEAST)] {
            let mut busy = Pace::default();
            (0..calls).for_each(|_| assert!(!busy.take(now)));
            assert_eq!(busy.next(now), now, "no limit is known yet");
            busy.meet(Duration::from_secs(closed), now);
            assert!((busy.per_minute().unwrap() - pace).abs() < 0.01, "{:?}", busy.per_minute());
            busy.meet(Duration::from_secs(closed), now);
            assert!((busy.per_minute().unwrap() - (pace * CUT).max(LEAST)).abs() < 0.01);
        }
    }

    #[test]
    fn brief_limits_slow_nobody_down_unless_there_are_many() {
        let begun = Instant::now();
        let mut pace = Pace::default();
        for minute in 0..5 {
            let now = begun + MINUTE * minute;
            pace.take(now);
            pace.meet(BRIEF, now);
            pace.meet(BRIEF, now + BRIEF);
            assert_eq!(pace.per_minute(), None);
        }
        pace.meet(BRIEF, begun + MINUTE * 4 + BRIEF * 2);
        assert!(pace.per_minute().is_some());
    }

    #[test]
    fn a_limit_that_was_a_matter_of_the_moment_is_soon_forgotten_and_a_second_one_is_not() {
        let begun = Instant::now();
        let busy = |pace: &mut Pace, minutes: u32| {
            let (mut now, end) = (begun + MINUTE, begun + MINUTE * (1 + minutes));
            while now < end && pace.per_minute().is_some() {
                now = pace.next(now);
                if pace.take(now) {
                    pace.grow();
                }
            }
        };
        let mut pace = Pace::default();
        (0..600).for_each(|_| assert!(!pace.take(begun)));
        pace.meet(MINUTE, begun);
        let mut twice = Pace::default();
        (0..600).for_each(|_| assert!(!twice.take(begun)));
        (0..2).for_each(|_| twice.meet(MINUTE, begun));
        busy(&mut pace, 1);
        assert_eq!(pace.per_minute(), None);
        busy(&mut twice, 10);
        assert!(twice.per_minute().unwrap() < 305.0, "{:?}", twice.per_minute());
    }

    #[test]
    fn it_grows_by_one_call_in_a_minute_that_was_used() {
        let mut pace = Pace::default();
        pace.adopt(30.0, None);
        (0..30).for_each(|_| pace.grow());
        assert!((pace.per_minute().unwrap() - 31.0).abs() < 0.05, "{:?}", pace.per_minute());
        pace.adopt(10.0, None);
        assert!(pace.per_minute().unwrap() > 30.0, "its own experience counts more than another one's");
    }
}
