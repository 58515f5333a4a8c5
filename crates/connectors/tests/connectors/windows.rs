//! Whole windows for whoever only looks: every document that stays in one is handed over, or the reading fails.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

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
}

const LATER_S: i64 = 1_000_000;

impl Source for Living {
    fn page_size(&self) -> u32 {
        2
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        let mut documents = self.documents.lock().unwrap();
        documents.sort();
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

fn read(source: &Living, window: Window) -> Result<BTreeSet<String>, Failure> {
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
