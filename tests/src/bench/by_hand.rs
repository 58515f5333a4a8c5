//! The shipped scheme written by hand: borrowed structs, as a careful programmer would write it for this one document
//! type. It checks numbers, rates and look-ups; it doesn't check for what is empty, doesn't collect every problem of a
//! document and can't be changed without a compiler, so it is faster than it could be in earnest.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// China's rates of value added tax in percent.
const RATES: [u32; 11] = [0, 1, 3, 5, 6, 9, 10, 11, 13, 16, 17];
const ROW_FOR_ALL: &str = "*";

/// The look-up tables, with the rows that are shipped.
pub struct Tables {
    stock: HashMap<String, Place>,
    supplier: HashMap<String, String>,
}

struct Place {
    org: String,
    stock: String,
}

impl Tables {
    /// The rows of `schemes/tables`.
    pub fn shipped() -> Self {
        let place = Place { org: "100".to_owned(), stock: String::new() };
        Tables { stock: HashMap::from([(ROW_FOR_ALL.to_owned(), place)]), supplier: HashMap::new() }
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
    #[serde(borrow)]
    num: Cow<'a, str>,
    #[serde(borrow)]
    tax: Cow<'a, str>,
    #[serde(borrow)]
    tax_price: Cow<'a, str>,
    #[serde(borrow)]
    spec_no: Cow<'a, str>,
    defect: bool,
    #[serde(borrow)]
    remark: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Code<'a> {
    fnumber: &'a str,
}

#[derive(Clone, Copy, Serialize)]
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
    FPayOrgId: Number<'a>,
    FSettleCurrId: Number<'a>,
    FIsIncludedTax: bool,
}

#[derive(Serialize)]
#[expect(non_snake_case, reason = "Kingdee's own names")]
struct Entry<'a> {
    FMaterialId: Number<'a>,
    FRealQty: &'a RawValue,
    FTaxPrice: &'a RawValue,
    FEntryTaxRate: u32,
    FStockId: Number<'a>,
    FStockStatusId: Number<'a>,
    FGiveAway: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    FNote: &'a str,
    FOWNERTYPEID: &'a str,
    FOWNERID: Number<'a>,
}

/// Appends the model of an order: parse into borrowed structs, build the model's structs, serialise.
///
/// # Errors
/// The order is not what the scheme expects.
pub(super) fn map(document: &[u8], tables: &Tables, out: &mut Vec<u8>) -> Result<()> {
    let order: Order<'_> = serde_json::from_slice(document)?;
    let place = tables.stock.get(order.warehouse_no.as_ref()).or_else(|| tables.stock.get(ROW_FOR_ALL));
    let place = place.context("the warehouse is not in the table")?;
    let org = Number { number: &place.org };
    let stock = if place.stock.is_empty() { order.warehouse_no.as_ref() } else { &place.stock };
    let supplier =
        tables.supplier.get(order.provider_no.as_ref()).map_or(order.provider_no.as_ref(), String::as_str);
    let lines = order.details_list.iter().map(|line| entry(line, org, stock));
    let model = InStock {
        FBillTypeID: Code { fnumber: "RKD01_SYS" },
        FBusinessType: "CG",
        FBillNo: &order.order_no,
        FDate: day(&order.check_time)?,
        FStockOrgId: org,
        FPurchaseOrgId: org,
        FSupplierId: Number { number: supplier },
        FOwnerTypeIdHead: "BD_OwnerOrg",
        FOwnerIdHead: org,
        FDeliveryBill: &order.logistics_no,
        FTakeDeliveryBill: &order.outer_no,
        FInStockFin: Finance {
            FSettleOrgId: org,
            FPayOrgId: org,
            FSettleCurrId: Number { number: "PRE001" },
            FIsIncludedTax: true,
        },
        FInStockEntry: lines.collect::<Result<_>>()?,
    };
    Ok(serde_json::to_writer(out, &model)?)
}

fn entry<'a>(line: &'a Detail<'_>, org: Number<'a>, stock: &'a str) -> Result<Entry<'a>> {
    let rate = (decimal(&line.tax)? * Decimal::ONE_HUNDRED).normalize();
    let rate = u32::try_from(rate).ok().filter(|rate| RATES.contains(rate));
    Ok(Entry {
        FMaterialId: Number { number: &line.spec_no },
        FRealQty: serde_json::from_str(&line.num)?,
        FTaxPrice: serde_json::from_str(&line.tax_price)?,
        FEntryTaxRate: rate.with_context(|| format!("`{}` is no rate of tax", line.tax))?,
        FStockId: Number { number: stock },
        FStockStatusId: Number { number: if line.defect { "KCZT08_SYS" } else { "KCZT01_SYS" } },
        FGiveAway: decimal(&line.tax_price)?.is_zero(),
        FNote: &line.remark,
        FOWNERTYPEID: "BD_OwnerOrg",
        FOWNERID: org,
    })
}

fn decimal(text: &str) -> Result<Decimal> {
    Decimal::from_str_exact(text).with_context(|| format!("`{text}` is no number"))
}

fn day(milliseconds: &str) -> Result<String> {
    let instant = jiff::Timestamp::from_millisecond(milliseconds.parse()?)?;
    let date = jiff::tz::Offset::constant(8).to_datetime(instant).date();
    ensure!(date.year() > 2000, "{date} is no date of a stock-in");
    Ok(date.to_string())
}

#[cfg(test)]
mod tests {
    use kingpost_mapping::Scratch;
    use serde_json::Value;

    use super::*;
    use crate::bench::{orders::order, shipped_mapping};

    #[test]
    fn the_hand_written_mapping_writes_the_model_of_the_shipped_scheme() {
        let (mapping, tables) = (shipped_mapping().unwrap(), Tables::shipped());
        for lines in [1, 5, 24] {
            let document = order(lines, lines);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            mapping.apply(document.as_bytes(), &mut Scratch::new(), &mut ours).unwrap();
            map(document.as_bytes(), &tables, &mut theirs).unwrap();
            let [ours, theirs] = [ours, theirs].map(|model| serde_json::from_slice::<Value>(&model).unwrap());
            assert_eq!(ours, theirs, "{lines} lines");
        }
    }

    #[test]
    fn an_impossible_rate_is_refused() {
        let document = order(1, 1).replace(r#""tax":"0.1300""#, r#""tax":"13.0000""#);
        assert!(map(document.as_bytes(), &Tables::shipped(), &mut Vec::new()).is_err());
    }
}
