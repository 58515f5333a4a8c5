//! The broker as a worker sees it.

use std::{sync::Arc, time::Duration};

use kingpost_model::Route;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    connection::{Backoff, BrokerConfig, ConnectError, Observer, Role, open},
    consumer::{self, LaneSpec, Subscription},
    inspect::Inspector,
    lane::Inbox,
    leader::Leadership,
    publisher::{self, Outbound},
    topology::Topology,
};

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
    topology: Arc<Topology>,
    observer: Arc<dyn Observer>,
    outbound: Outbound,
    publisher: JoinHandle<()>,
    stop: CancellationToken,
}

impl Broker {
    /// Connects, declares the topology and starts publishing. A broker that is not there is waited for.
    ///
    /// # Errors
    /// [`StartError::Refused`] when waiting can't help; [`StartError::Stopped`] when `stop` came first.
    pub async fn start(
        config: BrokerConfig,
        topology: Topology,
        observer: Arc<dyn Observer>,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let topology = Arc::new(topology);
        let mut backoff =
            Backoff::new(config.reconnect_pause_max, u64::from(std::process::id()).wrapping_mul(17));
        let mut waiting = false;
        let connection = loop {
            let attempt = async {
                let connection = open(&config, Role::Publish).await?;
                let channel = connection.create_channel().await.map_err(|e| ConnectError::of(&e))?;
                topology.declare(&channel).await?;
                let _ = channel.close(200, "declared".into()).await;
                Ok(connection)
            };
            let result = tokio::select! {
                () = stop.cancelled() => return Err(StartError::Stopped),
                result = tokio::time::timeout(config.connect_timeout * 2, attempt) => {
                    result.unwrap_or_else(|_| Err(ConnectError::Absent("RabbitMQ does not answer".to_owned())))
                }
            };
            match result {
                Ok(connection) => break connection,
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
        };
        if waiting {
            info!("RabbitMQ is there");
        }
        let halt = CancellationToken::new();
        let (outbound, publisher) = publisher::start(
            config.clone(),
            Arc::clone(&topology),
            Arc::clone(&observer),
            halt.clone(),
            connection,
        );
        Ok(Broker { config, topology, observer, outbound, publisher, stop: halt })
    }

    /// The way to publish.
    pub fn outbound(&self) -> Outbound {
        self.outbound.clone()
    }

    /// Starts consuming queues; one inbox per lane, in order.
    pub fn subscribe(&self, lanes: Vec<LaneSpec>) -> (Subscription, Vec<Inbox>) {
        consumer::start(self.config.clone(), Arc::clone(&self.topology), Arc::clone(&self.observer), lanes)
    }

    /// Tries to become the one that cuts windows for a scheme; nothing when another worker is.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be asked.
    pub async fn lead(&self, scheme: &str) -> Result<Option<Leadership>, ConnectError> {
        Leadership::acquire(&self.config, &self.topology, scheme).await
    }

    /// Opens a connection for reading depths.
    ///
    /// # Errors
    /// [`ConnectError`] when the broker can't be reached or refuses.
    pub async fn inspector(&self) -> Result<Inspector, ConnectError> {
        Inspector::open(&self.config).await
    }

    /// Stops publishing and closes; what is unconfirmed is abandoned.
    pub async fn close(self, deadline: Duration) {
        self.stop.cancel();
        let _ = tokio::time::timeout(deadline, self.publisher).await;
    }

    /// The dead-letter queues of all schemes, for inspection.
    pub fn dead_queues(&self) -> Vec<String> {
        let stages = kingpost_model::StageName::ALL;
        let schemes = self.topology.schemes.iter();
        schemes.flat_map(|s| stages.map(|stage| Route::new(stage, &s.scheme).dead_queue())).collect()
    }
}
