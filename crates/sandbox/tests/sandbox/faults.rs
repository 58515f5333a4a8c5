//! Every scripted fault, seen from the other end of the socket.

use std::time::{Duration, Instant};

use kingpost_sandbox::Options;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{END, Lab, START, batch, model, options};

async fn save(lab: &Lab, number: &str) -> Option<crate::client::Answer> {
    lab.kingdee("BatchSave", batch(&[model(number)])).await
}

/// The commits of a number: step and whether the answer arrived.
async fn commits(lab: &Lab, number: &str) -> Vec<(String, bool)> {
    let ledger = lab.get(&format!("/admin/kingdee/ledger?number={number}")).await;
    let row = |commit: &Value| (commit["step"].as_str().unwrap().to_owned(), commit["answered"] == true);
    ledger.as_array().unwrap().iter().map(row).collect()
}

fn saved(answered: bool) -> Vec<(String, bool)> {
    vec![("saved".to_owned(), answered)]
}

#[tokio::test]
async fn a_dropped_connection_hides_whether_the_commit_happened() {
    let lab = Lab::start().await;
    for reset in [false, true] {
        let number = format!("RK-{reset}");
        lab.fault("BatchSave", json!({"kind": "drop", "when": "before", "reset": reset})).await;
        assert!(save(&lab, &number).await.is_none());
        assert_eq!(commits(&lab, &number).await, []);
        lab.fault("BatchSave", json!({"kind": "drop", "when": "after", "reset": reset})).await;
        assert!(save(&lab, &number).await.is_none());
        assert_eq!(commits(&lab, &number).await, saved(false));
    }
}

/// Sends a save and leaves as soon as the condition holds, without having been answered.
async fn save_and_leave(lab: &Lab, number: &str, condition: impl Future<Output = ()>) {
    tokio::select! {
        answer = save(lab, number) => panic!("answered: {answer:?}"),
        () = condition => {}
    }
}

/// Waits until so many requests have come in, or, where asked for, have ended.
async fn until_requests(lab: &Lab, count: usize, ended: bool) {
    let reached = async {
        loop {
            let requests = lab.get("/admin/requests?operation=BatchSave").await;
            let counts = |request: &&Value| !ended || !request["duration_ms"].is_null();
            if requests.as_array().unwrap().iter().filter(counts).count() == count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), reached).await.expect("the requests in time");
}

#[tokio::test]
async fn a_hanging_answer_is_committed_and_waits_for_the_client_to_leave() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "hang", "when": "after"})).await;
    save_and_leave(&lab, "RK1", lab.until_documents(1)).await;
    until_requests(&lab, 1, true).await;
    assert_eq!(commits(&lab, "RK1").await, saved(false));
    lab.fault("BatchSave", json!({"kind": "hang", "when": "before"})).await;
    save_and_leave(&lab, "RK2", until_requests(&lab, 2, false)).await;
    until_requests(&lab, 2, true).await;
    assert_eq!(commits(&lab, "RK2").await, []);
}

#[tokio::test]
async fn a_client_that_leaves_during_a_delay_is_not_counted_as_answered() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "delay", "ms": 1000, "when": "after"})).await;
    save_and_leave(&lab, "RK1", lab.until_documents(1)).await;
    until_requests(&lab, 1, true).await;
    assert_eq!(commits(&lab, "RK1").await, saved(false));
}

#[tokio::test]
async fn a_delay_takes_its_time_and_then_answers_well() {
    let lab = Lab::start().await;
    for when in ["before", "after"] {
        lab.fault("BatchSave", json!({"kind": "delay", "ms": 150, "when": when})).await;
        let started = Instant::now();
        assert_eq!(save(&lab, when).await.unwrap().status, 200);
        assert!(started.elapsed() >= Duration::from_millis(150));
        assert_eq!(commits(&lab, when).await, saved(true));
    }
}

#[tokio::test]
async fn error_pages_and_server_exceptions_come_before_or_after_the_commit() {
    let lab = Lab::start().await;
    for (when, count) in [("before", 0), ("after", 1)] {
        let number = format!("RK-{when}");
        lab.fault("BatchSave", json!({"kind": "status", "code": 504, "when": when})).await;
        let answer = save(&lab, &number).await.unwrap();
        assert_eq!((answer.status, answer.body.starts_with("<html>")), (504, true));
        assert_eq!(commits(&lab, &number).await.len(), count);
    }
    for (when, count) in [("before", 0), ("after", 1)] {
        let number = format!("RX-{when}");
        lab.fault("BatchSave", json!({"kind": "response_error", "when": when, "message": "事务已中止"}))
            .await;
        let answer = save(&lab, &number).await.unwrap();
        assert!(answer.body.starts_with("response_error:{\"Message\":\"事务已中止\""), "{}", answer.body);
        assert_eq!((answer.status, commits(&lab, &number).await.len()), (200, count));
    }
}

