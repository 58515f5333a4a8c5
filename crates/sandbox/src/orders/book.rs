//! All orders of a run, indexed by modified time, and what becomes of each of them.

use std::collections::{BTreeMap, HashMap};

use rust_decimal::Decimal;

use super::{Plan, Style, render};
use crate::beijing;
use crate::json::{self, Json};

/// Where the content of an order comes from.
#[derive(Debug)]
enum Source {
    Generated(u32),
    /// Given or changed over the admin endpoint; answered as it is.
    Given(Json),
}

/// What a query needs to know about an order.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) order_no: String,
    pub(crate) modified: i64,
    pub(crate) status: String,
    pub(crate) warehouse_no: String,
    pub(crate) purchase_no: String,
    pub(crate) fate: &'static str,
    pub(crate) cause: Option<&'static str>,
    source: Source,
    deleted: bool,
}

/// What a query asks for; times are epoch seconds, both ends belong to the interval.
#[derive(Debug, Default)]
pub(crate) struct Criteria {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Wanted statuses; empty is any.
    pub(crate) statuses: Vec<String>,
    pub(crate) warehouse_no: Option<String>,
    pub(crate) stockin_no: Option<String>,
    pub(crate) purchase_no: Option<String>,
}

impl Criteria {
    fn holds(&self, slot: &Slot) -> bool {
        let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        (self.statuses.is_empty() || self.statuses.contains(&slot.status))
            && same(&self.warehouse_no, &slot.warehouse_no)
            && same(&self.stockin_no, &slot.order_no)
            && same(&self.purchase_no, &slot.purchase_no)
    }
}

/// The orders of a run.
#[derive(Debug)]
pub(crate) struct Book {
    plan: Plan,
    slots: Vec<Slot>,
    by_number: HashMap<String, usize>,
    /// Modified second and slot, sorted: a page is two binary searches away.
    by_modified: Vec<(i64, usize)>,
}

impl Book {
    pub(crate) fn new(plan: Plan) -> Book {
        let mut book = Book { slots: Vec::new(), by_number: HashMap::new(), by_modified: Vec::new(), plan };
        for index in 0..book.plan.len() {
            let order = book.plan.header(index);
            let slot = Slot {
                status: order.status.to_string(),
                modified: order.modified,
                fate: match order.cause {
                    _ if order.status != 80 => "unfinished",
                    Some(cause) => cause.fate(),
                    None => "posts",
                },
                cause: order.cause.map(super::Cause::name),
                order_no: order.order_no,
                warehouse_no: order.warehouse_no,
                purchase_no: order.purchase_no,
                source: Source::Generated(index),
                deleted: false,
            };
            book.by_number.insert(slot.order_no.clone(), book.slots.len());
            book.by_modified.push((slot.modified, book.slots.len()));
            book.slots.push(slot);
        }
        book.by_modified.sort_unstable();
        book
    }

    /// How many orders match, and those of the page that starts after `skip` of them.
    pub(crate) fn query(&self, wanted: &Criteria, skip: usize, size: usize) -> (usize, Vec<&Slot>) {
        let first = self.by_modified.partition_point(|(modified, _)| *modified < wanted.start);
        let last = self.by_modified.partition_point(|(modified, _)| *modified <= wanted.end);
        let window = self.by_modified.get(first..last).unwrap_or_default();
        let mut total = 0;
        let mut page = Vec::with_capacity(size);
        for slot in window.iter().map(|(_, at)| &self.slots[*at]).filter(|slot| wanted.holds(slot)) {
            if total >= skip && page.len() < size {
                page.push(slot);
            }
            total += 1;
        }
        (total, page)
    }

    /// An order as WDT answers it.
    pub(crate) fn content(&self, slot: &Slot, style: Style) -> Json {
        match &slot.source {
            Source::Generated(index) => render(&self.plan.order(*index), style),
            Source::Given(content) => content.clone(),
        }
    }

    /// Adds an order, or lays the given members over the one of that `order_no`. Sets `modified` to `now`
    /// (epoch second) unless the members hold one. Gives back the number.
    pub(crate) fn put(&mut self, given: &Json, now: i64) -> Result<String, String> {
        let number = given.text_of("order_no").filter(|number| !number.is_empty());
        let number = number.ok_or("the order has no order_no")?;
        let known = self.by_number.get(&number).copied();
        let mut content = match known {
            Some(at) => self.content(&self.slots[at], Style::Direct),
            None => Json::object::<&str>([("status", Json::from(80_i64))]),
        };
        for (key, value) in given.members() {
            content.set(key, value.clone());
        }
        let modified = match given.get("modified").and_then(Json::scalar) {
            Some(text) => moment(&text).ok_or_else(|| format!("modified {text:?} is no time"))?,
            None => now,
        };
        if given.get("modified").is_none() {
            content.set("modified", (modified * 1000).into());
        }
        let text = |key: &str| content.text_of(key).unwrap_or_default();
        let slot = Slot {
            order_no: number.clone(),
            modified,
            status: text("status"),
            warehouse_no: text("warehouse_no"),
            purchase_no: text("purchase_no"),
            fate: known.map_or("given", |at| self.slots[at].fate),
            cause: known.and_then(|at| self.slots[at].cause),
            source: Source::Given(content),
            deleted: false,
        };
        let at = known.unwrap_or(self.slots.len());
        self.by_modified.retain(|(_, old)| *old != at);
        let place = self.by_modified.partition_point(|entry| *entry < (modified, at));
        self.by_modified.insert(place, (modified, at));
        match self.slots.get_mut(at) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        self.by_number.insert(number.clone(), at);
        Ok(number)
    }

