use super::*;

fn seen(status: &str) -> Seen {
    let id = "1".to_owned();
    Seen { id, status: status.into(), cancelled: false, written_s: None, difference: None }
}

fn terms(standing: Standing, finish: Finish) -> Terms {
    let rules = Rules { finish, on_change: OnChange::Report };
    Terms { standing, rules, extracted_ms: None, cancelled: false }
}

fn looked_up(seen: &[Seen]) -> Event {
    Event::LookedUp { seen: seen.to_vec(), stray: None }
}

fn failed(kind: FailureKind) -> Failure {
    Failure::new(kind, "x").leaving_a_write_in_flight()
}

fn open(doubt: Doubt, alone: bool) -> Event {
    Event::SaveAnswered(SaveSaid::Open(Open { doubt, words: String::new(), alone, instead: None }))
}

/// A word for where a document stands after some events.
fn after(standing: Standing, events: impl IntoIterator<Item = Event>) -> String {
    let mut life = Life::new(terms(standing, Finish::Audit));
    events.into_iter().for_each(|event| life.on(event));
    match life.state() {
        State::NotSent => "not sent".to_owned(),
        State::Outdated(_) => "outdated".to_owned(),
        State::Left(there, _) => format!("left {}", there.how.as_str()),
        State::Unknown(_) => "unknown".to_owned(),
        State::Saved(there) => format!("saved {}", there.how.as_str()),
        State::Submitted(there) => format!("submitted {}", there.how.as_str()),
        State::Audited(there) => format!("audited {}", there.how.as_str()),
        State::Failed(f) => format!("{}{}", f.kind, if f.in_flight { " in flight" } else { "" }),
    }
}

/// The same for one that a look-up has not found, so that it is sent.
fn after_absent(events: impl IntoIterator<Item = Event>) -> String {
    after(Standing::Verify, std::iter::once(looked_up(&[])).chain(events))
}

#[test]
fn steps_follow_the_status_and_stop_where_the_scheme_says() {
    for (finish, status, due) in [
        (Finish::Audit, "A", Some(Action::Submit)),
        (Finish::Audit, "Z", Some(Action::Submit)),
        (Finish::Audit, "D", Some(Action::Submit)),
        (Finish::Audit, "B", Some(Action::Audit)),
        (Finish::Audit, "C", None),
        (Finish::Submit, "A", Some(Action::Submit)),
        (Finish::Submit, "B", None),
        (Finish::Submit, "C", None),
        (Finish::Save, "Z", None),
        (Finish::Save, "B", None),
    ] {
        let mut life = Life::new(terms(Standing::Verify, finish));
        life.on(looked_up(&[seen(status)]));
        assert_eq!(life.next(), due, "{finish:?} {status}");
    }
}

#[test]
fn only_what_is_absent_and_can_not_be_running_is_sent() {
    use Standing::{Settled, Unproven, Verify};
    let absent = || looked_up(&[]);
    for (standing, then) in [(Verify, "not sent"), (Settled, "not sent"), (Unproven, "unclear")] {
        assert_eq!(after(standing, []), "unknown");
        assert_eq!(after(standing, [absent()]), then);
    }
    assert_eq!(after_absent([Event::Failed(failed(FailureKind::Unclear))]), "unclear in flight");
    for (doubt, alone, then) in [
        (Doubt::NotMentioned, false, "not sent"),
        (Doubt::NotMentioned, true, "unclear in flight"),
        (Doubt::Unclear, false, "unclear in flight"),
        (Doubt::NoId, false, "unclear in flight"),
        (Doubt::Duplicate, false, "conflict"),
        (Doubt::OtherNumber { number: "CG1".into() }, false, "conflict"),
    ] {
        assert_eq!(after_absent([open(doubt.clone(), alone)]), "unknown");
        assert_eq!(after_absent([open(doubt.clone(), alone), absent()]), then, "{doubt:?} {alone}");
        let silence = Event::Failed(failed(FailureKind::Unavailable));
        assert_eq!(after_absent([open(doubt, alone), silence]), "unclear in flight");
    }
}

#[test]
fn what_is_found_is_ours_only_once_and_with_our_content() {
    let differing = Seen { difference: Some("2 lines there, 1 here".into()), ..seen("A") };
    let cancelled = Seen { cancelled: true, ..seen("A") };
    for (found, then) in [
        (vec![seen("A")], "saved resumed"),
        (vec![seen("B")], "submitted resumed"),
        (vec![seen("C")], "audited already-there"),
        (vec![differing], "conflict"),
        (vec![cancelled], "conflict"),
        (vec![seen("C"), seen("C")], "conflict"),
    ] {
        assert_eq!(after(Standing::Unproven, [looked_up(&found)]), then, "{found:?}");
    }
    assert_eq!(after_absent([open(Doubt::NotMentioned, false), looked_up(&[seen("A")])]), "saved posted");
    assert_eq!(after_absent([open(Doubt::Duplicate, false), looked_up(&[seen("A")])]), "saved resumed");
}

