//! All orders of a run, indexed by modified time, with everything that ever happened to each of them.

use std::collections::HashMap;

use super::edit::{Edits, edit_given};
use super::generate::Rng;
use super::truth::Truth;
use super::{COMPLETED, Edit, Plan, Style, render};
use crate::beijing;
use crate::json::Json;

/// In which order a query answers. WDT's own is not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SortBy {
    /// By the time of the last change, oldest first; ties by internal id
    #[default]
    Modified,
    /// By the time of the last change, newest first
    ModifiedDesc,
    /// By internal id: in the order in which they were made
    Id,
}

/// How answers are sorted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sorting {
    pub(crate) by: SortBy,
    /// What was changed in one second comes in another order with every request.
    pub(crate) shuffle_ties: bool,
}

/// Where the content of an order comes from.
#[derive(Clone, Debug)]
enum Source {
    Generated(u32, Edits),
    /// Given or changed over the admin endpoint; answered as it is.
    Given(Json),
}

/// One version of an order.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) modified: i64,
    pub(crate) status: String,
    pub(crate) warehouse_no: String,
    pub(crate) purchase_no: String,
    /// What made it: `generated`, `put`, or the name of an [`Edit`].
    pub(crate) what: &'static str,
    /// Whether it stood on a page that was asked for.
    pub(crate) shown: bool,
    source: Source,
}

/// An order.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) order_no: String,
    pub(crate) fate: &'static str,
    pub(crate) cause: Option<&'static str>,
    pub(crate) now: Version,
    /// Oldest first.
    pub(crate) earlier: Vec<Version>,
    pub(crate) deleted: bool,
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
        (self.statuses.is_empty() || self.statuses.contains(&slot.now.status))
            && same(&self.warehouse_no, &slot.now.warehouse_no)
            && same(&self.stockin_no, &slot.order_no)
            && same(&self.purchase_no, &slot.now.purchase_no)
    }
}

/// The orders of a run.
#[derive(Debug)]
pub(crate) struct Book {
    pub(super) plan: Plan,
    sorting: Sorting,
    slots: Vec<Slot>,
    by_number: HashMap<String, usize>,
    /// Modified second and slot, sorted: a window is two binary searches away.
    by_modified: Vec<(i64, usize)>,
}

impl Book {
    pub(crate) fn new(plan: Plan, sorting: Sorting) -> Book {
        let (slots, by_modified) = (Vec::new(), Vec::new());
        let mut book = Book { slots, by_number: HashMap::new(), by_modified, plan, sorting };
        for index in 0..book.plan.len() {
            let slot = book.generated(index, "generated");
            book.by_number.insert(slot.order_no.clone(), book.slots.len());
            book.by_modified.push((slot.now.modified, book.slots.len()));
            book.slots.push(slot);
        }
        book.by_modified.sort_unstable();
        book
    }

    fn generated(&self, index: u32, what: &'static str) -> Slot {
        let order = self.plan.header(index);
        Slot {
            fate: match order.cause {
                _ if order.status != 80 => "unfinished",
                Some(cause) => cause.fate(),
                None => "posts",
            },
            cause: order.cause.map(super::Cause::name),
            order_no: order.order_no,
            now: Version {
                modified: order.modified,
                status: order.status.to_string(),
                warehouse_no: order.warehouse_no,
                purchase_no: order.purchase_no,
                what,
                shown: false,
                source: Source::Generated(index, Edits::default()),
            },
            earlier: Vec::new(),
            deleted: false,
        }
    }

    /// How many orders match, and those of the page that starts after `skip` of them, which are shown from now on.
    /// `salt` shuffles what the sorting leaves open.
    pub(crate) fn query(
        &mut self,
        wanted: &Criteria,
        skip: usize,
        size: usize,
        salt: u64,
        style: Style,
    ) -> (usize, Vec<Json>) {
        let mut found = self.found(wanted);
        if self.sorting.by == SortBy::ModifiedDesc {
            found.reverse();
        }
        if self.sorting.shuffle_ties {
            let mut rng = Rng::new(self.plan.seed ^ salt, 0, 6);
            for ties in found.chunk_by_mut(|(one, _), (other, _)| one == other) {
                for at in (1..ties.len()).rev() {
                    ties.swap(at, rng.below(at as u64 + 1) as usize);
                }
            }
        }
        if self.sorting.by == SortBy::Id {
            found.sort_unstable_by_key(|(_, at)| *at);
        }
        let page: Vec<usize> = found.iter().skip(skip).take(size).map(|(_, at)| *at).collect();
        for at in &page {
            self.slots[*at].now.shown = true;
        }
        (found.len(), page.iter().map(|at| self.content(&self.slots[*at].now, style)).collect())
    }

