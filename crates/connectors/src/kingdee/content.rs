//! What two documents of one number have to agree in to be the same document.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use kingpost_kingdee::Cell;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::forms::Form;

/// The fewest decimals that Kingdee is taken to keep of a price. How many it keeps is set for each currency (单价精度), and
/// an answer leaves zeros at the end out, so that 11.30 doesn't say that there were only two.
const PRICE_DECIMALS_MIN: u32 = 2;

/// A document's content, of a model to be posted or as it stands in Kingdee. What a side doesn't tell is nothing, and
/// isn't compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The partner's code.
    pub partner: Option<String>,
    /// The date, `yyyy-MM-dd`.
    pub date: Option<String>,
    /// Codes of the stocks of all lines, in capitals; nothing when a line has none.
    pub stocks: Option<BTreeSet<String>>,
    /// Number of lines.
    pub lines: usize,
    /// All lines together.
    pub total: Share,
    /// Lines by material, under its code in capitals; nothing when a line has none.
    pub materials: Option<BTreeMap<String, Share>>,
}

/// Lines of one document taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Sum of the quantities.
    pub quantity: Decimal,
    /// Sum of quantity times price with tax; nothing when a line has no such price.
    pub taxed: Option<Amount>,
    /// Sum of quantity times price without tax; nothing when a line has no such price.
    pub untaxed: Option<Amount>,
}

/// A sum of quantity times price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// The sum.
    pub sum: Decimal,
    /// Decimals of the longest price in it, without zeros at the end.
    pub decimals: u32,
}

/// One line, of either side.
struct Line {
    material: Option<String>,
    stock: Option<String>,
    quantity: Decimal,
    taxed: Option<Decimal>,
    untaxed: Option<Decimal>,
}

impl Content {
    /// A document without lines.
    fn new(partner: Option<String>, date: Option<String>) -> Self {
        let (stocks, materials) = (Some(BTreeSet::new()), Some(BTreeMap::new()));
        let total = Share::none();
        Content { partner, date, stocks, lines: 0, total, materials }
    }

    /// The content of a document that is read by the query fields of [`Form::fields`], without the lines: of those
    /// cells, in their order, of any row of it.
    pub fn of_header(form: &Form, cells: &[Cell]) -> Self {
        let text = |name: &str| form.cell(cells, name);
        Content::new(text(&code(form.partner)), text(DATE).and_then(|date| day(&date)))
    }

    /// Adds one row of that document, which is one line of it; a document without lines has one row without a quantity.
    pub fn add(&mut self, form: &Form, cells: &[Cell]) {
        let Some(quantity) = form.cell(cells, form.quantity) else { return };
        let number = |name: &str| form.cell(cells, name).and_then(|digits| decimal(&digits));
        self.line(Line {
            material: form.cell(cells, &code(form.material)),
            stock: form.cell(cells, &code(form.stock)),
            quantity: decimal(&quantity).unwrap_or_default(),
            taxed: number(form.tax_price),
            untaxed: number(form.price),
        });
    }

    fn line(&mut self, line: Line) {
        self.lines += 1;
        self.total.add(&line);
        match (&mut self.stocks, &line.stock) {
            (Some(stocks), Some(stock)) => drop(stocks.insert(stock.to_uppercase())),
            (stocks, _) => *stocks = None,
        }
        match (&mut self.materials, &line.material) {
            (Some(materials), Some(material)) => {
                materials.entry(material.to_uppercase()).or_insert_with(Share::none).add(&line);
            }
            (materials, _) => *materials = None,
        }
    }

