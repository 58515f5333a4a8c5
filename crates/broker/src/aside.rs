//! Messages that the broker refuses by closing the channel: how the one among many is found, and kept from holding up the
//! others.
//!
//! A refusal of this kind (no right to write, no such exchange, a body too large) names no message, and takes the fate of
//! all unconfirmed ones with it. So each of those is tried alone, on a channel of its own, before anything else is
//! published. The one that is refused again is set aside with all that is like it, and one of them is tried again after
//! a while, beside the rest.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kingpost_model::BoxFuture;
use lapin::{
    Channel, Confirmation, Connection, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::ShortString,
};
use tracing::{error, info, warn};

use crate::posting::Envelope;

/// Pause before a message that was set aside is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a right that was granted is noticed soon, and each refusal costs one of the 2,047 channels of a
/// connection, which is built anew when they are used up.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A message and the number of its group.
pub(crate) type Message = (Envelope, u64);

/// Why the broker refused a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// This user may not write to its exchange, or there is none.
    Exchange,
    /// Its body is too large.
    Size,
    /// Something else.
    Other,
}

/// How a message that was tried alone fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A queue has it.
    Taken,
    /// No queue takes it.
    Returned,
    /// Its queue refuses it.
    Nacked,
    /// The broker closed the channel.
    Refused(Why, String),
    /// Nothing is known.
    Unknown(String),
}

/// What a refused message has in common with others.
#[derive(Debug, PartialEq, Eq)]
enum Like {
    Exchange(ShortString),
    /// Bodies of so many bytes and more.
    Bytes(usize),
    Alone,
}

impl Like {
    fn is(&self, envelope: &Envelope) -> bool {
        match self {
            Like::Exchange(exchange) => *exchange == envelope.exchange,
            Like::Bytes(bytes) => envelope.body.len() >= *bytes,
            Like::Alone => false,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Like::Exchange(exchange) => format!(
                "give the user of AMQP_URL write permission on `{exchange}`, or have `kingpost topology apply` run if it \
                 is missing"
            ),
            Like::Bytes(_) => {
                "raise `max_message_size` of RabbitMQ to 16 MiB; 4.0 and later read it at their start"
                    .to_owned()
            }
            Like::Alone => "RabbitMQ's log may say more".to_owned(),
        }
    }
}

/// Messages that are set aside together.
#[derive(Debug)]
struct Refusal {
    like: Like,
    pause: Duration,
    /// When one of them is tried again.
    at: Instant,
    waiting: VecDeque<Message>,
}

/// A message that is tried alone just now.
#[derive(Debug)]
struct Trial {
    message: Message,
    since: Instant,
    /// It was set aside by this refusal.
    of: Option<usize>,
}

/// What becomes of a message before it is published with the others.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is published.
    Publish(Message),
    /// It is a report, and of the kind that is refused: nobody waits for it.
    Drop(Message),
    /// It waits with its like.
    Kept,
}

/// What has to be done after a trial.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    /// The message and how it fared, unless it was set aside; a report that is dropped counts as taken.
    pub(crate) ended: Option<(Message, Outcome)>,
    /// Messages that aren't set aside any more.
    pub(crate) freed: VecDeque<Message>,
    /// The routing key of a message that was refused.
    pub(crate) refused: Option<ShortString>,
}

/// What is tried alone, and what is set aside.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    suspects: VecDeque<Message>,
    refusals: Vec<Refusal>,
    trial: Option<Trial>,
}

impl Aside {
    /// Notes what was unconfirmed when the broker closed the channel.
    pub(crate) fn suspect(&mut self, messages: impl DoubleEndedIterator<Item = Message>) {
        messages.rev().for_each(|message| self.suspects.push_front(message));
    }

    /// Nothing else may be published now.
    pub(crate) fn holds(&self) -> bool {
        !self.suspects.is_empty() || self.trial.as_ref().is_some_and(|trial| trial.of.is_none())
    }

