use super::*;

const START: i64 = 1_767_196_800;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const NOW: i64 = START + 100 * DAY;
const CUTTING: Cutting = Cutting { width_s: HOUR, overlap_s: 60, start_s: START, lag_s: 300 };
const REMEDY: Remedy = Remedy { every_s: DAY, from_s: 2 * DAY, to_s: DAY };

fn instruction(id: &str, act: Act) -> Instruction {
    Instruction {
        id: id.to_owned(),
        by: "test".to_owned(),
        at_s: Some(NOW),
        reason: "a test".to_owned(),
        act,
    }
}

/// Carries out an instruction and gives the refusal.
fn told(agenda: &mut Agenda, act: Act) -> Option<String> {
    let id = format!("i{}", agenda.answers.len());
    assert!(carry_out(agenda, &instruction(&id, act.clone()), NOW, CUTTING));
    assert!(!carry_out(agenda, &instruction(&id, act), NOW, CUTTING), "carried out twice");
    agenda.answer(&id).unwrap().refused.clone()
}

#[test]
fn a_first_start_leaves_all_but_a_day_to_history() {
    let agenda = first("s", NOW, CUTTING);
    assert_eq!(agenda.cursor_s, NOW - 300 - DAY);
    let history = &agenda.periods[0];
    assert_eq!((history.kind, history.from_s, history.to_s), (PeriodKind::History, START, NOW - 300 - DAY));
    assert_eq!(history.id, "history-20260409");
    let young = first("s", START + HOUR, CUTTING);
    assert_eq!((young.cursor_s, young.periods.len()), (START, 0));
    let future = first("s", START - DAY, CUTTING);
    assert_eq!((future.cursor_s, future.periods.len()), (START, 0));
}

#[test]
fn a_start_that_is_set_back_leaves_a_period_to_be_read() {
    let mut agenda = first("s", START + HOUR, CUTTING);
    let earlier = Cutting { start_s: START - 3 * DAY, ..CUTTING };
    begin(&mut agenda, earlier);
    assert_eq!((agenda.periods[0].from_s, agenda.periods[0].to_s), (START - 3 * DAY, START));
    begin(&mut agenda, earlier);
    begin(&mut agenda, CUTTING);
    assert_eq!(agenda.periods.len(), 1);
    // A cursor of an older release doesn't know where it began.
    let mut old = Agenda::new("s", START);
    begin(&mut old, earlier);
    assert_eq!((old.periods.len(), old.start_s), (0, Some(START - 3 * DAY)));
}

#[test]
fn second_looks_meet_each_other_whatever_happened_meanwhile() {
    let mut agenda = Agenda::new("s", NOW - 300);
    assert!(remedy(&mut agenda, NOW, CUTTING, REMEDY));
    assert!(!remedy(&mut agenda, NOW + DAY - 1, CUTTING, REMEDY));
    let first = agenda.periods[0].clone();
    assert_eq!((first.from_s, first.to_s), (NOW - 2 * DAY, NOW - DAY));
    // The next one is due after a standstill of ten days, but the live windows are still behind.
    let later = NOW + 11 * DAY;
    agenda.cursor_s = NOW + 3 * DAY;
    agenda.periods[0].next_s = first.to_s;
    assert!(remedy(&mut agenda, later, CUTTING, REMEDY));
    let second = agenda.periods[1].clone();
    assert_eq!((second.from_s, second.to_s), (first.to_s, NOW + 3 * DAY));
    // One that has not been read meanwhile grows.
    agenda.cursor_s = later;
    assert!(remedy(&mut agenda, later, CUTTING, REMEDY));
    assert_eq!((agenda.periods.len(), agenda.periods[1].to_s), (2, later - DAY));
    // A mark that a wrong clock made counts for nothing.
    agenda.remedied_s = Some(later + 300 * DAY);
    assert!(remedy(&mut agenda, later, CUTTING, REMEDY));
}

#[test]
fn a_second_look_never_reaches_before_the_start() {
    let mut agenda = Agenda::new("s", START + HOUR);
    assert!(!remedy(&mut agenda, START + 2 * HOUR, CUTTING, REMEDY));
    assert!(agenda.remedied_s.is_none() && agenda.periods.is_empty());
    agenda.cursor_s = START + DAY + HOUR;
    assert!(remedy(&mut agenda, START + DAY + HOUR, CUTTING, REMEDY));
    assert_eq!((agenda.periods[0].from_s, agenda.periods[0].to_s), (START, START + HOUR));
}

