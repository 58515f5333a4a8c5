//! What the orders are, in plain words and exact numbers.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::book::{Book, Slot, Version};
use super::{COMPLETED, Style};
use crate::beijing;
use crate::json::{self, Json};

/// The members of an order that a stock-in is booked by.
const BOOKED: [&str; 5] = ["check_time", "warehouse_no", "purchase_no", "provider_no", "lines"];

/// The admin endpoint's view of the orders.
pub(crate) struct Truth<'a> {
    pub(super) book: &'a Book,
}

impl Truth<'_> {
    /// Every order, or the one of that number, with its lines in exact text.
    pub(crate) fn orders(&self, only: Option<&str>) -> String {
        let slots = self.book.slots().filter(|slot| !slot.deleted);
        let wanted = slots.filter(|slot| only.is_none_or(|number| number == slot.order_no));
        json::array_text(wanted.map(|slot| self.order(slot)))
    }

    /// The completed orders for which `is_done` is false, and those whose last version nobody was shown yet.
    pub(crate) fn pending(&self, is_done: impl Fn(&str) -> bool) -> String {
        let completed = self.book.slots().filter(|slot| !slot.deleted && slot.now.status == COMPLETED);
        json::array_text(completed.filter_map(|slot| {
            let done = is_done(&slot.order_no);
            (!done || !slot.now.shown).then(|| {
                Json::object([
                    ("order_no", Json::from(slot.order_no.as_str())),
                    ("fate", slot.fate.into()),
                    ("shown", slot.now.shown.into()),
                    ("audited", done.into()),
                ])
            })
        }))
    }

    /// Counts by fate, cause and status.
    pub(crate) fn summary(&self) -> Json {
        let mut counts: [BTreeMap<&str, usize>; 3] = Default::default();
        let mut total = 0_usize;
        for slot in self.book.slots().filter(|slot| !slot.deleted) {
            total += 1;
            *counts[0].entry(slot.fate).or_default() += 1;
            *counts[1].entry(slot.cause.unwrap_or("none")).or_default() += 1;
            *counts[2].entry(&slot.now.status).or_default() += 1;
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
        let mut order = self.view(slot, &slot.now);
        let earlier: Vec<Json> = slot
            .earlier
            .iter()
            .filter(|version| version.status == COMPLETED)
            .map(|version| self.view(slot, version))
            .filter(|view| BOOKED.iter().any(|name| view.get(name) != order.get(name)))
            .collect();
        let versions = slot.earlier.iter().chain([&slot.now]);
        order.set("history", Json::Array(versions.map(history).collect()));
        order.set("earlier", earlier.into());
        order
    }

    /// One version of an order.
    fn view(&self, slot: &Slot, version: &Version) -> Json {
        let content = self.book.content(version, Style::Qimen);
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
            ("status", version.status.as_str().into()),
            ("modified", beijing::text(version.modified).into()),
            ("modified_ms", (version.modified * 1000).into()),
            ("check_time", text(&content, "check_time")),
            ("warehouse_no", version.warehouse_no.as_str().into()),
            ("purchase_no", version.purchase_no.as_str().into()),
            ("provider_no", text(&content, "provider_no")),
            ("goods_count", text(&content, "goods_count")),
            ("line_count", lines.len().into()),
            ("lines", Json::Array(lines.iter().map(line).collect())),
        ])
    }
}

fn history(version: &Version) -> Json {
    Json::object([
        ("what", Json::from(version.what)),
        ("status", version.status.as_str().into()),
        ("modified", beijing::text(version.modified).into()),
        ("modified_ms", (version.modified * 1000).into()),
        ("shown", version.shown.into()),
    ])
}

/// A decimal without needless zeros; any other text as it is. A bare whole number (an id, a code) stays too.
fn plain(text: &str) -> String {
    match Decimal::from_str_exact(text) {
        Ok(number) if text.contains('.') => number.normalize().to_string(),
        _ => text.to_owned(),
    }
}
