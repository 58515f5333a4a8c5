//! Making sure that queues and exchanges are there: by declaring them, or, where the user may not, by looking.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use lapin::{
    Channel, Connection, ErrorKind,
    protocol::{AMQPErrorKind, AMQPSoftError},
};
use tracing::{info, warn};

use crate::{
    connection::{BrokerConfig, ConnectError, Role, open},
    inspect::is_not_found,
    topology::{Part, Topology},
};

/// How something that exists differs from what this release declares. RabbitMQ names the first difference only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The argument, such as `x-delivery-limit`, or `durable` or `type`; empty where RabbitMQ's words tell none.
    pub argument: String,
    /// What this release declares.
    pub declared: String,
    /// What is there; `none` where it isn't set.
    pub existing: String,
    /// RabbitMQ's own words.
    pub words: String,
}

impl Difference {
    /// Reads RabbitMQ's words on a declaration that doesn't fit.
    pub(crate) fn read(words: &str) -> Self {
        let words = words.rfind("PRECONDITION_FAILED - ").map_or(words, |at| &words[at..]).trim();
        let between = |from: &str, to: &str| {
            let (_, rest) = words.split_once(from)?;
            Some(rest.split_once(to)?.0.to_owned())
        };
        let existing = words.rsplit_once("but current is ").map_or("", |(_, rest)| rest);
        let existing = existing.split_once(" of type").map_or(existing, |(value, _)| value);
        let existing = existing.trim_start_matches("the value ");
        Difference {
            argument: between("inequivalent arg '", "'").unwrap_or_default(),
            declared: between("received the value '", "'")
                .or_else(|| between("received '", "'"))
                .unwrap_or_else(|| "none".to_owned()),
            existing: existing.trim_matches('\'').to_owned(),
            words: words.to_owned(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.argument.is_empty() {
            return f.write_str(&self.words);
        }
        write!(f, "`{}` is {} there and {} here", self.argument, self.existing, self.declared)
    }
}

/// What became of one exchange, queue or binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It was not there and was made; for a binding, which can't be asked about: it is there now.
    Made,
    /// It is there as this release declares it.
    There,
    /// It is there, and whether its arguments fit can't be asked without the right to configure it.
    ThereUnseen,
    /// It is not there.
    Missing,
    /// It is there with other arguments.
    Differs(Difference),
    /// The broker refuses, in its words.
    Refused(String),
}

/// One exchange, queue or binding, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// `exchange`, `queue` or `binding`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: PartState,
}

impl Topology {
    /// Declares everything that isn't there yet and compares what is. A dry run makes nothing.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached, or refuses the connection.
    pub async fn apply(&self, config: &BrokerConfig, dry_run: bool) -> Result<Vec<PartReport>, ConnectError> {
        let connection = open(config, Role::Inspect).await?;
        let mut hand = Hand::new(&connection);
        let mut reports = Vec::new();
        let applying = async {
            for part in self.parts() {
                let state = hand.apply(&part, dry_run).await?;
                reports.push(PartReport { what: part.what(), name: part.name(), state });
            }
            Ok(())
        };
        // Every question has an answer in milliseconds; a broker that stays silent for so long is frozen.
        let limit = config.confirm_timeout * 4;
        let silent =
            || ConnectError::Absent("RabbitMQ stopped answering while queues were declared".to_owned());
        tokio::time::timeout(limit, applying).await.unwrap_or_else(|_| Err(silent()))?;
        let _ = tokio::time::timeout(config.settle_timeout, connection.close(200, "declared".into())).await;
        Ok(reports)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Question {
    Look,
    Declare,
}

/// A channel that is replaced whenever an answer has closed it.
pub(crate) struct Hand<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

impl<'a> Hand<'a> {
    pub(crate) const fn new(connection: &'a Connection) -> Self {
        Hand { connection, channel: None }
    }

    pub(crate) async fn ask(&mut self, part: &Part, question: Question) -> Result<Answer, ConnectError> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.connection.create_channel().await.map_err(|e| ConnectError::of(&e))?,
        };
        let answer = match question {
            Question::Look => part.look(&channel).await,
            Question::Declare => part.declare(&channel).await,
        };
        match answer {
            Ok(()) => {
                self.channel = Some(channel);
                Ok(Answer::Yes)
            }
            Err(error) => Answer::of(&error),
        }
    }

    pub(crate) async fn apply(&mut self, part: &Part, dry_run: bool) -> Result<PartState, ConnectError> {
        let binding = matches!(part, Part::Binding { .. });
        let there = match self.ask(part, Question::Look).await? {
            _ if binding => dry_run,
            Answer::Yes => true,
            Answer::Denied(words) if dry_run => return Ok(PartState::Refused(words)),
            // Where one may not look, only the declaration tells.
            Answer::NotFound | Answer::Denied(_) => false,
            Answer::Differs(words) => return Ok(PartState::Differs(Difference::read(&words))),
        };
        if dry_run && !there {
            return Ok(PartState::Missing);
        }
        if dry_run && binding {
            return Ok(PartState::ThereUnseen);
        }
        // What is there is only compared by this.
        Ok(match self.ask(part, Question::Declare).await? {
            Answer::Yes if there => PartState::There,
            Answer::Yes => PartState::Made,
            Answer::Differs(words) => PartState::Differs(Difference::read(&words)),
            Answer::Denied(_) if there => PartState::ThereUnseen,
            Answer::Denied(words) => PartState::Refused(words),
            Answer::NotFound => PartState::Missing,
        })
    }
}

