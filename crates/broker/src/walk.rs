//! Walking over a queue from its head without taking anything, and acknowledging what was passed on.
//!
//! A consumer may hold at most 65,535 messages, and on a quorum queue one without a limit holds 2,000. The client buffers
//! all that the broker sends, so the limit is also the memory. Therefore a walk goes in spans: a channel with one
//! consumer and a limit of its own each, the next one opened when the one before is full. What isn't acknowledged stays
//! with its span until the walk ends, so that nothing is read twice, and returns span by span, in the queue's order.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};

use crate::{connection::ConnectError, topology::short};

/// The first span, before the size of messages is known.
const FIRST_SPAN: u16 = 64;
/// The largest span.
const SPAN_MAX: u16 = 4_096;
/// Bytes that a span should not exceed.
const SPAN_BYTES: usize = 16 * 1024 * 1024;

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

    /// Acknowledges messages. An error means that some may still be in the queue.
    pub(crate) async fn acknowledge(&mut self, tickets: &[Ticket]) -> Result<(), ConnectError> {
        let acknowledge = async {
            for ticket in tickets {
                let Some(span) = self.spans.get_mut(ticket.span) else { continue };
                // A write to a channel that is gone would be taken for an acknowledgement otherwise.
                if !span.channel.status().connected() {
                    return Err(ConnectError::Absent("the connection ended".to_owned()));
                }
                let acked = span.channel.basic_ack(ticket.tag, BasicAckOptions::default()).await;
                acked.map_err(|e| ConnectError::of(&e))?;
                span.open = span.open.saturating_sub(1);
                self.acked += 1;
            }
            Ok(())
        };
        tokio::time::timeout(self.timeout, acknowledge).await.map_err(|_| answerless())?
    }

    /// Ends the walk: what was not acknowledged returns to its place. The broker has seen every acknowledgement when this
    /// succeeds, since it answers each channel's end.
    pub(crate) async fn close(mut self) -> Result<(), ConnectError> {
        self.consumer = None;
        let close = async {
            for span in &self.spans {
                span.channel.close(200, "read".into()).await.map_err(|e| ConnectError::of(&e))?;
            }
            Ok(())
        };
        tokio::time::timeout(self.timeout, close).await.map_err(|_| answerless())?
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
            self.spans.push(Span { channel, open: 0, limit });
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
        wanted.min(u16::try_from(self.mark - self.seen.min(self.mark)).unwrap_or(u16::MAX)).max(1)
    }
}
