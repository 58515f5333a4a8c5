use kingpost_kingdee::filter::{FilterError, equals, literal, one_of};
use kingpost_kingdee::{Auth, BillQuery, DocumentStatus, KingdeeError, LookUp};
use serde_json::Value;

use crate::server::{Fake, ok};

#[test]
fn a_quote_is_doubled_in_a_literal() {
    assert_eq!(literal("O'Hara' or '1'='1"), "'O''Hara'' or ''1''=''1'");
}

#[test]
fn keys_of_safe_characters_make_a_filter() {
    assert_eq!(
        one_of("FBillNo", &["RK2026080100017", "RK-1/2"]).unwrap(),
        "FBillNo in ('RK2026080100017','RK-1/2')"
    );
    assert_eq!(equals("FSupplierId.FNumber", "供应商 01").unwrap(), "FSupplierId.FNumber='供应商 01'");
}

#[test]
fn unsafe_keys_and_fields_make_none() {
    for key in ["", "a'b", "a\"b", "a;b", "a\\b", "a%b", "a\nb", " a", "a ", "a\u{0}", &"x".repeat(129)] {
        assert_eq!(equals("FBillNo", key), Err(FilterError::Key { key: key.to_owned() }));
    }
    for field in ["", "FBillNo='' or F", "F-1", "字段"] {
        assert_eq!(equals(field, "a"), Err(FilterError::Field { field: field.to_owned() }));
    }
    assert_eq!(one_of::<&str>("FBillNo", &[]), Err(FilterError::NoKeys));
}

#[tokio::test]
async fn a_look_up_asks_for_status_and_further_fields_by_number() {
    let fake = Fake::start(|_, _| {
        ok(r#"[[102493,"RK17","C","A",12.50],["102494","rk18","A","B",null],[3,"RK19","Q",null,"x"]]"#)
    })
    .await;
    let what =
        LookUp { further_fields: vec!["FSupplierId.FNumber".into()], ..LookUp::by_number("STK_InStock") };
    let found = fake.client(Auth::SignHeaders).look_up(&what, &["RK17", "RK18"]).await.unwrap();
    assert_eq!(
        fake.sent()[0].body,
        r#"{"data":{"FormId":"STK_InStock","FieldKeys":"FID,FBillNo,FDocumentStatus,FCancelStatus,FSupplierId.FNumber","FilterString":"FBillNo in ('RK17','RK18')","OrderString":"FID ASC","TopRowCount":0,"StartRow":0,"Limit":2000}}"#
    );
    let seen: Vec<_> =
        found.iter().map(|doc| (doc.id.as_str(), doc.number.as_str(), &doc.status, doc.cancelled)).collect();
    assert_eq!(
        seen,
        [
            ("102493", "RK17", &DocumentStatus::Approved, false),
            ("102494", "rk18", &DocumentStatus::Created, true),
            ("3", "RK19", &DocumentStatus::Other("Q".into()), false),
        ]
    );
    assert_eq!(found[0].further[0].raw(), "12.50");
    assert_eq!(found[1].further[0].text(), None);
    assert_eq!(found[1].key, "rk18");
}

#[tokio::test]
async fn a_look_up_by_another_field_reads_that_field() {
    let fake = Fake::start(|_, _| ok(r#"[[1,"CGRK1","A","A","RK17","x"]]"#)).await;
    let what = LookUp {
        form: "STK_InStock".into(),
        key_field: "F_ABCD_WdtNo".into(),
        further_fields: vec!["FDate".into()],
    };
    let found = fake.client(Auth::SignHeaders).look_up(&what, &["RK17"]).await.unwrap();
    assert_eq!((found[0].key.as_str(), found[0].number.as_str()), ("RK17", "CGRK1"));
    assert_eq!(found[0].further.len(), 1);
    assert!(fake.sent()[0].body.contains("F_ABCD_WdtNo in ('RK17')"));
}

#[tokio::test]
async fn many_keys_are_asked_for_in_several_queries_and_none_in_none() {
    let fake = Fake::start(|_, _| ok("[]")).await;
    let client = fake.client(Auth::SignHeaders);
    let keys: Vec<String> = (0..205).map(|at| format!("RK{at}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let what = LookUp::by_number("STK_InStock");
    assert!(client.look_up(&what, &keys).await.unwrap().is_empty());
    assert_eq!(fake.sent().len(), 3);
    assert!(client.look_up(&what, &[]).await.unwrap().is_empty());
    assert_eq!(fake.sent().len(), 3);
}

#[tokio::test]
async fn a_full_page_and_a_row_without_an_id_prove_nothing() {
    let full = format!("[{}]", vec![r#"[1,"A","A","A"]"#; 2000].join(","));
    for body in [full.as_str(), r#"[[null,"A","A","A"]]"#, r#"[[1,"A"]]"#] {
        let body = body.to_owned();
        let fake = Fake::start(move |_, _| ok(body.clone())).await;
        let result = fake.client(Auth::SignHeaders).look_up(&LookUp::by_number("STK_InStock"), &["A"]).await;
        assert!(matches!(result, Err(KingdeeError::Unexpected { write: false, .. })), "{result:?}");
    }
}

#[tokio::test]
async fn an_unsafe_key_is_not_sent() {
    let fake = Fake::start(|_, _| ok("[]")).await;
    let result = fake
        .client(Auth::SignHeaders)
        .look_up(&LookUp::by_number("STK_InStock"), &["A", "x' or '1'='1"])
        .await;
    assert!(matches!(result, Err(KingdeeError::Invalid { .. })));
    assert!(fake.sent().is_empty());
}

#[tokio::test]
async fn a_refused_query_is_refused_and_not_no_rows() {
    let body = r#"[[{"Result":{"ResponseStatus":{"ErrorCode":500,"IsSuccess":false,"Errors":[{"FieldName":"","Message":"元数据中标识为FX的字段不存在","DIndex":0}],"SuccessEntitys":[],"MsgCode":9}}}]]"#;
    let fake = Fake::start(move |_, _| ok(body)).await;
    let query = BillQuery { form: "STK_InStock".into(), fields: vec!["FX".into()], ..BillQuery::default() };
    let result = fake.client(Auth::SignHeaders).execute_bill_query(&query).await;
    let Err(KingdeeError::Refused(answer)) = result else { panic!("{result:?}") };
    assert_eq!(answer.errors[0].message, "元数据中标识为FX的字段不存在");
}

#[tokio::test]
async fn a_query_that_can_not_be_meant_is_not_sent() {
    let fake = Fake::start(|_, _| ok("[]")).await;
    let client = fake.client(Auth::SignHeaders);
    let good = BillQuery { form: "STK_InStock".into(), fields: vec!["FID".into()], ..BillQuery::default() };
    for bad in [
        BillQuery { fields: vec![], ..good.clone() },
        BillQuery { fields: vec!["FID,FX".into()], ..good.clone() },
        BillQuery { limit: 0, ..good.clone() },
        BillQuery { limit: 10_001, ..good.clone() },
        BillQuery { form: "STK InStock".into(), ..good.clone() },
    ] {
        assert!(
            matches!(client.execute_bill_query(&bad).await, Err(KingdeeError::Invalid { .. })),
            "{bad:?}"
        );
    }
    assert!(fake.sent().is_empty());
    client.execute_bill_query(&BillQuery { filter: "FNote='\"x\"'".into(), ..good }).await.unwrap();
    let sent: Value = serde_json::from_str(&fake.sent()[0].body).unwrap();
    assert_eq!(sent["data"]["FilterString"], "FNote='\"x\"'");
}
