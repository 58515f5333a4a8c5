//! `make demo`: the whole pipeline on this machine, from an empty broker to the account.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    account::{Account, waiting},
    lab::{BrokerOptions, PrivateBroker, Sandbox, SandboxOptions},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};

const ORDERS: u32 = 1_000;
const UNPOSTABLE: u32 = 12;
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
    if keep {
        stay(&pipeline, &sandbox, &workers).await?;
    }
    stop(workers).await?;
    drop(sandbox);
    broker.stop().await?;
    println!("everything is stopped, after {:.0} s in all", began.elapsed().as_secs_f64());
    println!("{}", account.line("demo"));
    let complete = account.orders == ORDERS as usize && account.dead_letters() == UNPOSTABLE as usize;
    Ok(account.is_sound() && complete)
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
