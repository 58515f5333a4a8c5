use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use kingpost_broker::QueueDepth;
use kingpost_model::{Act, Period, PeriodKind};

use super::*;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// The broker as leaders see it, and what they have done.
#[derive(Default)]
struct World {
    asked: Vec<Instant>,
    windows: Vec<(Window, Origin, bool)>,
    cuts: Vec<usize>,
    cursor: Option<Bytes>,
    instructions: VecDeque<Bytes>,
    in_hand: Option<Bytes>,
    results: VecDeque<Bytes>,
    result_in_hand: Option<Bytes>,
    /// What the metrics show, and how often that was taken away.
    reconciled: Option<Comparisons>,
    taken_away: usize,
    ready: u32,
    behind: u32,
    consumers: u32,
    rounds: usize,
    lag: i64,
    backlog: u64,
    /// Steps that leaders have made, and the one at which the present one dies.
    steps: usize,
    dies_at: Option<usize>,
    dead: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn at(cursor: &[u8]) -> Self {
        let fake = Fake::default();
        fake.world().cursor = Some(Bytes::copy_from_slice(cursor));
        fake
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn instruct(&self, id: &str, act: Act) {
        let instruction =
            Instruction { id: id.to_owned(), by: "test".to_owned(), at_s: None, reason: String::new(), act };
        self.world().instructions.push_back(serde_json::to_vec(&instruction).unwrap().into());
    }

    fn agenda(&self) -> Agenda {
        Agenda::read("s", self.world().cursor.as_deref().unwrap()).unwrap()
    }

    /// One step of a leader, at which it may die; the broker takes back what it had in hand.
    fn step(&self) -> Result<MutexGuard<'_, World>, String> {
        let mut world = self.world();
        world.steps += 1;
        if world.dies_at.is_some_and(|at| world.steps >= at) {
            world.dies_at = None;
            world.dead = true;
            if let Some(instruction) = world.in_hand.take() {
                world.instructions.push_front(instruction);
            }
            // The queue holds the newest alone.
            let result = world.result_in_hand.take().filter(|_| world.results.is_empty());
            world.results.extend(result);
            return Err("the connection is gone".to_owned());
        }
        Ok(world)
    }
}

impl Election for Fake {
    type Lead = Fake;

    async fn ask(&self, _: &str) -> Result<Option<Fake>, String> {
        let mut world = self.world();
        world.asked.push(Instant::now());
        world.dead = false;
        Ok(Some(self.clone()))
    }
}

impl Lead for Fake {
    fn is_held(&self) -> bool {
        let mut world = self.world();
        world.rounds += 1;
        !world.dead
    }

    async fn cursor(&mut self) -> Result<Option<Bytes>, String> {
        Ok(self.step()?.cursor.clone())
    }

    async fn depth(&self, queue: &str) -> Result<Option<QueueDepth>, String> {
        let world = self.step()?;
        let ready = if queue == "extract.s" { world.ready } else { world.behind };
        Ok(Some(QueueDepth { ready, consumers: world.consumers }))
    }

    async fn instruction(&mut self) -> Result<Option<Bytes>, String> {
        let mut world = self.step()?;
        world.in_hand = world.instructions.pop_front();
        Ok(world.in_hand.clone())
    }

    async fn instructed(&mut self) -> Result<(), String> {
        self.step()?.in_hand = None;
        Ok(())
    }

    async fn result(&mut self) -> Result<Option<Bytes>, String> {
        let mut world = self.step()?;
        world.result_in_hand = world.results.pop_front();
        Ok(world.result_in_hand.clone())
    }

    async fn noted(&mut self) -> Result<(), String> {
        self.step()?.result_in_hand = None;
        Ok(())
    }

    /// It may die before each window, before the cursor, and before it hears that the cursor was taken.
    async fn advance(&mut self, windows: Vec<Work>, cursor: Bytes) -> Result<(), String> {
        let count = windows.len();
        for work in windows {
            let window = serde_json::from_slice(&work.body).unwrap();
            self.step()?.windows.push((window, work.origin, work.verify));
        }
        {
            let mut world = self.step()?;
            world.cursor = Some(cursor);
            if count > 0 {
                world.cuts.push(count);
            }
        }
        self.step().map(|_| ())
    }

