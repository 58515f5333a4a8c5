//! The WebAPI: signing and sessions, saving, steps, queries.

use serde_json::{Value, json};

use crate::client::{END, Lab, START, batch, model, options, service, signed_headers};

fn messages(status: &Value) -> Vec<&str> {
    status["Errors"].as_array().unwrap().iter().map(|error| error["Message"].as_str().unwrap()).collect()
}

async fn refused(lab: &Lab, model: Value) -> String {
    let status = lab.save(&[model]).await;
    assert_eq!(status["IsSuccess"], false, "{status}");
    assert_eq!(status["SuccessEntitys"], json!([]));
    messages(&status).join("|")
}

#[tokio::test]
async fn every_encoding_of_a_body_is_understood() {
    let lab = Lab::start().await;
    let data = |number: &str| batch(&[model(number)])["data"].clone();
    let bodies = [
        json!({"formid": "STK_InStock", "data": data("A")}),
        json!({"formid": "STK_InStock", "data": data("B").to_string()}),
        json!({"parameters": ["STK_InStock", data("C").to_string()]}),
    ];
    for body in bodies {
        let answer = lab.kingdee("BatchSave", body).await.unwrap().json();
        assert_eq!(answer["Result"]["ResponseStatus"]["IsSuccess"], true, "{answer}");
    }
    let twice = json!({"formid": "STK_InStock", "data": Value::from(data("D").to_string()).to_string()});
    assert_eq!(lab.kingdee("BatchSave", twice).await.unwrap().status, 500);
    assert_eq!(lab.kingdee("BatchSave", json!([data("E")])).await.unwrap().status, 500);
    assert_eq!(lab.documents().await, 3);
}

#[tokio::test]
async fn a_partial_failure_names_its_documents_and_keeps_the_others() {
    let lab = Lab::start().await;
    lab.save(&[model("RK1")]).await;
    let status = lab.save(&[model("RK2"), model("RK1"), model("RK3")]).await;
    assert_eq!(
        (&status["IsSuccess"], &status["MsgCode"], &status["ErrorCode"]),
        (&json!(false), &json!(11), &json!(500))
    );
    assert_eq!(messages(&status), ["违反字段唯一性要求：编码唯一。[RK1]在当前系统中已经被使用。"]);
    assert_eq!(
        (&status["Errors"][0]["FieldName"], &status["Errors"][0]["DIndex"]),
        (&json!("FBillNo"), &json!(1))
    );
    let saved = status["SuccessEntitys"].as_array().unwrap();
    let seen: Vec<_> = saved.iter().map(|entity| (&entity["Number"], &entity["DIndex"])).collect();
    assert_eq!(seen, [(&json!("RK2"), &json!(0)), (&json!("RK3"), &json!(2))]);
    assert_eq!(lab.documents().await, 3);
}

#[tokio::test]
async fn base_data_is_checked_in_kingdees_words() {
    let lab = Lab::start().await;
    lab.post("/admin/kingdee/base", json!({"kind": "material", "number": "SP-NEW", "audited": false})).await;
    let entry = |key: &str, code: &str| {
        let mut model = model("RK1");
        model["FInStockEntry"][0][key]["FNumber"] = code.into();
        model
    };
    let supplier = |code: &str| {
        let mut model = model("RK1");
        model["FSupplierId"]["FNumber"] = code.into();
        model
    };
    assert_eq!(refused(&lab, entry("FMaterialId", "SP-0")).await, "第1行分录，物料“SP-0”不存在");
    assert_eq!(refused(&lab, entry("FMaterialId", "SP-NEW")).await, "第1行分录，物料“SP-NEW”未审核");
    assert_eq!(refused(&lab, entry("FStockId", "XJ99")).await, "第1行分录，仓库“XJ99”不存在");
    assert_eq!(refused(&lab, supplier("GYS0901")).await, "供应商“GYS0901”已禁用");
    assert_eq!(refused(&lab, supplier("GYS0999")).await, "供应商“GYS0999”不存在");
    let mended = json!([{"kind": "supplier", "number": "GYS0999"}, {"kind": "supplier", "number": "GYS0901", "disabled": false}]);
    lab.post("/admin/kingdee/base", mended).await;
    assert_eq!(lab.save(&[supplier("GYS0999")]).await["IsSuccess"], true);
}

