//! Sessions: one login for all, renewed on evidence, and what a loss means for writes and reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kingpost_kingdee::{
    Auth, BillQuery, Class, Clock, KingdeeClient, KingdeeConfig, KingdeeError, LoginClass,
};

use crate::server::{Fake, LOST, NOW, Reply, SAVED, client, login, ok};

fn query() -> BillQuery {
    BillQuery { form: "STK_InStock".into(), fields: vec!["FID".into()], ..BillQuery::default() }
}

fn is_login(sent: &crate::server::Sent) -> bool {
    sent.method() == "LoginBySign"
}

#[tokio::test]
async fn concurrent_calls_share_one_login_and_its_cookies() {
    let fake = Fake::start(|sent, _| if is_login(sent) { login("s1") } else { ok(SAVED) }).await;
    let client = fake.client(Auth::LoginBySign);
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.submit("STK_InStock", &["1"]).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().is_success);
    }
    let sent = fake.sent();
    assert_eq!(sent.iter().filter(|sent| is_login(sent)).count(), 1);
    assert_eq!(sent[0].path, "/k3cloud/Kingdee.BOS.WebApi.ServicesStub.AuthService.LoginBySign.common.kdsvc");
    assert_eq!(
        sent[0].body,
        format!(
            r#"{{"parameters":["60a1b2c3d4e5f6","integration","234567_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u","{NOW}","afdbb4548e7efdc82167784484dccdda10d8bdc27ce09850143853d033327d79",2052]}}"#
        )
    );
    for call in &sent[1..] {
        assert_eq!(call.header("kdservice-sessionid"), "s1");
        assert_eq!(call.header("cookie"), "kdservice-sessionid=s1; ASP.NET_SessionId=asp1");
        assert_eq!(call.header("x-kd-signature"), "");
    }
}

#[tokio::test]
async fn a_lost_session_is_reported_for_a_write_and_the_next_call_logs_in_again() {
    let fake = Fake::start(|sent, before| match sent.method() {
        "LoginBySign" => login(if before == 0 { "s1" } else { "s2" }),
        _ if sent.header("kdservice-sessionid") == "s1" && before > 0 => ok(LOST),
        _ => ok(SAVED),
    })
    .await;
    let client = fake.client(Auth::LoginBySign);
    let save = || async { client.batch_save("STK_InStock", &[], &["{}".into()]).await };
    save().await.unwrap();
    let error = save().await.unwrap_err();
    assert!(matches!(error, KingdeeError::Session { after_login: false, .. }), "{error:?}");
    assert!(error.look_up_first() && !error.is_turned_away(), "Kingdee has answered");
    assert_eq!(fake.methods(), ["LoginBySign", "BatchSave", "BatchSave"], "no write is repeated");
    save().await.unwrap();
    assert_eq!(fake.methods()[3..], ["LoginBySign", "BatchSave"]);
    assert_eq!(fake.sent()[4].header("kdservice-sessionid"), "s2");
}

#[tokio::test]
async fn a_lost_session_is_renewed_once_for_a_read() {
    let fake = Fake::start(|sent, before| match sent.method() {
        "LoginBySign" => login("s"),
        _ if before == 1 => ok(format!("[[{LOST}]]")),
        _ => ok("[[1]]"),
    })
    .await;
    let client = fake.client(Auth::LoginBySign);
    client.execute_bill_query(&query()).await.unwrap();
    assert_eq!(client.execute_bill_query(&query()).await.unwrap().len(), 1);
    assert_eq!(
        fake.methods(),
        ["LoginBySign", "ExecuteBillQuery", "ExecuteBillQuery", "LoginBySign", "ExecuteBillQuery"]
    );
}

#[tokio::test]
async fn a_session_lost_straight_after_its_login_is_a_matter_of_configuration() {
    let fake =
        Fake::start(|sent, _| if is_login(sent) { login("s") } else { ok(format!("[[{LOST}]]")) }).await;
    let error = fake.client(Auth::LoginBySign).execute_bill_query(&query()).await.unwrap_err();
    assert!(matches!(error, KingdeeError::Session { after_login: true, .. }), "{error:?}");
    assert_eq!(error.class(), Class::Config);
    assert_eq!(fake.methods(), ["LoginBySign", "ExecuteBillQuery"], "no loop of logins");
}

#[tokio::test]
async fn a_signed_call_that_never_worked_is_a_matter_of_configuration() {
    for reply in [LOST, "response_error:{\"Message\":\"Fail to verify thirty passport\"}"] {
        let fake = Fake::start(move |_, _| ok(reply)).await;
        let error = fake.client(Auth::SignHeaders).submit("STK_InStock", &["1"]).await.unwrap_err();
        assert_eq!(error.class(), Class::Config, "{error:?}");
    }
}