#[tokio::test]
async fn damaged_answers_are_damaged_and_committed() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "half_body"})).await;
    let half = save(&lab, "HALF").await.unwrap();
    assert_eq!(half.received, half.promised / 2);
    lab.fault("BatchSave", json!({"kind": "wrong_length"})).await;
    let short = save(&lab, "SHORT").await.unwrap();
    assert!(serde_json::from_str::<Value>(&short.body).is_err() && short.body.len() == short.promised);
    lab.fault("BatchSave", json!({"kind": "invalid_json"})).await;
    let broken = save(&lab, "BROKEN").await.unwrap();
    assert!(serde_json::from_str::<Value>(&broken.body).is_err() && broken.received == broken.promised);
    for number in ["HALF", "SHORT", "BROKEN"] {
        assert_eq!(commits(&lab, number).await, saved(false), "{number}");
    }
}

#[tokio::test]
async fn a_slow_answer_arrives_whole_in_the_end() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "slow_answer", "ms": 200})).await;
    let started = Instant::now();
    let answer = save(&lab, "RK1").await.unwrap();
    assert_eq!(answer.json()["Result"]["ResponseStatus"]["IsSuccess"], true);
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn refusals_do_nothing_and_have_kingdees_shape() {
    let lab = Lab::start().await;
    let cases = [
        (json!({"kind": "session_lost"}), 1, "会话信息已丢失"),
        (json!({"kind": "conflict"}), 13, "冲突，请稍候再使用"),
        (json!({"kind": "call_limit"}), 14, "上限"),
        (json!({"kind": "refuse", "msg_code": 7, "message": "子系统未购买"}), 7, "子系统未购买"),
    ];
    for (action, code, text) in cases {
        lab.fault("BatchSave", action).await;
        let status = save(&lab, "RK1").await.unwrap().json()["Result"]["ResponseStatus"].clone();
        assert_eq!((&status["IsSuccess"], &status["MsgCode"]), (&json!(false), &json!(code)));
        assert!(status["Errors"][0]["Message"].as_str().unwrap().contains(text));
    }
    lab.fault("ExecuteBillQuery", json!({"kind": "session_lost"})).await;
    let query = lab.kingdee("ExecuteBillQuery", json!({"data": {}})).await.unwrap().json();
    assert_eq!(query[0][0]["Result"]["ResponseStatus"]["MsgCode"], 1);
    lab.fault("BatchSave", json!({"kind": "login_page"})).await;
    let page = save(&lab, "RK1").await.unwrap();
    assert_eq!((page.status, page.body.starts_with('<')), (200, true));
    assert_eq!(lab.documents().await, 0);
}

#[tokio::test]
async fn a_zombie_commits_after_its_connection_is_gone() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "zombie", "ms": 500})).await;
    assert!(save(&lab, "RK1").await.is_none());
    assert_eq!(lab.documents().await, 0);
    lab.until_documents(1).await;
    assert_eq!(commits(&lab, "RK1").await, saved(false));
}

#[tokio::test]
async fn a_zombie_with_a_status_answers_it_and_commits_afterwards() {
    let lab = Lab::start().await;
    let busy = json!({"kind": "zombie", "ms": 500, "code": 503, "retry_after": 5});
    lab.fault("BatchSave", busy).await;
    let answer = save(&lab, "RK1").await.unwrap();
    assert!(answer.status == 503 && answer.head.to_lowercase().contains("retry-after: 5"), "{}", answer.head);
    assert_eq!(lab.documents().await, 0);
    lab.until_documents(1).await;
}

#[tokio::test]
async fn two_saves_within_the_check_gap_make_a_visible_duplicate() {
    let lab = Lab::start().await;
    let gap = json!({"count": 2, "operation": "BatchSave", "action": {"kind": "check_gap", "ms": 800}});
    lab.post("/admin/faults", gap).await;
    let (one, other) = tokio::join!(save(&lab, "RK1"), save(&lab, "RK1"));
    for answer in [one, other] {
        assert_eq!(answer.unwrap().json()["Result"]["ResponseStatus"]["IsSuccess"], true);
    }
    assert_eq!(lab.get("/admin/kingdee/summary").await["duplicates"], json!(["RK1"]));
    let third = lab.save(&[model("RK1")]).await;
    assert_eq!(third["MsgCode"], 11);
}

