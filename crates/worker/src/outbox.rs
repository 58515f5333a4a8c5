//! Where a stage puts what it produces, and where the harness puts its verdicts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kingpost_broker::{Destination, Journal, Outbound, Posting};
use kingpost_model::{
    Abandoned, BoxFuture, JournalEvent, JournalStep, JournalWriter, Lease, Outbox, Outcome, Report, Route,
    Work,
};

use crate::clock::now_ms;

/// Who writes to the journal.
#[derive(Clone, Default)]
pub struct Scribe {
    journal: Journal,
    writer: JournalWriter,
}

impl Scribe {
    /// Writes in the name of a program on this host.
    pub(crate) fn new(journal: Journal, worker: String) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Scribe { journal, writer: JournalWriter { worker, host } }
    }

    /// The event of a step of some work; nothing when no journal is kept.
    pub(crate) fn event(&self, work: &Work, step: impl FnOnce() -> JournalStep) -> Option<JournalEvent> {
        self.journal.is_on().then(|| self.writer.event(work, step(), now_ms()))
    }

    /// The event of a document that a sender pushed; nothing when no journal is kept.
    pub fn pushed(&self, next: &Work) -> Option<JournalEvent> {
        self.journal.is_on().then(|| self.writer.pushed(next, now_ms()))
    }

    /// Program and version.
    pub(crate) fn worker(&self) -> &str {
        &self.writer.worker
    }

    /// Hands events over, and returns at once.
    pub fn write(&self, event: impl IntoIterator<Item = JournalEvent>) {
        event.into_iter().for_each(|event| self.journal.write(event));
    }
}

/// The outbox of one batch.
pub(crate) struct BatchOutbox {
    outbound: Outbound,
    lease: Lease,
    /// The lane's route, and program and version, for reports.
    origin: (Route, String),
    scribe: Scribe,
    /// The window that the batch is, where it is one.
    window: Option<String>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    postings: Vec<Posting>,
    /// What becomes true when the postings are confirmed.
    events: Vec<JournalEvent>,
}

impl BatchOutbox {
    pub(crate) fn new(
        outbound: Outbound,
        lease: Lease,
        route: Route,
        worker: String,
        scribe: Scribe,
        window: Option<String>,
    ) -> Self {
        let waiting = Mutex::default();
        BatchOutbox { outbound, lease, origin: (route, worker), scribe, window, waiting }
    }

    pub(crate) fn post(&self, posting: Posting) {
        self.waiting().postings.push(posting);
    }

    /// Has an event written when everything put so far is confirmed.
    pub(crate) fn note(&self, event: Option<JournalEvent>) {
        self.waiting().events.extend(event);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what a stage had put before it failed.
    pub(crate) fn clear(&self) {
        *self.waiting() = Waiting::default();
    }
}

impl Outbox for BatchOutbox {
    fn put(&self, route: Route, work: Work) {
        if self.scribe.journal.is_on() {
            self.note(self.scribe.writer.handed_on(&work, self.window.as_deref(), now_ms()));
        }
        self.post(Posting { destination: Destination::Work(route), work });
    }

    fn report(&self, work: &Work, outcome: Outcome) {
        if self.scribe.journal.is_on()
            && let Some(step) = JournalStep::of_outcome(&outcome)
        {
            let event = self.scribe.event(work, || step);
            match outcome {
                // A fact whatever becomes of the batch.
                Outcome::Loaded { .. } => self.scribe.write(event),
                _ => self.note(event),
            }
        }
        let Some(queue) = work.reply_to.clone() else { return };
        let (route, worker) = &self.origin;
        let report = Report::of(work, outcome, now_ms(), worker);
        let Ok(body) = serde_json::to_vec(&report) else { return };
        let mut told = work.clone();
        told.body = body.into();
        self.post(Posting { destination: Destination::Report(queue, route.clone()), work: told });
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Abandoned>> {
        Box::pin(async {
            let Waiting { postings, events } = std::mem::take(&mut *self.waiting());
            if postings.is_empty() {
                self.scribe.write(events);
                return Ok(());
            }
            // What was delivered over a lost connection belongs to another worker by now; it will do the same.
            if self.lease.is_lost() {
                return Err(Abandoned);
            }
            self.outbound.publish(postings).await?;
            self.scribe.write(events);
            Ok(())
        })
    }
}