    /// How another content differs, in words that name both values; nothing when they agree.
    pub fn difference(&self, found: &Content) -> Option<String> {
        let mut all = Vec::new();
        for (name, ours, theirs) in
            [("partner", &self.partner, &found.partner), ("date", &self.date, &found.date)]
        {
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && !ours.eq_ignore_ascii_case(theirs)
            {
                all.push(format!("{name} {theirs} there, {ours} here"));
            }
        }
        if let (Some(ours), Some(theirs)) = (&self.stocks, &found.stocks)
            && ours != theirs
        {
            all.push(format!("stock {} there, {} here", listed(theirs), listed(ours)));
        }
        if self.lines != found.lines {
            all.push(format!("{} lines there, {} here", found.lines, self.lines));
        }
        match (&self.materials, &found.materials) {
            (Some(ours), Some(theirs)) => {
                let none = Share::none();
                let codes: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
                for code in codes {
                    let (ours, theirs) = (ours.get(code).unwrap_or(&none), theirs.get(code).unwrap_or(&none));
                    all.extend(ours.difference(theirs).map(|words| format!("material {code}: {words}")));
                }
            }
            _ => all.extend(self.total.difference(&found.total).map(|words| format!("total {words}"))),
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Share {
    fn none() -> Self {
        Share { quantity: Decimal::ZERO, taxed: Some(Amount::default()), untaxed: Some(Amount::default()) }
    }

    /// The amount that is told, with tax where both are.
    pub fn amount(&self) -> Option<Decimal> {
        self.taxed.or(self.untaxed).map(|amount| amount.sum)
    }

    fn add(&mut self, line: &Line) {
        self.quantity = self.quantity.checked_add(line.quantity).unwrap_or(self.quantity);
        for (amount, price) in [(&mut self.taxed, line.taxed), (&mut self.untaxed, line.untaxed)] {
            *amount = amount.zip(price).and_then(|(amount, price)| amount.plus(line.quantity, price));
        }
    }

    fn difference(&self, found: &Share) -> Option<String> {
        if self.quantity != found.quantity {
            let (theirs, ours) = (found.quantity.normalize(), self.quantity.normalize());
            return Some(format!("quantity {theirs} there, {ours} here"));
        }
        // With both, the one without tax is Kingdee's own, computed and rounded.
        let (what, ours, theirs) = match (self.taxed, found.taxed, self.untaxed, found.untaxed) {
            (Some(ours), Some(theirs), _, _) => ("amount with tax", ours, theirs),
            (_, _, Some(ours), Some(theirs)) => ("amount without tax", ours, theirs),
            _ => return None,
        };
        (!ours.is_rounded_to(theirs, self.quantity))
            .then(|| format!("{what} {} there, {} here", theirs.sum.normalize(), ours.sum.normalize()))
    }
}

impl Amount {
    fn plus(self, quantity: Decimal, price: Decimal) -> Option<Amount> {
        let sum = self.sum.checked_add(quantity.checked_mul(price)?)?;
        Some(Amount { sum, decimals: self.decimals.max(price.normalize().scale()) })
    }

    /// Whether what Kingdee has can be what we sent. Kingdee rounds a price to so many decimals, as the prices that it
    /// shows have at least, and that moves a line by half of the last one for each piece at most. A price that had no
    /// more decimals isn't rounded.
    fn is_rounded_to(self, there: Amount, quantity: Decimal) -> bool {
        let kept = there.decimals.max(PRICE_DECIMALS_MIN);
        let half = match self.decimals > kept {
            true => Decimal::try_new(5, kept + 1).ok(),
            false => Some(Decimal::ZERO),
        };
        let most = half.and_then(|half| quantity.abs().checked_mul(half));
        let apart = self.sum.checked_sub(there.sum);
        // What has too many digits to be computed tells nothing.
        apart.zip(most).is_none_or(|(apart, most)| apart.abs() <= most)
    }
}

fn listed(codes: &BTreeSet<String>) -> String {
    codes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

const DATE: &str = "FDate";

/// The query field of a base-data field's code, where there is the field.
fn code(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name}.FNumber") }
}

type Fields<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// The code of a base-data field.
fn number(fields: &Fields<'_>, name: &str) -> Option<String> {
    let object: Fields<'_> = serde_json::from_str(get(fields, name)?.get()).ok()?;
    get(&object, "FNumber").and_then(text)
}

fn text(value: &RawValue) -> Option<String> {
    match serde_json::from_str::<Cow<'_, str>>(value.get()) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(_) => Some(value.get().to_owned()).filter(|raw| raw != "null" && !raw.starts_with(['{', '['])),
    }
    .filter(|text| !text.is_empty())
}

/// A decimal from its own digits.
fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim();
    Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text)).ok()
}

/// The day of a date, whatever time follows it.
fn day(text: &str) -> Option<String> {
    text.get(..10).map(str::to_owned)
}

impl Form {
    /// The query fields (`FieldKeys`) that the content of this form's documents is read by; they make one row per line.
    pub fn fields(&self) -> Vec<String> {
        let (partner, material, stock) = (code(self.partner), code(self.material), code(self.stock));
        let all =
            [DATE, self.quantity, &partner, &material, &stock, self.tax_price, self.price].map(str::to_owned);
        all.into_iter().filter(|name| !name.is_empty()).collect()
    }

