//! A plan that is taken up again, and what it must leave alone.

use anyhow::{Context, Result};
use e2e::lab::{Proxy, Way, wait_until};
use futures_util::StreamExt as _;
use kingpost_broker::{AuditPhase, AuditTrail};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};

use crate::{
    SCHEME, SOON, bury, command, config, dead, dead_queue, depth, kingpost, started,
    worker::{Loader, all_well, failing},
};

const AGAIN: [&str; 7] = ["dead", "replay", "--plan", "p.json", "--yes", "--rate", "0"];

#[tokio::test]
async fn what_died_again_under_another_plan_is_left_alone() -> Result<()> {
    let (url, broker) = started("resumed-other").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    let loader = Loader::start(&url, failing("RK")).await?;
    let first = ["dead", "replay", "--all", "--reason", "x", "--yes", "--out", "p.json"];
    let (code, output) = kingpost(&url, folder.path(), &first).await?;
    assert_eq!(code, Some(1), "{output}");
    let alone = ["dead", "replay", "RK1", "--reason", "y", "--yes", "--out", "q.json"];
    let (code, output) = kingpost(&url, folder.path(), &alone).await?;
    assert!(code == Some(1) && output.contains("1 failed again"), "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 1);
    let (code, output) = kingpost(&url, folder.path(), &AGAIN).await?;
    assert_eq!(code, Some(1), "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 1, "the only copy of RK1 is gone: {output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_letter_beside_its_copy_goes_only_when_the_copy_ended_well_and_the_trail_names_it() -> Result<()> {
    let (url, broker) = started("resumed-beside").await?;
    let folder = tempfile::tempdir()?;
    let both = || [dead("RK1", "x"), dead("RK2", "y")];
    bury(&broker, both()).await?;
    let loader = Loader::start(&url, failing("RK2")).await?;
    let first = ["dead", "replay", "--all", "--reason", "x", "--yes", "--out", "p.json"];
    let (code, output) = kingpost(&url, folder.path(), &first).await?;
    assert!(code == Some(1) && output.contains("1 failed again, 1 posted"), "{output}");
    // As a kill between confirm and acknowledgement leaves it: each letter is there still, beside its copy.
    bury(&broker, both()).await?;
    assert_eq!(depth(&url, &dead_queue()).await?, 3);
    let (code, output) = kingpost(&url, folder.path(), &AGAIN).await?;
    assert_eq!(code, Some(1), "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 2, "RK2 and its copy that failed again stay: {output}");
    assert_eq!(loader.posted().into_iter().collect::<Vec<_>>(), [("RK1".to_owned(), 1)], "{output}");
    let trail = AuditTrail::open(&config(&url)).await?;
    let mut named = Vec::new();
    trail
        .read(i64::MIN, |event| {
            if event.phase == AuditPhase::Note && !event.letters.is_empty() {
                named.extend(event.letters.into_iter().map(|letter| letter.key));
            }
        })
        .await?;
    trail.close().await;
    assert_eq!(named, ["RK1"]);
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn letters_in_the_hands_of_a_reader_are_neither_gone_nor_none() -> Result<()> {
    let (url, broker) = started("resumed-reader").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x"), dead("RK2", "x"), dead("RK3", "x")]).await?;
    let (code, output) = kingpost(&url, folder.path(), &["dead", "plan", "--all", "--out", "p.json"]).await?;
    assert_eq!(code, Some(0), "{output}");
    let reader = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = reader.create_channel().await?;
    channel.basic_qos(10, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(dead_queue().into(), "".into(), options, FieldTable::default()).await?;
    for _ in 0..3 {
        tokio::time::timeout(SOON, consumer.next()).await?.context("nothing came")??;
    }
    let (code, output) = kingpost(&url, folder.path(), &["dead", "list"]).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("somebody else is reading") && output.contains("in sight"), "{output}");
    assert!(!output.contains("no dead letters in"), "{output}");
    let arguments = [&AGAIN[..], &["--reason", "x"]].concat();
    let (code, output) = kingpost(&url, folder.path(), &arguments).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("1 letter was not found") && output.contains("3 left"), "{output}");
    reader.close(200, "done".into()).await?;
    wait_until(SOON, "all to be back", async || depth(&url, &dead_queue()).await.is_ok_and(|n| n == 3))
        .await?;
    let loader = Loader::start(&url, all_well()).await?;
    let (code, output) = kingpost(&url, folder.path(), &arguments).await?;
    assert!(code == Some(0) && output.contains("3 posted"), "{output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_plan_of_another_broker_is_refused_and_one_of_which_nothing_is_left_is_no_success() -> Result<()> {
    let (url, broker) = started("resumed-home").await?;
    let (elsewhere, other) = started("resumed-elsewhere").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    let (code, output) = kingpost(&url, folder.path(), &["dead", "plan", "--all", "--out", "p.json"]).await?;
    assert_eq!(code, Some(0), "{output}");
    let arguments = [&AGAIN[..], &["--reason", "x"]].concat();
    let (code, output) = kingpost(&elsewhere, folder.path(), &arguments).await?;
    assert!(code == Some(1) && output.contains("virtual host resumed-home"), "{output}");
    let discard = ["dead", "discard", "RK1", "--reason", "x", "--yes"];
    let (code, output) = kingpost(&url, folder.path(), &discard).await?;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = kingpost(&url, folder.path(), &arguments).await?;
    assert!(code == Some(1) && output.contains("not one letter of the plan is in its queue"), "{output}");
    broker.close(SOON).await;
    other.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_letter_that_died_again_by_itself_is_not_the_one_that_was_planned() -> Result<()> {
    let (url, broker) = started("resumed-later").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    let loader = Loader::start(&url, all_well()).await?;
    let first = ["dead", "replay", "--all", "--reason", "x", "--yes", "--out", "p.json"];
    let (code, output) = kingpost(&url, folder.path(), &first).await?;
    assert_eq!(code, Some(0), "{output}");
    let mut later = dead("RK1", "a conflict");
    if let Some(failure) = &mut later.last_failure {
        failure.at_ms += 60_000;
    }
    bury(&broker, [later]).await?;
    let (code, output) = kingpost(&url, folder.path(), &AGAIN).await?;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 1, "it says something new: {output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

/// The broker of a URL through a proxy, and the proxy.
async fn through(url: &str) -> Result<(String, Proxy)> {
    let (who, rest) = url.split_once('@').context("no user")?;
    let (place, vhost) = rest.split_once('/').context("no virtual host")?;
    let proxy = Proxy::start(place).await?;
    Ok((format!("{who}@{}/{vhost}", proxy.address()), proxy))
}

const FIRST: [&str; 8] = ["dead", "replay", "--all", "--reason", "x", "--yes", "--wait", "6s"];

/// With one letter sent and no worker to take it.
async fn sent(url: &str, through: &str, folder: &std::path::Path) -> Result<e2e::lab::Process> {
    let process = command(through, folder, &FIRST)?;
    let queue = format!("load.{SCHEME}");
    wait_until(SOON, "one to be sent", async || depth(url, &queue).await.is_ok_and(|n| n == 1)).await?;
    Ok(process)
}

#[tokio::test]
async fn a_result_is_told_and_written_down_though_every_connection_was_cut() -> Result<()> {
    let (url, broker) = started("resumed-cut").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    let (cut, proxy) = through(&url).await?;
    let process = sent(&url, &cut, folder.path()).await?;
    proxy.reset();
    process.wait(SOON).await?;
    let output = process.output();
    assert!(output.contains("1 waiting") && !output.contains("audit trail"), "{output}");
    let trail = AuditTrail::open(&config(&url)).await?;
    let mut phases = Vec::new();
    trail.read(i64::MIN, |event| phases.push(event.phase)).await?;
    trail.close().await;
    assert_eq!(phases, [AuditPhase::Begun, AuditPhase::Ended], "{output}");
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_second_ctrl_c_ends_what_a_silent_broker_holds_up() -> Result<()> {
    let (url, broker) = started("resumed-ctrl-c").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    let (slow, proxy) = through(&url).await?;
    let process = sent(&url, &slow, folder.path()).await?;
    proxy.stall(Way::ToServer);
    proxy.stall(Way::ToClient);
    let pid = process.pid().to_string();
    let interrupt = || std::process::Command::new("kill").args(["-INT", &pid]).status();
    interrupt()?;
    wait_until(SOON, "the first to be heard", async || process.output().contains("Ctrl-C once more")).await?;
    assert!(process.is_running());
    interrupt()?;
    let status = process.wait(std::time::Duration::from_secs(5)).await?;
    assert_eq!(status.code(), Some(1), "{}", process.output());
    broker.close(SOON).await;
    Ok(())
}
