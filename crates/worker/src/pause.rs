//! When work fails for a reason that has nothing to do with it, the lane pauses and then tries one item.

use std::time::{Duration, Instant};

use kingpost_model::{FailureKind, Verdict};

/// Longest pause before an unavailable system is tried again.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// Pause before a wrong configuration is tried again; a person has to act first.
const CONFIGURATION: Duration = Duration::from_secs(30);
/// Pause after a limit that doesn't say how long it lasts.
const THROTTLED: Duration = Duration::from_secs(65);

/// The pace of one lane: full, paused, or probing its way back.
#[derive(Debug)]
pub(crate) struct Pace {
    full_rows: usize,
    rows: usize,
    step: Duration,
    until: Option<Instant>,
    reason: Option<FailureKind>,
}

impl Pace {
    pub(crate) fn new(rows: usize) -> Self {
        let rows = rows.max(1);
        Pace { full_rows: rows, rows, step: Duration::from_secs(1), until: None, reason: None }
    }

    /// Items in the next batch at most.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// One probe at a time until something succeeds.
    pub(crate) fn is_probing(&self) -> bool {
        self.reason.is_some()
    }

    /// Why the lane is paused or probing.
    pub(crate) fn reason(&self) -> Option<FailureKind> {
        self.reason
    }

    /// Until when nothing may be tried.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.until
    }

    /// Learns from the verdicts of a batch; returns true when the pause began or ended.
    pub(crate) fn learn(&mut self, verdicts: &[Verdict], now: Instant) -> bool {
        let was = self.reason;
        let outage = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Retry { failure, after, .. } if failure.kind.is_outage() => Some((failure.kind, *after)),
            _ => None,
        });
        match outage {
            Some((kind, after)) => {
                let pause = match kind {
                    FailureKind::Throttled => {
                        if after.is_zero() {
                            THROTTLED
                        } else {
                            after
                        }
                    }
                    FailureKind::Configuration => CONFIGURATION,
                    _ => {
                        let pause = self.step;
                        self.step = (self.step * 2).min(UNAVAILABLE_MAX);
                        pause
                    }
                };
                self.rows = 1;
                self.until = Some(now + pause);
                self.reason = Some(kind);
            }
            None => {
                self.until = None;
                self.step = Duration::from_secs(1);
                if self.reason.take().is_none() {
                    self.rows = (self.rows * 2).min(self.full_rows);
                }
            }
        }
        was != self.reason
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, decide};

    use super::*;

    fn fails(kind: FailureKind) -> Vec<Verdict> {
        vec![Verdict::Done, decide(Failure::new(kind, "x"), 1)]
    }

    #[test]
    fn an_outage_leaves_one_probe_and_success_ramps_up() {
        let now = Instant::now();
        let mut pace = Pace::new(20);
        assert!(pace.learn(&fails(FailureKind::Unavailable), now));
        assert_eq!((pace.rows(), pace.paused_until()), (1, Some(now + Duration::from_secs(1))));
        for _ in 0..20 {
            assert!(!pace.learn(&fails(FailureKind::Unavailable), now));
        }
        assert_eq!(pace.paused_until(), Some(now + UNAVAILABLE_MAX));
        assert!(pace.learn(&[Verdict::Done], now));
        assert_eq!((pace.rows(), pace.paused_until()), (1, None));
        let rows: Vec<_> = (0..6)
            .map(|_| {
                pace.learn(&[Verdict::Done], now);
                pace.rows()
            })
            .collect();
        assert_eq!(rows, [2, 4, 8, 16, 20, 20]);
    }

    #[test]
    fn a_failure_of_the_document_pauses_nobody() {
        let mut pace = Pace::new(20);
        for kind in
            [FailureKind::Refused, FailureKind::Unclear, FailureKind::Transient, FailureKind::Internal]
        {
            assert!(!pace.learn(&fails(kind), Instant::now()), "{kind}");
            assert_eq!(pace.rows(), 20);
        }
    }

    #[test]
    fn a_limit_is_left_alone_for_as_long_as_it_asks() {
        let now = Instant::now();
        let mut pace = Pace::new(20);
        let failure = Failure::new(FailureKind::Throttled, "ban").retry_after(Duration::from_secs(900));
        pace.learn(&[decide(failure, 1)], now);
        assert_eq!(pace.paused_until(), Some(now + Duration::from_secs(900)));
    }
}
