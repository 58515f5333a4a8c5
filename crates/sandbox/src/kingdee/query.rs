//! ExecuteBillQuery and BillQuery over stock-ins and base data.

use std::cmp::Ordering;

use rust_decimal::{Decimal, RoundingStrategy};

use super::answer::Problem;
use super::call::Call;
use super::filter::{self, Expr};
use super::forms::{self, Base, Kind, Place};
use super::model::Fields;
use super::store::{Document, Item, Store};
use super::{Outcome, refuse};
use crate::beijing;
use crate::http::Reply;
use crate::json::Json;

const DEFAULT_LIMIT: usize = 2000;
const MAX_LIMIT: usize = 10_000;

/// How rows are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Arrays,
    Objects,
}

/// Runs a query.
pub(super) fn run(store: &Store, call: &Call, shape: Rows) -> Outcome {
    match query(store, call, shape) {
        Ok(rows) => Outcome::ok(Reply::json(Json::Array(rows))),
        Err(problem) => refuse(call, &problem),
    }
}

/// The value of one query key, by its parts before and after the dot.
pub(super) fn value(store: &Store, row: &Row<'_>, key: &str) -> Result<Json, Problem> {
    let unknown = || Problem::whole(9, format!("元数据中标识为{key}的字段不存在"));
    match row {
        Row::Base(number, item) => base_value(number, item, key).ok_or_else(unknown),
        Row::Document(document, entry) => document_value(store, document, *entry, key).ok_or_else(unknown),
    }
}

/// One row before its columns are chosen.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Base(&'a str, &'a Item),
    /// A document, with one of its entries when the keys ask for any.
    Document(&'a Document, Option<usize>),
}

fn query(store: &Store, call: &Call, shape: Rows) -> Result<Vec<Json>, Problem> {
    let text = |name: &str| call.data.text_of(name).unwrap_or_default();
    let count = |name: &str| text(name).trim().parse::<usize>().unwrap_or(0);
    if matches!(call.data.get_any_case("FilterString"), Some(Json::Array(filters)) if !filters.is_empty()) {
        return Err(Problem::whole(8, "此环境只支持字符串形式的 FilterString"));
    }
    let field_keys = text("FieldKeys");
    let keys: Vec<&str> = field_keys.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
    if keys.is_empty() {
        return Err(Problem::whole(8, "FieldKeys 不能为空"));
    }
    let filter = filter::parse(&text("FilterString")).map_err(|message| Problem::whole(4, message))?;
    let order_string = text("OrderString");
    let order = read_order(&order_string);
    let filtered = filter.iter().flat_map(Expr::fields);
    let named = keys.iter().copied().chain(filtered).chain(order.iter().map(|(key, _)| *key));
    let rows = rows(store, &call.form, filter.as_ref(), &named.collect::<Vec<_>>())?;
    let mut kept = Vec::new();
    for row in rows {
        let text = |key: &str| value(store, &row, key).ok().and_then(|value| value.scalar());
        if filter.as_ref().is_none_or(|filter| filter.holds(&text)) {
            kept.push(row);
        }
    }
    if !order.is_empty() {
        let sort_keys = |row: &Row<'_>| -> Vec<String> {
            let text = |key: &str| value(store, row, key).ok().and_then(|value| value.scalar());
            order.iter().map(|(key, _)| text(key).unwrap_or_default()).collect()
        };
        kept.sort_by_cached_key(|row| Sorted { keys: sort_keys(row), order: &order });
    }
    let limit = match count("Limit") {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    let top = if count("TopRowCount") == 0 { usize::MAX } else { count("TopRowCount") };
    let page = kept.into_iter().take(top).skip(count("StartRow")).take(limit);
    page.map(|row| {
        let values = keys.iter().map(|key| value(store, &row, key)).collect::<Result<Vec<_>, _>>()?;
        Ok(match shape {
            Rows::Arrays => Json::Array(values),
            Rows::Objects => Json::object(keys.iter().copied().zip(values)),
        })
    })
    .collect()
}

/// The rows that a filter may pass, after every named key has proved to exist.
fn rows<'a>(
    store: &'a Store,
    form: &str,
    filter: Option<&Expr>,
    named: &[&str],
) -> Result<Vec<Row<'a>>, Problem> {
    let missing = |key: &str| Problem::whole(9, format!("元数据中标识为{key}的字段不存在"));
    if let Some(base) = Base::of(form) {
        let example = Item { id: 0, name: String::new(), disabled: false, audited: true };
        return match named.iter().find(|key| base_value("", &example, key).is_none()) {
            Some(key) => Err(missing(key)),
            None => Ok(store.items(base).map(|(number, item)| Row::Base(number, item)).collect()),
        };
    }
    if !form.eq_ignore_ascii_case(forms::STOCK_IN) {
        return Err(Problem::whole(5, format!("业务对象不存在：{form}")));
    }
    let lacks = |key: &str| store.lacks(key.split('.').next().unwrap_or_default());
    if let Some(key) = named.iter().find(|key| !is_key(key) || lacks(key)) {
        return Err(missing(key));
    }
    let by_entry = named.iter().any(|key| is_entry_key(key));
    let documents: Vec<&Document> = match filter.and_then(|filter| filter.candidates("FBillNo")) {
        Some(numbers) => {
            let mut ids: Vec<i64> = numbers.iter().flat_map(|number| store.ids_of(number)).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            ids.iter().filter_map(|fid| store.documents.get(fid)).collect()
        }
        None => store.documents.values().collect(),
    };
    let mut rows = Vec::new();
    for document in documents {
        match document.entries.len() {
            count if by_entry && count > 0 => {
                rows.extend((0..count).map(|at| Row::Document(document, Some(at))));
            }
            _ => rows.push(Row::Document(document, None)),
        }
    }
    Ok(rows)
}