    async fn resign(self) {}
}

impl CursorObserver for Fake {
    fn lag(&self, seconds: i64) {
        self.world().lag = seconds;
    }

    fn backlog(&self, windows: u64) {
        self.world().backlog = windows;
    }

    fn reconciled(&self, comparisons: &Comparisons) {
        self.world().reconciled = Some(comparisons.clone());
    }

    fn resigned(&self) {
        let mut world = self.world();
        (world.reconciled, world.lag, world.backlog) = (None, 0, 0);
        world.taken_away += 1;
    }
}

fn schedule(start_s: i64) -> Schedule {
    let cutting = Cutting { width_s: HOUR, overlap_s: 60, start_s, lag_s: 300 };
    let every = Duration::from_secs(60);
    Schedule { scheme: "s".to_owned(), cutting, every, remedy: None, shards: 2 }
}

/// Runs for so many seconds of paused time; leaders that die are followed by others.
async fn runs(fake: &Fake, schedule: &Schedule, seconds: u64) {
    let stop = CancellationToken::new();
    let running = run(fake, schedule, fake, &stop);
    assert!(tokio::time::timeout(Duration::from_secs(seconds), running).await.is_err());
}

/// What is missing between two seconds in what was cut.
fn gaps(windows: &[(Window, Origin, bool)], from_s: i64, to_s: i64) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = windows.iter().map(|(w, ..)| (w.from_s, w.to_s)).collect();
    ranges.sort_unstable();
    let (mut at_s, mut gaps) = (from_s, Vec::new());
    for (from, to) in ranges {
        if from > at_s {
            gaps.push((at_s, from.min(to_s)));
        }
        at_s = at_s.max(to);
    }
    if at_s < to_s {
        gaps.push((at_s, to_s));
    }
    gaps.into_iter().filter(|(from, to)| from < to).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_cursor_stands_still_and_is_tried_again_at_leisure() {
    let fake = Fake::at(b"not a cursor");
    let schedule = schedule(0);
    assert!(
        matches!(lead(&mut fake.clone(), &schedule, &fake).await, End::Unreadable(text) if text.contains("cursor set"))
    );
    runs(&fake, &schedule, 600).await;
    let world = fake.world();
    assert!((15..=25).contains(&world.asked.len()), "{}", world.asked.len());
    assert!(world.windows.is_empty());
    assert_eq!(world.cursor.as_deref(), Some(b"not a cursor".as_slice()));
    assert!(world.lag > 1_000_000, "an alert on the lag must see it: {}", world.lag);
}

#[tokio::test(start_paused = true)]
async fn a_person_sets_a_cursor_anew_that_can_not_be_read_whenever_its_leader_dies() {
    let to_s = now_s() - 300 - 2 * HOUR;
    for dies_at in 1..15 {
        let fake = Fake::at(b"not a cursor");
        // Somebody asked before it was so, and was shown where the cursor stood.
        fake.instruct("pause", Act::Pause { period: "b".to_owned() });
        fake.instruct("before", Act::Move { to_s, from_s: Some(to_s), skip: true });
        fake.instruct("anew", Act::Move { to_s, from_s: None, skip: false });
        fake.world().dies_at = Some(dies_at);
        runs(&fake, &schedule(to_s - 30 * DAY), 60).await;
        let agenda = fake.agenda();
        assert_eq!(agenda.answers, [Answer { id: "anew".to_owned(), refused: None }], "dies at {dies_at}");
        let world = fake.world();
        assert!(world.instructions.is_empty() && world.in_hand.is_none(), "dies at {dies_at}");
        assert_eq!(gaps(&world.windows, to_s, now_s() - 301), [], "dies at {dies_at}");
        let first = world.windows[0].0;
        assert!(first.from_s <= to_s && first.fresh_from_s > to_s, "{first:?}");
        assert!(world.lag < 2 * HOUR, "{}", world.lag);
    }
}

