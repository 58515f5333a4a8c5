//! What has to hold after every fault, once everything is healed and drained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use kingpost_broker::{BrokerConfig, Inspector};
use kingpost_model::{Route, StageName};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Account, Letter, Waiting, letters, list, text, waiting};
use crate::lab::{Node, Sandbox, wait_for};
use crate::pipeline::{Pipeline, SCHEME, Worker, metric};

/// How long the last settlements and the end of lost connections may take after everything has arrived.
const QUIET_DEADLINE: Duration = Duration::from_secs(30);
/// Dead letters per queue that are read byte for byte.
const LETTERS_MAX: usize = 2_000;
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
    metrics: bool,
    innocent: bool,
}

impl<'a> Scene<'a> {
    /// The pipeline's virtual host and the sandbox; queues, account and dead letters are looked at.
    pub fn of(pipeline: &Pipeline, sandbox: &'a Sandbox) -> Self {
        Scene {
            sandbox,
            amqp_url: pipeline.amqp_url.clone(),
            shards: 1,
            node: None,
            workers: Vec::new(),
            alone: false,
            logs: Vec::new(),
            metrics: false,
            innocent: false,
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

    /// Workers that run or ran: their output is searched for secrets, their metrics are read where that is asked for.
    #[must_use]
    pub fn workers(mut self, workers: impl IntoIterator<Item = &'a Worker>) -> Self {
        self.workers.extend(workers);
        self
    }

    /// Further output to be searched for secrets.
    #[must_use]
    pub fn logs(mut self, logs: impl IntoIterator<Item = String>) -> Self {
        self.logs.extend(logs);
        self
    }

    /// All workers of the virtual host are among [`Scene::workers`]: more connections than theirs are leaked.
    #[must_use]
    pub fn nobody_else(mut self) -> Self {
        self.alone = true;
        self
    }

    /// No loader was killed or started anew, so that the sum of the loaders' counters is the whole story.
    #[must_use]
    pub fn counters_are_whole(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// No dead letter but for what the order itself says: the faults alone must kill nothing.
    #[must_use]
    pub fn faults_kill_nothing(mut self) -> Self {
        self.innocent = true;
        self
    }
}

/// Takes the account and checks every invariant; returns each violation in words.
///
/// Always: no loss, no duplicate, no document that is a dead letter as well, nothing invented, nothing different; queues and
/// retry tiers empty, nothing unroutable; a dead letter's body is the one its id was made of, and names its key; no secret and no
/// personal data in headers and in the workers' output; no panic.
///
/// With a node: nothing unsettled, and with [`Scene::nobody_else`] no leaked connection. With [`Scene::counters_are_whole`]: the
/// loaders' counters agree with Kingdee's ledger.
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
    if scene.innocent {
        violations.extend(unexplained(&account, &orders));
    }
    let mut dead = Vec::new();
    for stage in StageName::ALL {
        let queue = Route::new(stage, SCHEME).dead_queue();
        let read = letters(&scene.amqp_url, &queue, LETTERS_MAX).await?;
        violations.extend(read.iter().filter_map(|letter| altered(stage, letter)));
        dead.extend(read);
    }
    discretion(scene, &orders, &dead, &mut violations)?;
    if scene.metrics {
        truthful(scene, &mut violations).await?;
    }
    Ok((account, violations))
}

/// Ready, unsettled and waiting messages are none, and so are connections beyond those of the workers.
async fn quiescence(scene: &Scene<'_>, violations: &mut Vec<String>) -> Result<()> {
    let inspector = Inspector::open(&BrokerConfig::for_url(&*scene.amqp_url, "account")).await?;
    let mut last = String::new();
    let quiet = wait_for(QUIET_DEADLINE, "quiescence", async || {
        match busy(scene, &inspector).await {
            Ok(busy) if busy.is_empty() => return Some(()),
            Ok(busy) => last = busy.join("; "),
            Err(error) => last = format!("{error:#}"),
        }
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
    for line in table.lines() {
        if let Some((queue, count)) = line.split_once('\t').filter(|(_, count)| *count != "0") {
            // The header has a word where the others have a number.
            busy.extend(count.parse::<u64>().is_ok().then(|| format!("{count} unsettled in {queue}")));
        }
    }
    if scene.alone {
        let table = node.ctl(&["list_connections", "vhost", "client_properties"]).await?;
        let running = scene.workers.iter().filter(|worker| worker.process.is_running()).count();
        busy.extend(leaked(running, &table, &vhost));
    }
    Ok(busy)
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

/// Dead letters of orders that can be posted; those whose outcome can't be decided are counted elsewhere.
fn unexplained(account: &Account, orders: &Value) -> Vec<String> {
    let orders = orders.as_array().map_or(&[][..], Vec::as_slice);
    let fine: BTreeSet<&str> = orders
        .iter()
        .filter(|order| text(order, "fate") == "posts")
        .map(|order| text(order, "order_no"))
        .collect();
    let mut violations = Vec::new();
    for group in account.dead.iter().filter(|group| group.kind != "unclear") {
        for number in
            group.numbers.iter().filter(|number| group.stage == "extract" || fine.contains(number.as_str()))
        {
            violations.push(format!(
                "a fault killed {number}, which nothing is wrong with: {} / {}: {}",
                group.stage, group.kind, group.cause
            ));
        }
    }
    violations
}

/// What of a dead letter is not what was sent.
fn altered(stage: StageName, letter: &Letter) -> Option<String> {
    let header = |name: &str| letter.headers.get(name).map(String::as_str);
    let Some(key) = header("kingpost-key") else {
        return Some(format!("the dead letter {} has lost its header kingpost-key", letter.id));
    };
    match stage {
        StageName::Extract => None,
        // An id is the number and a hash of scheme and bytes: whoever has the id can tell whether a byte was changed.
        StageName::Transform => {
            let (scheme, digest) = (header("kingpost-scheme")?, letter.id.rsplit('-').next()?);
            let mut hash = Sha256::new();
            hash.update(scheme.as_bytes());
            hash.update([0]);
            hash.update(&letter.body);
            let made: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
            (made != digest)
                .then(|| format!("the body of the dead letter {key} is not what its id was made of"))
        }
        StageName::Load => {
            let model: Value = serde_json::from_slice(&letter.body).unwrap_or_default();
            (text(&model, "FBillNo") != key)
                .then(|| format!("the dead letter {key} holds the model of another document"))
        }
    }
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
    let outputs =
        scene.workers.iter().map(|worker| worker.process.output()).chain(scene.logs.iter().cloned());
    for output in outputs {
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

/// What the loaders say that they have posted, against Kingdee's ledger.
async fn truthful(scene: &Scene<'_>, violations: &mut Vec<String>) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let (mut done, mut prevented, mut doubtful) = (0.0, 0.0, 0.0);
    for worker in scene.workers.iter().filter(|worker| worker.process.is_running()) {
        let text = client.get(format!("http://{}/metrics", worker.http)).send().await?.text().await?;
        done += metric(&text, "kingpost_verdicts_total", &["stage=\"load\"", "verdict=\"done\""]);
        prevented += metric(&text, "kingpost_erp_duplicates_prevented_total", &[]);
        doubtful += metric(&text, "kingpost_erp_unclear_total", &[])
            + metric(&text, "kingpost_ack_lost_total", &[])
            + metric(&text, "kingpost_session_rebuilds_total", &[]);
    }
    let ledger = scene.sandbox.ledger().await?;
    let saves = ledger
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter(|commit| text(commit, "step") == "saved");
    let (posted, saved) = (done - prevented, saves.count() as f64);
    // A save without an answer, or a verdict that was lost with its session, is posted by nobody's count.
    let agrees = if doubtful > 0.0 { posted <= saved } else { (posted - saved).abs() < 0.5 };
    if !agrees {
        violations.push(format!(
            "the loaders say that they posted {posted} documents, Kingdee's ledger says {saved}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::account::DeadGroup;

    fn letter(id: &str, body: &[u8]) -> Letter {
        let headers = [("kingpost-key", "RK1"), ("kingpost-scheme", "s")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Letter { id: id.to_owned(), headers, body: body.to_vec() }
    }

    #[test]
    fn a_changed_byte_of_a_dead_letter_is_found() {
        // SHA-256 of "s", NUL, "{}": computed with sha256sum.
        let id = "RK1-cb67e20a137b905bea266a99";
        let made = altered(StageName::Transform, &letter(id, b"{}"));
        assert_eq!(made, None);
        assert!(altered(StageName::Transform, &letter(id, b"{ }")).is_some());
        assert_eq!(altered(StageName::Load, &letter(id, br#"{"FBillNo":"RK1"}"#)), None);
        assert!(altered(StageName::Load, &letter(id, br#"{"FBillNo":"RK2"}"#)).is_some());
    }

    #[test]
    fn a_dead_letter_of_a_sound_order_is_a_faults_doing() {
        let group = |kind: &str, numbers: &[&str]| DeadGroup {
            stage: "load".into(),
            kind: kind.into(),
            cause: "x".into(),
            advice: "",
            numbers: numbers.iter().map(|n| (*n).to_owned()).collect(),
        };
        let account = Account {
            dead: vec![group("base-data", &["RK1", "RK2"]), group("unclear", &["RK3"])],
            ..Account::default()
        };
        let order = |number: &str, fate: &str| json!({"order_no": number, "fate": fate});
        let orders = json!([order("RK1", "posts"), order("RK2", "unpostable"), order("RK3", "posts")]);
        let found = unexplained(&account, &orders);
        assert!(found.len() == 1 && found[0].contains("RK1"), "{found:?}");
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
    fn a_virtual_host_is_read_from_its_url() {
        assert_eq!(vhost("amqp://guest:guest@127.0.0.1:5672/%2f?heartbeat=4").unwrap(), "/");
        assert_eq!(vhost("amqp://guest:guest@127.0.0.1:5672/one-1").unwrap(), "one-1");
    }
}
