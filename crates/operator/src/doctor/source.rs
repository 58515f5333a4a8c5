//! The extractor's source.

use jiff::Timestamp;
use kingpost_connectors::{SourceDenial, source_probe};
use kingpost_model::FailureKind;
use kingpost_scheme::Scheme;
use kingpost_settings::WdtSettings;

use super::{Judgement, Sheet, skew};

/// How much of the source is asked for, in seconds: one minute that a window may read already.
const RANGE_S: i64 = 60;

/// Asks a scheme's method as the extractor does.
pub(super) async fn examine(sheet: &mut Sheet, scheme: &Scheme, settings: &WdtSettings) {
    let subject = format!("{}, {}", scheme.name, scheme.source.method);
    let probe = match source_probe(scheme, settings) {
        Ok(probe) => probe,
        Err(problems) => {
            let remedy = "correct the settings that are named";
            sheet.put("signature", &subject, Judgement::failed(problems.to_string(), remedy));
            return sheet.after("signature", &["clock"], &scheme.name);
        }
    };
    let now_s = Timestamp::now().as_second();
    let to_s = now_s - i64::try_from(scheme.source.window.lag.as_secs()).unwrap_or(0);
    let (from, to) = (second(to_s - RANGE_S), second(to_s));
    let judgement = match sheet.within(probe.ask(from, to)).await {
        Err(late) => late,
        Ok(Ok(total)) => {
            let total = total.map_or("an unknown number of".to_owned(), |total| total.to_string());
            Judgement::ok(format!("accepted; {total} documents changed in the minute that was asked for"))
        }
        Ok(Err(denial)) => denied(&denial),
    };
    sheet.put("signature", &subject, judgement);
    sheet.put("clock", &scheme.name, skew::judge("WDT", probe.ahead_s(), Some(scheme.source.window.lag)));
}

fn second(at_s: i64) -> Timestamp {
    Timestamp::from_second(at_s).unwrap_or_default()
}

fn denied(denial: &SourceDenial) -> Judgement {
    let seen = denial.failure.text.clone();
    match denial.failure.kind {
        FailureKind::Throttled => Judgement::warning(
            format!("not judged, since WDT is asked too often just now: {seen}"),
            "try again later; extractors slow down by themselves",
        ),
        FailureKind::Unavailable => Judgement::failed(
            seen,
            "correct WDT_URL, or see that its host is reached from here and that this machine's address is on WDT's white list",
        ),
        _ if denial.credentials => Judgement::failed(
            seen,
            format!(
                "{}; check WDT_SID, WDT_APP_KEY and WDT_APP_SECRET, and over Qimen QIMEN_APP_KEY, QIMEN_APP_SECRET and \
                 QIMEN_TARGET_APP_KEY; what WDT issued last counts",
                denial.advice
            ),
        ),
        _ => Judgement::failed(
            seen,
            format!(
                "{}; check `source.method` and `source.params` of the scheme, and what the account may read",
                denial.advice
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::Failure;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_refusal_names_what_is_to_be_checked() {
        let denial = |kind, credentials| SourceDenial {
            failure: Failure::new(kind, "their words"),
            advice: "an advice",
            credentials,
        };
        for (denial, verdict, words) in [
            (denial(FailureKind::Configuration, true), Verdict::Failed, "WDT_APP_SECRET"),
            (denial(FailureKind::Unavailable, false), Verdict::Failed, "WDT_URL"),
            (denial(FailureKind::Refused, false), Verdict::Failed, "source.method"),
            (denial(FailureKind::Throttled, false), Verdict::Warning, "later"),
        ] {
            let judgement = denied(&denial);
            assert_eq!(judgement.verdict, verdict, "{judgement:?}");
            assert!(
                judgement.remedy.contains(words) && judgement.seen.contains("their words"),
                "{judgement:?}"
            );
        }
    }
}
