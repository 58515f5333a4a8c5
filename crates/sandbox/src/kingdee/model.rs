//! Reads one element of `Model` by the field table: kinds, base data, key order, required fields, prices.

use rust_decimal::Decimal;

use super::answer::Problem;
use super::forms::{self, Base, Field, Kind, Place};
use super::store::Store;
use crate::json::Json;

/// Field values by their proper names. Codes are kept as the bare code, numbers as their digits.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, Json)>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn decimal(&self, name: &str) -> Option<Decimal> {
        decimal(&self.get(name)?.scalar()?)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Json::flag).unwrap_or(false)
    }

    pub(super) fn pairs(&self) -> &[(String, Json)] {
        &self.0
    }

    fn set(&mut self, name: &str, value: Json) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// A document that may be made durable.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    /// The id of the document to change; 0 makes a new one.
    pub(super) fid: i64,
    /// None lets Kingdee number it.
    pub(super) number: Option<String>,
    pub(super) header: Fields,
    pub(super) finance: Fields,
    /// Each with the id of the row that it changes (`FEntryID`); 0 makes a new one.
    pub(super) entries: Vec<(i64, Fields)>,
}

/// The options of a save that reading depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    /// `IsVerifyBaseDataField`: without it an unknown code is dropped in silence.
    pub(super) base_data: bool,
    /// `ValidateFlag`: without it nothing is required.
    pub(super) required: bool,
    /// `IsAutoAdjustField`: with it the order of keys does not matter.
    pub(super) any_order: bool,
}

/// Reads and checks one model; every problem is reported.
pub(super) fn read(model: &Json, checks: Checks, store: &Store) -> Result<Candidate, Vec<Problem>> {
    let mut reader = Reader { store, checks, problems: Vec::new() };
    let mut candidate = Candidate::default();
    let mut finance_seen = false;
    let mut late_finance = false;
    if !matches!(model, Json::Object(_)) {
        return Err(vec![unresolved("Model")]);
    }
    for (key, value) in model.members() {
        match key.to_ascii_lowercase().as_str() {
            "fid" => candidate.fid = value.integer().unwrap_or(0),
            "fbillno" => candidate.number = value.scalar().filter(|number| !number.is_empty()),
            "finstockfin" => {
                finance_seen = true;
                late_finance = !candidate.entries.is_empty();
                reader.members(value, Place::Finance, None, &mut candidate.finance);
            }
            "finstockentry" => {
                for (at, entry) in value.items().iter().enumerate() {
                    let id = entry.get_any_case("FEntryID").and_then(Json::integer).unwrap_or(0);
                    candidate.entries.push((id, reader.entry(entry, at + 1)));
                }
            }
            _ => reader.member(key, value, Place::Header, None, &mut candidate.header),
        }
    }
    // Prices are computed with the currency and tax settings of the finance object, which is not there yet.
    if finance_seen && late_finance && !checks.any_order {
        candidate.entries.iter_mut().for_each(|(_, fields)| lose_prices(fields));
    }
    if checks.required {
        reader.require(&candidate);
    }
    if reader.problems.is_empty() { Ok(candidate) } else { Err(reader.problems) }
}

/// A decimal in plain or scientific notation, exact.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim();
    Decimal::from_str_exact(text).ok().or_else(|| Decimal::from_scientific(text).ok())
}

