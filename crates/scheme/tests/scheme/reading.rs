//! What is read from schemes that are right.

use std::time::Duration;

use kingpost_mapping::{Outcome, Scratch};
use kingpost_scheme::{Finish, OnChange, Scheme, SourceSystem, TargetSystem};

use crate::{SMALL, changed, load, load_with};

/// The scheme that the product's design shows.
const DESIGN: &str = r#"
scheme: demo
title: 采购入库 → 采购入库单
source:
  system: wdt
  method: wdt.wms.stockin.purchase.querywithdetail
  params: { status: "80" }
  key: order_no
  window: { start: 2026-01-01T00:00:00+08:00, width: 1h, lag: 5m, overlap: 1m, every: 1m }
tables:
  stock: stock.csv            # warehouse_no -> Kingdee stock and organisation
target:
  system: kingdee
  form: STK_InStock
  finish: audit                      # save | submit | audit: three resumable steps, not IsAutoSubmitAndAudit
  options: { IsVerifyBaseDataField: true, ValidateFlag: true, NumberSearch: true }
  batch: { rows: 20, wait: 500ms, concurrency: 2 }
  key: FBillNo
  write_key: purchase_no
model:                               # key order is kept all the way to the wire
  FBillTypeID: { FNUMBER: RKD01_SYS }
  FBusinessType: CG
  FBillNo: "{{ order_no }}"
  FDate: "{{ check_time | date }}"
  FStockOrgId: { FNumber: "{{ warehouse_no | table('stock', 'org') }}" }
  FSupplierId: { FNumber: "{{ provider_no }}" }
  FInStockFin: { FSettleOrgId: { FNumber: "100" }, FSettleCurrId: { FNumber: PRE001 } }
  FInStockEntry:
    each: details_list
    FMaterialId: { FNumber: "{{ spec_no }}" }
    FRealQty: "{{ num | decimal }}"
    FTaxPrice: "{{ tax_price | decimal }}"
    FEntryTaxRate: "= tax * 100"
    FStockId: { FNumber: "{{ warehouse_no | table('stock', 'stock') }}" }
    FNote?: "{{ remark }}"           # the question mark: leave the field out when the source has nothing
"#;

fn apply(scheme: &Scheme, document: &str) -> (String, Vec<Option<String>>) {
    let mut out = Vec::new();
    let outcome = scheme.mapping.apply(document.as_bytes(), &mut Scratch::new(), &mut out);
    let Ok(Outcome::Mapped { outputs }) = outcome else { panic!("{outcome:?}") };
    (String::from_utf8(out).expect("UTF-8"), outputs)
}

#[test]
fn the_scheme_of_the_design_loads_and_maps() {
    let table = "warehouse_no,org,stock\nSH01,101,CK001\n";
    let scheme = load_with(DESIGN, &[("stock.csv", table.as_bytes())]).unwrap_or_else(|p| panic!("{p}"));
    let document = r#"{"order_no":"RK1","check_time":1713685327000,"warehouse_no":"SH01","provider_no":"G7","purchase_no":"",
        "details_list":[{"spec_no":"SP-1","num":"2.0000","tax_price":11.30,"tax":0.13,"remark":""}]}"#;
    let (model, outputs) = apply(&scheme, document);
    assert_eq!(
        model,
        r#"{"FBillTypeID":{"FNUMBER":"RKD01_SYS"},"FBusinessType":"CG","FBillNo":"RK1","FDate":"2024-04-21","FStockOrgId":{"FNumber":"101"},"FSupplierId":{"FNumber":"G7"},"FInStockFin":{"FSettleOrgId":{"FNumber":"100"},"FSettleCurrId":{"FNumber":"PRE001"}},"FInStockEntry":[{"FMaterialId":{"FNumber":"SP-1"},"FRealQty":2.0000,"FTaxPrice":11.30,"FEntryTaxRate":13,"FStockId":{"FNumber":"CK001"}}]}"#
    );
    assert_eq!(outputs[Scheme::KEY].as_deref(), Some("RK1"));
    assert_eq!(outputs[Scheme::WRITE_KEY], None);
}

