//! What a stage crate tells the harness.

use std::{sync::Arc, time::Duration};

use kingpost_broker::{Broker, Topology};
use kingpost_model::{BoxFuture, Route, Stage};
use kingpost_settings::{CommonSettings, Environment, Problems, WorkerSettings};
use kingpost_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use crate::reception::Reception;

/// What a plan is made from.
pub struct Context {
    /// The environment.
    pub environment: Environment,
    /// The metrics of this process.
    pub metrics: Metrics,
}

/// Why a worker can't be planned; ends the process with exit code 64.
#[derive(Debug)]
pub enum Refusal {
    /// Settings are missing or wrong.
    Settings(Problems),
    /// Schemes are missing or wrong; the text lists every problem.
    Schemes(String),
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Refusal::Settings(problems)
    }
}

/// How deliveries are gathered into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Items per batch at most.
    pub rows: usize,
    /// How long the first item of a batch may wait for others.
    pub wait: Duration,
    /// Batches at once.
    pub concurrency: usize,
    /// Unsettled deliveries in hand at most.
    pub prefetch: u16,
}

/// One queue and the stage that processes it.
pub struct LanePlan {
    /// The queue.
    pub route: Route,
    /// The stage.
    pub stage: Arc<dyn Stage>,
    /// The batches.
    pub batch: BatchPolicy,
}

/// What runs beside the lanes.
pub struct BackgroundContext {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The metrics of this process.
    pub metrics: Metrics,
    /// Cancelled when the worker is told to stop.
    pub stop: CancellationToken,
}

/// A task that runs until the worker is told to stop.
pub type Background = Box<dyn FnOnce(BackgroundContext) -> BoxFuture<'static, ()> + Send>;

/// A whole worker.
pub struct Plan {
    /// Settings of every program.
    pub common: CommonSettings,
    /// Settings of every worker.
    pub worker: WorkerSettings,
    /// The accounts that the schemes name, so that their variables are known.
    pub accounts: Vec<Option<String>>,
    /// The queues that have to exist.
    pub topology: Topology,
    /// The queues this worker consumes.
    pub lanes: Vec<LanePlan>,
    /// What runs beside them.
    pub background: Vec<Background>,
    /// What takes work from outside, also before there is a broker.
    pub receptions: Vec<Reception>,
}
