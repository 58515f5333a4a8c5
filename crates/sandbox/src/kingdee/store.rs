//! Kingdee's memory: base data and documents.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rust_decimal::Decimal;

use super::forms::Base;
use super::model::{self, Candidate, Checks, Fields};
use crate::beijing;
use crate::json::{self, Json};
use crate::orders::catalogue;

/// One item of base data.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) disabled: bool,
    pub(crate) audited: bool,
}

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) fid: i64,
    pub(crate) number: String,
    /// Z draft, A created, B under review, C approved, D re-review.
    pub(crate) status: char,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) approved: Option<i64>,
    pub(super) header: Fields,
    pub(super) finance: Fields,
    /// Entry id and fields, in order.
    pub(super) entries: Vec<(i64, Fields)>,
}

/// What becomes of the rows of a document that a save of it doesn't list (`IsDeleteEntry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rows {
    /// They are deleted, which is Kingdee's default.
    #[default]
    DeleteUnlisted,
    /// They stay.
    KeepUnlisted,
}

/// Everything that Kingdee holds.
#[derive(Debug)]
pub(crate) struct Store {
    base: BTreeMap<(Base, String), Item>,
    pub(super) documents: BTreeMap<i64, Document>,
    by_number: HashMap<String, Vec<i64>>,
    last_fid: i64,
    last_entry: i64,
    last_item: i64,
    /// Fields of the form that this account set doesn't have, in lower case.
    absent: BTreeSet<String>,
}

impl Default for Store {
    fn default() -> Store {
        let mut store = Store {
            base: BTreeMap::new(),
            documents: BTreeMap::new(),
            by_number: HashMap::new(),
            last_fid: 102_492,
            last_entry: 310_000,
            last_item: 5000,
            absent: BTreeSet::new(),
        };
        for index in 0..catalogue::MATERIALS {
            let material = catalogue::material(index);
            store.put_item(Base::Material, &material.spec_no, Some(&material.goods_name), None, None);
        }
        for index in 0..catalogue::SUPPLIERS {
            let (number, name) = (catalogue::supplier_no(index), catalogue::supplier_name(index));
            store.put_item(Base::Supplier, &number, Some(&name), None, None);
        }
        store.put_item(
            Base::Supplier,
            catalogue::DISABLED_SUPPLIER,
            Some("停用示例供应商"),
            Some(true),
            None,
        );
        for (warehouse, stock, name) in catalogue::WAREHOUSES {
            store.put_item(Base::Stock, warehouse, Some(name), None, None);
            store.put_item(Base::Stock, stock, Some(name), None, None);
        }
        for (number, name) in [("100", "示例总公司"), ("101", "示例电商分公司"), ("102", "示例华东分公司")]
        {
            store.put_item(Base::Organisation, number, Some(name), None, None);
        }
        store
    }
}

impl Store {
    /// The item of that kind and code.
    pub(crate) fn item(&self, base: Base, number: &str) -> Option<&Item> {
        self.base.get(&(base, number.to_owned()))
    }

    /// All items of one kind, by code.
    pub(crate) fn items(&self, base: Base) -> impl Iterator<Item = (&str, &Item)> {
        let first = (base, String::new());
        self.base
            .range(first..)
            .take_while(move |((of, _), _)| *of == base)
            .map(|((_, n), item)| (n.as_str(), item))
    }

    /// Adds an item, or changes what is given of a known one.
    pub(crate) fn put_item(
        &mut self,
        base: Base,
        number: &str,
        name: Option<&str>,
        disabled: Option<bool>,
        audited: Option<bool>,
    ) {
        let last = &mut self.last_item;
        let item = self.base.entry((base, number.to_owned())).or_insert_with(|| {
            *last += 1;
            Item { id: *last, name: number.to_owned(), disabled: false, audited: true }
        });
        if let Some(name) = name {
            name.clone_into(&mut item.name);
        }
        item.disabled = disabled.unwrap_or(item.disabled);
        item.audited = audited.unwrap_or(item.audited);
    }

    /// Takes a field away from the form, as in an account set that was customised, or puts it back.
    pub(crate) fn set_field(&mut self, name: &str, removed: bool) {
        let name = name.to_ascii_lowercase();
        if removed {
            self.absent.insert(name)
        } else {
            self.absent.remove(&name)
        };
    }

    /// Whether the form has lost a field.
    pub(super) fn lacks(&self, name: &str) -> bool {
        self.absent.contains(&name.to_ascii_lowercase())
    }

    /// Takes an item out; false when there is none.
    pub(crate) fn remove_item(&mut self, base: Base, number: &str) -> bool {
        self.base.remove(&(base, number.to_owned())).is_some()
    }

    /// The ids of the documents of that number, oldest first; more than one is a duplicate.
    pub(crate) fn ids_of(&self, number: &str) -> &[i64] {
        self.by_number.get(number).map(Vec::as_slice).unwrap_or_default()
    }

    /// The number of the document of that id.
    pub(crate) fn number_of(&self, fid: i64) -> Option<String> {
        self.documents.get(&fid).map(|document| document.number.clone())
    }

    /// Puts a document there without any check, as if a person had typed it.
    pub(crate) fn type_in(&mut self, model: &Json, now: i64) -> Result<(i64, String), String> {
        let checks = Checks { base_data: false, required: false, any_order: true };
        let candidate = model::read(model, checks, self).map_err(|problems| {
            problems.first().map_or_else(String::new, |problem| problem.message.clone())
        })?;
        Ok(self.commit(candidate, Rows::default(), false, now))
    }

