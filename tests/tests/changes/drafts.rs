//! A draft is updated by what is surely newer, and by nothing else.

use super::*;

#[tokio::test]
async fn what_a_person_has_edited_or_submitted_meanwhile_is_not_overwritten() -> Result<()> {
    let run = Run::with("drafts-person", "update-draft", "save").await?;
    let workers = run.start_all()?;
    run.in_the_past(true).await?;
    let numbers = ["RK-EDITED", "RK-SUBMITTED"];
    run.put(&numbers.map(|number| order(number, "10.00"))).await?;
    for number in numbers {
        run.until_stands(number, "A 10").await?;
    }
    run.in_the_past(false).await?;
    let fid = run.document("RK-EDITED").await?.context("no document")?["FID"].clone();
    let entry = json!({"FMaterialId": {"FNumber": "SP-1001"}, "FRealQty": 3, "FTaxPrice": 11});
    let edited = json!({"FID": fid, "FBillNo": "RK-EDITED", "FDate": "2026-08-01", "FInStockEntry": [entry]});
    run.sandbox.post("kingdee/documents", &edited).await?;
    run.sandbox.post("kingdee/documents/RK-SUBMITTED/submit", &json!({})).await?;
    run.put(&numbers.map(|number| order(number, "12.50"))).await?;
    let dead = run.until_dead(2).await?;
    let text = said(&dead, "RK-EDITED")?;
    assert!(text.contains("was not surely read from the source after the draft was last written"), "{text}");
    assert!(text.contains("material SP-1001: quantity 3 there, 2 here"), "{text}");
    let text = said(&dead, "RK-SUBMITTED")?;
    assert!(text.contains("it is no draft any more"), "{text}");
    assert_eq!(run.stands("RK-EDITED").await?, "A 11");
    assert_eq!(run.stands("RK-SUBMITTED").await?, "B 10");
    stop(workers).await
}

/// An older version waits as a dead letter for its base data, a newer one is posted, and then the letter is replayed.
#[tokio::test]
async fn an_old_version_that_comes_late_never_overwrites_a_newer_one() -> Result<()> {
    let run = Run::with("drafts-late", "update-draft", "save").await?;
    let workers = run.start_all()?;
    let mut old = order("RK-LATE", "10.00");
    old["provider_no"] = "GYS0777".into();
    run.put(&[old]).await?;
    run.until_dead(1).await?;
    run.put(&[order("RK-LATE", "12.50")]).await?;
    run.until_stands("RK-LATE", "A 12.5").await?;
    run.sandbox.post("kingdee/base", &json!({"kind": "supplier", "number": "GYS0777"})).await?;
    kingpost(&run.pipeline, &["dead", "replay", "--kind", "base-data", "--reason", "created", "--yes"])
        .await?;
    let [_, _, loader] = &workers;
    run.until_counted(loader, "reported").await?;
    let dead = run.until_dead(1).await?;
    let text = said(&dead, "RK-LATE")?;
    assert!(text.contains("partner GYS0001 there, GYS0777 here"), "{text}");
    assert!(text.contains("was not surely read from the source after the draft was last written"), "{text}");
    assert_eq!(
        (run.stands("RK-LATE").await?.as_str(), run.steps("RK-LATE").await?.as_str()),
        ("A 12.5", "saved")
    );
    stop(workers).await
}

#[tokio::test]
async fn an_update_whose_answer_is_dropped_after_the_commit_is_found_and_not_repeated() -> Result<()> {
    let run = Run::with("drafts-dropped", "update-draft", "audit").await?;
    let workers = run.start_all()?;
    run.in_the_past(true).await?;
    // Its submit is refused, so that it stays a draft.
    let refused = json!({"system": "kingdee", "operation": "Submit", "key": "RK-DROPPED", "count": 1,
        "action": {"kind": "refuse", "msg_code": 11, "message": "第1行分录，批号不能为空"}});
    run.sandbox.fault(&refused).await?;
    run.put(&[order("RK-DROPPED", "10.00")]).await?;
    run.until_dead(1).await?;
    run.in_the_past(false).await?;
    let dropped = json!({"system": "kingdee", "operation": "BatchSave", "key": "RK-DROPPED",
        "action": {"kind": "drop", "when": "after"}});
    run.sandbox.fault(&dropped).await?;
    run.put(&[order("RK-DROPPED", "12.50")]).await?;
    run.until_stands("RK-DROPPED", "C 12.5").await?;
    assert_eq!(run.steps("RK-DROPPED").await?, "saved updated submitted audited");
    assert_eq!(run.dead().await?.len(), 1, "the first version's own letter alone");
    stop(workers).await
}

/// The draft is submitted between the look-up and the update: Kingdee refuses the save, and its status is read again.
#[tokio::test]
async fn a_draft_that_is_submitted_at_the_worst_moment_is_not_damaged() -> Result<()> {
    let run = Run::with("drafts-race", "update-draft", "save").await?;
    let workers = run.start_all()?;
    run.in_the_past(true).await?;
    run.put(&[order("RK-RACE", "10.00")]).await?;
    run.until_stands("RK-RACE", "A 10").await?;
    run.in_the_past(false).await?;
    let held = json!({"system": "kingdee", "operation": "BatchSave", "key": "RK-RACE",
        "action": {"kind": "hold", "when": "before"}});
    let armed = run.sandbox.fault(&held).await?;
    run.put(&[order("RK-RACE", "12.50")]).await?;
    let struck = wait_until(SOON, "the update to be on its way", async || {
        let rules = run.sandbox.get("faults").await.unwrap_or_default();
        rules.pointer("/0/struck").and_then(Value::as_u64).is_some_and(|struck| struck > 0)
    });
    struck.await?;
    run.sandbox.post("kingdee/documents/RK-RACE/submit", &json!({})).await?;
    let id = armed.pointer("/ids/0").context("no id")?;
    run.sandbox.delete(&format!("faults/{id}")).await?;
    let dead = run.until_dead(1).await?;
    let text = said(&dead, "RK-RACE")?;
    assert!(text.contains("not updated, because it was submitted meanwhile"), "{text}");
    assert_eq!(run.stands("RK-RACE").await?, "B 10");
    stop(workers).await
}
