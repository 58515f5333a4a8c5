//! The admin endpoints: the truth about the orders, changes to them, the record of requests.

use serde_json::{Value, json};

use crate::client::{END, Lab, START, beijing, model};

#[tokio::test]
async fn the_summary_counts_what_was_asked_for() {
    let lab = Lab::start().await;
    let summary = lab.get("/admin/wdt/orders?summary=1").await;
    assert_eq!(summary["total"], 65);
    assert_eq!(summary["by_fate"], json!({"posts": 48, "refused": 8, "unfinished": 5, "unmappable": 4}));
    assert_eq!((&summary["from"], &summary["until"]), (&json!(START), &json!(END)));
}

#[tokio::test]
async fn a_changed_order_moves_to_now_and_a_deleted_one_is_gone() {
    let lab = Lab::start().await;
    let order = lab.get("/admin/wdt/orders").await[3].clone();
    let number = order["order_no"].as_str().unwrap();
    lab.post("/admin/wdt/orders", json!({"order_no": number, "remark": "改"})).await;
    let old = json!({"start_time": START, "end_time": END, "stockin_no": number});
    let gone = lab.qimen(old, 1, 20).await.unwrap().json();
    assert_eq!(gone["response"]["data"]["total_count"], 0);
    let now = json!({"start_time": beijing(-60), "end_time": beijing(60), "stockin_no": number});
    let found = lab.qimen(now.clone(), 1, 20).await.unwrap().json()["response"]["data"]["order"][0].clone();
    assert_eq!(found["remark"], "改");
    assert_eq!(found["details_list"].as_array().unwrap().len() as u64, order["line_count"].as_u64().unwrap());
    lab.send("POST", &format!("/admin/wdt/orders/{number}/cancel"), &[], "").await.unwrap();
    let cancelled = lab.qimen(now.clone(), 1, 20).await.unwrap().json();
    assert_eq!(cancelled["response"]["data"]["order"][0]["status"], 10);
    lab.send("DELETE", &format!("/admin/wdt/orders/{number}"), &[], "").await.unwrap();
    let deleted = lab.qimen(now, 1, 20).await.unwrap().json();
    assert_eq!(deleted["response"]["data"]["total_count"], 0);
    assert_eq!(lab.get(&format!("/admin/wdt/orders?number={number}")).await, json!([]));
}

#[tokio::test]
async fn a_new_order_is_answered_as_it_was_given() {
    let lab = Lab::start().await;
    let text =
        r#"{"order_no":"RKX","modified":"2026-09-01 00:00:00","odd":1.50,"details_list":[{"num":"1e2"}]}"#;
    lab.send("POST", "/admin/wdt/orders", &[], text).await.unwrap();
    let day = json!({"start_time": "2026-09-01 00:00:00", "end_time": "2026-09-01 00:00:00"});
    let answer = lab.qimen(day, 1, 20).await.unwrap();
    let expected = r#"{"status":80,"order_no":"RKX","modified":"2026-09-01 00:00:00","odd":1.50,"details_list":[{"num":"1e2"}]}"#;
    assert!(answer.body.contains(expected), "{}", answer.body);
}

#[tokio::test]
async fn a_typed_document_takes_its_number_and_the_ledger_tells_who_made_it() {
    let lab = Lab::start().await;
    let typed = lab.post("/admin/kingdee/documents", model("RK1")).await;
    assert!(typed["FID"].is_number());
    assert_eq!(lab.save(&[model("RK1")]).await["MsgCode"], 11);
    assert_eq!(lab.get("/admin/kingdee/ledger").await[0]["step"], "typed");
}

#[tokio::test]
async fn requests_are_listed_with_their_keys_outcome_and_fault() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "drop", "when": "after"})).await;
    lab.kingdee("BatchSave", crate::client::batch(&[model("RK1"), model("RK2")])).await;
    lab.save(&[model("RK1")]).await;
    let requests = lab.get("/admin/requests?system=kingdee").await;
    let seen = |at: usize, key: &str| requests[at][key].clone();
    assert_eq!(
        (seen(0, "keys"), seen(0, "fault"), seen(0, "answered")),
        (json!(["RK1", "RK2"]), json!("drop"), json!(false))
    );
    assert_eq!((seen(1, "fault"), seen(1, "answered")), (Value::Null, json!(true)));
    assert!(seen(1, "outcome").as_str().unwrap().contains("编码唯一"));
    assert_eq!(lab.get("/admin/requests?since=1").await.as_array().unwrap().len(), 1);
    let summary = lab.get("/admin/requests?summary=1").await;
    assert_eq!(
        summary[0],
        json!({"system": "kingdee", "operation": "BatchSave", "requests": 2, "not_ok": 1, "faults": 1})
    );
}

#[tokio::test]
async fn unusable_admin_requests_say_what_is_wrong() {
    let lab = Lab::start().await;
    for (method, target, body, expected) in [
        ("POST", "/admin/faults", r#"{"action":{"kind":"explode"}}"#, "unknown variant"),
        ("POST", "/admin/faults", r#"{"every":0,"action":{"kind":"half_body"}}"#, "every"),
        ("POST", "/admin/wdt/orders", "{}", "order_no"),
        ("POST", "/admin/kingdee/base", r#"{"kind":"colour","number":"x"}"#, "colour"),
        ("POST", "/admin/clock", "{}", "skew_seconds"),
        ("DELETE", "/admin/wdt/orders/none", "", "no order"),
        ("GET", "/nowhere", "", "see GET /admin"),
    ] {
        let answer = lab.send(method, target, &[], body).await.unwrap();
        assert!((400..500).contains(&answer.status), "{target}");
        assert!(answer.json()["error"].as_str().unwrap().contains(expected), "{}", answer.body);
    }
    assert_eq!(lab.get("/admin/health").await, json!({"status": "ok"}));
}
