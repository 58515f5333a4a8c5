//! Clocks.

use std::time::Duration;

use super::Judgement;

/// A difference that a whole second's rounding and a slow answer explain, in seconds.
const NONE: u64 = 5;
/// Signed calls are refused from two minutes on; half of that is the limit.
const LIMIT: u64 = 60;

/// Judges how far another clock is ahead of ours. With `lag`, a source's: its windows are held back when ours is ahead by
/// more than half of it.
pub(super) fn judge(whose: &str, ahead_s: Option<i64>, lag: Option<Duration>) -> Judgement {
    let Some(ahead_s) = ahead_s else {
        return Judgement::skipped(format!("no answer of {whose} told the time (`Date`)"));
    };
    let off = ahead_s.unsigned_abs();
    if off <= NONE {
        return Judgement::ok(format!("{whose} and this machine agree"));
    }
    let side = if ahead_s > 0 { "ahead of" } else { "behind" };
    let seen = format!("the clock of {whose} is {off} s {side} this machine's");
    let remedy = format!(
        "set this machine's clock by NTP; if it is right, tell whoever runs {whose}. Signed calls are refused when clocks differ, \
         and a document may be looked for too early"
    );
    let held = lag.filter(|lag| ahead_s < 0 && off > lag.as_secs() / 2);
    match held {
        Some(lag) => Judgement::failed(
            format!(
                "{seen}, by more than half of `source.window.lag` ({} s): windows are held back",
                lag.as_secs()
            ),
            remedy,
        ),
        None if off > LIMIT => Judgement::failed(seen, remedy),
        None => Judgement::warning(seen, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn clocks_are_judged_by_how_far_they_differ_and_on_which_side() {
        let lag = Some(Duration::from_secs(60));
        for (ahead_s, lag, verdict) in [
            (Some(0), lag, Verdict::Ok),
            (Some(-5), lag, Verdict::Ok),
            (Some(40), lag, Verdict::Warning),
            (Some(-40), None, Verdict::Warning),
            (Some(-40), lag, Verdict::Failed),
            (Some(61), None, Verdict::Failed),
            (None, lag, Verdict::Skipped),
        ] {
            let judgement = judge("WDT", ahead_s, lag);
            assert_eq!(judgement.verdict, verdict, "{ahead_s:?}: {judgement:?}");
            let has_remedy = matches!(verdict, Verdict::Warning | Verdict::Failed);
            assert_eq!(judgement.remedy.contains("NTP"), has_remedy);
        }
        assert!(judge("WDT", Some(90), None).seen.contains("90 s ahead of"));
    }
}
