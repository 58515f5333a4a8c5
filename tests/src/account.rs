//! The account: what the source holds against what the target and the dead-letter queues hold, document by document.

mod counters;
mod invariants;
mod letters;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use anyhow::{Context, Result};
use kingpost_broker::{BrokerConfig, Inspector};
use kingpost_model::{FailureKind, RETRY_TIERS, Route, StageName};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::lab::Sandbox;

pub use counters::{Told, disagreements};
pub use invariants::{Scene, invariants};
pub use letters::{Letter, letters};

/// The status of a stock-in that is to be posted (已完成).
const COMPLETED: &str = "80";
/// The organisation that the shipped table of stocks names for every warehouse.
const ORGANISATION: &str = "100";
/// Dead letters read per queue.
const LETTERS_MAX: usize = 1_000_000;

/// Dead letters of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadGroup {
    /// The stage that gave up.
    pub stage: String,
    /// The kind of failure.
    pub kind: String,
    /// What they have in common.
    pub cause: String,
    /// What a person should do.
    pub advice: &'static str,
    /// Their numbers.
    pub numbers: Vec<String>,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Completed orders in WDT.
    pub orders: usize,
    /// Documents in Kingdee by status.
    pub by_status: BTreeMap<String, usize>,
    /// Distinct documents in Kingdee.
    pub documents: usize,
    /// Dead letters, grouped.
    pub dead: Vec<DeadGroup>,
    /// Orders that are nowhere.
    pub lost: Vec<String>,
    /// Numbers with more than one document.
    pub duplicated: Vec<String>,
    /// Documents that don't say what their orders say, and how they differ.
    pub different: Vec<String>,
    /// Documents without an order, and numbers that are in Kingdee and dead at once.
    pub unexpected: Vec<String>,
    /// Orders whose save Kingdee committed and answered at least once.
    pub acknowledged: usize,
    /// Orders that are in Kingdee once, audited, and as their order says.
    pub ok: usize,
    /// Dead letters whose write ended without evidence and could not be decided.
    pub ambiguous: Vec<String>,
}

/// What RabbitMQ's own Jepsen job counts, in words of this pipeline; every order of the scheme counts, not every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Completed orders that WDT holds: each has to arrive.
    pub attempted: usize,
    /// Orders whose save Kingdee committed, with an answer that was sent whole. The others among `ok` were committed
    /// and their answer never arrived; RabbitMQ's job calls these recovered.
    pub acknowledged: usize,
    /// Orders that are in Kingdee exactly once, audited, with the content of their order.
    pub ok: usize,
    /// Orders that are neither in Kingdee nor a dead letter.
    pub lost: usize,
    /// Numbers with more than one document, or with more than one save in Kingdee's ledger, which also holds commits
    /// whose answer never arrived.
    pub duplicated: usize,
    /// Documents without an order, with other content than their order, or that are a dead letter as well.
    pub unexpected: usize,
    /// Orders that wait, explained, for a person; each counts once, however many copies of its dead letter there are.
    pub dead: usize,
    /// Those of the dead whose kind is `unclear`: whether Kingdee has them could not be decided.
    pub ambiguous: usize,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { attempted, acknowledged, ok, lost, duplicated, unexpected, dead, ambiguous } = self;
        write!(f, "attempted {attempted}, acknowledged {acknowledged}, ok {ok}, lost {lost}, ")?;
        write!(f, "duplicated {duplicated}, unexpected {unexpected}, dead {dead}, ambiguous {ambiguous}")
    }
}

/// How many messages wait in the queues of a scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Windows to be read.
    pub extract: u32,
    /// Orders to be mapped.
    pub transform: u32,
    /// Models to be posted.
    pub load: u32,
    /// In retry tiers.
    pub retry: u32,
    /// Dead letters of all stages.
    pub dead: u32,
}

