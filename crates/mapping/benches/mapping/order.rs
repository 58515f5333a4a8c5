//! The document and the mapping that are measured.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use kingpost_mapping::spec::{Field, Kind, Node, Output, Position, Shape, Spec, Table, Text};

/// A stock-in of so many lines, as Qimen sends it.
pub(crate) fn document(lines: usize) -> String {
    let mut json = String::from(
        r#"{"order_no":"RK2024042107","warehouse_no":"SH01","status":"80","created_time":"1713679530000","check_time":"1713685327000","modified":"1713685328000","purchase_no":"CG2404210003","provider_no":"GYS0007","provider_name":"杭州示例食品有限公司","outer_no":"","goods_count":"148.0000","goods_amount":"2930.0000","total_price":"2880.0000","logistics_type":"","logistics_name":"","logistics_code":"","logistics_no":"SF1390000000017","flag_name":"无","remark":"","details_list":["#,
    );
    for line in 0..lines {
        let comma = if line == 0 { "" } else { "," };
        let (batch, expire, remark) = match line % 3 {
            0 => ("20240418A", "2025-04-18 00:00:00", ""),
            1 => ("", "", "补货"),
            _ => ("20240501B", "2025-05-01 00:00:00", "到货时外箱破损，已拍照"),
        };
        let (price, gift) = if line % 7 == 6 { ("0.0000", true) } else { ("13.5600", false) };
        write!(
            json,
            r#"{comma}{{"rec_id":{},"num":"{}.0000","cost_price":"12.5000","discount":"0.9600","src_price":"12.0000","tax":"0.1300","tax_price":"{price}","total_cost":"1200.0000","tax_amount":"1356.0000","spec_no":"SP-{}","goods_no":"HP-{}","goods_name":"坚果礼盒","spec_name":"750g","brand_name":"示例","unit_name":"盒","batch_no":"{batch}","expire_date":"{expire}","defect":{},"prop2":"","remark":"{remark}","position_no":"A01-01"}}"#,
            311_001 + line,
            100 + line,
            1001 + line,
            1001 + line,
            gift,
        )
        .expect("writing to a String can't fail");
    }
    json.push_str("]}");
    json
}

fn at(text: &str) -> Text {
    Text { text: text.to_owned(), at: Position { line: 1, column: 1 } }
}

fn field(key: &str, value: Node) -> Field {
    let optional = key.ends_with('?');
    let key = key.trim_end_matches('?').to_owned();
    Field { key, optional, enabled: true, at: Position { line: 1, column: 1 }, value }
}

fn text(key: &str, rule: &str) -> Field {
    field(key, Node::Text(at(rule)))
}

fn base(key: &str, rule: &str) -> Field {
    field(key, Node::Object(vec![text("FNumber", rule)]))
}

/// The mapping, with the source's fields declared or not.
pub(crate) fn spec(declared: bool) -> Spec {
    Spec {
        model: model(),
        filter: Some(at("status == '80'")),
        outputs: vec![
            Output { name: "key".to_owned(), rule: at("order_no"), optional: false },
            Output { name: "write_key".to_owned(), rule: at("purchase_no"), optional: true },
        ],
        shape: declared.then(shape),
        settings: BTreeMap::new(),
        tables: BTreeMap::from([
            (
                "stock".to_owned(),
                table(&["org", "stock"], &[("SH01", &["101", "CK001"]), ("BJ01", &["102", "CK002"])]),
            ),
            ("unit".to_owned(), table(&["code"], &[("盒", &["He"]), ("个", &["Pcs"])])),
        ]),
        utc_offset_seconds: 28_800,
    }
}

fn table(columns: &[&str], rows: &[(&str, &[&str])]) -> Table {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rows: HashMap<_, _> = rows.iter().map(|(key, row)| ((*key).to_owned(), own(row))).collect();
    Table { columns: own(columns), rows, fallback: None }
}

