//! The same mapping in Rust: borrowed structs, as a careful programmer would write it once per document type, and
//! over `serde_json::Value`. Neither checks for what is empty, so both are faster than they could be in earnest.

use std::borrow::Cow;
use std::collections::HashMap;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The look-up tables.
pub(crate) struct Tables {
    stock: HashMap<String, (String, String)>,
    unit: HashMap<String, String>,
}

impl Tables {
    pub(crate) fn sample() -> Self {
        let own = |text: &str| text.to_owned();
        let stock = [("SH01", ("101", "CK001")), ("BJ01", ("102", "CK002"))];
        let unit = [("盒", "He"), ("个", "Pcs")];
        Self {
            stock: stock.into_iter().map(|(key, (org, stock))| (own(key), (own(org), own(stock)))).collect(),
            unit: unit.into_iter().map(|(key, code)| (own(key), own(code))).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    order_no: Cow<'a, str>,
    #[serde(borrow)]
    warehouse_no: Cow<'a, str>,
    #[serde(borrow)]
    check_time: Cow<'a, str>,
    #[serde(borrow)]
    purchase_no: Cow<'a, str>,
    #[serde(borrow)]
    provider_no: Cow<'a, str>,
    #[serde(borrow)]
    outer_no: Cow<'a, str>,
    #[serde(borrow)]
    logistics_no: Cow<'a, str>,
    #[serde(borrow)]
    details_list: Vec<Detail<'a>>,
}

#[derive(Deserialize)]
struct Detail<'a> {
    rec_id: u64,
    #[serde(borrow)]
    num: Cow<'a, str>,
    #[serde(borrow)]
    tax: Cow<'a, str>,
    #[serde(borrow)]
    tax_price: Cow<'a, str>,
    #[serde(borrow)]
    spec_no: Cow<'a, str>,
    #[serde(borrow)]
    unit_name: Cow<'a, str>,
    #[serde(borrow)]
    batch_no: Cow<'a, str>,
    #[serde(borrow)]
    expire_date: Cow<'a, str>,
    defect: bool,
    #[serde(borrow)]
    remark: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Code<'a> {
    fnumber: &'a str,
}

#[derive(Serialize)]
struct Number<'a> {
    #[serde(rename = "FNumber")]
    number: &'a str,
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "Kingdee's own names")]
struct InStock<'a> {
    FBillTypeID: Code<'a>,
    FBusinessType: &'a str,
    FBillNo: &'a str,
    FDate: String,
    FStockOrgId: Number<'a>,
    FPurchaseOrgId: Number<'a>,
    FSupplierId: Number<'a>,
    FOwnerTypeIdHead: &'a str,
    FOwnerIdHead: Number<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    FDeliveryBill: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    FTakeDeliveryBill: &'a str,
    FInStockFin: Finance<'a>,
    FInStockEntry: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "Kingdee's own names")]
struct Finance<'a> {
    FSettleOrgId: Number<'a>,
    FSettleCurrId: Number<'a>,
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "Kingdee's own names")]
struct Entry<'a> {
    FRowType: &'a str,
    FMaterialId: Number<'a>,
    FUnitID: Number<'a>,
    FRealQty: &'a RawValue,
    FPriceUnitQty: &'a RawValue,
    FTaxPrice: &'a RawValue,
    FEntryTaxRate: Box<RawValue>,
    FAllAmount: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    FLot: Option<Number<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    FExpiryDate: &'a str,
    FStockId: Number<'a>,
    FStockStatusId: Number<'a>,
    FGiveAway: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    FNote: &'a str,
    FOWNERTYPEID: &'a str,
    FOWNERID: Number<'a>,
    FSRCBillNo: &'a str,
    FInStockEntry_Link: [Link<'a>; 1],
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "Kingdee's own names")]
struct Link<'a> {
    FInStockEntry_Link_FRuleId: &'a str,
    FInStockEntry_Link_FSTableName: &'a str,
    FInStockEntry_Link_FSBillId: &'a str,
    FInStockEntry_Link_FSId: String,
}

/// Parse into borrowed structs, build the model's structs, serialise.
pub(crate) fn structs(document: &[u8], tables: &Tables, out: &mut Vec<u8>) {
    let order: Order<'_> = serde_json::from_slice(document).unwrap();
    let (org, stock) = &tables.stock[order.warehouse_no.as_ref()];
    let number = |number| Number { number };
    let model = InStock {
        FBillTypeID: Code { fnumber: "RKD01_SYS" },
        FBusinessType: "CG",
        FBillNo: &order.order_no,
        FDate: day(&order.check_time),
        FStockOrgId: number(org),
        FPurchaseOrgId: number(org),
        FSupplierId: number(&order.provider_no),
        FOwnerTypeIdHead: "BD_OwnerOrg",
        FOwnerIdHead: number(org),
        FDeliveryBill: &order.logistics_no,
        FTakeDeliveryBill: &order.outer_no,
        FInStockFin: Finance { FSettleOrgId: number("100"), FSettleCurrId: number("PRE001") },
        FInStockEntry: order
            .details_list
            .iter()
            .map(|line| entry(line, &order, (org, stock), tables))
            .collect(),
    };
    serde_json::to_writer(out, &model).unwrap();
}

