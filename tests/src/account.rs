//! The account: what the source holds against what the target and the dead-letter queues hold, document by document.

mod counters;
mod difference;
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
use difference::{Likeness, likeness};
pub use invariants::{Scene, invariants};
pub use letters::{Letter, letters};

/// The status of a stock-in that is to be posted (已完成).
const COMPLETED: &str = "80";
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
    /// Orders that are in Kingdee as they were before somebody changed them, with a dead letter that says so.
    pub reported: BTreeSet<String>,
    /// Orders that were completed once and are no longer, and what became of them doesn't matter: whether one was read
    /// before it was cancelled is a matter of moments.
    pub withdrawn: BTreeSet<String>,
    /// Orders that are in Kingdee once, as they are or as they were when they were posted.
    settled: BTreeSet<String>,
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
    /// Orders that were changed in what is booked after they were posted: Kingdee has the first content, a dead letter the
    /// change.
    pub reported: usize,
    /// Orders that were cancelled after they had been completed. They are not among the attempted.
    pub withdrawn: usize,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { attempted, acknowledged, ok, lost, duplicated, unexpected, .. } = self;
        let Counters { dead, ambiguous, reported, withdrawn, .. } = self;
        write!(f, "attempted {attempted}, acknowledged {acknowledged}, ok {ok}, lost {lost}, ")?;
        write!(f, "duplicated {duplicated}, unexpected {unexpected}, dead {dead}, ambiguous {ambiguous}, ")?;
        write!(f, "reported {reported}, withdrawn {withdrawn}")
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

impl Waiting {
    /// Whether anything is to be done still.
    pub fn is_busy(&self) -> bool {
        self.extract + self.transform + self.load + self.retry > 0
    }
}

/// Completed orders that have not arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Not audited in Kingdee, and nothing is wrong with them.
    pub good: usize,
    /// Audited, but changed since, and nobody has read that yet.
    pub unread: usize,
    /// Those that can't be posted.
    pub bad: u32,
}

impl Pending {
    /// What is not done yet, in words. Letters are no measure for orders by themselves: one that was cut off may be there
    /// twice, so the good ones and the dead ones are counted apart.
    pub fn left(&self, waiting: Waiting) -> Option<String> {
        let Pending { good, unread, bad } = self;
        let dead = waiting.dead;
        (waiting.is_busy() || good + unread > 0 || dead < *bad).then(|| {
            format!(
                "{good} not audited, {unread} not read, {dead} of {bad} dead letters, waiting: {waiting:?}"
            )
        })
    }

    /// Asks the sandbox, which knows both sides.
    ///
    /// # Errors
    /// The sandbox can't be asked.
    pub async fn of(sandbox: &Sandbox) -> Result<Self> {
        let listed = sandbox.get("wdt/orders?pending=1").await?;
        let mut pending = Pending::default();
        for order in listed.as_array().context("the sandbox gave no list of orders")? {
            let audited = order.get("audited").and_then(Value::as_bool).unwrap_or(false);
            match (text(order, "fate"), audited) {
                ("refused" | "unmappable", _) => pending.bad += 1,
                (_, true) => pending.unread += 1,
                (_, false) => pending.good += 1,
            }
        }
        Ok(pending)
    }
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
            dead: self.dead_instead(),
            ambiguous: self.ambiguous.iter().collect::<BTreeSet<_>>().len(),
            reported: self.reported.len(),
            withdrawn: self.withdrawn.len(),
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

    /// Orders with a dead letter in the place of a document.
    fn dead_instead(&self) -> usize {
        let numbers: BTreeSet<&String> = self.dead.iter().flat_map(|group| &group.numbers).collect();
        numbers
            .into_iter()
            .filter(|number| !self.withdrawn.contains(*number) && !self.settled.contains(*number))
            .count()
    }

