use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use kingpost_wdt::{Class, Client, Origin, Query, SignMethod, Transport};
use md5::{Digest, Md5};

use crate::server::{Pairs, Seen, Server, json, names, pairs, time, value};

const QIMEN: &str = "wdt.wms.stockin.purchase.querywithdetail";
const DIRECT: &str = "wms.stockin.Purchase.queryWithDetail";
const EMPTY: &str = r#"{"status":0,"data":{"total_count":0,"order":[]}}"#;

/// The query of the vectors.
fn query() -> Query {
    Query {
        method: QIMEN.to_owned(),
        params: pairs(&[
            ("start_time", "2024-04-21 00:00:00"),
            ("end_time", "2024-04-22 00:00:00"),
            ("status", "80"),
        ]),
        page: 0,
        page_size: 50,
        want_total: true,
    }
}

/// The clock of the Qimen vectors: 2024-04-22 10:00:00 in Beijing.
fn at_ten(client: Client) -> Client {
    let now = time("2024-04-22T02:00:00Z");
    client.with_clock(move || now)
}

async fn sent(transport: Transport, query: &Query) -> Seen {
    let server = Server::start(json(EMPTY)).await;
    at_ten(server.client(transport)).query(query).await.unwrap();
    server.seen().remove(0)
}

fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text))
}

/// The signing rules once more, straight from the vendor's description and over what arrived.
fn joined(params: &Pairs) -> String {
    let mut sorted: Pairs = params.iter().filter(|(name, _)| name != "sign").cloned().collect();
    sorted.sort();
    sorted.into_iter().map(|(name, value)| name + &value).collect()
}

