//! What is known of each form: enough to compare a document that is found with the one to be posted.

use std::{borrow::Cow, collections::HashMap};

use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// Where a form keeps what its documents are compared by (form structures of the 星空 WebAPI manual).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Form id.
    pub id: &'static str,
    /// The base-data field of the partner, as `FSupplierId`; empty where there is none.
    pub partner: &'static str,
    /// The entry array.
    pub entries: &'static str,
    /// The quantity of an entry.
    pub quantity: &'static str,
}

const fn form(
    id: &'static str,
    partner: &'static str,
    entries: &'static str,
    quantity: &'static str,
) -> Form {
    Form { id, partner, entries, quantity }
}

const FORMS: [Form; 9] = [
    form("STK_InStock", "FSupplierId", "FInStockEntry", "FRealQty"),
    form("PUR_PurchaseOrder", "FSupplierId", "FPOOrderEntry", "FQty"),
    form("PUR_MRB", "FSupplierID", "FPURMRBENTRY", "FRMREALQTY"),
    form("SAL_SaleOrder", "FCustId", "FSaleOrderEntry", "FQty"),
    form("SAL_OUTSTOCK", "FCustomerID", "FEntity", "FRealQty"),
    form("SAL_RETURNSTOCK", "FRetcustId", "FEntity", "FRealQty"),
    form("STK_MISCELLANEOUS", "", "FEntity", "FQty"),
    form("STK_MisDelivery", "", "FEntity", "FQty"),
    form("STK_TransferDirect", "", "FBillEntry", "FQty"),
];

/// The form of an id, if it is known.
pub(super) fn find(id: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.id.eq_ignore_ascii_case(id))
}

/// What two documents of one number have to agree in to be the same document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The partner's code.
    pub partner: Option<String>,
    /// The date, `yyyy-MM-dd`.
    pub date: Option<String>,
    /// Number of lines.
    pub lines: usize,
    /// Sum of the lines' quantities.
    pub quantity: Decimal,
}

impl Content {
    /// How another content differs, in words; nothing when they agree. A side that doesn't tell is not compared.
    pub fn difference(&self, found: &Content) -> Option<String> {
        let mut differences = Vec::new();
        for (name, ours, theirs) in
            [("partner", &self.partner, &found.partner), ("date", &self.date, &found.date)]
        {
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours != theirs
            {
                differences.push(format!("{name} {theirs} there, {ours} here"));
            }
        }
        if self.lines != found.lines {
            differences.push(format!("{} lines there, {} here", found.lines, self.lines));
        }
        if self.quantity != found.quantity {
            differences.push(format!(
                "total quantity {} there, {} here",
                found.quantity.normalize(),
                self.quantity.normalize()
            ));
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

type Fields<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

fn text(value: &RawValue) -> Option<String> {
    match serde_json::from_str::<Cow<'_, str>>(value.get()) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(_) => Some(value.get().to_owned()).filter(|raw| raw != "null" && !raw.starts_with(['{', '['])),
    }
    .filter(|text| !text.is_empty())
}

/// A decimal from its own digits.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim();
    Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text)).ok()
}

/// The day of a date, whatever time follows it.
pub(crate) fn day(text: &str) -> Option<String> {
    text.get(..10).map(str::to_owned)
}

impl Form {
    /// The content of a model that is to be posted; nothing when it can't be read as one of this form.
    pub fn content(&self, model: &[u8]) -> Option<Content> {
        let fields: Fields<'_> = serde_json::from_slice(model).ok()?;
        let partner = (!self.partner.is_empty())
            .then(|| get(&fields, self.partner))
            .flatten()
            .and_then(|value| serde_json::from_str::<Fields<'_>>(value.get()).ok())
            .and_then(|object| get(&object, "FNumber").and_then(text));
        let date = get(&fields, "FDate").and_then(text).and_then(|date| day(&date));
        let entries: Vec<Fields<'_>> = serde_json::from_str(get(&fields, self.entries)?.get()).ok()?;
        let mut quantity = Decimal::ZERO;
        for entry in &entries {
            let line = get(entry, self.quantity).and_then(text).and_then(|digits| decimal(&digits))?;
            quantity = quantity.checked_add(line)?;
        }
        Some(Content { partner, date, lines: entries.len(), quantity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_from_the_digits_as_sent() {
        let model = br#"{"FBillNo":"RK1","FDate":"2026-01-02 10:00:00","FSupplierId":{"FNUMBER":"G1"},
            "FInStockEntry":[{"FRealQty":0.1},{"FRealQty":"0.20000000"},{"FREALQTY":3e0}]}"#;
        let content = find("stk_instock").unwrap().content(model).unwrap();
        let expected = Content {
            partner: Some("G1".into()),
            date: Some("2026-01-02".into()),
            lines: 3,
            quantity: decimal("3.3").unwrap(),
        };
        assert_eq!(content, expected);
        assert_eq!(content.difference(&expected), None);
    }

    #[test]
    fn every_difference_is_named() {
        let ours = Content {
            partner: Some("A".into()),
            date: Some("2026-01-01".into()),
            lines: 1,
            quantity: Decimal::ONE,
        };
        let theirs = Content { partner: Some("B".into()), lines: 2, quantity: Decimal::TWO, ..ours.clone() };
        let text = ours.difference(&theirs).unwrap();
        assert_eq!(text, "partner B there, A here; 2 lines there, 1 here; total quantity 2 there, 1 here");
    }
}
