//! Clocks that disagree.

use anyhow::{Result, ensure};
use e2e::account::{Account, Pending, waiting};
use e2e::lab::wait_until;
use e2e::pipeline::SCHEME;
use serde_json::{Value, json};

use crate::{DEADLINE, Run, SOON};

#[tokio::test]
async fn when_the_sources_clock_is_an_hour_ahead_then_the_window_waits_and_is_read_whole_later() -> Result<()>
{
    let run = Run::shared("time-55", 20, 0).await?;
    run.sandbox.post("clock", &json!({"skew_seconds": 3_600})).await?;
    let workers = run.start_all()?;
    wait_until(SOON, "a refused request", async || {
        let requests = run.sandbox.get("requests?system=wdt").await.unwrap_or_default();
        let outcome =
            |request: &Value| request.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned();
        let requests = requests.as_array().map_or(&[][..], Vec::as_slice);
        requests.iter().map(outcome).any(|outcome| !outcome.is_empty() && outcome != "ok")
    })
    .await?;
    ensure!(
        run.depth(crate::TRANSFORM).await? == 0 && run.documents().await == 0,
        "orders passed all the same"
    );
    run.sandbox.post("clock", &json!({"skew_seconds": 0})).await?;
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_our_clock_is_ahead_of_the_sources_then_orders_that_enter_a_window_are_not_lost() -> Result<()> {
    let run = Run::shared("time-ahead", 20, 0).await?;
    run.sandbox.post("clock", &json!({"skew_seconds": -200})).await?;
    let workers = run.start_all()?;
    wait_until(SOON, "a window that isn't over there", async || {
        workers.iter().any(|worker| worker.process.output().contains("ahead of WDT's"))
    })
    .await?;
    // Completed on WDT's clock in the middle of what ours takes for over, farther back than the overlap reaches.
    run.sandbox.post("wdt/live", &json!({"add": 30.0})).await?;
    wait_until(SOON, "new orders", async || {
        let live = run.sandbox.get("wdt/live").await.unwrap_or_default();
        live.pointer("/done/added").and_then(Value::as_u64) >= Some(3)
    })
    .await?;
    run.sandbox.delete("wdt/live").await?;
    run.sandbox.post("clock", &json!({"skew_seconds": 0})).await?;
    let inspector = run.pipeline.inspector().await?;
    wait_until(DEADLINE, "every order to have arrived", async || {
        let waiting = waiting(&inspector, SCHEME, 1).await.unwrap_or_default();
        Pending::of(&run.sandbox).await.is_ok_and(|pending| pending.left(waiting).is_none())
    })
    .await?;
    inspector.close().await;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    ensure!(account.is_sound() && account.orders >= 23, "{}", account.report());
    Ok(())
}
