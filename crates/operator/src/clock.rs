//! Points in time for people: Beijing wall time, as both systems keep it, and how long ago that was.

use jiff::{Timestamp, tz::Offset};

/// Beijing wall time to the second, as in `2026-01-01 08:00:00`.
pub(crate) fn beijing(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => Offset::constant(8).to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// The same point in RFC 3339 with its offset, for programs; nothing when it is out of range.
pub(crate) fn rfc3339(ms: i64) -> Option<String> {
    let time = Timestamp::from_millisecond(ms).ok()?;
    Some(time.display_with_offset(Offset::constant(8)).to_string())
}

/// How long something has lasted, in its two largest units; a clock that runs ahead gives 0 s.
pub(crate) fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        two(days, "d", hours % 24, "h")
    } else if hours > 0 {
        two(hours, "h", minutes % 60, "min")
    } else if minutes > 0 {
        format!("{minutes} min")
    } else {
        format!("{seconds} s")
    }
}

fn two(large: i64, unit: &str, small: i64, part: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_beijing_keeps_it() {
        assert_eq!(beijing(1_767_196_800_123), "2026-01-01 00:00:00");
        assert_eq!(rfc3339(1_767_196_800_000).as_deref(), Some("2026-01-01T00:00:00+08:00"));
        assert_eq!(beijing(i64::MAX), format!("{} ms", i64::MAX));
    }

    #[test]
    fn an_age_has_at_most_two_units() {
        let minute = 60_000;
        let ages = [-5, 4_999, 59 * minute, 61 * minute, 120 * minute, 25 * 60 * minute].map(age);
        assert_eq!(ages, ["0 s", "4 s", "59 min", "1 h 1 min", "2 h", "1 d 1 h"]);
    }
}
