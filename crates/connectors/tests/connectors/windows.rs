//! Whole windows for whoever only looks: every document that stays in one is handed over, or the reading fails.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use kingpost_connectors::{Pace, Patience, Unread, WindowReader};
use kingpost_model::{BoxFuture, Document, Failure, FailureKind, Page, Source, Window};
use proptest::prelude::*;

/// Documents by their second of change; at some calls one of them is changed and leaves the window.
struct Living {
    documents: Mutex<Vec<(i64, String)>>,
    /// What the count is off by, and how often still.
    lie: Mutex<(u64, u32)>,
    departures: Mutex<Vec<usize>>,
    counts: bool,
    /// Seed of the order in which documents of one second come, another one with every call; without it they come by number.
    shuffled: Option<u64>,
    calls: Mutex<u64>,
}

const LATER_S: i64 = 1_000_000;

impl Source for Living {
    fn page_size(&self) -> u32 {
        2
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        let mut documents = self.documents.lock().unwrap();
        let call = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        match self.shuffled {
            Some(seed) => documents.sort_by_cached_key(|(at, number)| {
                let mut hasher = DefaultHasher::new();
                (seed, call, number).hash(&mut hasher);
                (*at, hasher.finish())
            }),
            None => documents.sort(),
        }
        let inside: Vec<&(i64, String)> =
            documents.iter().filter(|(at, _)| window.from_s <= *at && *at <= window.to_s).collect();
        let mut total = inside.len() as u64;
        let mut lie = self.lie.lock().unwrap();
        if lie.1 > 0 {
            total += lie.0;
            lie.1 -= 1;
        }
        let of = |(at, number): &(i64, String)| Document {
            cancelled: false,
            number: Some(number.clone()),
            modified_ms: Some(at * 1_000),
            body: Bytes::from(number.clone()),
        };
        let rows = inside.iter().skip(page as usize * 2).take(2).map(|document| of(document)).collect();
        let answer = Page { documents: rows, total: self.counts.then_some(total) };
        if let Some(leaves) = self.departures.lock().unwrap().pop() {
            let count = documents.len().max(1);
            if let Some(document) = documents.get_mut(leaves % count) {
                document.0 = LATER_S;
            }
        }
        Box::pin(async { Ok(answer) })
    }
}

fn read(source: &dyn Source, window: Window) -> Result<BTreeSet<String>, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (patience, pace) = (Patience::default(), Pace::per_minute(60));
    let told = |_: &Failure, _: Duration| {};
    let reader = WindowReader { source, patience: &patience, pace: &pace, told: &told };
    let mut seen = BTreeSet::new();
    let mut each = |document: Document| -> Result<(), ()> {
        seen.extend(document.number);
        Ok(())
    };
    match runtime.block_on(reader.read(window, &mut each)) {
        Ok(()) => Ok(seen),
        Err(Unread::Source(failure)) => Err(failure),
        Err(Unread::Taker(())) => panic!("everything is taken"),
    }
}