/// How the broker answers a declaration or a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    NotFound,
    Denied(String),
    Differs(String),
}

impl Answer {
    fn of(error: &lapin::Error) -> Result<Self, ConnectError> {
        if is_not_found(error) {
            return Ok(Answer::NotFound);
        }
        let ErrorKind::ProtocolError(protocol) = error.kind() else { return Err(ConnectError::of(error)) };
        match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Ok(Answer::Denied(error.to_string())),
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Ok(Answer::Differs(error.to_string())),
            _ => Err(ConnectError::of(error)),
        }
    }
}

/// The topology of a worker, as every session of it makes sure of it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) topology: Topology,
    /// The user may not declare; an operator does.
    may_not: AtomicBool,
    /// What was missing when it was last looked for, so that each lack is told once.
    missing: Mutex<BTreeSet<String>>,
}

pub(crate) const REMEDY: &str = "have somebody with the right to configure run `kingpost topology apply`";

impl Setup {
    pub(crate) fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Setup { topology, may_not: AtomicBool::new(false), missing: Mutex::default() })
    }

    /// Whether it is worth to declare again what somebody has deleted.
    pub(crate) fn may_declare(&self) -> bool {
        !self.may_not.load(Ordering::Relaxed)
    }

    /// Declares it all; safe to repeat. A user who may not declare looks instead, tells what is missing, and goes on.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] when something exists with other arguments, with the difference.
    pub(crate) async fn ensure(&self, connection: &Connection) -> Result<(), ConnectError> {
        if self.may_declare() {
            match self.declare(connection).await? {
                None => return Ok(()),
                Some(refusal) => {
                    self.may_not.store(true, Ordering::Relaxed);
                    info!(
                        refusal,
                        "queues are not declared by this user; whether they are there is looked up"
                    );
                }
            }
        }
        self.look(connection).await
    }

    /// Returns the broker's words when it may not be declared.
    async fn declare(&self, connection: &Connection) -> Result<Option<String>, ConnectError> {
        let mut hand = Hand::new(connection);
        for part in self.topology.parts() {
            match hand.ask(&part, Question::Declare).await? {
                Answer::Yes => {}
                Answer::Denied(words) => return Ok(Some(words)),
                Answer::Differs(words) => return Err(differs(&part, &Difference::read(&words))),
                Answer::NotFound => {
                    let (what, name) = (part.what(), part.name());
                    return Err(ConnectError::Absent(format!("the {what} `{name}` lost one of its ends")));
                }
            }
        }
        if let Some(channel) = hand.channel {
            let _ = channel.close(200, "declared".into()).await;
        }
        Ok(None)
    }

    async fn look(&self, connection: &Connection) -> Result<(), ConnectError> {
        let mut hand = Hand::new(connection);
        let mut missing = BTreeSet::new();
        for part in self.topology.parts() {
            match hand.ask(&part, Question::Look).await? {
                Answer::Yes => {}
                Answer::NotFound => {
                    missing.insert(format!("{} `{}`", part.what(), part.name()));
                }
                Answer::Differs(words) => return Err(differs(&part, &Difference::read(&words))),
                Answer::Denied(words) => {
                    warn!(
                        words,
                        "this user may not even look whether the queues are there; if they aren't: {REMEDY}"
                    );
                    return Ok(());
                }
            }
        }
        if let Some(channel) = hand.channel {
            let _ = channel.close(200, "looked".into()).await;
        }
        let mut known = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() && missing != *known {
            let list: Vec<&str> = missing.iter().map(String::as_str).collect();
            warn!(
                "missing on the broker, and this user may not declare it: {}; {REMEDY}; work waits until then",
                list.join(", ")
            );
        }
        *known = missing;
        Ok(())
    }
}

fn differs(part: &Part, difference: &Difference) -> ConnectError {
    let (what, name) = (part.what(), part.name());
    ConnectError::Refused(format!(
        "the {what} `{name}` exists with other arguments than this release declares: {difference} (RabbitMQ names the \
         first difference only); once it is empty, delete it and start again, or give this installation a virtual host \
         of its own; RabbitMQ says: {}",
        difference.words
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_tell_argument_and_both_values() {
        let limit = "protocol error: AMQP soft error: PRECONDITION-FAILED: PRECONDITION_FAILED - inequivalent arg \
                     'x-delivery-limit' for queue 'load.s' in vhost '/': received the value '1000' of type 'signedint' \
                     but current is none";
        let kind = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'kingpost.work' in vhost '/': received \
                    'direct' but current is 'fanout'";
        let type_ = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'load.s' in vhost '/': received \
                     the value 'quorum' of type 'longstr' but current is the value 'classic' of type 'longstr'";
        let more = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'load.s' in vhost '/': received \
                    none but current is the value '5' of type 'signedint'";
        for (words, expected) in [
            (limit, "`x-delivery-limit` is none there and 1000 here"),
            (kind, "`type` is fanout there and direct here"),
            (type_, "`x-queue-type` is classic there and quorum here"),
            (more, "`x-max-length` is 5 there and none here"),
            ("PRECONDITION_FAILED - something new", "PRECONDITION_FAILED - something new"),
        ] {
            assert_eq!(Difference::read(words).to_string(), expected);
        }
    }
}
