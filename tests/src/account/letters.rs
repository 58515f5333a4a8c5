//! Dead letters as the broker holds them, read by no code of the product.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties};

use crate::lab::wait_until;

const DEADLINE: Duration = Duration::from_secs(20);

/// One message of a queue, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its message id.
    pub id: String,
    /// Its headers as text, without those that the broker itself counts in (`x-…`).
    pub headers: BTreeMap<String, String>,
    /// Its other properties as text.
    pub properties: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Letter {
    /// The value of a header; nothing where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The counted attempt that it died on.
    pub fn attempt(&self) -> u32 {
        let digits: String = self.header("kingpost-attempt").chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }
}

/// Reads up to `most` messages of a queue from its head and gives them back; none where there is no such queue.
///
/// Nobody else may be reading it meanwhile. The broker counts the reading as a delivery.
///
/// # Errors
/// The broker can't be reached, or doesn't hand out what it says it holds.
pub async fn letters(amqp_url: &str, queue: &str, most: usize) -> Result<Vec<Letter>> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let Ok(held) = depth(&channel, queue).await else { return Ok(Vec::new()) };
    let wanted = most.min(held);
    let mut letters = Vec::with_capacity(wanted);
    if wanted > 0 {
        let prefetch = u16::try_from(wanted).unwrap_or(0);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = channel.basic_consume(ShortString::from(queue), "".into(), options, arguments);
        let mut consumer = consume.await.with_context(|| format!("{queue} can't be read"))?;
        while letters.len() < wanted {
            let next = tokio::time::timeout(DEADLINE, consumer.next()).await;
            let delivery = next.with_context(|| format!("{queue} says it holds {held} messages"))?;
            let delivery = delivery.context("the consumer ended")??;
            let id = delivery.properties.message_id().as_ref().map_or("", ShortString::as_str).to_owned();
            let headers = delivery.properties.headers().as_ref().map(texts).unwrap_or_default();
            let properties = format!("{:?}", delivery.properties.with_headers(FieldTable::default()));
            letters.push(Letter { id, headers, properties, body: delivery.data });
        }
        channel.close(200, "read".into()).await.context("the channel can't be closed")?;
        let again = connection.create_channel().await?;
        wait_until(DEADLINE, "what was read to be back", async || {
            depth(&again, queue).await.is_ok_and(|now| now >= held)
        })
        .await?;
    }
    // Everything is back: how the connection ends doesn't matter any more.
    let _ = connection.close(200, "read".into()).await;
    Ok(letters)
}

async fn depth(channel: &Channel, queue: &str) -> Result<usize> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(ShortString::from(queue), options, FieldTable::default()).await?;
    Ok(declared.message_count() as usize)
}

fn texts(table: &FieldTable) -> BTreeMap<String, String> {
    let headers = table.inner().iter().filter(|(name, _)| !name.as_str().starts_with("x-"));
    headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}