#[test]
fn a_period_that_can_t_be_read_is_refused_with_its_reason() {
    let mut agenda = Agenda::new("s", NOW - 300);
    let backfill = |from_s, to_s| Act::Backfill { from_s, to_s, per_minute: None };
    for (act, said) in [
        (backfill(START + 5, START + 5), "ends"),
        (backfill(START - 1, START + 5), "`start`"),
        (backfill(START, NOW + 61), "`lag`"),
        (Act::Pause { period: "x".to_owned() }, "no period x"),
        (Act::Move { to_s: START - 1, from_s: None, skip: true }, "between"),
        (Act::Move { to_s: NOW, from_s: None, skip: true }, "between"),
    ] {
        let refused = told(&mut agenda, act.clone()).unwrap();
        assert!(refused.contains(said), "{act:?}: {refused}");
    }
    assert_eq!(told(&mut agenda, backfill(START, START + DAY)), None);
    assert!(told(&mut agenda, backfill(START, START + DAY)).unwrap().contains("being read already"));
    assert_eq!(agenda.periods.len(), 1);
    assert_eq!((agenda.periods[0].by.as_str(), agenda.periods[0].reason.as_str()), ("test", "a test"));
}

#[test]
fn a_cursor_moves_back_at_will_and_forward_only_when_that_is_meant() {
    let at_s = NOW - 10 * DAY;
    let mut agenda = Agenda::new("s", at_s);
    let to = |to_s, skip| Act::Move { to_s, from_s: None, skip };
    assert!(told(&mut agenda, to(at_s + DAY, false)).unwrap().contains("nothing would be read"));
    assert_eq!(agenda.cursor_s, at_s);
    assert_eq!(told(&mut agenda, to(at_s - DAY, false)), None);
    assert_eq!((agenda.cursor_s, agenda.reached_s()), (at_s - DAY, at_s), "what was read is known");
    assert_eq!(told(&mut agenda, to(at_s + DAY, true)), None);
    assert_eq!((agenda.cursor_s, agenda.reached_s), (at_s + DAY, None));
}

#[test]
fn kinds_take_turns_and_a_pause_holds() {
    let mut agenda = first("s", NOW, CUTTING);
    told(&mut agenda, Act::Backfill { from_s: START, to_s: START + 20 * HOUR, per_minute: None });
    remedy(&mut agenda, NOW, CUTTING, REMEDY);
    let (mut paces, now) = (Paces::default(), Instant::now());
    let mut kinds = Vec::new();
    for _ in 0..9 {
        let cut = next(&agenda, CUTTING, 2, &paces, now).unwrap();
        kinds.push(cut.period.kind);
        paces.cut(&cut.period, cut.windows.len(), now);
        agenda = cut.agenda;
    }
    let turn = [PeriodKind::Remedy, PeriodKind::Backfill, PeriodKind::History];
    assert!(kinds.iter().filter(|kind| **kind == turn[2]).count() >= 2, "{kinds:?}");
    for kind in turn {
        assert!(kinds[..4].contains(&kind), "{kinds:?}");
    }
    for id in agenda.periods.iter().map(|period| period.id.clone()).collect::<Vec<_>>() {
        assert_eq!(told(&mut agenda, Act::Pause { period: id }), None);
    }
    assert_eq!(next(&agenda, CUTTING, 50, &paces, now), None);
}

#[test]
fn nothing_before_a_start_that_moves_on_is_read_and_what_lies_between_comes_back_with_it() {
    let mut agenda = first("s", NOW, CUTTING);
    told(&mut agenda, Act::Backfill { from_s: START, to_s: START + 20 * HOUR, per_minute: None });
    let later = Cutting { start_s: START + 50 * DAY, ..CUTTING };
    begin(&mut agenda, later);
    let mut windows = Vec::new();
    while let Some(cut) = next(&agenda, later, 50, &Paces::default(), Instant::now()) {
        windows.extend(cut.windows);
        agenda = cut.agenda;
    }
    assert!(windows.iter().all(|window| window.from_s >= START + 50 * DAY), "{windows:?}");
    assert_eq!(windows.len(), 49 * 24);
    begin(&mut agenda, CUTTING);
    let open: Vec<_> = agenda.periods.iter().filter(|p| !p.is_over()).map(|p| (p.next_s, p.to_s)).collect();
    assert_eq!(open, [(START, START + 50 * DAY)]);
}

