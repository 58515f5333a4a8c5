//! Reading a stream from somewhere to its end, which nothing marks.

use std::{ops::ControlFlow, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, Consumer, ErrorKind,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldArray, FieldTable, LongString},
};

use crate::{connection::ConnectError, inspect::ready, topology::short};

/// Unsettled messages while a stream is read.
const PREFETCH: u16 = 1_000;
/// Messages that one acknowledgement covers.
const ACKNOWLEDGE_EVERY: usize = 200;
/// Silence after which no further message is expected.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// How long the last message of a stream is looked for that is being written to.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Where the reading of a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// With the oldest message that is kept.
    First,
    /// With the last chunk that was written.
    Last,
    /// With what comes from now on.
    Next,
    /// With the chunk of this time or the first one after it, in seconds since the epoch by the broker's clock.
    Time(u64),
}

impl Offset {
    fn value(self) -> AMQPValue {
        let word = |word: &str| AMQPValue::LongString(LongString::from(word));
        match self {
            Offset::First => word("first"),
            Offset::Last => word("last"),
            Offset::Next => word("next"),
            Offset::Time(seconds) => AMQPValue::Timestamp(seconds),
        }
    }
}

/// The last message of a stream.
pub(crate) struct End {
    pub(crate) offset: i64,
    pub(crate) body: Vec<u8>,
    /// When it was published, in seconds since the epoch, where it says so.
    pub(crate) published_s: Option<u64>,
}

/// A stream, read over a connection.
pub(crate) struct Stream<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) queue: &'static str,
    pub(crate) timeout: Duration,
}

/// A consumer of a stream.
pub(crate) struct Follower {
    channel: Channel,
    consumer: Consumer,
    open: usize,
    timeout: Duration,
}

impl Stream<'_> {
    /// Follows the stream from an offset on; nothing where the queue is no stream. A broker from 3.13 on passes over what
    /// has none of these filter values, as far as it can tell, when any are given; an older one passes over nothing.
    pub(crate) async fn follow(
        &self,
        from: Offset,
        values: &[&str],
    ) -> Result<Option<Follower>, ConnectError> {
        let channel = self.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(|e| ConnectError::of(&e))?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from.value());
        if !values.is_empty() {
            let values = values.iter().map(|value| AMQPValue::LongString(LongString::from(*value)));
            let values = FieldArray::from(values.collect::<Vec<_>>());
            arguments.insert("x-stream-filter".into(), AMQPValue::FieldArray(values));
            arguments.insert("x-stream-match-unfiltered".into(), AMQPValue::Boolean(true));
        }
        let options = BasicConsumeOptions::default();
        match channel.basic_consume(short(self.queue)?, "".into(), options, arguments).await {
            Ok(consumer) => Ok(Some(Follower { channel, consumer, open: 0, timeout: self.timeout })),
            Err(error) if is_no_stream(&error) => Ok(None),
            Err(error) => Err(ConnectError::of(&error)),
        }
    }

    /// The last message; nothing where the queue is no stream, and nothing inside in an empty one, which shows no message
    /// however long one waits, so that the count of the broker has to say whether there is one to wait for. While the
    /// stream is written to, a message counts as the last one that `is_later` says it of.
    pub(crate) async fn end(
        &self,
        is_later: impl Fn(&Delivery) -> bool,
    ) -> Result<Option<Option<End>>, ConnectError> {
        let Some(mut follower) = self.follow(Offset::Last, &[]).await? else { return Ok(None) };
        let some = ready(self.connection, self.queue).await?.is_some_and(|count| count > 0);
        let (mut last, mut limit): (Option<End>, _) = (None, if some { self.timeout } else { QUIET });
        let mut until = None;
        while let Some(delivery) = follower.next(limit).await? {
            let now = tokio::time::Instant::now();
            let enough = is_later(&delivery) || now >= *until.get_or_insert(now + LAST_MAX);
            if let Some(offset) =
                offset(&delivery.properties).filter(|o| last.as_ref().is_none_or(|l| *o > l.offset))
            {
                let published_s = *delivery.properties.timestamp();
                last = Some(End { offset, body: delivery.data, published_s });
            }
            if enough {
                break;
            }
            limit = QUIET;
        }
        follower.close().await;
        if some && last.is_none() { Err(self.cut_off()) } else { Ok(Some(last)) }
    }

    /// Reads on until the end was seen; a silence before that is no end. What `take` returns then says whether to go on
    /// with what is written meanwhile.
    pub(crate) async fn read(
        &self,
        mut follower: Follower,
        end: Option<&End>,
        mut take: impl FnMut(&Delivery) -> ControlFlow<()>,
    ) -> Result<(), ConnectError> {
        let mut seen = None;
        let end = end.map(|end| end.offset);
        loop {
            let whole = seen >= end;
            match follower.next(if whole { QUIET } else { self.timeout }).await? {
                Some(delivery) => {
                    let flow = take(&delivery);
                    seen = offset(&delivery.properties).max(seen);
                    if flow.is_break() && seen >= end {
                        break;
                    }
                }
                None if whole => break,
                None => return Err(self.cut_off()),
            }
        }
        follower.close().await;
        Ok(())
    }

    fn cut_off(&self) -> ConnectError {
        let queue = self.queue;
        ConnectError::Absent(format!("`{queue}` fell silent before its last event was read; try again"))
    }
}

impl Follower {
    /// The next message; nothing when none comes in time, or when the consumer has ended.
    async fn next(&mut self, limit: Duration) -> Result<Option<Delivery>, ConnectError> {
        let Ok(Some(next)) = tokio::time::timeout(limit, self.consumer.next()).await else { return Ok(None) };
        let delivery = next.map_err(|e| ConnectError::of(&e))?;
        self.open += 1;
        if self.open == ACKNOWLEDGE_EVERY {
            self.open = 0;
            let options = BasicAckOptions { multiple: true };
            let acked = self.channel.basic_ack(delivery.delivery_tag, options).await;
            acked.map_err(|e| ConnectError::of(&e))?;
        }
        Ok(Some(delivery))
    }

    /// Ends the reading.
    pub(crate) async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.channel.close(200, "read".into())).await;
    }
}

/// Where in the stream a message stands.
fn offset(properties: &BasicProperties) -> Option<i64> {
    match properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => Some(*offset),
        _ => None,
    }
}

fn is_no_stream(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e)
        if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
}