    /// Nothing lost, nothing twice, nothing wrong, and everything either in Kingdee or explained.
    pub fn is_sound(&self) -> bool {
        let wrong = [&self.lost, &self.duplicated, &self.different, &self.unexpected];
        wrong.iter().all(|list| list.is_empty()) && self.settled.len() + self.dead_instead() == self.orders
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
        let groups =
            self.dead.iter().flat_map(|group| group.numbers.iter().map(move |number| (group, number)));
        let mut dead: BTreeMap<String, bool> = BTreeMap::new();
        for (group, number) in groups {
            *dead.entry(number.clone()).or_insert(true) &= group.kind == FailureKind::Conflict.as_str();
        }
        let mut known = BTreeSet::new();
        for order in orders.as_array().context("the sandbox gave no list of orders")? {
            let number = text(order, "order_no");
            let posted = posted.get(number).map_or(&[][..], Vec::as_slice);
            if text(order, "status") != COMPLETED {
                if self.withdraw(order, posted) {
                    known.insert(number);
                }
                continue;
            }
            self.orders += 1;
            known.insert(number);
            match posted {
                [] if dead.contains_key(number) => {}
                [] => self.lost.push(number.to_owned()),
                [document] => self.judge(order, document, dead.get(number).copied()),
                many => self.duplicated.push(format!("{number} ({} documents)", many.len())),
            }
        }
        let strangers = posted.keys().filter(|number| !known.contains(*number));
        self.unexpected.extend(strangers.map(|number| format!("{number} is in Kingdee without an order")));
        Ok(())
    }
}

impl Account {
    /// A completed order and its document; `conflicts` says whether all of its dead letters are conflicts, if it has any.
    fn judge(&mut self, order: &Value, document: &Value, conflicts: Option<bool>) {
        let number = text(order, "order_no");
        match (likeness(order, document), conflicts) {
            (Likeness::None(difference), _) => self.different.push(format!("{number}: {difference}")),
            (Likeness::Last, _) => {
                self.ok += 1;
                self.settled.insert(number.to_owned());
            }
            (Likeness::Earlier, Some(true)) => {
                self.reported.insert(number.to_owned());
                self.settled.insert(number.to_owned());
            }
            (Likeness::Earlier, _) => {
                self.lost.push(format!("{number} (it is in Kingdee as it was, its change is nowhere)"));
            }
        }
        // A change that came too late is a conflict, on whichever side of its order's first content it was read.
        let changed = !list(order, "earlier").is_empty();
        if conflicts.is_some_and(|conflicts| !(conflicts && changed)) {
            self.unexpected.push(format!("{number} is in Kingdee and a dead letter"));
        }
    }