fn entry<'a>(
    line: &'a Detail<'_>,
    order: &'a Order<'_>,
    (org, stock): (&'a str, &'a str),
    tables: &'a Tables,
) -> Entry<'a> {
    let number = |number| Number { number };
    let (num, tax) = (decimal(&line.num), decimal(&line.tax));
    let price = decimal(&line.tax_price);
    Entry {
        FRowType: "Standard",
        FMaterialId: number(&line.spec_no),
        FUnitID: number(&tables.unit[line.unit_name.as_ref()]),
        FRealQty: serde_json::from_str(&line.num).unwrap(),
        FPriceUnitQty: serde_json::from_str(&line.num).unwrap(),
        FTaxPrice: serde_json::from_str(&line.tax_price).unwrap(),
        FEntryTaxRate: raw(tax * Decimal::ONE_HUNDRED),
        FAllAmount: raw((num * price).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)),
        FLot: (!line.batch_no.is_empty()).then(|| number(&line.batch_no)),
        FExpiryDate: line.expire_date.get(..10).unwrap_or_default(),
        FStockId: number(stock),
        FStockStatusId: number(if line.defect { "KCZT08_SYS" } else { "KCZT01_SYS" }),
        FGiveAway: price.is_zero(),
        FNote: &line.remark,
        FOWNERTYPEID: "BD_OwnerOrg",
        FOWNERID: number(org),
        FSRCBillNo: &order.purchase_no,
        FInStockEntry_Link: [Link {
            FInStockEntry_Link_FRuleId: "PUR_PurchaseOrder-STK_InStock",
            FInStockEntry_Link_FSTableName: "t_PUR_POOrderEntry",
            FInStockEntry_Link_FSBillId: &order.purchase_no,
            FInStockEntry_Link_FSId: format!("{}-{}", order.purchase_no, line.rec_id),
        }],
    }
}

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

fn raw(value: Decimal) -> Box<RawValue> {
    RawValue::from_string(value.normalize().to_string()).unwrap()
}

fn day(milliseconds: &str) -> String {
    let instant = jiff::Timestamp::from_millisecond(milliseconds.parse().unwrap()).unwrap();
    jiff::tz::Offset::constant(8).to_datetime(instant).date().to_string()
}

/// The same over a tree of values; numbers go through text so that no digit is lost before they are written.
pub(crate) fn values(document: &[u8], tables: &Tables, out: &mut Vec<u8>) {
    let order: Value = serde_json::from_slice(document).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (org, stock) = &tables.stock[order["warehouse_no"].as_str().unwrap()];
    let lines: Vec<Value> = order["details_list"].as_array().unwrap().iter().map(|line| {
        let (num, tax) = (decimal(line["num"].as_str().unwrap()), decimal(line["tax"].as_str().unwrap()));
        let price = decimal(line["tax_price"].as_str().unwrap());
        let mut entry = json!({
            "FRowType": "Standard",
            "FMaterialId": {"FNumber": text(&line["spec_no"])},
            "FUnitID": {"FNumber": tables.unit[line["unit_name"].as_str().unwrap()]},
            "FRealQty": serde_json::from_str::<Value>(line["num"].as_str().unwrap()).unwrap(),
            "FPriceUnitQty": serde_json::from_str::<Value>(line["num"].as_str().unwrap()).unwrap(),
            "FTaxPrice": serde_json::from_str::<Value>(line["tax_price"].as_str().unwrap()).unwrap(),
            "FEntryTaxRate": value(tax * Decimal::ONE_HUNDRED),
            "FAllAmount": value((num * price).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)),
        });
        let fields = entry.as_object_mut().unwrap();
        let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
        if line["batch_no"] != "" {
            put("FLot", json!({"FNumber": text(&line["batch_no"])}));
        }
        if line["expire_date"] != "" {
            put("FExpiryDate", json!(line["expire_date"].as_str().unwrap()[..10]));
        }
        put("FStockId", json!({"FNumber": stock}));
        let status = if line["defect"] == true { "KCZT08_SYS" } else { "KCZT01_SYS" };
        put("FStockStatusId", json!({"FNumber": status}));
        put("FGiveAway", json!(price.is_zero()));
        if line["remark"] != "" {
            put("FNote", json!(text(&line["remark"])));
        }
        put("FOWNERTYPEID", json!("BD_OwnerOrg"));
        put("FOWNERID", json!({"FNumber": org}));
        put("FSRCBillNo", json!(text(&order["purchase_no"])));
        put("FInStockEntry_Link", json!([{
            "FInStockEntry_Link_FRuleId": "PUR_PurchaseOrder-STK_InStock",
            "FInStockEntry_Link_FSTableName": "t_PUR_POOrderEntry",
            "FInStockEntry_Link_FSBillId": text(&order["purchase_no"]),
            "FInStockEntry_Link_FSId": format!("{}-{}", text(&order["purchase_no"]), line["rec_id"]),
        }]));
        entry
    }).collect();
    let mut model = json!({
        "FBillTypeID": {"FNUMBER": "RKD01_SYS"},
        "FBusinessType": "CG",
        "FBillNo": text(&order["order_no"]),
        "FDate": day(order["check_time"].as_str().unwrap()),
        "FStockOrgId": {"FNumber": org},
        "FPurchaseOrgId": {"FNumber": org},
        "FSupplierId": {"FNumber": text(&order["provider_no"])},
        "FOwnerTypeIdHead": "BD_OwnerOrg",
        "FOwnerIdHead": {"FNumber": org},
        "FDeliveryBill": text(&order["logistics_no"]),
        "FInStockFin": {"FSettleOrgId": {"FNumber": "100"}, "FSettleCurrId": {"FNumber": "PRE001"}},
    });
    model.as_object_mut().unwrap().insert("FInStockEntry".to_owned(), Value::Array(lines));
    serde_json::to_writer(out, &model).unwrap();
}

fn value(value: Decimal) -> Value {
    serde_json::from_str(&value.normalize().to_string()).unwrap()
}
