//! `make demo`: the whole pipeline on this machine, from an empty broker to the account.

use std::{
    collections::BTreeSet,
    io::{IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    account::{Account, waiting},
    lab::{BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};

const ORDERS: u32 = 1_000;
const UNPOSTABLE: u32 = 12;
/// Of them, those that no base data cures: a price or a quantity is missing, or there are no lines.
const INCURABLE: usize = 4;
/// The supplier that the sandbox's Kingdee has disabled.
const DISABLED_SUPPLIER: &str = "GYS0901";
/// Within how many hours the orders were changed.
const SPREAD_HOURS: i64 = 6;
/// After this long without an end the demo gives up and says where things stand.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs the demo; true when the account is what it has to be.
///
/// # Errors
/// Something could not be started, or the pipeline did not finish.
pub async fn run(keep: bool) -> Result<bool> {
    let began = Instant::now();
    say("starting a private RabbitMQ");
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let now = jiff::Timestamp::now();
    let from = now - jiff::SignedDuration::from_hours(SPREAD_HOURS) - jiff::SignedDuration::from_mins(10);
    let from = jiff::Timestamp::from_second(from.as_second())?.to_string();
    say(&format!("starting the sandbox with {ORDERS} orders, of which {UNPOSTABLE} can't be posted"));
    let options = SandboxOptions {
        orders: ORDERS,
        unpostable: UNPOSTABLE,
        seed: 1,
        from: Some(from.clone()),
        spread: Some(format!("{SPREAD_HOURS}h")),
        args: Vec::new(),
    };
    let sandbox = Sandbox::start(options).await?;
    let schemes = Schemes::at(&Tempo { start: from, ..Tempo::default() })?;
    let pipeline = Pipeline::new(broker.amqp_url(), schemes, &sandbox)?;
    say("starting one extractor, one transformer and one loader");
    let started = Instant::now();
    let workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    if let Err(error) = watch(&pipeline, &sandbox, &workers, started).await {
        for worker in &workers {
            println!("{}", worker.process.log_tail());
        }
        return Err(error);
    }
    let took = started.elapsed();
    println!();
    let account = Account::take(&sandbox, &pipeline.amqp_url, SCHEME).await?;
    print!("{}", account.report());
    let rate = f64::from(ORDERS) / took.as_secs_f64();
    println!(
        "speed        {rate:>6.0} orders/s, {:.1} s from the first window to the last audit",
        took.as_secs_f64()
    );
    for (worker, stage) in workers.iter().zip(["extract", "transform", "load"]) {
        print_stage(&pipeline, worker, stage).await?;
    }
    println!("{}", account.line("demo"));
    let after = operate(&pipeline, &sandbox).await?;
    if keep {
        stay(&pipeline, &sandbox, &workers).await?;
    }
    stop(workers).await?;
    drop(sandbox);
    broker.stop().await?;
    println!("everything is stopped, after {:.0} s in all", began.elapsed().as_secs_f64());
    println!("{}", after.line("after replay"));
    let complete = |account: &Account, dead: usize| {
        account.is_sound() && account.orders == ORDERS as usize && account.dead_letters() == dead
    };
    Ok(complete(&account, UNPOSTABLE as usize) && complete(&after, INCURABLE))
}

/// What its operator does next: looks at a dead letter, has the cause mended, sends the letters again.
async fn operate(pipeline: &Pipeline, sandbox: &Sandbox) -> Result<Account> {
    let folder = tempfile::tempdir()?;
    let list = ["dead", "list", "--letters", "--json", "--kind", "base-data"];
    let letters = kingpost(pipeline, folder.path(), &list).await?;
    let first: Value = serde_json::from_str(letters.lines().next().context("no letter is curable")?)?;
    let number = first.get("number").and_then(Value::as_str).context("a letter without a number")?;
    show(pipeline, folder.path(), &["dead", "show", number, "--no-body"], |_| true).await?;
    println!();
    say(&format!("somebody mends it in the sandbox's Kingdee: {}", mend(sandbox).await?));
    let plan = ["dead", "plan", "--kind", "base-data", "--out", "plan.json"];
    show(pipeline, folder.path(), &plan, |line| line.starts_with("plan ")).await?;
    let replay =
        ["dead", "replay", "--plan", "plan.json", "--reason", "base data created", "--yes", "--verbose"];
    show(pipeline, folder.path(), &replay, |line| line.contains("posted") && !line.contains('|')).await?;
    println!();
    let after = Account::take(sandbox, &pipeline.amqp_url, SCHEME).await?;
    say("what no base data cures still waits, explained:");
    for group in &after.dead {
        println!("  {} × {}: {}", group.numbers.len(), group.kind, group.cause);
    }
    Ok(after)
}

/// Runs the operator's command and prints it with those lines of what it says.
async fn show(pipeline: &Pipeline, folder: &Path, arguments: &[&str], keep: fn(&str) -> bool) -> Result<()> {
    let quoted = arguments.iter().map(|argument| match argument.contains(' ') {
        true => format!("'{argument}'"),
        false => (*argument).to_owned(),
    });
    println!("\n$ kingpost {}", quoted.collect::<Vec<_>>().join(" "));
    let output = kingpost(pipeline, folder, arguments).await?;
    let mut left_out = false;
    for line in output.trim_end().lines() {
        if keep(line) {
            println!("{line}");
        } else if !std::mem::replace(&mut left_out, true) {
            println!("…");
        }
    }
    Ok(())
}

/// Runs the operator's command in a folder; what it prints.
async fn kingpost(pipeline: &Pipeline, folder: &Path, arguments: &[&str]) -> Result<String> {
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .dir(folder)
        .start()?;
    let status = process.wait(DEADLINE).await?;
    anyhow::ensure!(status.success(), "kingpost {arguments:?} ended with {status}\n{}", process.output());
    Ok(process.output())
}

/// Creates and enables in Kingdee what refused orders name; in words.
async fn mend(sandbox: &Sandbox) -> Result<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let known = async |kind: &str| -> Result<BTreeSet<String>> {
        let items = sandbox.get(&format!("kingdee/base?kind={kind}")).await?;
        Ok(items.as_array().into_iter().flatten().filter_map(|item| text(item, "number")).collect())
    };
    let orders = sandbox.orders().await?;
    let refused = |order: &&Value| text(order, "fate").as_deref() == Some("refused");
    let mut named: BTreeSet<(&str, String)> = BTreeSet::new();
    for order in orders.as_array().into_iter().flatten().filter(refused) {
        let lines = order.get("lines").and_then(Value::as_array).into_iter().flatten();
        named.extend(lines.filter_map(|line| Some(("material", text(line, "spec_no")?))));
        named.extend(text(order, "provider_no").map(|number| ("supplier", number)));
        named.extend(text(order, "warehouse_no").map(|number| ("stock", number)));
    }
    let mut words = Vec::new();
    for kind in ["material", "supplier", "stock"] {
        let known = known(kind).await?;
        let missing = named.iter().filter(|(own, number)| *own == kind && !known.contains(number));
        let items = missing.map(|(_, number)| json!({"kind": kind, "number": number, "name": number}));
        let items: Vec<Value> = items.collect();
        words.push(format!("{} {kind}{}", items.len(), if items.len() == 1 { "" } else { "s" }));
        sandbox.post("kingdee/base", &Value::Array(items)).await?;
    }
    let enabled = json!({"kind": "supplier", "number": DISABLED_SUPPLIER, "disabled": false});
    sandbox.post("kingdee/base", &enabled).await?;
    Ok(format!("{} created, 1 supplier enabled", words.join(", ")))
}

fn say(text: &str) {
    println!("· {text}");
}

/// Shows progress until every order has ended somewhere.
async fn watch(
    pipeline: &Pipeline,
    sandbox: &Sandbox,
    workers: &[Worker; 3],
    started: Instant,
) -> Result<()> {
    for worker in workers {
        pipeline.ready(worker, DEADLINE).await?;
    }
    let inspector = pipeline.inspector().await?;
    let terminal = std::io::stdout().is_terminal();
    let (mut last, mut shown) = (String::new(), Instant::now());
    loop {
        let now = waiting(&inspector, SCHEME, 1).await?;
        let summary = sandbox.summary().await?;
        let count = |status: &str| {
            summary.pointer(&format!("/by_status/{status}")).and_then(Value::as_u64).unwrap_or(0)
        };
        let audited = count("C");
        let line = format!(
            "  {:>3} s  windows {:>3}  orders {:>4}  models {:>4}  retries {:>3} │ audited {audited:>4}  dead {:>3}",
            started.elapsed().as_secs(),
            now.extract,
            now.transform,
            now.load,
            now.retry,
            now.dead
        );
        let idle = now.extract + now.transform + now.load + now.retry == 0;
        let done = idle && audited + u64::from(now.dead) >= u64::from(ORDERS);
        if line != last && (terminal || done || shown.elapsed() > Duration::from_secs(1)) {
            if terminal {
                print!("\r{line}")
            } else {
                println!("{line}")
            }
            std::io::stdout().flush()?;
            (last, shown) = (line, Instant::now());
        }
        if done {
            inspector.close().await;
            return Ok(());
        }
        if started.elapsed() > DEADLINE {
            anyhow::bail!("not finished after {} s: {last}", DEADLINE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn print_stage(pipeline: &Pipeline, worker: &Worker, stage: &str) -> Result<()> {
    let text = pipeline.metrics(worker).await?;
    let label = format!("stage=\"{stage}\"");
    let seconds = metric(&text, "kingpost_stage_seconds_sum", &[&label]);
    let batches = metric(&text, "kingpost_stage_seconds_count", &[&label]);
    let works = metric(&text, "kingpost_batch_works_sum", &[&label]);
    let memory = metric(&text, "process_resident_memory_bytes", &[]) / 1_048_576.0;
    println!(
        "{stage:<12} {works:>6.0} messages in {batches:.0} batches, {seconds:.2} s of work, {memory:.0} MiB"
    );
    Ok(())
}

async fn stay(pipeline: &Pipeline, sandbox: &Sandbox, workers: &[Worker; 3]) -> Result<()> {
    println!();
    println!("everything keeps running; look here, and press Ctrl-C to stop it all:");
    println!("  RabbitMQ     {}", pipeline.amqp_url);
    println!("  sandbox      http://{}/ (the list of its endpoints)", sandbox.address());
    println!("  schemes      {}", pipeline.schemes.path().display());
    for (worker, stage) in workers.iter().zip(["extractor", "transformer", "loader"]) {
        println!("  {stage:<12} http://{}/metrics and /readyz", worker.http);
    }
    tokio::signal::ctrl_c().await.context("Ctrl-C can't be heard")?;
    println!();
    Ok(())
}

async fn stop(workers: [Worker; 3]) -> Result<()> {
    for worker in &workers {
        worker.process.term()?;
    }
    for worker in &workers {
        let status = worker.process.wait(Duration::from_secs(30)).await?;
        if !status.success() {
            println!("{}", worker.process.log_tail());
            anyhow::bail!("a worker ended with {status}");
        }
    }
    Ok(())
}
