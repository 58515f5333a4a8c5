//! What has to hold after every fault, once everything is healed and drained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kingpost_broker::{BrokerConfig, Inspector};
use kingpost_model::{Route, StageName};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Account, COMPLETED, Letter, Waiting, decimal, letters, list, text, waiting};
use crate::lab::{Node, Sandbox, wait_for};
use crate::pipeline::{Pipeline, SCHEME, Worker};

/// How long the last settlements and the end of lost connections may take after everything has arrived.
const QUIET_DEADLINE: Duration = Duration::from_secs(30);
/// A node counts anew at each tick of its quorum queues, which a lab's node has once a second: two looks this far apart
/// don't rest on the same old count.
const QUIET_FOR: Duration = Duration::from_millis(1_500);
/// Dead letters per queue that are read byte for byte.
const LETTERS_MAX: usize = 2_000;
/// The attempt on which a write without evidence is given up: the seven look-ups of docs/runbooks/failures.md are used up.
const UNCLEAR_ATTEMPTS: u32 = 8;
/// Shorter remarks are words that may stand anywhere.
const REMARK_CHARS: usize = 4;
/// Who received the goods, in every order on WDT's direct gateway.
const OPERATOR: &str = "示例仓管";

/// Where to look, and what has to hold there beyond what always has to.
///
/// ```no_run
/// # use e2e::{account::{Scene, invariants}, lab::{PrivateBroker, Sandbox}, pipeline::{Pipeline, Worker}};
/// # async fn example(pipeline: &Pipeline, sandbox: &Sandbox, broker: &PrivateBroker, loader: &Worker) -> anyhow::Result<()> {
/// let scene = Scene::of(pipeline, sandbox).node(broker).workers([loader]);
/// let (account, violations) = invariants(&scene).await?;
/// assert!(violations.is_empty(), "{violations:#?}\n{}", account.report());
/// # Ok(())
/// # }
/// ```
pub struct Scene<'a> {
    sandbox: &'a Sandbox,
    amqp_url: String,
    shards: u32,
    node: Option<&'a Node>,
    workers: Vec<&'a Worker>,
    alone: bool,
    logs: Vec<String>,
    innocent: bool,
    refusals: bool,
}

impl<'a> Scene<'a> {
    /// The pipeline's virtual host and the sandbox; queues, account, dead letters, and the output of every worker that the
    /// pipeline ever started are looked at.
    pub fn of(pipeline: &Pipeline, sandbox: &'a Sandbox) -> Self {
        Scene {
            sandbox,
            amqp_url: pipeline.amqp_url.clone(),
            shards: 1,
            node: None,
            workers: Vec::new(),
            alone: false,
            logs: pipeline.outputs(),
            innocent: false,
            refusals: false,
        }
    }

    /// Another way to the broker, where the pipeline goes through a proxy.
    #[must_use]
    pub fn amqp_url(mut self, url: impl Into<String>) -> Self {
        self.amqp_url = url.into();
        self
    }

    /// Over how many queues loading is spread.
    #[must_use]
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// The node: what is delivered and not settled can be asked of it alone.
    #[must_use]
    pub fn node(mut self, node: &'a Node) -> Self {
        self.node = Some(node);
        self
    }

    /// The workers, for [`Scene::nobody_else`].
    #[must_use]
    pub fn workers(mut self, workers: impl IntoIterator<Item = &'a Worker>) -> Self {
        self.workers.extend(workers);
        self
    }

    /// All workers of the virtual host are among [`Scene::workers`]: more connections than theirs are leaked.
    #[must_use]
    pub fn nobody_else(mut self) -> Self {
        self.alone = true;
        self
    }

    /// No dead letter but for what the order itself says: the faults alone must kill nothing.
    #[must_use]
    pub fn faults_kill_nothing(mut self) -> Self {
        self.innocent = true;
        self
    }

    /// Kingdee's own check for used numbers (编码唯一) may have refused a post: the fault is about that.
    #[must_use]
    pub fn numbers_may_be_refused(mut self) -> Self {
        self.refusals = true;
        self
    }
}

