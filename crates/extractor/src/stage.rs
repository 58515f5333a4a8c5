//! The extractor as a stage: a window in, documents out.

use std::sync::Arc;

use kingpost_model::{
    Batch, BoxFuture, Failure, FailureKind, Fault, Item, Lease, Origin, Outbox, Outcome, Source, Stage,
    Verdict, Window, decide,
};
use kingpost_worker::now_ms;
use tokio_util::sync::CancellationToken;

use crate::{
    account::Account,
    ledger::Sender,
    window::{Read, Reading, Stopped},
};

/// Told how windows ended.
pub trait WindowObserver: Send + Sync {
    /// Every document of a window is published; `documents` counts distinct ones.
    fn read(&self, documents: usize);
    /// A window was handed on as two halves.
    fn split(&self);
    /// A window is tried again or is dead.
    fn failed(&self);
}

/// Extracts the windows of one scheme.
pub struct ExtractStage {
    /// The scheme that the windows and documents belong to.
    pub scheme: String,
    /// The target's document type, such as `STK_InStock`, the first half of every key.
    pub document: String,
    /// Where the documents are.
    pub source: Arc<dyn Source>,
    /// Whose limits its calls are counted by, shared with every stage that calls it.
    pub account: Arc<Account>,
    /// Told how windows ended.
    pub observer: Arc<dyn WindowObserver>,
    /// Cancelled when the worker is told to stop: a window that waits for the source is given back at once.
    pub ending: CancellationToken,
}

impl Stage for ExtractStage {
    fn process<'a>(&'a self, batch: &'a Batch, outbox: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::with_capacity(batch.items.len());
            for item in &batch.items {
                verdicts.push(self.extract(item, &batch.lease, outbox).await);
            }
            verdicts
        })
    }
}

impl ExtractStage {
    async fn extract(&self, item: &Item, lease: &Lease, outbox: &dyn Outbox) -> Verdict {
        let work = &item.work;
        let window: Window = match serde_json::from_slice(&work.body) {
            Ok(window) => window,
            Err(error) => {
                let text = format!("the body is not a window: {error}; expected {{\"from\": …, \"to\": …}}");
                return decide(Failure::new(FailureKind::Malformed, text), work.attempt);
            }
        };
        let trace = work.trace();
        let reading = Reading {
            source: &*self.source,
            account: &self.account,
            outbox,
            lease,
            ending: &self.ending,
            sender: Sender {
                scheme: &self.scheme,
                document: &self.document,
                origin: work.origin,
                verify: item.redelivered || work.verify || work.attempt > 1 || work.origin != Origin::Live,
                trace: trace.as_ref(),
            },
            clock: now_ms,
        };
        match reading.read(window).await {
            Ok(Read::Complete { documents }) => {
                self.observer.read(documents);
                outbox.report(work, Outcome::Read { handed_on: documents as u64, split: false });
                Verdict::Done
            }
            Ok(Read::Split) => {
                self.observer.split();
                outbox.report(work, Outcome::Read { handed_on: 2, split: true });
                Verdict::Done
            }
            Err(Stopped::Failed(failure)) => {
                self.observer.failed();
                decide(failure, work.attempt)
            }
            Err(Stopped::Abandoned) => decide(out_of_hand(), work.attempt),
        }
    }
}

/// What an extractor says whose broker is silent. It is carried out only if the connection turns out to be alive, so it says
/// nothing about the window; where the connection is lost, its deliveries are lost as well.
fn out_of_hand() -> Failure {
    let text = "this extractor has not heard of the broker for too long, or lost its connection, and reads nothing more of \
                the window; it is read again";
    Failure::new(FailureKind::Unavailable, text).by(Fault::Broker)
}
