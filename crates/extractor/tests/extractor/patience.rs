//! Limits, passing trouble, slow systems, a lost lease and a stopping worker.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kingpost_model::{Failure, FailureKind, Fault, Verdict, Window};
use tokio::time::Instant;

use crate::house::{
    Act, Heart, House, Shelf, T, document, documents, fails, failure, hour, pass, play, window_work,
};

/// A window may take ten minutes and a minute for the broker, less than the watchdog's fifteen.
const WINDOW_TIME: Duration = Duration::from_secs(660);

const fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_sixty_calls_a_minute_slows_five_thousand_documents_down_and_no_more() {
    let minute = AtomicUsize::new(0);
    let begun = Instant::now();
    let source = Shelf::new(50, documents(5_000), move |call, _| {
        let now = usize::try_from(call.at.duration_since(begun).as_secs() / 60).unwrap();
        // Upper half: the minute; lower half: its calls.
        let counted = minute.load(Ordering::Relaxed);
        let calls = if counted >> 16 == now { counted & 0xffff } else { 0 };
        minute.store(now << 16 | (calls + 1), Ordering::Relaxed);
        if calls < 60 { Act::Honest } else { Act::Fail(fails(FailureKind::Throttled)) }
    });
    let account = play(&source, hour()).await;
    assert_eq!(account.numbers().len(), 5_000);
    assert_eq!(account.documents.len(), 5_000, "documents were published again");
    assert!(account.tried_again.is_empty() && account.dead.is_empty());
    assert!(source.calls().len() < 140, "{} calls", source.calls().len());
    assert!(begun.elapsed() < seconds(300), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_waited_out_on_its_page_for_as_long_as_it_says() {
    for (asked, waited) in [(Some(seconds(20)), 20), (None, 65), (Some(Duration::ZERO), 1)] {
        let source = Shelf::new(10, documents(50), move |call, _| {
            let limit = Failure { retry_after: asked, ..fails(FailureKind::Throttled) };
            if call.index == 3 { Act::Fail(limit) } else { Act::Honest }
        });
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!(source.pages(), [0, 4, 3, 2, 2, 1, 0]);
        let calls = source.calls();
        assert_eq!(calls[4].at.duration_since(calls[3].at), seconds(waited));
        assert_eq!(house.numbers().len(), 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_met_again_and_again_is_left_alone_longer() {
    let source = Shelf::new(10, documents(5), |call, _| {
        let limit = fails(FailureKind::Throttled).retry_after(seconds(1));
        if call.index < 40 { Act::Fail(limit) } else { Act::Honest }
    });
    let verdict = House::new(&source).judge(window_work(hour())).await;
    assert!(matches!(verdict, Verdict::Retry { counted: false, .. }), "{verdict:?}");
    assert!(source.calls().len() < 20, "{} calls", source.calls().len());
}

#[tokio::test(start_paused = true)]
async fn a_long_ban_splits_a_window_that_was_begun_and_gives_back_one_that_was_not() {
    let source = Shelf::new(10, documents(100), |call, _| {
        if call.index < 6 { Act::Honest } else { Act::Fail(fails(FailureKind::Throttled)) }
    });
    let house = House::new(&source);
    let begun = Instant::now();
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert!(begun.elapsed() > seconds(300) && begun.elapsed() <= WINDOW_TIME, "{:?}", begun.elapsed());
    assert_eq!(house.numbers().len(), 50);
    let halves = house.windows();
    assert_eq!(halves.len(), 2);
    for half in halves {
        assert!(half.verify, "its documents may have been published");
        let (why, dead) = failure(house.judge(half).await);
        assert_eq!((why.kind, dead), (FailureKind::Throttled, false));
    }
    assert_eq!(house.windows().len(), 2, "a half that was not begun is not split");
}

#[tokio::test(start_paused = true)]
async fn a_ban_that_says_it_outlasts_the_window_is_not_waited_for_in_place() {
    let source = Shelf::new(10, documents(5), |_, _| {
        Act::Fail(fails(FailureKind::Throttled).retry_after(seconds(1_800)))
    });
    let begun = Instant::now();
    let verdict = House::new(&source).judge(window_work(hour())).await;
    assert!(matches!(verdict, Verdict::Retry { after, counted: false, .. } if after == seconds(1_800)));
    assert_eq!((source.calls().len(), begun.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_begun_second_that_is_banned_is_given_back_because_it_cannot_be_split() {
    let all = (0..30).map(|i| document(&format!("RK{i}"), T, &format!("{{\"n\":{i}}}"))).collect();
    let source = Shelf::new(10, all, |call, _| {
        if call.index < 2 { Act::Honest } else { Act::Fail(fails(FailureKind::Throttled)) }
    });
    let house = House::new(&source);
    let (why, dead) = failure(house.judge(window_work(Window::new(T, T + 1))).await);
    assert_eq!((why.kind, dead), (FailureKind::Throttled, false));
    assert!(house.windows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn passing_trouble_is_tried_again_on_its_page_before_the_window_is_given_back() {
    for kind in [FailureKind::Transient, FailureKind::Unavailable] {
        let source = Shelf::new(10, documents(30), move |call, _| {
            if (2..5).contains(&call.index) { Act::Fail(fails(kind)) } else { Act::Honest }
        });
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!(source.pages(), [0, 2, 1, 1, 1, 1, 0]);
        let calls = source.calls();
        let pauses: Vec<_> =
            (2..5).map(|i| calls[i + 1].at.duration_since(calls[i].at).as_millis()).collect();
        assert_eq!(pauses, [500, 2_000, 5_000]);
        assert_eq!(house.numbers().len(), 30);
        let down =
            Shelf::new(
                10,
                documents(30),
                move |call, _| {
                    if call.index < 2 { Act::Honest } else { Act::Fail(fails(kind)) }
                },
            );
        let (why, dead) = failure(House::new(&down).judge(window_work(hour())).await);
        assert_eq!((why.kind, dead, down.calls().len()), (kind, false, 6));
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_not_tried_again_on_the_page() {
    for kind in [FailureKind::Configuration, FailureKind::Refused, FailureKind::Internal] {
        let source = Shelf::new(10, documents(5), move |_, _| Act::Fail(fails(kind)));
        assert_eq!(failure(House::new(&source).judge(window_work(hour())).await).0.kind, kind);
        assert_eq!(source.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_is_read_whole_by_windows_that_end_in_time() {
    for (latency, counts) in [(90, true), (40, false)] {
        let source = Shelf::new(10, documents(200), move |_, _| Act::After(seconds(latency), counts));
        let account = play(&source, hour()).await;
        assert_eq!(account.numbers(), source.numbers());
        assert!(account.dead.is_empty() && account.tried_again.is_empty(), "counts: {counts}");
        assert!(account.took.iter().all(|took| *took <= WINDOW_TIME), "{:?}", account.took);
        assert!(account.documents.len() < 400, "{} documents were published", account.documents.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_ends_the_window_in_time() {
    let source = Shelf::new(10, documents(30), |_, _| Act::After(seconds(1_000_000), true));
    let begun = Instant::now();
    let (why, dead) = failure(House::new(&source).judge(window_work(hour())).await);
    assert_eq!((why.kind, why.fault, dead), (FailureKind::Unavailable, Fault::Source, false));
    assert!(begun.elapsed() <= WINDOW_TIME, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_confirms_ends_the_window_in_time() {
    let house = House::new(&Shelf::honest(10, documents(30)));
    house.outbox.stuck.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let (why, dead) = failure(house.judge(window_work(hour())).await);
    assert_eq!((why.kind, why.fault, dead), (FailureKind::Unavailable, Fault::Broker, false));
    assert!(begun.elapsed() <= WINDOW_TIME, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_read_or_published_once_the_lease_is_lost() {
    let lost = Arc::<AtomicBool>::default();
    let loses = Arc::clone(&lost);
    // Lost while the fourth call is under way: its page belongs to another worker already.
    let living = Shelf::new(10, documents(50), move |call, _| {
        if call.index == 3 {
            loses.store(true, Ordering::Relaxed);
        }
        Act::Honest
    });
    let mut house = House::new(&living);
    house.lost = lost;
    let (why, _) = failure(house.judge(window_work(hour())).await);
    assert_eq!((why.kind, why.fault), (FailureKind::Unavailable, Fault::Broker));
    assert_eq!(living.pages(), [0, 4, 3, 2]);
    assert_eq!(house.numbers().len(), 20, "pages 4 and 3");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_and_survives_costs_a_window_no_attempt() {
    let heart = Arc::<Heart>::default();
    let stops = Arc::clone(&heart);
    let source = Shelf::new(10, documents(30), move |call, _| {
        stops.0.store(call.index == 1, Ordering::Relaxed);
        Act::Honest
    });
    let mut house = House::new(&source);
    house.heart = heart;
    let mut work = window_work(hour());
    work.attempt = 4;
    let verdict = house.judge(work).await;
    let Verdict::Retry { counted: false, failure, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!((failure.kind, failure.fault), (FailureKind::Unavailable, Fault::Broker));
    assert_eq!((source.pages(), house.numbers().len()), (vec![0, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_lease_is_lost_or_the_worker_stops() {
    let source = Shelf::new(10, documents(5), |_, _| Act::Fail(fails(FailureKind::Throttled)));
    for stop in [true, false] {
        let house = House::new(&source);
        let begun = Instant::now();
        let (verdict, ()) = tokio::join!(house.judge(window_work(hour())), async {
            pass(seconds(10)).await;
            if stop { house.ending.cancel() } else { house.lost.store(true, Ordering::Relaxed) }
        });
        assert!(begun.elapsed() <= seconds(11), "{:?}", begun.elapsed());
        let expected = if stop { FailureKind::Throttled } else { FailureKind::Unavailable };
        assert_eq!(failure(verdict).0.kind, expected);
        assert!(house.windows().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_is_not_waited_for_once_the_lease_is_lost() {
    let house = House::new(&Shelf::honest(10, documents(30)));
    house.outbox.stuck.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let (verdict, ()) = tokio::join!(house.judge(window_work(hour())), async {
        pass(seconds(10)).await;
        house.lost.store(true, Ordering::Relaxed);
    });
    assert_eq!(failure(verdict).0.kind, FailureKind::Unavailable);
    assert!(begun.elapsed() <= seconds(12), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn trouble_here_and_there_loses_nothing_and_kills_nothing() {
    let source = Shelf::new(10, documents(400), |call, _| match call.index % 7 {
        2 => Act::Fail(fails(FailureKind::Transient)),
        4 => Act::Fail(fails(FailureKind::Throttled).retry_after(seconds(2))),
        5 => Act::Fail(fails(FailureKind::Unavailable)),
        _ => Act::Honest,
    });
    let account = play(&source, hour()).await;
    let published: BTreeSet<String> = account.numbers();
    assert_eq!((published, account.documents.len()), (source.numbers(), 400));
    assert!(account.dead.is_empty() && account.tried_again.is_empty());
}
