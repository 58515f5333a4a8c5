//! The journal: kept as the settings say, read to its end, and never in anybody's way.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use e2e::lab::{Node, free_port, shared_broker, wait_until};
use kingpost_broker::{Inspector, JOURNAL, Journal, JournalKeep, JournalReader, JournalScan};
use kingpost_model::{JournalEvent, JournalStep, JournalWriter, StageName};
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use crate::{
    Counts, SOON, config, lane, outsider, permissions::user, publish, receive_many, start, vhost, work,
};

/// The time of the first event, in milliseconds since the epoch.
const FIRST_MS: i64 = 1_790_000_000_000;

/// An event of the nth document, a second after the one before.
fn event(n: usize) -> JournalEvent {
    let writer = JournalWriter { worker: "kingpost-test/1".into(), host: "demo-host".into() };
    let at_ms = FIRST_MS + i64::try_from(n).unwrap_or(0) * 1_000;
    writer.event(&work(StageName::Transform, n), JournalStep::Filtered, at_ms)
}

fn started(url: &str, counts: &Arc<Counts>) -> Journal {
    Journal::start(config(url), JournalKeep::default(), counts.observer())
}

async fn scan(url: &str, since_ms: i64, numbers: &[&str]) -> Result<(Vec<JournalEvent>, JournalScan)> {
    let reader = JournalReader::open(&config(url)).await?.context("there is no journal")?;
    let mut events = Vec::new();
    let scan = reader.scan(since_ms, numbers, |event| events.push(event)).await?;
    reader.close().await;
    Ok((events, scan))
}

/// How many events there are; none without a journal.
async fn count(url: &str) -> usize {
    let Ok(Some(reader)) = JournalReader::open(&config(url)).await else { return 0 };
    let mut count = 0;
    let read = reader.scan(0, &[], |_| count += 1).await;
    reader.close().await;
    if read.is_ok() { count } else { 0 }
}

async fn arguments(node: &Node, url: &str) -> Result<String> {
    let queues = node.ctl(&["list_queues", "--vhost", vhost(url)?, "name", "arguments"]).await?;
    let line = queues.lines().find(|line| line.starts_with(&format!("{JOURNAL}\t")));
    Ok(line.context("no journal")?.to_owned())
}

fn dropped(counts: &Counts) -> usize {
    counts.journal_dropped.load(Ordering::Relaxed)
}

#[tokio::test]
async fn events_are_kept_in_order_with_the_retention_of_the_settings() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("journal-order").await?;
    assert!(JournalReader::open(&config(&url)).await?.is_none(), "nobody has written yet");
    let counts = Arc::new(Counts::default());
    let keep = JournalKeep { max_age: Duration::from_secs(7 * 86_400), max_bytes: 20_000_000 };
    let journal = Journal::start(config(&url), keep, counts.observer());
    (0..1_234).for_each(|n| journal.write(event(n)));
    journal.close(SOON).await;
    let (events, read) = scan(&url, 0, &[]).await?;
    assert_eq!(events, (0..1_234).map(event).collect::<Vec<_>>());
    assert_eq!((read.read, read.unreadable, read.earliest_ms), (1_234, 0, Some(FIRST_MS)));
    let arguments = arguments(node, &url).await?;
    for part in ["\"stream\"", "x-max-age", "\"7D\"", "20000000", "2000000", "x-stream-filter-size-bytes"] {
        assert!(arguments.contains(part), "{part} is missing in {arguments}");
    }
    assert_eq!(dropped(&counts), 0);
    Ok(())
}

