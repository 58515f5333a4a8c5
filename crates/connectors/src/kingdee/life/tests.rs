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
