//! Dead letters on a real RabbitMQ: browsed, held, moved, planned, sent again, and accounted for.
#![forbid(unsafe_code)]

mod audit;
mod custody;
mod pipeline;
mod replay;
mod resumed;
mod size;
mod worker;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use e2e::lab::{Process, shared_broker};
use kingpost_broker::{Broker, BrokerConfig, Destination, Inspector, NoObserver, Posting, Topology};
use kingpost_model::{Failure, FailureKind, FailureRecord, RecordKey, Route, StageName, Work, WorkId};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);
/// Also the name of the shipped scheme, whose file the operator's command reads.
const SCHEME: &str = "purchase-stockin";

fn config(url: &str) -> BrokerConfig {
    BrokerConfig::for_url(url, "kingpost-test/1")
}

/// A virtual host of its own with the queues of the scheme, and the way to publish there.
async fn started(name: &str) -> Result<(String, Broker)> {
    let url = shared_broker().await?.vhost(name).await?;
    let topology = Topology::new([(SCHEME, 1)]);
    let broker =
        Broker::start(config(&url), topology, Arc::new(NoObserver), &CancellationToken::new()).await?;
    Ok((url, broker))
}

/// A letter as a loader leaves it.
fn dead(number: &str, text: &str) -> Work {
    let key = RecordKey::new("STK_InStock", number);
    let body = format!("{{\"FBillNo\":\"{number}\",\"FRealQty\":12.3400}}");
    let mut work = Work::new(WorkId::new(format!("{SCHEME}-{number}")), StageName::Load, SCHEME, key, body);
    work.write_key = Some(format!("CG{number}"));
    let failure = Failure::new(FailureKind::BaseData, text);
    let record = FailureRecord::of(&failure, &work, 1_790_000_000_000, "kingpost-loader/test");
    work.after_failure(record, false)
}

/// Puts letters into the dead-letter queue of loading.
async fn bury(broker: &Broker, works: impl IntoIterator<Item = Work>) -> Result<()> {
    let destination = Destination::Dead(Route::new(StageName::Load, SCHEME));
    let postings: Vec<_> =
        works.into_iter().map(|work| Posting { destination: destination.clone(), work }).collect();
    broker.outbound().publish(postings).await?;
    Ok(())
}

fn dead_queue() -> String {
    Route::new(StageName::Load, SCHEME).dead_queue()
}

async fn depth(url: &str, queue: &str) -> Result<u32> {
    let inspector = Inspector::open(&config(url)).await?;
    let depth = inspector.depth(queue).await?.map_or(0, |depth| depth.ready);
    inspector.close().await;
    Ok(depth)
}

/// The operator's command in a folder, against a broker and the shipped schemes.
fn command(url: &str, folder: &std::path::Path, arguments: &[&str]) -> Result<Process> {
    Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", url)
        .env("SCHEMES_DIR", e2e::pipeline::shipped_schemes().canonicalize()?)
        .dir(folder)
        .start()
}

/// Runs the operator's command to its end.
async fn kingpost(url: &str, folder: &std::path::Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let process = command(url, folder, arguments)?;
    let status = process.wait(Duration::from_secs(150)).await?;
    Ok((status.code(), process.output()))
}
