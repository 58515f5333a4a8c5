//! Walking over a queue from its head without taking anything, and acknowledging what was passed on.
//!
//! A consumer may hold at most 65,535 messages, and on a quorum queue one without a limit holds 2,000. The client buffers
//! all that the broker sends, so the limit is also the memory. Therefore a walk goes in spans: a channel with one
//! consumer and a limit of its own each, the next one opened when the one before is full. What isn't acknowledged stays
//! with its span until the walk ends, so that nothing is read twice, and returns span by span. A queue that is walked over
//! whole keeps its order; one that is walked over in part has those messages behind the others that were ever returned.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    types::FieldTable,
};

use tokio::time::Instant;

use crate::{
    connection::ConnectError,
    inspect::{RETURN_MAX, RETURN_PAUSE, ready},
    topology::short,
};

/// The first span, before the size of messages is known.
const FIRST_SPAN: u16 = 64;
/// The largest span.
const SPAN_MAX: u16 = 4_096;
/// Bytes that a span should not exceed.
const SPAN_BYTES: usize = 16 * 1024 * 1024;

/// Messages that are fetched to wait for acknowledgements: one for what is under way, one for what was kept back, and one
/// to be sure.
const BARRIERS: usize = 3;

/// Where a delivery came from; it can be acknowledged there and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    span: usize,
    tag: u64,
}

struct Span {
    channel: Channel,
    /// Delivered and not acknowledged.
    open: usize,
    limit: u16,
    /// Everything up to this tag is acknowledged.
    prefix: u64,
    /// Acknowledged tags behind it.
    behind: BTreeSet<u64>,
}

impl Span {
    /// Acknowledges tags with as few commands as possible.
    async fn acknowledge(&mut self, tags: &[u64]) -> Result<(), ConnectError> {
        let old = self.prefix;
        self.behind.extend(tags);
        while self.behind.remove(&(self.prefix + 1)) {
            self.prefix += 1;
        }
        // The broker refuses a tag that it has seen acknowledged, so the last new one stands for its run.
        let run = tags.iter().copied().filter(|tag| *tag > old && *tag <= self.prefix).max();
        let alone = tags.iter().copied().filter(|tag| *tag > self.prefix).map(|tag| (tag, false));
        for (tag, multiple) in run.map(|tag| (tag, true)).into_iter().chain(alone) {
            // A write to a channel that is gone would be taken for an acknowledgement otherwise.
            if !self.channel.status().connected() {
                return Err(ConnectError::Absent("the connection ended".to_owned()));
            }
            let acked = self.channel.basic_ack(tag, BasicAckOptions { multiple }).await;
            acked.map_err(|e| ConnectError::of(&e))?;
        }
        self.open = self.open.saturating_sub(tags.len());
        Ok(())
    }

    /// Waits until the queue has carried out what was acknowledged.
    ///
    /// The channel of a quorum queue passes acknowledgements on without waiting, keeps back what is too much at once, and
    /// forgets it when it is closed (seen on 3.10 with a few dozen of them). A message that is asked for is fetched from
    /// the queue itself, behind everything that was passed on; what was kept back follows then, and is covered by the next.
    async fn settled(&self, queue: &str) -> Result<(), ConnectError> {
        for _ in 0..BARRIERS {
            let got = self.channel.basic_get(short(queue)?, BasicGetOptions::default()).await;
            got.map_err(|e| ConnectError::of(&e))?;
        }
        Ok(())
    }

    fn has_acked(&self) -> bool {
        self.prefix > 0 || !self.behind.is_empty()
    }
}

/// A walk over one queue.
pub(crate) struct Walk<'a> {
    connection: &'a Connection,
    queue: String,
    /// How many messages belong to it at most.
    mark: usize,
    /// Silence after which nothing more is expected.
    quiet: Duration,
    timeout: Duration,
    spans: Vec<Span>,
    /// That of the last span.
    consumer: Option<Consumer>,
    seen: usize,
    bytes: usize,
    acked: usize,
}

fn answerless() -> ConnectError {
    ConnectError::Absent("the broker did not answer in time while a queue was read".to_owned())
}

impl<'a> Walk<'a> {
    /// A walk over the first `mark` messages.
    pub(crate) fn new(
        connection: &'a Connection,
        queue: &str,
        mark: usize,
        quiet: Duration,
        timeout: Duration,
    ) -> Self {
        let queue = queue.to_owned();
        Walk {
            connection,
            queue,
            mark,
            quiet,
            timeout,
            spans: Vec::new(),
            consumer: None,
            seen: 0,
            bytes: 0,
            acked: 0,
        }
    }

    /// How many messages belong to it at most.
    pub(crate) fn mark(&self) -> usize {
        self.mark
    }

    /// How many were delivered.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// How many were acknowledged.
    pub(crate) fn acked(&self) -> usize {
        self.acked
    }

    /// The next message; nothing at the mark, or when the queue is silent.
    pub(crate) async fn next(&mut self) -> Result<Option<(Delivery, Ticket)>, ConnectError> {
        self.next_within(self.quiet).await
    }