/// Takes the account and checks every invariant; returns each violation in words.
///
/// An order counts as what it is in the end, and was allowed to change before: completed once and cancelled since, it may be
/// in Kingdee if it ever stood on a page; changed in what is booked, Kingdee may hold any content that it had, and a conflict
/// among the dead letters has to say so where that is not the last one; changed in a note, it must leave no trace at all.
///
/// Always: no loss, no duplicate, no document that is a dead letter as well, nothing invented, nothing different; queues and
/// retry tiers empty, nothing unroutable; a dead letter of transforming is byte for byte what its id was made of, one of loading
/// holds the model of its order; no post that only Kingdee's own check for used numbers kept from being a second one; no secret and
/// no personal data in headers and in the output of any worker that ever ran; no panic.
///
/// With a node: nothing unsettled, and with [`Scene::nobody_else`] no leaked connection. With [`Scene::faults_kill_nothing`]: each
/// dead letter is of an order that can't be posted, at the stage and of the kind that its trouble has.
///
/// # Errors
/// The broker or the sandbox can't be asked.
pub async fn invariants(scene: &Scene<'_>) -> Result<(Account, Vec<String>)> {
    let mut violations = Vec::new();
    quiescence(scene, &mut violations).await?;
    let account = Account::take(scene.sandbox, &scene.amqp_url, SCHEME).await?;
    let named = [
        ("lost", &account.lost),
        ("duplicated", &account.duplicated),
        ("different", &account.different),
        ("unexpected", &account.unexpected),
    ];
    for (name, entries) in named {
        violations.extend(entries.iter().map(|entry| format!("{name}: {entry}")));
    }
    let orders = scene.sandbox.orders().await?;
    let known = orders.as_array().map_or(&[][..], Vec::as_slice);
    let known: Orders<'_> = known.iter().map(|order| (text(order, "order_no"), order)).collect();
    let mut dead = Vec::new();
    for stage in StageName::ALL {
        let queue = Route::new(stage, SCHEME).dead_queue();
        let read = letters(&scene.amqp_url, &queue, LETTERS_MAX).await?;
        violations.extend(read.iter().filter_map(|letter| altered(stage, letter, &known)));
        if scene.innocent {
            violations.extend(read.iter().filter_map(|letter| unexplained(stage, letter, &known)));
        }
        dead.extend(read);
    }
    if !scene.refusals {
        refused_twice(scene, &mut violations).await?;
    }
    discretion(scene, &orders, &dead, &mut violations)?;
    Ok((account, violations))
}

/// Ready, unsettled and waiting messages are none, and so are connections beyond those of the workers.
async fn quiescence(scene: &Scene<'_>, violations: &mut Vec<String>) -> Result<()> {
    let inspector = Inspector::open(&BrokerConfig::for_url(&*scene.amqp_url, "account")).await?;
    let (mut last, mut since) = (String::new(), None);
    let quiet = wait_for(QUIET_DEADLINE, "quiescence", async || {
        let looked = Instant::now();
        let found = match busy(scene, &inspector).await {
            Ok(busy) => busy.join("; "),
            Err(error) => format!("{error:#}"),
        };
        if found.is_empty() {
            let since = *since.get_or_insert(looked);
            return (scene.node.is_none() || looked - since >= QUIET_FOR).then_some(());
        }
        (last, since) = (found, None);
        None
    });
    if quiet.await.is_err() {
        violations.push(format!("not quiet {} s after the end: {last}", QUIET_DEADLINE.as_secs()));
    }
    inspector.close().await;
    Ok(())
}

async fn busy(scene: &Scene<'_>, inspector: &Inspector) -> Result<Vec<String>> {
    let mut busy = Vec::new();
    let Waiting { extract, transform, load, retry, dead: _ } =
        waiting(inspector, SCHEME, scene.shards).await?;
    for (name, ready) in [("extract", extract), ("transform", transform), ("load", load), ("retry", retry)] {
        if ready > 0 {
            busy.push(format!("{ready} messages are ready in {name}"));
        }
    }
    let lost = inspector.depth("kingpost.unroutable").await?.map_or(0, |depth| depth.ready);
    if lost > 0 {
        busy.push(format!("{lost} messages came back to a queue that was not there (kingpost.unroutable)"));
    }
    let Some(node) = scene.node.filter(|_| busy.is_empty()) else { return Ok(busy) };
    let vhost = vhost(&scene.amqp_url)?;
    let table = node.ctl(&["list_queues", "-p", &vhost, "name", "messages_unacknowledged"]).await?;
    let running = || scene.workers.iter().filter(|worker| worker.process.is_running());
    // Windows go on being cut, and each extractor may have one in hand whenever somebody looks.
    let extractors = running().filter(|worker| worker.process.output().contains("kingpost-extractor starts"));
    busy.extend(unsettled(&table, extractors.count() as u64));
    if scene.alone {
        let table = node.ctl(&["list_connections", "vhost", "client_properties"]).await?;
        busy.extend(leaked(running().count(), &table, &vhost));
    }
    Ok(busy)
}

