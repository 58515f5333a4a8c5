//! Documents that are broken, too large, too deep, repeated or changed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::{account::Account, lab::wait_until, pipeline::SCHEME};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use serde_json::{Value, json};

use crate::{Run, SOON, TRANSFORM, stop};

const MIB: usize = 1 << 20;

/// Bodies that are no orders, each with a name.
fn no_orders() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("empty", Vec::new()),
        ("no JSON", text("this is no order")),
        ("cut off", text(r#"{"order_no":"RK1","details_list":[{"spec_no":"SP-"#)),
        ("no object", text("[]")),
        ("invalid UTF-8", b"{\"order_no\":\"RK\xff\xfe\"}".to_vec()),
        ("NaN", text(r#"{"order_no":"RK1","details_list":[{"num":NaN}]}"#)),
        ("missing fields", text(r#"{"order_no":"RK1"}"#)),
        ("a key twice", text(r#"{"order_no":"RK1","order_no":"RK2"}"#)),
        ("a wrong type", text(r#"{"order_no":{"a":1},"details_list":"none"}"#)),
        ("a huge number", text(&format!(r#"{{"order_no":"RK1","goods_count":1{}}}"#, "0".repeat(100_000)))),
        ("deep", [vec![b'['; 200_000], vec![b']'; 200_000]].concat()),
        (
            "deep in a field",
            text(&format!(r#"{{"order_no":{}1{}}}"#, r#"{"a":"#.repeat(50_000), "}".repeat(50_000))),
        ),
        ("15 MiB", text(&format!(r#"{{"order_no":"RK1","remark":"{}"}}"#, "x".repeat(15 * MIB)))),
    ]
}

#[tokio::test]
async fn when_bodies_are_no_orders_then_each_is_dead_on_its_first_attempt_and_orders_flow_on() -> Result<()> {
    let run = Run::shared("data-46", 20, 0).await?;
    let transformer = run.ready("transformer").await?;
    let admin = Connection::connect(&run.pipeline.amqp_url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let bodies = no_orders();
    for (name, body) in &bodies {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish("".into(), TRANSFORM.into(), options, body, properties).await;
        sent.with_context(|| format!("{name} can't be published"))?;
    }
    let count = u32::try_from(bodies.len())?;
    run.until_depth(&format!("{TRANSFORM}.dead"), count).await?;
    let text = run.pipeline.metrics(&transformer).await?;
    let retried = e2e::pipeline::metric(&text, "kingpost_verdicts_total", &["verdict=\"retry\""]);
    ensure!(retried < 0.5, "what will never be readable was tried again");
    let workers = vec![run.start("extractor")?, transformer, run.start("loader")?];
    run.pipeline.wait_done(&run.sandbox, 20, count, SOON).await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    for group in &account.dead {
        let kinds = ["malformed", "unmappable"];
        ensure!(kinds.contains(&group.kind.as_str()), "{}", account.report());
    }
    ensure!(account.lost.is_empty() && account.duplicated.is_empty(), "{}", account.report());
    for worker in workers {
        let log = stop(worker).await?;
        ensure!(!log.contains("panicked"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn when_everything_is_extracted_twice_then_nothing_is_posted_twice() -> Result<()> {
    let run = Run::shared("data-47a", 40, 0).await?;
    let mut workers = vec![run.start("transformer")?, run.start("loader")?];
    let first = run.start("extractor")?;
    run.drained().await?;
    stop(first).await?;
    run.forget_cursor().await?;
    let second = run.start("extractor")?;
    run.until_metric(&second, "kingpost_published_total", &[], 40.0).await?;
    workers.insert(0, second);
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_an_order_changes_or_is_cancelled_after_it_was_posted_then_a_person_decides() -> Result<()> {
    let run = Run::shared("data-47b", 4, 0).await?;
    let workers = run.start_all()?;
    run.drained().await?;
    let orders = run.sandbox.orders().await?;
    let numbers: Vec<&str> = orders
        .as_array()
        .context("no list of orders")?
        .iter()
        .filter_map(|order| order.get("order_no").and_then(Value::as_str))
        .collect();
    let before = run.sandbox.documents().await?;
    run.sandbox.post(&format!("wdt/orders/{}/cancel", numbers[0]), &json!({})).await?;
    // What the document doesn't say may change, and then there is nothing to do.
    run.sandbox.post("wdt/orders", &json!({"order_no": numbers[1], "remark": "example of a change"})).await?;
    run.sandbox.post("wdt/orders", &json!({"order_no": numbers[2], "provider_no": "GYS0024"})).await?;
    // An order that two windows have in reach may be dead twice.
    let conflicts = async || -> Result<BTreeSet<String>> {
        let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
        let of_conflict = account.dead.into_iter().filter(|group| group.kind == "conflict");
        Ok(of_conflict.flat_map(|group| group.numbers).collect())
    };
    let expected: BTreeSet<String> = [numbers[0], numbers[2]].map(str::to_owned).into();
    wait_until(SOON, "both to be conflicts", async || conflicts().await.is_ok_and(|found| found == expected))
        .await?;
    wait_until(SOON, "the harmless change to be met", async || {
        let done = run.pipeline.metrics(&workers[2]).await.unwrap_or_default();
        e2e::pipeline::metric(&done, "kingpost_verdicts_total", &["verdict=\"done\""]) > 4.5
    })
    .await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    ensure!(account.dead_orders() == 2 && conflicts().await? == expected, "{}", account.report());
    ensure!(run.sandbox.documents().await? == before, "a posted document was touched");
    for worker in workers {
        stop(worker).await?;
    }
    Ok(())
}
