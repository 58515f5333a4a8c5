//! How far the windows of a scheme have been cut.

use jiff::{Timestamp, tz::Offset};
use kingpost_model::Window;
use serde::{Deserialize, Serialize};

/// The message in the cursor queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wire {
    scheme: String,
    /// Everything before this second has been cut into windows.
    cursor: String,
}

/// Writes a cursor.
pub(crate) fn write(scheme: &str, second: i64) -> Vec<u8> {
    let cursor = match Timestamp::from_second(second) {
        Ok(time) => time.display_with_offset(Offset::constant(8)).to_string(),
        Err(_) => second.to_string(),
    };
    serde_json::to_vec(&Wire { scheme: scheme.to_owned(), cursor }).unwrap_or_default()
}

/// Reads a cursor, in seconds since the epoch.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn read(scheme: &str, body: &[u8]) -> Result<i64, String> {
    let remedy = format!("empty the queue cursor.{scheme} to begin at the scheme's `start` again");
    let wire: Wire = serde_json::from_slice(body).map_err(|e| format!("the cursor can't be read: {e}; {remedy}"))?;
    if wire.scheme != scheme {
        return Err(format!("the cursor belongs to the scheme `{}`; {remedy}", wire.scheme));
    }
    let time: Result<Timestamp, _> = wire.cursor.parse();
    time.map(Timestamp::as_second).map_err(|e| format!("the cursor `{}` is not a time: {e}; {remedy}", wire.cursor))
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
}

/// Cuts `[cursor, end)` into at most `most` windows and returns them with the cursor behind them.
pub(crate) fn cut(cursor: i64, end: i64, cutting: Cutting, most: usize) -> (Vec<Window>, i64) {
    let mut windows = Vec::new();
    let mut at = cursor;
    while at < end && windows.len() < most {
        let to_s = at.saturating_add(cutting.width_s.max(1)).min(end);
        let from_s = at.saturating_sub(cutting.overlap_s.max(0)).max(cutting.start_s).min(at);
        windows.push(Window { from_s, to_s, fresh_from_s: at });
        at = to_s;
    }
    (windows, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_wrong_one_is_explained() {
        assert_eq!(read("s", &write("s", 1_767_196_800)), Ok(1_767_196_800));
        assert!(read("s", b"{}").unwrap_err().contains("empty the queue cursor.s"));
        assert!(read("s", &write("t", 0)).unwrap_err().contains("belongs to the scheme `t`"));
    }

    proptest! {
        #[test]
        fn windows_cover_everything_and_meet(
            start in 0_i64..1_000, past in 0_i64..5_000, span in 0_i64..50_000,
            width in 1_i64..5_000, overlap in 0_i64..600, most in 1_usize..200,
        ) {
            let cursor = start + past;
            let cutting = Cutting { width_s: width, overlap_s: overlap, start_s: start };
            let (windows, next) = cut(cursor, cursor + span, cutting, most);
            let mut at = cursor;
            for window in &windows {
                prop_assert_eq!(window.fresh_from_s, at);
                prop_assert!(window.from_s <= at && window.from_s >= start);
                prop_assert!(window.to_s > at && window.to_s - at <= width);
                at = window.to_s;
            }
            prop_assert_eq!(at, next);
            prop_assert!(next == cursor + span || windows.len() == most);
        }
    }
}