#[tokio::test]
async fn a_signed_call_that_worked_before_is_lost_once_and_then_configuration() {
    let fake = Fake::start(|_, before| ok(if before == 0 { SAVED } else { LOST })).await;
    let client = fake.client(Auth::SignHeaders);
    client.submit("STK_InStock", &["1"]).await.unwrap();
    let classes = [
        client.submit("STK_InStock", &["1"]).await.unwrap_err(),
        client.submit("STK_InStock", &["1"]).await.unwrap_err(),
    ]
    .map(|error| error.class());
    assert_eq!(classes, [Class::SessionLost, Class::Config]);
}

#[tokio::test]
async fn the_code_of_a_lost_session_with_a_text_of_configuration_is_configuration() {
    let body = r#"{"Result":{"ResponseStatus":{"IsSuccess":false,"MsgCode":1,"SuccessEntitys":[],"Errors":[{"Message":"第三方应用：示例 不允许用户integration 登录，请联系系统管理员添加！"}]}}}"#;
    let fake = Fake::start(move |_, before| ok(if before == 0 { SAVED } else { body })).await;
    let client = fake.client(Auth::SignHeaders);
    client.submit("STK_InStock", &["1"]).await.unwrap();
    let error = client.submit("STK_InStock", &["1"]).await.unwrap_err();
    assert!(matches!(error, KingdeeError::Session { after_login: true, .. }), "{error:?}");
}