fn living(seconds: &[i64], departures: Vec<usize>) -> Living {
    let documents = seconds.iter().enumerate().map(|(n, at)| (*at, format!("RK{n}"))).collect();
    Living {
        documents: Mutex::new(documents),
        lie: Mutex::new((0, 0)),
        departures: Mutex::new(departures),
        counts: true,
        shuffled: None,
        calls: Mutex::new(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_stays_in_a_window_is_seen_whatever_leaves_it_meanwhile(
        seconds in proptest::collection::vec(0_i64..1_000, 0..150),
        departures in proptest::collection::vec(any::<usize>(), 0..40),
        counts in any::<bool>(),
    ) {
        // Without a count the end is looked for forward, where departures may hide the last page.
        let departures = if counts { departures } else { Vec::new() };
        let source = Living { counts, ..living(&seconds, departures) };
        let seen = read(&source, Window::new(0, 1_000)).map_err(|f| TestCaseError::fail(f.text))?;
        for (at, number) in source.documents.lock().unwrap().iter() {
            prop_assert!(*at == LATER_S || seen.contains(number), "{} at {}", number, at);
        }
    }

    #[test]
    fn ties_in_no_stable_order_end_whole_or_as_a_failure_and_never_silently_short(
        seconds in proptest::collection::vec(0_i64..4, 0..40),
        departures in proptest::collection::vec(any::<usize>(), 0..40),
        seed in any::<u64>(),
    ) {
        let source = Living { shuffled: Some(seed), ..living(&seconds, departures) };
        match read(&source, Window::new(0, 4)) {
            Ok(seen) => {
                for (at, number) in source.documents.lock().unwrap().iter() {
                    prop_assert!(*at == LATER_S || seen.contains(number), "silently short of {} at {}", number, at);
                }
            }
            Err(failure) => prop_assert_eq!(failure.kind, FailureKind::Incomplete),
        }
    }
}

/// Four documents on pages of two. Between two pages B and C, which are ties, change places, so that C is seen twice and B
/// never; and D, which was seen, leaves. Three distinct documents were seen, and the source counts three at the end.
struct Swapped(Mutex<u32>);

impl Source for Swapped {
    fn page_size(&self) -> u32 {
        2
    }

    fn page(&self, _: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        let mut calls = self.0.lock().unwrap();
        *calls += 1;
        let (numbers, total) = match (*calls, page) {
            (1, _) => ("AB", 4),
            (2, _) => ("CD", 4),
            (3, _) => ("AC", 3),
            (_, 0) => ("AB", 3),
            _ => ("C", 3),
        };
        let document = |number: char| Document {
            cancelled: false,
            number: Some(number.to_string()),
            modified_ms: Some(9_000),
            body: Bytes::from(number.to_string()),
        };
        let documents = numbers.chars().map(document).collect();
        Box::pin(async move { Ok(Page { documents, total: Some(total) }) })
    }
}

#[test]
fn a_document_that_left_after_it_was_seen_makes_up_for_none_that_was_never_seen() {
    let seen = read(&Swapped(Mutex::new(0)), Window::new(0, 10)).unwrap();
    assert!(seen.contains("B"), "{seen:?}");
}

#[test]
fn a_second_of_ties_in_no_stable_order_is_read_until_it_is_whole() {
    for (count, seed) in [(6, 1), (9, 2), (12, 3)] {
        let source = Living { shuffled: Some(seed), ..living(&vec![7; count], Vec::new()) };
        assert_eq!(read(&source, Window::new(7, 8)).unwrap().len(), count, "seed {seed}");
    }
}

#[test]
fn a_count_below_what_is_shown_ends_no_window_early() {
    let source = Miscounting(living(&[1, 2, 3, 4, 5, 6, 7], Vec::new()));
    assert_eq!(read(&source, Window::new(0, 10)).unwrap().len(), 7);
}

/// Counts three documents however many there are.
struct Miscounting(Living);

impl Source for Miscounting {
    fn page_size(&self) -> u32 {
        2
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async move {
            let page = self.0.page(window, page).await?;
            Ok(Page { total: Some(3), ..page })
        })
    }
}

#[test]
fn a_count_that_was_wrong_once_is_read_again_and_one_that_stays_wrong_is_a_failure() {
    let source = living(&[1, 5, 9], Vec::new());
    *source.lie.lock().unwrap() = (2, 2);
    assert_eq!(read(&source, Window::new(0, 10)).unwrap().len(), 3);
    let source = living(&[1, 5, 9], Vec::new());
    *source.lie.lock().unwrap() = (2, u32::MAX);
    let failure = read(&source, Window::new(0, 10)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incomplete);
    assert!(failure.text.contains("fewer documents than the source counts"), "{failure}");
}

#[test]
fn a_second_that_holds_more_than_a_window_may_is_read_all_the_same() {
    let source = living(&[7; 90], Vec::new());
    assert_eq!(read(&source, Window::new(0, 3_600)).unwrap().len(), 90);
}
