//! What is missing in Kingdee is told with the reason that the queues know.

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::wait_until,
    pipeline::{Pipeline, SCHEME},
};
use kingpost_model::Window;
use serde_json::{Value, json};

use super::{DEADLINE, FROM, SOON, both_months, found, kingpost, prepared, reconcile, workers};

/// Whether a window is a dead letter that holds all orders.
async fn window_is_dead(pipeline: &Pipeline) -> Result<bool> {
    let inspector = pipeline.inspector().await?;
    let letters = inspector.browse(&format!("extract.{SCHEME}.dead"), 100).await;
    inspector.close().await;
    let from_s = FROM.parse::<jiff::Timestamp>()?.as_second();
    let covers = |window: Window| window.from_s <= from_s && from_s + 8 * 3_600 <= window.to_s;
    Ok(letters?.iter().any(|letter| serde_json::from_slice(&letter.work.body).is_ok_and(covers)))
}

async fn ready(pipeline: &Pipeline, queue: &str) -> Result<u32> {
    let inspector = pipeline.inspector().await?;
    let depth = inspector.depth(queue).await;
    inspector.close().await;
    Ok(depth?.map_or(0, |depth| depth.ready))
}

#[tokio::test]
async fn when_a_window_is_a_dead_letter_then_its_orders_are_dead_with_its_reason_until_it_is_replayed()
-> Result<()> {
    let (sandbox, pipeline) = prepared("rec-windows", 40, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let error = json!({"kind": "wdt_error", "status": 4711, "message": "接口暂停使用"});
    sandbox.fault(&json!({"system": "wdt", "count": null, "action": error})).await?;
    let extractor = pipeline.start("extractor")?;
    wait_until(DEADLINE, "the window to die", async || window_is_dead(&pipeline).await.unwrap_or(false))
        .await?;
    extractor.process.term()?;
    ensure!(extractor.process.wait(SOON).await?.code() == Some(0), "{}", extractor.process.log_tail());
    sandbox.delete("faults").await?;

    let (code, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    let (results, _) = found(&output)?;
    assert_eq!(code, Some(1), "{output}");
    assert!(results.len() == 40 && results.values().all(|result| result == "dead"), "{output}");
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for line in lines.iter().filter(|line| line.get("result").is_some()) {
        let detail = line.get("detail").and_then(Value::as_str).unwrap_or_default();
        let window =
            detail.starts_with("the window 2026-07-") && detail.contains("is a dead letter, refused");
        assert!(window && detail.contains("接口暂停使用"), "{detail}");
    }

    let _workers = workers(&pipeline)?;
    let replay = ["dead", "replay", "--stage", "extract", "--all", "--reason", "WDT is back", "--yes"];
    let (code, output) = kingpost(of, &pipeline.amqp_url, folder.path(), &replay).await?;
    assert_eq!(code, Some(0), "{output}");
    pipeline.wait_done(&sandbox, 40, 0, DEADLINE).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    assert_eq!((code, found(&output)?.0.len()), (Some(0), 0), "{output}");
    Ok(())
}

#[tokio::test]
async fn orders_on_their_way_are_waiting_where_the_journal_saw_them_last() -> Result<()> {
    let (sandbox, pipeline) = prepared("rec-waiting", 20, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let mut started = Vec::new();
    for (stage, behind, saw) in [
        ("extractor", "transform", "extracted by the extract stage"),
        ("transformer", "load", "mapped by the transform stage"),
    ] {
        started.push(pipeline.start(stage)?);
        let queue = format!("{behind}.{SCHEME}");
        wait_until(DEADLINE, "the orders to wait", async || {
            ready(&pipeline, &queue).await.is_ok_and(|ready| ready == 20)
        })
        .await?;
        let mut last = String::new();
        let waited = wait_until(SOON, "the journal to know all of them", async || {
            let Ok((code, output)) = reconcile(of, folder.path(), &both_months(&["--json"])).await else {
                return false;
            };
            let waiting = output.lines().filter(|line| line.contains("\"waiting\"") && line.contains(saw));
            let all = waiting.count() == 20 && code == Some(0);
            last = output;
            all
        });
        waited.await.with_context(|| last.clone())?;
    }
    started.push(pipeline.start("loader")?);
    pipeline.wait_done(&sandbox, 20, 0, DEADLINE).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    assert_eq!((code, found(&output)?.0.len()), (Some(0), 0), "{output}");
    Ok(())
}
