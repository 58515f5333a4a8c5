//! A source that lives: the order of its answers, edits between two pages, and what it remembers of them.

use std::collections::BTreeSet;
use std::time::Duration;

use kingpost_sandbox::{Options, Rates, SortBy};
use serde_json::{Value, json};

use crate::client::{END, Lab, START, beijing, options};

fn window() -> Value {
    json!({"start_time": START, "end_time": END, "status": "80"})
}

async fn page(lab: &Lab, page: u32, size: u32) -> (Value, Vec<(String, String)>) {
    let data = lab.qimen(window(), page + 1, size).await.unwrap().json()["response"]["data"].clone();
    let orders = data["order"].as_array().unwrap().iter();
    let text = |order: &Value, name: &str| order[name].as_str().unwrap_or_default().to_owned();
    (
        data["total_count"].clone(),
        orders.map(|order| (text(order, "modified"), text(order, "order_no"))).collect(),
    )
}

async fn numbers(lab: &Lab, number: u32, size: u32) -> Vec<String> {
    page(lab, number, size).await.1.into_iter().map(|(_, number)| number).collect()
}

/// Sixty orders in ten seconds, so that most seconds have several.
fn dense(order: SortBy, shuffle_ties: bool) -> Options {
    Options { spread: 10, unpostable: 0, unfinished: Some(0), order, shuffle_ties, ..options() }
}

#[tokio::test]
async fn answers_come_in_the_order_that_was_asked_for_and_only_ties_are_shuffled() {
    let lab = Lab::with(dense(SortBy::Modified, false)).await;
    let oldest = numbers(&lab, 0, 60).await;
    assert_eq!(oldest, numbers(&lab, 0, 60).await);
    let truth = lab.get("/admin/wdt/orders").await;
    let second = |number: &String| {
        let order = truth.as_array().unwrap().iter().find(|order| order["order_no"] == number.as_str());
        order.unwrap()["modified_ms"].as_i64().unwrap()
    };
    assert!(oldest.iter().map(second).is_sorted());

    let newest = numbers(&Lab::with(dense(SortBy::ModifiedDesc, false)).await, 0, 60).await;
    assert!(newest.iter().rev().eq(oldest.iter()));
    let made = numbers(&Lab::with(dense(SortBy::Id, false)).await, 0, 60).await;
    assert!(made.iter().map(|number| &number[number.len() - 5..]).is_sorted());

    let lab = Lab::with(dense(SortBy::Modified, true)).await;
    let (one, other) = (numbers(&lab, 0, 60).await, numbers(&lab, 0, 60).await);
    assert_ne!(one, other);
    assert!(one.iter().map(second).is_sorted() && other.iter().map(second).is_sorted());
    assert_eq!(one.iter().collect::<BTreeSet<_>>(), oldest.iter().collect());
}

#[tokio::test]
async fn an_edit_between_two_pages_hides_an_order_from_who_reads_forward_and_from_nobody_who_reads_backward()
{
    for (pages, hidden) in [([0, 1, 2], 1), ([2, 1, 0], 0)] {
        let lab = Lab::with(Options { unpostable: 0, unfinished: Some(0), ..options() }).await;
        let first = numbers(&lab, 0, 60).await.remove(0);
        let action = json!({"kind": "edit", "what": "modify", "numbers": [first]});
        lab.post("/admin/faults", json!({"system": "wdt", "page": 1, "action": action})).await;
        let mut seen = BTreeSet::new();
        for number in pages {
            seen.extend(numbers(&lab, number, 20).await);
        }
        let stayed = numbers(&lab, 0, 60).await;
        assert_eq!(stayed.iter().filter(|number| !seen.contains(*number)).count(), hidden, "{pages:?}");
        let now = json!({"start_time": beijing(-60), "end_time": beijing(60), "stockin_no": first});
        let moved = lab.qimen(now, 1, 20).await.unwrap().json();
        assert_eq!(moved["response"]["data"]["total_count"], 1, "it is in the present");
    }
}

