use kingpost_model::{RecordKey, StageName, Work, WorkId, decide};
use proptest::prelude::*;

use super::*;

const FULL: Limits = Limits { rows: 20, concurrency: 4 };

fn failing(kind: FailureKind) -> Verdict {
    decide(Failure::new(kind, "x"), 1)
}

fn hanging() -> Verdict {
    decide(Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight(), 1)
}

fn dead(text: &str) -> Verdict {
    decide(Failure::new(FailureKind::BaseData, text), 1)
}

fn item() -> Item {
    let key = RecordKey::new("STK_InStock", "RK1");
    Item { work: Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}"), redelivered: false }
}

/// Judges and ends a batch; returns the verdicts as they are carried out.
fn run(pace: &mut Pace, ticket: &Ticket, mut verdicts: Vec<Verdict>, now: Instant) -> Vec<Verdict> {
    let items: Vec<_> = verdicts.iter().map(|_| item()).collect();
    let lesson = pace.judge(0, &items, &mut verdicts, now);
    pace.end(ticket, &lesson, now);
    verdicts
}

/// A batch that begins at once and uses all that it is allowed, of one verdict.
fn whole(pace: &mut Pace, verdict: &Verdict, now: Instant) -> Vec<Verdict> {
    let ticket = pace.begin(now).expect("a batch may begin");
    let verdicts = vec![verdict.clone(); pace.limits().rows];
    run(pace, &ticket, verdicts, now)
}

fn until(pace: &Pace, now: Instant) -> Option<Instant> {
    match pace.turn(now) {
        Turn::At(at) => Some(at),
        _ => None,
    }
}

