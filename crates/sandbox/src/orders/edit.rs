//! What happens to an order while a source lives.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{COMPLETED, Order};
use crate::json::Json;

/// One thing that people do to orders in WDT. Each sets `modified` to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Edit {
    /// Another note and another flag on the header, which no stock-in is booked by.
    Modify,
    /// Another quantity on the first line.
    Content,
    /// Status 10.
    Cancel,
    /// Status 80, approved now.
    Complete,
    /// A new order in status 80.
    Add,
}

impl Edit {
    pub(crate) const ALL: [Edit; 5] = [Edit::Modify, Edit::Content, Edit::Cancel, Edit::Complete, Edit::Add];

    /// The past tense, for the history of an order.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Edit::Modify => "modified",
            Edit::Content => "content",
            Edit::Cancel => "cancelled",
            Edit::Complete => "completed",
            Edit::Add => "added",
        }
    }

    /// Whether it can happen to an order in that status; an addition happens to none.
    pub(crate) fn suits(self, status: &str) -> bool {
        match self {
            Edit::Modify | Edit::Content | Edit::Cancel => status == COMPLETED,
            Edit::Complete => ["20", "30", "37", "40"].contains(&status),
            Edit::Add => false,
        }
    }
}

/// What of a generated order is no longer as it was generated. Times are epoch seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    modified: Option<i64>,
    checked: Option<i64>,
    status: Option<i64>,
    notes: u32,
    more: u32,
}

impl Edits {
    pub(super) fn add(&mut self, edit: Edit, now: i64) {
        self.modified = Some(now);
        match edit {
            Edit::Modify => self.notes += 1,
            Edit::Content => self.more += 1,
            Edit::Cancel => self.status = Some(10),
            Edit::Complete | Edit::Add => (self.status, self.checked) = (Some(80), Some(now)),
        }
    }

    pub(super) fn apply(&self, order: &mut Order) {
        order.modified = self.modified.unwrap_or(order.modified);
        order.checked = self.checked.unwrap_or(order.checked);
        order.status = self.status.unwrap_or(order.status);
        if self.notes > 0 {
            (order.remark, order.flag) = note(self.notes);
        }
        if let Some(line) = order.lines.first_mut().filter(|_| self.more > 0) {
            line.num += Decimal::from(self.more);
            line.total_cost = line.src_price * line.num;
            line.tax_amount = line.tax_price * line.num;
        }
    }
}

/// The note and the flag after so many harmless edits.
fn note(count: u32) -> (String, &'static str) {
    let flags = ["已核对", "待复核", "无"];
    (format!("第{count}次备注"), flags[count as usize % flags.len()])
}

/// The same for an order that was given over the admin endpoint; `count` tells its edits apart.
pub(super) fn edit_given(content: &mut Json, edit: Edit, now: i64, count: usize) {
    content.set("modified", (now * 1000).into());
    match edit {
        Edit::Modify => {
            let (remark, flag) = note(u32::try_from(count).unwrap_or(u32::MAX));
            content.set("remark", remark.into());
            content.set("flag_name", flag.into());
        }
        Edit::Content => {
            let mut lines = content.get("details_list").map(Json::items).unwrap_or_default().to_vec();
            let num = lines.first().and_then(|line| line.text_of("num"));
            if let (Some(line), Some(num)) =
                (lines.first_mut(), num.and_then(|num| num.parse::<Decimal>().ok()))
            {
                line.set("num", (num + Decimal::ONE).to_string().into());
            }
            content.set("details_list", lines.into());
        }
        Edit::Cancel => content.set("status", 10_i64.into()),
        Edit::Complete | Edit::Add => {
            content.set("status", 80_i64.into());
            content.set("check_time", (now * 1000).into());
        }
    }
}