    /// Since when a message has been tried.
    pub(crate) fn tried_since(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.since)
    }

    /// The broker didn't take anything until now.
    pub(crate) fn unblocked(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.since = Instant::now();
        }
    }

    /// Decides whether a message may be published with the others.
    pub(crate) fn admit(&mut self, message: Message, now: Instant) -> Admission {
        let Some(refusal) = self.refusals.iter_mut().find(|refusal| refusal.like.is(&message.0)) else {
            return Admission::Publish(message);
        };
        if message.0.is_report() && (now < refusal.at || !refusal.waiting.is_empty()) {
            return Admission::Drop(message);
        }
        refusal.waiting.push_back(message);
        Admission::Kept
    }

    /// The next message to be tried alone, and those that are dropped before it; no message when none is due, or one is
    /// tried just now.
    pub(crate) fn next_trial(&mut self, now: Instant) -> (Option<Envelope>, Vec<Message>) {
        let mut dropped = Vec::new();
        if self.trial.is_some() {
            return (None, dropped);
        }
        while let Some(suspect) = self.suspects.pop_front() {
            match self.admit(suspect, now) {
                Admission::Publish(message) => return (Some(self.begin(message, None, now)), dropped),
                Admission::Drop(message) => dropped.push(message),
                Admission::Kept => {}
            }
        }
        for (index, refusal) in self.refusals.iter_mut().enumerate() {
            if refusal.at <= now
                && let Some(message) = refusal.waiting.pop_front()
            {
                return (Some(self.begin(message, Some(index), now)), dropped);
            }
        }
        (None, dropped)
    }

    fn begin(&mut self, message: Message, of: Option<usize>, now: Instant) -> Envelope {
        let envelope = message.0.clone();
        self.trial = Some(Trial { message, since: now, of });
        envelope
    }

    /// Takes back what was being tried when the session ended.
    pub(crate) fn interrupt(&mut self) {
        let Some(Trial { message, of, .. }) = self.trial.take() else { return };
        match of.and_then(|index| self.refusals.get_mut(index)) {
            Some(refusal) => refusal.waiting.push_front(message),
            None => self.suspects.push_front(message),
        }
    }

    /// Draws the conclusion from a trial.
    pub(crate) fn conclude(&mut self, outcome: Outcome, now: Instant) -> Conclusion {
        let Some(Trial { message, of, .. }) = self.trial.take() else { return Conclusion::default() };
        let Outcome::Refused(why, text) = outcome else {
            let mut freed = VecDeque::new();
            if let Some(index) = of.filter(|index| *index < self.refusals.len()) {
                freed = self.refusals.remove(index).waiting;
                let exchange = message.0.exchange.as_str();
                info!(exchange, messages = freed.len() + 1, "the broker takes what it had refused");
            }
            return Conclusion { ended: Some((message, outcome)), freed, refused: None };
        };
        let refused = Some(message.0.routing_key.clone());
        let refusal = self.refused(&message.0, of, &why, &text, now);
        let ended = match message.0.is_report() {
            true => Some((message, Outcome::Taken)),
            false => {
                refusal.waiting.push_front(message);
                None
            }
        };
        Conclusion { ended, freed: VecDeque::new(), refused }
    }

    /// Notes and tells that a message was refused.
    fn refused(
        &mut self,
        envelope: &Envelope,
        of: Option<usize>,
        why: &Why,
        text: &str,
        now: Instant,
    ) -> &mut Refusal {
        let index = of.filter(|index| *index < self.refusals.len()).unwrap_or_else(|| {
            let like = match why {
                Why::Exchange => Like::Exchange(envelope.exchange.clone()),
                Why::Size => Like::Bytes(envelope.body.len()),
                Why::Other => Like::Alone,
            };
            let pause = FIRST_PAUSE / 2;
            self.refusals.push(Refusal { like, pause, at: now, waiting: VecDeque::new() });
            self.refusals.len() - 1
        });
        let refusal = &mut self.refusals[index];
        refusal.pause = (refusal.pause * 2).min(PAUSE_MAX);
        refusal.at = now + refusal.pause;
        let (exchange, queue) = (envelope.exchange.as_str(), envelope.routing_key.as_str());
        let (seconds, remedy) = (refusal.pause.as_secs(), refusal.like.remedy());
        if envelope.is_report() {
            warn!(
                exchange,
                queue,
                text,
                seconds,
                "the broker refuses a report, so whoever replays doesn't hear of it; it is dropped, as are others until \
                 the next one is tried; {remedy}"
            );
        } else {
            let id = envelope.properties.message_id().as_ref().map_or("", ShortString::as_str);
            error!(
                id,
                exchange,
                queue,
                bytes = envelope.body.len(),
                text,
                seconds,
                "the broker refuses a message; it waits with its like and is tried again, all others go on; {remedy}"
            );
        }
        refusal
    }
}