#[test]
fn nothing_moves_what_has_failed_or_was_not_asked() {
    let lost = || Event::LeaseLost;
    assert_eq!(after_absent([lost()]), "unavailable");
    let saved = || Event::SaveAnswered(SaveSaid::Yes("1".into()));
    assert_eq!(after_absent([lost(), saved(), looked_up(&[seen("C")])]), "unavailable");
    assert_eq!(after_absent([saved(), saved()]), "internal in flight", "never saved twice");
    assert_eq!(after(Standing::Verify, [saved()]), "internal in flight");
    assert_eq!(after_absent([saved(), Event::Failed(failed(FailureKind::Unclear))]), "transient");
}

/// What is there as a draft with another content, written at second 1000.
fn older(status: &str) -> Seen {
    Seen { written_s: Some(1_000), difference: Some("quantity 3 there, 2 here".into()), ..seen(status) }
}

/// A document under a policy, read long after what is there was written.
fn changed(on_change: OnChange) -> Terms {
    let rules = Rules { finish: Finish::Audit, on_change };
    Terms { standing: Standing::Verify, rules, extracted_ms: Some(2_000_000), cancelled: false }
}

/// A word for where it stands after some events, and what is said of it.
fn told(terms: Terms, events: impl IntoIterator<Item = Event>) -> (String, String) {
    let mut life = Life::new(terms);
    events.into_iter().for_each(|event| life.on(event));
    match life.state().clone() {
        State::Failed(f) => {
            let code = f.code.as_deref().map_or(String::new(), |code| format!(" {code}"));
            (format!("{}{code}{}", f.kind, if f.in_flight { " in flight" } else { "" }), f.text)
        }
        State::Left(there, words) => (format!("left {}", there.how.as_str()), words.unwrap_or_default()),
        State::Outdated(id) => (format!("outdated {id}"), String::new()),
        State::Unknown(_) => ("unknown".to_owned(), String::new()),
        State::NotSent => ("not sent".to_owned(), String::new()),
        State::Saved(there) => (format!("saved {}", there.how.as_str()), String::new()),
        State::Submitted(there) => (format!("submitted {}", there.how.as_str()), String::new()),
        State::Audited(there) => (format!("audited {}", there.how.as_str()), String::new()),
    }
}

#[test]
fn a_document_that_differs_follows_the_policy() {
    use OnChange::{Ignore, Report, UpdateDraft};
    for (on_change, status, then, says) in [
        (Ignore, "A", "left ignored", "quantity 3 there, 2 here"),
        (Ignore, "C", "left ignored", "quantity 3 there, 2 here"),
        (
            Report,
            "A",
            "conflict changed",
            "(id 1, status A) differs: quantity 3 there, 2 here; correct it there",
        ),
        (Report, "C", "conflict changed", "(id 1, status C) differs"),
        (UpdateDraft, "Z", "outdated 1", ""),
        (UpdateDraft, "A", "outdated 1", ""),
        (UpdateDraft, "D", "outdated 1", ""),
        (UpdateDraft, "B", "conflict changed", "not updated, because it is no draft any more"),
        (UpdateDraft, "C", "conflict changed", "not updated, because it is no draft any more"),
        (UpdateDraft, "E", "conflict changed", "not updated, because it is no draft any more"),
    ] {
        let (word, words) = told(changed(on_change), [looked_up(&[older(status)])]);
        assert_eq!(word, then, "{on_change:?} {status}");
        assert!(words.contains(says), "{words}");
    }
    let cancelled_there = Seen { cancelled: true, ..older("A") };
    assert_eq!(told(changed(UpdateDraft), [looked_up(&[cancelled_there])]).0, "conflict");
    assert_eq!(told(changed(UpdateDraft), [looked_up(&[older("A"), older("A")])]).0, "conflict duplicate");
}

#[test]
fn only_what_was_read_after_the_draft_was_written_is_newer() {
    let terms = |extracted_ms| Terms { extracted_ms, ..changed(OnChange::UpdateDraft) };
    for (extracted_ms, written_s, newer) in [
        (Some(1_061_000), Some(1_000), true),
        (Some(1_060_999), Some(1_000), false),
        (Some(999_000), Some(1_000), false),
        (None, Some(1_000), false),
        (Some(9_999_000), None, false),
        (Some(9_999_000), Some(i64::MAX), false),
    ] {
        let there = Seen { written_s, ..older("A") };
        assert_eq!(terms(extracted_ms).is_newer_than(&there), newer, "{extracted_ms:?} {written_s:?}");
        let (word, words) = told(terms(extracted_ms), [looked_up(&[there])]);
        assert_eq!(word, if newer { "outdated 1" } else { "conflict changed" });
        assert!(newer || words.contains("not surely read from the source after"), "{words}");
    }
}

