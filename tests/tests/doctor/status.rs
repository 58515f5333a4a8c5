//! What workers have in hand, by the management API.

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Sandbox, SandboxOptions, wait_for},
    pipeline::{Pipeline, Schemes, Tempo},
};
use serde_json::{Value, json};

use crate::{SOON, kingpost};

#[tokio::test]
async fn what_is_in_flight_is_told_with_the_management_api_and_else_why_it_isn_t_known() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions { management: true, ..BrokerOptions::default() }).await?;
    let sandbox = Sandbox::start(SandboxOptions { orders: 9, seed: 3, ..SandboxOptions::default() }).await?;
    let tempo = Tempo { settle: "2s".into(), width: "29d".into(), ..Tempo::default() };
    let pipeline = Pipeline::new(broker.amqp_url(), Schemes::at(&tempo)?, &sandbox)?;
    // Every save waits until the rule is cleared.
    let action = json!({"kind": "hold", "when": "before"});
    let rule = json!({"system": "kingdee", "operation": "BatchSave", "count": null, "action": action});
    sandbox.fault(&rule).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];

    let schemes = pipeline.schemes.path().to_string_lossy().into_owned();
    let url = broker.management_url().context("no management")?;
    let common = [("SCHEMES_DIR", schemes.as_str()), ("AMQP_URL", pipeline.amqp_url.as_str())];
    let settings = [&common[..], &[("MANAGEMENT_URL", url.as_str())]].concat();
    let held = wait_for(SOON, "nine documents in the loader's hand", async || {
        let (_, output) = kingpost(&["status", "--json"], &settings).await.ok()?;
        let scheme: Value = serde_json::from_str(output.lines().next()?).ok()?;
        (scheme.pointer("/stages/2/in_flight") == Some(&json!(9))).then_some(scheme)
    });
    let held = held.await?;
    ensure!(held.pointer("/stages/2/waiting") == Some(&json!(0)), "{held}");
    let (code, output) = kingpost(&["status"], &settings).await?;
    ensure!(code == Some(0) && !output.contains('?'), "{output}");

    let (code, output) = kingpost(&["status"], &common).await?;
    ensure!(code == Some(0) && output.contains("? in flight is not known: AMQP"), "{output}");
    ensure!(output.contains("MANAGEMENT_URL"), "{output}");
    let wrong = url.replace("://", "://guest:marker-7f3a@");
    let wrong = [&common[..], &[("MANAGEMENT_URL", wrong.as_str())]].concat();
    let (code, output) = kingpost(&["status"], &wrong).await?;
    ensure!(code == Some(0) && output.contains("refuses the user guest (401)"), "{output}");
    ensure!(!output.contains("marker-7f3a"), "{output}");
    Ok(())
}