/// A trial that runs.
pub(crate) type Attempt<'a> = BoxFuture<'a, (Option<Channel>, Outcome)>;

/// The end of a trial; never while none runs.
pub(crate) async fn ended(attempt: &mut Option<Attempt<'_>>) -> (Option<Channel>, Outcome) {
    let Some(running) = attempt else { return std::future::pending().await };
    let ended = running.await;
    *attempt = None;
    ended
}

/// Publishes one message alone on a channel, which is returned when it can be used again.
pub(crate) fn attempt(connection: &Connection, channel: Option<Channel>, envelope: Envelope) -> Attempt<'_> {
    Box::pin(publish(connection, channel, envelope))
}

/// Being the only one on its channel, a message that is returned can't be taken for another.
async fn publish(
    connection: &Connection,
    channel: Option<Channel>,
    envelope: Envelope,
) -> (Option<Channel>, Outcome) {
    let channel = match usable(connection, channel).await {
        Ok(channel) => channel,
        Err(error) => return (None, Outcome::Unknown(error.to_string())),
    };
    let Envelope { exchange, routing_key, properties, body } = envelope;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let sent = match channel.basic_publish(exchange, routing_key, options, &body, properties).await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    let outcome = match sent {
        Ok(Confirmation::Ack(None)) => Outcome::Taken,
        Ok(Confirmation::Nack(None)) => Outcome::Nacked,
        Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Outcome::Returned,
        Ok(Confirmation::NotRequested) => Outcome::Unknown("the channel is not in confirm mode".to_owned()),
        Err(error) => match why(&error).filter(|_| connection.status().connected()) {
            Some(why) => Outcome::Refused(why, error.to_string()),
            None => Outcome::Unknown(error.to_string()),
        },
    };
    (channel.status().connected().then_some(channel), outcome)
}

