//! The way from the desk to the broker.

use std::sync::Arc;

use kingpost_broker::{Confirm, Posting, Standing};
use kingpost_model::{Abandoned, BoxFuture};
use kingpost_worker::Opened;
use tokio::sync::watch;

/// Where accepted documents go.
pub(super) trait Outlet: Send + Sync {
    /// Whether what is published now has to wait.
    fn standing(&self) -> Standing;

    /// Publishes documents in this order and returns the wait for each of them.
    fn publish(&self, postings: Vec<Posting>) -> BoxFuture<'static, Result<Vec<Confirm>, Abandoned>>;
}

/// The worker's own publisher and journal, which are there once a broker was reached.
impl Outlet for watch::Receiver<Option<Opened>> {
    fn standing(&self) -> Standing {
        self.borrow().as_ref().map_or(Standing::Absent, |opened| opened.outbound.standing())
    }

    fn publish(&self, postings: Vec<Posting>) -> BoxFuture<'static, Result<Vec<Confirm>, Abandoned>> {
        let opened = self.borrow().clone();
        Box::pin(async move {
            let Opened { outbound, scribe } = opened.ok_or(Abandoned)?;
            let events: Vec<_> = postings.iter().map(|posting| scribe.pushed(&posting.work)).collect();
            let confirms = outbound.publish_each(postings).await?;
            let scribe = Arc::new(scribe);
            let noted = |(confirm, event): (Confirm, _)| -> Confirm {
                let scribe = Arc::clone(&scribe);
                Box::pin(async move {
                    confirm.await?;
                    scribe.write(event);
                    Ok(())
                })
            };
            Ok(confirms.into_iter().zip(events).map(noted).collect())
        })
    }
}
