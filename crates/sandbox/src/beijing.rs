//! Beijing time (+08:00, no summer time), which WDT writes and reads without naming it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

const BEIJING: Offset = Offset::constant(8);
const PATTERN: &str = "%Y-%m-%d %H:%M:%S";

/// `yyyy-MM-dd HH:mm:ss` of an epoch second.
pub(crate) fn text(second: i64) -> String {
    format(second, PATTERN)
}

/// `yyyyMMdd` of an epoch second.
pub(crate) fn compact_date(second: i64) -> String {
    format(second, "%Y%m%d")
}

/// `yyyy-MM-dd` of an epoch second.
pub(crate) fn date(second: i64) -> String {
    format(second, "%Y-%m-%d")
}

/// The epoch second of `yyyy-MM-dd HH:mm:ss`; nothing for any other shape.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if text.len() != 19 {
        return None;
    }
    let civil = DateTime::strptime(PATTERN, text).ok()?;
    Some(BEIJING.to_timestamp(civil).ok()?.as_second())
}

/// RFC 3339 with milliseconds and the Beijing offset, for people.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::fixed(BEIJING)).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// An epoch second as HTTP's `Date` header writes it, in GMT.
pub(crate) fn http_date(second: i64) -> String {
    let at = Timestamp::from_second(second).unwrap_or_default();
    at.to_zoned_datetime(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn format(second: i64, pattern: &str) -> String {
    let at = Timestamp::from_second(second).unwrap_or_default();
    BEIJING.to_datetime(at).strftime(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::{parse, text};

    #[test]
    fn only_the_exact_shape_is_a_time() {
        assert_eq!(parse("2024-04-22 10:00:00").map(text).as_deref(), Some("2024-04-22 10:00:00"));
        assert_eq!(parse("1970-01-01 08:00:00"), Some(0));
        for wrong in ["2024/04/22 10:00:00", "2024-04-22", "2024-13-01 00:00:00", "2024-4-22 10:00:00x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
