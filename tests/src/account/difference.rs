//! An order against its document.

use rust_decimal::Decimal;
use serde_json::Value;

use super::{day, decimal, list, text};

/// The organisation that the shipped table of stocks names for every warehouse.
const ORGANISATION: &str = "100";

/// How a document differs from every content that its order ever had while it was completed, and whether that which it
/// has is the last one.
pub(super) enum Likeness {
    /// It is what the order says now.
    Last,
    /// It is what the order said before somebody changed it.
    Earlier,
    /// It is neither.
    None(String),
}

/// What a document is of its order.
pub(super) fn likeness(order: &Value, document: &Value) -> Likeness {
    match difference(order, document) {
        None => Likeness::Last,
        Some(_) if list(order, "earlier").iter().any(|earlier| difference(earlier, document).is_none()) => {
            Likeness::Earlier
        }
        Some(difference) => Likeness::None(difference),
    }
}

/// How a document differs from its order, in everything that the sandbox shows of it; numbers are compared as decimals.
pub(super) fn difference(order: &Value, document: &Value) -> Option<String> {
    let date = day(text(document, "date"));
    for (name, theirs, ours) in [
        ("status", text(document, "status"), "C"),
        ("supplier", text(document, "supplier"), text(order, "provider_no")),
        ("date", date.as_str(), day(text(order, "check_time")).as_str()),
        ("stock_org", text(document, "stock_org"), ORGANISATION),
    ] {
        if theirs != ours {
            return Some(format!("{name} {theirs:?} instead of {ours:?}"));
        }
    }
    let (ours, theirs) = (list(order, "lines"), list(document, "lines"));
    if ours.len() != theirs.len() {
        return Some(format!("{} lines instead of {}", theirs.len(), ours.len()));
    }
    let stock = text(order, "warehouse_no");
    let lines = ours.iter().zip(theirs).enumerate();
    lines
        .filter_map(|(n, (ours, theirs))| {
            line_difference(stock, ours, theirs).map(|found| format!("line {n}: {found}"))
        })
        .next()
}

fn line_difference(stock: &str, ours: &Value, theirs: &Value) -> Option<String> {
    for (name, found, wanted) in [
        ("material", text(theirs, "material"), text(ours, "spec_no")),
        ("stock", text(theirs, "stock"), stock),
        ("note", text(theirs, "note"), text(ours, "remark")),
        // Lots are switched off in the shipped scheme.
        ("lot", text(theirs, "lot"), ""),
    ] {
        if found != wanted {
            return Some(format!("{name} {found:?} instead of {wanted:?}"));
        }
    }
    let price = decimal(text(ours, "tax_price"));
    let rate = decimal(text(ours, "tax")).map(|rate| rate * Decimal::ONE_HUNDRED);
    for (name, found, wanted) in [
        ("quantity", decimal(text(theirs, "qty")), decimal(text(ours, "num"))),
        ("price", decimal(text(theirs, "tax_price")), price),
        ("tax rate", decimal(text(theirs, "tax_rate")), rate),
    ] {
        if wanted.is_none() || found != wanted {
            return Some(format!("{name} {found:?} instead of {wanted:?}"));
        }
    }
    let (found, wanted) = (theirs.get("gift").and_then(Value::as_bool), price.map(|price| price.is_zero()));
    (found != wanted).then(|| format!("gift {found:?} instead of {wanted:?}"))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn order(number: &str, price: &str) -> Value {
        // 00:30 of the second in Beijing, which is still the first in Greenwich.
        json!({"order_no": number, "status": "80", "provider_no": "G1", "check_time": "1785601800000", "warehouse_no": "W1",
               "lines": [{"spec_no": "S1", "num": "2.50", "tax_price": price, "tax": "0.13", "remark": "x"}]})
    }

    pub(in super::super) fn document(number: &str, price: &str) -> Value {
        json!({"FBillNo": number, "status": "C", "supplier": "G1", "date": "2026-08-02", "stock_org": "100",
               "lines": [{"material": "S1", "qty": "2.5", "tax_price": price, "tax_rate": "13", "stock": "W1",
                          "gift": false, "note": "x", "lot": null}]})
    }

    #[test]
    fn every_field_that_differs_is_found() {
        let (order, right) = (order("RK1", "1.10"), document("RK1", "1.1"));
        assert_eq!(difference(&order, &right), None);
        for (path, wrong) in [
            ("/status", json!("B")),
            ("/supplier", json!("G2")),
            ("/date", json!("2026-08-01")),
            ("/stock_org", json!("101")),
            ("/lines", json!([])),
            ("/lines/0/material", json!("S2")),
            ("/lines/0/qty", json!("2.50000001")),
            ("/lines/0/tax_price", json!("1.11")),
            ("/lines/0/tax_rate", json!("0.13")),
            ("/lines/0/stock", json!("W2")),
            ("/lines/0/gift", json!(true)),
            ("/lines/0/note", Value::Null),
            ("/lines/0/lot", json!("L1")),
        ] {
            let mut document = right.clone();
            *document.pointer_mut(path).unwrap() = wrong;
            assert!(difference(&order, &document).is_some(), "a wrong {path} is not found");
        }
        let gift = document("RK1", "0");
        assert!(difference(&super::tests::order("RK1", "0"), &gift).is_some(), "a gift that is none");
    }

    #[test]
    fn an_earlier_content_is_told_from_the_last_one_and_from_a_wrong_one() {
        let (mut order, document) = (order("RK1", "2"), document("RK1", "1.1"));
        assert!(matches!(likeness(&order, &document), Likeness::None(_)));
        order["earlier"] = json!([super::tests::order("RK1", "1.10")]);
        assert!(matches!(likeness(&order, &document), Likeness::Earlier));
        assert!(matches!(likeness(&order, &super::tests::document("RK1", "2")), Likeness::Last));
    }
}
