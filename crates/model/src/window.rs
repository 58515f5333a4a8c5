//! An interval of a source's modification time.

use std::fmt;

use jiff::{Timestamp, tz::Offset};
use serde::{Deserialize, Serialize};

/// The half-open interval `[from, to)` of a source's modification time, in whole seconds; the sources read here
/// keep Beijing time, so that is how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct Window {
    /// First second of the window, in seconds since the epoch.
    pub from_s: i64,
    /// First second after the window.
    pub to_s: i64,
    /// Documents changed before this second were in reach of an earlier window and may be known to the target.
    pub fresh_from_s: i64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    from: String,
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fresh_from: Option<String>,
}

impl Window {
    /// A window whose documents are all fresh.
    pub const fn new(from_s: i64, to_s: i64) -> Self {
        Window { from_s, to_s, fresh_from_s: from_s }
    }

    /// Width in seconds, 0 for an empty or inverted window.
    pub const fn width_s(&self) -> i64 {
        let width = self.to_s.saturating_sub(self.from_s);
        if width > 0 { width } else { 0 }
    }

    /// Both halves, or nothing when the window is a single second and can't be halved.
    pub fn halves(&self) -> Option<[Window; 2]> {
        let half = self.width_s() / 2;
        (half > 0).then(|| {
            let middle = self.from_s + half;
            [Window { to_s: middle, ..*self }, Window { from_s: middle, ..*self }]
        })
    }
}

/// A time as Beijing wall time with its offset; a time out of range is written as its number.
fn beijing(second: i64) -> String {
    match Timestamp::from_second(second) {
        Ok(time) => time.display_with_offset(Offset::constant(8)).to_string(),
        Err(_) => second.to_string(),
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", beijing(self.from_s), beijing(self.to_s))
    }
}

impl From<Window> for Wire {
    fn from(window: Window) -> Self {
        let fresh = (window.fresh_from_s != window.from_s).then(|| beijing(window.fresh_from_s));
        Wire { from: beijing(window.from_s), to: beijing(window.to_s), fresh_from: fresh }
    }
}

impl TryFrom<Wire> for Window {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        let second = |name: &str, text: &str| {
            text.parse::<Timestamp>()
                .map(Timestamp::as_second)
                .map_err(|e| format!("`{name}` of the window is not an RFC 3339 time: {e}"))
        };
        let (from_s, to_s) = (second("from", &wire.from)?, second("to", &wire.to)?);
        let fresh_from_s = wire.fresh_from.map_or(Ok(from_s), |text| second("fresh_from", &text))?;
        if to_s <= from_s {
            return Err(format!("the window ends ({}) before it begins ({})", wire.to, wire.from));
        }
        Ok(Window { from_s, to_s, fresh_from_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reads_as_beijing_time_and_comes_back() {
        let window = Window { from_s: 1_767_196_800, to_s: 1_767_200_400, fresh_from_s: 1_767_196_860 };
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(
            text,
            r#"{"from":"2026-01-01T00:00:00+08:00","to":"2026-01-01T01:00:00+08:00","fresh_from":"2026-01-01T00:01:00+08:00"}"#
        );
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
    }

    #[test]
    fn halves_meet_and_end_at_one_second() {
        let [left, right] = Window::new(100, 103).halves().unwrap();
        assert_eq!((left.from_s, left.to_s, right.from_s, right.to_s), (100, 101, 101, 103));
        assert!(Window::new(100, 101).halves().is_none());
    }

    #[test]
    fn an_inverted_window_is_refused_with_both_ends() {
        let error = serde_json::from_str::<Window>(
            r#"{"from":"2026-01-01T01:00:00+08:00","to":"2026-01-01T00:00:00+08:00"}"#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("ends (2026-01-01T00:00:00+08:00) before it begins"), "{error}");
    }
}
