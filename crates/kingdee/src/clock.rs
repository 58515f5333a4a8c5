use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock that requests are signed with. Tests give a fixed one.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn unix_seconds(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// Seconds by which the server is ahead of us (negative: behind), from an HTTP `Date` header; `None` when the
/// header is absent or no date.
pub(crate) fn server_ahead(date: Option<&str>, ours: u64) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::parse(date?).ok()?.timestamp().as_second();
    Some(theirs - i64::try_from(ours).ok()?)
}

/// [`server_ahead`] without what the call took, which began at `before`: the server's clock was read at some time between.
pub(crate) fn ahead_during(date: Option<&str>, before: u64, after: u64) -> Option<i64> {
    let (at_start, at_end) = (server_ahead(date, before)?, server_ahead(date, after)?);
    Some(if at_end > 0 { at_end } else { at_start.min(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_call_is_not_taken_for_a_clock_that_differs() {
        let date = Some("Wed, 01 Jan 2025 00:00:00 GMT");
        assert_eq!(ahead_during(date, 1_735_689_590, 1_735_689_610), Some(0));
        assert_eq!(ahead_during(date, 1_735_689_500, 1_735_689_510), Some(90));
        assert_eq!(ahead_during(date, 1_735_689_650, 1_735_689_690), Some(-50));
    }

    #[test]
    fn the_skew_is_the_servers_date_minus_our_clock() {
        let date = Some("Wed, 01 Jan 2025 00:00:00 GMT");
        assert_eq!(server_ahead(date, 1_735_689_600), Some(0));
        assert_eq!(server_ahead(date, 1_735_689_000), Some(600));
        assert_eq!(server_ahead(date, 1_735_689_700), Some(-100));
        assert_eq!(server_ahead(Some("yesterday"), 0), None);
        assert_eq!(server_ahead(None, 0), None);
    }
}