    /// Modified second and slot of what matches, oldest first.
    fn found(&self, wanted: &Criteria) -> Vec<(i64, usize)> {
        let first = self.by_modified.partition_point(|(modified, _)| *modified < wanted.start);
        let last = self.by_modified.partition_point(|(modified, _)| *modified <= wanted.end);
        let window = self.by_modified.get(first..last).unwrap_or_default();
        window.iter().filter(|(_, at)| wanted.holds(&self.slots[*at])).copied().collect()
    }

    /// A version as WDT answers it.
    pub(crate) fn content(&self, version: &Version, style: Style) -> Json {
        match &version.source {
            Source::Generated(index, edits) => {
                let mut order = self.plan.order(*index);
                edits.apply(&mut order);
                render(&order, style)
            }
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
            Some(at) => self.content(&self.slots[at].now, Style::Direct),
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
        let version = Version::given(content, modified, "put");
        match known {
            Some(at) => self.replace(at, version),
            None => self.insert(Slot {
                order_no: number.clone(),
                fate: "given",
                cause: None,
                now: version,
                earlier: Vec::new(),
                deleted: false,
            }),
        }
        Ok(number)
    }

    /// Adds a new completed order that was approved now.
    pub(crate) fn add(&mut self, now: i64) -> String {
        let index = self.plan.add(now);
        let slot = self.generated(index, Edit::Add.name());
        let number = slot.order_no.clone();
        self.insert(slot);
        number
    }

    /// Lets something happen to an order.
    pub(crate) fn edit(&mut self, at: usize, edit: Edit, now: i64) {
        let Some(slot) = self.slots.get(at) else { return };
        let mut version = Version { modified: now, what: edit.name(), shown: false, ..slot.now.clone() };
        match &mut version.source {
            Source::Generated(_, edits) => edits.add(edit, now),
            Source::Given(content) => edit_given(content, edit, now, slot.earlier.len() + 1),
        }
        match edit {
            Edit::Cancel => version.status = "10".to_owned(),
            Edit::Complete | Edit::Add => version.status = COMPLETED.to_owned(),
            Edit::Modify | Edit::Content => {}
        }
        self.replace(at, version);
        let slot = &mut self.slots[at];
        if edit == Edit::Complete && slot.fate == "unfinished" {
            slot.fate = "posts";
        }
    }

    /// Lets something happen to the order of a number; false when there is none.
    pub(crate) fn edit_number(&mut self, number: &str, edit: Edit, now: i64) -> bool {
        let Some(at) = self.by_number.get(number).copied() else { return false };
        self.edit(at, edit, now);
        true
    }

    /// Lets something happen to so many of the orders that a query finds, drawn by `salt`.
    pub(crate) fn edit_among(&mut self, wanted: &Criteria, (edit, many): (Edit, u32), now: i64, salt: u64) {
        let mut rng = Rng::new(self.plan.seed ^ salt, 0, 7);
        let mut found = self.found(wanted);
        found.retain(|(_, at)| edit.suits(&self.slots[*at].now.status));
        for _ in 0..many {
            if edit == Edit::Add {
                self.add(now);
            } else if !found.is_empty() {
                let (_, at) = found.swap_remove(rng.below(found.len() as u64) as usize);
                self.edit(at, edit, now);
            }
        }
    }

    /// The slots that something can happen to; another quantity only to an order that nothing is wrong with.
    pub(super) fn suiting(&self, edit: Edit) -> Vec<usize> {
        let suits = |slot: &Slot| {
            !slot.deleted && edit.suits(&slot.now.status) && (edit != Edit::Content || slot.fate == "posts")
        };
        self.slots.iter().enumerate().filter(|(_, slot)| suits(slot)).map(|(at, _)| at).collect()
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

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    fn insert(&mut self, slot: Slot) {
        let at = self.slots.len();
        self.index(slot.now.modified, at);
        self.by_number.insert(slot.order_no.clone(), at);
        self.slots.push(slot);
    }

    fn replace(&mut self, at: usize, version: Version) {
        let old = (self.slots[at].now.modified, at);
        if let Ok(place) = self.by_modified.binary_search(&old) {
            self.by_modified.remove(place);
        }
        self.index(version.modified, at);
        let slot = &mut self.slots[at];
        slot.earlier.push(std::mem::replace(&mut slot.now, version));
    }

    fn index(&mut self, modified: i64, at: usize) {
        let place = self.by_modified.partition_point(|entry| *entry < (modified, at));
        self.by_modified.insert(place, (modified, at));
    }
}

impl Version {
    fn given(content: Json, modified: i64, what: &'static str) -> Version {
        let text = |key: &str| content.text_of(key).unwrap_or_default();
        Version {
            modified,
            status: text("status"),
            warehouse_no: text("warehouse_no"),
            purchase_no: text("purchase_no"),
            what,
            shown: false,
            source: Source::Given(content),
        }
    }
}

/// An epoch second from epoch milliseconds or `yyyy-MM-dd HH:mm:ss`.
fn moment(text: &str) -> Option<i64> {
    beijing::parse(text).or_else(|| Some(text.parse::<i64>().ok()? / 1000))
}