#[tokio::test]
async fn an_unverified_unknown_code_is_dropped_in_silence() {
    let lab = Lab::start().await;
    let mut model = model("RK1");
    model["FSupplierId"]["FNumber"] = "GYS0999".into();
    let body = json!({"formid": "STK_InStock", "data": {"Model": [model]}});
    let answer = lab.kingdee("BatchSave", body).await.unwrap().json();
    assert_eq!(answer["Result"]["ResponseStatus"]["IsSuccess"], true);
    assert_eq!(lab.get("/admin/kingdee/documents").await[0]["supplier"], Value::Null);
}

#[tokio::test]
async fn fields_are_required_known_and_of_their_kind() {
    let lab = Lab::start().await;
    let without = |key: &str| {
        let mut model = model("RK1");
        model.as_object_mut().unwrap().shift_remove(key);
        model
    };
    let with = |key: &str, value: Value| {
        let mut model = model("RK1");
        model["FInStockEntry"][0][key] = value;
        model
    };
    assert_eq!(refused(&lab, without("FDate")).await, "字段“入库日期”是必填项");
    assert_eq!(refused(&lab, without("FInStockEntry")).await, "单据体“明细信息”不能为空，至少录入一行分录");
    assert_eq!(refused(&lab, with("FWrong", 1.into())).await, "元数据中标识为FWrong的字段不存在");
    assert_eq!(refused(&lab, with("FRealQty", "abc".into())).await, "第1行分录，字段“实收数量”的值“abc”无效");
    assert_eq!(refused(&lab, with("FRealQty", 0.into())).await, "第1行分录，实收数量必须大于0");
    assert_eq!(
        refused(&lab, with("FTaxPrice", "".into())).await,
        "第1行分录，含税单价为0，非赠品价格不能为0"
    );
    let scalar = refused(&lab, with("FMaterialId", "SP-1001".into())).await;
    assert!(scalar.starts_with("ResolveFiled_InnerEx 解析字段(Key:FMaterialId)"), "{scalar}");
    assert_eq!(lab.save(&[with("F_ABCD_Text", "x".into())]).await["IsSuccess"], true);
}

#[tokio::test]
async fn the_order_of_keys_decides_over_prices_unless_the_server_adjusts_it() {
    let lab = Lab::start().await;
    let mut late = model("RK1");
    let finance = late.as_object_mut().unwrap().shift_remove("FInStockFin").unwrap();
    late["FInStockFin"] = finance;
    assert_eq!(refused(&lab, late.clone()).await, "第1行分录，含税单价为0，非赠品价格不能为0");
    let mut early = model("RK2");
    let quantity = early["FInStockEntry"][0].as_object_mut().unwrap().shift_remove("FRealQty").unwrap();
    early["FInStockEntry"][0]["FRealQty"] = quantity;
    assert_eq!(refused(&lab, early.clone()).await, "第1行分录，含税单价为0，非赠品价格不能为0");
    let mut body = batch(&[late, early]);
    body["data"]["IsAutoAdjustField"] = "true".into();
    let answer = lab.kingdee("BatchSave", body).await.unwrap().json();
    assert_eq!(answer["Result"]["ResponseStatus"]["IsSuccess"], true, "{answer}");
}