    /// Whether there is an order of that number.
    pub(crate) fn holds(&self, number: &str) -> bool {
        self.by_number.contains_key(number)
    }

    /// Takes an order out of every later query; false when there is none of that number.
    pub(crate) fn delete(&mut self, number: &str) -> bool {
        let Some(at) = self.by_number.remove(number) else { return false };
        self.by_modified.retain(|(_, old)| *old != at);
        self.slots[at].deleted = true;
        true
    }

    /// What the orders are, in plain words and exact numbers.
    pub(crate) fn truth(&self) -> Truth<'_> {
        Truth { book: self }
    }
}

/// The admin endpoint's view of the orders.
pub(crate) struct Truth<'a> {
    book: &'a Book,
}

impl Truth<'_> {
    /// Every order, or the one of that number, with its lines in exact text.
    pub(crate) fn orders(&self, only: Option<&str>) -> String {
        let slots = self.book.slots.iter().filter(|slot| !slot.deleted);
        let wanted = slots.filter(|slot| only.is_none_or(|number| number == slot.order_no));
        json::array_text(wanted.map(|slot| self.order(slot)))
    }

    /// Counts by fate, cause and status.
    pub(crate) fn summary(&self) -> Json {
        let mut counts: [BTreeMap<&str, usize>; 3] = Default::default();
        let mut total = 0_usize;
        for slot in self.book.slots.iter().filter(|slot| !slot.deleted) {
            total += 1;
            *counts[0].entry(slot.fate).or_default() += 1;
            *counts[1].entry(slot.cause.unwrap_or("none")).or_default() += 1;
            *counts[2].entry(&slot.status).or_default() += 1;
        }
        let [fates, causes, statuses] =
            counts.map(|counts| Json::object(counts.into_iter().map(|(name, count)| (name, count.into()))));
        let plan = &self.book.plan;
        Json::object([
            ("total", total.into()),
            ("by_fate", fates),
            ("by_cause", causes),
            ("by_status", statuses),
            ("seed", plan.seed.into()),
            ("from", beijing::text(plan.from).into()),
            ("until", beijing::text(plan.from + plan.spread).into()),
        ])
    }

    fn order(&self, slot: &Slot) -> Json {
        let content = self.book.content(slot, Style::Qimen);
        let text =
            |of: &Json, key: &str| of.text_of(key).map(|text| plain(&text).into()).unwrap_or(Json::Null);
        let lines = content.get("details_list").map(Json::items).unwrap_or_default();
        let keys =
            ["rec_id", "spec_no", "num", "tax_price", "tax", "tax_amount", "batch_no", "defect", "remark"];
        let line = |line: &Json| Json::object(keys.map(|key| (key, text(line, key))));
        Json::object([
            ("order_no", slot.order_no.as_str().into()),
            ("fate", slot.fate.into()),
            ("cause", slot.cause.into()),
            ("status", slot.status.as_str().into()),
            ("modified", beijing::text(slot.modified).into()),
            ("modified_ms", (slot.modified * 1000).into()),
            ("check_time", text(&content, "check_time")),
            ("warehouse_no", slot.warehouse_no.as_str().into()),
            ("purchase_no", slot.purchase_no.as_str().into()),
            ("provider_no", text(&content, "provider_no")),
            ("goods_count", text(&content, "goods_count")),
            ("line_count", lines.len().into()),
            ("lines", Json::Array(lines.iter().map(line).collect())),
        ])
    }
}

/// A decimal without needless zeros; any other text as it is. A bare whole number (an id, a code) stays too.
fn plain(text: &str) -> String {
    match Decimal::from_str_exact(text) {
        Ok(number) if text.contains('.') => number.normalize().to_string(),
        _ => text.to_owned(),
    }
}

/// An epoch second from epoch milliseconds or `yyyy-MM-dd HH:mm:ss`.
fn moment(text: &str) -> Option<i64> {
    beijing::parse(text).or_else(|| Some(text.parse::<i64>().ok()? / 1000))
}
