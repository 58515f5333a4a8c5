//! The broker as a worker sees it.

use std::{sync::Arc, time::Duration};

use kingpost_model::{Route, StageName};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    connection::{Backoff, BrokerConfig, ConnectError, Observer, Role, open},
    consumer::{self, LaneSpec, Subscription},
    inspect::{Inspector, QueueDepth},
    journal::{Journal, JournalKeep},
    lane::Inbox,
    leader::Leadership,
    lock::Locks,
    notices::{self, Ear, Voice},
    publisher::{self, Outbound},
    setup::Setup,
    topology::{SchemeQueues, Topology},
};

/// Shards of a scheme that are looked for when their number has changed: as many as a scheme may ever have.
const SHARDS_EVER: u32 = 64;

/// Why a worker could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The broker refuses us for good: password, permission, virtual host, or a queue with other arguments.
    #[error("{0}")]
    Refused(String),
    /// The worker was told to stop before the broker could be reached.
    #[error("stopped before RabbitMQ could be reached")]
    Stopped,
}

/// A started broker: publishing runs, consuming can be subscribed.
pub struct Broker {
    config: BrokerConfig,
    setup: Arc<Setup>,
    observer: Arc<dyn Observer>,
    outbound: Outbound,
    publisher: JoinHandle<()>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Broker {
    /// Connects, declares the topology and starts publishing. A broker that is not there is waited for; a user who may
    /// not declare only looks, and says what is missing.
    ///
    /// # Errors
    /// [`StartError::Refused`] when waiting can't help; [`StartError::Stopped`] when `stop` came first.
    pub async fn start(
        config: BrokerConfig,
        topology: Topology,
        observer: Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let setup = Setup::new(topology);
        let connection = patiently(&config, stop, async || {
            let attempt = async {
                let connection = open(&config, Role::Publish).await?;
                setup.ensure(&connection).await?;
                Ok(connection)
            };
            let answered = tokio::time::timeout(config.connect_timeout * 2, attempt).await;
            answered.unwrap_or_else(|_| Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())))
        })
        .await?;
        let halt = CancellationToken::new();
        let (outbound, publisher) = publisher::start(
            config.clone(),
            Arc::clone(&setup),
            Arc::clone(&observer),
            halt.clone(),
            connection,
        );
        let ended = CancellationToken::new();
        let publisher = tokio::spawn({
            // Also when the publisher panics: without it every batch would fail in a hot loop.
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let _ = publisher.await;
            }
        });
        Ok(Broker { config, setup, observer, outbound, publisher, stop: halt, ended })
    }

    /// The way to publish.
    pub fn outbound(&self) -> Outbound {
        self.outbound.clone()
    }

    /// Starts consuming queues; one inbox per lane, in order.
    pub fn subscribe(&self, lanes: Vec<LaneSpec>) -> (Subscription, Vec<Inbox>) {
        consumer::start(self.config.clone(), Arc::clone(&self.setup), Arc::clone(&self.observer), lanes)
    }

    /// Tries to become the one that cuts windows for a scheme; nothing when another worker is.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be asked.
    pub async fn lead(&self, scheme: &str) -> Result<Option<Leadership>, ConnectError> {
        Leadership::acquire(&self.config, &self.setup, scheme).await
    }

    /// Joins those who tell and hear notices.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn notices(&self) -> Result<(Voice, Ear), ConnectError> {
        notices::join(&self.config).await
    }

    /// Where locks are taken.
    pub fn locks(&self) -> Locks {
        Locks::new(self.config.clone())
    }

    /// Opens a connection for reading depths.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn inspector(&self) -> Result<Inspector, ConnectError> {
        Inspector::open(&self.config).await
    }

    /// Starts writing the journal; nothing is written when nothing is kept.
    pub fn journal(&self, keep: Option<JournalKeep>) -> Journal {
        match keep {
            Some(keep) => Journal::start(self.config.clone(), keep, Arc::clone(&self.observer)),
            None => Journal::off(),
        }
    }

    /// Stops publishing and closes; what is unconfirmed is abandoned.
    pub async fn close(self, deadline: Duration) {
        self.stop.cancel();
        let _ = tokio::time::timeout(deadline, self.publisher).await;
    }

    /// Cancelled when publishing has ended, which is a mistake of ours unless it was closed.
    pub fn publishing_ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Load queues of these schemes that belong to another number of shards and hold messages, or are still consumed by
    /// a loader of before, which may have some in hand. A broker that is not there is waited for.
    ///
    /// # Errors
    /// [`StartError::Refused`] when none was found, and the broker doesn't say of every queue how much is in it;
    /// [`StartError::Stopped`] when `stop` came first.
    pub async fn stranded(&self, stop: &CancellationToken) -> Result<Vec<(String, QueueDepth)>, StartError> {
        patiently(&self.config, stop, async || self.look_for_stranded().await).await
    }

    async fn look_for_stranded(&self) -> Result<Vec<(String, QueueDepth)>, ConnectError> {
        let inspector = self.inspector().await?;
        let (mut stranded, mut refused) = (Vec::new(), None);
        for SchemeQueues { scheme, shards } in &self.setup.topology.schemes {
            let used = Route::all(StageName::Load, scheme, *shards);
            let unsharded = std::iter::once(Route::new(StageName::Load, scheme));
            let sharded =
                (0..SHARDS_EVER).map(|n| Route { shard: Some(n), ..Route::new(StageName::Load, scheme) });
            for route in unsharded.chain(sharded).filter(|route| !used.contains(route)) {
                let queue = route.queue();
                match inspector.depth(&queue).await {
                    Ok(Some(depth)) if depth.ready + depth.consumers > 0 => stranded.push((queue, depth)),
                    Ok(_) => {}
                    Err(ConnectError::Refused(text)) => {
                        refused.get_or_insert(format!(
                            "of `{queue}` it isn't told how much is in it: {text}; give the user of AMQP_URL read \
                             permission on `^load\\.{scheme}(\\.[0-9]+)?$`, for RabbitMQ 4.2.6 and 4.3.0 configure \
                             permission"
                        ));
                    }
                    Err(absent) => return Err(absent),
                }
            }
        }
        inspector.close().await;
        match refused {
            Some(text) if stranded.is_empty() => Err(ConnectError::Refused(text)),
            _ => Ok(stranded),
        }
    }
}

/// Tries until the broker answers, however long it is away.
async fn patiently<T>(
    config: &BrokerConfig,
    stop: &CancellationToken,
    attempt: impl AsyncFn() -> Result<T, ConnectError>,
) -> Result<T, StartError> {
    let mut backoff =
        Backoff::new(config.reconnect_pause_max, u64::from(std::process::id()).wrapping_mul(17));
    let mut waiting = false;
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return Err(StartError::Stopped),
            result = attempt() => result,
        };
        match result {
            Ok(answer) => {
                if waiting {
                    info!("RabbitMQ is there");
                }
                return Ok(answer);
            }
            Err(ConnectError::Refused(text)) => return Err(StartError::Refused(text)),
            Err(ConnectError::Absent(text)) => {
                warn!(error = text, "waiting for RabbitMQ; start it or correct AMQP_URL");
                waiting = true;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Err(StartError::Stopped),
            () = tokio::time::sleep(backoff.next_pause()) => {}
        }
    }
}
