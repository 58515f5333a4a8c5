use std::time::Duration;

use kingpost_wdt::{Class, Client, Origin, Page, Query, Transport, WdtError};

use crate::server::{Reply, Server, config, json, raw_server, time};

const PURCHASE: &str = "wms.stockin.Purchase.queryWithDetail";

fn query(method: &str) -> Query {
    Query { method: method.to_owned(), params: Vec::new(), page: 0, page_size: 50, want_total: true }
}

async fn ask(transport: Transport, method: &str, reply: Reply) -> Result<Page, WdtError> {
    let server = Server::start(reply).await;
    server.client(transport).query(&query(method)).await
}

async fn page(body: &str) -> Page {
    ask(Transport::Qimen, PURCHASE, json(body)).await.unwrap_or_else(|error| panic!("{body}: {error}"))
}

async fn error(transport: Transport, body: &str) -> WdtError {
    match ask(transport, PURCHASE, json(body)).await {
        Ok(page) => panic!("{body}: {page:?}"),
        Err(error) => error,
    }
}

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|row| row.key.as_deref().unwrap_or("(none)")).collect()
}

#[tokio::test]
async fn success_is_read_in_every_envelope() {
    for body in [
        r#"{"status":0,"data":{"total_count":2,"order":[{"order_no":"A"},{"order_no":"B"}]}}"#,
        r#"{"response":{"status":0,"data":{"total_count":2,"order":[{"order_no":"A"},{"order_no":"B"}]},"request_id":"r"}}"#,
        r#"{"response":{"status":"0","flag":"","message":"","data":{"total_count":"2","order":[{"order_no":"A"},{"order_no":"B"}]}}}"#,
        r#"{"wdt_wms_response":{"status":0,"flag":null,"data":{"total_count":2.0,"order":[{"order_no":"A"},{"order_no":"B"}]}}}"#,
        r#"{"total_count":2,"order":[{"order_no":"A"},{"order_no":"B"}]}"#,
        r#"{"response":{"total_count":2,"order":[{"order_no":"A"},{"order_no":"B"}]}}"#,
        "\n {\"status\" : 0 , \"data\" : {\"total_count\":2,\"order\":[ {\"order_no\":\"A\"} , {\"order_no\":\"B\"} ]}} \n",
    ] {
        let page = page(body).await;
        assert_eq!(keys(&page), ["A", "B"], "{body}");
        assert_eq!(page.total, Some(2), "{body}");
        assert_eq!(page.rows[0].body, r#"{"order_no":"A"}"#, "{body}");
    }
}

#[tokio::test]
async fn the_list_is_found_in_every_wrapping() {
    for data in [
        r#"{"order":[{"order_no":"A"},{"order_no":"B"}]}"#,
        r#"{"order_list":[{"order_no":"A"},{"order_no":"B"}]}"#,
        r#"{"pd_list":[{"order_no":"A"},{"order_no":"B"}],"extra":[1]}"#,
        r#"{"pd_detail_list":[{"order_no":"A"},{"order_no":"B"}]}"#,
        r#"{"order":{"order":[{"order_no":"A"},{"order_no":"B"}]}}"#,
        r#"{"order":"[{\"order_no\":\"A\"},{\"order_no\":\"B\"}]"}"#,
        r#"{"order":{"order":"[{\"order_no\":\"A\"},{\"order_no\":\"B\"}]"}}"#,
        r#"{"order":["{\"order_no\":\"A\"}","{\"order_no\":\"B\"}"]}"#,
        r#"{"goods_list":[{"order_no":"A"},{"order_no":"B"}]}"#,
        r#"[{"order_no":"A"},{"order_no":"B"}]"#,
        r#""{\"order\":[{\"order_no\":\"A\"},{\"order_no\":\"B\"}]}""#,
    ] {
        let page = page(&format!(r#"{{"response":{{"status":0,"data":{data}}}}}"#)).await;
        assert_eq!(keys(&page), ["A", "B"], "{data}");
        assert_eq!(page.rows[1].body, r#"{"order_no":"B"}"#, "{data}");
        assert_eq!(page.total, None);
    }
}

#[tokio::test]
async fn a_single_object_is_a_row() {
    for data in [r#"{"order":{"order_no":"A","n":1}}"#, r#"{"order":{"order":{"order_no":"A","n":1}}}"#] {
        let page = page(&format!(r#"{{"status":0,"data":{data}}}"#)).await;
        assert_eq!(keys(&page), ["A"], "{data}");
    }
}

#[tokio::test]
async fn success_without_rows_is_an_empty_page_only_when_nothing_is_counted() {
    for (body, total) in [
        (r#"{"response":{"status":0}}"#, None),
        (r#"{"status":0,"data":null}"#, None),
        (r#"{"status":0,"data":""}"#, None),
        (r#"{"status":0,"data":{}}"#, None),
        (r#"{"status":0,"data":{"total_count":0}}"#, Some(0)),
        (r#"{"status":0,"data":{"total_count":0,"order":""}}"#, Some(0)),
        (r#"{"status":0,"data":{"total_count":"0","order":null}}"#, Some(0)),
        (r#"{"status":0,"data":{"order":{}}}"#, None),
        (r#"{"status":0,"data":{"total_count":0,"order":null,"hints":["x"]}}"#, Some(0)),
        (r#"{"status":0,"data":{"total_count":""}}"#, None),
        // A page behind the last one, after documents have left the window.
        (r#"{"status":0,"data":{"total_count":120,"order":[]}}"#, Some(120)),
    ] {
        let page = page(body).await;
        assert_eq!((page.rows, page.total), (Vec::new(), total), "{body}");
    }
    for body in [
        r#"{"status":0,"data":{"total_count":3}}"#,
        r#"{"status":0,"data":{"total_count":"3","order":null}}"#,
        r#"{"status":0,"data":{"total_count":3,"order":"x"}}"#,
        r#"{"status":0,"data":{"total_count":"many"}}"#,
        r#"{"status":0,"data":{"total_count":-1}}"#,
        r#"{"status":0,"data":{"order":7}}"#,
        r#"{"status":0,"data":7}"#,
        r#"{"status":0,"data":{"a_list":[{"x":1}],"b_list":[{"x":1}]}}"#,
    ] {
        assert_eq!(error(Transport::Direct, body).await.class, Class::Malformed, "{body}");
    }
}

#[tokio::test]
async fn key_and_time_of_a_row_are_read_from_any_type() {
    let body = r#"{"status":0,"data":{"order":[
        {"order_no":"RK1 ","modified":1676964121000,"price":1.50,"x":{"order_no":"inner"}},
        {"order_no":1002,"modified":"1676964121000"},
        {"order_no":"RK3","modified":"2023-02-21 15:22:01"},
        {"order_no":"RK4","modified":"","modified_date":"2023-02-21 15:22:01"},
        {"order_no":" ","modified":"2023/02/21"},
        {"order_no":{"a":1},"modified":[]},
        "scrap"]}}"#;
    let page = page(body).await;
    assert_eq!(keys(&page), ["RK1 ", "1002", "RK3", "RK4", "(none)", "(none)", "(none)"]);
    let expected = time("2023-02-21T07:22:01Z");
    let times: Vec<_> = page.rows.iter().map(|row| row.modified).collect();
    assert_eq!(times, [[Some(expected); 4].as_slice(), &[None; 3]].concat());
    let raw = r#"{"order_no":"RK1 ","modified":1676964121000,"price":1.50,"x":{"order_no":"inner"}}"#;
    assert_eq!(page.rows[0].body, raw);
    assert_eq!(page.rows[0].field("price").as_deref(), Some("1.50"));
    assert_eq!(page.rows[6].body, r#""scrap""#);
    assert_eq!(page.rows[6].field("price"), None);
}

#[tokio::test]
async fn the_key_member_is_the_one_of_the_method() {
    for (method, body) in [
        ("wdt.purchase.purchaseorder.querywithdetail", r#"{"purchase_no":"K","order_no":"x"}"#),
        ("wms.stocktransfer.Manage.queryWithDetail", r#"{"transfer_no":"K","order_no":"x"}"#),
        ("wms.stockother.InQuery.queryWithDetail", r#"{"other_in_no":"K","order_no":"x"}"#),
        ("wdt.some.new.method", r#"{"order_no":"K"}"#),
    ] {
        let reply = json(&format!(r#"{{"status":0,"data":{{"order":[{body}]}}}}"#));
        assert_eq!(keys(&ask(Transport::Qimen, method, reply).await.unwrap()), ["K"], "{method}");
    }
}

/// Body, class, code, sub code.
type Case = (&'static str, Class, &'static str, &'static str);

async fn assert_told_by(transport: Transport, origin: Origin, cases: &[Case]) {
    for (body, class, code, sub_code) in cases {
        let error = error(transport, body).await;
        assert_eq!((error.class, error.origin), (*class, origin), "{body}");
        assert_eq!(error.code.as_deref().unwrap_or_default(), *code, "{body}");
        assert_eq!(error.sub_code.as_deref().unwrap_or_default(), *sub_code, "{body}");
        assert!(!error.text.is_empty() && !error.advice.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn a_failure_of_the_direct_gateway_is_told_in_each_of_its_shapes() {
    let cases = [
        (r#"{"status":100,"message":"单据不存在"}"#, Class::Permanent, "100", ""),
        (r#"{"status":7,"message":"时间戳错误"}"#, Class::Clock, "7", ""),
        (r#"{"code":2102,"message":"起止时间错误"}"#, Class::Permanent, "2102", ""),
        (r#"{"message":"权限不足"}"#, Class::Configuration, "", ""),
        ("[]", Class::Retryable, "", ""),
        (r#"{"status":null,"data":{"order":[{"order_no":"A"}]},"x":1}"#, Class::Retryable, "", ""),
    ];
    assert_told_by(Transport::Direct, Origin::Business, &cases).await;
}

#[tokio::test]
async fn a_failure_of_wdt_behind_qimen_is_told_by_its_status() {
    let cases = [
        (
            r#"{"response":{"status":"100","message":"查询时间不能大于30天"}}"#,
            Class::WindowTooWide,
            "100",
            "",
        ),
        (r#"{"response":{"status":100,"message":"查询条件太过宽，请缩小"}}"#, Class::TooBroad, "100", ""),
        (r#"{"response":{"code":2102,"message":"x"}}"#, Class::Permanent, "2102", ""),
        (r#"{"response":{"request_id":"r"}}"#, Class::Retryable, "", ""),
        ("{}", Class::Retryable, "", ""),
    ];
    assert_told_by(Transport::Qimen, Origin::Business, &cases).await;
}

#[tokio::test]
async fn a_failure_of_the_gateway_is_told_by_its_flag_its_root_or_its_codes() {
    let flagged =
        r#"{"response":{"flag":"failure","code":25,"message":"Invalid signature","request_id":"r"}}"#;
    let remote = r#"{"response":{"flag":"failure","code":"15","sub_code":"isp.remote-connection-timeout",
        "sub_message":"x"}}"#;
    let despite_status =
        r#"{"response":{"flag":"Failure","status":0,"code":41,"message":"x","data":{"order":[]}}}"#;
    let classic = r#"{"error_response":{"code":7,"msg":"App Call Limited","request_id":"r",
        "sub_code":"accesscontrol.limited-by-api-access-count",
        "sub_msg":"This ban will last for 2 more seconds"}}"#;
    let unflagged = r#"{"response":{"code":31,"message":"Invalid timestamp"}}"#;
    let by_sub_code = r#"{"response":{"code":7,"message":"x","sub_code":"accesscontrol.limited-by-x"}}"#;
    let ban = Class::Throttled { wait: Some(Duration::from_secs(3)) };
    let cases = [
        (flagged, Class::Configuration, "25", ""),
        (remote, Class::Retryable, "15", "isp.remote-connection-timeout"),
        (despite_status, Class::Permanent, "41", ""),
        (classic, ban, "7", "accesscontrol.limited-by-api-access-count"),
        (unflagged, Class::Clock, "31", ""),
        (by_sub_code, Class::Throttled { wait: None }, "7", "accesscontrol.limited-by-x"),
    ];
    assert_told_by(Transport::Qimen, Origin::Gateway, &cases).await;
}

#[tokio::test]
async fn an_error_keeps_the_words_of_the_other_side_and_its_request_number() {
    let body = r#"{"response":{"flag":"failure","code":25,"message":"Invalid signature","sub_message":"sign is wrong","request_id":"15qzd9btbeym5"}}"#;
    let error = error(Transport::Qimen, body).await;
    assert_eq!(error.text, "Invalid signature; sign is wrong [request 15qzd9btbeym5]");
    assert_eq!(
        error.to_string(),
        "wdt gateway: configuration refused (code 25): Invalid signature; sign is wrong [request 15qzd9btbeym5]: \
         check the app key, its secret and the sign method of the gateway"
    );
}

#[tokio::test]
async fn a_refused_timestamp_says_how_far_the_clocks_are_apart() {
    let mut reply = json(r#"{"status":7,"message":"timestamp"}"#);
    reply.headers.push(("date", "Mon, 22 Apr 2024 02:05:00 GMT".to_owned()));
    let server = Server::start(reply).await;
    let client = server.client(Transport::Direct).with_clock(|| time("2024-04-22T02:00:00Z"));
    let error = client.query(&query(PURCHASE)).await.unwrap_err();
    assert_eq!(error.class, Class::Clock);
    assert!(error.text.contains("300 s ahead of ours"), "{error}");
}

#[tokio::test]
async fn a_bad_http_status_is_no_answer_whatever_its_body() {
    let good = r#"{"status":0,"data":{"order":[{"order_no":"A"}]}}"#;
    for status in [301, 403, 404, 500, 502, 503] {
        let error = ask(Transport::Qimen, PURCHASE, Reply { status, ..json(good) }).await.unwrap_err();
        assert_eq!((error.class, error.origin), (Class::Transport, Origin::Http), "{status}");
        assert_eq!(error.code, Some(status.to_string()));
    }
    let mut reply = Reply { status: 429, ..json("{}") };
    reply.headers.push(("retry-after", "9".to_owned()));
    let error = ask(Transport::Qimen, PURCHASE, reply).await.unwrap_err();
    assert_eq!(error.class, Class::Throttled { wait: Some(Duration::from_secs(10)) });
}

#[tokio::test]
async fn what_is_no_json_is_no_answer() {
    for body in
        ["", "<html>502</html>", r#"{"status":0,"data":{"order":[{"order_no":"A"}"#, "{} x", "status=0"]
    {
        let error = error(Transport::Direct, body).await;
        assert_eq!((error.class, error.origin), (Class::Transport, Origin::Http), "{body}");
        assert!(!error.text.contains("html"), "{error}");
    }
}

#[tokio::test]
async fn a_broken_exchange_is_no_answer() {
    let unused = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let half =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"status\":0";
    for (what, address) in [
        ("refused", unused),
        ("reset", raw_server("", true).await),
        ("half a body", raw_server(half, true).await),
        ("no answer in time", raw_server("", false).await),
        ("no whole answer in time", raw_server(half, false).await),
    ] {
        let client = Client::new(config(&address, Transport::Direct)).unwrap();
        let error =
            client.with_timeout(Duration::from_millis(300)).query(&query(PURCHASE)).await.unwrap_err();
        assert_eq!((error.class, error.origin), (Class::Transport, Origin::Http), "{what}");
        assert!(error.code.is_none(), "{what}");
        assert!(!error.to_string().contains("salt"), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_limit_reached_in_parallel_or_by_number_is_throttling() {
    for text in ["超过每分钟最大调用频率限制，请稍后重试", "超过每分钟最大并发次数限制,请稍后重试"]
    {
        let body = format!(r#"{{"response":{{"status":100,"message":"{text}"}}}}"#);
        assert_eq!(error(Transport::Qimen, &body).await.class, Class::Throttled { wait: None }, "{text}");
    }
}
