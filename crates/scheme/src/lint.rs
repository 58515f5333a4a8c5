//! What is wrong with a model for Kingdee although every expression in it is right.

use kingpost_mapping::spec::{Field, Node, Position};

use crate::kingdee::NOT_FIELDS;
use crate::problem::Findings;

/// Where a form keeps its money and its lines, from the vendor's samples of each form.
struct Form {
    id: &'static str,
    finance: Option<&'static str>,
    entry: &'static str,
    material: &'static str,
    quantity: &'static str,
}

const fn form(
    id: &'static str,
    finance: Option<&'static str>,
    entry: &'static str,
    quantity: &'static str,
) -> Form {
    Form { id, finance, entry, material: "FMaterialId", quantity }
}

static FORMS: [Form; 9] = [
    form("STK_InStock", Some("FInStockFin"), "FInStockEntry", "FRealQty"),
    form("PUR_PurchaseOrder", Some("FPOOrderFinance"), "FPOOrderEntry", "FQty"),
    form("PUR_MRB", Some("FPURMRBFIN"), "FPURMRBENTRY", "FRMREALQTY"),
    form("SAL_SaleOrder", Some("FSaleOrderFinance"), "FSaleOrderEntry", "FQty"),
    form("SAL_OUTSTOCK", Some("SubHeadEntity"), "FEntity", "FRealQty"),
    form("SAL_RETURNSTOCK", Some("SubHeadEntity"), "FEntity", "FRealQty"),
    form("STK_MISCELLANEOUS", None, "FEntity", "FQty"),
    form("STK_MisDelivery", None, "FEntity", "FQty"),
    form("STK_TransferDirect", None, "FBillEntry", "FQty"),
];

/// Fields that Kingdee fetches anew when material and quantity arrive, over what came before.
const PRICES: [&str; 4] = ["FPrice", "FTaxPrice", "FEntryTaxRate", "FDiscountRate"];

/// Checks a model for a form of Kingdee; a form that isn't known has only the rules that all share.
pub(crate) fn kingdee(model: &[Field], form: &str, findings: &mut Findings) {
    every_field(model, "", findings);
    let Some(form) = FORMS.iter().find(|known| known.id.eq_ignore_ascii_case(form)) else { return };
    if let Some(finance) = form.finance {
        if let (Some(money), Some(lines)) = (position(model, finance), position(model, form.entry))
            && money > lines
        {
            let what = format!("`{finance}` stands after `{}`", form.entry);
            let remedy =
                format!("move it before `{}`: prices are computed with its currency and tax", form.entry);
            note(model, money, what, remedy, findings);
        }
        nested(model, finance, form.entry, findings);
    }
    if let Some(lines) = position(model, form.entry).and_then(|index| model.get(index)) {
        for line in lines_of(&lines.value) {
            order(line, form, findings);
        }
    }
}

fn position(fields: &[Field], key: &str) -> Option<usize> {
    fields.iter().position(|field| field.key.eq_ignore_ascii_case(key))
}

fn note(fields: &[Field], index: usize, what: String, remedy: String, findings: &mut Findings) {
    let at = fields.get(index).map_or(Position::default(), |field| field.at);
    findings.note(at, what, remedy);
}

/// The fields of each kind of line that a value writes.
fn lines_of(value: &Node) -> Vec<&[Field]> {
    match value {
        Node::Each { item, .. } => vec![item],
        Node::Object(fields) => vec![fields],
        Node::Array(items) => items.iter().flat_map(lines_of).collect(),
        _ => Vec::new(),
    }
}

fn order(line: &[Field], form: &Form, findings: &mut Findings) {
    for price in PRICES.iter().filter_map(|price| position(line, price)) {
        for before in [form.material, form.quantity] {
            // The last variant of a field is the one that would overwrite.
            let last = line.iter().rposition(|field| field.key.eq_ignore_ascii_case(before));
            if last.is_some_and(|last| last > price) {
                let name = line.get(price).map_or("", |field| field.key.as_str());
                let what = format!("`{name}` stands before `{before}`");
                let remedy = format!(
                    "move it behind `{}` and `{}`: Kingdee enters fields in the order of their keys, and those two \
                     fetch a price over one that came before",
                    form.material, form.quantity
                );
                note(line, price, what, remedy, findings);
                break;
            }
        }
    }
}

/// The lines inside the finance object: how listings of other tools show the model, but no document of Kingdee.
fn nested(model: &[Field], finance: &str, entry: &str, findings: &mut Findings) {
    let Some(Node::Object(fields)) =
        position(model, finance).and_then(|index| model.get(index)).map(|field| &field.value)
    else {
        return;
    };
    if let Some(index) = position(fields, entry) {
        let what = format!("`{entry}` stands inside `{finance}`");
        let remedy = format!("move it out, to the root of the model, after `{finance}`");
        note(fields, index, what, remedy, findings);
    }
}

fn every_field(fields: &[Field], parent: &str, findings: &mut Findings) {
    for field in fields {
        let is = |name: &str| field.key.eq_ignore_ascii_case(name);
        if NOT_FIELDS.iter().any(|name| is(name)) {
            let what = format!("`{}` is an option of the call, not a field", field.key);
            findings.note(field.at, what, "move it to `target.options`");
        }
        if is("FStockStatusId") && parent.ends_with("_Link") {
            let what = format!("`{}` stands inside `{parent}`", field.key);
            findings.note(field.at, what, "move it out, into the line itself");
        }
        if let Node::Number(digits) = &field.value
            && is("FNumber")
        {
            let what = format!("`{}` is the number {digits}, and codes are texts", field.key);
            findings.note(field.at, what, format!("write it in quotes: \"{digits}\""));
        }
        inner(&field.value, &field.key, findings);
    }
}

fn inner(value: &Node, parent: &str, findings: &mut Findings) {
    for fields in lines_of(value) {
        every_field(fields, parent, findings);
    }
}