#[tokio::test]
async fn digits_are_kept_as_they_were_sent() {
    let lab = Lab::start().await;
    let text = batch(&[model("RK1")]).to_string().replace("\"11.30\"", "123456789012.12345678");
    let path = service("DynamicFormService", "BatchSave");
    lab.send("POST", &path, &signed_headers(&path), &text).await.unwrap();
    let document = &lab.get("/admin/kingdee/documents?number=RK1").await[0];
    assert_eq!(document["lines"][0]["tax_price"], "123456789012.12345678");
    assert_eq!((&document["qty"], &document["lines"][0]["qty"]), (&json!("13.5"), &json!("12.5")));
    assert_eq!(
        (&document["lines"][1]["gift"], &document["lines"][1]["stock"]),
        (&json!(true), &json!("CK001"))
    );
}

#[tokio::test]
async fn steps_go_forward_once_and_say_why_not_twice() {
    let lab = Lab::start().await;
    let saved = lab.save(&[model("RK1"), model("RK2")]).await;
    let ids: Vec<String> = saved["SuccessEntitys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| entity["Id"].to_string().replace('"', ""))
        .collect();
    assert!(saved["SuccessEntitys"][0]["Id"].is_number() && saved["SuccessEntitys"][1]["Id"].is_string());
    let step = |operation: &'static str, data: Value| {
        let lab = &lab;
        async move {
            let answer =
                lab.kingdee(operation, json!({"formid": "STK_InStock", "data": data})).await.unwrap();
            answer.json()["Result"]["ResponseStatus"].clone()
        }
    };
    let early = step("Audit", json!({"Ids": ids.join(",")})).await;
    assert_eq!(messages(&early), ["[RK1]单据尚未提交，不能审核", "[RK2]单据尚未提交，不能审核"]);
    assert_eq!(step("Submit", json!({"Ids": ids.join(",")})).await["IsSuccess"], true);
    let again = step("Submit", json!({"Ids": format!("{},999", ids[0])})).await;
    assert_eq!(messages(&again), ["[RK1]单据已提交，不能重复提交", "内码为999的数据不存在"]);
    assert_eq!(step("Audit", json!({"Numbers": ["RK2"]})).await["SuccessEntitys"][0]["Number"], "RK2");
    assert_eq!(messages(&step("Audit", json!({"Numbers": ["RK2"]})).await), ["[RK2]单据已经审核"]);
    assert_eq!(
        messages(&step("Submit", json!({"Numbers": ["RK2"]})).await),
        ["[RK2]只有暂存、创建和重新审核的数据才允许提交"]
    );
    assert_eq!(messages(&step("Submit", json!({})).await), ["编码值或内码值必须传其一"]);
    assert_eq!(lab.get("/admin/kingdee/summary").await["by_status"], json!({"B": 1, "C": 1}));
    assert_eq!(step("UnAudit", json!({"Numbers": ["RK2"]})).await["IsSuccess"], true);
    assert_eq!(step("Delete", json!({"Numbers": ["RK2"]})).await["IsSuccess"], true);
    assert_eq!(lab.documents().await, 1);
}

#[tokio::test]
async fn an_existing_id_is_an_update_and_an_approved_document_refuses_it() {
    let lab = Lab::start().await;
    let saved = lab.save(&[model("RK1")]).await;
    let mut change = model("RK1");
    change["FID"] = saved["SuccessEntitys"][0]["Id"].clone();
    change["FDate"] = "2026-08-02".into();
    assert_eq!(lab.save(&[change.clone()]).await["IsSuccess"], true);
    let document = &lab.get("/admin/kingdee/documents").await[0];
    assert_eq!((&document["date"], &document["FID"]), (&json!("2026-08-02"), &change["FID"]));
    assert_eq!(lab.documents().await, 1);
    let finish =
        json!({"formid": "STK_InStock", "data": {"IsAutoSubmitAndAudit": true, "Model": model("RK2")}});
    let answer = lab.kingdee("Save", finish).await.unwrap().json();
    assert_eq!(answer["Result"]["Number"], "RK2");
    let mut approved = model("RK2");
    approved["FID"] = answer["Result"]["Id"].clone();
    assert_eq!(refused(&lab, approved).await, "单据已审核，不允许修改[RK2]");
}

