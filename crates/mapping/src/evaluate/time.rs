//! Points in time as the source writes them, on the source's own clock.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// Reads a point in time: 12 or 13 digits are epoch milliseconds, 10 are epoch seconds (both are moved to the clock
/// that is `offset_seconds` ahead of UTC); otherwise `yyyy-MM-dd HH:mm:ss` or `yyyy-MM-dd` (midnight) as written.
pub(crate) fn parse(text: &str, offset_seconds: i32) -> Option<DateTime> {
    let bytes = text.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        let number: i64 = text.parse().ok()?;
        let instant = match bytes.len() {
            10 => Timestamp::from_second(number).ok()?,
            12 | 13 => Timestamp::from_millisecond(number).ok()?,
            _ => return None,
        };
        return Some(Offset::from_seconds(offset_seconds).ok()?.to_datetime(instant));
    }
    let day = date(bytes.get(..10)?)?;
    match bytes.get(10..)? {
        [] => Some(day.to_datetime(Time::midnight())),
        [b' ', time @ ..] => Some(day.to_datetime(clock(time)?)),
        _ => None,
    }
}

fn date(bytes: &[u8]) -> Option<Date> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else { return None };
    let year = two(*y1, *y2)? as i16 * 100 + i16::from(two(*y3, *y4)?);
    Date::new(year, two(*m1, *m2)?, two(*d1, *d2)?).ok().filter(|date| date.year() > 0)
}

fn clock(bytes: &[u8]) -> Option<Time> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = bytes else { return None };
    Time::new(two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?, 0).ok()
}

fn two(tens: u8, ones: u8) -> Option<i8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| (byte - b'0') as i8);
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// Appends `yyyy-MM-dd`.
pub(crate) fn write_date(date: Date, out: &mut Vec<u8>) {
    let year = date.year().unsigned_abs();
    push_two((year / 100) as u8, out);
    push_two((year % 100) as u8, out);
    out.push(b'-');
    push_two(date.month() as u8, out);
    out.push(b'-');
    push_two(date.day() as u8, out);
}

/// Appends `yyyy-MM-dd HH:mm:ss`; fractions of a second are cut.
pub(crate) fn write_time(time: DateTime, out: &mut Vec<u8>) {
    write_date(time.date(), out);
    for (separator, part) in [(b' ', time.hour()), (b':', time.minute()), (b':', time.second())] {
        out.push(separator);
        push_two(part as u8, out);
    }
}

fn push_two(number: u8, out: &mut Vec<u8>) {
    out.push(b'0' + number / 10 % 10);
    out.push(b'0' + number % 10);
}
