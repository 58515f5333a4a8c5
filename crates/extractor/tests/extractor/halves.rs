//! What the halves of a window know about its documents.

use kingpost_model::{FailureKind, Origin, Verdict, Window};
use proptest::prelude::*;

use crate::house::{Act, House, Shelf, T, document, documents, fails, hour, play, window_work};

#[tokio::test(start_paused = true)]
async fn a_window_of_many_pages_is_split_before_anything_is_published() {
    for (count, split) in [(200, false), (201, true)] {
        let house = House::new(&Shelf::honest(10, documents(count)));
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!(house.windows().len(), if split { 2 } else { 0 }, "{count}");
        assert_eq!(house.documents().is_empty(), split);
        assert!(house.windows().iter().all(|half| !half.verify), "nothing was published");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_that_holds_many_pages_is_read_whole() {
    let all: Vec<_> = (0..999).map(|i| document(&format!("RK{i}"), T, &format!("{{\"n\":{i}}}"))).collect();
    for counted in [true, false] {
        let source =
            Shelf::new(10, all.clone(), move |_, _| if counted { Act::Honest } else { Act::Total(None) });
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(Window::new(T, T + 1))).await, Verdict::Done);
        assert_eq!(house.numbers().len(), 999);
    }
}

#[tokio::test(start_paused = true)]
async fn halves_of_a_window_that_published_something_are_verified() {
    let source = Shelf::new(10, documents(30), |_, _| Act::Total(Some(31)));
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!((house.numbers().len(), house.windows().len()), (30, 2));
    for half in house.windows() {
        assert!(half.verify);
        house.outbox.confirmed.lock().unwrap().clear();
        assert_eq!(house.judge(half).await, Verdict::Done);
        assert!(house.documents().iter().all(|work| work.verify));
    }
}

#[tokio::test(start_paused = true)]
async fn halves_inherit_what_the_whole_was_told() {
    let told = [
        (window_work(hour()), false),
        (
            {
                let mut w = window_work(hour());
                w.verify = true;
                w
            },
            true,
        ),
        (
            {
                let mut w = window_work(hour());
                w.attempt = 2;
                w
            },
            true,
        ),
        (
            {
                let mut w = window_work(hour());
                w.origin = Origin::Backfill;
                w
            },
            true,
        ),
    ];
    for (work, verify) in told {
        let origin = work.origin;
        let house = House::new(&Shelf::honest(10, documents(300)));
        assert_eq!(house.judge(work).await, Verdict::Done);
        assert_eq!(
            house.windows().iter().map(|w| (w.verify, w.origin)).collect::<Vec<_>>(),
            [(verify, origin); 2]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_calls_a_window_too_wide_gets_halves() {
    let source = Shelf::new(10, documents(30), |call, _| {
        if call.window.width_s() > 900 { Act::Fail(fails(FailureKind::Incomplete)) } else { Act::Honest }
    });
    let account = play(&source, hour()).await;
    assert_eq!((account.numbers(), account.documents.len()), (source.numbers(), 30));
}

#[tokio::test(start_paused = true)]
async fn the_second_in_which_an_earlier_window_ended_is_verified_and_the_next_one_is_fresh() {
    let all = [-1, 0, 1].map(|s| document(&format!("{s}"), T + 60 + s, &format!("{s}")));
    let mut nameless = document("no time", 0, "no time");
    nameless.modified_ms = None;
    let house = House::new(&Shelf::honest(10, all.into_iter().chain([nameless]).collect()));
    let window = Window { from_s: T, to_s: T + 3_600, fresh_from_s: T + 60 };
    assert_eq!(house.judge(window_work(window)).await, Verdict::Done);
    let mut verify: Vec<_> = house.documents().into_iter().map(|w| (w.key.number, w.verify)).collect();
    verify.sort();
    let expected = [("-1", true), ("0", true), ("1", false), ("no time", true)];
    assert_eq!(verify, expected.map(|(number, verify)| (number.to_owned(), verify)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn halves_verify_what_the_whole_would_and_where_they_meet(fresh_after in -100_i64..4_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let window = Window { fresh_from_s: T + fresh_after, ..hour() };
            let account = play(&Shelf::honest(10, documents(900)), window).await;
            assert_eq!(account.documents.len(), 900);
            let meets = |s: i64| [450, 900, 1_350, 1_800, 2_250, 2_700, 3_150].contains(&(s - T));
            for work in &account.documents {
                let second = work.modified_ms.unwrap() / 1_000;
                // Each half's first second may have been in reach of the half before it.
                assert_eq!(work.verify, second <= window.fresh_from_s || meets(second), "{}", second - T);
            }
        });
    }
}
