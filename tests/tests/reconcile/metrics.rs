//! The last result is on the metrics of the extractor that leads.

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{shared_broker, wait_until},
    pipeline::{Pipeline, Worker, metric},
};

use super::{SOON, both_months, kingpost, moved, posted, reconcile, workers};

/// Waits until a worker shows a number under a verdict, and gives its metrics.
async fn shows(pipeline: &Pipeline, worker: &Worker, verdict: &str, count: f64) -> Result<String> {
    let mut text = String::new();
    let label = format!("verdict=\"{verdict}\"");
    let waited = wait_until(SOON, "the result to be shown", async || {
        text = pipeline.metrics(worker).await.unwrap_or_default();
        text.contains(&label)
            && (metric(&text, "kingpost_reconcile_documents", &[&label]) - count).abs() < 0.5
    });
    waited.await.with_context(|| worker.process.log_tail())?;
    Ok(text)
}

async fn is_silent(pipeline: &Pipeline, worker: &Worker) -> Result<bool> {
    let text = pipeline.metrics(worker).await?;
    let told = ["kingpost_reconcile", "kingpost_cursor_lag_seconds{", "kingpost_backlog_windows{"];
    Ok(!told.iter().any(|name| text.contains(name)))
}

async fn end_of(worker: Worker) -> Result<()> {
    worker.process.term()?;
    ensure!(worker.process.wait(SOON).await?.code() == Some(0), "{}", worker.process.log_tail());
    Ok(())
}

#[tokio::test]
async fn when_the_extractor_that_leads_is_stopped_then_the_next_one_shows_the_last_result_and_no_two_do()
-> Result<()> {
    let (sandbox, pipeline) = moved("rec-gauges", 30, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    // Nobody leads while the books are compared.
    let (code, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert!(code == Some(0) && !output.contains("was not told"), "{output}");
    let first = pipeline.start("extractor")?;
    let text = shows(&pipeline, &first, "matched", 30.0).await?;
    assert_eq!(metric(&text, "kingpost_reconcile_documents", &["scheme=\"purchase-stockin\""]), 30.0);
    assert_eq!(metric(&text, "kingpost_reconcile_agrees", &[]), 1.0);
    // 2026-09-01T00:00:00+08:00
    assert_eq!(metric(&text, "kingpost_reconcile_period_end_timestamp_seconds", &[]), 1_788_192_000.0);
    let now_s = jiff::Timestamp::now().as_second() as f64;
    let ended_s = metric(&text, "kingpost_reconcile_last_timestamp_seconds", &[]);
    assert!((now_s - 600.0..=now_s).contains(&ended_s), "{ended_s}");

    let second = pipeline.start("extractor")?;
    pipeline.ready(&second, SOON).await?;
    let (number, ..) = posted(&sandbox).await?.first().cloned().context("nothing is posted")?;
    sandbox.delete(&format!("kingdee/documents/{number}")).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert_eq!(code, Some(1), "{output}");
    let text = shows(&pipeline, &first, "missing", 1.0).await?;
    assert_eq!(metric(&text, "kingpost_reconcile_agrees", &[]), 0.0);
    assert!(is_silent(&pipeline, &second).await?, "two tell of it");

    // The other one leads from now on, and nobody compares anything anew.
    end_of(first).await?;
    shows(&pipeline, &second, "missing", 1.0).await?;
    end_of(second).await?;
    let third = pipeline.start("extractor")?;
    shows(&pipeline, &third, "missing", 1.0).await?;
    end_of(third).await
}

#[tokio::test]
async fn when_another_period_agrees_then_what_is_missing_stays_until_its_own_period_is_compared_again()
-> Result<()> {
    let (sandbox, pipeline) = moved("rec-open", 12, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let extractor = pipeline.start("extractor")?;
    let (number, ..) = posted(&sandbox).await?.first().cloned().context("nothing is posted")?;
    sandbox.delete(&format!("kingdee/documents/{number}")).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert_eq!(code, Some(1), "{output}");
    shows(&pipeline, &extractor, "missing", 1.0).await?;

    // The comparison of the night looks at one day, on which nothing is wrong.
    let night = ["--scheme", "purchase-stockin", "--from", "2026-07-05", "--to", "2026-07-06"];
    let (code, output) = reconcile(of, folder.path(), &night).await?;
    assert_eq!(code, Some(0), "{output}");
    // 2026-07-06T00:00:00+08:00
    let end = "kingpost_reconcile_period_end_timestamp_seconds";
    wait_until(SOON, "the result of the night to be shown", async || {
        let text = pipeline.metrics(&extractor).await.unwrap_or_default();
        (metric(&text, end, &[]) - 1_783_267_200.0).abs() < 0.5
    })
    .await
    .with_context(|| extractor.process.log_tail())?;
    let text = pipeline.metrics(&extractor).await?;
    assert_eq!(metric(&text, "kingpost_reconcile_documents", &["verdict=\"missing\""]), 1.0, "{text}");
    assert_eq!(metric(&text, "kingpost_reconcile_agrees", &[]), 0.0);
    let (_, output) = kingpost(of, &pipeline.amqp_url, folder.path(), &["status"]).await?;
    let again = "kingpost reconcile --scheme purchase-stockin --from 2026-07-01 --to 2026-09-01";
    assert!(output.contains("1 missing") && output.contains(again), "{output}");

    // A new leader knows of it, and so it ends: mended, and compared again.
    end_of(extractor).await?;
    let workers = workers(&pipeline)?;
    shows(&pipeline, &workers[0], "missing", 1.0).await?;
    let repair = both_months(&["--repair", "missing.json", "--yes", "--reason", "a test"]);
    reconcile(of, folder.path(), &repair).await?;
    pipeline.wait_done(&sandbox, 12, 0, SOON).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert_eq!(code, Some(0), "{output}");
    let text = shows(&pipeline, &workers[0], "missing", 0.0).await?;
    assert_eq!(metric(&text, "kingpost_reconcile_agrees", &[]), 1.0);
    Ok(())
}

#[tokio::test]
async fn when_the_result_can_not_be_told_then_a_note_says_so_and_the_exit_code_is_that_of_the_books()
-> Result<()> {
    let (sandbox, pipeline) = moved("rec-untold", 5, 0).await?;
    let folder = tempfile::tempdir()?;
    let node = shared_broker().await?;
    let user = format!("auditor-{}", std::process::id());
    let (_, vhost) = pipeline.amqp_url.rsplit_once('/').context("no virtual host")?;
    node.ctl(&["add_user", &user, "no-secret"]).await?;
    let looks = r"^(journal|(wait|extract|transform|load)\..+)$";
    node.ctl(&["set_permissions", "--vhost", vhost, &user, "^$", looks, r"^(journal|.+\.dead)$"]).await?;
    let url = pipeline.amqp_url.replace("guest:guest", &format!("{user}:no-secret"));
    let arguments = [&["reconcile", "--rate", "0"], &both_months(&[])[..]].concat();
    let (code, output) = kingpost((&sandbox, &pipeline), &url, folder.path(), &arguments).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("the books agree"), "{output}");
    assert!(output.contains("the result was not told") && output.contains("kingpost.work"), "{output}");
    Ok(())
}