#[tokio::test]
async fn a_reading_begins_with_a_time_and_keeps_to_some_numbers() -> Result<()> {
    let url = shared_broker().await?.vhost("journal-since").await?;
    let counts = Arc::new(Counts::default());
    let journal = started(&url, &counts);
    (0..300).for_each(|n| journal.write(event(n)));
    journal.close(SOON).await;
    let since = FIRST_MS + 290_000;
    let numbers = |events: &[JournalEvent]| events.iter().map(|e| e.number.clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&scan(&url, since, &[]).await?.0).len(), 10);
    assert_eq!(numbers(&scan(&url, 0, &["RK7", "RK299"]).await?.0), ["RK7", "RK299"]);
    assert_eq!(numbers(&scan(&url, since, &["RK7", "RK295"]).await?.0), ["RK295"]);
    // A number that the last event doesn't have, and one that nobody has.
    assert_eq!(numbers(&scan(&url, 0, &["RK7"]).await?.0), ["RK7"]);
    assert!(scan(&url, 0, &["RK999"]).await?.0.is_empty());
    // Nothing is that late.
    let late = i64::MAX / 2;
    assert!(scan(&url, late, &[]).await?.0.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_broker_that_can_passes_over_what_is_not_wanted() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("journal-filter").await?;
    let counts = Arc::new(Counts::default());
    // Confirmed one after the other, so that each lot is a chunk of its own at least.
    for lot in 0..8 {
        let journal = started(&url, &counts);
        (lot * 40..(lot + 1) * 40).for_each(|n| journal.write(event(n)));
        journal.close(SOON).await;
    }
    let (events, read) = scan(&url, 0, &["RK3"]).await?;
    assert_eq!(events, [event(3)]);
    if node.version()? >= (3, 13) {
        // The lot that it is in, that of the last event, and perhaps one that the filter takes for another.
        assert!(read.read <= 3 * 40, "{read:?}");
    } else {
        assert_eq!(read.read, 8 * 40, "{read:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reading_ends_while_others_write_on() -> Result<()> {
    let url = shared_broker().await?.vhost("journal-busy").await?;
    let counts = Arc::new(Counts::default());
    let journal = started(&url, &counts);
    (0..50).for_each(|n| journal.write(event(n)));
    wait_until(SOON, "50 events", async || count(&url).await == 50).await?;
    let busy = {
        let journal = journal.clone();
        tokio::spawn(async move {
            // One every few milliseconds, far in the future, so that the reader can't wait for silence.
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            for n in 10_000_000_usize.. {
                tick.tick().await;
                journal.write(event(n));
            }
        })
    };
    let read = tokio::time::timeout(SOON, scan(&url, 0, &[])).await;
    busy.abort();
    let (events, _) = read.context("the reading never ends")??;
    assert_eq!(events[..50], (0..50).map(event).collect::<Vec<_>>());
    journal.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_stream_with_other_arguments_stays_as_it_is_and_is_written() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("journal-other").await?;
    let (_connection, channel) = outsider(&url).await?;
    let mut others = FieldTable::default();
    others.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    others.insert("x-max-age".into(), AMQPValue::LongString("1D".into()));
    channel.queue_declare(JOURNAL.into(), QueueDeclareOptions::durable(), others).await?;
    let counts = Arc::new(Counts::default());
    let journal = started(&url, &counts);
    journal.write(event(1));
    journal.close(SOON).await;
    assert_eq!(scan(&url, 0, &[]).await?.0, [event(1)]);
    let arguments = arguments(node, &url).await?;
    assert!(arguments.contains("\"1D\"") && !arguments.contains("x-max-length-bytes"), "{arguments}");
    Ok(())
}

#[tokio::test]
async fn a_queue_of_that_name_which_is_no_stream_is_left_alone() -> Result<()> {
    let url = shared_broker().await?.vhost("journal-quorum").await?;
    let (_connection, channel) = outsider(&url).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(JOURNAL.into(), QueueDeclareOptions::durable(), quorum).await?;
    let counts = Arc::new(Counts::default());
    let journal = started(&url, &counts);
    journal.write(event(1));
    journal.close(SOON).await;
    assert_eq!(dropped(&counts), 1);
    let inspector = Inspector::open(&config(&url)).await?;
    assert_eq!(inspector.depth(JOURNAL).await?.context("gone")?.ready, 0);
    inspector.close().await;
    let reader = JournalReader::open(&config(&url)).await?.context("there is a queue")?;
    let refused = reader.scan(0, &[], |_| {}).await.map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|text| text.contains("no stream")), "{refused:?}");
    Ok(())
}