    /// Takes note of an order that is no longer completed; false when it never was. It may be in Kingdee once, if somebody
    /// can have read it before, and has to be what it was then.
    fn withdraw(&mut self, order: &Value, posted: &[&Value]) -> bool {
        let completed =
            || list(order, "history").iter().filter(|version| text(version, "status") == COMPLETED);
        if completed().next().is_none() {
            return false;
        }
        let number = text(order, "order_no");
        self.withdrawn.insert(number.to_owned());
        let shown = completed().any(|version| version.get("shown").and_then(Value::as_bool).unwrap_or(false));
        match posted {
            [] => {}
            [_] if !shown => {
                self.unexpected.push(format!("{number} was cancelled before anybody could read it"))
            }
            [document] => {
                if let Likeness::None(difference) = likeness(order, document) {
                    self.different.push(format!("{number}: {difference}"));
                }
            }
            many => self.duplicated.push(format!("{number} ({} documents)", many.len())),
        }
        true
    }

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
        let counts = |number: &str| !self.withdrawn.contains(number);
        self.acknowledged =
            saves.iter().filter(|(number, (_, answered))| *answered && counts(number)).count();
        for (number, (count, _)) in saves.iter().filter(|(_, (count, _))| *count > 1) {
            if !self.duplicated.iter().any(|known| known.starts_with(&format!("{number} "))) {
                self.duplicated.push(format!("{number} (saved {count} times, says the ledger)"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference::tests::{document, order};
    use super::*;

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
        let line = "attempted 4, acknowledged 1, ok 1, lost 1, duplicated 2, unexpected 2, dead 0, ambiguous 0, \
                    reported 0, withdrawn 0";
        assert_eq!(account.counters().to_string(), line);
        let mut sound = Account::default();
        sound.compare(&json!([order("RK1", "1.10")]), &json!([document("RK1", "1.1")])).unwrap();
        assert!(sound.is_sound(), "{}", sound.report());
        let mut over = Account::default();
        over.audit(&json!([{"FBillNo": "RK1", "step": "updated"}])).unwrap();
        assert_eq!(over.unexpected.len(), 1);
    }

    /// An order with what happened to it: the statuses of its versions, and whether each was shown.
    fn lived(number: &str, price: &str, versions: &[(&str, bool)]) -> Value {
        let mut order = order(number, price);
        let version = |(status, shown): &(&str, bool)| json!({"status": status, "shown": shown});
        order["history"] = versions.iter().map(version).collect();
        order["status"] = versions.last().map_or(COMPLETED, |(status, _)| status).into();
        order
    }

    fn letter(kind: FailureKind, number: &str) -> DeadGroup {
        DeadGroup {
            stage: "load".to_owned(),
            kind: kind.as_str().to_owned(),
            cause: String::new(),
            advice: kind.advice(),
            numbers: vec![number.to_owned()],
        }
    }

    #[test]
    fn copies_of_dead_letters_stand_for_no_order_that_is_on_its_way() {
        let left = |good, unread, dead, retry| {
            let waiting = Waiting { dead, retry, ..Waiting::default() };
            Pending { good, unread, bad: 21 }.left(waiting).is_some()
        };
        assert!(!left(0, 0, 21, 0) && !left(0, 0, 25, 0));
        assert!(left(4, 0, 25, 0) && left(0, 1, 25, 0) && left(0, 0, 20, 0) && left(0, 0, 21, 1));
    }

    #[test]
    fn a_cancelled_order_may_be_in_kingdee_if_it_was_read_before_and_not_otherwise() {
        let cancelled = |shown: bool| lived("RK1", "1.10", &[("80", shown), ("10", false)]);
        for (order, documents, sound) in [
            (cancelled(true), json!([document("RK1", "1.1")]), true),
            (cancelled(true), json!([]), true),
            (cancelled(false), json!([]), true),
            (cancelled(false), json!([document("RK1", "1.1")]), false),
            (cancelled(true), json!([document("RK1", "9")]), false),
            (cancelled(true), json!([document("RK1", "1.1"), document("RK1", "1.1")]), false),
            // It was never completed.
            (lived("RK1", "1.10", &[("20", true), ("10", true)]), json!([document("RK1", "1.1")]), false),
        ] {
            let mut account = Account::default();
            account.compare(&json!([order]), &documents).unwrap();
            assert_eq!((account.orders, account.is_sound()), (0, sound), "{order} {documents}");
        }
    }

    #[test]
    fn a_changed_content_is_a_conflict_beside_the_first_one_and_a_harmless_edit_is_nothing() {
        let mut changed = lived("RK1", "2", &[("80", true), ("80", true)]);
        changed["earlier"] = json!([order("RK1", "1.10")]);
        let harmless = lived("RK1", "1.10", &[("80", true), ("80", true), ("80", false)]);
        let conflict = || vec![letter(FailureKind::Conflict, "RK1")];
        for (order, price, dead, sound) in [
            (&harmless, "1.1", vec![], true),
            (&harmless, "1.1", conflict(), false),
            (&changed, "1.1", conflict(), true),
            (&changed, "2", conflict(), true),
            (&changed, "2", vec![], true),
            (&changed, "1.1", vec![], false),
            (&changed, "1.1", vec![letter(FailureKind::Refused, "RK1")], false),
            (&changed, "3", conflict(), false),
        ] {
            let mut account = Account { dead, ..Account::default() };
            account.compare(&json!([order]), &json!([document("RK1", price)])).unwrap();
            assert_eq!(account.is_sound(), sound, "{price}: {}", account.report());
        }
    }
}
