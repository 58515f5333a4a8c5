//! Acting on messages: who does it, why, and the trail that it leaves.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use clap::Args;
use jiff::Timestamp;
use kingpost_broker::{
    AuditEvent, AuditLetter, AuditPhase, AuditTrail, BrokerConfig, ConnectError, Journal, JournalKeep,
    Letter, NoObserver,
};
use kingpost_model::{JournalAction, JournalStep, JournalWriter, Work};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{ending::Stop, session::WORKER};

/// Who acts, for the audit trail.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Actor {
    /// Who does it, for the audit trail [default: the user of this process @ its host]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

impl Actor {
    /// The name that was given, or `user@host` as the system knows them.
    pub(crate) fn name(&self) -> String {
        let named = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        named.map_or_else(|| format!("{}@{}", user(Path::new("/etc/passwd")), host()), str::to_owned)
    }
}

/// The login name of this process's user; its number where nobody has named it, as in a container.
fn user(passwd: &Path) -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let names = std::fs::read_to_string(passwd).unwrap_or_default();
    let named = names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Milliseconds since the epoch, now.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// An identity that sorts by time: `20261123-093000-3f9a1c`.
pub(crate) fn new_id(now_ms: i64, seed: &str) -> String {
    let time = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let nanos = Timestamp::now().as_nanosecond();
    let hash = Sha256::digest(format!("{seed}\n{nanos}\n{}", std::process::id()));
    let hash: String = hex::encode(hash).chars().take(6).collect();
    format!("{}-{hash}", time.strftime("%Y%m%d-%H%M%S"))
}

/// How long the end of a command waits for the journal.
const JOURNAL_MAX: Duration = Duration::from_secs(5);

/// Writes what an action does to each document into the journal, without waiting for it.
#[derive(Clone, Default)]
pub(crate) struct Scribe {
    journal: Journal,
    writer: JournalWriter,
    action: JournalAction,
}

impl Scribe {
    /// Something was done to a message, and begun at that time, before anything could follow from it.
    pub(crate) fn write(&self, work: &Work, step: fn(JournalAction) -> JournalStep, at_ms: i64) {
        if self.journal.is_on() {
            self.journal.write(self.writer.event(work, step(self.action.clone()), at_ms));
        }
    }
}

/// An action that has begun: it stands in the audit trail before its first message moves, and once more when it is over.
pub(crate) struct Action {
    trail: AuditTrail,
    broker: BrokerConfig,
    event: AuditEvent,
    scribe: Scribe,
    /// Why something of it doesn't stand in the trail.
    missing: Option<String>,
}

impl Action {
    /// Records the beginning of an action; `fill` adds what is known about it (reason, queues, count, letters, …). `keep`
    /// says how much of the journal is kept, and nothing that none is.
    ///
    /// # Errors
    /// The trail can't be opened or doesn't confirm; the action must not begin then.
    pub(crate) async fn begin(
        (broker, keep): (&BrokerConfig, Option<JournalKeep>),
        actor: &Actor,
        command: &str,
        fill: impl FnOnce(&mut AuditEvent),
    ) -> Result<Self, Stop> {
        let at_ms = now_ms();
        let mut event =
            AuditEvent::new(new_id(at_ms, command), at_ms, actor.name(), command, AuditPhase::Begun);
        fill(&mut event);
        let trail = AuditTrail::open(broker).await?;
        trail.record(&event).await?;
        // What follows refers to it by the action's id.
        event.letters.clear();
        event.details = Value::Null;
        let scribe = Scribe {
            journal: keep
                .map_or_else(Journal::off, |keep| Journal::start(broker.clone(), keep, Arc::new(NoObserver))),
            writer: JournalWriter { worker: WORKER.to_owned(), host: host() },
            action: JournalAction { action: event.action.clone(), actor: event.actor.clone() },
        };
        Ok(Action { trail, broker: broker.clone(), event, scribe, missing: None })
    }

    /// What writes into the journal for it.
    pub(crate) fn scribe(&self) -> Scribe {
        self.scribe.clone()
    }

    /// The id that all its events carry.
    pub(crate) fn id(&self) -> &str {
        &self.event.action
    }

    /// Records something on the way; whether that succeeded is told at the end.
    pub(crate) async fn note(&mut self, fill: impl FnOnce(&mut AuditEvent)) {
        let mut event = AuditEvent { phase: AuditPhase::Note, at_ms: now_ms(), ..self.event.clone() };
        fill(&mut event);
        self.record(&event).await;
    }

    /// Records the end with its counts. What was done is done, and its result has to be told whatever becomes of the
    /// trail: so this gives a note for a person, empty when everything stands there.
    pub(crate) async fn end(mut self, outcomes: BTreeMap<String, u64>) -> String {
        let event = AuditEvent { phase: AuditPhase::Ended, at_ms: now_ms(), outcomes, ..self.event.clone() };
        self.record(&event).await;
        self.scribe.journal.close(JOURNAL_MAX).await;
        self.trail.close().await;
        let missing = self.missing.map(|why| {
            format!(
                "note: it is done, but its end could not be written to the audit trail (action {}): {why}\n",
                self.event.action
            )
        });
        missing.unwrap_or_default()
    }

    /// A connection that idled as long as the action took may have ended, so it is made anew once.
    async fn record(&mut self, event: &AuditEvent) {
        if self.trail.record(event).await.is_ok() {
            return;
        }
        if let Err(error) = self.record_anew(event).await {
            self.missing.get_or_insert(error.to_string());
        }
    }

    async fn record_anew(&mut self, event: &AuditEvent) -> Result<(), ConnectError> {
        self.trail = AuditTrail::open(&self.broker).await?;
        self.trail.record(event).await
    }
}

/// How a letter is named in the trail.
pub(crate) fn audited(letter: &Letter) -> AuditLetter {
    let identity = letter.identity();
    AuditLetter { id: identity.id, key: letter.work.key.number.clone(), sha256: identity.sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_told_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let passwd = folder.path().join("passwd");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(user(&passwd), format!("uid {uid}"));
        std::fs::write(&passwd, format!("other:x:{}:1::/:/bin/sh\nops:x:{uid}:1::/:/bin/sh\n", uid + 1))
            .unwrap();
        assert_eq!(user(&passwd), "ops");
    }

    #[test]
    fn a_name_that_is_given_counts_and_ids_differ_and_sort() {
        assert_eq!(Actor { name: Some(" night shift ".into()) }.name(), "night shift");
        assert!(Actor { name: Some("  ".into()) }.name().contains('@'));
        let (first, second) = (new_id(1_767_200_400_000, "x"), new_id(1_767_200_400_000, "x"));
        assert!(first.starts_with("20251231-170000-") && first != second, "{first} {second}");
        assert!(new_id(1_767_200_401_000, "x") > second);
    }
}