/// `FBillNo DESC, FID` as keys and whether they run downwards.
fn read_order(text: &str) -> Vec<(&str, bool)> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, direction) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            (key, direction.trim().eq_ignore_ascii_case("desc"))
        })
        .collect()
}

struct Sorted<'a> {
    keys: Vec<String>,
    order: &'a [(&'a str, bool)],
}

impl Ord for Sorted<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.keys.iter().zip(&other.keys).zip(self.order);
        let ordering = pairs.map(|((left, right), (_, down))| match filter::compare(left, right) {
            ordering if *down => ordering.reverse(),
            ordering => ordering,
        });
        ordering.fold(Ordering::Equal, Ordering::then)
    }
}

impl PartialOrd for Sorted<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sorted<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Sorted<'_> {}

const HEADER_KEYS: [&str; 7] =
    ["FID", "FBillNo", "FDocumentStatus", "FCancelStatus", "FCreateDate", "FModifyDate", "FApproveDate"];
const AMOUNTS: [&str; 2] = ["FAllAmount", "FAmount"];

fn is_key(key: &str) -> bool {
    let name = key.split('.').next().unwrap_or_default();
    HEADER_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)) || is_entry_key(key) || {
        let part = key.split('.').nth(1).unwrap_or("FNumber");
        let known = ["FNumber", "FName"].iter().any(|known| known.eq_ignore_ascii_case(part));
        forms::field(name).is_some_and(|field| {
            !key.contains('.') || field.kind == Kind::Raw || (known && matches!(field.kind, Kind::Code(_)))
        }) || forms::is_custom(name)
    }
}

fn is_entry_key(key: &str) -> bool {
    let name = key.split('.').next().unwrap_or_default();
    let computed = [forms::ENTRY_ID, forms::ENTRY_SEQ].into_iter().chain(AMOUNTS);
    computed.into_iter().any(|known| known.eq_ignore_ascii_case(key))
        || forms::field(name).is_some_and(|field| field.place == Place::Entry)
}

fn base_value(number: &str, item: &Item, key: &str) -> Option<Json> {
    Some(match key.to_ascii_lowercase().as_str() {
        "fnumber" => number.into(),
        "fname" => item.name.as_str().into(),
        "fdocumentstatus" => if item.audited { "C" } else { "A" }.into(),
        "fforbidstatus" => if item.disabled { "B" } else { "A" }.into(),
        "fuseorgid.fnumber" | "fcreateorgid.fnumber" => "100".into(),
        "fid" | "fmaterialid" | "fsupplierid" | "fstockid" | "forgid" => item.id.into(),
        _ => return None,
    })
}

fn document_value(store: &Store, document: &Document, entry: Option<usize>, key: &str) -> Option<Json> {
    let moment = |second: i64| Json::from(beijing::text(second).replace(' ', "T"));
    let fields = entry.and_then(|at| document.entries.get(at));
    Some(match key.to_ascii_lowercase().as_str() {
        "fid" => document.fid.into(),
        "fbillno" => document.number.as_str().into(),
        "fdocumentstatus" => document.status.to_string().into(),
        "fcancelstatus" => "A".into(),
        "fcreatedate" => moment(document.created),
        "fmodifydate" => moment(document.modified),
        "fapprovedate" => document.approved.map_or(Json::Null, moment),
        "finstockentry_fentryid" => fields.map(|(id, _)| *id).into(),
        "finstockentry_fseq" => entry.map(|at| at + 1).into(),
        "fallamount" => fields.and_then(|(_, fields)| amount(fields, false)).into(),
        "famount" => fields.and_then(|(_, fields)| amount(fields, true)).into(),
        _ => return field_value(store, document, fields.map(|(_, fields)| fields), key),
    })
}

fn field_value(store: &Store, document: &Document, entry: Option<&Fields>, key: &str) -> Option<Json> {
    let (name, part) = key.split_once('.').unwrap_or((key, ""));
    let places = [entry, Some(&document.header), Some(&document.finance)];
    let kind = forms::field(name).map(|field| field.kind);
    if kind.is_none() && !forms::is_custom(name) {
        return None;
    }
    let found = places.into_iter().flatten().find_map(|fields| fields.get(name));
    Some(match (kind, found) {
        (_, None) => Json::Null,
        (Some(Kind::Code(base)), Some(code)) => {
            let code = code.scalar().unwrap_or_default();
            let item = store.item(base, &code);
            match part.to_ascii_lowercase().as_str() {
                "fnumber" => code.into(),
                "fname" => item.map_or(code.as_str(), |item| item.name.as_str()).into(),
                _ => item.map_or(0, |item| item.id).into(),
            }
        }
        (Some(Kind::Date), Some(date)) => {
            let text = date.scalar().unwrap_or_default().replace(' ', "T");
            if text.len() == 10 { format!("{text}T00:00:00").into() } else { text.into() }
        }
        (Some(Kind::Flag), Some(flag)) => flag.flag().unwrap_or(false).into(),
        (_, Some(value)) => value.clone(),
    })
}

/// 价税合计, or 金额 without tax, to two places; nothing when it has more digits than a decimal holds.
fn amount(fields: &Fields, net: bool) -> Option<Decimal> {
    let of = |name: &str| fields.decimal(name).unwrap_or_default();
    let gross = of("FTaxPrice").checked_mul(of("FRealQty"))?;
    let hundred = Decimal::ONE_HUNDRED;
    let amount = match net {
        true => gross.checked_mul(hundred)?.checked_div(hundred.checked_add(of("FEntryTaxRate"))?)?,
        false => gross,
    };
    Some(amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero))
}