fn model() -> Vec<Field> {
    vec![
        field("FBillTypeID", Node::Object(vec![text("FNUMBER", "RKD01_SYS")])),
        text("FBusinessType", "CG"),
        text("FBillNo", "{{ order_no }}"),
        text("FDate", "{{ check_time | date }}"),
        base("FStockOrgId", "{{ warehouse_no | table('stock', 'org') }}"),
        base("FPurchaseOrgId", "{{ warehouse_no | table('stock', 'org') }}"),
        base("FSupplierId", "{{ provider_no }}"),
        text("FOwnerTypeIdHead", "BD_OwnerOrg"),
        base("FOwnerIdHead", "{{ warehouse_no | table('stock', 'org') }}"),
        text("FDeliveryBill?", "{{ logistics_no }}"),
        text("FTakeDeliveryBill?", "{{ outer_no }}"),
        field(
            "FInStockFin",
            Node::Object(vec![base("FSettleOrgId", "100"), base("FSettleCurrId", "PRE001")]),
        ),
        field("FInStockEntry", Node::Each { array: at("details_list"), item: entry() }),
    ]
}

fn entry() -> Vec<Field> {
    vec![
        text("FRowType", "Standard"),
        base("FMaterialId", "{{ spec_no }}"),
        base("FUnitID", "{{ unit_name | table('unit', 'code') }}"),
        text("FRealQty", "{{ num | decimal }}"),
        text("FPriceUnitQty", "{{ num | decimal }}"),
        text("FTaxPrice", "{{ tax_price | decimal }}"),
        text("FEntryTaxRate", "= tax * 100"),
        text("FAllAmount", "= num * tax_price | round(2)"),
        base("FLot?", "{{ batch_no }}"),
        text("FExpiryDate?", "{{ expire_date | date }}"),
        base("FStockId", "{{ warehouse_no | table('stock', 'stock') }}"),
        base("FStockStatusId", "{{ if(defect, 'KCZT08_SYS', 'KCZT01_SYS') }}"),
        text("FGiveAway", "= tax_price == 0"),
        text("FNote?", "{{ remark }}"),
        text("FOWNERTYPEID", "BD_OwnerOrg"),
        base("FOWNERID", "{{ warehouse_no | table('stock', 'org') }}"),
        text("FSRCBillNo", "{{ purchase_no }}"),
        field(
            "FInStockEntry_Link",
            Node::Array(vec![Node::Object(vec![
                text("FInStockEntry_Link_FRuleId", "PUR_PurchaseOrder-STK_InStock"),
                text("FInStockEntry_Link_FSTableName", "t_PUR_POOrderEntry"),
                text("FInStockEntry_Link_FSBillId", "{{ purchase_no }}"),
                text("FInStockEntry_Link_FSId", "{{ purchase_no }}-{{ rec_id }}"),
            ])]),
        ),
    ]
}

fn shape() -> Shape {
    let fields = |names: &[(&str, Kind)]| {
        names.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<BTreeMap<_, _>>()
    };
    let header = [
        ("order_no", Kind::Text),
        ("warehouse_no", Kind::Text),
        ("status", Kind::Text),
        ("check_time", Kind::Time),
        ("purchase_no", Kind::Text),
        ("provider_no", Kind::Text),
        ("outer_no", Kind::Text),
        ("logistics_no", Kind::Text),
    ];
    let line = [
        ("rec_id", Kind::Text),
        ("num", Kind::Decimal),
        ("tax", Kind::Decimal),
        ("tax_price", Kind::Decimal),
        ("spec_no", Kind::Text),
        ("unit_name", Kind::Text),
        ("batch_no", Kind::Text),
        ("expire_date", Kind::Time),
        ("defect", Kind::Bool),
        ("remark", Kind::Text),
    ];
    Shape { header: fields(&header), arrays: BTreeMap::from([("details_list".to_owned(), fields(&line))]) }
}
