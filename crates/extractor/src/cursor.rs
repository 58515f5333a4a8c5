//! How far the windows of a scheme have been cut, and where the next ones are cut.

use jiff::{Timestamp, tz::Offset};
use kingpost_model::Window;

/// How far ahead of the clock a cursor may be to be believed less than the clock: two days.
pub(crate) const ASTRAY_S: i64 = 2 * 86_400;

/// How far the windows of a scheme have been cut, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything before this second has been cut into windows.
    pub(crate) at_s: i64,
    /// The last second that was ever cut: later than `at_s` after a clock went back. What was changed before it may
    /// have been read.
    pub(crate) reached_s: i64,
}

impl Cursor {
    /// A cursor before which nothing was ever cut twice.
    #[cfg(test)]
    pub(crate) const fn new(second: i64) -> Self {
        Cursor { at_s: second, reached_s: second }
    }
}

/// A time as Beijing wall time with its offset; a time out of range is written as its number.
pub(crate) fn beijing(second: i64) -> String {
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
/// A cursor ahead of the clock means that a clock went back. Windows that were cut for the future were read before
/// everything in them had happened, so cutting begins again one width behind the present, and what was in reach of
/// them is looked up before it is posted.
pub(crate) fn round(cursor: Cursor, now_s: i64, cutting: Cutting, most: usize) -> Round {
    let end_s = now_s.saturating_sub(cutting.lag_s.max(0));
    let mut at_s = cursor.at_s.max(cutting.start_s);
    if at_s > now_s && at_s > cutting.start_s {
        if at_s.saturating_sub(now_s) > ASTRAY_S {
            return Round::Astray(format!(
                "the cursor ({}) is far ahead of this machine's clock ({}); set the clock, or move the cursor with `kingpost \
                 cursor set`",
                beijing(at_s),
                beijing(now_s)
            ));
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_767_196_800;
    const CUTTING: Cutting = Cutting { width_s: 3_600, overlap_s: 60, start_s: START, lag_s: 300 };

    fn cut_at(cursor: Cursor, now_s: i64) -> (Vec<Window>, Cursor) {
        match round(cursor, now_s, CUTTING, 50) {
            Round::Cut(windows, next) => (windows, next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_start_in_the_future_is_waited_for() {
        assert_eq!(round(Cursor::new(START), START - 99 * 86_400, CUTTING, 50), Round::Wait);
        assert_eq!(round(Cursor::new(START), START + 300, CUTTING, 50), Round::Wait);
        let (windows, next) = cut_at(Cursor::new(START), START + 301);
        assert_eq!(windows, [Window::new(START, START + 1)]);
        assert_eq!(next, Cursor::new(START + 1));
    }

    #[test]
    fn nothing_before_the_start_is_read_when_the_start_moves_on() {
        let (windows, _) = cut_at(Cursor::new(START - 86_400), START + 400);
        assert_eq!(windows, [Window::new(START, START + 100)]);
    }

    #[test]
    fn a_clock_that_jumps_forward_leaves_no_gap() {
        let (windows, next) = cut_at(Cursor::new(START), START + 100 * 86_400);
        assert_eq!(windows.len(), 50);
        assert_eq!(next, Cursor::new(START + 50 * 3_600));
        assert!(windows.windows(2).all(|pair| pair[1].from_s == pair[0].to_s - 60));
    }

    #[test]
    fn a_clock_a_little_behind_is_waited_for() {
        // Within the lag: another extractor's clock, or a lag that was made longer.
        let now_s = START + 86_400;
        assert_eq!(round(Cursor::new(now_s), now_s, CUTTING, 50), Round::Wait);
        assert_eq!(round(Cursor::new(now_s - 300), now_s, CUTTING, 50), Round::Wait);
    }

    #[test]
    fn windows_that_were_cut_for_the_future_are_cut_again_and_verified() {
        let now_s = START + 86_400;
        let ahead = Cursor::new(now_s + 7_200);
        let (windows, next) = cut_at(ahead, now_s);
        let end_s = now_s - 300;
        assert_eq!(windows.iter().map(|w| (w.from_s, w.to_s)).collect::<Vec<_>>(), [(end_s - 3_660, end_s)]);
        assert!(windows.iter().all(|w| w.fresh_from_s == ahead.at_s));
        assert_eq!(next, Cursor { at_s: end_s, reached_s: ahead.at_s });
        // Until the clock has passed what was reached, everything is verified, also by the next leader.
        let (windows, next) = cut_at(next, now_s + 60);
        assert_eq!(windows, [Window { from_s: end_s - 60, to_s: end_s + 60, fresh_from_s: ahead.at_s }]);
        let (windows, next) = cut_at(next, now_s + 7_600);
        assert_eq!(windows.iter().map(|w| w.fresh_from_s).collect::<Vec<_>>(), [ahead.at_s; 3]);
        let (windows, _) = cut_at(next, now_s + 7_700);
        assert!(windows.iter().all(|w| w.fresh_from_s == next.at_s));
    }

    #[test]
    fn a_clock_that_is_far_off_cuts_nothing_and_says_so() {
        for now_s in [0, START + 86_400] {
            let round = round(Cursor::new(START + 30 * 86_400), now_s, CUTTING, 50);
            assert!(matches!(&round, Round::Astray(text) if text.contains("set the clock")), "{round:?}");
        }
    }

    proptest! {
        #[test]
        fn windows_cover_everything_and_meet(
            start_s in 0_i64..1_000, past in 0_i64..5_000, span in 1_i64..50_000, lag_s in 0_i64..600,
            width_s in 1_i64..5_000, overlap_s in 0_i64..600, most in 1_usize..200,
        ) {
            let cursor = Cursor::new(start_s + past);
            let end = cursor.at_s + span;
            let cutting = Cutting { width_s, overlap_s, start_s, lag_s };
            let Round::Cut(windows, next) = round(cursor, end + lag_s, cutting, most) else { panic!("nothing cut") };
            let mut at = cursor.at_s;
            for window in &windows {
                prop_assert_eq!(window.fresh_from_s, at);
                prop_assert!(window.from_s <= at && window.from_s >= start_s);
                prop_assert!(window.to_s > at && window.to_s - at <= width_s);
                at = window.to_s;
            }
            prop_assert_eq!(Cursor::new(at), next);
            prop_assert!(at == end || windows.len() == most);
        }
    }
}
