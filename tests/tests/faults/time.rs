//! Clocks that disagree.

use anyhow::{Result, ensure};
use e2e::lab::wait_until;
use serde_json::{Value, json};

use crate::{Run, SOON};

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