    /// The next message; nothing at the mark, or when the queue is silent for that long.
    pub(crate) async fn next_within(
        &mut self,
        quiet: Duration,
    ) -> Result<Option<(Delivery, Ticket)>, ConnectError> {
        if self.seen >= self.mark {
            return Ok(None);
        }
        if self.spans.last().is_none_or(|span| span.open >= usize::from(span.limit)) {
            self.open_span().await?;
        }
        let Some(consumer) = &mut self.consumer else { return Ok(None) };
        match tokio::time::timeout(quiet, consumer.next()).await {
            // Somebody else may have taken some meanwhile: silence ends the walk as well.
            Err(_) => Ok(None),
            Ok(Some(Ok(delivery))) => {
                self.seen += 1;
                self.bytes += delivery.data.len();
                let ticket = Ticket { span: self.spans.len() - 1, tag: delivery.delivery_tag };
                if let Some(span) = self.spans.last_mut() {
                    span.open += 1;
                }
                Ok(Some((delivery, ticket)))
            }
            Ok(Some(Err(error))) => Err(ConnectError::of(&error)),
            Ok(None) => {
                Err(ConnectError::Absent(format!("the broker ended the reading of `{}`", self.queue)))
            }
        }
    }

    /// Acknowledges messages; certain once the walk is closed. An error means that some may still be in the queue.
    pub(crate) async fn acknowledge(&mut self, tickets: &[Ticket]) -> Result<(), ConnectError> {
        let timeout = self.timeout;
        let acknowledge = async {
            for same_span in tickets.chunk_by(|one, other| one.span == other.span) {
                let tags: Vec<u64> = same_span.iter().map(|ticket| ticket.tag).collect();
                let span = same_span.first().and_then(|ticket| self.spans.get_mut(ticket.span));
                if let Some(span) = span {
                    span.acknowledge(&tags).await?;
                    self.acked += tags.len();
                }
            }
            Ok(())
        };
        tokio::time::timeout(timeout, acknowledge).await.map_err(|_| answerless())?
    }

    /// Ends the walk: what was not acknowledged returns. The queue has carried out every acknowledgement when this succeeds.
    pub(crate) async fn close(mut self) -> Result<(), ConnectError> {
        let timeout = self.timeout + RETURN_MAX;
        let close = async {
            if let (Some(consumer), Some(span)) = (self.consumer.take(), self.spans.last()) {
                // Otherwise what returns from the first spans could be sent to the last one again, and end up behind.
                let cancelled =
                    span.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
                cancelled.map_err(|e| ConnectError::of(&e))?;
            }
            for span in self.spans.iter().filter(|span| span.has_acked()) {
                span.settled(&self.queue).await?;
            }
            let returns = Instant::now() + RETURN_MAX;
            let several = self.spans.len() > 1;
            let mut expected =
                if several { ready(self.connection, &self.queue).await?.unwrap_or(0) } else { 0 };
            for span in &self.spans {
                span.channel.close(200, "read".into()).await.map_err(|e| ConnectError::of(&e))?;
                expected = expected.saturating_add(u32::try_from(span.open).unwrap_or(u32::MAX));
                if several {
                    self.wait_ready(expected, returns).await?;
                }
            }
            Ok(())
        };
        tokio::time::timeout(timeout, close).await.map_err(|_| answerless())?
    }

    /// The broker answers the close of a channel before the queue has its messages back; a span that is closed meanwhile
    /// could overtake it. Whoever publishes or takes meanwhile makes this inexact, and only the order is at stake.
    async fn wait_ready(&self, expected: u32, until: Instant) -> Result<(), ConnectError> {
        while Instant::now() < until
            && ready(self.connection, &self.queue).await?.is_some_and(|there| there < expected)
        {
            tokio::time::sleep(RETURN_PAUSE).await;
        }
        Ok(())
    }

    async fn open_span(&mut self) -> Result<(), ConnectError> {
        let timeout = self.timeout;
        let open = async {
            if let (Some(consumer), Some(span)) = (self.consumer.take(), self.spans.last()) {
                // Without this it would be sent more as soon as something of it is acknowledged.
                let cancelled =
                    span.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await;
                cancelled.map_err(|e| ConnectError::of(&e))?;
            }
            let limit = self.span_limit();
            let channel = self.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
            channel.basic_qos(limit, BasicQosOptions::default()).await.map_err(|e| ConnectError::of(&e))?;
            let options = BasicConsumeOptions::default();
            let queue = short(&self.queue)?;
            let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await;
            self.consumer = Some(consumer.map_err(|e| ConnectError::of(&e))?);
            self.spans.push(Span { channel, open: 0, limit, prefix: 0, behind: BTreeSet::new() });
            Ok(())
        };
        tokio::time::timeout(timeout, open).await.map_err(|_| answerless())?
    }

    fn span_limit(&self) -> u16 {
        let wanted = match self.bytes.checked_div(self.seen) {
            None => FIRST_SPAN,
            Some(mean) => {
                let fit = SPAN_BYTES / mean.max(1);
                u16::try_from(fit).unwrap_or(SPAN_MAX).clamp(1, SPAN_MAX)
            }
        };
        // A walk that ends soon hasn't asked for more than twice what it saw.
        let grown = self.spans.last().map_or(FIRST_SPAN, |last| last.limit.saturating_mul(2));
        wanted
            .min(grown.max(FIRST_SPAN))
            .min(u16::try_from(self.mark - self.seen.min(self.mark)).unwrap_or(u16::MAX))
            .max(1)
    }
}
