//! What goes out for each call, and what comes back.

use std::time::Duration;

use bytes::Bytes;
use kingpost_kingdee::{Auth, KingdeeError, call_timeout, safe_save_options, sign};
use serde_json::value::RawValue;

use crate::server::{Fake, NOW, SAVED, ok};

const FORM: &str = "STK_InStock";

fn option(name: &str, json: &str) -> (String, Box<RawValue>) {
    (name.to_owned(), RawValue::from_string(json.to_owned()).unwrap())
}

#[tokio::test]
async fn a_batch_goes_out_to_the_byte_and_in_order() {
    let fake = Fake::start(|_, _| ok(SAVED)).await;
    let models = [
        Bytes::from_static(
            "{\"FBillNo\":\"RK17\", \"b\":1.130000000000000000001,\"a\":\"入\\u0041\"}".as_bytes(),
        ),
        Bytes::from_static(b" {\"FBillNo\":\"RK18\",\"FQty\":1E2} "),
    ];
    let options = [option("ZFirst", "[\"x\"]"), option("AThen", "\"true\""), option("Last", "false")];
    let answer = fake.client(Auth::SignHeaders).batch_save(FORM, &options, &models).await.unwrap();
    assert_eq!(answer.successes[0].id, "102493");
    let sent = &fake.sent()[0];
    assert_eq!(
        sent.body,
        "{\"formid\":\"STK_InStock\",\"data\":{\"ZFirst\":[\"x\"],\"AThen\":\"true\",\"Last\":false,\"Model\":[\
         {\"FBillNo\":\"RK17\", \"b\":1.130000000000000000001,\"a\":\"入\\u0041\"},{\"FBillNo\":\"RK18\",\"FQty\":1E2}]}}"
    );
    assert_eq!(
        sent.path,
        "/k3cloud/Kingdee.BOS.WebApi.ServicesStub.DynamicFormService.BatchSave.common.kdsvc"
    );
}

#[tokio::test]
async fn what_would_change_the_meaning_of_a_batch_is_not_sent() {
    let fake = Fake::start(|_, _| ok(SAVED)).await;
    let client = fake.client(Auth::SignHeaders);
    for model in ["", "[]", "{\"a\":1},{\"b\":2}", "{\"a\":1", "\"x\"", "{\"a\":1}]"] {
        let result = client.batch_save(FORM, &[], &[Bytes::from_static(model.as_bytes())]).await;
        assert!(matches!(result, Err(KingdeeError::Invalid { .. })), "{model}");
    }
    let model = [Bytes::from_static(b"{}")];
    for options in [vec![option("model", "[]")], vec![option("A", "1"), option("a", "2")]] {
        assert!(matches!(client.batch_save(FORM, &options, &model).await, Err(KingdeeError::Invalid { .. })));
    }
    assert!(matches!(client.batch_save(FORM, &[], &[]).await, Err(KingdeeError::Invalid { .. })));
    assert!(matches!(client.batch_save("a\"b", &[], &model).await, Err(KingdeeError::Invalid { .. })));
    assert!(fake.sent().is_empty());
}

#[test]
fn the_safe_options_are_those_of_the_manual_with_checks_on() {
    let text: Vec<String> =
        safe_save_options().iter().map(|(name, value)| format!("{name}={}", value.get())).collect();
    assert_eq!(
        text.join(" "),
        "NeedUpDateFields=[] NeedReturnFields=[\"FBillNo\"] IsDeleteEntry=false SubSystemId=\"\" \
         IsVerifyBaseDataField=true IsEntryBatchFill=true ValidateFlag=true NumberSearch=true IsAutoAdjustField=true \
         InterationFlags=\"\" IgnoreInterationFlag=true IsControlPrecision=false ValidateRepeatJson=false BatchCount=0"
    );
}

#[tokio::test]
async fn submit_and_audit_send_ids_as_one_text() {
    let fake = Fake::start(|_, _| ok(SAVED)).await;
    let client = fake.client(Auth::SignHeaders);
    client.submit(FORM, &["1", "2"]).await.unwrap();
    client.audit(FORM, &["3"]).await.unwrap();
    let bodies: Vec<String> = fake.sent().iter().map(|sent| sent.body.clone()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"formid":"STK_InStock","data":{"CreateOrgId":0,"Numbers":[],"Ids":"1,2","SelectedPostId":0,"UseOrgId":0,"NetworkCtrl":false,"IgnoreInterationFlag":true}}"#,
            r#"{"formid":"STK_InStock","data":{"CreateOrgId":0,"Numbers":[],"Ids":"3","SelectedPostId":0,"UseOrgId":0,"NetworkCtrl":false,"IgnoreInterationFlag":true,"InterationFlags":"","IsVerifyProcInst":true,"UseBatControlTimes":false}}"#,
        ]
    );
    for ids in [&[][..], &[""], &["1,2"], &["RK1"]] {
        assert!(matches!(client.submit(FORM, ids).await, Err(KingdeeError::Invalid { .. })));
        assert!(matches!(client.audit(FORM, ids).await, Err(KingdeeError::Invalid { .. })));
    }
    assert_eq!(fake.methods(), ["Submit", "Audit"]);
}