#[test]
fn a_second_look_that_does_not_come_to_its_end_loses_nothing_of_the_next() {
    let often = Remedy { every_s: HOUR, from_s: 2 * DAY, to_s: HOUR };
    let mut agenda = Agenda::new("s", NOW);
    assert!(remedy(&mut agenda, NOW, CUTTING, often));
    // It is cut to its half when the next one is due: what lies before it is read once more as well.
    agenda.periods[0].next_s = NOW - DAY;
    agenda.cursor_s = NOW + HOUR;
    assert!(remedy(&mut agenda, NOW + HOUR, CUTTING, often));
    let looked: Vec<_> = agenda.periods.iter().map(|p| (p.next_s, p.to_s)).collect();
    assert_eq!(looked, [(NOW - DAY, NOW - HOUR), (NOW + HOUR - 2 * DAY, NOW)]);
    // A paused one neither grows nor keeps others from being made, and there are never too many.
    agenda.periods[0].paused = true;
    for hours in 2..40 {
        agenda.cursor_s = NOW + hours * HOUR;
        remedy(&mut agenda, NOW + hours * HOUR, CUTTING, often);
    }
    assert!(agenda.periods.len() <= LOOKS_MAX, "{}", agenda.periods.len());
    assert_eq!(agenda.periods[0].to_s, NOW - HOUR);
    // Once there is room again it reaches back to where the last one ended.
    let last_s = agenda.remedied_s.unwrap();
    agenda.periods.iter_mut().for_each(|period| period.next_s = period.to_s);
    agenda.cursor_s = NOW + 90 * HOUR;
    assert!(remedy(&mut agenda, NOW + 90 * HOUR, CUTTING, often));
    assert!(agenda.periods.last().is_some_and(|p| p.from_s <= last_s));
}

#[test]
fn what_a_person_has_left_out_stays_left_out_until_it_is_asked_for() {
    let mut agenda = Agenda::new("s", NOW - 3 * DAY);
    let to = |to_s, skip| Act::Move { to_s, from_s: None, skip };
    assert_eq!(told(&mut agenda, to(NOW - DAY, true)), None);
    assert!(remedy(&mut agenda, NOW + 5 * DAY, CUTTING, Remedy { every_s: DAY, from_s: 20 * DAY, to_s: 0 }));
    distrust(&mut agenda, NOW, CUTTING);
    let looked: Vec<_> = agenda.periods.iter().map(|p| (p.from_s, p.to_s)).collect();
    assert_eq!(looked, [(NOW - 15 * DAY, NOW - 3 * DAY)]);
    assert_eq!(told(&mut agenda, to(NOW - 2 * DAY, false)), None);
    assert_eq!(agenda.skipped, [Stretch { from_s: NOW - 3 * DAY, to_s: NOW - 2 * DAY }]);
}

#[test]
fn what_was_shown_and_what_is_done_are_the_same() {
    let mut agenda = Agenda::new("s", NOW - 10 * DAY);
    let shown = Act::Move { to_s: NOW - DAY, from_s: Some(NOW - 2 * DAY), skip: true };
    assert!(told(&mut agenda, shown).unwrap().contains("by now"));
    let old = Instruction {
        at_s: Some(NOW - 2 * HOUR),
        ..instruction("old", Act::Move { to_s: START, from_s: None, skip: false })
    };
    assert!(carry_out(&mut agenda, &old, NOW, CUTTING));
    assert!(agenda.answer("old").unwrap().refused.as_deref().unwrap().contains("an hour ago"));
    let mut agenda = first("s", NOW, CUTTING);
    let id = agenda.periods[0].id.clone();
    let cancel = |skip| Act::Cancel { period: id.clone(), skip };
    assert!(told(&mut agenda, cancel(false)).unwrap().contains("nothing was ever read"));
    assert_eq!(told(&mut agenda, cancel(true)), None);
    for _ in 0..30 {
        agenda.periods.push(Period { cancelled: true, ..period("x".to_owned(), PeriodKind::Remedy, (0, 1)) });
    }
    agenda.tidy();
    assert!(agenda.periods.iter().any(|period| period.id == id), "what nobody has read is forgotten");
}

#[test]
fn windows_of_a_period_meet_and_end_with_it() {
    let mut agenda = Agenda::new("s", NOW);
    let to_s = START + 2 * HOUR + 5;
    told(&mut agenda, Act::Backfill { from_s: START, to_s, per_minute: None });
    assert_eq!(windows_left(&agenda, CUTTING), 3);
    let cut = next(&agenda, CUTTING, 50, &Paces::default(), Instant::now()).unwrap();
    let expected = [START, START + HOUR, START + 2 * HOUR].map(|at| Window::new(at, (at + HOUR).min(to_s)));
    assert_eq!(cut.windows, expected);
    assert!(cut.period.is_over() && windows_left(&cut.agenda, CUTTING) == 0);
}

#[test]
fn a_clock_that_went_back_has_what_it_read_read_again() {
    let mut agenda = Agenda::new("s", NOW - 300);
    distrust(&mut agenda, NOW, CUTTING);
    let period = &agenda.periods[0];
    assert_eq!((period.kind, period.from_s, period.to_s), (PeriodKind::Remedy, NOW - 2 * DAY, NOW - 300));
}
