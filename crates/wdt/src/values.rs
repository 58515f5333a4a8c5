//! Tolerant readers for WDT's values, none of which has a stable type: the same field is a number in one answer and
//! text in the next. Each reader takes the characters as sent; [`text()`] gives them from a JSON value.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// Beijing time, in which WDT writes and expects every time; no daylight saving since 1991.
pub const BEIJING: Offset = Offset::constant(8);

/// The characters of a text, number or truth value; `None` for `null`, arrays, objects and undecodable text.
///
/// Nothing is trimmed: values such as `"LL "` occur in the vendor's own samples.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' => {
            let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
            if inner.contains('\\') {
                serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(inner))
            }
        }
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// A point in time from any of WDT's notations: epoch milliseconds (12 digits or more), epoch seconds (10 digits),
/// `yyyy-MM-dd HH:mm:ss` (a fraction is accepted) or `yyyy-MM-dd`, the latter two in Beijing time.
///
/// `None` for an empty or any other text, such as `0000-00-00 00:00:00`.
#[must_use]
pub fn flexible_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().ok()?;
        return match text.len() {
            10 => Timestamp::from_second(number).ok(),
            12.. => Timestamp::from_millisecond(number).ok(),
            _ => None,
        };
    }
    // The parser of the time library also takes ISO 8601 and zone suffixes, which here would be misread as Beijing time.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-: .".contains(&byte));
    let civil: DateTime = match text.len() {
        10 if plain => text.parse::<Date>().ok()?.at(0, 0, 0, 0),
        19.. if plain => text.parse().ok()?,
        _ => return None,
    };
    BEIJING.to_timestamp(civil).ok()
}

/// The exact decimal that the characters say, exponents included; `None` for an empty or other text and for numbers
/// that need more than 28 digits. Never goes through a binary float.
#[must_use]
pub fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim();
    // The parser of the decimal library also takes underscores.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return None;
    }
    if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()
    } else {
        Decimal::from_str_exact(text).ok()
    }
}

/// `true`, `false`, `1` or `0`, as value or text, in any case; `None` for anything else.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "1" => Some(true),
        "0" => Some(false),
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A count such as `total_count`, also as text or with a zero fraction; `None` for anything else.
pub(crate) fn count(text: &str) -> Option<u64> {
    let number = decimal(text)?;
    (number.is_integer() && !number.is_sign_negative()).then(|| u64::try_from(number).ok()).flatten()
}

/// `yyyy-MM-dd HH:mm:ss` in Beijing time, the notation of every time that is sent to WDT.
#[must_use]
pub fn beijing_text(time: Timestamp) -> String {
    BEIJING.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn text_is_what_was_sent() {
        for (json, expected) in [
            (r#""LL ""#, Some("LL ")),
            (r#""\u4e0a\n""#, Some("上\n")),
            ("99.70000000", Some("99.70000000")),
            ("false", Some("false")),
            (r#""""#, Some("")),
            ("null", None),
            ("[]", None),
            ("{}", None),
            (r#""\ud800""#, None),
        ] {
            assert_eq!(text(raw(json)).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn every_notation_of_a_time_is_read_in_beijing_time() {
        let expected = "2023-02-21T07:22:01Z".parse::<Timestamp>().unwrap();
        for notation in ["1676964121000", "1676964121", "2023-02-21 15:22:01", " 2023-02-21 15:22:01.0 "] {
            assert_eq!(flexible_time(notation), Some(expected), "{notation}");
        }
        assert_eq!(flexible_time("2024-04-27"), Some("2024-04-26T16:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_is_no_time_is_nothing() {
        for notation in [
            "",
            " ",
            "0",
            "80",
            "16769641210",
            "0000-00-00 00:00:00",
            "2023/02/21",
            "2023-02-30",
            "2023-02-21 15:22",
            "2023-02-21T15:22:01Z",
            "99999999999999999999",
            "无",
            "-1676964121000",
        ] {
            assert_eq!(flexible_time(notation), None, "{notation}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (notation, expected) in [
            ("99.7", "99.7"),
            ("99.70000000", "99.70000000"),
            (" 10 ", "10"),
            ("-0.0001", "-0.0001"),
            ("0.1234567890123456789012345678", "0.1234567890123456789012345678"),
            ("1E+3", "1000"),
            ("1.25e-4", "0.000125"),
        ] {
            assert_eq!(decimal(notation).unwrap().to_string(), expected, "{notation}");
        }
        for notation in
            ["", "1_000", "1,000", "12345678901234567890123456789012", "1e-40", "--1", "e", "NaN", "."]
        {
            assert_eq!(decimal(notation), None, "{notation}");
        }
    }

    #[test]
    fn truth_has_six_spellings() {
        for (notation, expected) in [
            ("true", Some(true)),
            ("False", Some(false)),
            ("1", Some(true)),
            ("0", Some(false)),
            ("", None),
            ("是", None),
        ] {
            assert_eq!(boolean(notation), expected, "{notation}");
        }
    }

    #[test]
    fn a_count_is_a_whole_number_of_any_type() {
        for (notation, expected) in
            [("2", Some(2)), ("2.0", Some(2)), ("-1", None), ("", None), ("2.5", None)]
        {
            assert_eq!(count(notation), expected, "{notation}");
        }
    }

    #[test]
    fn times_are_written_in_beijing_time() {
        assert_eq!(beijing_text("2024-04-21T16:00:00Z".parse().unwrap()), "2024-04-22 00:00:00");
    }
}
