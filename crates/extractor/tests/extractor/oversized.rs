//! Documents that no message can hold.

use kingpost_model::{Document, FailureKind, Verdict};

use crate::house::{House, Shelf, T, document, documents, failure, hour, play, window_work};

const LIMIT: usize = 15 * 1024 * 1024;

fn large(number: &str) -> Document {
    document(number, T + 77, &"x".repeat(LIMIT + 1))
}

#[tokio::test(start_paused = true)]
async fn a_document_too_large_for_a_message_is_the_only_one_that_is_missing() {
    let mut all = documents(50);
    all.insert(48, large("GREAT"));
    let house = House::new(&Shelf::honest(10, all));
    let (why, dead) = failure(house.judge(window_work(hour())).await);
    assert_eq!((why.kind, dead), (FailureKind::Malformed, true));
    for part in [
        "GREAT",
        "15728641 bytes",
        "2026-01-01T00:00:00+08:00",
        "other documents of the window are published",
    ] {
        assert!(why.text.contains(part), "{part}: {}", why.text);
    }
    assert_eq!(why.problems.len(), 1);
    assert_eq!(why.problems[0].field, "GREAT");
    assert_eq!(house.numbers().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_document_of_exactly_the_limit_is_published() {
    let house = House::new(&Shelf::honest(10, vec![document("FULL", T + 9, &"x".repeat(LIMIT))]));
    assert_eq!(house.judge(window_work(hour())).await, Verdict::Done);
    assert_eq!(house.numbers(), ["FULL"]);
}

#[tokio::test(start_paused = true)]
async fn several_large_documents_are_named_each_once() {
    let mut all = documents(45);
    all.extend(["G1", "G2", "G2"].map(large));
    let account = play(&Shelf::honest(10, all), hour()).await;
    let named: Vec<_> = account.dead.iter().flat_map(|(_, f)| &f.problems).map(|p| p.field.clone()).collect();
    assert_eq!(account.numbers().len(), 45);
    // Three rows, two documents: the count is never reached, so the seconds around them are narrowed down to.
    assert_eq!(named, ["G1", "G2"]);
}