#[tokio::test]
async fn a_rule_edits_what_the_query_finds_and_bends_page_and_count() {
    let lab = Lab::with(Options { unpostable: 0, unfinished: Some(10), ..options() }).await;
    let rule = |what: &str, pick: u32| json!({"action": {"kind": "edit", "what": what, "pick": pick}});
    lab.post("/admin/faults", json!([rule("cancel", 3), rule("add", 2), rule("content", 1)])).await;
    let mut totals = Vec::new();
    for _ in 0..3 {
        totals.push(page(&lab, 0, 20).await.0);
    }
    assert_eq!(totals, [57, 57, 56], "three cancelled, two added in the present, one changed and gone there");
    let orders = lab.get("/admin/wdt/orders").await;
    let happened = |what: &str| {
        let last = |order: &&Value| order["history"].as_array().unwrap().last().unwrap()["what"] == what;
        orders.as_array().unwrap().iter().filter(last).cloned().collect::<Vec<_>>()
    };
    assert_eq!((happened("cancelled").len(), happened("added").len()), (3, 2));
    let changed = &happened("content")[0];
    let (now, before) = (&changed["lines"][0]["num"], &changed["earlier"][0]["lines"][0]["num"]);
    let exact = |value: &Value| value.as_str().unwrap().parse::<rust_decimal::Decimal>().unwrap();
    assert_eq!(exact(now) - exact(before), rust_decimal::Decimal::ONE);
    assert_eq!(changed["earlier"].as_array().unwrap().len(), 1);

    lab.post(
        "/admin/faults",
        json!([{"action": {"kind": "page_shift", "add": 1}}, {"action": {"kind": "no_total"}}]),
    )
    .await;
    let shifted = page(&lab, 0, 20).await;
    let second = page(&lab, 1, 20).await;
    assert_eq!(shifted.1, second.1);
    assert_eq!((shifted.0, second.0), (json!(56), Value::Null));
}

#[tokio::test]
async fn a_living_source_moves_by_itself_until_it_is_told_to_rest() {
    let rates = Rates { modify: 20.0, complete: 20.0, ..Rates::default() };
    let lab = Lab::with(Options { live: Some(rates), unfinished: Some(20), ..options() }).await;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        looks.tick().await;
        let done = lab.get("/admin/wdt/live").await["done"].clone();
        if done["modified"].as_u64() > Some(20) && done["completed"].as_u64() > Some(3) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{done}");
    }
    let ended = lab.send("DELETE", "/admin/wdt/live", &[], "").await.unwrap().json();
    let orders = lab.get("/admin/wdt/orders").await;
    let modified: usize = orders
        .as_array()
        .unwrap()
        .iter()
        .map(|order| {
            order["history"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|version| version["what"] == "modified")
                .count()
        })
        .sum();
    assert_eq!(ended["ended"]["done"]["modified"], modified);
    assert!(
        orders.as_array().unwrap().iter().all(|order| order["earlier"] == json!([])),
        "only notes were changed"
    );
    assert_eq!(lab.get("/admin/wdt/live").await, json!({}));
    assert_eq!(lab.get("/admin/wdt/orders").await, orders);
}

#[tokio::test]
async fn what_is_pending_is_completed_and_not_audited_or_was_never_shown() {
    let lab = Lab::with(Options { orders: 3, unpostable: 0, unfinished: Some(2), ..options() }).await;
    let pending = lab.get("/admin/wdt/orders?pending=1").await;
    let seen = |pending: &Value, name: &str| -> Vec<bool> {
        pending.as_array().unwrap().iter().map(|order| order[name].as_bool().unwrap()).collect()
    };
    assert_eq!(seen(&pending, "shown"), [false; 3]);
    page(&lab, 0, 20).await;
    let pending = lab.get("/admin/wdt/orders?pending=1").await;
    assert_eq!((seen(&pending, "shown"), seen(&pending, "audited")), (vec![true; 3], vec![false; 3]));
}

#[tokio::test]
async fn the_date_of_an_answer_is_the_servers_own() {
    let lab = Lab::start().await;
    lab.post("/admin/clock", json!({"skew_seconds": -300})).await;
    let head = lab.qimen(window(), 1, 20).await.unwrap().head.to_ascii_lowercase();
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap().to_uppercase();
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).unwrap().as_second();
    let behind = jiff::Timestamp::now().as_second() - at;
    assert!((299..=310).contains(&behind), "{date} {behind}");
}

#[tokio::test]
async fn a_life_that_can_not_be_lived_is_refused() {
    let lab = Lab::start().await;
    for (body, part) in [(r#"{"modfy":1}"#, "modfy"), (r#"{"modify":-1}"#, "-1"), (r#"{"add":1000}"#, "1000")]
    {
        let answer = lab.send("POST", "/admin/wdt/live", &[], body).await.unwrap();
        assert!(answer.status == 400 && answer.body.contains(part), "{}", answer.body);
    }
}