async fn usable(connection: &Connection, channel: Option<Channel>) -> lapin::Result<Channel> {
    if let Some(channel) = channel.filter(|channel| channel.status().connected()) {
        return Ok(channel);
    }
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// What a broker that closed the channel has against a message.
fn why(error: &lapin::Error) -> Option<Why> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::NOTFOUND) => Some(Why::Exchange),
        // RabbitMQ's words: "message size 200000 is larger than configured max size 100000".
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
            if error.to_string().contains("larger than") =>
        {
            Some(Why::Size)
        }
        AMQPErrorKind::Soft(_) => Some(Why::Other),
        AMQPErrorKind::Hard(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{REPLY_EXCHANGE, WORK_EXCHANGE};
    use lapin::BasicProperties;

    use super::*;

    fn message(exchange: &str, bytes: usize, number: u64) -> Message {
        let (exchange, routing_key) = (ShortString::from(exchange), ShortString::from("load.orders"));
        let envelope = Envelope {
            exchange,
            routing_key,
            properties: BasicProperties::default(),
            body: vec![b'x'; bytes].into(),
        };
        (envelope, number)
    }

    fn work(number: u64) -> Message {
        message(WORK_EXCHANGE, 1, number)
    }

    fn refused(why: Why) -> Outcome {
        Outcome::Refused(why, "no".to_owned())
    }

    fn numbers<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u64> {
        messages.into_iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn suspects_are_tried_in_their_order_and_hold_the_others_until_the_last_is_judged() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        assert!(!aside.holds() && aside.next_trial(now).0.is_none());
        aside.suspect([work(1), message("kingpost.dead", 1, 2), work(3)].into_iter());
        for (number, outcome) in [(1, Outcome::Taken), (2, refused(Why::Exchange)), (3, Outcome::Nacked)] {
            assert!(aside.holds());
            assert!(aside.next_trial(now).0.is_some());
            assert!(aside.holds() && aside.next_trial(now).0.is_none(), "two at a time");
            let ended = aside.conclude(outcome.clone(), now).ended;
            assert_eq!(
                ended.map(|(message, outcome)| (message.1, outcome)),
                (number != 2).then_some((number, outcome))
            );
        }
        assert!(!aside.holds() && aside.next_trial(now).0.is_none());
    }

    #[test]
    fn what_is_like_a_refused_one_waits_with_it_and_all_come_back_in_their_order() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        aside.suspect([message(WORK_EXCHANGE, 10, 1), message("kingpost.dead", 10, 2)].into_iter());
        aside.next_trial(now);
        aside.conclude(refused(Why::Size), now);
        // The second suspect is as large: it isn't tried for itself.
        assert!(aside.next_trial(now).0.is_none() && !aside.holds());
        assert!(matches!(aside.admit(message(WORK_EXCHANGE, 9, 3), now), Admission::Publish(_)));
        assert!(matches!(aside.admit(message(WORK_EXCHANGE, 11, 4), now), Admission::Kept));
        let later = now + FIRST_PAUSE;
        assert!(aside.next_trial(later).0.is_some() && !aside.holds(), "a retry holds up others");
        assert!(aside.conclude(refused(Why::Size), later).ended.is_none());
        assert!(aside.next_trial(later + FIRST_PAUSE).0.is_none(), "the pause doesn't grow");
        assert!(aside.next_trial(later + FIRST_PAUSE * 2).0.is_some());
        let Conclusion { ended, freed, .. } = aside.conclude(Outcome::Taken, later);
        assert_eq!((ended.map(|(message, _)| message.1), numbers(&freed)), (Some(1), vec![2, 4]));
        assert!(matches!(aside.admit(message(WORK_EXCHANGE, 99, 5), later), Admission::Publish(_)));
    }

    #[test]
    fn what_is_tried_when_the_session_ends_keeps_its_place() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        aside.suspect([work(1), work(2)].into_iter());
        aside.next_trial(now);
        aside.interrupt();
        assert_eq!(numbers(&aside.suspects), [1, 2]);
        aside.next_trial(now);
        aside.conclude(refused(Why::Other), now);
        let later = now + FIRST_PAUSE;
        aside.next_trial(later);
        aside.conclude(Outcome::Taken, later);
        aside.next_trial(later);
        aside.interrupt();
        assert_eq!((numbers(&aside.refusals[0].waiting), aside.holds()), (vec![1], false));
    }

    #[test]
    fn of_refused_reports_one_is_tried_now_and_then_and_the_others_are_dropped() {
        let report = |number| message(REPLY_EXCHANGE, 1, number);
        let (mut aside, now) = (Aside::default(), Instant::now());
        aside.suspect([report(1), report(2), work(3)].into_iter());
        aside.next_trial(now);
        let ended = aside.conclude(refused(Why::Exchange), now).ended;
        assert!(matches!(ended, Some(((_, 1), Outcome::Taken))), "{ended:?}");
        let (next, dropped) = aside.next_trial(now);
        assert_eq!((next.is_some(), numbers(&dropped)), (true, vec![2]));
        aside.conclude(Outcome::Taken, now);
        assert!(matches!(aside.admit(report(4), now), Admission::Drop(_)));
        let later = now + FIRST_PAUSE;
        assert!(matches!(aside.admit(report(5), later), Admission::Kept));
        assert!(matches!(aside.admit(report(6), later), Admission::Drop(_)));
        assert!(aside.next_trial(later).0.is_some());
        aside.conclude(Outcome::Taken, later);
        assert!(matches!(aside.admit(report(7), later), Admission::Publish(_)));
    }
}