#[tokio::test]
async fn a_qimen_call_has_the_layout_and_the_signatures_of_the_worked_example() {
    let seen = sent(Transport::Qimen, &query()).await;
    assert_eq!(seen.path, "/router/qm");
    assert_eq!(seen.content_type, "application/x-www-form-urlencoded; charset=UTF-8");
    let protocol = ["app_key", "target_app_key", "method", "timestamp", "format", "v", "sign_method", "sign"];
    assert_eq!(names(&seen.query), protocol);
    let form = seen.form();
    let business = ["datetime", "wdt_appkey", "wdt_salt", "wdt3_customer_id", "pager", "params", "wdt_sign"];
    assert_eq!(names(&form), business);
    for (name, expected) in [
        ("app_key", "23000000"),
        ("target_app_key", "21363512"),
        ("method", QIMEN),
        ("timestamp", "2024-04-22 10:00:00"),
        ("format", "json"),
        ("v", "2.0"),
        ("sign_method", "md5"),
        ("sign", "3A2284B86AD10AF5353EB8CE1E943CC1"),
    ] {
        assert_eq!(value(&seen.query, name), expected, "{name}");
    }
    for (name, expected) in [
        ("datetime", "2024-04-22 10:00:00"),
        ("wdt_appkey", "demo_key"),
        ("wdt_salt", "salt"),
        ("wdt3_customer_id", "demo_sid"),
        ("pager", r#"{"page_no":1,"page_size":50}"#),
        ("params", r#"{"start_time":"2024-04-21 00:00:00","end_time":"2024-04-22 00:00:00","status":"80"}"#),
        ("wdt_sign", "d70cc44373d1996a150542a6ff1a9063"),
    ] {
        assert_eq!(value(&form, name), expected, "{name}");
    }
}

#[tokio::test]
async fn every_sign_method_signs_what_arrives() {
    for (method, sign) in [
        (SignMethod::Hmac, "EFAD2F8A1B47DD48E1B0ABA3CB79760A"),
        (SignMethod::HmacSha256, "4FCF6EBC983B4286342AE1102144AA11F83085D0B832E158F20F6CD22FB42B28"),
    ] {
        let server = Server::start(json(EMPTY)).await;
        let mut config = server.config(Transport::Qimen);
        config.qimen.as_mut().unwrap().sign_method = method;
        at_ten(Client::new(config).unwrap()).query(&query()).await.unwrap();
        let seen = server.seen().remove(0);
        assert_eq!(value(&seen.query, "sign_method"), method.as_str());
        assert_eq!(value(&seen.query, "sign"), sign);
    }
}

#[tokio::test]
async fn a_prefixed_method_is_sent_with_its_prefix_and_signed_by_wdt_without() {
    let prefixed = format!("3ldsmu02o9.{QIMEN}");
    let seen = sent(Transport::Qimen, &Query { method: prefixed.clone(), ..query() }).await;
    assert_eq!(value(&seen.query, "method"), prefixed);
    assert_eq!(value(&seen.form(), "wdt_sign"), "d70cc44373d1996a150542a6ff1a9063");
    let all: Pairs = seen.query.iter().cloned().chain(seen.form()).collect();
    assert_eq!(
        value(&seen.query, "sign"),
        md5(&format!("topsecret{}topsecret", joined(&all))).to_uppercase()
    );
}

#[tokio::test]
async fn awkward_values_are_signed_as_they_arrive() {
    for awkward in ["上海主仓①-退货区😀", "a b+c&d=e%20f", "'\"\\/", "{not json", "  x  ", "~*-._!()", "1e3"]
    {
        let params = pairs(&[("warehouse_no", awkward)]);
        let seen = sent(Transport::Qimen, &Query { params: params.clone(), ..query() }).await;
        let form = seen.form();
        let arrived: serde_json::Value = serde_json::from_str(value(&form, "params")).unwrap();
        assert_eq!(arrived["warehouse_no"], awkward);
        let flat = format!(
            "secretdatetime2024-04-22 10:00:00method{QIMEN}pagerpage_no1page_size50paramswarehouse_no{awkward}\
             wdt_appkeydemo_keywdt_saltsaltsecret"
        );
        assert_eq!(value(&form, "wdt_sign"), md5(&flat), "{awkward}");
        let all: Pairs = seen.query.iter().cloned().chain(form).collect();
        let outer = md5(&format!("topsecret{}topsecret", joined(&all))).to_uppercase();
        assert_eq!(value(&seen.query, "sign"), outer, "{awkward}");

        let seen = sent(Transport::Direct, &Query { params, ..query() }).await;
        let arrived: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(arrived[0]["warehouse_no"], awkward);
        let mut all = seen.query.clone();
        all.push(("body".to_owned(), seen.body.clone()));
        assert_eq!(value(&seen.query, "sign"), md5(&format!("secret{}secret", joined(&all))), "{awkward}");
    }
}

#[tokio::test]
async fn a_direct_call_has_its_parameters_in_the_query_and_one_argument_in_the_body() {
    let server = Server::start(json(EMPTY)).await;
    // The vectors' timestamp 388375200, counted from 2012-01-01 in Beijing.
    let client = server.client(Transport::Direct).with_clock(|| time("2024-04-21T18:00:00Z"));
    client.query(&query()).await.unwrap();
    let seen = server.seen().remove(0);
    assert_eq!(seen.path, "/openapi");
    assert_eq!(seen.content_type, "application/json");
    let expected = pairs(&[
        ("sid", "demo_sid"),
        ("key", "demo_key"),
        ("salt", "salt"),
        ("method", DIRECT),
        ("timestamp", "388375200"),
        ("v", "1.0"),
        ("page_size", "50"),
        ("page_no", "0"),
        ("calc_total", "1"),
        ("sign", "73191b4aaf0a26d6146f6446b962b70f"),
    ]);
    assert_eq!(seen.query, expected);
    assert_eq!(
        seen.body,
        r#"[{"start_time":"2024-04-21 00:00:00","end_time":"2024-04-22 00:00:00","status":"80"}]"#
    );
}

#[tokio::test]
async fn empty_criteria_are_never_sent() {
    let nothing = Query { params: pairs(&[("warehouse_no", ""), ("stockin_no", "  ")]), ..query() };
    let seen = sent(Transport::Qimen, &nothing).await;
    assert_eq!(value(&seen.form(), "params"), "{}");
    assert_eq!(value(&seen.form(), "wdt_sign"), "35bf2a1b170ffe0d7d5d1c3dc2584eef");
    assert_eq!(sent(Transport::Direct, &nothing).await.body, "[{}]");
}

#[tokio::test]
async fn pages_count_from_one_through_qimen_and_from_zero_directly() {
    let third = Query { page: 2, page_size: 7, want_total: false, ..query() };
    let seen = sent(Transport::Qimen, &third).await;
    assert_eq!(value(&seen.form(), "pager"), r#"{"page_no":3,"page_size":7}"#);
    let seen = sent(Transport::Direct, &third).await;
    assert_eq!(value(&seen.query, "page_no"), "2");
    assert_eq!(value(&seen.query, "page_size"), "7");
    assert_eq!(value(&seen.query, "calc_total"), "0");
}

#[tokio::test]
async fn a_method_is_translated_to_the_name_of_the_transport() {
    let by_direct_name = Query { method: DIRECT.to_owned(), ..query() };
    assert_eq!(value(&sent(Transport::Qimen, &by_direct_name).await.query, "method"), QIMEN);
    assert_eq!(value(&sent(Transport::Direct, &by_direct_name).await.query, "method"), DIRECT);
    let unknown = Query { method: "goods.Goods.queryWithSpec".to_owned(), ..query() };
    assert_eq!(value(&sent(Transport::Direct, &unknown).await.query, "method"), "goods.Goods.queryWithSpec");
}

#[tokio::test]
async fn every_call_is_signed_anew_with_the_time_of_the_clock() {
    let clock = Arc::new(AtomicI64::new(1_713_751_200));
    for (transport, field) in [(Transport::Qimen, "timestamp"), (Transport::Direct, "timestamp")] {
        let server = Server::start(json(EMPTY)).await;
        let ticking = Arc::clone(&clock);
        let client = server
            .client(transport)
            .with_clock(move || Timestamp::from_second(ticking.fetch_add(600, Ordering::Relaxed)).unwrap());
        client.query(&query()).await.unwrap();
        client.query(&query()).await.unwrap();
        let seen = server.seen();
        assert_ne!(value(&seen[0].query, field), value(&seen[1].query, field));
        assert_ne!(value(&seen[0].query, "sign"), value(&seen[1].query, "sign"));
        if transport == Transport::Qimen {
            assert_eq!(value(&seen[1].form(), "datetime"), value(&seen[1].query, "timestamp"));
            assert_ne!(value(&seen[0].form(), "wdt_sign"), value(&seen[1].form(), "wdt_sign"));
        }
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_right_is_refused_before_it_is_sent() {
    let server = Server::start(json(EMPTY)).await;
    for (transport, wrong, said) in [
        (Transport::Qimen, Query { page_size: 0, ..query() }, "page size"),
        (Transport::Qimen, Query { method: String::new(), ..query() }, "method is empty"),
        (Transport::Qimen, Query { method: "goods.Goods.x".to_owned(), ..query() }, "begins with wdt."),
        (Transport::Direct, Query { method: "wdt.goods.x".to_owned(), ..query() }, "direct name"),
        (Transport::Direct, Query { params: pairs(&[("a", "[1]")]), ..query() }, "JSON text"),
        (Transport::Direct, Query { params: pairs(&[("a", "1"), ("a", "1")]), ..query() }, "twice"),
    ] {
        let error = server.client(transport).query(&wrong).await.unwrap_err();
        assert_eq!((error.class, error.origin), (Class::Permanent, Origin::Request));
        assert!(error.to_string().contains(said), "{error}");
    }
    assert!(server.seen().is_empty());
}