#[test]
fn an_outage_leaves_one_probe_and_success_ramps_up() {
    let mut now = Instant::now();
    let mut pace = Pace::new(FULL);
    whole(&mut pace, &failing(FailureKind::Unavailable), now);
    assert_eq!(pace.limits(), Limits { rows: 1, concurrency: 1 });
    assert_eq!(until(&pace, now), Some(now + Duration::from_secs(1)));
    let mut pauses = Vec::new();
    while let Some(at) = until(&pace, now).filter(|_| pauses.len() < 7) {
        pauses.push((at - now).as_secs());
        now = at;
        whole(&mut pace, &failing(FailureKind::Unavailable), now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    now = until(&pace, now).unwrap();
    let probe = pace.begin(now).unwrap();
    assert_eq!((pace.begin(now).is_none(), pace.turn(now)), (true, Turn::AfterProbe), "one probe at a time");
    run(&mut pace, &probe, vec![Verdict::Done], now);
    assert_eq!(pace.reason(), None);
    let steps: Vec<_> = (0..9)
        .map(|_| {
            whole(&mut pace, &Verdict::Done, now);
            (pace.limits().rows, pace.limits().concurrency)
        })
        .collect();
    let ramp = [(2, 1), (4, 1), (8, 1), (16, 1), (20, 1), (20, 2), (20, 3), (20, 4), (20, 4)];
    assert_eq!(steps, ramp);
}

#[test]
fn what_was_begun_before_an_outage_neither_ends_nor_prolongs_it() {
    let now = Instant::now();
    let mut pace = Pace::new(FULL);
    let before: Vec<Ticket> = (0..4).filter_map(|_| pace.begin(now)).collect();
    let [first, second, third, fourth] = before.as_slice() else { panic!("four may begin") };
    run(&mut pace, first, vec![failing(FailureKind::Unavailable)], now);
    run(&mut pace, second, vec![failing(FailureKind::Unavailable)], now);
    run(&mut pace, third, vec![Verdict::Done; 20], now);
    assert_eq!(until(&pace, now), Some(now + Duration::from_secs(1)));
    let limit = Failure::new(FailureKind::Throttled, "ban").retry_after(Duration::from_secs(900));
    run(&mut pace, fourth, vec![decide(limit, 1)], now);
    assert_eq!(until(&pace, now), Some(now + Duration::from_secs(900)), "a limit lasts as long as it says");
}

#[test]
fn a_write_without_an_answer_halves_the_batch_once_and_success_creeps_back() {
    let now = Instant::now();
    let mut pace = Pace::new(FULL);
    let (one, other) = (pace.begin(now).unwrap(), pace.begin(now).unwrap());
    run(&mut pace, &one, vec![hanging()], now);
    run(&mut pace, &other, vec![hanging()], now);
    assert_eq!(pace.limits(), Limits { rows: 10, concurrency: 2 }, "two that ran together are one overload");
    let small = pace.begin(now).unwrap();
    run(&mut pace, &small, vec![Verdict::Done; 9], now);
    assert_eq!(pace.limits().rows, 10, "a batch below the limit says nothing about more");
    whole(&mut pace, &Verdict::Done, now);
    assert_eq!(pace.limits(), Limits { rows: 12, concurrency: 3 });
    for _ in 0..4 {
        whole(&mut pace, &Verdict::Done, now);
    }
    assert_eq!(pace.limits(), FULL);
}

#[test]
fn a_limit_is_left_alone_for_as_long_as_it_asks_and_halves_the_batch() {
    let now = Instant::now();
    let mut pace = Pace::new(FULL);
    let failure = Failure::new(FailureKind::Throttled, "ban").retry_after(Duration::from_secs(900));
    whole(&mut pace, &decide(failure, 1), now);
    let at = until(&pace, now).unwrap();
    assert_eq!(at, now + Duration::from_secs(900));
    let mut rows = Vec::new();
    for _ in 0..6 {
        whole(&mut pace, &Verdict::Done, at);
        rows.push(pace.limits().rows);
    }
    assert_eq!(rows, [1, 2, 4, 8, 10, 12], "fast up to half of what was too much");
}

#[test]
fn a_failure_of_the_document_pauses_nobody() {
    for kind in [FailureKind::Refused, FailureKind::Unclear, FailureKind::Transient, FailureKind::Internal] {
        let mut pace = Pace::new(FULL);
        whole(&mut pace, &failing(kind), Instant::now());
        // All twenty died of one cause, where the kind is a data error.
        let flood = pace.reason().is_some_and(|reason| matches!(reason, Reason::DeadLetters(_)));
        assert_eq!(flood, kind == FailureKind::Refused, "{kind}");
        assert!(pace.limits() == FULL || flood, "{kind}");
    }
}

#[test]
fn nineteen_dead_letters_of_one_cause_pause_nobody_and_twenty_do() {
    let mut now = Instant::now();
    let mut pace = Pace::new(FULL);
    let ticket = pace.begin(now).unwrap();
    run(&mut pace, &ticket, vec![dead("物料[A]不存在"); 19], now);
    assert_eq!(pace.reason(), None);
    let verdicts = whole(&mut pace, &dead("物料[B]不存在"), now);
    let kept = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Dead { .. })).count();
    assert_eq!(kept, 1, "the twentieth dies, what is behind it waits");
    let waits = |verdict: &Verdict| matches!(verdict, Verdict::Retry { counted: false, .. });
    assert!(verdicts.iter().skip(1).all(waits));
    let mut pauses = Vec::new();
    while let Some(at) = until(&pace, now).filter(|_| pauses.len() < 6) {
        pauses.push((at - now).as_secs());
        now = at;
        let probe = whole(&mut pace, &dead("物料[C]不存在"), now);
        assert!(probe.len() == 1 && probe.iter().all(waits), "{probe:?}");
    }
    assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
    now = until(&pace, now).unwrap();
    let otherwise = whole(&mut pace, &dead("供应商[X]已禁用"), now);
    assert!(matches!(otherwise.as_slice(), [Verdict::Dead { .. }]), "another cause is another matter");
    assert_eq!(pace.reason(), None);
}

#[test]
fn a_row_ends_with_any_other_verdict_of_its_queue_and_of_no_other() {
    let now = Instant::now();
    let mut pace = Pace::new(FULL);
    let judge = |pace: &mut Pace, queue: usize, verdict: Verdict| {
        pace.judge(queue, &[item()], &mut [verdict], now);
        pace.reason().is_some()
    };
    assert!((0..19).all(|_| !judge(&mut pace, 0, dead("x"))));
    assert!(!judge(&mut pace, 0, Verdict::Done));
    assert!((0..19).all(|_| !judge(&mut pace, 0, dead("x"))));
    assert!(!judge(&mut pace, 0, dead("y")));
    assert!((0..19).all(|_| !judge(&mut pace, 0, dead("x"))));
    assert!(!judge(&mut pace, 1, Verdict::Done));
    assert!(judge(&mut pace, 0, dead("x")), "another queue's success says nothing about this one");
}