/// Queues with unsettled messages, as `rabbitmqctl` lists them; of extracting, with more than so many windows.
fn unsettled(table: &str, windows: u64) -> Vec<String> {
    // The header has a word where the others have a number.
    let counts = table
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(queue, count)| Some((queue, count.parse::<u64>().ok()?)));
    let allowed = |queue: &str| if queue.starts_with("extract.") { windows } else { 0 };
    counts
        .filter(|(queue, count)| *count > allowed(queue))
        .map(|(queue, count)| format!("{count} unsettled in {queue}"))
        .collect()
}

/// Connections of workers by role that can't belong to those that run.
fn leaked(running: usize, table: &str, vhost: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in table.lines() {
        let properties = line.strip_prefix(vhost).and_then(|rest| rest.strip_prefix('\t'));
        let name =
            properties.and_then(|text| text.split_once("{\"connection_name\",\"")?.1.split('"').next());
        if let Some(name) = name {
            *counts.entry(name.rsplit(' ').next().unwrap_or_default()).or_default() += 1;
        }
    }
    // A standby asks for the lead on a connection of its own.
    let most = |role: &str| ["publish", "consume", "lead"].contains(&role).then_some(running);
    let over = counts.iter().filter(|(role, count)| most(role).is_some_and(|most| **count > most));
    over.map(|(role, count)| format!("{count} connections to {role} for {running} workers")).collect()
}

/// The virtual host that a URL names.
fn vhost(amqp_url: &str) -> Result<String> {
    let (_, rest) = amqp_url.split_once("://").context("no URL")?;
    let path = rest.split_once('/').map_or("%2f", |(_, path)| path);
    let name = path.split('?').next().unwrap_or_default();
    Ok(name.replace("%2f", "/").replace("%2F", "/"))
}

/// The orders by number.
type Orders<'a> = BTreeMap<&'a str, &'a Value>;

/// A dead letter that the order itself does not explain. One whose outcome could not be decided is counted elsewhere, if
/// everything was tried to decide it.
fn unexplained(stage: StageName, letter: &Letter, orders: &Orders<'_>) -> Option<String> {
    let number = [letter.header("kingpost-source-number"), letter.header("kingpost-key")];
    let number = number.into_iter().find(|number| !number.is_empty()).unwrap_or_default();
    let (kind, why) = (letter.header("kingpost-failure-kind"), letter.header("kingpost-last-failure"));
    let fate = orders.get(number).map_or("", |order| text(order, "fate"));
    let says = format!("{} / {kind} on attempt {}: {why}", stage.as_str(), letter.attempt());
    if stage == StageName::Load && kind == "unclear" {
        return (letter.attempt() < UNCLEAR_ATTEMPTS)
            .then(|| format!("{number} was given up before everything was tried: {says}"));
    }
    // What was changed or cancelled after it was read is a matter for a person, whatever the scheme does about it.
    let order = orders.get(number).copied().unwrap_or(&Value::Null);
    let living = !list(order, "earlier").is_empty() || text(order, "status") != COMPLETED;
    if living && stage == StageName::Load && kind == "conflict" {
        return None;
    }
    let expected = match fate {
        "refused" => (StageName::Load, "base-data"),
        "unmappable" => (StageName::Transform, "unmappable"),
        _ => return Some(format!("a fault killed {number}, which nothing is wrong with: {says}")),
    };
    (expected != (stage, kind)).then(|| format!("{number}, which is {fate}, died of something else: {says}"))
}

/// What of a dead letter is not what was sent.
fn altered(stage: StageName, letter: &Letter, orders: &Orders<'_>) -> Option<String> {
    let (key, scheme) = (letter.header("kingpost-key"), letter.header("kingpost-scheme"));
    if key.is_empty() || scheme.is_empty() {
        return Some(format!("the dead letter {} has lost its header kingpost-key or -scheme", letter.id));
    }
    match stage {
        StageName::Extract => None,
        // An id is the number and a hash of scheme and bytes: whoever has the id can tell whether a byte was changed.
        StageName::Transform => {
            let mut hash = Sha256::new();
            hash.update(scheme.as_bytes());
            hash.update([0]);
            hash.update(&letter.body);
            let made: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
            (letter.id.rsplit('-').next() != Some(made.as_str()))
                .then(|| format!("the body of the dead letter {key} is not what its id was made of"))
        }
        StageName::Load => {
            let Ok(model) = serde_json::from_slice(&letter.body) else {
                return Some(format!("the dead letter {key} holds no model"));
            };
            if text(&model, "FBillNo") != key {
                return Some(format!("the dead letter {key} holds the model of another document"));
            }
            let number = letter.headers.get("kingpost-source-number").map_or(key, String::as_str);
            let Some(order) = orders.get(number) else {
                return Some(format!("the dead letter {key} is of no order"));
            };
            let contents = std::iter::once(*order).chain(list(order, "earlier"));
            let mut found = contents.map(|content| unlike(content, &model)).collect::<Vec<_>>();
            found.sort_by_key(Option::is_some);
            found
                .into_iter()
                .next()
                .flatten()
                .map(|found| format!("the dead letter {key} is not like its order: {found}"))
        }
    }
}

