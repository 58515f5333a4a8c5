//! How many letters of one cause may be sent next: one, then ten, then a hundred, then the rest, as long as they don't
//! fail again. Pure: counts in, decision out.

/// What is counted of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Not sent yet.
    pub(crate) pending: usize,
    /// Sent, with nothing final heard of them.
    pub(crate) out: usize,
    /// Ended well.
    pub(crate) well: usize,
    /// Dead again.
    pub(crate) failed: usize,
    /// Dead again in a row, most recently.
    pub(crate) streak: usize,
}

/// The ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Sizes of the canary steps.
    pub(crate) steps: Vec<usize>,
    /// How many per cent of what a step has sent so far may fail without stopping the cause.
    pub(crate) tolerance: usize,
    /// So many failures in a row stop the rest.
    pub(crate) streak: usize,
    /// So many of the rest may be out at once.
    pub(crate) window: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { steps: vec![1, 10, 100], tolerance: 5, streak: 20, window: 1_000 }
    }
}

/// Why a cause was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Too many of the letters of a canary step failed again.
    Canary {
        /// Which step, counted from 1.
        step: usize,
        /// Dead again so far.
        failed: usize,
    },
    /// So many of the rest failed in a row.
    Streak(usize),
}

impl Why {
    /// For people.
    pub(crate) fn text(self) -> String {
        match self {
            Why::Canary { step, failed } => {
                let failed = crate::terminal::counted(failed, "letter");
                format!("{failed} failed again by canary step {step}")
            }
            Why::Streak(count) => format!("{count} failed again in a row"),
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send up to so many.
    Send(usize),
    /// Wait for what is out.
    Wait,
    /// Send no more; what is out may still end.
    Stop(Why),
    /// Nothing is left to do.
    Done,
}

impl Rules {
    /// The decision for a cause.
    pub(crate) fn next(&self, now: Standing) -> Next {
        let ended = now.well + now.failed;
        let taken = ended + now.out;
        let total = taken + now.pending;
        let mut bound = 0;
        for (n, size) in (1..).zip(&self.steps) {
            bound += size;
            // Judged while it runs and once more at its end; later failures belong to later steps.
            if ended > bound {
                continue;
            }
            // A step of one or ten tolerates nothing, one of a hundred a few.
            if now.failed * 100 > self.tolerance * bound.min(total) {
                return Next::Stop(Why::Canary { step: n, failed: now.failed });
            }
            if ended < bound {
                return self.step(now, bound.saturating_sub(taken));
            }
        }
        if now.streak >= self.streak {
            return Next::Stop(Why::Streak(now.streak));
        }
        let room = self.window.saturating_sub(now.out);
        // Each sending walks the queue from its head, so it waits until it is worth while.
        let worth = now.out == 0 || room >= now.pending || room * 4 >= self.window;
        self.step(now, if worth { room } else { 0 })
    }

    fn step(&self, now: Standing, room: usize) -> Next {
        match (now.pending.min(room), now.pending, now.out) {
            (0, 0, 0) => Next::Done,
            (0, _, _) => Next::Wait,
            (n, _, _) => Next::Send(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How a cause of many letters fares: `fails` says whether the next to end fails again, `ends` how many end between
    /// two decisions.
    fn play(
        rules: &Rules,
        letters: usize,
        mut fails: impl FnMut(usize) -> bool,
        mut ends: impl FnMut() -> usize,
    ) -> (Standing, Next, usize) {
        let mut now = Standing { pending: letters, ..Standing::default() };
        let (mut largest, mut turns) = (0, 0);
        loop {
            turns += 1;
            assert!(turns < 100_000, "it never ends: {now:?}");
            let next = rules.next(now);
            match next {
                Next::Send(n) => {
                    assert!(n > 0 && n <= now.pending, "{next:?} with {now:?}");
                    now.pending -= n;
                    now.out += n;
                    let proven = now.well + now.failed;
                    let mut bound = 0;
                    let step = rules.steps.iter().find(|size| {
                        bound += **size;
                        proven < bound
                    });
                    match step {
                        Some(_) => {
                            assert!(now.out + proven <= bound, "more out than the step allows: {now:?}")
                        }
                        None => assert!(now.out <= rules.window, "more out than the window: {now:?}"),
                    }
                    largest = largest.max(now.out);
                }
                Next::Wait => {
                    assert!(now.out > 0, "it waits for nothing: {now:?}");
                    for _ in 0..ends().clamp(1, now.out) {
                        now.out -= 1;
                        if fails(now.well + now.failed) {
                            now.failed += 1;
                            now.streak += 1;
                        } else {
                            now.well += 1;
                            now.streak = 0;
                        }
                    }
                }
                Next::Stop(_) | Next::Done => return (now, next, largest),
            }
        }
    }

    fn rules() -> impl Strategy<Value = Rules> {
        (prop::collection::vec(1_usize..200, 0..5), 0_usize..30, 1_usize..40, 1_usize..2_000)
            .prop_map(|(steps, tolerance, streak, window)| Rules { steps, tolerance, streak, window })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn no_step_is_exceeded_and_everything_ends(
            rules in rules(), letters in 0_usize..4_000,
            fates in prop::collection::vec(any::<bool>(), 1..60),
            pace in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let mut turn = 0;
            let fails = |n: usize| fates[n % fates.len()];
            let ends = || { turn += 1; pace[turn % pace.len()] };
            let (end, next, _) = play(&rules, letters, fails, ends);
            if next == Next::Done {
                prop_assert_eq!(end.well + end.failed, letters);
            }
        }

        #[test]
        fn a_cause_that_still_fails_never_leaves_its_first_step(
            rules in rules(), letters in 1_usize..4_000, pace in 1_usize..50,
        ) {
            let (end, next, _) = play(&rules, letters, |_| true, || pace);
            let first = rules.steps.first().copied().unwrap_or(rules.window);
            prop_assert!(end.failed + end.out <= first.max(rules.streak + rules.window), "{:?}", end);
            if let Some(first) = rules.steps.first() {
                prop_assert!(matches!(next, Next::Stop(Why::Canary { step: 1, .. })), "{:?} {:?}", next, end);
                prop_assert!(end.failed + end.out <= *first, "{:?}", end);
            }
        }

        #[test]
        fn a_cause_that_is_cured_goes_through_whole(
            rules in rules(), letters in 0_usize..4_000, pace in 1_usize..50,
        ) {
            let (end, next, _) = play(&rules, letters, |_| false, || pace);
            prop_assert_eq!((next, end.well), (Next::Done, letters));
        }
    }

    #[test]
    fn the_steps_are_one_ten_a_hundred_and_the_rest() {
        let rules = Rules::default();
        let mut now = Standing { pending: 5_000, ..Standing::default() };
        for size in [1, 10, 100] {
            assert_eq!(rules.next(now), Next::Send(size));
            now.pending -= size;
            now.out = size;
            assert_eq!(rules.next(now), Next::Wait);
            now.out = 0;
            now.well += size;
        }
        assert_eq!(rules.next(now), Next::Send(1_000), "the rest goes in windows");
    }

    #[test]
    fn ten_tolerate_no_failure_and_a_hundred_tolerate_five() {
        let rules = Rules::default();
        let ten = Standing { pending: 500, out: 4, well: 6, failed: 1, streak: 1 };
        assert_eq!(rules.next(ten), Next::Stop(Why::Canary { step: 2, failed: 1 }));
        let ten = Standing { pending: 500, out: 0, well: 10, failed: 1, streak: 1 };
        assert_eq!(rules.next(ten), Next::Stop(Why::Canary { step: 2, failed: 1 }));
        let hundred = |failed| Standing { pending: 500, out: 0, well: 111 - failed, failed, streak: 0 };
        assert!(matches!(rules.next(hundred(5)), Next::Send(_)));
        assert_eq!(rules.next(hundred(6)), Next::Stop(Why::Canary { step: 3, failed: 6 }));
        let rest = Standing { pending: 500, out: 30, well: 900, failed: 20, streak: 20 };
        assert_eq!(rules.next(rest), Next::Stop(Why::Streak(20)));
    }
}
