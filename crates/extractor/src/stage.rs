//! The extractor as a stage: a window in, documents out.

use std::sync::Arc;

use kingpost_model::{
    Batch, BoxFuture, Failure, FailureKind, Item, Origin, Outbox, Source, Stage, Verdict, Window, decide,
};
use kingpost_worker::now_ms;

use crate::window::{Read, Reading, Stopped};

/// Told how windows ended.
pub(crate) trait WindowObserver: Send + Sync {
    fn window(&self, outcome: &'static str, documents: usize);
}

/// Extracts the windows of one scheme.
pub(crate) struct ExtractStage {
    pub(crate) scheme: String,
    pub(crate) document: String,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) observer: Arc<dyn WindowObserver>,
}

impl Stage for ExtractStage {
    fn process<'a>(&'a self, batch: &'a Batch, outbox: &'a dyn Outbox) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::with_capacity(batch.items.len());
            for item in &batch.items {
                verdicts.push(self.extract(item, outbox).await);
            }
            verdicts
        })
    }
}

impl ExtractStage {
    async fn extract(&self, item: &Item, outbox: &dyn Outbox) -> Verdict {
        let window: Window = match serde_json::from_slice(&item.work.body) {
            Ok(window) => window,
            Err(error) => {
                let text = format!("the body is not a window: {error}; expected {{\"from\": …, \"to\": …}}");
                return decide(Failure::new(FailureKind::Malformed, text), item.work.attempt);
            }
        };
        let reading = Reading {
            source: &*self.source,
            outbox,
            scheme: &self.scheme,
            document: &self.document,
            origin: item.work.origin,
            verify: item.redelivered || item.work.verify || item.work.attempt > 1 || item.work.origin != Origin::Live,
            now_ms: now_ms(),
        };
        match reading.read(window).await {
            Ok(Read::Complete { documents }) => {
                self.observer.window("complete", documents);
                Verdict::Done
            }
            Ok(Read::Split) => {
                self.observer.window("split", 0);
                Verdict::Done
            }
            Err(Stopped::Failed(failure)) => {
                self.observer.window("failed", 0);
                decide(failure, item.work.attempt)
            }
            // The harness finds the outbox abandoned as well and settles nothing.
            Err(Stopped::Abandoned) => {
                decide(Failure::new(FailureKind::Internal, "stopped while publishing"), item.work.attempt)
            }
        }
    }
}