/// How a model differs from its order in supplier, materials, quantities and prices.
fn unlike(order: &Value, model: &Value) -> Option<String> {
    let number = |of: &Value, name: &str| of.get(name).map(|code| text(code, "FNumber").to_owned());
    let supplier = number(model, "FSupplierId");
    if supplier.as_deref() != Some(text(order, "provider_no")) {
        return Some(format!("supplier {supplier:?}"));
    }
    let (ours, theirs) = (list(order, "lines"), list(model, "FInStockEntry"));
    if ours.len() != theirs.len() {
        return Some(format!("{} lines instead of {}", theirs.len(), ours.len()));
    }
    // Digits may stand in quotes or not.
    let exact = |line: &Value, name: &str| decimal(line.get(name)?.to_string().trim_matches('"'));
    let lines = ours.iter().zip(theirs).enumerate();
    let mut found = lines.filter(|(_, (ours, theirs))| {
        number(theirs, "FMaterialId").as_deref() != Some(text(ours, "spec_no"))
            || exact(theirs, "FRealQty") != decimal(text(ours, "num"))
            || exact(theirs, "FTaxPrice") != decimal(text(ours, "tax_price"))
    });
    found.next().map(|(n, (ours, theirs))| format!("line {n} is {theirs} for {ours}"))
}

/// Posts of a number that Kingdee has. Its own check is the last line and races with itself: nobody may lean on it.
async fn refused_twice(scene: &Scene<'_>, violations: &mut Vec<String>) -> Result<()> {
    let posts = scene.sandbox.get("requests?operation=BatchSave").await?;
    let posts = posts.as_array().context("the sandbox gave no list of requests")?;
    let refused = posts.iter().filter(|post| text(post, "outcome").contains("编码唯一"));
    violations.extend(refused.map(|post| format!("only Kingdee's own check stopped a second post: {post}")));
    Ok(())
}