/// Work goes on whatever becomes of the stream: every message that is sent arrives, as many as without any trouble.
#[tokio::test]
async fn when_the_stream_is_deleted_then_work_goes_on_and_the_stream_comes_back() -> Result<()> {
    let url = shared_broker().await?.vhost("journal-deleted").await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let journal = broker.journal(Some(JournalKeep::default()));
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 100));
    let mut written = 0;
    for round in 0..3 {
        if round > 0 {
            let (connection, channel) = outsider(&url).await?;
            channel.queue_delete(JOURNAL.into(), QueueDeleteOptions::default()).await?;
            connection.close(200, "done".into()).await?;
        }
        let numbers = round * 100..(round + 1) * 100;
        numbers.clone().for_each(|n| journal.write(event(n)));
        publish(&broker, StageName::Transform, numbers).await?;
        crate::acknowledge(receive_many(&mut inboxes[0], 100).await?);
        written += 100;
        // What was written before the stream was deleted is gone with it.
        wait_until(SOON, "the events of this round", async || count(&url).await == 100).await?;
    }
    assert_eq!((written, dropped(&counts), counts.rebuilt()), (300, 0, 0));
    subscription.close(SOON).await;
    journal.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

/// A user without any right on the journal, which is how one looks to a worker whose broker has no streams.
#[tokio::test]
async fn when_the_journal_is_refused_then_work_goes_on_and_what_is_lost_is_counted() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("journal-refused").await?;
    let rights = r"^(kingpost\.|extract\.|transform\.|load\.|cursor\.|instructions\.|reconcile\.|scheduler\.|wait\.).+$";
    let url = user(node, &admin, "without-journal", [rights; 3]).await?;
    let counts = Arc::new(Counts::default());
    let broker = start(&url, counts.observer()).await?;
    let journal = broker.journal(Some(JournalKeep::default()));
    (0..100).for_each(|n| journal.write(event(n)));
    let (subscription, mut inboxes) = broker.subscribe(lane(StageName::Transform, 100));
    publish(&broker, StageName::Transform, 0..100).await?;
    crate::acknowledge(receive_many(&mut inboxes[0], 100).await?);
    subscription.close(SOON).await;
    let begun = std::time::Instant::now();
    journal.close(SOON).await;
    assert!(begun.elapsed() < SOON, "the end is waited for in vain");
    broker.close(SOON).await;
    assert_eq!((dropped(&counts), counts.rebuilt()), (100, 0));
    assert!(JournalReader::open(&config(&admin)).await?.is_none(), "nothing was made");
    Ok(())
}

/// Who may write and not declare writes into a stream that an operator has made.
#[tokio::test]
async fn who_may_not_declare_writes_into_what_is_there() -> Result<()> {
    let node = shared_broker().await?;
    let admin = node.vhost("journal-applied").await?;
    let url = user(node, &admin, "only-writes", ["^$", "^journal$", "^$"]).await?;
    let counts = Arc::new(Counts::default());
    let journal = started(&url, &counts);
    journal.write(event(1));
    journal.close(SOON).await;
    assert_eq!(dropped(&counts), 1, "there is nothing to write into yet");
    JournalKeep::default().apply(&config(&admin), false).await?;
    let journal = started(&url, &counts);
    journal.write(event(2));
    journal.close(SOON).await;
    assert_eq!(scan(&admin, 0, &[]).await?.0, [event(2)]);
    Ok(())
}

/// Nobody answers at the address, so that nothing leaves the buffer.
#[tokio::test]
async fn a_full_buffer_drops_the_oldest_and_counts_them() -> Result<()> {
    let counts = Arc::new(Counts::default());
    let journal = started(&format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port()?), &counts);
    // In one go: the task that empties the buffer has no turn meanwhile.
    (0..10_250).for_each(|n| journal.write(event(n)));
    assert_eq!(dropped(&counts), 250);
    journal.close(SOON).await;
    assert_eq!(dropped(&counts), 10_250, "what was never taken is counted at the end");
    Ok(())
}