#[tokio::test]
async fn queries_answer_rows_and_wrap_their_errors() {
    let lab = Lab::start().await;
    lab.save(&[model("RK1"), model("RK2"), model("RK'3")]).await;
    let query = |data: Value| {
        let lab = &lab;
        async move { lab.kingdee("ExecuteBillQuery", json!({"data": data})).await.unwrap().json() }
    };
    let by_header = json!({"FormId": "STK_InStock", "FieldKeys": "FBillNo,FDocumentStatus,FSupplierId.FNumber",
        "FilterString": "FBillNo in ('RK2','RK''3','none') and FDocumentStatus = 'A'", "OrderString": "FBillNo DESC"});
    assert_eq!(query(by_header).await, json!([["RK2", "A", "GYS0001"], ["RK'3", "A", "GYS0001"]]));
    let by_entry = json!({"FormId": "STK_InStock", "FieldKeys": "FBillNo,FInStockEntry_FSeq,FMaterialId.FNumber,FRealQty,FTaxPrice,FAllAmount",
        "FilterString": "FBillNo = 'RK1'", "OrderString": "FInStockEntry_FSeq ASC"});
    let expected = json!([["RK1", 1, "SP-1001", 12.5, 11.30, 141.25], ["RK1", 2, "SP-1002", 1, 0, 0.0]]);
    let rows = query(by_entry).await;
    assert_eq!(rows[0], expected[0]);
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let page = json!({"FormId": "STK_InStock", "FieldKeys": "FBillNo", "OrderString": "FID", "StartRow": 1, "Limit": 1});
    assert_eq!(query(page).await, json!([["RK2"]]));
    let none = json!({"FormId": "STK_InStock", "FieldKeys": "FID", "FilterString": "FBillNo='x'"});
    assert_eq!(query(none).await, json!([]));
    let wrong = query(json!({"FormId": "STK_InStock", "FieldKeys": "FID,FWrong"})).await;
    let status = &wrong[0][0]["Result"]["ResponseStatus"];
    assert_eq!(messages(status), ["元数据中标识为FWrong的字段不存在"]);
    let material = json!({"FormId": "BD_MATERIAL", "FieldKeys": "FNumber,FForbidStatus", "FilterString": "FNumber = 'SP-1240'"});
    assert_eq!(query(material).await, json!([["SP-1240", "A"]]));
    let suppliers =
        json!({"FormId": "BD_Supplier", "FieldKeys": "FNumber", "FilterString": "FForbidStatus='B'"});
    assert_eq!(query(suppliers).await, json!([["GYS0901"]]));
    let view = lab
        .kingdee("View", json!({"formid": "STK_InStock", "data": {"Number": "RK1"}}))
        .await
        .unwrap()
        .json();
    assert_eq!(view["Result"]["Result"]["InStockEntry"][0]["MaterialId"]["Number"], "SP-1001");
    let form =
        lab.kingdee("QueryBusinessInfo", json!({"data": {"FormId": "STK_InStock"}})).await.unwrap().json();
    assert_eq!(form["Result"]["NeedReturnData"]["Entrys"][2]["Key"], "FInStockEntry");
}