/// Reads the depths of a scheme's queues.
pub async fn waiting(inspector: &Inspector, scheme: &str, shards: u32) -> Result<Waiting> {
    let mut waiting = Waiting::default();
    for stage in StageName::ALL {
        for route in Route::all(stage, scheme, shards) {
            let ready = inspector.depth(&route.queue()).await?.map_or(0, |depth| depth.ready);
            match stage {
                StageName::Extract => waiting.extract += ready,
                StageName::Transform => waiting.transform += ready,
                StageName::Load => waiting.load += ready,
            }
        }
        let dead = Route::new(stage, scheme).dead_queue();
        waiting.dead += inspector.depth(&dead).await?.map_or(0, |depth| depth.ready);
    }
    for tier in RETRY_TIERS {
        waiting.retry += inspector.depth(tier.queue).await?.map_or(0, |depth| depth.ready);
    }
    Ok(waiting)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The day in Beijing of a time that is epoch milliseconds or text.
pub fn day(time: &str) -> String {
    let stamp = time.parse().ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let day = stamp.map(|stamp| jiff::tz::offset(8).to_datetime(stamp).date().to_string());
    day.unwrap_or_else(|| time.split([' ', 'T']).next().unwrap_or_default().to_owned())
}

fn decimal(text: &str) -> Option<Decimal> {
    Decimal::from_str_exact(text.trim()).ok()
}

impl Account {
    /// Takes the account of one scheme.
    pub async fn take(sandbox: &Sandbox, amqp_url: &str, scheme: &str) -> Result<Self> {
        let mut account = Account::default();
        account.read_dead_letters(amqp_url, scheme).await?;
        let documents = sandbox.documents().await?;
        let orders = sandbox.orders().await?;
        account.compare(&orders, &documents)?;
        account.audit(&sandbox.ledger().await?)?;
        Ok(account)
    }

    /// The account in numbers.
    pub fn counters(&self) -> Counters {
        Counters {
            attempted: self.orders,
            acknowledged: self.acknowledged,
            ok: self.ok,
            lost: self.lost.len(),
            duplicated: self.duplicated.len(),
            unexpected: self.unexpected.len() + self.different.len(),
            dead: self.dead_orders(),
            ambiguous: self.ambiguous.iter().collect::<BTreeSet<_>>().len(),
        }
    }

    /// Dead letters, all groups together. An order that was read twice, or whose worker died at the wrong moment, may be
    /// more than one.
    pub fn dead_letters(&self) -> usize {
        self.dead.iter().map(|group| group.numbers.len()).sum()
    }

    /// Orders with a dead letter.
    pub fn dead_orders(&self) -> usize {
        self.dead.iter().flat_map(|group| &group.numbers).collect::<BTreeSet<_>>().len()
    }

    /// Nothing lost, nothing twice, nothing wrong, and everything either in Kingdee or explained.
    pub fn is_sound(&self) -> bool {
        let wrong = [&self.lost, &self.duplicated, &self.different, &self.unexpected];
        wrong.iter().all(|list| list.is_empty()) && self.documents + self.dead_orders() == self.orders
    }

    /// The closing line.
    pub fn line(&self, label: &str) -> String {
        format!(
            "{label}: {} orders, {} documents, {} dead letters, {} lost, {} duplicated, {} different",
            self.orders,
            self.documents,
            self.dead_letters(),
            self.lost.len(),
            self.duplicated.len(),
            self.different.len()
        )
    }

    /// The account as a report for people.
    pub fn report(&self) -> String {
        let mut report = String::new();
        // Writing to a String can't fail.
        let _ = writeln!(report, "in WDT       {:>6} completed orders", self.orders);
        for (status, count) in &self.by_status {
            let meaning = match status.as_str() {
                "Z" => "drafts (暂存)",
                "A" => "saved (创建)",
                "B" => "submitted (审核中)",
                "C" => "audited (已审核)",
                "D" => "reopened (重新审核)",
                _ => "of an unknown status",
            };
            let _ = writeln!(report, "in Kingdee   {count:>6} {meaning}");
        }
        let _ = match self.dead_letters() - self.dead_orders() {
            0 => writeln!(report, "dead letters {:>6}, by cause:", self.dead_letters()),
            copies => {
                writeln!(
                    report,
                    "dead letters {:>6}, {copies} of them copies, by cause:",
                    self.dead_letters()
                )
            }
        };
        for group in &self.dead {
            let _ = writeln!(
                report,
                "  {:>4} × {} / {}: {}",
                group.numbers.len(),
                group.stage,
                group.kind,
                group.cause
            );
            let _ = writeln!(report, "         e.g. {}", group.numbers.first().map_or("", String::as_str));
            let _ = writeln!(report, "         to do: {}", group.advice);
        }
        for (name, list) in [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("different", &self.different),
            ("unexpected", &self.unexpected),
        ] {
            for entry in list.iter().take(20) {
                let _ = writeln!(report, "{name}: {entry}");
            }
        }
        report
    }

    async fn read_dead_letters(&mut self, amqp_url: &str, scheme: &str) -> Result<()> {
        let inspector = Inspector::open(&BrokerConfig::for_url(amqp_url, "account")).await?;
        let mut groups: BTreeMap<(String, String, String), DeadGroup> = BTreeMap::new();
        for stage in StageName::ALL {
            let queue = Route::new(stage, scheme).dead_queue();
            for letter in inspector.browse(&queue, LETTERS_MAX).await? {
                let (kind, cause) = (letter.failure.kind, letter.failure.cause());
                let key = (stage.as_str().to_owned(), kind.as_str().to_owned(), cause.clone());
                let group = groups.entry(key).or_insert_with(|| DeadGroup {
                    stage: stage.as_str().to_owned(),
                    kind: kind.as_str().to_owned(),
                    cause,
                    advice: kind.advice(),
                    numbers: Vec::new(),
                });
                let number = letter.work.source_number.unwrap_or(letter.work.key.number);
                if kind == FailureKind::Unclear {
                    self.ambiguous.push(number.clone());
                }
                group.numbers.push(number);
            }
        }
        inspector.close().await;
        self.dead = groups.into_values().collect();
        self.dead.sort_by_key(|group| std::cmp::Reverse(group.numbers.len()));
        Ok(())
    }

    fn compare(&mut self, orders: &Value, documents: &Value) -> Result<()> {
        let mut posted: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for document in documents.as_array().context("the sandbox gave no list of documents")? {
            *self.by_status.entry(text(document, "status").to_owned()).or_default() += 1;
            posted.entry(text(document, "FBillNo")).or_default().push(document);
        }
        self.documents = posted.len();
        let dead: BTreeSet<String> =
            self.dead.iter().flat_map(|group| group.numbers.iter().cloned()).collect();
        let mut known = BTreeSet::new();
        for order in orders.as_array().context("the sandbox gave no list of orders")? {
            if text(order, "status") != COMPLETED {
                continue;
            }
            self.orders += 1;
            let number = text(order, "order_no");
            known.insert(number);
            match posted.get(number).map_or(&[][..], Vec::as_slice) {
                [] if dead.contains(number) => {}
                [] => self.lost.push(number.to_owned()),
                [document] => {
                    match difference(order, document) {
                        Some(difference) => self.different.push(format!("{number}: {difference}")),
                        None => self.ok += 1,
                    }
                    if dead.contains(number) {
                        self.unexpected.push(format!("{number} is in Kingdee and a dead letter"));
                    }
                }
                many => self.duplicated.push(format!("{number} ({} documents)", many.len())),
            }
        }
        let strangers = posted.keys().filter(|number| !known.contains(*number));
        self.unexpected.extend(strangers.map(|number| format!("{number} is in Kingdee without an order")));
        Ok(())
    }
}

impl Account {
    /// Reads Kingdee's ledger of commits: who was answered, and what was saved twice although one of both is gone.
    fn audit(&mut self, ledger: &Value) -> Result<()> {
        let mut saves: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
        for commit in ledger.as_array().context("the sandbox gave no ledger")? {
            if text(commit, "step") == "saved" {
                let (count, answered) = saves.entry(text(commit, "FBillNo")).or_default();
                *count += 1;
                *answered |= commit.get("answered").and_then(Value::as_bool).unwrap_or(false);
            }
            if text(commit, "step") == "updated" {
                self.unexpected.push(format!("{} was saved over, says the ledger", text(commit, "FBillNo")));
            }
        }
        self.acknowledged = saves.values().filter(|(_, answered)| *answered).count();
        for (number, (count, _)) in saves.iter().filter(|(_, (count, _))| *count > 1) {
            if !self.duplicated.iter().any(|known| known.starts_with(&format!("{number} "))) {
                self.duplicated.push(format!("{number} (saved {count} times, says the ledger)"));
            }
        }
        Ok(())
    }
}

/// How a document differs from its order, in everything that the sandbox shows of it; numbers are compared as decimals.
fn difference(order: &Value, document: &Value) -> Option<String> {
    let date = day(text(document, "date"));
    for (name, theirs, ours) in [
        ("status", text(document, "status"), "C"),
        ("supplier", text(document, "supplier"), text(order, "provider_no")),
        ("date", date.as_str(), day(text(order, "check_time")).as_str()),
        ("stock_org", text(document, "stock_org"), ORGANISATION),
    ] {
        if theirs != ours {
            return Some(format!("{name} {theirs:?} instead of {ours:?}"));
        }
    }
    let (ours, theirs) = (list(order, "lines"), list(document, "lines"));
    if ours.len() != theirs.len() {
        return Some(format!("{} lines instead of {}", theirs.len(), ours.len()));
    }
    let stock = text(order, "warehouse_no");
    let lines = ours.iter().zip(theirs).enumerate();
    lines
        .filter_map(|(n, (ours, theirs))| {
            line_difference(stock, ours, theirs).map(|found| format!("line {n}: {found}"))
        })
        .next()
}

fn line_difference(stock: &str, ours: &Value, theirs: &Value) -> Option<String> {
    for (name, found, wanted) in [
        ("material", text(theirs, "material"), text(ours, "spec_no")),
        ("stock", text(theirs, "stock"), stock),
        ("note", text(theirs, "note"), text(ours, "remark")),
        // Lots are switched off in the shipped scheme.
        ("lot", text(theirs, "lot"), ""),
    ] {
        if found != wanted {
            return Some(format!("{name} {found:?} instead of {wanted:?}"));
        }
    }
    let price = decimal(text(ours, "tax_price"));
    let rate = decimal(text(ours, "tax")).map(|rate| rate * Decimal::ONE_HUNDRED);
    for (name, found, wanted) in [
        ("quantity", decimal(text(theirs, "qty")), decimal(text(ours, "num"))),
        ("price", decimal(text(theirs, "tax_price")), price),
        ("tax rate", decimal(text(theirs, "tax_rate")), rate),
    ] {
        if wanted.is_none() || found != wanted {
            return Some(format!("{name} {found:?} instead of {wanted:?}"));
        }
    }
    let (found, wanted) = (theirs.get("gift").and_then(Value::as_bool), price.map(|price| price.is_zero()));
    (found != wanted).then(|| format!("gift {found:?} instead of {wanted:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(number: &str, price: &str) -> Value {
        // 00:30 of the second in Beijing, which is still the first in Greenwich.
        json!({"order_no": number, "status": "80", "provider_no": "G1", "check_time": "1785601800000", "warehouse_no": "W1",
               "lines": [{"spec_no": "S1", "num": "2.50", "tax_price": price, "tax": "0.13", "remark": "x"}]})
    }

    fn document(number: &str, price: &str) -> Value {
        json!({"FBillNo": number, "status": "C", "supplier": "G1", "date": "2026-08-02", "stock_org": "100",
               "lines": [{"material": "S1", "qty": "2.5", "tax_price": price, "tax_rate": "13", "stock": "W1",
                          "gift": false, "note": "x", "lot": null}]})
    }

    #[test]
    fn every_field_that_differs_is_found() {
        let (order, right) = (order("RK1", "1.10"), document("RK1", "1.1"));
        assert_eq!(difference(&order, &right), None);
        for (path, wrong) in [
            ("/status", json!("B")),
            ("/supplier", json!("G2")),
            ("/date", json!("2026-08-01")),
            ("/stock_org", json!("101")),
            ("/lines", json!([])),
            ("/lines/0/material", json!("S2")),
            ("/lines/0/qty", json!("2.50000001")),
            ("/lines/0/tax_price", json!("1.11")),
            ("/lines/0/tax_rate", json!("0.13")),
            ("/lines/0/stock", json!("W2")),
            ("/lines/0/gift", json!(true)),
            ("/lines/0/note", Value::Null),
            ("/lines/0/lot", json!("L1")),
        ] {
            let mut document = right.clone();
            *document.pointer_mut(path).unwrap() = wrong;
            assert!(difference(&order, &document).is_some(), "a wrong {path} is not found");
        }
        let gift = document("RK1", "0");
        assert!(difference(&super::tests::order("RK1", "0"), &gift).is_some(), "a gift that is none");
        let mut account = Account::default();
        account.audit(&json!([{"FBillNo": "RK1", "step": "updated"}])).unwrap();
        assert_eq!(account.unexpected.len(), 1);
    }

    #[test]
    fn the_account_finds_every_kind_of_fault() {
        let orders = json!([order("RK1", "1.10"), order("RK2", "2"), order("RK3", "3"), order("RK4", "4")]);
        let documents = json!([
            document("RK1", "1.1"),
            document("RK2", "2.00000001"),
            document("RK3", "3"),
            document("RK3", "3"),
            document("RK9", "9")
        ]);
        let mut account = Account::default();
        account.compare(&orders, &documents).unwrap();
        assert_eq!(account.lost, ["RK4"]);
        assert_eq!(account.duplicated.len(), 1);
        assert_eq!(account.different.len(), 1);
        assert_eq!(account.unexpected.len(), 1);
        assert!(!account.is_sound());
        let save =
            |number: &str, answered: bool| json!({"FBillNo": number, "step": "saved", "answered": answered});
        let ledger = json!([save("RK1", false), save("RK1", false), save("RK3", true), save("RK3", true)]);
        account.audit(&ledger).unwrap();
        assert_eq!(account.duplicated.len(), 2, "{:?}", account.duplicated);
        let line =
            "attempted 4, acknowledged 1, ok 1, lost 1, duplicated 2, unexpected 2, dead 0, ambiguous 0";
        assert_eq!(account.counters().to_string(), line);
        let mut sound = Account::default();
        sound.compare(&json!([order("RK1", "1.10")]), &json!([document("RK1", "1.1")])).unwrap();
        assert!(sound.is_sound(), "{}", sound.report());
    }
}
