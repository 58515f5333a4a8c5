//! Reading the journal from a time to its end as of now.

use std::{
    ops::ControlFlow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kingpost_model::JournalEvent;
use lapin::{Connection, message::Delivery};

use super::JOURNAL;
use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    inspect::ready,
    stream::{End, Offset, Stream},
};

/// How much earlier than asked for the reading begins: the broker goes by its own clock and by when it was told.
const MARGIN_S: u64 = 300;

/// What a reading saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalScan {
    /// Events that were read, those before the asked time and of other numbers too, where the broker didn't pass over them.
    pub read: u64,
    /// Messages that are no events.
    pub unreadable: u64,
    /// When the earliest event that was read happened, in milliseconds since the epoch.
    pub earliest_ms: Option<i64>,
}

/// Reads the journal; takes nothing out of it.
pub struct JournalReader {
    connection: Connection,
    timeout: Duration,
}

impl JournalReader {
    /// Opens the journal; nothing where there is none, because nobody has written yet or because it is off.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn open(config: &BrokerConfig) -> Result<Option<Self>, ConnectError> {
        let connection = open(config, Role::Inspect).await?;
        let there = ready(&connection, JOURNAL).await?.is_some();
        let reader = JournalReader { connection, timeout: config.confirm_timeout };
        if there {
            return Ok(Some(reader));
        }
        reader.close().await;
        Ok(None)
    }

    /// Hands every event since a time, in milliseconds since the epoch, to `each`, in the order in which the broker got
    /// them, up to those that are there when the reading begins. With `numbers` only events whose own `number` is one of
    /// them; a broker from 3.13 on passes over most of the others itself. An event may come twice, when the writer never
    /// heard that the first was taken.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker doesn't answer or refuses, or when the queue is no stream.
    pub async fn scan(
        &self,
        since_ms: i64,
        numbers: &[&str],
        mut each: impl FnMut(JournalEvent),
    ) -> Result<JournalScan, ConnectError> {
        let mut scan = JournalScan::default();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let stream = Stream { connection: &self.connection, queue: JOURNAL, timeout: self.timeout };
        let is_later = |delivery: &Delivery| {
            let events = JournalEvent::read_all(&delivery.data).unwrap_or_default();
            events.last().is_some_and(|event| event.at_ms > now_ms)
        };
        let end = stream.end(is_later).await?.ok_or_else(no_stream)?;
        let Some(end) = end else { return Ok(scan) };
        let since_s = u64::try_from(since_ms.div_euclid(1_000)).unwrap_or(0);
        if end.published_s.is_some_and(|published_s| published_s < since_s) {
            return Ok(scan);
        }
        let from = match since_s.saturating_sub(MARGIN_S) {
            0 => Offset::First,
            seconds => Offset::Time(seconds),
        };
        let values = values(numbers, &end);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let follower = stream.follow(from, &values).await?.ok_or_else(no_stream)?;
        let take = |delivery: &Delivery| {
            let Ok(events) = JournalEvent::read_all(&delivery.data) else {
                scan.unreadable += 1;
                return ControlFlow::Break(());
            };
            for event in events {
                scan.read += 1;
                scan.earliest_ms = Some(scan.earliest_ms.map_or(event.at_ms, |ms| ms.min(event.at_ms)));
                let wanted = numbers.is_empty() || numbers.contains(&event.number.as_str());
                if wanted && event.at_ms >= since_ms {
                    each(event);
                }
            }
            // What was there at the beginning is read; the rest is of later.
            ControlFlow::Break(())
        };
        stream.read(follower, Some(&end), take).await?;
        Ok(scan)
    }

    /// Closes the connection.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.close(200, "read".into())).await;
    }
}

/// What the broker is asked not to pass over: the numbers, and that of the last event, since without it the end would
/// never be seen.
fn values(numbers: &[&str], end: &End) -> Vec<String> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let mut values: Vec<String> = numbers.iter().map(|number| (*number).to_owned()).collect();
    // A packed one has no number, and nothing without one is passed over.
    if let Ok(event) = JournalEvent::read(&end.body) {
        values.push(event.number);
    }
    values
}

fn no_stream() -> ConnectError {
    ConnectError::Refused(format!("the queue `{JOURNAL}` is no stream, so it is not the journal"))
}