    /// The text of a query field among the cells of [`Form::fields`]; a blank one is none.
    fn cell(&self, cells: &[Cell], name: &str) -> Option<String> {
        let at = self.fields().iter().position(|field| field == name)?;
        let text = cells.get(at)?.text()?.trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    }

    /// The content of a model that is to be posted; nothing when it can't be read as one of this form.
    pub fn content(&self, model: &[u8]) -> Option<Content> {
        let fields: Fields<'_> = serde_json::from_slice(model).ok()?;
        let date = get(&fields, DATE).and_then(text).and_then(|date| day(&date));
        let mut content = Content::new(number(&fields, self.partner), date);
        let entries: Vec<Fields<'_>> = serde_json::from_str(get(&fields, self.entries)?.get()).ok()?;
        for entry in &entries {
            let of = |name: &str| get(entry, name).and_then(text).and_then(|digits| decimal(&digits));
            content.line(Line {
                material: number(entry, self.material),
                stock: number(entry, self.stock),
                quantity: of(self.quantity)?,
                taxed: of(self.tax_price),
                untaxed: of(self.price),
            });
        }
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> &'static Form {
        Form::find("stk_instock").unwrap()
    }

    /// A model with lines of material, quantity and price with tax.
    fn model(lines: &[(&str, &str, &str)]) -> Content {
        let lines = lines.iter().map(|(material, quantity, price)| {
            format!(
                r#"{{"FMaterialId":{{"FNumber":"{material}"}},"FRealQty":{quantity},"FTaxPrice":{price},"FStockId":{{"FNumber":"CK1"}}}}"#
            )
        });
        let lines = lines.collect::<Vec<_>>().join(",");
        form().content(format!(r#"{{"FDate":"2026-01-02","FInStockEntry":[{lines}]}}"#).as_bytes()).unwrap()
    }

    /// The same as it stands in Kingdee, with a price without tax that Kingdee has computed.
    fn there(lines: &[(&str, &str, &str)]) -> Content {
        let cells = |(material, quantity, price): &(&str, &str, &str)| {
            let number = |digits: &str| Cell::from(RawValue::from_string(digits.to_owned()).unwrap());
            let text = |words: &str| number(&format!("\"{words}\""));
            [
                text("2026-01-02T00:00:00"),
                number(quantity),
                text("G1"),
                text(material),
                text("CK1"),
                number(price),
                number("1"),
            ]
        };
        let mut content = Content::of_header(form(), &cells(&lines[0]));
        lines.iter().for_each(|line| content.add(form(), &cells(line)));
        content
    }

    #[test]
    fn content_is_read_from_the_digits_as_sent() {
        let model = br#"{"FBillNo":"RK1","FDate":"2026-01-02 10:00:00","FSupplierId":{"FNUMBER":"G1"},
            "FInStockEntry":[{"FRealQty":0.1},{"FRealQty":"0.20000000"},{"FREALQTY":3e0}]}"#;
        let content = form().content(model).unwrap();
        let expected = Content {
            partner: Some("G1".into()),
            date: Some("2026-01-02".into()),
            stocks: None,
            lines: 3,
            total: Share { quantity: decimal("3.3").unwrap(), taxed: None, untaxed: None },
            materials: None,
        };
        assert_eq!(content, expected);
        assert_eq!(content.difference(&expected), None);
    }

    #[test]
    fn a_model_and_its_document_agree_whatever_their_lines_order_and_spelling() {
        let ours = model(&[("SP-1", "2", "11.30"), ("sp-2", "1.50", "3"), ("SP-1", "3", "10")]);
        let theirs = there(&[("SP-1", "3", "10.0"), ("SP-1", "2.0", "11.3"), ("SP-2", "1.5", "3.00")]);
        assert_eq!(ours.difference(&theirs), None);
        assert_eq!(ours.total.amount(), decimal("57.1"));
        assert_eq!(ours.materials.unwrap()["SP-1"].quantity, decimal("5").unwrap());
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let ours = model(&[("A", "1", "5"), ("B", "2", "7"), ("D", "1", "1")]);
        let theirs = Content {
            date: Some("2026-01-03".into()),
            stocks: Some(BTreeSet::from(["CK2".into()])),
            ..there(&[("A", "1", "6"), ("C", "2", "7")])
        };
        assert_eq!(
            ours.difference(&theirs).unwrap(),
            "date 2026-01-03 there, 2026-01-02 here; stock CK2 there, CK1 here; 2 lines there, 3 here; \
             material A: amount with tax 6 there, 5 here; material B: quantity 0 there, 2 here; \
             material C: quantity 2 there, 0 here; material D: quantity 0 there, 1 here"
        );
    }

    #[test]
    fn a_swapped_material_and_swapped_quantities_are_noticed_although_the_totals_agree() {
        let ours = model(&[("A", "1", "5"), ("B", "2", "5")]);
        assert!(ours.difference(&there(&[("A", "2", "5"), ("B", "1", "5")])).is_some());
        assert!(ours.difference(&there(&[("A", "1", "5"), ("C", "2", "5")])).is_some());
    }

    #[test]
    fn a_price_may_be_rounded_and_may_not_be_another() {
        for (ours, theirs, same) in [
            ("11.3", "11.3", true),
            ("11.30000000", "11.3", true),
            ("8.33333333", "8.333333", true),
            ("8.33333333", "8.3333", true),
            ("8.33333333", "8.33", true),
            ("8.33333333", "8.3", false),
            ("8.33333333", "8.34", false),
            ("11.3", "11.31", false),
            ("11.3", "11.3001", false),
            ("11.3001", "11.3", true),
            ("11.31", "11.3", false),
            ("0.03", "0.034", false),
            ("1", "0", false),
        ] {
            let difference = model(&[("A", "1000", ours)]).difference(&there(&[("A", "1000", theirs)]));
            assert_eq!(difference.is_none(), same, "{ours} {theirs}: {difference:?}");
        }
    }

    #[test]
    fn a_side_that_does_not_tell_is_not_compared() {
        let silent = form().content(br#"{"FInStockEntry":[{"FRealQty":2}]}"#).unwrap();
        assert_eq!(silent.difference(&there(&[("A", "2", "5")])), None);
        let words = silent.difference(&there(&[("A", "3", "5")])).unwrap();
        assert_eq!(words, "total quantity 3 there, 2 here");
        let untaxed = br#"{"FInStockEntry":[{"FMaterialId":{"FNumber":"A"},"FRealQty":2,"FPrice":1}]}"#;
        assert_eq!(form().content(untaxed).unwrap().difference(&there(&[("A", "2", "5")])), None);
        let untaxed = br#"{"FInStockEntry":[{"FMaterialId":{"FNumber":"A"},"FRealQty":2,"FPrice":1.5}]}"#;
        let words = form().content(untaxed).unwrap().difference(&there(&[("A", "2", "5")])).unwrap();
        assert_eq!(words, "material A: amount without tax 2 there, 3 here");
    }
}
