//! The audit trail.

use anyhow::Result;
use kingpost_broker::{AUDIT_QUEUE, AuditEvent, AuditLetter, AuditPhase, AuditTrail};
use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use crate::{config, started};

fn event(n: usize, letters: usize) -> AuditEvent {
    let at_ms = 1_790_000_000_000 + i64::try_from(n).unwrap_or(0);
    let mut event =
        AuditEvent::new(format!("a-{n}"), at_ms, "ops@demo-host", "dead replay", AuditPhase::Begun);
    event.letters = (0..letters)
        .map(|n| AuditLetter { id: format!("id-{n}"), key: format!("RK{n}"), sha256: String::new() })
        .collect();
    event.count = letters as u64;
    event
}

/// Writes events, comes back, and reads them twice.
async fn appended_and_read(url: &str) -> Result<()> {
    let trail = AuditTrail::open(&config(url)).await?;
    for n in 0..20 {
        trail.record(&event(n, if n == 7 { 2_500 } else { n })).await?;
    }
    trail.close().await;
    let trail = AuditTrail::open(&config(url)).await?;
    for _ in 0..2 {
        let mut events = Vec::new();
        trail.read(i64::MIN, |event| events.push(event)).await?;
        // The one with many letters is written in three parts.
        assert_eq!(events.len(), 22);
        let parts: Vec<_> = events.iter().filter(|event| event.action == "a-7").collect();
        assert_eq!(parts.iter().map(|event| event.letters.len()).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(parts[2].part, Some((3, 3)));
        let mut since = Vec::new();
        trail.read(1_790_000_000_010, |event| since.push(event.action)).await?;
        assert_eq!(since.first().map(String::as_str), Some("a-10"));
        assert_eq!(since.len(), 10);
    }
    trail.close().await;
    Ok(())
}

#[tokio::test]
async fn events_are_kept_in_order_and_read_as_often_as_one_likes() -> Result<()> {
    let (url, broker) = started("audit-stream").await?;
    appended_and_read(&url).await?;
    broker.close(crate::SOON).await;
    Ok(())
}

#[tokio::test]
async fn without_streams_a_quorum_queue_keeps_the_trail() -> Result<()> {
    let (url, broker) = started("audit-quorum").await?;
    // As it would be on a broker that refuses streams.
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
    channel.queue_declare(AUDIT_QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(AUDIT_QUEUE.into(), ExchangeKind::Fanout, durable, none()).await?;
    channel
        .queue_bind(AUDIT_QUEUE.into(), AUDIT_QUEUE.into(), "".into(), QueueBindOptions::default(), none())
        .await?;
    appended_and_read(&url).await?;
    broker.close(crate::SOON).await;
    Ok(())
}
