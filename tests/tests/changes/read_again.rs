//! Orders that are read again with nothing in them that is posted changed.

use super::*;

const ORDERS: usize = 25;
/// Rows of one batch in the shipped scheme.
const ROWS: usize = 20;

#[tokio::test]
async fn orders_that_are_read_again_cost_a_look_up_for_each_batch_and_no_write() -> Result<()> {
    let run = Run::new("read-again", &[]).await?;
    let [extractor, transformer, loader] = run.start_all()?;
    let numbers: Vec<String> = (0..ORDERS).map(|n| format!("RK-{n:02}")).collect();
    let orders: Vec<Value> = numbers.iter().map(|number| order(number, "10.00")).collect();
    run.put(&orders).await?;
    for number in &numbers {
        run.until_stands(number, "C 10").await?;
    }
    stop([loader]).await?;

    // Changed in WDT, but in nothing that is posted: every one of them is a new version, and comes again.
    let touched: Vec<Value> = numbers.iter().map(|n| json!({"order_no": n, "remark": "looked at"})).collect();
    run.put(&touched).await?;
    let inspector = run.pipeline.inspector().await?;
    let waiting = wait_until(SOON, "all of them to wait again", async || {
        inspector.depth(LOAD).await.ok().flatten().is_some_and(|depth| depth.ready as usize == ORDERS)
    });
    waiting.await?;
    stop([extractor, transformer]).await?;
    let before = requests(&run, 0).await?.len() as u64;
    let loader = run.pipeline.start("loader")?;
    let done = wait_until(SOON, "all of them to be done", async || {
        let page = run.pipeline.metrics(&loader).await.unwrap_or_default();
        metric(&page, "kingpost_verdicts_total", &["stage=\"load\"", "verdict=\"done\""])
            >= ORDERS as f64 - 0.5
    });
    done.await.with_context(|| loader.process.log_tail())?;
    let made: Vec<String> =
        requests(&run, before).await?.iter().map(|request| text(request, "operation").to_owned()).collect();
    assert_eq!(made, vec!["ExecuteBillQuery"; ORDERS.div_ceil(ROWS)], "{ORDERS} orders, {ROWS} in a batch");
    let page = run.pipeline.metrics(&loader).await?;
    let prevented = metric(&page, "kingpost_erp_duplicates_prevented_total", &[]);
    assert!((prevented - ORDERS as f64).abs() < 0.5, "{prevented} were found");
    assert_eq!(run.dead().await?.len(), 0);
    inspector.close().await;
    stop([loader]).await
}

/// Kingdee's requests after so many of both systems, by their operation.
async fn requests(run: &Run, since: u64) -> Result<Vec<Value>> {
    let system = if since == 0 { "" } else { "&system=kingdee" };
    let requests = run.sandbox.get(&format!("requests?since={since}{system}")).await?;
    Ok(requests.as_array().context("no list of requests")?.clone())
}