/// No secret and no personal data where operators and machines read along; no panic.
fn discretion(
    scene: &Scene<'_>,
    orders: &Value,
    dead: &[Letter],
    violations: &mut Vec<String>,
) -> Result<()> {
    let secrets = scene.sandbox.settings().iter().filter(|(name, _)| name.contains("SECRET"));
    let mut hidden: BTreeSet<&str> = secrets.flat_map(|(_, value)| value.split(':')).collect();
    hidden.insert(OPERATOR);
    let orders = orders.as_array().context("the sandbox gave no list of orders")?;
    let remarks = orders.iter().flat_map(|order| list(order, "lines")).map(|line| text(line, "remark"));
    hidden.extend(remarks.filter(|remark| remark.chars().count() >= REMARK_CHARS));
    for output in &scene.logs {
        let found = hidden.iter().filter(|hidden| output.contains(**hidden));
        violations.extend(found.map(|hidden| format!("a worker's log shows `{hidden}`")));
        if let Some(line) = output.lines().find(|line| line.contains("panicked at")) {
            violations.push(format!("a worker panicked: {line}"));
        }
    }
    for letter in dead {
        for (name, value) in &letter.headers {
            let found = hidden.iter().filter(|hidden| value.contains(**hidden));
            violations
                .extend(found.map(|hidden| format!("the header {name} of {} shows `{hidden}`", letter.id)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn letter(id: &str, body: &[u8]) -> Letter {
        let headers = [("kingpost-key", "RK1"), ("kingpost-scheme", "s")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Letter { id: id.to_owned(), headers, properties: String::new(), body: body.to_vec() }
    }

    fn order(fate: &str) -> Value {
        json!({"order_no": "RK1", "fate": fate, "status": "80", "provider_no": "G1",
               "lines": [{"spec_no": "S1", "num": "2.5", "tax_price": "1.1"}]})
    }

    #[test]
    fn a_changed_byte_of_a_dead_letter_is_found() {
        let order = order("refused");
        let orders: Orders<'_> = [("RK1", &order)].into();
        // SHA-256 of "s", NUL, "{}": computed with sha256sum.
        let id = "RK1-cb67e20a137b905bea266a99";
        let made = altered(StageName::Transform, &letter(id, b"{}"), &orders);
        assert_eq!(made, None);
        assert!(altered(StageName::Transform, &letter(id, b"{ }"), &orders).is_some());
        let mut bare = letter(id, b"{}");
        bare.headers.remove("kingpost-scheme");
        assert!(altered(StageName::Transform, &bare, &orders).is_some());

        let model = json!({"FBillNo": "RK1", "FSupplierId": {"FNumber": "G1"},
            "FInStockEntry": [{"FMaterialId": {"FNumber": "S1"}, "FRealQty": 2.50, "FTaxPrice": "1.10"}]});
        let altered =
            |model: &Value| altered(StageName::Load, &letter(id, model.to_string().as_bytes()), &orders);
        assert_eq!(altered(&model), None);
        for (path, wrong) in [
            ("/FBillNo", json!("RK2")),
            ("/FSupplierId/FNumber", json!("G2")),
            ("/FInStockEntry", json!([])),
            ("/FInStockEntry/0/FMaterialId/FNumber", json!("S2")),
            ("/FInStockEntry/0/FRealQty", json!(25)),
            ("/FInStockEntry/0/FTaxPrice", Value::Null),
        ] {
            let mut model = model.clone();
            *model.pointer_mut(path).unwrap() = wrong;
            assert!(altered(&model).is_some(), "a wrong {path} is not found");
        }
    }

    #[test]
    fn a_dead_letter_that_its_order_does_not_explain_is_a_faults_doing() {
        let found = |fate: &str, stage: StageName, kind: &str, attempt: &str| {
            let (order, mut letter) = (order(fate), letter("RK1", b"{}"));
            let headers = [("kingpost-failure-kind", kind), ("kingpost-attempt", attempt)];
            letter.headers.extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
            unexplained(stage, &letter, &[("RK1", &order)].into()).is_some()
        };
        assert!(!found("refused", StageName::Load, "base-data", "LongLongInt(1)"));
        assert!(!found("unmappable", StageName::Transform, "unmappable", "LongLongInt(1)"));
        assert!(!found("posts", StageName::Load, "unclear", "LongLongInt(8)"));
        assert!(found("posts", StageName::Load, "unclear", "LongLongInt(7)"));
        assert!(found("posts", StageName::Load, "base-data", "LongLongInt(1)"));
        assert!(found("refused", StageName::Load, "internal", "LongLongInt(4)"));
        assert!(found("refused", StageName::Transform, "unmappable", "LongLongInt(1)"));
        assert!(found("refused", StageName::Extract, "incomplete", "LongLongInt(5)"));
    }

    #[test]
    fn more_connections_of_a_role_than_workers_are_leaked() {
        let line = |vhost: &str, name: &str| {
            format!(
                "{vhost}\t[{{\"capabilities\",[]}},{{\"connection_name\",\"{name}\"}},{{\"product\",\"lapin\"}}]\n"
            )
        };
        let (publish, consume) = ("kingpost-loader/0.1.0 publish", "kingpost-loader/0.1.0 consume");
        let other = line("other", publish);
        let table = [line("/", publish), line("/", consume), line("/", "account inspect"), other].concat();
        assert_eq!(leaked(1, &table, "/"), Vec::<String>::new());
        let table = table + &line("/", consume);
        assert_eq!(leaked(1, &table, "/"), ["2 connections to consume for 1 workers"]);
    }

    #[test]
    fn a_window_in_hand_is_no_leak_and_two_of_one_extractor_are() {
        let table = "name\tmessages_unacknowledged\nload.s\t0\nextract.s\t1\n";
        assert_eq!(unsettled(table, 1), [] as [&str; 0]);
        assert_eq!(unsettled(table, 0), ["1 unsettled in extract.s"]);
        assert_eq!(
            unsettled("load.s\t2\nextract.s\t3\n", 2),
            ["2 unsettled in load.s", "3 unsettled in extract.s"]
        );
    }

    #[test]
    fn a_virtual_host_is_read_from_its_url() {
        assert_eq!(vhost("amqp://guest:guest@127.0.0.1:5672/%2f?heartbeat=4").unwrap(), "/");
        assert_eq!(vhost("amqp://guest:guest@127.0.0.1:5672/one-1").unwrap(), "one-1");
    }
}
