//! Orders in the two styles of WDT's gateways, with the unstable types of the real ones.

use rust_decimal::Decimal;

use super::{Line, MissingPrice, Order};
use crate::beijing;
use crate::json::Json;

/// Which gateway's habits a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Direct OpenAPI: numbers and text side by side, times as epoch milliseconds.
    Direct,
    /// Qimen: values as text.
    Qimen,
}

/// One order as WDT would answer it.
pub(crate) fn render(order: &Order, style: Style) -> Json {
    let salt = u64::from(order.index);
    let sums = order.sums();
    let mut pairs: Vec<(&str, Json)> = vec![
        ("order_no", order.order_no.as_str().into()),
        ("warehouse_no", order.warehouse_no.as_str().into()),
        ("status", integer(order.status, style)),
        ("modified", time(order.modified, style, salt)),
        ("created_time", time(order.created, style, salt)),
        ("check_time", time(order.checked, style, salt + 3)),
        ("purchase_no", order.purchase_no.as_str().into()),
        ("goods_count", decimal(sums.goods_count, style, salt + 1)),
        ("provider_no", order.provider_no.as_str().into()),
        ("provider_name", blanked(&order.provider_name, salt)),
        ("outer_no", order.outer_no.as_str().into()),
        ("goods_amount", decimal(sums.goods_amount, style, 0)),
        ("total_price", decimal(sums.total_price, style, 1)),
        ("flag_name", order.flag.into()),
    ];
    if let Some((name, code)) = order.carrier {
        pairs.push(("logistics_type", integer(4, style)));
        pairs.push(("logistics_name", name.into()));
        pairs.push(("logistics_code", code.into()));
        pairs.push(("logistics_no", order.waybill.as_str().into()));
    } else if salt.is_multiple_of(2) {
        let empty = ["logistics_name", "logistics_code", "logistics_no"];
        pairs.extend(empty.map(|name| (name, "".into())));
    }
    if style == Style::Direct {
        pairs.push(("stockin_id", (91_000 + salt).into()));
        pairs.push(("tax_amount", decimal(sums.tax_amount, style, 2)));
        pairs.push(("total_stockin_price", decimal(sums.total_price, style, 0)));
        pairs.push(("operator_name", "示例仓管".into()));
    }
    if !order.remark.is_empty() || salt.is_multiple_of(3) {
        pairs.push(("remark", order.remark.as_str().into()));
    }
    pairs.push(("version_id", (salt % 7 + 1).into()));
    pairs.push(("details_list", Json::Array(order.lines.iter().map(|l| line(l, style)).collect())));
    Json::object(pairs)
}

fn line(line: &Line, style: Style) -> Json {
    let salt = line.rec_id;
    let quantity = line.num_text.map_or_else(|| decimal(line.num, style, salt), Json::from);
    let mut pairs: Vec<(&str, Json)> = vec![
        ("rec_id", if salt.is_multiple_of(5) { salt.to_string().into() } else { salt.into() }),
        ("num", quantity),
        ("discount", decimal(line.discount, style, salt + 1)),
        ("cost_price", decimal(line.cost_price, style, salt + 2)),
        ("src_price", decimal(line.src_price, style, salt + 1)),
    ];
    match line.missing_price {
        None => pairs.push(("tax_price", decimal(line.tax_price, style, salt + 2))),
        Some(MissingPrice::Empty) => pairs.push(("tax_price", "".into())),
        Some(MissingPrice::Absent) => {}
    }
    pairs.extend([
        ("tax", decimal(line.tax, style, salt)),
        ("tax_amount", decimal(line.tax_amount, style, salt + 1)),
        ("total_cost", decimal(line.total_cost, style, salt + 2)),
        ("goods_name", blanked(&line.material.goods_name, salt)),
        ("goods_no", line.material.goods_no.as_str().into()),
        ("spec_no", line.material.spec_no.as_str().into()),
        ("spec_name", blanked(&line.material.spec_name, salt + 4)),
        ("brand_name", line.material.brand_name.into()),
        ("unit_name", line.material.unit_name.into()),
        ("batch_no", line.batch_no.as_str().into()),
        (
            "expire_date",
            line.expires.map(|at| format!("{} 00:00:00", beijing::date(at))).unwrap_or_default().into(),
        ),
        ("defect", defect(line.defect, style, salt)),
    ]);
    if !salt.is_multiple_of(4) {
        pairs.push(("prop2", "".into()));
    }
    if !line.remark.is_empty() || salt.is_multiple_of(2) {
        pairs.push(("remark", line.remark.as_str().into()));
    }
    if style == Style::Direct {
        pairs.push(("stockin_price", decimal(line.src_price, style, salt)));
        pairs.push(("spec_code", "".into()));
        pairs.push(("position_no", "A01-01".into()));
    }
    pairs.push(("seq_no", (salt % 1000).into()));
    Json::object(pairs)
}

/// Direct: a number, or text with eight decimals, by chance of the salt. Qimen: text with four or more.
fn decimal(value: Decimal, style: Style, salt: u64) -> Json {
    let mut value = value.normalize();
    match style {
        Style::Direct if salt.is_multiple_of(3) => {
            value.rescale(8);
            Json::Text(value.to_string())
        }
        Style::Direct => Json::Number(value.to_string()),
        Style::Qimen => {
            value.rescale(value.scale().max(4));
            Json::Text(value.to_string())
        }
    }
}

fn integer(value: i64, style: Style) -> Json {
    if style == Style::Direct { value.into() } else { value.to_string().into() }
}

/// Epoch milliseconds, or now and then `yyyy-MM-dd HH:mm:ss`.
fn time(second: i64, style: Style, salt: u64) -> Json {
    match style {
        _ if salt % 8 == 5 => beijing::text(second).into(),
        Style::Direct => (second * 1000).into(),
        Style::Qimen => (second * 1000).to_string().into(),
    }
}

/// Names come with a trailing blank now and then; codes never do.
fn blanked(text: &str, salt: u64) -> Json {
    if salt % 11 == 7 { format!("{text} ").into() } else { text.into() }
}

fn defect(defect: bool, style: Style, salt: u64) -> Json {
    match (style, salt % 3) {
        (_, 0) => defect.into(),
        (Style::Direct, _) => i64::from(defect).into(),
        (Style::Qimen, _) => defect.to_string().into(),
    }
}