#[tokio::test]
async fn a_call_needs_right_signatures_or_an_open_session() {
    let lab = Lab::start().await;
    let path = service("DynamicFormService", "BatchSave");
    let body = batch(&[model("RK1")]).to_string();
    let message = |answer: Value| messages(&answer["Result"]["ResponseStatus"])[0].to_owned();
    let none = lab.send("POST", &path, &[], &body).await.unwrap().json();
    assert_eq!(message(none.clone()), "会话信息已丢失，请重新登录");
    assert_eq!(none["Result"]["ResponseStatus"]["MsgCode"], 1);
    let elsewhere = signed_headers(&service("DynamicFormService", "Save"));
    let forged = lab.send("POST", &path, &elsewhere, &body).await.unwrap().json();
    assert!(message(forged).starts_with("Fail to verify thirty passport"));
    assert_eq!(lab.documents().await, 0);

    let login = service("AuthService", "LoginBySign");
    let app_id = "300001_ZXhhbXBsZS1hcHAtaWQtZm9yLXRlc3Rz";
    let mut parts = ["example-acct", "example-user", app_id, "example-kingdee-secret", "1785513600"];
    parts.sort_unstable();
    let sign = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(parts.concat()));
    let wrong = json!({"parameters": ["example-acct", "example-user", app_id, "1785513601", sign, 2052]});
    assert_eq!(lab.post(&login, wrong).await["LoginResultType"], 0);
    let right = json!({"parameters": ["example-acct", "example-user", app_id, "1785513600", sign, 2052]});
    let answer = lab.send("POST", &login, &[], &right.to_string()).await.unwrap();
    let session = answer.json()["KDSVCSessionId"].as_str().unwrap().to_owned();
    assert!(answer.head.contains(&format!("set-cookie: kdservice-sessionid={session}")));
    let header = [("kdservice-sessionid", session.clone())];
    let cookie = [("Cookie", format!("a=b; kdservice-sessionid={session}"))];
    assert_eq!(
        lab.send("POST", &path, &header, &body).await.unwrap().json()["Result"]["ResponseStatus"]["IsSuccess"],
        true
    );
    let again = lab.send("POST", &path, &cookie, &body).await.unwrap().json();
    assert_eq!(again["Result"]["ResponseStatus"]["MsgCode"], 11);
    lab.send("POST", &service("AuthService", "Logout"), &header, "{}").await.unwrap();
    let gone = lab.send("POST", &path, &header, &body).await.unwrap().json();
    assert_eq!(gone["Result"]["ResponseStatus"]["MsgCode"], 1);
}

/// What a plain mapping makes of an order as WDT answers it.
fn map(order: &Value) -> Value {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let entry = |line: &Value| {
        let price = line.get("tax_price").cloned().unwrap_or("".into());
        let gift = text(&price).parse::<f64>() == Ok(0.0);
        json!({"FMaterialId": {"FNumber": line["spec_no"]}, "FRealQty": line["num"], "FTaxPrice": price,
            "FStockId": {"FNumber": order["warehouse_no"]}, "FGiveAway": gift})
    };
    let mut model = model(order["order_no"].as_str().unwrap());
    model["FSupplierId"]["FNumber"] = order["provider_no"].clone();
    model["FInStockEntry"] = order["details_list"].as_array().unwrap().iter().map(entry).collect();
    model
}

#[tokio::test]
async fn exactly_the_unpostable_orders_are_refused_each_for_its_planned_cause() {
    let lab = Lab::with(options()).await;
    let page =
        lab.qimen(json!({"start_time": START, "end_time": END, "status": "80"}), 1, 500).await.unwrap();
    let orders = page.json()["response"]["data"]["order"].clone();
    let mut refused = 0;
    for order in orders.as_array().unwrap() {
        let number = order["order_no"].as_str().unwrap();
        let truth = lab.get(&format!("/admin/wdt/orders?number={number}")).await[0].clone();
        let status = lab.save(&[map(order)]).await;
        assert_eq!(status["IsSuccess"], truth["fate"] == "posts", "{truth} {status}");
        let expected = match truth["cause"].as_str() {
            None => continue,
            Some("unknown_material") => "物料",
            Some("disabled_supplier") => "已禁用",
            Some("unknown_supplier") => "供应商“GYS0999”不存在",
            Some("unknown_warehouse") => "仓库“XJ99”不存在",
            Some("missing_price") => "含税单价为0",
            Some("unreadable_quantity") => "“abc”无效",
            _ => "明细信息",
        };
        assert!(messages(&status)[0].contains(expected), "{status}");
        refused += 1;
    }
    assert_eq!((refused, lab.documents().await), (12, 48));
}