    /// Makes a document durable: a new one, or the one whose id the candidate names.
    pub(super) fn commit(
        &mut self,
        candidate: Candidate,
        rows: Rows,
        draft: bool,
        now: i64,
    ) -> (i64, String) {
        let Candidate { fid, number, header, finance, entries } = candidate;
        let known = self.documents.remove(&fid);
        let fid = if known.is_some() { fid } else { self.next_fid() };
        let number = number.unwrap_or_else(|| match &known {
            Some(old) => old.number.clone(),
            None => format!("CGRK{:08}", fid - 102_492),
        });
        let mut kept = Vec::new();
        let mut old: Vec<i64> = Vec::new();
        for (id, fields) in known.iter().flat_map(|document| &document.entries) {
            old.push(*id);
            let listed = entries.iter().any(|(entry, _)| entry == id);
            if rows == Rows::KeepUnlisted && !listed {
                kept.push((*id, fields.clone()));
            }
        }
        for (id, fields) in entries {
            kept.push((if old.contains(&id) { id } else { self.next_entry() }, fields));
        }
        let entries = kept;
        let (created, status) = known.as_ref().map_or((now, 'A'), |old| (old.created, old.status));
        if let Some(old) = &known {
            self.forget(&old.number, fid);
        }
        self.by_number.entry(number.clone()).or_default().push(fid);
        let status = if draft {
            'Z'
        } else if status == 'Z' {
            'A'
        } else {
            status
        };
        let document = Document {
            fid,
            number: number.clone(),
            status,
            created,
            modified: now,
            approved: None,
            header,
            finance,
            entries,
        };
        self.documents.insert(fid, document);
        (fid, number)
    }

    /// Deletes a document.
    pub(super) fn delete(&mut self, fid: i64) {
        if let Some(document) = self.documents.remove(&fid) {
            self.forget(&document.number, fid);
        }
    }

    /// Deletes every document of a number, as a person would; gives back their ids.
    pub(crate) fn delete_number(&mut self, number: &str) -> Vec<i64> {
        let ids = self.ids_of(number).to_vec();
        ids.iter().for_each(|fid| self.delete(*fid));
        ids
    }

    /// Every document in exact text, or those of one number.
    pub(crate) fn describe(&self, only: Option<&str>) -> String {
        let wanted = self.documents.values().filter(|document| only.is_none_or(|n| n == document.number));
        json::array_text(wanted.map(describe))
    }

    /// The numbers of all audited documents.
    pub(crate) fn audited(&self) -> HashSet<String> {
        let audited = self.documents.values().filter(|document| document.status.to_string() == "C");
        audited.map(|document| document.number.clone()).collect()
    }

    /// Counts by status, and the numbers that more than one document has.
    pub(crate) fn summary(&self) -> Json {
        let mut by_status: BTreeMap<String, usize> = BTreeMap::new();
        for document in self.documents.values() {
            *by_status.entry(document.status.to_string()).or_default() += 1;
        }
        let twice = self.by_number.iter().filter(|(_, ids)| ids.len() > 1);
        let mut twice: Vec<&str> = twice.map(|(number, _)| number.as_str()).collect();
        twice.sort_unstable();
        Json::object([
            ("documents", self.documents.len().into()),
            ("by_status", Json::object(by_status.into_iter().map(|(status, count)| (status, count.into())))),
            ("duplicates", Json::Array(twice.into_iter().map(Json::from).collect())),
        ])
    }

    fn next_fid(&mut self) -> i64 {
        self.last_fid += 1;
        self.last_fid
    }

    fn next_entry(&mut self) -> i64 {
        self.last_entry += 1;
        self.last_entry
    }

    fn forget(&mut self, number: &str, fid: i64) {
        if let Some(ids) = self.by_number.get_mut(number) {
            ids.retain(|id| *id != fid);
            if ids.is_empty() {
                self.by_number.remove(number);
            }
        }
    }
}

fn describe(document: &Document) -> Json {
    let text = |fields: &Fields, name: &str| match fields.get(name).and_then(Json::scalar) {
        Some(text) => Json::Text(text),
        None => Json::Null,
    };
    let number = |fields: &Fields, name: &str| match fields.decimal(name) {
        Some(number) => number.normalize().to_string().into(),
        None => Json::Null,
    };
    let line = |(entry, fields): &(i64, Fields)| {
        Json::object([
            ("entry_id", (*entry).into()),
            ("material", text(fields, "FMaterialId")),
            ("qty", number(fields, "FRealQty")),
            ("tax_price", number(fields, "FTaxPrice")),
            ("tax_rate", number(fields, "FEntryTaxRate")),
            ("stock", text(fields, "FStockId")),
            ("gift", fields.flag("FGiveAway").into()),
            ("lot", text(fields, "FLot")),
            ("note", text(fields, "FNote")),
        ])
    };
    let quantities = document.entries.iter().filter_map(|(_, fields)| fields.decimal("FRealQty"));
    let quantity = quantities.fold(Decimal::ZERO, Decimal::saturating_add);
    Json::object([
        ("FBillNo", document.number.as_str().into()),
        ("FID", document.fid.into()),
        ("status", document.status.to_string().into()),
        ("date", text(&document.header, "FDate")),
        ("supplier", text(&document.header, "FSupplierId")),
        ("stock_org", text(&document.header, "FStockOrgId")),
        ("created", beijing::text(document.created).into()),
        ("modified", beijing::text(document.modified).into()),
        ("approved", document.approved.map(beijing::text).into()),
        ("qty", quantity.normalize().to_string().into()),
        ("line_count", document.entries.len().into()),
        ("lines", Json::Array(document.entries.iter().map(line).collect())),
    ])
}
