//! The limits of the account, over all callers: calls per minute, and calls at the same time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::answer::Refusal;
use crate::cli::Options;
use crate::server::locked;

/// What is allowed, and what was used of it.
#[derive(Debug)]
pub(crate) struct Limits {
    /// 0 for no limit.
    per_minute: u64,
    minute: Duration,
    /// How long everything is refused once the limit was met, in the gateway's words.
    ban: Option<Duration>,
    /// 0 for no limit.
    at_once: u64,
    /// When the minute began, with its first call.
    begun: Option<Instant>,
    calls: u64,
    running: u64,
    banned_until: Option<Instant>,
}

/// A call that is counted as long as it runs.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Mutex<Limits>);

impl Limits {
    pub(crate) fn new(options: &Options) -> Limits {
        let seconds = |span: i64| Duration::from_secs(span.unsigned_abs());
        Limits {
            per_minute: options.wdt_per_minute,
            minute: seconds(options.wdt_minute),
            ban: options.wdt_ban.map(seconds),
            at_once: options.wdt_at_once,
            begun: None,
            calls: 0,
            running: 0,
            banned_until: None,
        }
    }

    /// Takes a call in, or refuses it.
    pub(crate) fn enter(limits: &Mutex<Limits>) -> Result<Running<'_>, Refusal> {
        locked(limits).count(Instant::now())?;
        Ok(Running(limits))
    }

    fn count(&mut self, now: Instant) -> Result<(), Refusal> {
        if let Some(left) = self.banned_until.and_then(|until| until.checked_duration_since(now)) {
            return Err(ban(left));
        }
        if self.at_once > 0 && self.running >= self.at_once {
            return Err(Refusal::concurrency_limit());
        }
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= self.minute) {
            (self.begun, self.calls) = (Some(now), 0);
        }
        if self.per_minute > 0 && self.calls >= self.per_minute {
            let Some(length) = self.ban else { return Err(Refusal::rate_limit()) };
            self.banned_until = now.checked_add(length);
            return Err(ban(length));
        }
        self.calls += 1;
        self.running += 1;
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        locked(self.0).running -= 1;
    }
}

/// A started second counts as a whole one.
fn ban(left: Duration) -> Refusal {
    Refusal::ban(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn limits(args: &[&str]) -> Limits {
        Limits::new(&Options::parse_from(["kingpost-sandbox"].iter().chain(args)))
    }

    #[test]
    fn a_minute_takes_so_many_calls_and_the_next_one_as_many_again() {
        let mut limits = limits(&["--wdt-per-minute", "3", "--wdt-minute", "10s"]);
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let taken: Vec<bool> =
            [0, 1, 2, 3, 9, 10, 11, 12, 13].map(|second| limits.count(at(second)).is_ok()).into();
        assert_eq!(taken, [true, true, true, false, false, true, true, true, false]);
        assert_eq!(limits.count(at(14)), Err(Refusal::rate_limit()));
    }

    #[test]
    fn a_ban_refuses_everything_until_it_is_over_and_says_how_long() {
        let mut limits = limits(&["--wdt-per-minute", "1", "--wdt-minute", "10s", "--wdt-ban", "30s"]);
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(limits.count(at(0)), Ok(()));
        assert_eq!(limits.count(at(1_000)), Err(Refusal::ban(30)));
        assert_eq!(limits.count(at(20_500)), Err(Refusal::ban(11)));
        assert_eq!(limits.count(at(31_001)), Ok(()));
    }

    #[test]
    fn calls_at_the_same_time_are_counted_until_they_end() {
        let limits = Mutex::new(limits(&["--wdt-at-once", "1"]));
        let first = Limits::enter(&limits).unwrap();
        assert_eq!(Limits::enter(&limits).unwrap_err(), Refusal::concurrency_limit());
        drop(first);
        assert!(Limits::enter(&limits).is_ok());
    }

    #[test]
    fn nothing_is_limited_by_default() {
        let mut limits = limits(&[]);
        let now = Instant::now();
        assert!((0..10_000).all(|_| limits.count(now).is_ok()));
    }
}
