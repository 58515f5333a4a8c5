//! What the rules ask of RabbitMQ's own metrics is there, whatever the release.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::{BrokerOptions, PrivateBroker, wait_until};
use e2e::monitoring::known::{DETAILED, RABBITMQ};
use kingpost_broker::{Broker, BrokerConfig, NoObserver, Topology};
use tokio_util::sync::CancellationToken;

/// The broker counts anew every few seconds.
const COUNTED: Duration = Duration::from_secs(30);

/// What KingpostScrapeMissing knows `/metrics` by.
const ALARM: &str = "rabbitmq_alarms_memory_used_watermark";

fn has(text: &str, metric: &str, labels: &[&str]) -> bool {
    text.lines().any(|line| {
        let Some(rest) = line.strip_prefix(metric) else { return false };
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(&format!("{label}=\"")))
    })
}

#[tokio::test]
async fn every_metric_of_rabbitmq_that_a_rule_needs_is_on_its_exporter() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions { prometheus: true, ..BrokerOptions::default() }).await?;
    let config = BrokerConfig::for_url(&*node.amqp_url(), "kingpost-test");
    let topology = Topology::new([("orders", 1), ("sharded", 2)]);
    let broker = Broker::start(config, topology, Arc::new(NoObserver), &CancellationToken::new()).await?;
    let url = node.prometheus_url().context("the node has no exporter")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let read = async |path: &str| -> Result<String> {
        Ok(client.get(format!("{url}{path}")).send().await?.error_for_status()?.text().await?)
    };
    let detailed = format!("/metrics/detailed?{DETAILED}");
    let mut text = String::new();
    let missing = |text: &str| {
        let missing = RABBITMQ.iter().filter(|(metric, labels)| !has(text, metric, labels));
        missing.map(|(metric, _)| *metric).collect::<Vec<_>>()
    };
    let all = wait_until(COUNTED, "RabbitMQ to have counted its queues", async || {
        let Ok(nodes) = read("/metrics").await else { return false };
        let Ok(queues) = read(&detailed).await else { return false };
        text = nodes + &queues;
        missing(&text).is_empty() && text.contains("queue=\"load.sharded.1\"")
    });
    all.await.with_context(|| format!("missing: {:?} in\n{text}", missing(&text)))?;
    assert!(has(&text, "rabbitmq_detailed_queue_messages_ready", &["vhost", "queue"]));
    // Which of the two paths isn't scraped has to show: each has what the other hasn't. The identity is on both.
    let (nodes, queues) = (read("/metrics").await?, read(&detailed).await?);
    assert!(has(&nodes, ALARM, &[]) && !has(&queues, ALARM, &[]), "{queues}");
    assert!(!has(&nodes, "rabbitmq_detailed_queue_messages_ready", &[]), "{nodes}");
    broker.close(COUNTED).await;
    Ok(())
}