#[tokio::test(start_paused = true)]
async fn windows_behind_a_new_leaders_cursor_are_verified_because_the_last_one_may_have_cut_them() {
    let before = now_s() - 300 - 120 * HOUR;
    let fake = Fake::at(&Agenda::new("s", before).write());
    runs(&fake, &schedule(before), 30).await;
    let world = fake.world();
    assert_eq!(world.cuts, [50, 50, 20]);
    assert!(world.windows[..50].iter().all(|(_, _, verify)| *verify));
    assert!(world.windows[50..].iter().all(|(_, origin, verify)| !*verify && *origin == Origin::Live));
}

#[tokio::test(start_paused = true)]
async fn a_year_of_history_waits_its_turn_behind_the_last_day() {
    let start_s = now_s() - 365 * DAY;
    let fake = Fake::default();
    fake.world().consumers = 3;
    runs(&fake, &schedule(start_s), 20).await;
    let windows = fake.world().windows.clone();
    let live = windows.iter().take_while(|(_, origin, _)| *origin == Origin::Live).count();
    assert_eq!(live, 24, "the last day comes first and whole");
    let history = &windows[live..];
    assert!(history.iter().all(|(_, origin, _)| *origin == Origin::Backfill));
    assert!((30..=63).contains(&history.len()), "{} in 20 s by three extractors", history.len());
    assert!(fake.world().backlog > 8_000);
    // While a live window waits, or the stages behind have enough, history stands still.
    for (ready, behind) in [(1, 0), (0, BEHIND_MAX / 2)] {
        (fake.world().ready, fake.world().behind) = (ready, behind);
        let before = fake.world().windows.len();
        runs(&fake, &schedule(start_s), 30).await;
        let cut = fake.world().windows[before..].iter().filter(|(_, o, _)| *o != Origin::Live).count();
        assert_eq!(cut, 0, "{ready} {behind}");
    }
    (fake.world().ready, fake.world().behind) = (0, 0);
    runs(&fake, &schedule(start_s), 4 * 3_600).await;
    let world = fake.world();
    assert_eq!(gaps(&world.windows, start_s, now_s() - 300), []);
    assert_eq!(world.backlog, 0);
}