#[test]
fn every_part_is_read() {
    let scheme = load(SMALL).unwrap_or_else(|problems| panic!("{problems}"));
    let (source, target) = (&scheme.source, &scheme.target);
    assert_eq!(
        (scheme.name.as_str(), scheme.title.as_str(), scheme.account.as_deref()),
        ("demo", "a small scheme", None)
    );
    assert_eq!((source.system, target.system), (SourceSystem::Wdt, TargetSystem::Kingdee));
    assert_eq!(source.method, "wdt.wms.stockin.purchase.querywithdetail");
    assert_eq!((source.key.as_str(), source.page_size), ("order_no", 50));
    assert_eq!(source.window.start.as_second(), 1_767_196_800);
    let lengths = [source.window.width, source.window.lag, source.window.overlap, source.window.every];
    assert_eq!(lengths.map(|length| length.as_secs()), [3600, 300, 60, 60]);
    assert_eq!((target.form.as_str(), target.finish, target.shards), ("STK_InStock", Finish::Audit, 1));
    assert_eq!(
        (target.batch.rows, target.batch.wait, target.batch.concurrency),
        (20, Duration::from_millis(500), 2)
    );
    assert_eq!((target.settle, target.key.as_str()), (Some(Duration::from_secs(240)), "FBillNo"));
    assert_eq!(target.write_key.as_deref(), Some("purchase_no"));
}

#[test]
fn what_may_be_left_out_has_a_value() {
    let text = changed("  batch: { rows: 20, wait: 500ms, concurrency: 2 }\n  settle: 4m\n", "")
        .replace("  options: { IsVerifyBaseDataField: true }\n", "")
        .replace("  write_key: purchase_no\n  shards: 1\n", "")
        .replace("  params: { status: \"80\" }\n", "")
        .replace("  page_size: 50\n", "")
        .replace(", width: 1h, lag: 5m, overlap: 1m, every: 1m", "");
    let scheme = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let full = load(SMALL).expect("the small scheme");
    assert_eq!(scheme.source.window, full.source.window);
    assert_eq!((scheme.target.batch, scheme.target.shards), (full.target.batch, 1));
    assert_eq!((scheme.source.page_size, scheme.target.settle, scheme.target.write_key), (50, None, None));
    assert!(scheme.target.options.is_empty() && scheme.source.params.is_empty());
}

#[test]
fn options_keep_their_order_and_type_and_the_names_of_the_call_are_not_sent() {
    let options = "FormId: STK_InStock, ValidateFlag: true, BatchCount: 3, Operation: BatchSave, SubSystemId: '21', \
                   InterationFlags: '', NeedReturnFields: [FBillNo, FID]";
    let scheme = load(&changed("IsVerifyBaseDataField: true", options))
        .unwrap_or_else(|problems| panic!("{problems}"));
    let written: Vec<String> =
        scheme.target.options.iter().map(|(name, value)| format!("{name}={}", value.get())).collect();
    assert_eq!(
        written,
        [
            "ValidateFlag=true",
            "BatchCount=3",
            "SubSystemId=\"21\"",
            "InterationFlags=\"\"",
            "NeedReturnFields=[\"FBillNo\",\"FID\"]"
        ]
    );
}

