use super::*;

const START: i64 = 1_767_196_800;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const NOW: i64 = START + 100 * DAY;
const CUTTING: Cutting = Cutting { width_s: HOUR, overlap_s: 60, start_s: START, lag_s: 300 };
const REMEDY: Remedy = Remedy { every_s: DAY, from_s: 2 * DAY, to_s: DAY };

fn instruction(id: &str, act: Act) -> Instruction {
    Instruction { id: id.to_owned(), by: "test".to_owned(), reason: "a test".to_owned(), act }
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
        (backfill(START, NOW), "`lag`"),
        (Act::Pause { period: "x".to_owned() }, "no period x"),
        (Act::Move { to_s: START - 1, skip: true }, "between"),
        (Act::Move { to_s: NOW, skip: true }, "between"),
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
    let to = |to_s, skip| Act::Move { to_s, skip };
    assert!(told(&mut agenda, to(at_s + DAY, false)).unwrap().contains("nothing would be read"));
    assert_eq!(agenda.cursor_s, at_s);
    assert_eq!(told(&mut agenda, to(at_s - DAY, false)), None);
    assert_eq!((agenda.cursor_s, agenda.reached_s()), (at_s - DAY, at_s), "what was read is known");
    assert_eq!(told(&mut agenda, to(at_s + DAY, true)), None);
    assert_eq!((agenda.cursor_s, agenda.reached_s), (at_s + DAY, None));
}

#[test]
fn precedence_is_second_looks_then_people_then_history_and_a_pause_holds() {
    let mut agenda = first("s", NOW, CUTTING);
    told(&mut agenda, Act::Backfill { from_s: START, to_s: START + 2 * HOUR, per_minute: None });
    remedy(&mut agenda, NOW, CUTTING, REMEDY);
    let (paces, now) = (Paces::default(), Instant::now());
    let mut kinds = Vec::new();
    while let Some(cut) = next(&agenda, CUTTING, 50, &paces, now) {
        kinds.push(cut.period.kind);
        agenda = cut.agenda;
        if cut.period.kind == PeriodKind::History {
            break;
        }
    }
    kinds.dedup();
    assert_eq!(kinds, [PeriodKind::Remedy, PeriodKind::Backfill, PeriodKind::History]);
    let id = agenda.periods[0].id.clone();
    assert_eq!(told(&mut agenda, Act::Pause { period: id }), None);
    assert_eq!(next(&agenda, CUTTING, 50, &paces, now), None);
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
