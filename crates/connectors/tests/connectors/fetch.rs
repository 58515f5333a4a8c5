//! One document by its number, from a fake gateway of WDT.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::header::DATE, response::IntoResponse};
use jiff::{Timestamp, tz::TimeZone};
use kingpost_connectors::{
    NoCalls,
    wdt::{WdtSource, WdtSpec},
};
use kingpost_model::{FailureKind, Fault, Fetched, Source as _, Window};
use kingpost_wdt::{Client, Transport, WdtConfig, flexible_time};
use serde_json::{Value, json};

const PURCHASE: &str = "wms.stockin.Purchase.queryWithDetail";
const DAY: i64 = 86_400;

/// Orders of a shelf, and every criteria object that was asked with.
#[derive(Clone, Default)]
struct Shelf {
    orders: Arc<Mutex<Vec<Value>>>,
    asked: Arc<Mutex<Vec<Value>>>,
    /// Answers every order whatever is asked for.
    deaf: bool,
    /// Seconds that the gateway's clock is behind ours.
    behind_s: Arc<AtomicI64>,
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn meets(order: &Value, criteria: &Value) -> bool {
    let second = |value: &Value, name| text(value, name).and_then(flexible_time).map(Timestamp::as_second);
    let modified = second(order, "modified");
    let number = ["stockin_no", "stockout_no"].iter().find_map(|name| text(criteria, name));
    second(criteria, "start_time").is_none_or(|start| modified >= Some(start))
        && second(criteria, "end_time").is_none_or(|end| modified <= Some(end))
        && number.is_none_or(|number| text(order, "order_no") == Some(number))
        && text(criteria, "status")
            .is_none_or(|status| status.split(',').any(|s| text(order, "status") == Some(s)))
}

async fn answer(State(shelf): State<Shelf>, body: Bytes) -> impl IntoResponse {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let criteria = body[0].clone();
    let orders = shelf.orders.lock().unwrap().clone();
    let found: Vec<Value> =
        orders.into_iter().filter(|order| shelf.deaf || meets(order, &criteria)).collect();
    shelf.asked.lock().unwrap().push(criteria);
    let now = Timestamp::from_second(now_s() - shelf.behind_s.load(Ordering::Relaxed)).unwrap();
    let date = now.to_zoned_datetime(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let body = json!({"status": 0, "data": {"total_count": found.len(), "order": found}}).to_string();
    ([(DATE, date)], body)
}

async fn source(shelf: &Shelf, method: &str, params: &[(&str, &str)]) -> WdtSource {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/openapi", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(shelf.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let config = WdtConfig {
        url,
        transport: Transport::Direct,
        sid: "demo_sid".to_owned(),
        app_key: "demo_key".to_owned(),
        app_secret: "secret:salt".into(),
        qimen: None,
        ca_file: None,
    };
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let key = "order_no".to_owned();
    let spec =
        WdtSpec { method: method.to_owned(), params, key, page_size: 50, cancelled: vec!["10".to_owned()] };
    WdtSource::new(Client::new(config).unwrap(), spec, Arc::new(NoCalls))
}

fn now_s() -> i64 {
    Timestamp::now().as_second()
}

fn order(number: &str, status: &str, modified_s: i64) -> Value {
    json!({"order_no": number, "status": status, "modified": format!("{}", modified_s * 1_000)})
}

#[tokio::test]
async fn a_document_is_found_whatever_month_it_was_changed_in() {
    let shelf = Shelf::default();
    let changed = now_s() - 30 * DAY;
    shelf.orders.lock().unwrap().extend([order("RK1", "80", changed), order("RK2", "80", changed)]);
    let source = source(&shelf, PURCHASE, &[("status", "80")]).await;
    let Ok(Fetched::Found(document)) = source.fetch("RK1", now_s() - 100 * DAY).await else {
        panic!("absent")
    };
    assert_eq!(document.number.as_deref(), Some("RK1"));
    assert_eq!(document.modified_ms, Some(changed * 1_000));
    let asked = shelf.asked.lock().unwrap();
    let ranges: Vec<_> = asked.iter().map(|c| (text(c, "start_time"), text(c, "end_time"))).collect();
    assert_eq!(asked.len(), 3, "a month at a time, the oldest first: {ranges:?}");
    assert_eq!(ranges[0].1, ranges[1].0, "no second is left out between them");
    assert!(asked.iter().all(|c| text(c, "stockin_no") == Some("RK1") && text(c, "status") == Some("80")));
}

#[tokio::test]
async fn a_document_of_another_status_is_told_from_an_absent_one() {
    let shelf = Shelf::default();
    shelf.orders.lock().unwrap().push(order("RK1", "10", now_s() - DAY));
    let source = source(&shelf, PURCHASE, &[("status", "80")]).await;
    let since = now_s() - 2 * DAY;
    let left_out = Fetched::LeftOut("its status is 10, the scheme asks for 80".to_owned());
    assert_eq!(source.fetch("RK1", since).await, Ok(left_out));
    assert_eq!(source.fetch("RK2", since).await, Ok(Fetched::Absent));
    // A clock that runs ahead: the search begins in the future, and asks all the same.
    assert_eq!(source.fetch("RK2", now_s() + DAY).await, Ok(Fetched::Absent));
}

#[tokio::test]
async fn a_document_of_a_cancelled_status_is_known_as_cancelled() {
    let shelf = Shelf::default();
    let changed = now_s() - DAY;
    let mut bare = order("RK3", "80", changed);
    bare.as_object_mut().unwrap().remove("status");
    let as_number = json!({"order_no": "RK4", "status": 10, "modified": (changed * 1_000).to_string()});
    shelf.orders.lock().unwrap().extend([
        order("RK1", "10", changed),
        order("RK2", "80", changed),
        bare,
        as_number,
    ]);
    let source = source(&shelf, PURCHASE, &[]).await;
    let window = Window { from_s: changed - 10, to_s: changed + 10, fresh_from_s: 0 };
    let page = source.page(window, 0).await.unwrap();
    let cancelled: Vec<_> = page.documents.iter().map(|d| (d.number.as_deref(), d.cancelled)).collect();
    assert_eq!(
        cancelled,
        [(Some("RK1"), true), (Some("RK2"), false), (Some("RK3"), false), (Some("RK4"), true)]
    );
}

#[tokio::test]
async fn a_number_that_lifts_the_time_range_is_asked_for_once() {
    let shelf = Shelf::default();
    shelf.orders.lock().unwrap().push(order("CK1", "110", now_s() - 400 * DAY));
    let method = "wms.stockout.Sales.queryWithDetail";
    let source = source(&shelf, method, &[("status_type", "3"), ("status", "110")]).await;
    assert!(matches!(source.fetch("CK1", 0).await, Ok(Fetched::Found(_))));
    let asked = shelf.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!((text(&asked[0], "stockout_no"), asked[0].get("start_time")), (Some("CK1"), None));
}

#[tokio::test]
async fn a_gateway_that_does_not_heed_the_number_is_never_believed() {
    let shelf = Shelf { deaf: true, ..Shelf::default() };
    shelf.orders.lock().unwrap().push(order("RK9", "80", now_s() - DAY));
    let purchase = source(&shelf, PURCHASE, &[("status", "80")]).await;
    let failure = purchase.fetch("RK1", now_s() - 2 * DAY).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incomplete);
    assert!(failure.text.contains("`stockin_no`"), "{failure}");
    let transfer = source(&shelf, "wms.stockout.Transfer.queryWithDetail", &[]).await;
    let failure = transfer.fetch("RK1", 0).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.text.contains("promises no way"), "{failure}");
}

