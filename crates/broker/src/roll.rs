//! Counting the loaders of a sharded scheme.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kingpost_model::{Route, StageName};
use lapin::{
    Connection,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    connection::{Backoff, ConnectError},
    topology::{Topology, short},
};

/// How many loaders each sharded scheme has, by its name; 0 while it isn't known.
pub(crate) type Counts = BTreeMap<String, watch::Sender<u32>>;

/// A place to keep the count of each scheme of which several load queues are consumed.
pub(crate) fn counts<'a>(routes: impl Iterator<Item = &'a Route>) -> Counts {
    let sharded = routes.filter(|route| route.stage == StageName::Load && route.shard.is_some());
    sharded.map(|route| (route.scheme.clone(), watch::Sender::new(0))).collect()
}

/// Answers the roll call of a scheme for as long as it runs, and counts those who do. Returns when it can't, which is
/// told once: then nothing is balanced, and the first loader that came keeps what it has.
pub(crate) async fn call(
    connection: Arc<Connection>,
    counts: Arc<Counts>,
    scheme: String,
    every: Duration,
    told: Arc<std::sync::atomic::AtomicBool>,
) {
    let Some(count) = counts.get(&scheme) else { return };
    if let Err(error) = keep_counting(&connection, count, &scheme, every).await {
        count.send_replace(0);
        if connection.status().connected() && !told.swap(true, std::sync::atomic::Ordering::Relaxed) {
            warn!(
                scheme,
                %error,
                "the loaders of this scheme can't be counted, so its shards are not balanced over them; have \
                 `kingpost topology apply` run, and give the user of AMQP_URL read permission on `{}`",
                Topology::roll_call_queue(&scheme)
            );
        }
    }
}

async fn keep_counting(
    connection: &Connection,
    count: &watch::Sender<u32>,
    scheme: &str,
    every: Duration,
) -> Result<(), ConnectError> {
    let queue = short(&Topology::roll_call_queue(scheme))?;
    let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    // Held, not read: nothing is ever put into this queue.
    let consume = channel.basic_consume(queue.clone(), "".into(), options, none).await;
    let _present = consume.map_err(|e| ConnectError::of(&e))?;
    // On a channel of its own, so that a refused question doesn't take us out of the count.
    let asking = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
    let mut jitter = Backoff::new(every, u64::from(std::process::id()).wrapping_mul(73));
    loop {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = asking.queue_declare(queue.clone(), options, FieldTable::default()).await;
        count.send_replace(asked.map_err(|e| ConnectError::of(&e))?.consumer_count());
        tokio::time::sleep(every.mul_f64(0.75) + jitter.next_pause() / 2).await;
    }
}
