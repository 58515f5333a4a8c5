//! How far the windows of a scheme have been cut, and where the next ones are cut.

use jiff::{Timestamp, tz::Offset};
use kingpost_model::Window;
use serde::{Deserialize, Serialize};

/// How far ahead of the clock a cursor may be to be believed less than the clock: two days.
const ASTRAY_S: i64 = 2 * 86_400;

/// How far the windows of a scheme have been cut, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything before this second has been cut into windows.
    pub(crate) at_s: i64,
    /// The last second that was ever cut: later than `at_s` after a clock went back. What was changed before it may
    /// have been read.
    pub(crate) reached_s: i64,
}

/// The message in the cursor queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wire {
    scheme: String,
    cursor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reached: Option<String>,
}

impl Cursor {
    /// A cursor before which nothing was ever cut twice.
    pub(crate) const fn new(second: i64) -> Self {
        Cursor { at_s: second, reached_s: second }
    }

    /// Writes a cursor as JSON.
    pub(crate) fn write(self, scheme: &str) -> Vec<u8> {
        let reached = (self.reached_s > self.at_s).then(|| beijing(self.reached_s));
        let wire = Wire { scheme: scheme.to_owned(), cursor: beijing(self.at_s), reached };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// Reads a cursor.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn read(scheme: &str, body: &[u8]) -> Result<Self, String> {
        let remedy = format!("empty the queue cursor.{scheme} to begin at the scheme's `start` again");
        let wire: Wire =
            serde_json::from_slice(body).map_err(|e| format!("the cursor can't be read: {e}; {remedy}"))?;
        if wire.scheme != scheme {
            return Err(format!("the cursor belongs to the scheme `{}`; {remedy}", wire.scheme));
        }
        let second = |text: &str| {
            let time: Result<Timestamp, _> = text.parse();
            time.map(Timestamp::as_second)
                .map_err(|e| format!("the cursor `{text}` is not a time: {e}; {remedy}"))
        };
        let at_s = second(&wire.cursor)?;
        let reached_s = wire.reached.as_deref().map_or(Ok(at_s), second)?;
        Ok(Cursor { at_s, reached_s: reached_s.max(at_s) })
    }
}

/// A time as Beijing wall time with its offset; a time out of range is written as its number.
fn beijing(second: i64) -> String {
    match Timestamp::from_second(second) {
        Ok(time) => time.display_with_offset(Offset::constant(8)).to_string(),
        Err(_) => second.to_string(),
    }
}

/// How windows are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cutting {
    /// The widest window, in seconds.
    pub(crate) width_s: i64,
    /// How far a window reaches back behind the one before it, in seconds.
    pub(crate) overlap_s: i64,
    /// The first second that is ever read.
    pub(crate) start_s: i64,
    /// Windows end this far in the past, in seconds, because rows still arrive at the edge of now.
    pub(crate) lag_s: i64,
}

/// What there is to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// Nothing yet.
    Wait,
    /// These windows, and the cursor once all of them are confirmed.
    Cut(Vec<Window>, Cursor),
    /// Nothing, because the clock or the cursor is wrong, and which of them a person has to find out.
    Astray(String),
}

/// Decides what is cut at `now_s`, at most `most` windows.
///
/// A cursor ahead of the clock means that a clock went wrong. Windows that were cut for the future were read before
/// everything in them had happened, so they are cut again, and what they hold is looked up before it is posted.
pub(crate) fn round(cursor: Cursor, now_s: i64, cutting: Cutting, most: usize) -> Round {
    let end_s = now_s.saturating_sub(cutting.lag_s.max(0));
    let mut at_s = cursor.at_s.max(cutting.start_s);
    if at_s > now_s && at_s > cutting.start_s {
        if at_s.saturating_sub(now_s) > ASTRAY_S {
            return Round::Astray(format!(
                "the cursor ({}) is far ahead of this machine's clock ({}); set the clock, or empty the cursor's queue \
                 to begin at the scheme's `start` again",
                beijing(at_s),
                beijing(now_s)
            ));
        }
        // What is cut later begins here; until then nothing is moved, so that a clock that is set right costs nothing.
        at_s = end_s.saturating_sub(cutting.width_s.max(1)).max(cutting.start_s);
    }
    if end_s <= at_s {
        return Round::Wait;
    }
    let (windows, next) = cut(Cursor { at_s, ..cursor }, end_s, cutting, most);
    Round::Cut(windows, next)
}

/// Cuts `[cursor, end)` into at most `most` windows and returns them with the cursor behind them.
fn cut(cursor: Cursor, end_s: i64, cutting: Cutting, most: usize) -> (Vec<Window>, Cursor) {
    let mut windows = Vec::new();
    let mut at_s = cursor.at_s;
    while at_s < end_s && windows.len() < most {
        let to_s = at_s.saturating_add(cutting.width_s.max(1)).min(end_s);
        let from_s = at_s.saturating_sub(cutting.overlap_s.max(0)).max(cutting.start_s).min(at_s);
        windows.push(Window { from_s, to_s, fresh_from_s: cursor.reached_s.max(at_s) });
        at_s = to_s;
    }
    (windows, Cursor { at_s, reached_s: cursor.reached_s.max(at_s) })
}
