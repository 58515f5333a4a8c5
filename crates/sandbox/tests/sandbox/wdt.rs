//! Both gateways: what they answer, and everything they refuse.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{END, Lab, START, beijing, encode, resign, signed_qimen};

fn window() -> Value {
    json!({"start_time": START, "end_time": END, "status": "80"})
}

fn numbers(orders: &Value) -> Vec<String> {
    orders.as_array().unwrap().iter().map(|order| order["order_no"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn both_gateways_page_through_the_same_orders_from_their_own_first_page() {
    let lab = Lab::start().await;
    let (mut qimen, mut direct) = (Vec::new(), Vec::new());
    for page in 0..3 {
        let answer = lab.qimen(window(), page + 1, 20).await.unwrap().json();
        let response = &answer["response"];
        assert!(response["status"] == "0" || response["status"] == 0, "{response}");
        assert_eq!(response["data"]["total_count"], 60);
        qimen.extend(numbers(&response["data"]["order"]));
        let answer = lab.direct(window(), page, &[]).await.json();
        assert_eq!((&answer["status"], &answer["data"]["total_count"]), (&json!(0), &json!(60)));
        direct.extend(numbers(&answer["data"]["order"]));
    }
    assert_eq!(qimen, direct);
    assert_eq!(qimen.iter().collect::<BTreeSet<_>>().len(), 60);
    let beyond = lab.qimen(window(), 4, 20).await.unwrap().json();
    assert_eq!(beyond["response"]["data"]["order"], json!([]));
    let without = lab.direct(window(), 0, &[("calc_total", "0")]).await.json();
    assert_eq!(without["data"].get("total_count"), None);
}

#[tokio::test]
async fn qimen_values_are_text_and_direct_values_are_mixed() {
    let lab = Lab::start().await;
    let qimen = lab.qimen(window(), 1, 60).await.unwrap().json();
    let direct = lab.direct(window(), 0, &[("page_size", "60")]).await.json();
    let shapes = |orders: &Value, line: &str| -> BTreeSet<bool> {
        let lines =
            orders.as_array().unwrap().iter().flat_map(|order| order["details_list"].as_array().unwrap());
        lines.map(|of| of[line].is_string()).collect()
    };
    assert_eq!(shapes(&qimen["response"]["data"]["order"], "src_price"), BTreeSet::from([true]));
    assert_eq!(shapes(&direct["data"]["order"], "src_price"), BTreeSet::from([false, true]));
}

#[tokio::test]
async fn the_interval_is_closed_and_filters_narrow_it() {
    let lab = Lab::start().await;
    let truth = lab.get("/admin/wdt/orders").await;
    let order =
        truth.as_array().unwrap().iter().find(|o| o["status"] == "80" && o["purchase_no"] != "").unwrap();
    let second = &order["modified"];
    let found = |params: Value| {
        let lab = &lab;
        async move { numbers(&lab.qimen(params, 1, 500).await.unwrap().json()["response"]["data"]["order"]) }
    };
    let number = order["order_no"].as_str().unwrap().to_owned();
    assert!(found(json!({"start_time": second, "end_time": second})).await.contains(&number));
    let one = json!({"start_time": START, "end_time": END, "stockin_no": number});
    assert_eq!(found(one).await, [number]);
    for (key, of) in [("warehouse_no", "warehouse_no"), ("purchase_no", "purchase_no"), ("status", "status")]
    {
        let same = truth.as_array().unwrap().iter().filter(|other| other[of] == order[of]).count();
        let params = json!({"start_time": START, "end_time": END, key: order[of]});
        assert_eq!(found(params).await.len(), same, "{key}");
    }
    let all = json!({"start_time": START, "end_time": END, "status": "10, 20,30,37,40,80"});
    assert_eq!(found(all).await.len(), 65);
}

#[tokio::test]
async fn wrong_criteria_and_pages_are_refused_in_the_vendors_words() {
    let lab = Lab::start().await;
    let message = |params: Value, page: u32, size: u32| {
        let lab = &lab;
        async move {
            let answer = lab.qimen(params, page, size).await.unwrap().json();
            let response = &answer["response"];
            format!("{} {}", response["status"], response["message"].as_str().unwrap_or_default())
        }
    };
    let cases = [
        (window(), 0, 20, "100 页号错误，page_no 从1开始"),
        (window(), 1, 501, "100 分页大小错误，page_size 最大为500"),
        (json!({"start_time": START}), 1, 20, "100 参数中必须包含起止时间，格式 yyyy-MM-dd HH:mm:ss"),
        (
            json!({"start_time": "2026/08/01 00:00:00", "end_time": END}),
            1,
            20,
            "100 参数中必须包含起止时间，格式 yyyy-MM-dd HH:mm:ss",
        ),
        (json!({"start_time": "2026-07-01 00:00:00", "end_time": END}), 1, 20, "100 查询时间不能大于30天"),
        (json!({"start_time": END, "end_time": START}), 1, 20, "100 开始时间不能大于结束时间"),
        (json!({"start_time": START, "end_time": END, "stock_no": "x"}), 1, 20, "2 未知参数 stock_no"),
    ];
    for (params, page, size, expected) in cases {
        assert_eq!(message(params, page, size).await, expected);
    }
    let direct = lab.direct(json!({"end_time": END}), 0, &[]).await.json();
    assert_eq!(direct["code"], 2102);
}

#[tokio::test]
async fn qimen_accepts_all_three_sign_methods_and_refuses_every_forgery() {
    let lab = Lab::start().await;
    for method in ["md5", "hmac", "hmac-sha256"] {
        let (query, form) = signed_qimen(window(), 1, 20, method, beijing(0));
        let target = format!("/router/qm?{}", encode(&query));
        let good = lab.send("POST", &target, &[], &encode(&form)).await.unwrap().json();
        assert_eq!(good["response"]["data"]["total_count"], 60, "{method}: {good}");
        let mut forged = form.clone();
        forged.insert("pager".to_owned(), r#"{"page_no":2,"page_size":20}"#.to_owned());
        let bad = lab.send("POST", &target, &[], &encode(&forged)).await.unwrap().json();
        assert_eq!((&bad["response"]["flag"], &bad["response"]["code"]), (&json!("failure"), &json!(25)));
    }
}

#[tokio::test]
async fn qimen_checks_every_parameter_behind_a_right_signature() {
    let lab = Lab::start().await;
    // Parameter, what it becomes (nothing takes it away), and the code or status of the answer.
    let cases = [
        ("target_app_key", None, 40),
        ("target_app_key", Some("1".to_owned()), 41),
        ("app_key", Some("1".to_owned()), 29),
        ("method", Some("wdt.wms.stockin.other.querywithdetail".to_owned()), 22),
        ("timestamp", Some(beijing(-700)), 31),
        ("timestamp", Some(beijing(500)), 0),
        ("wdt_sign", Some("0".repeat(32)), 1),
        ("wdt_salt", Some("other".to_owned()), 1),
        ("wdt3_customer_id", Some("other".to_owned()), 1),
        ("pager", None, 1),
    ];
    for (name, value, expected) in cases {
        let (mut query, mut form) = signed_qimen(window(), 1, 20, "md5", beijing(0));
        for parameters in [&mut query, &mut form] {
            match (parameters.contains_key(name), &value) {
                (false, _) => {}
                (true, Some(value)) => drop(parameters.insert(name.to_owned(), value.clone())),
                (true, None) => drop(parameters.remove(name)),
            }
        }
        resign(&mut query, &form);
        let target = format!("/router/qm?{}", encode(&query));
        let answer = lab.send("POST", &target, &[], &encode(&form)).await.unwrap().json();
        let response = &answer["response"];
        let code = if response["code"].is_null() { &response["status"] } else { &response["code"] };
        let code: i64 = code.to_string().replace('"', "").parse().unwrap();
        assert_eq!(code, expected, "{name} {value:?} {answer}");
    }
}

#[tokio::test]
async fn the_direct_gateway_refuses_forgeries_and_old_clocks() {
    let lab = Lab::start().await;
    let now = jiff::Timestamp::now().as_second() - 1_325_347_200;
    let (late, close) = ((now - 200).to_string(), (now + 60).to_string());
    let status = |change: Vec<(&'static str, String)>| {
        let lab = &lab;
        async move {
            let change: Vec<(&str, &str)> =
                change.iter().map(|(key, value)| (*key, value.as_str())).collect();
            lab.direct(window(), 0, &change).await.json()["status"].clone()
        }
    };
    assert_eq!(status(vec![("timestamp", close)]).await, 0);
    assert_eq!(status(vec![("timestamp", late)]).await, 7);
    assert_eq!(status(vec![("v", "2.0".to_owned())]).await, 8);
    assert_eq!(status(vec![("sid", "other".to_owned())]).await, 1);
    assert_eq!(status(vec![("page_no", String::new())]).await, 100);
    let unsigned = lab.send("POST", "/openapi?sid=example-sid&sign=0", &[], "[{}]").await.unwrap().json();
    assert_eq!(unsigned["status"], 1);
    lab.post("/admin/clock", json!({"skew_seconds": 300})).await;
    assert_eq!(status(vec![]).await, 7);
}