#[tokio::test]
async fn status_401_and_a_redirect_drop_the_session() {
    for status in [401, 302] {
        let fake = Fake::start(move |sent, before| match sent.method() {
            "LoginBySign" => login("s"),
            _ if before == 1 => Reply { status, ..Reply::default() },
            _ => ok(SAVED),
        })
        .await;
        let client = fake.client(Auth::LoginBySign);
        client.submit("STK_InStock", &["1"]).await.unwrap();
        let error = client.submit("STK_InStock", &["1"]).await.unwrap_err();
        assert_eq!(error.class(), Class::SessionLost, "{status}: {error:?}");
        client.submit("STK_InStock", &["1"]).await.unwrap();
        assert_eq!(fake.methods().iter().filter(|method| *method == "LoginBySign").count(), 2);
    }
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_at_once() {
    let fake = Fake::start(|_, _| {
        ok(r#"{"Message":"密码错误","MessageCode":null,"LoginResultType":0,"KDSVCSessionId":null}"#)
    })
    .await;
    let client = fake.client(Auth::LoginBySign);
    for _ in 0..3 {
        let error = client.submit("STK_InStock", &["1"]).await.unwrap_err();
        let KingdeeError::LoginRefused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!((refusal.result_type, refusal.class), (Some(0), LoginClass::Config));
        assert!(refusal.message.contains("密码错误") && !error.look_up_first());
        assert_eq!(error.class(), Class::Config);
    }
    assert_eq!(fake.methods(), ["LoginBySign"], "repeated tries may lock the account");
}

#[derive(Default)]
struct Moving(AtomicU64);

impl Clock for Moving {
    fn unix_seconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_refused_login_is_tried_again_after_a_minute() {
    let fake = Fake::start(|sent, before| match sent.method() {
        "LoginBySign" if before == 0 => ok(r#"{"Message":"密码错误","LoginResultType":0}"#),
        "LoginBySign" => login("s"),
        _ => ok(SAVED),
    })
    .await;
    let clock = Arc::new(Moving::default());
    let client = KingdeeClient::with_clock(fake.config(Auth::LoginBySign), clock.clone()).unwrap();
    for seconds in [1000, 1059] {
        clock.0.store(seconds, Ordering::SeqCst);
        assert!(matches!(client.submit("STK_InStock", &["1"]).await, Err(KingdeeError::LoginRefused(_))));
    }
    clock.0.store(1060, Ordering::SeqCst);
    client.submit("STK_InStock", &["1"]).await.unwrap();
    assert_eq!(fake.methods(), ["LoginBySign", "LoginBySign", "Submit"]);
}

#[tokio::test]
async fn a_login_that_fails_for_a_while_is_tried_again() {
    let fake = Fake::start(|sent, before| match sent.method() {
        "LoginBySign" if before == 0 => ok(r#"{"Message":"数据库连接失败","LoginResultType":"-1"}"#),
        "LoginBySign" if before == 1 => Reply { status: 503, ..Reply::default() },
        "LoginBySign" => login("s"),
        _ => ok(SAVED),
    })
    .await;
    let client = fake.client(Auth::LoginBySign);
    let first = client.submit("STK_InStock", &["1"]).await.unwrap_err();
    let second = client.submit("STK_InStock", &["1"]).await.unwrap_err();
    assert!(matches!(&first, KingdeeError::LoginRefused(refusal) if refusal.class == LoginClass::Transient));
    assert!(matches!(second, KingdeeError::NotSent { .. }), "the call itself was not made: {second:?}");
    assert_eq!([first.class(), second.class()], [Class::Transient, Class::Transient]);
    client.submit("STK_InStock", &["1"]).await.unwrap();
}

#[tokio::test]
async fn a_login_answered_with_a_status_or_a_page_says_what_came() {
    for (status, body, said) in [
        (200, LOST, "会话信息已丢失"),
        (404, "<html>no such site</html>", "no such site"),
        (200, "{\"a\":1}", "{\"a\":1}"),
    ] {
        let fake = Fake::start(move |_, _| Reply { status, body: body.into(), ..Reply::default() }).await;
        let error = fake.client(Auth::LoginBySign).submit("STK_InStock", &["1"]).await.unwrap_err();
        assert_eq!(error.class(), Class::Config, "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn the_session_id_of_a_cookie_or_of_json_in_a_string_serves_too() {
    let body = serde_json::to_string(r#"{"LoginResultType":1,"IsSuccessByAPI":true}"#).unwrap();
    let fake = Fake::start(move |sent, _| {
        if is_login(sent) { Reply { body: body.clone(), ..login("from-cookie") } } else { ok(SAVED) }
    })
    .await;
    fake.client(Auth::LoginBySign).submit("STK_InStock", &["1"]).await.unwrap();
    assert_eq!(fake.sent()[1].header("kdservice-sessionid"), "from-cookie");
}

#[tokio::test]
async fn a_session_is_switched_to_its_organisation_before_any_call() {
    let fake = Fake::start(|sent, _| if is_login(sent) { login("s") } else { ok(SAVED) }).await;
    let config = KingdeeConfig { org_num: "101".into(), ..fake.config(Auth::LoginBySign) };
    client(config).submit("STK_InStock", &["1"]).await.unwrap();
    assert_eq!(fake.methods(), ["LoginBySign", "SwitchOrg", "Submit"]);
    assert_eq!(fake.sent()[1].body, r#"{"data":{"OrgNumber":"101"}}"#);
    assert_eq!(fake.sent()[1].header("kdservice-sessionid"), "s");
}

#[tokio::test]
async fn no_call_is_made_in_an_organisation_that_was_refused() {
    let fake = Fake::start(|sent, _| if is_login(sent) { login("s") } else { ok(r#"{"Result":{"ResponseStatus":{"IsSuccess":false,"MsgCode":2,"Errors":[{"Message":"没有该组织的权限"}]}}}"#) }).await;
    let config = KingdeeConfig { org_num: "101".into(), ..fake.config(Auth::LoginBySign) };
    let error = client(config).submit("STK_InStock", &["1"]).await.unwrap_err();
    assert!(
        matches!(error, KingdeeError::LoginRefused(_)) && error.to_string().contains("organisation 101"),
        "{error}"
    );
    assert_eq!(fake.methods(), ["LoginBySign", "SwitchOrg"]);
}

#[tokio::test]
async fn logout_ends_a_session_and_is_nothing_without_one() {
    let fake = Fake::start(|sent, _| match sent.method() {
        "LoginBySign" => login("s"),
        "Logout" => ok("true"),
        _ => ok(SAVED),
    })
    .await;
    let client = fake.client(Auth::LoginBySign);
    client.logout().await.unwrap();
    assert!(fake.sent().is_empty());
    client.submit("STK_InStock", &["1"]).await.unwrap();
    client.logout().await.unwrap();
    client.logout().await.unwrap();
    assert_eq!(fake.methods(), ["LoginBySign", "Submit", "Logout"]);
    assert_eq!(fake.sent()[2].body, r#"{"parameters":[]}"#);
    assert_eq!(fake.sent()[2].header("kdservice-sessionid"), "s");
    let signed = fake.client(Auth::SignHeaders);
    signed.submit("STK_InStock", &["1"]).await.unwrap();
    signed.logout().await.unwrap();
    assert_eq!(fake.methods().last().unwrap(), "Submit");
}

#[tokio::test]
async fn a_client_that_is_ready_writes_without_another_login() {
    let fake = Fake::start(|sent, before| match sent.method() {
        "LoginBySign" if before == 0 => login("first"),
        "LoginBySign" => login("second"),
        "Submit" if before == 0 => ok(LOST),
        _ => ok(SAVED),
    })
    .await;
    let config = KingdeeConfig { org_num: "101".into(), ..fake.config(Auth::LoginBySign) };
    let client = client(config);
    let ready = client.ready().await.unwrap();
    assert_eq!(fake.methods(), ["LoginBySign", "SwitchOrg"], "all that comes before a write is done");
    ready.batch_save("STK_InStock", &[], &[bytes::Bytes::from_static(b"{}")]).await.unwrap();
    let lost = ready.submit("STK_InStock", &["1"]).await.unwrap_err();
    assert_eq!(lost.class(), Class::SessionLost);
    ready.audit("STK_InStock", &["1"]).await.unwrap();
    assert_eq!(fake.methods(), ["LoginBySign", "SwitchOrg", "BatchSave", "Submit", "Audit"]);
    assert_eq!(fake.sent()[4].header("kdservice-sessionid"), "first");
    client.ready().await.unwrap();
    assert_eq!(fake.methods()[5..], ["LoginBySign", "SwitchOrg"], "the next one is made anew");
    fake.client(Auth::SignHeaders).ready().await.unwrap();
    assert_eq!(fake.methods().len(), 7, "header signing needs no login");
}
