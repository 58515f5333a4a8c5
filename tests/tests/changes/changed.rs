//! An order changes in WDT after it was posted: the policy decides.

use super::*;

/// Posts two orders, changes one of them, waits for `outcome`, and gives back how both stand and the dead letters.
async fn changed(
    name: &str,
    on_change: &str,
    finish: &str,
    outcome: &str,
) -> Result<([String; 2], Vec<Letter>)> {
    let run = Run::with(name, on_change, finish).await?;
    let workers = run.start_all()?;
    let posted = if finish == "audit" { "C 10" } else { "A 10" };
    run.in_the_past(true).await?;
    run.put(&[order("RK-CHANGES", "10.00"), order("RK-STAYS", "10.00")]).await?;
    for number in ["RK-CHANGES", "RK-STAYS"] {
        run.until_stands(number, posted).await?;
    }
    run.in_the_past(false).await?;
    run.put(&[order("RK-CHANGES", "12.50")]).await?;
    let [_, _, loader] = &workers;
    run.until_counted(loader, outcome).await?;
    let stand = [run.stands("RK-CHANGES").await?, run.stands("RK-STAYS").await?];
    // It is counted before its letter is published.
    let letters = usize::from(outcome == "reported");
    wait_until(SOON, "the letter", async || run.dead().await.is_ok_and(|dead| dead.len() >= letters)).await?;
    let dead = run.dead().await?;
    if outcome == "ignored" {
        let logs = run.pipeline.outputs().concat();
        assert!(
            logs.contains("left as it is in the target")
                && logs.contains("amount with tax 20 there, 25 here")
        );
    }
    for number in ["RK-CHANGES", "RK-STAYS"] {
        let saves = run.steps(number).await?.matches("saved").count();
        assert_eq!(saves, 1, "{number}");
    }
    stop(workers).await?;
    Ok((stand, dead))
}

#[tokio::test]
async fn a_changed_order_is_reported_and_kingdee_keeps_what_it_has() -> Result<()> {
    for (name, finish, stands) in
        [("changes-report-c", "audit", "C 10"), ("changes-report-a", "save", "A 10")]
    {
        let (stand, dead) = changed(name, "report", finish, "reported").await?;
        assert_eq!((stand, dead.len()), ([stands, stands].map(str::to_owned), 1));
        let said = said(&dead, "RK-CHANGES")?;
        assert!(said.contains("differs: material SP-1001: amount with tax 20 there, 25 here"), "{said}");
        assert!(
            said.contains("correct it there and discard this letter, or delete it there and replay it"),
            "{said}"
        );
        assert_eq!(dead[0].failure.kind.as_str(), "conflict");
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_order_that_is_ignored_is_done_and_logged() -> Result<()> {
    for (name, finish, stands) in
        [("changes-ignore-c", "audit", "C 10"), ("changes-ignore-a", "save", "A 10")]
    {
        let (stand, dead) = changed(name, "ignore", finish, "ignored").await?;
        assert_eq!((stand, dead.len()), ([stands, stands].map(str::to_owned), 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_order_updates_its_draft_and_nothing_that_is_audited() -> Result<()> {
    let (stand, dead) = changed("changes-draft", "update-draft", "save", "updated").await?;
    assert_eq!((stand, dead.len()), (["A 12.5", "A 10"].map(str::to_owned), 0));
    let (stand, dead) = changed("changes-audited", "update-draft", "audit", "reported").await?;
    assert_eq!((stand, dead.len()), (["C 10", "C 10"].map(str::to_owned), 1));
    let said = said(&dead, "RK-CHANGES")?;
    assert!(said.contains("not updated, because it is no draft any more"), "{said}");
    Ok(())
}
