//! The far end of the hops: takes models off the loader's queue and remembers which orders they are of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{FutureExt as _, StreamExt as _};
use kingpost_model::{Route, StageName};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};

use crate::pipeline::SCHEME;

const PREFETCH: u16 = 1_000;
/// An acknowledgement covers this many, or what has come when nothing more is there.
const AT_ONCE: usize = 250;
/// A broker that starts may take a connection and never answer on it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What has arrived.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    seen: Mutex<Vec<u64>>,
    /// Orders that arrived, each counted once.
    pub(super) orders: AtomicU64,
    /// Messages of orders that had arrived before.
    pub(super) copies: AtomicU64,
    /// Messages of no order that was published.
    pub(super) strangers: AtomicU64,
}

impl Arrived {
    pub(super) fn of(messages: usize) -> Arc<Self> {
        Arc::new(Arrived { seen: Mutex::new(vec![0; messages.div_ceil(64)]), ..Arrived::default() })
    }

    fn note(&self, number: Option<usize>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = number.and_then(|number| Some((seen.get_mut(number / 64)?, 1_u64 << (number % 64))));
        let counter = match place {
            None => &self.strangers,
            Some((word, bit)) if *word & bit != 0 => &self.copies,
            Some((word, bit)) => {
                *word |= bit;
                &self.orders
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes messages until it is dropped, connecting again whenever the broker comes back.
pub(super) async fn run(url: String, arrived: Arc<Arrived>) {
    let mut pauses = tokio::time::interval(Duration::from_millis(300));
    loop {
        pauses.tick().await;
        // Any error means that the broker is gone; what was not acknowledged comes again.
        let _ = session(&url, &arrived).await;
    }
}

async fn session(url: &str, arrived: &Arrived) -> Result<()> {
    let open = async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let queue = ShortString::from(Route::new(StageName::Load, SCHEME).queue());
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue, "".into(), options, arguments).await?;
        anyhow::Ok((connection, channel, consumer))
    };
    let (_connection, channel, mut consumer) =
        tokio::time::timeout(PATIENCE, open).await.context("no answer of the broker")??;
    while let Some(delivery) = consumer.next().await {
        let mut tag = note(arrived, &delivery?);
        for _ in 1..AT_ONCE {
            let Some(Some(delivery)) = consumer.next().now_or_never() else { break };
            tag = note(arrived, &delivery?);
        }
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

fn note(arrived: &Arrived, delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    let key = headers.and_then(|headers| match headers.inner().get("kingpost-key") {
        Some(AMQPValue::LongString(key)) => std::str::from_utf8(key.as_bytes()).ok(),
        _ => None,
    });
    arrived.note(key.and_then(|key| key.strip_prefix("RK")?.parse().ok()));
    delivery.delivery_tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_counts_once_and_its_copies_apart() {
        let arrived = Arrived::of(100);
        for number in [Some(0), Some(99), Some(0), Some(1_000), None] {
            arrived.note(number);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&arrived.orders), count(&arrived.copies), count(&arrived.strangers)), (2, 1, 2));
    }
}