#[test]
fn nothing_is_updated_while_another_write_of_it_may_be_running() {
    let terms = |standing| Terms { standing, ..changed(OnChange::UpdateDraft) };
    let found = || [looked_up(&[older("A")])];
    assert_eq!(told(terms(Standing::Unproven), found()).0, "unclear");
    assert_eq!(told(terms(Standing::Settled), found()).0, "outdated 1");
    let older_still = Terms { extracted_ms: Some(5), ..terms(Standing::Unproven) };
    assert_eq!(told(older_still, found()).0, "conflict changed", "waiting makes it no newer");
}

#[test]
fn an_update_counts_when_a_look_up_shows_it() {
    let yes = || Event::SaveAnswered(SaveSaid::Yes("1".into()));
    let refused = Failure::new(FailureKind::Refused, "不允许修改");
    let state = |instead| {
        Event::SaveAnswered(SaveSaid::Open(Open {
            doubt: Doubt::Unclear,
            words: "words".into(),
            alone: true,
            instead,
        }))
    };
    let other = Seen { id: "2".into(), ..seen("A") };
    for (answer, found, then) in [
        (yes(), vec![seen("A")], "saved updated"),
        (yes(), vec![seen("B")], "submitted updated"),
        (yes(), vec![older("A")], "unclear in flight"),
        (yes(), vec![older("B")], "conflict changed"),
        (yes(), vec![], "transient"),
        (yes(), vec![other], "transient"),
        (yes(), vec![seen("A"), seen("A")], "conflict duplicate"),
        (state(None), vec![seen("A")], "saved updated"),
        (state(None), vec![older("A")], "unclear in flight"),
        (state(Some(refused.clone())), vec![older("C")], "conflict changed"),
        (state(Some(refused.clone())), vec![older("A")], "refused"),
        (open(Doubt::Duplicate, true), vec![older("A")], "conflict MsgCode 11"),
        (open(Doubt::OtherNumber { number: "CG1".into() }, true), vec![], "conflict"),
    ] {
        let begin = || [looked_up(&[older("A")]), answer.clone()];
        assert_eq!(told(changed(OnChange::UpdateDraft), begin()).0, "unknown");
        let events = begin().into_iter().chain([looked_up(&found)]);
        assert_eq!(told(changed(OnChange::UpdateDraft), events).0, then, "{answer:?} {found:?}");
    }
    let silence = || Event::Failed(failed(FailureKind::Unavailable));
    for (answer, then) in [
        (Event::SaveAnswered(SaveSaid::No(refused)), "refused"),
        (Event::Failed(failed(FailureKind::Unclear)), "unclear in flight"),
        (Event::LeaseLost, "unavailable"),
    ] {
        let events = [looked_up(&[older("A")]), answer];
        assert_eq!(told(changed(OnChange::UpdateDraft), events).0, then);
    }
    let events = [looked_up(&[older("A")]), yes(), silence()];
    assert_eq!(told(changed(OnChange::UpdateDraft), events).0, "unclear in flight");
}

#[test]
fn what_this_try_has_saved_itself_is_never_ignored_or_overwritten() {
    for on_change in [OnChange::Ignore, OnChange::UpdateDraft] {
        let saved = |doubt| [looked_up(&[]), open(doubt, false), looked_up(&[older("A")])];
        assert_eq!(told(changed(on_change), saved(Doubt::NotMentioned)).0, "conflict changed");
        // What was there before it follows the policy.
        assert_ne!(told(changed(on_change), saved(Doubt::Duplicate)).0, "conflict changed");
    }
}

#[test]
fn what_was_cancelled_in_the_source_is_looked_up_and_never_written() {
    use OnChange::{Ignore, Report, UpdateDraft};
    let cancelled = |on_change, standing| Terms { cancelled: true, standing, ..changed(on_change) };
    let cancelled_there = Seen { cancelled: true, ..older("A") };
    for (on_change, found, then) in [
        (Report, vec![], "left withdrawn"),
        (Report, vec![seen("C")], "conflict cancelled"),
        (Report, vec![older("A")], "conflict cancelled"),
        (Report, vec![cancelled_there], "left withdrawn"),
        (Report, vec![seen("C"), seen("C")], "conflict duplicate"),
        (UpdateDraft, vec![older("A")], "conflict cancelled"),
        (Ignore, vec![seen("C")], "left ignored"),
        (Ignore, vec![], "left withdrawn"),
    ] {
        for standing in [Standing::Verify, Standing::Settled] {
            let (word, _) = told(cancelled(on_change, standing), [looked_up(&found)]);
            assert_eq!(word, then, "{on_change:?} {found:?}");
        }
    }
    assert_eq!(told(cancelled(Report, Standing::Unproven), [looked_up(&[])]).0, "unclear");
    let (_, words) = told(cancelled(Report, Standing::Unproven), [looked_up(&[seen("C")])]);
    assert!(words.contains("cancelled in the source") && words.contains("(id 1, status C)"), "{words}");
    assert!(words.contains("delete or reverse it there"), "{words}");
}
