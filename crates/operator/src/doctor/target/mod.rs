//! The loader's target.

mod base_data;
mod fields;

use jiff::{SignedDuration, Timestamp};
use kingpost_connectors::{Numbers, TargetDenial, TargetProbe, target_probe};
use kingpost_model::{Failure, FailureKind};
use kingpost_scheme::Scheme;
use kingpost_settings::KingdeeSettings;

use super::{Judgement, Sheet, skew};
use crate::terminal::counted;

/// How far back numbers are compared.
const DAYS: i64 = 7;
/// Numbers that are named.
const NAMED: usize = 5;

/// Asks a scheme's form as the loader does, but for writing.
pub(super) async fn examine(sheet: &mut Sheet, scheme: &Scheme, settings: &KingdeeSettings) {
    let subject = format!("{}, {}", scheme.name, scheme.target.form);
    let probe = match target_probe(scheme, settings) {
        Ok(probe) => probe,
        Err(problems) => {
            let remedy = "correct the settings that are named";
            sheet.put("login", &subject, Judgement::failed(problems.to_string(), remedy));
            let rest = ["clock", "form", "metadata", "base data", "numbers"];
            return sheet.after("login", &rest, &subject);
        }
    };
    let looked = sheet.within(probe.look()).await;
    let (login, form) = entered(looked, &scheme.target.form);
    let is_in = login.verdict == super::Verdict::Ok;
    sheet.put("login", &subject, login);
    sheet.put("clock", &scheme.name, skew::judge("Kingdee", probe.ahead_s(), None));
    if is_in {
        let may_look = form.verdict == super::Verdict::Ok;
        sheet.put("form", &subject, form);
        inside(sheet, scheme, &probe, &subject, may_look).await;
    } else {
        sheet.after("login", &["form", "metadata", "base data", "numbers"], &subject);
    }
    let _ = sheet.within(probe.leave()).await;
}

/// What is asked once we are in.
async fn inside(sheet: &mut Sheet, scheme: &Scheme, probe: &TargetProbe, subject: &str, may_look: bool) {
    let metadata = match sheet.within(probe.form()).await {
        Err(late) => late,
        Ok(Ok(parts)) => fields::judge(&scheme.fields, &parts, &scheme.target.form),
        Ok(Err(failure)) => Judgement::failed(
            format!("`QueryBusinessInfo` isn't answered: {}", failure.text),
            "let the integration user read the form's metadata, or see whether `target.form` is its id",
        ),
    };
    sheet.put("metadata", subject, metadata);
    base_data::examine(sheet, scheme, probe).await;
    if !may_look {
        return sheet.after("form", &["numbers"], subject);
    }
    let since = Timestamp::now().checked_sub(SignedDuration::from_hours(DAYS * 24)).unwrap_or_default();
    let numbers = match sheet.within(probe.numbers_since(since)).await {
        Err(late) => late,
        Ok(Ok(numbers)) => unique(&numbers),
        Ok(Err(failure)) => Judgement::warning(
            format!("numbers of the last {DAYS} days can't be listed: {}", failure.text),
            "see whether the user may list documents of every organisation",
        ),
    };
    sheet.put("numbers", subject, numbers);
}

/// What the first look says of the login and of the form.
fn entered(looked: Result<Result<(), TargetDenial>, Judgement>, form: &str) -> (Judgement, Judgement) {
    let skipped = || Judgement::after("login");
    match looked {
        Err(late) => (late, skipped()),
        Ok(Ok(())) => (
            Judgement::ok("let in"),
            Judgement::ok("documents may be looked up; whether they may be saved shows only when one is"),
        ),
        Ok(Err(TargetDenial::Absent(failure))) => (absent(&failure), skipped()),
        Ok(Err(TargetDenial::Stranger(failure))) => (
            Judgement::failed(
                failure.text,
                "check KINGDEE_ACCT_ID, KINGDEE_USERNAME, KINGDEE_APP_ID and KINGDEE_APP_SECRET, that the third-party login grant \
                 lists this user and this address, and the clock",
            ),
            skipped(),
        ),
        Ok(Err(TargetDenial::Form(failure))) => (
            Judgement::ok("let in"),
            Judgement::failed(
                failure.text,
                format!(
                    "give the integration user the WebAPI and the rights to view, create, submit and audit {form} in every \
                     organisation that the scheme posts to; check `target.form`"
                ),
            ),
        ),
    }
}

fn absent(failure: &Failure) -> Judgement {
    if failure.kind == FailureKind::Throttled {
        let seen = format!("not judged, since Kingdee turns calls away just now: {}", failure.text);
        return Judgement::warning(seen, "try again later");
    }
    let remedy =
        "correct KINGDEE_URL, its path included, or see that its host is reached from here and works";
    Judgement::failed(failure.text.clone(), remedy)
}

fn unique(numbers: &Numbers) -> Judgement {
    let documents = counted(numbers.documents, "document");
    let only = if numbers.cut_off { "; there are more, which were not looked at" } else { "" };
    let looked = format!("{documents} of the last {DAYS} days{only}");
    if numbers.repeated.is_empty() {
        return Judgement::ok(format!(
            "no number twice among {looked}. That shows that none was doubled, not that Kingdee would refuse a number that is \
             used (编码唯一): see that on a test account"
        ));
    }
    let named: Vec<&str> = numbers.repeated.iter().take(NAMED).map(String::as_str).collect();
    let rest = numbers.repeated.len().saturating_sub(named.len());
    let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    Judgement::warning(
        format!("more than one document of {looked} has the number {}{rest}", named.join(", ")),
        "switch on 编码唯一 for the form, over all organisations; `kingpost reconcile` tells which documents are doubled",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_refused_login_and_a_refused_form_are_told_apart() {
        let failure = || Failure::new(FailureKind::Configuration, "their words");
        let denied = |denial| entered(Ok(Err(denial)), "STK_InStock");
        let (login, form) = denied(TargetDenial::Stranger(failure()));
        assert_eq!((login.verdict, form.verdict), (Verdict::Failed, Verdict::Skipped));
        assert!(login.remedy.contains("KINGDEE_APP_SECRET"), "{login:?}");
        let (login, form) = denied(TargetDenial::Form(failure()));
        assert_eq!((login.verdict, form.verdict), (Verdict::Ok, Verdict::Failed));
        assert!(form.remedy.contains("audit STK_InStock"), "{form:?}");
        let (login, _) = denied(TargetDenial::Absent(Failure::new(FailureKind::Unavailable, "x")));
        assert!(login.remedy.contains("KINGDEE_URL"), "{login:?}");
        let late = Judgement::failed("no answer", "wait");
        let (login, form) = entered(Err(late.clone()), "STK_InStock");
        assert_eq!((login, form), (late, Judgement::after("login")));
    }

    #[test]
    fn numbers_that_are_unique_so_far_prove_little_and_that_is_said() {
        let mut numbers = Numbers { documents: 7, ..Numbers::default() };
        let judgement = unique(&numbers);
        assert_eq!(judgement.verdict, Verdict::Ok);
        assert!(judgement.seen.contains("7 documents") && judgement.seen.contains("not that Kingdee"));
        numbers.repeated = (0..7).map(|n| format!("RK{n}")).collect();
        let judgement = unique(&numbers);
        assert_eq!(judgement.verdict, Verdict::Warning);
        assert!(judgement.seen.contains("RK0, RK1, RK2, RK3, RK4 and 2 more"), "{judgement:?}");
    }
}
