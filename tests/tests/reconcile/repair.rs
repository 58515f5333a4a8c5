//! What is missing is sent once, and nothing else is touched.

use anyhow::{Context, Result};
use e2e::lab::wait_until;
use kingpost_broker::{AuditPhase, AuditTrail, BrokerConfig};
use serde_json::{Value, json};

use super::{DEADLINE, both_months, found, moved, posted, reconcile, typed, workers};

#[tokio::test]
async fn what_is_missing_is_sent_once_under_the_audit_trail_and_nothing_else_is_touched() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-repair", 60, 12).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let documents = posted(&sandbox).await?;
    let numbers: Vec<&str> = documents.iter().map(|(number, ..)| number.as_str()).collect();
    let [first, second, back, gone, edited, ..] = numbers[..] else { anyhow::bail!("too few documents") };
    for number in [first, second, back, gone] {
        sandbox.delete(&format!("kingdee/documents/{number}")).await?;
    }
    let (_, fid, date) = documents.get(4).context("too few documents")?;
    sandbox.post("kingdee/documents", &typed(edited, date, Some(fid))).await?;

    let (code, output) = reconcile(of, folder.path(), &both_months(&["--repair", "missing.json"])).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("missing: 4 documents"), "{output}");
    assert!(output.contains("kingpost reconcile --plan missing.json"), "{output}");
    let plan = std::fs::read_to_string(folder.path().join("missing.json"))?;
    assert_eq!(plan.lines().filter(|line| line.contains("\"number\"")).count(), 4, "{plan}");
    let (code, output) = reconcile(of, folder.path(), &["--plan", "missing.json", "--yes"]).await?;
    assert!(code == Some(2) && output.contains("say why with --reason"), "{output}");

    // Meanwhile one was entered by hand, and another was deleted in the source.
    sandbox.post("kingdee/documents", &typed(back, "2026-08-01", None)).await?;
    sandbox.delete(&format!("wdt/orders/{gone}")).await?;
    let before = posted(&sandbox).await?.len();
    let carry_out = ["--plan", "missing.json", "--reason", "month's end", "--yes", "--as", "clerk"];
    let (code, output) = reconcile(of, folder.path(), &carry_out).await?;
    assert_eq!(code, Some(1), "two were left alone: {output}");
    assert!(output.contains("sent 2 documents"), "{output}");
    assert!(output.contains(&format!("{back}: it is in Kingdee now")), "{output}");
    assert!(output.contains(&format!("{gone}: the source has it no more")), "{output}");

    // Run again before it has arrived: a second copy is looked up and posts nothing.
    let (_, output) = reconcile(of, folder.path(), &carry_out).await?;
    assert!(output.contains("sent 2 documents"), "{output}");
    let (_, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert!(output.contains("messages on the way"), "{output}");
    let _workers = workers(&pipeline)?;
    wait_until(DEADLINE, "the repaired documents", async || {
        posted(&sandbox).await.is_ok_and(|now| now.len() >= before + 2)
    })
    .await?;
    pipeline.wait_done(&sandbox, 46, 12, DEADLINE).await?;
    let after: Vec<String> = posted(&sandbox).await?.into_iter().map(|(number, ..)| number).collect();
    for number in [first, second] {
        assert_eq!(after.iter().filter(|found| *found == number).count(), 1, "{number} arrived once");
    }
    let (_, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    let (results, _) = found(&output)?;
    assert_eq!(results.get(first), None, "it matches: {output}");
    assert_eq!(results.get(edited).map(String::as_str), Some("different"), "it is left to a person");

    let trail = AuditTrail::open(&BrokerConfig::for_url(&*pipeline.amqp_url, "kingpost-test/1")).await?;
    let mut events = Vec::new();
    trail.read(i64::MIN, |event| events.push(event)).await?;
    trail.close().await;
    let begun: Vec<_> = events.iter().filter(|event| event.phase == AuditPhase::Begun).collect();
    assert!(
        begun.iter().all(|event| event.command == "reconcile repair" && event.actor == "clerk"),
        "{events:?}"
    );
    assert_eq!((begun.len(), begun.first().map(|event| event.reason.as_str())), (2, Some("month's end")));
    let named = events.iter().flat_map(|event| &event.letters).filter(|letter| letter.key == first).count();
    assert_eq!(named, 2, "each message is named before it moves: {events:?}");
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_pointed_to_their_replay_and_never_repaired() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-dead", 30, 12).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let (code, output) = reconcile(of, folder.path(), &both_months(&["--repair", "missing.json"])).await?;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("dead: 8 documents") && output.contains("kingpost dead replay"), "{output}");
    assert!(output.contains("nothing is missing, so that no plan was made"), "{output}");
    assert!(!folder.path().join("missing.json").exists());
    let (_, output) = reconcile(of, folder.path(), &both_months(&["--json", "--without-queues"])).await?;
    let (results, _) = found(&output)?;
    let missing = results.values().filter(|result| *result == "missing").count();
    assert_eq!(missing, 8, "without the queues nothing explains them: {output}");
    let orders = sandbox.get("wdt/orders?summary=1").await?;
    assert_eq!(orders.pointer("/by_fate/refused"), Some(&json!(8)), "{orders}");
    let _: Value = orders;
    Ok(())
}