#[tokio::test]
async fn absurd_numbers_are_answered_and_not_choked_on() {
    let lab = Lab::start().await;
    let mut huge = model("RK1");
    huge["FInStockEntry"][0]["FTaxPrice"] = "9999999999999999999999999999".into();
    huge["FInStockEntry"][0]["FRealQty"] = "9999999999999999999999999999".into();
    huge["FInStockEntry"][1]["FRealQty"] = "9999999999999999999999999999".into();
    assert_eq!(lab.save(&[huge]).await["IsSuccess"], true);
    let query = json!({"data": {"FormId": "STK_InStock", "FieldKeys": "FBillNo,FAllAmount,FAmount"}});
    let rows = lab.kingdee("ExecuteBillQuery", query).await.unwrap().json();
    assert_eq!(rows[0], json!(["RK1", null, null]));
    assert_eq!(lab.get("/admin/kingdee/documents").await[0]["FBillNo"], "RK1");
    let window = json!({"start_time": START, "end_time": END});
    let page = lab.direct_page(window, "9223372036854775807").await;
    assert_eq!(page["data"]["order"], json!([]));
}

#[tokio::test]
async fn a_save_with_an_id_changes_a_draft_and_its_rows_as_told() {
    let lab = Lab::start().await;
    let one_line = || {
        let mut model = model("RK1");
        model["FInStockEntry"].as_array_mut().unwrap().truncate(1);
        model
    };
    let fid = lab.save(&[one_line()]).await["SuccessEntitys"][0]["Id"].clone();
    let entry = lab.get("/admin/kingdee/documents").await[0]["lines"][0]["entry_id"].clone();
    let changed = |quantity: u32, entry: &Value| {
        let mut model = one_line();
        model["FID"] = fid.clone();
        model["FInStockEntry"][0]["FRealQty"] = quantity.into();
        model["FInStockEntry"][0]["FEntryID"] = entry.clone();
        model
    };
    let save = async |model: Value, delete: Value| {
        let mut body = batch(&[model]);
        body["data"]["IsDeleteEntry"] = delete;
        let answer = lab.kingdee("BatchSave", body).await.unwrap().json();
        let documents = lab.get("/admin/kingdee/documents").await;
        assert_eq!(documents.as_array().map(Vec::len), Some(1), "never a second document");
        let lines = documents[0]["lines"].as_array().unwrap().iter();
        let lines: Vec<String> = lines.map(|line| line["qty"].as_str().unwrap().to_owned()).collect();
        (answer["Result"]["ResponseStatus"]["IsSuccess"] == true, lines.join(" "))
    };
    let first = lab.get("/admin/kingdee/documents").await[0]["lines"][0]["qty"].as_str().unwrap().to_owned();
    assert_eq!(save(changed(7, &entry), false.into()).await, (true, "7".to_owned()), "the row of that id");
    let beside = save(changed(8, &0.into()), false.into()).await;
    assert_eq!(beside, (true, "7 8".to_owned()), "a row without an id is a new one beside the old");
    assert_eq!(save(changed(9, &0.into()), true.into()).await, (true, "9".to_owned()), "all others go");
    assert_ne!(first, "9");
    let steps: Vec<Value> = lab.get("/admin/kingdee/ledger").await.as_array().unwrap().clone();
    let steps: Vec<&str> = steps.iter().map(|commit| commit["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["saved", "updated", "updated", "updated"]);
    let ids = json!({"formid": "STK_InStock", "data": {"Ids": fid.to_string().trim_matches('"')}});
    for operation in ["Submit", "Audit"] {
        lab.kingdee(operation, ids.clone()).await.unwrap();
        let refused = save(changed(10, &0.into()), true.into()).await;
        assert_eq!(refused, (false, "9".to_owned()), "no draft any more after {operation}");
    }
}