#[tokio::test]
async fn a_refused_submit_is_an_answer() {
    let body = r#"{"Result":{"ResponseStatus":{"ErrorCode":500,"IsSuccess":false,"Errors":[{"FieldName":null,"Message":"单据已审核","DIndex":0}],"SuccessEntitys":[],"MsgCode":12}}}"#;
    let fake = Fake::start(move |_, _| ok(body)).await;
    let answer = fake.client(Auth::SignHeaders).submit(FORM, &["1"]).await.unwrap();
    assert_eq!((answer.is_success, answer.errors[0].message.as_str()), (false, "单据已审核"));
}

#[tokio::test]
async fn view_and_business_info_give_their_part_of_the_answer() {
    let fake = Fake::start(|sent, _| {
        ok(match sent.method() {
            "View" => r#"{"Result":{"ResponseStatus":{"IsSuccess":true},"Result":{"Id":1,"BillNo":"RK17","Qty":1.50}}}"#,
            _ => r#"{"Result":{"ResponseStatus":{"IsSuccess":"true"},"NeedReturnData":{"Entrys":[{"Key":"FBillHead"}]}}}"#,
        })
    })
    .await;
    let client = fake.client(Auth::SignHeaders);
    assert_eq!(client.view(FORM, "RK17").await.unwrap().get(), r#"{"Id":1,"BillNo":"RK17","Qty":1.50}"#);
    assert_eq!(client.query_business_info(FORM).await.unwrap().get(), r#"{"Entrys":[{"Key":"FBillHead"}]}"#);
    let bodies: Vec<String> = fake.sent().iter().map(|sent| sent.body.clone()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"formid":"STK_InStock","data":{"CreateOrgId":0,"Number":"RK17","Id":"","IsSortBySeq":false}}"#,
            r#"{"data":{"FormId":"STK_InStock"}}"#,
        ]
    );
}

#[tokio::test]
async fn a_view_without_a_document_is_refused_or_unexpected() {
    let fake = Fake::start(|_, before| {
        ok(match before {
            0 => r#"{"Result":{"ResponseStatus":{"IsSuccess":false,"MsgCode":10,"Errors":[]}}}"#,
            1 => r#"{"Result":{"ResponseStatus":{"IsSuccess":true},"Result":null}}"#,
            _ => "[[1]]",
        })
    })
    .await;
    let client = fake.client(Auth::SignHeaders);
    assert!(matches!(client.view(FORM, "RK17").await, Err(KingdeeError::Refused(_))));
    assert!(matches!(client.view(FORM, "RK17").await, Err(KingdeeError::Unexpected { write: false, .. })));
    assert!(matches!(client.view(FORM, "RK17").await, Err(KingdeeError::Unexpected { write: false, .. })));
}

#[tokio::test]
async fn a_call_carries_the_signature_of_the_address_it_goes_to_and_no_cookie() {
    let fake = Fake::start(|_, _| ok(SAVED)).await;
    let config = fake.config(Auth::SignHeaders);
    fake.client(Auth::SignHeaders).submit(FORM, &["1"]).await.unwrap();
    let sent = &fake.sent()[0];
    let url = format!("{}{}", config.check().unwrap().trim_end_matches("/k3cloud"), sent.path);
    for (name, value) in sign::headers(&config, &url, NOW) {
        assert_eq!(sent.header(&name), value, "{name}");
    }
    assert_eq!(sent.header("content-type"), "application/json");
    assert_eq!(sent.header("accept-charset"), "utf-8");
    assert!(sent.headers.get("cookie").is_none() && sent.headers.get("kdservice-sessionid").is_none());
}

#[test]
fn a_write_may_take_longer_the_more_documents_it_has() {
    for (documents, seconds) in [(0, 30), (1, 35), (10, 80), (30, 180), (50, 180), (usize::MAX, 180)] {
        assert_eq!(call_timeout(documents), Duration::from_secs(seconds), "{documents}");
    }
}