#[test]
fn replayed_documents_die_as_they_did_and_their_success_ends_the_pause() {
    let mut now = Instant::now();
    let mut pace = Pace::new(FULL);
    let mut replayed = item();
    replayed.work.reply_to = Some("replay.1".into());
    for _ in 0..100 {
        let mut verdicts = [dead("x")];
        pace.judge(0, std::slice::from_ref(&replayed), &mut verdicts, now);
        assert!(matches!(verdicts, [Verdict::Dead { .. }]));
    }
    assert_eq!(pace.reason(), None, "a replay has brakes of its own");
    whole(&mut pace, &dead("x"), now);
    assert!(pace.reason().is_some());
    let probe = |pace: &mut Pace, verdict: Verdict, now| {
        let ticket = pace.begin(now).unwrap();
        let mut verdicts = [verdict];
        let lesson = pace.judge(0, std::slice::from_ref(&replayed), &mut verdicts, now);
        pace.end(&ticket, &lesson, now);
        verdicts
    };
    now = until(&pace, now).unwrap();
    assert!(matches!(probe(&mut pace, dead("x"), now), [Verdict::Dead { .. }]), "it gets its verdict");
    assert_eq!(until(&pace, now), Some(now + Duration::from_secs(60)), "and the pause goes on");
    now = until(&pace, now).unwrap();
    let _ = probe(&mut pace, Verdict::Done, now);
    assert_eq!(pace.reason(), None);
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Begin,
    Wait(u16),
    Drop(usize),
    End(usize, u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => Just(Deed::Begin),
        1 => (0_u16..400).prop_map(Deed::Wait),
        1 => (0_usize..9).prop_map(Deed::Drop),
        4 => ((0_usize..9), (0_u8..9)).prop_map(|(which, how)| Deed::End(which, how)),
    ]
}

fn ending(how: u8, rows: usize) -> Vec<Verdict> {
    let verdict = match how {
        0 => failing(FailureKind::Unavailable),
        1 => failing(FailureKind::Configuration),
        2 => failing(FailureKind::Throttled),
        3 => hanging(),
        4 => dead("one"),
        5 => dead("other"),
        _ => Verdict::Done,
    };
    vec![verdict; rows]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn whatever_happens_limits_hold_one_probe_runs_and_success_leads_back_to_full(
        rows in 1_usize..51,
        concurrency in 1_usize..11,
        deeds in proptest::collection::vec(deed(), 0..120),
    ) {
        let full = Limits { rows, concurrency };
        let mut pace = Pace::new(full);
        let mut now = Instant::now();
        let mut running: Vec<Ticket> = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Begin if running.len() < 9 => running.extend(pace.begin(now)),
                Deed::Begin => {}
                Deed::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                Deed::Drop(which) if which < running.len() => pace.release(&running.swap_remove(which)),
                Deed::End(which, how) if which < running.len() => {
                    let ticket = running.swap_remove(which);
                    let verdicts = ending(how, ticket.rows);
                    run(&mut pace, &ticket, verdicts, now);
                }
                Deed::Drop(_) | Deed::End(..) => {}
            }
            let limits = pace.limits();
            prop_assert!((1..=rows).contains(&limits.rows) && (1..=concurrency).contains(&limits.concurrency));
            if pace.reason().is_some() {
                prop_assert_eq!(limits, Limits { rows: 1, concurrency: 1 });
                let probes = running.iter().filter(|ticket| ticket.generation == pace.generation).count();
                prop_assert!(probes <= 1, "{} probes at once", probes);
                prop_assert_eq!(probes == 1, pace.turn(now) == Turn::AfterProbe);
            }
        }
        for ticket in running {
            pace.release(&ticket);
        }
        for _ in 0..100 {
            if let Some(at) = until(&pace, now) {
                now = at;
            }
            whole(&mut pace, &Verdict::Done, now);
        }
        prop_assert_eq!((pace.limits(), pace.reason()), (full, None));
    }

    #[test]
    fn of_a_flood_twenty_die_and_nothing_else_of_it(
        batches in proptest::collection::vec((1_usize..30, 0_u16..400), 1..40),
    ) {
        let mut pace = Pace::new(FULL);
        let mut now = Instant::now();
        let (mut died, mut judged) = (0, 0);
        for (size, seconds) in batches {
            now += Duration::from_secs(seconds.into());
            // Several batches run at once, so one more than may begin is judged now and then.
            let ticket = pace.begin(now).unwrap_or(Ticket { generation: 0, rows: size });
            let verdicts = run(&mut pace, &ticket, vec![dead("x"); size], now);
            judged += size;
            died += verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Dead { .. })).count();
        }
        prop_assert_eq!(died, judged.min(20));
    }
}