#[test]
fn what_is_allowed_but_risky_is_said() {
    let notes = |text: String| load(&text).unwrap_or_else(|problems| panic!("{problems}")).notes;
    assert_eq!(notes(SMALL.to_owned()), Vec::<String>::new());
    let audit = notes(changed("IsVerifyBaseDataField: true", "IsAutoSubmitAndAudit: true"));
    assert!(audit.len() == 1 && audit[0].contains("one transaction of Kingdee"), "{audit:?}");
    let unchecked = notes(changed("IsVerifyBaseDataField: true", "IsVerifyBaseDataField: false"));
    assert!(unchecked.len() == 1 && unchecked[0].contains("dropped in silence"), "{unchecked:?}");
    let unfinished = notes(changed(r#"status: "80""#, r#"status: "30,80""#));
    assert!(unfinished.len() == 1 && unfinished[0].contains("not completed"), "{unfinished:?}");
}

#[test]
fn texts_numbers_and_booleans_stay_what_they_look_like() {
    let model = "model:\n  FBillNo: \"{{ order_no }}\"\n  A: no\n  B: 010\n  C: 1.50\n  D: true\n  E: \"20\"\n  F: null\n  \
                 G: [1, x, {K: 1e2}]\n  H: |\n    two\n    lines\n";
    let scheme =
        load(&changed("model:\n  FBillNo: \"{{ order_no }}\"\n", model)).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(
        apply(&scheme, r#"{"order_no":"RK1"}"#).0,
        r#"{"FBillNo":"RK1","A":"no","B":"010","C":1.50,"D":true,"E":"20","F":null,"G":[1,"x",{"K":1e2}],"H":"two\nlines\n"}"#
    );
}

#[test]
fn a_default_may_be_an_empty_text() {
    let text = changed("model:\n", "model:\n  FNote: \"{{ remark | default('') }}\"\n");
    let scheme = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(apply(&scheme, r#"{"order_no":"RK1","remark":" "}"#).0, r#"{"FNote":"","FBillNo":"RK1"}"#);
}

#[test]
fn a_switch_turns_one_variant_on_and_the_other_off() {
    let model = |on: bool| {
        let fields = "\n  A when lots: 1\n  A when not lots: 2\n  B? when lots: \"{{ batch }}\"\n";
        let text = changed("\nmodel:\n", &format!("\nswitches: {{ lots: {on} }}\nmodel:\n"));
        let scheme =
            load(&(text.trim_end().to_owned() + fields)).unwrap_or_else(|problems| panic!("{problems}"));
        apply(&scheme, r#"{"order_no":"RK1","batch":"L1"}"#).0
    };
    assert_eq!(model(true), r#"{"FBillNo":"RK1","A":1,"B":"L1"}"#);
    assert_eq!(model(false), r#"{"FBillNo":"RK1","A":2}"#);
}

#[test]
fn a_table_may_begin_with_a_byte_order_mark_and_hold_quoted_chinese() {
    let text = changed(
        "model:\n",
        "tables: { stock: stock.csv }\nmodel:\n  A: \"{{ w | table('stock', 'name') }}\"\n",
    );
    let table = "\u{feff}仓库, name\r\nSH01,\"上海, 主仓\"\r\n*,其他\r\n";
    let scheme =
        load_with(&text, &[("stock.csv", table.as_bytes())]).unwrap_or_else(|problems| panic!("{problems}"));
    let name = |w: &str| apply(&scheme, &format!(r#"{{"order_no":"RK1","w":"{w}"}}"#)).0;
    assert!(name("SH01").contains(r#""A":"上海, 主仓""#));
    assert!(name("XX").contains(r#""A":"其他""#));
}

#[test]
fn a_file_of_windows_is_read_like_any_other() {
    let text = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
    let scheme = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(apply(&scheme, r#"{"order_no":"RK1"}"#).0, r#"{"FBillNo":"RK1"}"#);
}

#[test]
fn an_account_and_either_name_of_a_method_are_taken() {
    for method in [
        "wms.stockin.Purchase.queryWithDetail",
        "3ldsmu02o9.wdt.wms.stockin.purchase.querywithdetail",
        "wdt.wms.stockin.Purchase.queryWithDetail",
    ] {
        let text = changed("wdt.wms.stockin.purchase.querywithdetail", method);
        let text = text.replace("source:\n", "account: north-2\nsource:\n");
        let scheme = load(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!((scheme.source.method.as_str(), scheme.account.as_deref()), (method, Some("north-2")));
    }
}

#[test]
fn what_changed_or_was_cancelled_is_reported_unless_the_scheme_says_otherwise() {
    let scheme = |from: &str, to: &str| load(&changed(from, to)).unwrap_or_else(|p| panic!("{p}"));
    let plain = load(SMALL).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!((plain.target.on_change, plain.source.cancelled.len()), (OnChange::Report, 0));
    for (word, on_change) in
        [("ignore", OnChange::Ignore), ("report", OnChange::Report), ("update-draft", OnChange::UpdateDraft)]
    {
        let set = format!("finish: audit\n  on_change: {word}");
        assert_eq!(scheme("finish: audit", &set).target.on_change, on_change);
    }
    let cancelled = scheme("page_size: 50", "page_size: 50\n  cancelled: \"10,20\"");
    assert_eq!(cancelled.source.cancelled, ["10", "20"]);
}
