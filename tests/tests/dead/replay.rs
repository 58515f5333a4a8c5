//! `kingpost dead plan` and `kingpost dead replay` with a loader that only remembers.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use e2e::lab::wait_until;
use serde_json::Value;

use crate::{
    SCHEME, SOON, bury, command, dead, dead_queue, depth, kingpost, started,
    worker::{Loader, all_well, failing},
};

fn numbers(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:05}")).collect()
}

async fn plan(url: &str, folder: &Path, arguments: &[&str]) -> Result<Value> {
    let file = folder.join("plan.json");
    let path = file.to_str().context("a path")?;
    let (code, output) =
        kingpost(url, folder, &[&["dead", "plan", "--out", path], arguments].concat()).await?;
    assert_eq!(code, Some(0), "{output}");
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

const GO: [&str; 8] =
    ["dead", "replay", "--plan", "plan.json", "--reason", "materials created", "--yes", "--rate"];

fn results(output: &str) -> Vec<Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn a_plan_is_frozen_and_each_letter_of_it_ends_with_its_result() -> Result<()> {
    let (url, broker) = started("replay-plain").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, numbers("RKA", 150).iter().map(|number| dead(number, "物料[SP-9]不存在"))).await?;
    bury(&broker, numbers("RKB", 3).iter().map(|number| dead(number, "供应商[G]已禁用"))).await?;
    let planned = plan(&url, folder.path(), &["--cause", "物料"]).await?;
    assert_eq!(planned.get("letters").and_then(Value::as_array).map(Vec::len), Some(150));
    assert_eq!(depth(&url, &dead_queue()).await?, 153, "a plan moves nothing");
    // What dies later with the same cause isn't part of it.
    bury(&broker, [dead("RKA-later", "物料[SP-9]不存在")]).await?;
    let loader = Loader::start(&url, all_well()).await?;
    let (code, output) = kingpost(&url, folder.path(), &[&GO[..], &["0", "--json"]].concat()).await?;
    assert_eq!(code, Some(0), "{output}");
    let lines = results(&output);
    let posted = lines.iter().filter(|line| line.get("how").and_then(Value::as_str) == Some("posted"));
    assert_eq!(posted.count(), 150, "{output}");
    assert_eq!(loader.posted().len(), 150);
    assert!(loader.posted().values().all(|times| *times == 1));
    assert_eq!(depth(&url, &dead_queue()).await?, 4);
    // Once more: everything is known from the reply queue, and nothing is sent.
    let (code, output) = kingpost(&url, folder.path(), &[&GO[..], &["0"]].concat()).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("150 posted"), "{output}");
    assert!(loader.posted().values().all(|times| *times == 1));
    let (code, output) = kingpost(&url, folder.path(), &["audit", "list"]).await?;
    assert_eq!(code, Some(0), "{output}");
    for part in ["dead replay", "materials created", "posted 150", &dead_queue()] {
        assert!(output.contains(part), "{part:?} is missing in\n{output}");
    }
    let (code, output) = kingpost(&url, folder.path(), &["audit", "export", "--since", "1h"]).await?;
    let events = results(&output);
    assert_eq!((code, events.len()), (Some(0), 4), "{output}");
    let named = events[0].get("letters").and_then(Value::as_array).map(Vec::len);
    assert_eq!(named, Some(150));
    assert_eq!(events[0].get("digest"), planned.get("digest"));
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_cause_that_persists_is_stopped_at_its_canary_and_the_others_go_on() -> Result<()> {
    let (url, broker) = started("replay-canary").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, numbers("RKA", 200).iter().map(|number| dead(number, "物料[SP-9]不存在"))).await?;
    bury(&broker, numbers("RKB", 40).iter().map(|number| dead(number, "供应商[G]已禁用"))).await?;
    let loader = Loader::start(&url, failing("RKA")).await?;
    let arguments =
        ["dead", "replay", "--all", "--reason", "drill", "--yes", "--rate", "0", "--out", "p.json"];
    let (code, output) = kingpost(&url, folder.path(), &arguments).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("40 posted, ") || output.contains("40 posted"), "{output}");
    assert!(output.contains("1 failed again") && output.contains("199 left"), "{output}");
    assert!(output.contains("(1 letter failed again by canary step 1)"), "{output}");
    assert_eq!(loader.posted().len(), 40);
    // 199 were never touched, and the one that was tried is back with both failures.
    assert_eq!(depth(&url, &dead_queue()).await?, 200);
    loader.stop().await?;
    // Mended: the same plan goes on where it was stopped, from its first step.
    let loader = Loader::start(&url, all_well()).await?;
    let again = ["dead", "replay", "--plan", "p.json", "--yes", "--rate", "0"];
    let (code, output) = kingpost(&url, folder.path(), &again).await?;
    assert_eq!(code, Some(1), "one of the plan is a dead letter again: {output}");
    assert_eq!(loader.posted().len(), 199, "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 1);
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

/// Starts a replay and kills it in mid-work, once so many letters are posted. While whoever was killed before is still
/// known to hold the lock, a replay ends at once; that one is tried again.
async fn interrupted(
    url: &str,
    folder: &Path,
    arguments: &[&str],
    loader: &Loader,
    share: usize,
) -> Result<()> {
    wait_until(SOON, "a replay to be killed at work", async || {
        let Ok(process) = command(url, folder, arguments) else { return false };
        let reached = wait_until(SOON, "some to be posted", async || {
            loader.posted().len() >= share || !process.is_running()
        });
        let at_work = reached.await.is_ok() && process.is_running();
        process.kill();
        assert!(
            at_work || process.output().contains("another kingpost dead command"),
            "{}",
            process.output()
        );
        at_work
    })
    .await
}

#[tokio::test]
async fn when_a_replay_is_killed_at_any_moment_then_it_is_taken_up_again_and_every_letter_is_posted_once()
-> Result<()> {
    let (url, broker) = started("replay-kill").await?;
    let folder = tempfile::tempdir()?;
    let letters = numbers("RK", 2_000);
    bury(&broker, letters.iter().map(|number| dead(number, "物料[SP-9]不存在"))).await?;
    plan(&url, folder.path(), &["--all"]).await?;
    let loader = Loader::start(&url, all_well()).await?;
    let arguments = [&GO[..], &["0", "--steps", "1,50"]].concat();
    for share in [3, 400, 900, 1_500] {
        interrupted(&url, folder.path(), &arguments, &loader, share).await?;
    }
    // Whoever was killed holds nothing: its lock goes with its connection.
    let (code, output) = kingpost(&url, folder.path(), &arguments).await?;
    assert_eq!(code, Some(0), "{output}");
    let posted = loader.posted();
    assert_eq!(posted.keys().collect::<Vec<_>>(), letters.iter().collect::<Vec<_>>());
    // Four kills, each in the middle of one step: what was sent and not taken note of is sent once more.
    let most = posted.values().max().copied().unwrap_or_default();
    assert!(most <= 5, "a letter was handed to the loader {most} times");
    assert_eq!(depth(&url, &dead_queue()).await?, 0);
    assert_eq!(depth(&url, &format!("load.{SCHEME}")).await?, 0);
    assert!(output.contains("2000 posted") || output.contains("already there"), "{output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_two_replays_run_at_once_then_the_second_is_refused_and_without_workers_the_first_says_so()
-> Result<()> {
    let (url, broker) = started("replay-two").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, numbers("RK", 5).iter().map(|number| dead(number, "x"))).await?;
    plan(&url, folder.path(), &["--all"]).await?;
    let first = command(&url, folder.path(), &[&GO[..], &["0", "--wait", "4s"]].concat())?;
    let queue = format!("load.{SCHEME}");
    wait_until(SOON, "the first to send one", async || {
        depth(&url, &queue).await.is_ok_and(|depth| depth == 1)
    })
    .await?;
    let (code, output) = kingpost(&url, folder.path(), &[&GO[..], &["0"]].concat()).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("another kingpost dead command is at work"), "{output}");
    let status = first.wait(SOON).await?;
    let output = first.output();
    assert_eq!(status.code(), Some(1), "{output}");
    for part in [
        "nothing was heard for 4 s",
        &format!("{queue} holds 1 ready, and no worker reads it"),
        "to go on: kingpost dead replay --plan plan.json",
        "4 left, 1 waiting",
    ] {
        assert!(output.contains(part), "{part:?} is missing in\n{output}");
    }
    // Nobody loses anything by it: with a worker the rest goes through.
    let loader = Loader::start(&url, all_well()).await?;
    let (code, output) = kingpost(&url, folder.path(), &[&GO[..], &["0"]].concat()).await?;
    assert_eq!((code, loader.posted().len()), (Some(0), 5), "{output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn what_others_have_taken_since_the_plan_is_told_as_gone() -> Result<()> {
    let (url, broker) = started("replay-gone").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, numbers("RK", 3).iter().map(|number| dead(number, "x"))).await?;
    plan(&url, folder.path(), &["--all"]).await?;
    let loader = Loader::start(&url, all_well()).await?;
    let one = ["dead", "replay", "RK00001", "--reason", "urgent", "--yes"];
    let (code, output) = kingpost(&url, folder.path(), &one).await?;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = kingpost(&url, folder.path(), &[&GO[..], &["0"]].concat()).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 gone, 2 posted"), "{output}");
    loader.stop().await?;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn when_selection_reason_or_confirmation_is_missing_then_nothing_is_sent() -> Result<()> {
    let (url, broker) = started("replay-refusals").await?;
    let folder = tempfile::tempdir()?;
    bury(&broker, [dead("RK1", "x")]).await?;
    for (arguments, text) in [
        (&["dead", "replay", "--reason", "x", "--yes"][..], "--all"),
        (&["dead", "replay", "RK1", "--yes"], "--reason"),
        (&["dead", "replay", "RK1", "--reason", "x"], "--yes"),
        (&["dead", "plan", "--out", "p.json"], "--all"),
    ] {
        let (code, output) = kingpost(&url, folder.path(), arguments).await?;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(text), "{output}");
    }
    let (code, output) =
        kingpost(&url, folder.path(), &["dead", "replay", "RK9", "--reason", "x", "--yes"]).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("none of 1 dead letter"), "{output}");
    assert_eq!(depth(&url, &dead_queue()).await?, 1);
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "no plan is left behind");
    tokio::time::timeout(Duration::from_secs(20), broker.close(SOON)).await?;
    Ok(())
}