#[tokio::test]
async fn a_window_that_is_not_over_on_the_gateways_clock_is_not_read() {
    let shelf = Shelf::default();
    shelf.orders.lock().unwrap().push(order("RK1", "80", now_s() - 500));
    let source = source(&shelf, PURCHASE, &[]).await.with_margin(Duration::from_secs(150));
    // As the scheduler cuts it with a lag of five minutes.
    let window = Window::new(now_s() - 1_000, now_s() - 300);
    let old = Window::new(now_s() - 5_000, now_s() - 4_000);
    for behind_s in [-400, 0, 140] {
        shelf.behind_s.store(behind_s, Ordering::Relaxed);
        assert_eq!(source.page(window, 0).await.unwrap().documents.len(), 1, "{behind_s}");
    }
    shelf.behind_s.store(320, Ordering::Relaxed);
    let early = source.page(window, 0).await.unwrap_err();
    assert_eq!((early.kind, early.fault), (FailureKind::Unavailable, Fault::Us));
    for part in ["clock is 3", "s ahead of WDT's", "set the clock"] {
        assert!(early.text.contains(part), "{}", early.text);
    }
    // Over on the gateway's clock in some 20 s, and safely so in 170; but somebody may set ours before.
    assert!(early.text.contains("is read in 17") || early.text.contains("is read in 16"), "{}", early.text);
    assert_eq!(early.retry_after, Some(Duration::from_secs(30)));
    assert!(source.page(old, 0).await.is_ok(), "nothing can enter what is long over");
}

#[tokio::test]
async fn a_pushed_document_is_read_by_the_rules_of_the_schedule() {
    let source = source(&Shelf::default(), PURCHASE, &[("status", "80"), ("warehouse_no", "WH1,WH2")]).await;
    let read = |text: &str| source.read(Bytes::from(text.to_owned()));
    let body = r#"{"order_no":"RK1","status":80,"warehouse_no":"WH1","modified":"1767196800000","n":1.50}"#;
    let document = read(body).unwrap();
    assert_eq!((document.number.as_deref(), document.modified_ms), (Some("RK1"), Some(1_767_196_800_000)));
    assert_eq!(document.body, body);
    assert!(read(r#"{"order_no":"RK1","status":"80","warehouse_no":"WH2"}"#).is_ok());
    for (text, kind, word) in [
        ("[]", FailureKind::Malformed, "JSON object"),
        (r#"{"order_no":" ","status":80,"warehouse_no":"WH1"}"#, FailureKind::Malformed, "order_no"),
        (
            r#"{"order_no":"RK1","status":40}"#,
            FailureKind::Refused,
            "its status is 40, the scheme asks for 80",
        ),
        (r#"{"order_no":"RK1"}"#, FailureKind::Refused, "it has no status"),
        (r#"{"order_no":"RK1","status":80}"#, FailureKind::Refused, "it has no warehouse_no"),
        (r#"{"order_no":"RK1","status":80,"warehouse_no":"WH3"}"#, FailureKind::Refused, "WH1,WH2"),
    ] {
        let failure = read(text).unwrap_err();
        assert!(failure.kind == kind && failure.text.contains(word), "{text}: {failure}");
    }
}