struct Reader<'a> {
    store: &'a Store,
    checks: Checks,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn members(&mut self, object: &Json, place: Place, line: Option<usize>, into: &mut Fields) {
        if !matches!(object, Json::Object(_)) {
            self.problems.push(unresolved(if place == Place::Entry {
                "FInStockEntry"
            } else {
                "FInStockFin"
            }));
        }
        for (key, value) in object.members() {
            self.member(key, value, place, line, into);
        }
    }

    fn entry(&mut self, entry: &Json, line: usize) -> Fields {
        let mut fields = Fields::default();
        self.members(entry, Place::Entry, Some(line), &mut fields);
        let at = |name: &str| entry.members().iter().position(|(key, _)| key.eq_ignore_ascii_case(name));
        let first_price = [at("FPrice"), at("FTaxPrice")].into_iter().flatten().min();
        let settled = at("FMaterialId").max(at("FRealQty"));
        // The server fetches a price when material and quantity arrive, over one that came before.
        if first_price.is_some() && first_price < settled && !self.checks.any_order {
            lose_prices(&mut fields);
        }
        if fields.get("FTaxPrice").is_none()
            && let Some(price) = gross_price(&fields)
        {
            fields.set("FTaxPrice", price.into());
        }
        fields
    }

    fn member(&mut self, key: &str, value: &Json, place: Place, line: Option<usize>, into: &mut Fields) {
        match forms::field(key) {
            Some(field) if field.place == place && !self.store.lacks(field.name) => {
                if let Some(kept) = self.value(field, value, line) {
                    into.set(field.name, kept);
                }
            }
            None if forms::is_custom(key) => into.set(key, value.clone()),
            None if key.eq_ignore_ascii_case("FEntryID") => {}
            _ => {
                let message = format!("元数据中标识为{key}的字段不存在");
                self.problems.push(Problem { field: Some(key.to_owned()), message, msg_code: 9 });
            }
        }
    }

    /// What is kept of a value; nothing when it is empty, dropped or wrong.
    fn value(&mut self, field: &Field, value: &Json, line: Option<usize>) -> Option<Json> {
        if *value == Json::Null {
            return None;
        }
        if let Kind::Code(base) = field.kind {
            return self.code(field, base, value, line);
        }
        if field.kind == Kind::Raw {
            return Some(value.clone());
        }
        let Some(text) = value.scalar() else {
            self.problems.push(unresolved(field.name));
            return None;
        };
        if text.is_empty() {
            return None;
        }
        let readable = match field.kind {
            Kind::Number => decimal(&text).is_some(),
            Kind::Flag => value.flag().is_some(),
            Kind::Date => is_date(&text),
            _ => true,
        };
        if !readable {
            let message = format!("{}字段“{}”的值“{text}”无效", row(line), field.title);
            self.problems.push(Problem { field: Some(field.name.to_owned()), message, msg_code: 9 });
            return None;
        }
        Some(if field.kind == Kind::Number { Json::Number(text.trim().to_owned()) } else { value.clone() })
    }

    fn code(&mut self, field: &Field, base: Base, value: &Json, line: Option<usize>) -> Option<Json> {
        let Json::Object(_) = value else {
            self.problems.push(unresolved(field.name));
            return None;
        };
        let code = value.text_of("FNumber").filter(|code| !code.is_empty())?;
        if base == Base::Other {
            return Some(code.into());
        }
        let title = base.title();
        let wrong = match self.store.item(base, &code) {
            _ if !self.checks.base_data => None,
            None => Some(format!("{}{title}“{code}”不存在", row(line))),
            Some(item) if !item.audited => Some(format!("{}{title}“{code}”未审核", row(line))),
            Some(item) if item.disabled => Some(format!("{}{title}“{code}”已禁用", row(line))),
            Some(_) => None,
        };
        if let Some(message) = wrong {
            self.problems.push(Problem::field(field.name, message));
            return None;
        }
        self.store.item(base, &code).map(|_| code.into())
    }

    /// The fields that must be there, and the prices that must not be zero.
    fn require(&mut self, candidate: &Candidate) {
        // A field that was refused above is not missed a second time.
        let refused: Vec<String> = self.problems.iter().filter_map(|problem| problem.field.clone()).collect();
        let missing = |fields: &Fields, place: Place| {
            let required = forms::FIELDS.iter().filter(move |field| field.required && field.place == place);
            let missing = required.filter(|field| fields.get(field.name).is_none());
            missing.filter(|field| !refused.iter().any(|name| name == field.name)).collect::<Vec<_>>()
        };
        for field in missing(&candidate.header, Place::Header) {
            // Unverified, an unknown supplier arrives empty and nobody says so.
            if self.checks.base_data || field.kind != Kind::Code(Base::Supplier) {
                self.problems.push(Problem::field(field.name, format!("字段“{}”是必填项", field.title)));
            }
        }
        if candidate.entries.is_empty() && candidate.fid == 0 {
            self.problems.push(Problem::field("FInStockEntry", "单据体“明细信息”不能为空，至少录入一行分录"));
        }
        for (at, (_, entry)) in candidate.entries.iter().enumerate() {
            let row = row(Some(at + 1));
            for field in missing(entry, Place::Entry) {
                if self.checks.base_data || field.kind != Kind::Code(Base::Stock) {
                    let message = format!("{row}字段“{}”是必填项", field.title);
                    self.problems.push(Problem::field(field.name, message));
                }
            }
            if entry.decimal("FRealQty").is_some_and(|quantity| quantity <= Decimal::ZERO) {
                self.problems.push(Problem::field("FRealQty", format!("{row}实收数量必须大于0")));
            }
            let price = entry.decimal("FTaxPrice").unwrap_or_default();
            if price <= Decimal::ZERO && !entry.flag("FGiveAway") {
                let message = format!("{row}含税单价为0，非赠品价格不能为0");
                self.problems.push(Problem::field("FTaxPrice", message));
            }
        }
    }
}

/// The price with tax that Kingdee computes from the one without.
fn gross_price(fields: &Fields) -> Option<Decimal> {
    let factor = Decimal::ONE_HUNDRED.checked_add(fields.decimal("FEntryTaxRate").unwrap_or_default())?;
    fields.decimal("FPrice")?.checked_mul(factor)?.checked_div(Decimal::ONE_HUNDRED)
}

fn lose_prices(fields: &mut Fields) {
    for name in ["FPrice", "FTaxPrice"] {
        if fields.get(name).is_some() {
            fields.set(name, Json::Number("0".to_owned()));
        }
    }
}

fn unresolved(key: &str) -> Problem {
    let message = format!("ResolveFiled_InnerEx 解析字段(Key:{key})时发生异常：实体不存在此属性");
    Problem { field: Some(key.to_owned()), message, msg_code: 4 }
}

fn row(line: Option<usize>) -> String {
    line.map(|line| format!("第{line}行分录，")).unwrap_or_default()
}

fn is_date(text: &str) -> bool {
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    jiff::civil::Date::strptime("%Y-%m-%d", day).is_ok()
}
