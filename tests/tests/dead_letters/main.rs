//! What a person does with dead letters, with the real command on a real RabbitMQ: looking, exporting, discarding, putting
//! back, editing, and reading an order from its source again.
#![forbid(unsafe_code)]

mod editing;
mod files;
mod headers;
mod source;

use std::{ops::ControlFlow, path::Path, time::Duration};

use anyhow::{Context, Result};
use e2e::lab::{Process, shared_broker};
use kingpost_broker::{
    AuditEvent, AuditTrail, Broker, BrokerConfig, Destination, Inspector, Letter, NoObserver, Posting,
    Topology,
};
use kingpost_model::{Failure, FailureKind, FailureRecord, RecordKey, Route, StageName, Work, WorkId};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);
/// The shipped scheme, whose file the operator's command reads.
const SCHEME: &str = "purchase-stockin";

fn config(url: &str) -> BrokerConfig {
    BrokerConfig::for_url(url, "kingpost-test/1")
}

/// A virtual host of its own with the queues of the scheme, and the way to publish there.
async fn started(name: &str) -> Result<(String, Broker)> {
    let url = shared_broker().await?.vhost(name).await?;
    let topology = Topology::new([(SCHEME, 1)]);
    let observer = std::sync::Arc::new(NoObserver);
    let broker = Broker::start(config(&url), topology, observer, &CancellationToken::new()).await?;
    Ok((url, broker))
}

/// A letter as a worker leaves it.
fn dead(stage: StageName, number: &str, body: impl Into<Vec<u8>>, failure: &Failure) -> Work {
    let key = RecordKey::new("STK_InStock", number);
    let id = WorkId::new(format!("{SCHEME}-{number}"));
    let work = Work::new(id, stage, SCHEME, key, body.into());
    let record = FailureRecord::of(failure, &work, 1_790_000_000_000, "kingpost-loader/test");
    work.after_failure(record, false)
}

/// A letter of loading for want of a material.
fn without_material(number: &str) -> Work {
    let body = format!("{{\"FBillNo\":\"{number}\",\"FRealQty\":12.3400}}");
    dead(StageName::Load, number, body, &Failure::new(FailureKind::BaseData, "物料“SP-9”不存在"))
}

async fn bury(broker: &Broker, works: impl IntoIterator<Item = Work>) -> Result<()> {
    let posting =
        |work: Work| Posting { destination: Destination::Dead(Route::new(work.stage, SCHEME)), work };
    broker.outbound().publish(works.into_iter().map(posting).collect()).await?;
    Ok(())
}

fn dead_queue(stage: StageName) -> String {
    Route::new(stage, SCHEME).dead_queue()
}

/// Every letter of a dead-letter queue, in its order.
async fn letters(url: &str, stage: StageName) -> Result<Vec<Letter>> {
    let inspector = Inspector::open(&config(url)).await?;
    let mut letters = Vec::new();
    let keep = |letter| {
        letters.push(letter);
        ControlFlow::Continue(())
    };
    inspector.scan(&dead_queue(stage), usize::MAX, keep).await?;
    inspector.close().await;
    Ok(letters)
}

/// The audit trail, the oldest event first.
async fn trail(url: &str) -> Result<Vec<AuditEvent>> {
    let trail = AuditTrail::open(&config(url)).await?;
    let mut events = Vec::new();
    trail.read(i64::MIN, |event| events.push(event)).await?;
    trail.close().await;
    Ok(events)
}

/// Runs the operator's command in a folder with the shipped schemes and these settings besides.
async fn kingpost(
    url: &str,
    folder: &Path,
    arguments: &[&str],
    more: &[(&str, &str)],
) -> Result<(Option<i32>, String)> {
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", url)
        .env("SCHEMES_DIR", e2e::pipeline::shipped_schemes().canonicalize().context("no schemes")?)
        .envs(more.iter().copied())
        .dir(folder)
        .start()?;
    let status = process.wait(Duration::from_secs(150)).await?;
    Ok((status.code(), process.output()))
}

#[tokio::test]
async fn letters_are_listed_by_cause_filtered_and_shown_and_none_is_taken() -> Result<()> {
    let (url, broker) = started("dl-list").await?;
    let unmappable = Failure::new(FailureKind::Unmappable, "one field can't be mapped");
    let order = dead(StageName::Transform, "RK7", r#"{"order_no":"RK7"}"#, &unmappable);
    bury(&broker, (0..5_000).map(|n| without_material(&format!("RK{n:05}"))).chain([order])).await?;
    let folder = tempfile::tempdir()?;
    let list = async |arguments: &[&str]| {
        kingpost(&url, folder.path(), &[&["dead", "list"], arguments].concat(), &[]).await
    };
    let (code, output) = list(&["--json"]).await?;
    let groups: Vec<serde_json::Value> =
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let counts: Vec<_> = groups.iter().filter_map(|group| group.get("count")?.as_u64()).collect();
    assert_eq!((code, counts), (Some(0), vec![1, 5_000]), "{output}");
    let cause = groups.get(1).and_then(|group| group.get("code")?.as_str()).context("no code")?;
    let (_, output) = list(&["--cause", cause, "--letters"]).await?;
    assert_eq!(output.lines().filter(|line| line.starts_with("RK")).count(), 5_000);
    let (code, output) = list(&["--key", "RK00042", "--key", "RK7", "--older-than", "1s"]).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("2 dead letters, 2 causes") && output.contains("kingpost dead show"), "{output}");
    let (_, output) = list(&["--key", "RK"]).await?;
    assert!(output.contains("none of 5001 dead letters is meant by --key RK"), "{output}");
    let (code, output) = kingpost(&url, folder.path(), &["dead", "show", "RK00042"], &[]).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("\"FRealQty\": 12.3400") && output.contains("kingpost dead replay RK00042"),
        "{output}"
    );
    assert_eq!(letters(&url, StageName::Load).await?.len(), 5_000);
    Ok(())
}
