//! What takes work from outside. It is there from the first moment on, so that whoever asks is answered although no broker
//! was reached yet, and it is the publisher's last user, so that whoever was let in is answered too.

use std::time::Duration;

use kingpost_broker::Outbound;
use kingpost_model::BoxFuture;
use kingpost_settings::Exit;
use kingpost_telemetry::{Health, Metrics};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::outbox::Scribe;

/// What a reception is given.
pub struct ReceptionContext {
    /// The metrics of this process.
    pub metrics: Metrics,
    /// The health of this process.
    pub health: Health,
    /// The way to the broker; nothing before one was reached.
    pub opened: watch::Receiver<Option<Opened>>,
    /// Cancelled when the worker is told to stop.
    pub stop: CancellationToken,
    /// How long after the stop what is in hand may take; then the task is ended.
    pub grace: Duration,
}

/// The way to a broker that was reached; it may be away again.
#[derive(Clone)]
pub struct Opened {
    /// The way to publish.
    pub outbound: Outbound,
    /// What happens to documents is written there.
    pub scribe: Scribe,
}

/// A task that takes work from outside until the worker is told to stop, and then finishes what it has in hand.
pub type Reception = Box<dyn FnOnce(ReceptionContext) -> BoxFuture<'static, ()> + Send>;

/// The receptions of a worker.
pub(crate) struct Receptions {
    tasks: JoinSet<()>,
    opened: watch::Sender<Option<Opened>>,
    stop: CancellationToken,
}

impl Receptions {
    pub(crate) fn start(
        receptions: Vec<Reception>,
        (metrics, health): (&Metrics, &Health),
        stop: &CancellationToken,
        grace: Duration,
    ) -> Self {
        let opened = watch::Sender::new(None);
        let mut tasks = JoinSet::new();
        for reception in receptions {
            tasks.spawn(reception(ReceptionContext {
                metrics: metrics.clone(),
                health: health.clone(),
                opened: opened.subscribe(),
                stop: stop.clone(),
                grace,
            }));
        }
        Receptions { tasks, opened, stop: stop.clone() }
    }

    /// The broker was reached.
    pub(crate) fn open(&self, outbound: Outbound, scribe: Scribe) {
        self.opened.send_replace(Some(Opened { outbound, scribe }));
    }

    /// Waits until one of them ends by itself, which none should; for ever where none does.
    pub(crate) async fn broken(&mut self) -> Exit {
        match self.tasks.join_next().await {
            Some(ended) if !self.stop.is_cancelled() => {
                error!(error = ?ended.err(), "what takes work from outside ended by itself");
                Exit::Bug
            }
            _ => std::future::pending().await,
        }
    }

    /// Waits until all have finished, after the stop.
    pub(crate) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends those that have not finished within a deadline.
    pub(crate) async fn end(&mut self, deadline: Duration) {
        if timeout(deadline, self.finish()).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