#[tokio::test]
async fn a_key_finds_its_document_in_saves_steps_and_queries() {
    let lab = Lab::start().await;
    let rule = json!({"key": "RK2", "count": null, "action": {"kind": "conflict"}});
    let id = lab.post("/admin/faults", rule).await["ids"][0].clone();
    assert_eq!(lab.save(&[model("RK1")]).await["IsSuccess"], true);
    assert_eq!(lab.save(&[model("RK3"), model("RK2")]).await["MsgCode"], 13);
    assert_eq!(lab.get("/admin/faults").await[0]["struck"], 1);
    let cleared = lab.send("DELETE", &format!("/admin/faults/{id}"), &[], "").await.unwrap();
    assert_eq!(cleared.status, 200);
    let saved = lab.save(&[model("RK2")]).await;
    lab.post("/admin/faults", json!({"key": "RK2", "count": null, "action": {"kind": "conflict"}})).await;
    let ids = saved["SuccessEntitys"][0]["Id"].to_string();
    let submit = json!({"formid": "STK_InStock", "data": {"Ids": ids}});
    let answer = lab.kingdee("Submit", submit).await.unwrap().json();
    assert_eq!(answer["Result"]["ResponseStatus"]["MsgCode"], 13);
    let query = json!({"data": {"FormId": "STK_InStock", "FieldKeys": "FID", "FilterString": "FBillNo in ('RK1','RK2')"}});
    let answer = lab.kingdee("ExecuteBillQuery", query).await.unwrap().json();
    assert_eq!(answer[0][0]["Result"]["ResponseStatus"]["MsgCode"], 13);
}

#[tokio::test]
async fn wdts_limits_bans_and_wrong_counts() {
    let lab = Lab::start().await;
    let window = json!({"start_time": START, "end_time": END, "status": "80"});
    let method = "wdt.wms.stockin.purchase.querywithdetail";
    let mut answers = Vec::new();
    for action in [
        json!({"kind": "rate_limit"}),
        json!({"kind": "ban", "seconds": 7}),
        json!({"kind": "ban", "seconds": 7, "classic": true}),
        json!({"kind": "isp_error"}),
        json!({"kind": "wdt_error", "status": 4, "message": "数据库错误"}),
        json!({"kind": "wrong_total", "add": 3}),
    ] {
        lab.fault(method, action).await;
        answers.push(lab.qimen(window.clone(), 1, 20).await.unwrap().json());
    }
    assert_eq!(answers[0]["response"]["status"], 100);
    assert!(answers[0]["response"]["message"].as_str().unwrap().starts_with("超过每分钟最大调用频率限制"));
    let ban = &answers[1]["response"];
    assert_eq!((&ban["flag"], &ban["code"]), (&json!("failure"), &json!(7)));
    assert_eq!(ban["sub_message"], "This ban will last for 7 more seconds");
    assert_eq!(answers[2]["error_response"]["sub_msg"], "This ban will last for 7 more seconds");
    assert_eq!(answers[3]["response"]["sub_code"], "isp.remote-connection-timeout");
    assert_eq!(answers[4]["response"]["status"], 4);
    assert_eq!(answers[5]["response"]["data"]["total_count"], 63);
    assert_eq!(answers[5]["response"]["data"]["order"].as_array().unwrap().len(), 20);
}

/// Arms a fault and gives back its id, to clear it by.
async fn armed(lab: &Lab, operation: &str, action: Value) -> Value {
    let rule = json!({"operation": operation, "action": action});
    lab.post("/admin/faults", rule).await["ids"][0].clone()
}