#[tokio::test(start_paused = true)]
async fn no_windows_are_added_to_a_queue_that_holds_enough() {
    let fake = Fake::default();
    fake.world().ready = WAITING_MAX;
    runs(&fake, &schedule(now_s() - DAY), 600).await;
    let world = fake.world();
    assert!(world.windows.is_empty() && world.cursor.is_none());
    assert!((100..=700).contains(&world.rounds), "{}", world.rounds);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_far_ahead_of_the_clock_cuts_nothing_until_a_person_moves_it() {
    let ahead_s = now_s() + 30 * DAY;
    let fake = Fake::at(&Agenda::new("s", ahead_s).write());
    let start_s = now_s() - 10 * DAY;
    runs(&fake, &schedule(start_s), 600).await;
    assert!(fake.world().windows.is_empty());
    let to_s = now_s() - DAY;
    fake.instruct("1", Act::Move { to_s, from_s: None, skip: false });
    runs(&fake, &schedule(start_s), 600).await;
    assert_eq!(gaps(&fake.world().windows, to_s, now_s() - 300), []);
    assert_eq!(fake.agenda().answer("1").unwrap().refused, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_went_back_has_the_last_days_read_again() {
    let now_s = now_s();
    let fake = Fake::at(&Agenda::new("s", now_s + HOUR).write());
    runs(&fake, &schedule(now_s - 10 * DAY), 120).await;
    let windows = fake.world().windows.clone();
    assert_eq!(windows.first().map(|(w, o, _)| (w.to_s - w.from_s, *o)), Some((HOUR + 60, Origin::Live)));
    let again: Vec<_> = windows.into_iter().filter(|(_, origin, _)| *origin == Origin::Remedy).collect();
    assert_eq!(gaps(&again, now_s - 2 * DAY + 9, now_s - 301), []);
}

#[tokio::test(start_paused = true)]
async fn an_instruction_of_a_newer_release_is_answered() {
    let fake = Fake::at(&Agenda::new("s", now_s() - 300).write());
    let newer = r#"{"id":"n","by":"test","do":"dance","to":"the moon"}"#;
    fake.world().instructions.push_back(newer.into());
    fake.world().instructions.push_back("no instruction at all".into());
    runs(&fake, &schedule(now_s() - DAY), 5).await;
    assert!(fake.world().instructions.is_empty());
    assert!(fake.agenda().answer("n").unwrap().refused.as_deref().unwrap().contains("doesn't know"));
}

#[tokio::test(start_paused = true)]
async fn a_backfill_keeps_to_its_rate_pauses_goes_on_and_ends() {
    let start_s = now_s() - 20 * DAY;
    let fake = Fake::at(&Agenda::new("s", now_s() - 300).write());
    let (from_s, to_s) = (start_s, start_s + 2 * DAY);
    fake.instruct("b", Act::Backfill { from_s, to_s, per_minute: Some(6) });
    runs(&fake, &schedule(start_s), 120).await;
    let cut = |fake: &Fake| fake.world().windows.iter().filter(|(_, o, _)| *o == Origin::Backfill).count();
    assert!((10..=13).contains(&cut(&fake)), "{} in two minutes at 6 a minute", cut(&fake));
    fake.instruct("p", Act::Pause { period: "b".to_owned() });
    runs(&fake, &schedule(start_s), 2).await;
    let paused = cut(&fake);
    runs(&fake, &schedule(start_s), 300).await;
    assert_eq!(cut(&fake), paused);
    fake.instruct("r", Act::Resume { period: "b".to_owned() });
    fake.instruct("f", Act::Rate { period: "b".to_owned(), per_minute: None });
    runs(&fake, &schedule(start_s), 120).await;
    assert_eq!(cut(&fake), 48);
    assert_eq!(gaps(&fake.world().windows, from_s, to_s), []);
    let agenda = fake.agenda();
    assert!(agenda.periods[0].is_over());
    fake.instruct("late", Act::Pause { period: "b".to_owned() });
    runs(&fake, &schedule(start_s), 2).await;
    assert!(fake.agenda().answer("late").unwrap().refused.as_deref().unwrap().contains("is over"));
}

fn reconciled(matched: u64) -> Reconciled {
    let documents = [("matched".to_owned(), matched)].into();
    Reconciled { scheme: "s".to_owned(), from_s: 0, to_s: DAY, finished_s: 2 * DAY, agrees: true, documents }
}

fn only(last: Reconciled) -> Comparisons {
    Comparisons { last: Some(last), open: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_day_that_agrees_does_not_end_what_a_month_is_missing() {
    let before = now_s() - 300;
    let fake = Fake::at(&Agenda::new("s", before).write());
    let missing = BTreeMap::from([("missing".to_owned(), 3)]);
    let noon = Reconciled { from_s: -30 * DAY, agrees: false, documents: missing.clone(), ..reconciled(0) };
    fake.world().results.extend([&noon, &reconciled(8)].map(|result| Bytes::from(result.write())));
    runs(&fake, &schedule(before), 30).await;
    let open = Comparisons { last: Some(reconciled(8)), open: vec![noon.clone()] };
    assert_eq!(fake.world().reconciled, Some(open));
    assert_eq!(fake.agenda().reconciled.documents()["missing"], 3);
    let mended = Reconciled { agrees: true, documents: BTreeMap::new(), ..noon };
    fake.world().results.push_back(mended.write().into());
    runs(&fake, &schedule(before), 30).await;
    assert_eq!(fake.agenda().reconciled, only(mended));
}

#[tokio::test(start_paused = true)]
async fn the_last_comparison_is_kept_with_the_cursor_and_shown_by_whoever_leads() {
    let before = now_s() - 300;
    let fake = Fake::at(&Agenda::new("s", before).write());
    let results = [reconciled(1).write(), b"no result".to_vec(), reconciled(2).write()];
    fake.world().results.extend(results.map(Bytes::from));
    runs(&fake, &schedule(before), 30).await;
    assert_eq!(fake.agenda().reconciled, only(reconciled(2)));
    {
        let mut world = fake.world();
        assert_eq!(world.reconciled, Some(only(reconciled(2))));
        assert!(world.results.is_empty() && world.result_in_hand.is_none(), "each is settled");
        // It dies, and the next one shows what is kept; between the two nobody does.
        (world.reconciled, world.taken_away) = (None, 0);
        world.dies_at = Some(world.steps + 1);
    }
    runs(&fake, &schedule(before), 30).await;
    let world = fake.world();
    assert_eq!((world.reconciled.clone(), world.taken_away), (Some(only(reconciled(2))), 1));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_noted_whenever_its_leader_dies() {
    let before = now_s() - 300;
    for dies_at in 1.. {
        let fake = Fake::at(&Agenda::new("s", before).write());
        fake.world().results.push_back(reconciled(7).write().into());
        fake.world().dies_at = Some(dies_at);
        runs(&fake, &schedule(before), 60).await;
        assert_eq!(fake.agenda().reconciled, only(reconciled(7)), "dies at {dies_at}");
        let world = fake.world();
        assert!(world.results.is_empty() && world.result_in_hand.is_none(), "dies at {dies_at}");
        assert_eq!(world.reconciled, Some(only(reconciled(7))), "dies at {dies_at}");
        if dies_at > 12 {
            return;
        }
    }
}

/// Runs until everything that was asked for is cut; true when the leader was to die and did.
async fn runs_out(fake: &Fake, schedule: &Schedule, answers: usize) -> bool {
    let stop = CancellationToken::new();
    let over = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let world = fake.world();
            let agenda = world.cursor.as_deref().and_then(|body| Agenda::read("s", body).ok());
            let done = agenda.is_some_and(|agenda| {
                agenda.answers.len() == answers
                    && agenda.cursor_s >= now_s() - 301
                    && agenda.periods.iter().all(Period::is_over)
            });
            if done && world.instructions.is_empty() && world.in_hand.is_none() {
                return;
            }
        }
    };
    let deadline = tokio::time::sleep(Duration::from_secs(600));
    tokio::select! {
        () = run(fake, schedule, fake, &stop) => unreachable!("nothing stops it"),
        () = over => {}
        () = deadline => panic!("not done: {:?}", fake.agenda()),
    }
    fake.world().dies_at.is_none()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_between_any_two_steps_leaves_no_gap_and_does_nothing_twice() {
    let now_s = now_s();
    let start_s = now_s - 5 * DAY;
    let remedy = Some(Remedy { every_s: DAY, from_s: 2 * DAY, to_s: DAY });
    let mut schedule = Schedule { remedy, ..schedule(start_s) };
    schedule.cutting.width_s = 3 * HOUR;
    let (from_s, to_s) = (start_s + 7, start_s + 30 * HOUR);
    for dies_at in 1.. {
        let fake = Fake::default();
        (fake.world().consumers, fake.world().dies_at) = (8, Some(dies_at));
        fake.instruct("b", Act::Backfill { from_s, to_s, per_minute: None });
        fake.instruct("m", Act::Move { to_s: now_s - 30 * HOUR, from_s: None, skip: false });
        fake.instruct("c", Act::Cancel { period: "nothing".to_owned(), skip: false });
        let died = runs_out(&fake, &schedule, 3).await;
        let agenda = fake.agenda();
        let world = fake.world();
        assert_eq!(gaps(&world.windows, start_s, now_s - 301), [], "dies at {dies_at}");
        let of = |origin: Origin| -> Vec<_> {
            world.windows.iter().filter(|(_, o, _)| *o == origin).copied().collect()
        };
        // The second look follows the cursor, which a person has just set back.
        assert_eq!(
            gaps(&of(Origin::Remedy), now_s - 2 * DAY + 9, now_s - 30 * HOUR),
            [],
            "dies at {dies_at}"
        );
        assert_eq!(gaps(&of(Origin::Backfill), from_s, to_s), [], "dies at {dies_at}");
        let backfills = agenda.periods.iter().filter(|p| p.kind == PeriodKind::Backfill).count();
        assert_eq!(backfills, 1, "dies at {dies_at}");
        let refused: Vec<_> = agenda.answers.iter().filter(|a| a.refused.is_some()).map(|a| &*a.id).collect();
        assert_eq!(refused, ["c"]);
        if !died {
            assert!(dies_at > 60, "only {dies_at} steps");
            return;
        }
    }
}
