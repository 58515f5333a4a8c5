//! Points in time for people: Beijing wall time, as both systems keep it, and how long ago that was.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::Offset};
use kingpost_broker::Letter;

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

/// A length of time as people write it: `500ms`, `90s`, `15m`, `12h`, `7d`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("`{text}` is no length of time; write one such as 90s, 15m, 12h or 7d")),
    };
    let length = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    let length = length.filter(|ms| i64::try_from(*ms).is_ok());
    length.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is no length of time"))
}

/// A point in time as people write it: an age (`12h` ago), a day in Beijing, or a time in RFC 3339; in milliseconds since
/// the epoch.
pub(crate) fn point(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(age) = span(text) {
        return Ok(now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let wall = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.to_datetime(civil::Time::midnight())));
    let time = wall.ok().and_then(|wall| Offset::constant(8).to_timestamp(wall).ok());
    time.map(Timestamp::as_millisecond).ok_or_else(|| {
        format!(
            "`{text}` is no point in time; write 2026-11-23, 2026-11-23T08:00:00+08:00, or an age such as 12h"
        )
    })
}

fn two(large: i64, unit: &str, small: i64, part: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {part}") }
}

/// When a letter failed last, or, where the broker gave up, when it was published to its queue; in milliseconds since the
/// epoch.
pub(crate) fn failed_at(letter: &Letter) -> Option<i64> {
    let failed_ms = Some(letter.failure.at_ms).filter(|at_ms| *at_ms > 0);
    failed_ms.or_else(|| i64::try_from(letter.published_s?).ok()?.checked_mul(1_000))
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
    fn points_and_lengths_are_read_as_people_write_them() {
        assert_eq!(span("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "h", "15", "-1h", "1 year", "99999999999999999999d", "18446744073709551d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        let midnight = 1_767_196_800_000;
        for text in ["2026-01-01", "2026-01-01T00:00:00", "2025-12-31T16:00:00Z", "2026-01-01T00:00:00+08:00"]
        {
            assert_eq!(point(text, 0), Ok(midnight), "{text}");
        }
        assert_eq!(point("1d", midnight), Ok(midnight - 86_400_000));
        assert!(point("yesterday", 0).is_err());
    }

    #[test]
    fn an_age_has_at_most_two_units() {
        let minute = 60_000;
        let ages = [-5, 4_999, 59 * minute, 61 * minute, 120 * minute, 25 * 60 * minute].map(age);
        assert_eq!(ages, ["0 s", "4 s", "59 min", "1 h 1 min", "2 h", "1 d 1 h"]);
    }
}