async fn clear(lab: &Lab, id: &Value) {
    assert_eq!(lab.send("DELETE", &format!("/admin/faults/{id}"), &[], "").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_held_request_goes_on_when_its_rule_is_cleared() {
    let lab = Lab::start().await;
    for (when, number, requests, documents) in [("before", "RK1", 1, 0), ("after", "RK2", 2, 2)] {
        let id = armed(&lab, "BatchSave", json!({"kind": "hold", "when": when})).await;
        let release = async {
            until_requests(&lab, requests, false).await;
            lab.until_documents(documents).await;
            clear(&lab, &id).await;
        };
        let (answer, ()) = tokio::join!(save(&lab, number), release);
        assert_eq!(answer.unwrap().json()["Result"]["ResponseStatus"]["IsSuccess"], true);
        assert_eq!(commits(&lab, number).await, saved(true));
    }
}

#[tokio::test]
async fn a_zombie_without_a_time_commits_when_its_rule_is_cleared() {
    let lab = Lab::start().await;
    let id = armed(&lab, "BatchSave", json!({"kind": "zombie"})).await;
    assert!(save(&lab, "RK1").await.is_none());
    assert_eq!(lab.documents().await, 0);
    clear(&lab, &id).await;
    lab.until_documents(1).await;
    assert_eq!(commits(&lab, "RK1").await, saved(false));
}

#[tokio::test]
async fn a_batch_of_all_or_nothing_names_only_those_that_are_refused() {
    let lab = Lab::start().await;
    let mut bad = model("RK2");
    bad["FSupplierId"]["FNumber"] = json!("GYS0999");
    lab.fault("BatchSave", json!({"kind": "all_or_nothing"})).await;
    let status = lab.save(&[model("RK1"), bad.clone()]).await;
    assert_eq!((&status["IsSuccess"], &status["SuccessEntitys"]), (&json!(false), &json!([])));
    let errors = status["Errors"].as_array().unwrap();
    assert!(!errors.is_empty() && errors.iter().all(|error| error["DIndex"] == 1), "{status}");
    assert_eq!(lab.documents().await, 0);
    lab.fault("BatchSave", json!({"kind": "wrong_index", "add": 1})).await;
    let status = lab.save(&[model("RK1"), bad]).await;
    assert_eq!(
        (&status["Errors"][0]["DIndex"], &status["SuccessEntitys"][0]["DIndex"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(lab.documents().await, 1);
}

#[tokio::test]
async fn a_blind_query_has_no_rows_and_a_page_may_ask_to_wait_or_to_go_elsewhere() {
    let lab = Lab::start().await;
    lab.save(&[model("RK1")]).await;
    let query = json!({"data": {"FormId": "STK_InStock", "FieldKeys": "FBillNo", "FilterString": ""}});
    lab.fault("ExecuteBillQuery", json!({"kind": "blind"})).await;
    assert_eq!(lab.kingdee("ExecuteBillQuery", query.clone()).await.unwrap().json(), json!([]));
    assert_eq!(lab.kingdee("ExecuteBillQuery", query).await.unwrap().json(), json!([["RK1"]]));
    for (action, header) in [
        (json!({"kind": "status", "code": 429, "when": "before", "retry_after": 3}), "retry-after: 3"),
        (
            json!({"kind": "status", "code": 302, "when": "before", "location": "http://a/"}),
            "location: http://a/",
        ),
    ] {
        lab.fault("BatchSave", action).await;
        let head = save(&lab, "RK2").await.unwrap().head;
        assert!(head.contains(header), "{head}");
    }
    assert_eq!(lab.documents().await, 1);
}

#[tokio::test]
async fn answers_that_never_fit_are_committed_all_the_same() {
    let lab = Lab::start().await;
    lab.fault("BatchSave", json!({"kind": "gzip_bomb", "mib": 1})).await;
    let bomb = save(&lab, "BOMB").await.unwrap();
    assert!(bomb.head.contains("content-encoding: gzip") && bomb.promised < 10_000);
    lab.fault("BatchSave", json!({"kind": "half_body", "reset": true})).await;
    // The reset may overtake what was sent before it.
    assert!(save(&lab, "RESET").await.is_none_or(|answer| answer.received < answer.promised));
    assert_eq!(lab.documents().await, 2);
    lab.fault("BatchSave", json!({"kind": "endless_head"})).await;
    save_and_leave(&lab, "HEAD", lab.until_documents(3)).await;
    for number in ["BOMB", "RESET", "HEAD"] {
        assert_eq!(commits(&lab, number).await, saved(false), "{number}");
    }
}

#[tokio::test]
async fn an_account_set_without_unique_numbers_takes_a_number_twice() {
    let lab = Lab::with(Options { repeated_numbers: true, ..options() }).await;
    for _ in 0..2 {
        assert_eq!(lab.save(&[model("RK1")]).await["IsSuccess"], true);
    }
    assert_eq!(lab.get("/admin/kingdee/summary").await["duplicates"], json!(["RK1"]));
}
