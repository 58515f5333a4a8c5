//! What the transformer is compared with: the least that moves messages from one queue to another without losing one,
//! tuned. It knows no retries, no dead letters, no reconnecting, no draining, no metrics and no health.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use kingpost_model::{Route, StageName, WORK_EXCHANGE};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use super::by_hand::{self, Tables};
use crate::pipeline::SCHEME;

const PREFETCH: u16 = 256;

/// Relays until it is killed; with `tables` it maps, without it passes on the same bytes.
///
/// # Errors
/// Anything at all: there is nothing here that could go on after an error.
pub async fn run(url: &str, tables: Option<&Tables>) -> Result<()> {
    let incoming = Connection::connect(url, ConnectionProperties::default()).await?;
    let outgoing = Connection::connect(url, ConnectionProperties::default()).await?;
    let (input, output) = (incoming.create_channel().await?, outgoing.create_channel().await?);
    output.confirm_select(ConfirmSelectOptions::default()).await?;
    input.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let queue = ShortString::from(Route::new(StageName::Transform, SCHEME).queue());
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut deliveries = input.basic_consume(queue, "".into(), options, arguments).await?;
    let mut confirms = FuturesUnordered::new();
    let mut acks = FuturesUnordered::new();
    let mut window = Window::default();
    loop {
        tokio::select! {
            delivery = deliveries.next() => {
                let mut next = delivery;
                while let Some(delivery) = next {
                    let delivery = delivery?;
                    window.delivered(delivery.delivery_tag);
                    confirms.push(publish(&output, delivery, tables));
                    next = deliveries.next().now_or_never().flatten();
                }
                ensure!(input.status().connected(), "the consumer ended");
            }
            Some(confirmed) = confirms.next(), if !confirms.is_empty() => {
                let mut next = Some(confirmed);
                while let Some(confirmed) = next {
                    window.confirmed(confirmed?);
                    next = confirms.next().now_or_never().flatten();
                }
                if let Some(tag) = window.prefix() {
                    acks.push(input.basic_ack(tag, BasicAckOptions { multiple: true }));
                }
            }
            Some(written) = acks.next(), if !acks.is_empty() => written?,
        }
    }
}

async fn publish(output: &Channel, delivery: Delivery, tables: Option<&Tables>) -> Result<u64> {
    let Delivery { delivery_tag, data, properties, .. } = delivery;
    let body = match tables {
        None => data,
        Some(tables) => {
            let mut model = Vec::with_capacity(data.len());
            by_hand::map(&data, tables, &mut model)?;
            model
        }
    };
    match send(output, &body, properties).await? {
        Confirmation::Ack(None) => Ok(delivery_tag),
        other => bail!("not taken by the queue: {other:?}"),
    }
}

async fn send(output: &Channel, body: &[u8], properties: BasicProperties) -> Result<Confirmation> {
    let key = ShortString::from(Route::new(StageName::Load, SCHEME).queue());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = output.basic_publish(WORK_EXCHANGE.into(), key, options, body, properties);
    sent.await?.await.context("no confirm")
}

/// The deliveries in hand, in order; one acknowledgement covers all up to the first unconfirmed one.
#[derive(Default)]
struct Window {
    first: u64,
    confirmed: VecDeque<bool>,
}

impl Window {
    fn delivered(&mut self, tag: u64) {
        if self.confirmed.is_empty() {
            self.first = tag;
        }
        self.confirmed.push_back(false);
    }

    fn confirmed(&mut self, tag: u64) {
        let index = usize::try_from(tag - self.first).unwrap_or(usize::MAX);
        if let Some(confirmed) = self.confirmed.get_mut(index) {
            *confirmed = true;
        }
    }

    fn prefix(&mut self) -> Option<u64> {
        let mut last = None;
        while self.confirmed.pop_front_if(|confirmed| *confirmed).is_some() {
            last = Some(self.first);
            self.first += 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_never_covers_what_is_unconfirmed() {
        let mut window = Window::default();
        (1..=4).for_each(|tag| window.delivered(tag));
        window.confirmed(2);
        assert_eq!(window.prefix(), None);
        window.confirmed(1);
        assert_eq!(window.prefix(), Some(2));
        window.confirmed(4);
        window.confirmed(3);
        assert_eq!(window.prefix(), Some(4));
    }
}
