//! Where a stage puts what it produces, and where the harness puts its verdicts.

use std::sync::{Mutex, PoisonError};

use kingpost_broker::{Destination, Outbound, Posting};
use kingpost_model::{Abandoned, BoxFuture, Lease, Outbox, Outcome, Report, Route, Work};

use crate::clock::now_ms;

/// The outbox of one batch.
pub(crate) struct BatchOutbox {
    outbound: Outbound,
    lease: Lease,
    /// The lane's route, and program and version, for reports.
    origin: (Route, String),
    waiting: Mutex<Vec<Posting>>,
}

impl BatchOutbox {
    pub(crate) fn new(outbound: Outbound, lease: Lease, route: Route, worker: String) -> Self {
        BatchOutbox { outbound, lease, origin: (route, worker), waiting: Mutex::new(Vec::new()) }
    }

    pub(crate) fn post(&self, posting: Posting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(posting);
    }

    /// Forgets what a stage had put before it failed.
    pub(crate) fn clear(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Outbox for BatchOutbox {
    fn put(&self, route: Route, work: Work) {
        self.post(Posting { destination: Destination::Work(route), work });
    }

    fn report(&self, work: &Work, outcome: Outcome) {
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
            let postings = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if postings.is_empty() {
                return Ok(());
            }
            // What was delivered over a lost connection belongs to another worker by now; it will do the same.
            if self.lease.is_lost() {
                return Err(Abandoned);
            }
            self.outbound.publish(postings).await
        })
    }
}
