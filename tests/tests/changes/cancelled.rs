//! An order is cancelled in WDT, before or after it was posted.

use super::*;

#[tokio::test]
async fn a_cancelled_order_is_never_posted_and_reported_where_it_stands() -> Result<()> {
    let run = Run::new("cancelled-report", &[]).await?;
    let workers = run.start_all()?;
    let [_, _, loader] = &workers;
    let mut never = order("RK-NEVER", "10.00");
    never["status"] = "10".into();
    run.put(&[order("RK-POSTED", "10.00"), never.clone(), order("RK-AGAIN", "10.00")]).await?;
    run.until_stands("RK-POSTED", "C 10").await?;
    run.until_stands("RK-AGAIN", "C 10").await?;
    run.until_counted(loader, "withdrawn").await?;
    assert_eq!(run.document("RK-NEVER").await?, None);

    run.cancel("RK-POSTED").await?;
    let dead = run.until_dead(1).await?;
    let text = said(&dead, "RK-POSTED")?;
    assert!(
        text.contains("cancelled in the source, but it stands in Kingdee") && text.contains("status C"),
        "{text}"
    );
    assert!(text.contains("a person has to delete or reverse it there"), "{text}");
    assert_eq!(run.stands("RK-POSTED").await?, "C 10", "nothing is deleted");

    // Cancelled after all, and completed again: as if it had never been cancelled.
    never["status"] = "80".into();
    never["modified"] = now_ms().into();
    run.put(&[never]).await?;
    run.until_stands("RK-NEVER", "C 10").await?;

    // The person deletes it, and the letter is replayed: there is nothing left to be done.
    for step in ["unaudit", "delete"] {
        run.sandbox.post(&format!("kingdee/documents/RK-POSTED/{step}"), &json!({})).await?;
    }
    let replay = ["dead", "replay", "--kind", "conflict", "--reason", "deleted", "--yes", "--verbose"];
    let told = kingpost(&run.pipeline, &replay).await?;
    assert!(told.contains("RK-POSTED is cancelled in the source and not in the target"), "{told}");
    assert_eq!((run.dead().await?.len(), run.document("RK-POSTED").await?), (0, None));
    stop(workers).await
}

#[tokio::test]
async fn a_cancelled_order_that_stands_in_kingdee_is_left_there_where_changes_are_ignored() -> Result<()> {
    let run = Run::with("cancelled-ignore", "ignore", "audit").await?;
    let workers = run.start_all()?;
    let [_, _, loader] = &workers;
    run.put(&[order("RK-POSTED", "10.00")]).await?;
    run.until_stands("RK-POSTED", "C 10").await?;
    run.cancel("RK-POSTED").await?;
    run.until_counted(loader, "ignored").await?;
    assert_eq!((run.stands("RK-POSTED").await?.as_str(), run.dead().await?.len()), ("C 10", 0));
    stop(workers).await
}

/// The version from before waits as a dead letter, the cancellation passes it, and then somebody replays the letter.
#[tokio::test]
async fn an_order_that_was_cancelled_while_an_older_version_waited_is_not_posted_after_all() -> Result<()> {
    let run = Run::new("cancelled-late", &[]).await?;
    let workers = run.start_all()?;
    let [_, _, loader] = &workers;
    let mut unknown = order("RK-LATE", "10.00");
    unknown["provider_no"] = "GYS0777".into();
    run.put(&[unknown]).await?;
    run.until_dead(1).await?;
    run.cancel("RK-LATE").await?;
    run.until_counted(loader, "withdrawn").await?;
    run.sandbox.post("kingdee/base", &json!({"kind": "supplier", "number": "GYS0777"})).await?;
    let replay = ["dead", "replay", "--kind", "base-data", "--reason", "created", "--yes", "--verbose"];
    let told = kingpost(&run.pipeline, &replay).await?;
    assert!(told.contains("RK-LATE is cancelled in the source and not in the target"), "{told}");
    assert_eq!((run.document("RK-LATE").await?, run.dead().await?.len()), (None, 0));
    stop(workers).await
}

#[tokio::test]
async fn a_cancelled_order_that_can_not_be_mapped_says_that_it_was_cancelled() -> Result<()> {
    let run = Run::new("cancelled-unmappable", &[]).await?;
    let workers = run.start_all()?;
    let mut broken = order("RK-BROKEN", "");
    broken["status"] = "10".into();
    run.put(&[broken]).await?;
    let inspector = run.pipeline.inspector().await?;
    let queue = Route::new(StageName::Transform, SCHEME).dead_queue();
    let dead = wait_until(SOON, "a dead letter", async || {
        inspector.browse(&queue, 10).await.is_ok_and(|letters| !letters.is_empty())
    });
    dead.await?;
    let letters = inspector.browse(&queue, 10).await?;
    inspector.close().await;
    let text = said(&letters, "RK-BROKEN")?;
    assert!(text.starts_with("cancelled in the source, and 2 fields can't be mapped"), "{text}");
    assert!(letters[0].work.cancelled);
    stop(workers).await
}
