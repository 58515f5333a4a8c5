//! Pages as they come from a living source, and from one that counts or pages wrongly.

use std::collections::BTreeSet;

use kingpost_model::{Document, FailureKind, Page, Source as _, Verdict, Window};
use proptest::prelude::*;

use crate::house::{Account, Act, House, Shelf, T, document, documents, failure, hour, play, window_work};

fn page(documents: Vec<Document>, total: u64) -> Act {
    Act::Page(Page { documents, total: Some(total) })
}

#[tokio::test(start_paused = true)]
async fn pages_are_read_from_the_last_to_the_first_one_after_another() {
    let source = Shelf::honest(10, documents(31));
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!(source.pages(), [0, 3, 2, 1, 0]);
    assert_eq!(house.numbers().len(), 31);
    assert!(house.documents().iter().all(|w| !w.verify && w.extracted_ms.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_empty_window_and_a_single_page_take_one_call() {
    for count in [0, 1, 10] {
        let source = Shelf::honest(10, documents(count));
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!((source.calls().len(), house.numbers().len()), (1, count));
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_page_in_the_middle_ends_nothing() {
    // The source filters after it has paged: 28 documents on pages of 10, 8 and 10.
    for counted in [true, false] {
        let source = Shelf::new(10, documents(30), move |call, all| {
            let documents = match call.page {
                0 => all[..10].to_vec(),
                1 => all[12..20].to_vec(),
                2 => all[20..].to_vec(),
                _ => Vec::new(),
            };
            Act::Page(Page { documents, total: counted.then_some(28) })
        });
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!(house.numbers().len(), 28, "counted: {counted}");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_pages_at_the_end_are_what_documents_leave_behind() {
    let source = Shelf::new(10, documents(30), |call, all| {
        if call.index == 1 {
            all.truncate(9);
        }
        Act::Honest
    });
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!(source.pages(), [0, 2, 1, 0]);
    assert_eq!(house.numbers().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_document_seen_twice_with_equal_bytes_is_published_once() {
    let twice = document("A", T + 5, "a");
    let source = Shelf::new(2, Vec::new(), move |call, _| match call.page {
        0 => page(vec![twice.clone(), twice.clone()], 3),
        _ => page(vec![twice.clone(), document("B", T + 6, "b")], 3),
    });
    let house = House::new(&source);
    let _ = house.judge(window_work(hour())).await;
    assert_eq!(house.numbers(), ["A", "B"], "twice on a page, between pages, and in both passes");
}

#[tokio::test(start_paused = true)]
async fn both_versions_of_a_document_are_published_the_newer_last_and_verified() {
    let (old, new) = (document("A", T + 5, "old"), document("A", T + 9, "new"));
    let in_one = Shelf::honest(5, vec![new.clone(), old.clone()]);
    // Changed while the window is read: page 1 with the old version first, then page 0 with the new one.
    let between = Shelf::new(1, vec![document("B", T + 1, "b"), old], move |call, all| {
        if call.index == 2 {
            all[0] = new.clone();
            all.truncate(1);
        }
        Act::Honest
    });
    for source in [in_one, between] {
        let house = House::new(&source);
        let _ = house.judge(window_work(hour())).await;
        let versions: Vec<_> = house.documents().into_iter().map(|w| (w.body, w.verify)).collect();
        let versions: Vec<_> = versions.iter().map(|(body, verify)| (&body[..], *verify)).collect();
        assert_eq!(versions[..2], [(&b"old"[..], false), (&b"new"[..], true)]);
        let ids: BTreeSet<_> = house.documents().into_iter().map(|w| w.id).collect();
        assert_eq!(ids.len(), versions.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_without_a_number_is_published_under_its_content() {
    let nameless = |body: &str| Document { number: None, ..document("", T + 9, body) };
    let house = House::new(&Shelf::honest(10, vec![nameless("x"), nameless("y"), document("A", T + 9, "a")]));
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    let numbers = house.numbers();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(house.documents().iter().filter(|w| w.key.number != "A").all(|w| w.key.number == w.id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_document_without_a_number_that_slides_to_another_page_hides_no_missing_one() {
    let nameless = Document { number: None, ..document("", T + 9, "x") };
    let [a, b] = ["A", "B"].map(|n| document(n, T + 9, n));
    // Two rows of the nameless one and one other where the source counts three: one is missing.
    let source = Shelf::new(2, Vec::new(), move |call, _| match (call.index, call.page) {
        (0..=2, 0) => page(vec![a.clone(), nameless.clone()], 3),
        (_, 0) => page(vec![a.clone(), b.clone()], 3),
        _ => page(vec![nameless.clone()], 3),
    });
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert!(house.numbers().contains(&"B".to_owned()), "{:?}", house.numbers());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_count_is_searched_forward_and_read_backward() {
    for (count, calls) in
        [(0, vec![0]), (3, vec![0, 1]), (20, vec![0, 1, 2, 1, 0]), (31, vec![0, 1, 2, 3, 4, 3, 2, 1, 0])]
    {
        let source = Shelf::new(10, documents(count), |_, _| Act::Total(None));
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!((source.pages(), house.numbers().len()), (calls, count));
    }
    let source = Shelf::new(10, documents(1_000), |_, _| Act::Total(None));
    let account = play(&source, hour()).await;
    assert_eq!((account.numbers(), account.documents.len()), (source.numbers(), 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_count_that_the_page_itself_refutes_is_no_count() {
    let source = Shelf::new(10, documents(35), |_, _| Act::Total(Some(0)));
    let account = play(&source, hour()).await;
    assert_eq!(account.numbers(), source.numbers());
}

#[tokio::test(start_paused = true)]
async fn a_count_that_the_pages_refute_ends_no_window_early() {
    // 35 documents on four pages, counted as twelve on two.
    let source = Shelf::new(10, documents(35), |_, _| Act::Total(Some(12)));
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!((house.numbers().len(), source.pages()), (35, vec![0, 1, 0, 0, 1, 2, 3, 4, 3, 2, 1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ignores_the_page_is_not_read_for_ever() {
    let source =
        Shelf::new(10, documents(10), |_, all| Act::Page(Page { documents: all.clone(), total: None }));
    let house = House::new(&source);
    let (why, _) = failure(house.judge(window_work(hour())).await);
    assert_eq!(why.kind, FailureKind::Incomplete);
    assert!(why.text.contains("doesn't page"), "{}", why.text);
    assert_eq!(source.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_count_that_grows_while_the_window_is_read_makes_it_read_again() {
    let source = Shelf::new(10, documents(20), |call, all| {
        if call.index == 1 {
            all.extend((0..5).map(|i| document(&format!("LATE{i}"), T + 3_599, &format!("{i}"))));
        }
        Act::Honest
    });
    let house = House::new(&source);
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!(house.numbers().len(), 25, "each of them once");
    assert_eq!(source.pages(), [0, 1, 0, 0, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn documents_that_leave_make_a_window_read_again_only_where_they_could_hide_a_missing_one() {
    // Before which calls one leaves, from which end, and the pages that are asked for then.
    let cases: [(&[usize], bool, &[u32]); 4] = [
        // It left before anything was read: it is counted by no page.
        (&[1], true, &[0, 3, 2, 1, 0]),
        // It had been seen.
        (&[2, 3], false, &[0, 3, 2, 1, 0]),
        // Counted, and not seen.
        (&[2], true, &[0, 3, 2, 1, 0, 0, 3, 2, 1, 0]),
        (&[2, 3, 4], true, &[0, 3, 2, 1, 0, 0, 3, 2, 1, 0]),
    ];
    for (leaving, from_front, pages) in cases {
        let source = Shelf::new(10, documents(40), move |call, all| {
            if leaving.contains(&call.index) {
                all.remove(if from_front { 0 } else { all.len() - 1 });
            }
            Act::Honest
        });
        let house = House::new(&source);
        assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
        assert_eq!(source.pages(), pages, "{leaving:?}");
        assert!(source.numbers().iter().all(|stayed| house.numbers().contains(stayed)));
        assert!(house.windows().is_empty(), "the second time it was whole");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_page_base_ends_at_one_second_with_its_evidence() {
    // The source counts pages from 0 and is asked from 1: the first page is never seen.
    let source = Shelf::new(
        2,
        (0..5).map(|i| document(&format!("RK{i}"), T + 9, &format!("{i}"))).collect(),
        |call, all| {
            let inside = (call.window.from_s..call.window.to_s).contains(&(T + 9));
            let all = if inside { &all[..] } else { &[] };
            let documents = all.iter().skip((call.page as usize + 1) * 2).take(2).cloned().collect();
            page(documents, all.len() as u64)
        },
    );
    let account: Account = play(&source, hour()).await;
    let [(window, why)] = &account.dead[..] else { panic!("{:?}", account.dead) };
    assert_eq!((window.from_s, window.to_s, why.kind), (T + 9, T + 10, FailureKind::Incomplete));
    for part in ["read twice", "3 of 5, then 3 of 5", "page base", "2026-01-01T00:00:09+08:00"] {
        assert!(why.text.contains(part), "{part}: {}", why.text);
    }
    assert_eq!(account.numbers().len(), 3);
    assert!(account.tried_again.iter().all(|f| f.kind == FailureKind::Incomplete));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_window_is_dead_and_says_so() {
    let house = House::new(&Shelf::honest(10, Vec::new()));
    let mut work = window_work(hour());
    work.body = bytes::Bytes::from_static(b"{\"from\":1}");
    let (why, dead) = failure(house.judge(work).await);
    assert_eq!((why.kind, dead), (FailureKind::Malformed, true));
    assert!(why.text.contains("not a window"), "{}", why.text);
}

/// A source of which documents leave: before the call with a number of `departures`, that document is gone.
fn living(size: u32, count: usize, departures: Vec<(usize, usize)>) -> std::sync::Arc<Shelf> {
    Shelf::new(size, documents(count), move |call, all| {
        for (_, gone) in departures.iter().filter(|(at, _)| *at == call.index) {
            all.retain(|d| d.number != Some(format!("RK{gone:05}")));
        }
        Act::Honest
    })
}

/// What everybody writes first: page after page until one is short.
async fn naive(source: &Shelf, window: Window) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    for number in 0.. {
        let page = source.page(window, number).await.unwrap();
        let short = page.documents.len() < source.page_size() as usize;
        numbers.extend(page.documents.into_iter().filter_map(|d| d.number));
        if short {
            break;
        }
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn a_forward_reader_misses_what_this_one_finds() {
    // One early document leaves between any two calls.
    let departures: Vec<_> = (1..6).map(|call| (call, call)).collect();
    let source = living(10, 50, departures.clone());
    let found = naive(&source, hour()).await;
    assert!(!source.numbers().is_subset(&found), "the test can't tell the two apart");
    let source = living(10, 50, departures);
    let account = play(&source, hour()).await;
    assert!(source.numbers().is_subset(&account.numbers()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_document_that_stays_is_missed_while_others_leave(
        size in 1_u32..12, count in 0_usize..150,
        departures in proptest::collection::vec((0_usize..40, 0_usize..150), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (stayed, account) = runtime.unwrap().block_on(async {
            let source = living(size, count, departures);
            let account = play(&source, hour()).await;
            (source.numbers(), account)
        });
        prop_assert!(account.dead.is_empty() && account.tried_again.is_empty());
        let missed: Vec<_> = stayed.difference(&account.numbers()).cloned().collect();
        prop_assert!(missed.is_empty(), "{:?}", missed);
    }
}
