//! One worker process, from its first line to its exit code.

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kingpost_broker::{Broker, BrokerConfig, Inbox, JournalKeep, LaneSpec, StartError, Subscription};
use kingpost_model::StageName;
use kingpost_settings::{AmqpUrl, Environment, Exit, JournalSettings, Problems, Program, warnings};
use kingpost_telemetry::{Health, Metrics, logs, serve, traces::Traces};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    balance::{self, Shard},
    drive,
    lane::Lane,
    observe::{BrokerTelemetry, LaneTelemetry},
    outbox::Scribe,
    pace::SchemePace,
    pause::Limits,
    plan::{BackgroundContext, Context, LanePlan, Plan, Refusal},
    reception::Receptions,
};

/// Share of the drain deadline kept for closing connections.
const CLOSING: Duration = Duration::from_secs(2);
/// How long the last spans may take, after everything else has ended.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Runs a worker: reads its settings, plans it, works until SIGTERM or SIGINT, drains, and returns its exit code.
pub fn run(program: Program, plan: fn(&Context) -> Result<Plan, Refusal>) -> ExitCode {
    // One thread: the AMQP client has threads of its own for its sockets, and the work between is short. Signals are heard
    // before anything else is done, so that one that comes at the very beginning ends the worker in order as well.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let heard = runtime.and_then(|runtime| {
        let signals = runtime.block_on(async { Signals::new() })?;
        Ok((runtime, signals))
    });
    let context = Context { environment: Environment::process(), metrics: Metrics::new() };
    let exit = match (plan(&context), heard) {
        (Ok(plan), Ok((runtime, signals))) => start(program, plan, &context, runtime, signals),
        (Ok(_), Err(error)) => fail(program, &error),
        (Err(refusal), _) => refuse(program, &refusal),
    };
    ExitCode::from(exit.code())
}

#[expect(clippy::print_stderr, reason = "logging is not set up yet")]
fn fail(program: Program, error: &std::io::Error) -> Exit {
    eprintln!("{}: the runtime could not be started, or signals can't be heard: {error}", binary(program));
    Exit::Bug
}

#[expect(clippy::print_stderr, reason = "logging is not set up before the settings are known to be right")]
fn refuse(program: Program, refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::Settings(problems) => {
            eprintln!("{}: settings are missing or wrong\n{problems}", binary(program))
        }
        Refusal::Schemes(text) => eprintln!("{}: schemes are missing or wrong\n{text}", binary(program)),
    }
    Exit::Settings
}

fn start(program: Program, plan: Plan, context: &Context, runtime: Runtime, signals: Signals) -> Exit {
    let settings = plan.worker.traces.as_ref();
    let traces = match Traces::start(settings, &context.metrics).and_then(|traces| {
        logs::init(plan.common.log_format, &plan.common.rust_log, &traces).map(|()| traces)
    }) {
        Ok(traces) => traces,
        Err(problem) => return refuse(program, &Refusal::Settings(Problems::from(problem))),
    };
    if let Some(warning) = Traces::warning(settings) {
        warn!("{warning}");
    }
    let accounts: Vec<Option<&str>> = plan.accounts.iter().map(Option::as_deref).collect();
    for warning in warnings(&context.environment, &accounts) {
        warn!("{warning}");
    }
    let exit = runtime.block_on(work(program, plan, context.metrics.clone(), signals));
    runtime.shutdown_timeout(Duration::from_secs(1));
    traces.end(LAST_SPANS);
    exit
}

async fn work(program: Program, mut plan: Plan, metrics: Metrics, mut signals: Signals) -> Exit {
    let stop = CancellationToken::new();
    let version = env!("CARGO_PKG_VERSION");
    metrics.build_info(version, option_env!("KINGPOST_REVISION").unwrap_or("unknown"));
    let health = Health::new();
    let served = CancellationToken::new();
    let observer = Arc::new(BrokerTelemetry::new(&metrics, &health, plan.common.amqp_ca_file.clone()));
    let address =
        match serve(plan.worker.http_addr, metrics.clone(), health.clone(), None, served.clone()).await {
            Ok((address, _)) => address,
            Err(error) => {
                error!("{error}");
                return Exit::Settings;
            }
        };
    let queues: Vec<String> = plan.lanes.iter().map(|lane| lane.route.queue()).collect();
    info!(version, address = %address, queues = queues.join(" "), "{} starts", binary(program));
    let heart = tokio::spawn(beat(health.clone()));
    let grace = grace(plan.worker.drain);
    let mut receptions =
        Receptions::start(std::mem::take(&mut plan.receptions), (&metrics, &health), &stop, grace);
    let halting = stop.clone();
    let listening = tokio::spawn(async move {
        let signal = signals.recv().await;
        #[cfg(kingpost_bugs)]
        if kingpost_settings::bug("no-drain") {
            std::process::exit(0);
        }
        info!(signal, "stopping: what is in flight is finished, the rest is handed back");
        halting.cancel();
        // A second signal changes nothing: the deadline is already running.
        loop {
            signals.recv().await;
        }
    });
    let config =
        broker_config(program, version, plan.common.amqp_url.clone(), plan.common.amqp_ca_file.clone());
    let exit = match Broker::start(config, plan.topology.clone(), observer, &stop).await {
        Ok(broker) => serve_queues(program, plan, broker, &mut receptions, (&metrics, &health), &stop).await,
        Err(StartError::Stopped) => Exit::Done,
        Err(StartError::Refused(text)) => {
            error!("{text}");
            Exit::Refused
        }
    };
    // Where no broker was reached they have nothing in hand.
    stop.cancel();
    receptions.end(CLOSING).await;
    listening.abort();
    heart.abort();
    served.cancel();
    info!(exit = exit.code(), "{} stopped", binary(program));
    exit
}

async fn serve_queues(
    program: Program,
    plan: Plan,
    broker: Broker,
    receptions: &mut Receptions,
    (metrics, health): (&Metrics, &Health),
    stop: &CancellationToken,
) -> Exit {
    let broker = Arc::new(broker);
    let drain = plan.worker.drain;
    if let Err(exit) = stranded(&plan, &broker, stop).await {
        return exit;
    }
    let journal = broker.journal(keep(&plan.common.journal));
    let publishing_ended = broker.publishing_ended();
    let specs =
        plan.lanes.iter().map(|lane| LaneSpec { route: lane.route.clone(), prefetch: lane.batch.prefetch });
    let (subscription, inboxes) = broker.subscribe(specs.collect());
    let finish = CancellationToken::new();
    let mut lanes = JoinSet::new();
    let scribe = Scribe::new(journal.clone(), worker_name(program));
    receptions.open(broker.outbound(), scribe.clone());
    let shards = spawn_lanes(&mut lanes, plan.lanes, inboxes, (&broker, &scribe), (metrics, health), &finish);
    let mut background = JoinSet::new();
    for (shards, loaders) in balance::of(&subscription, shards) {
        background.spawn(balance::run(shards, loaders, stop.clone()));
    }
    for task in plan.background {
        let context =
            BackgroundContext { broker: Arc::clone(&broker), metrics: metrics.clone(), stop: stop.clone() };
        background.spawn(task(context));
    }
    let exit = tokio::select! {
        () = stop.cancelled() => Exit::Done,
        Some(ended) = lanes.join_next(), if !lanes.is_empty() => {
            error!(error = ?ended.err(), "a queue's task ended by itself");
            Exit::Bug
        }
        exit = receptions.broken() => exit,
        () = publishing_ended.cancelled() => {
            error!("publishing ended by itself");
            Exit::Bug
        }
    };
    stop.cancel();
    drain_all(subscription, lanes, background, receptions, finish, drain).await;
    // Everything is settled by now, so that the journal has all it will ever have.
    let closing = async {
        match Arc::try_unwrap(broker) {
            Ok(broker) => broker.close(CLOSING).await,
            Err(_) => warn!("the broker is still in use; its connections end with the process"),
        }
    };
    tokio::join!(closing, journal.close(CLOSING));
    exit
}

/// A loader must not start while messages lie in load queues that nobody consumes any more.
async fn stranded(plan: &Plan, broker: &Broker, stop: &CancellationToken) -> Result<(), Exit> {
    if !plan.lanes.iter().any(|lane| lane.route.stage == StageName::Load) {
        return Ok(());
    }
    match broker.stranded(stop).await {
        Ok(queues) if queues.is_empty() => Ok(()),
        Ok(queues) => {
            let list: Vec<String> = queues
                .iter()
                .map(|(queue, depth)| match depth.consumers {
                    0 => format!("{queue} ({})", depth.ready),
                    _ => format!("{queue} ({}, and a loader consumes it)", depth.ready),
                })
                .collect();
            error!(
                "messages lie in queues of another number of shards: {}; set `shards` of the scheme back, let the \
                 loaders drain them, stop those, then change it",
                list.join(", ")
            );
            Err(Exit::Refused)
        }
        Err(StartError::Stopped) => Err(Exit::Done),
        Err(StartError::Refused(text)) => {
            warn!("whether messages lie in queues of another number of shards is not checked: {text}");
            Ok(())
        }
    }
}

/// Runs every lane; those of a scheme at a stage share one pace.
fn spawn_lanes(
    lanes: &mut JoinSet<()>,
    plans: Vec<LanePlan>,
    inboxes: Vec<Inbox>,
    (broker, scribe): (&Broker, &Scribe),
    (metrics, health): (&Metrics, &Health),
    finish: &CancellationToken,
) -> Vec<Shard> {
    let mut paces: HashMap<(String, StageName), Arc<SchemePace>> = HashMap::new();
    let mut shards = Vec::new();
    for (index, (plan, inbox)) in plans.into_iter().zip(inboxes).enumerate() {
        let LanePlan { route, stage, batch } = plan;
        let telemetry = LaneTelemetry::new(metrics, health, &route.scheme, route.stage, &route.queue());
        let pace = paces.entry((route.scheme.clone(), route.stage)).or_insert_with(|| {
            let limits = Limits { rows: batch.rows, concurrency: batch.concurrency };
            SchemePace::new(&route.scheme, route.stage, metrics.lane(&route.scheme, route.stage), limits)
        });
        let lane = Arc::new(Lane {
            index,
            stage,
            outbound: broker.outbound(),
            pace: Arc::clone(pace),
            telemetry,
            worker: scribe.worker().to_owned(),
            scribe: scribe.clone(),
            doubt: Mutex::default(),
            asked_to_step_back: watch::Sender::new(false),
            route,
        });
        shards.push(Shard { lane: Arc::clone(&lane), active: inbox.active_since() });
        lanes.spawn(drive::run(lane, inbox, batch, finish.clone()));
    }
    shards
}

/// How much of the drain deadline is for finishing what is in hand.
fn grace(drain: Duration) -> Duration {
    drain.saturating_sub(CLOSING).max(Duration::from_millis(500))
}

/// The fixed order of stopping, under one deadline: the lanes finish what is in flight, give up their queues and hand
/// back the rest; what runs beside stops; whoever was let in from outside is answered; the connection closes, which
/// returns whatever is left.
async fn drain_all(
    subscription: Subscription,
    mut lanes: JoinSet<()>,
    mut background: JoinSet<()>,
    receptions: &mut Receptions,
    finish: CancellationToken,
    drain: Duration,
) {
    let deadline = Instant::now() + grace(drain);
    finish.cancel();
    let rest = async {
        while lanes.join_next().await.is_some() {}
        while background.join_next().await.is_some() {}
        receptions.finish().await;
    };
    if tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), rest).await.is_err() {
        warn!(
            seconds = drain.as_secs(),
            "the drain deadline came first; what is unfinished goes back to its queue"
        );
    }
    // Before what is unfinished is given up: returned one by one to a consumer that still is the active one, it would
    // come back here.
    subscription.begin_close();
    lanes.shutdown().await;
    background.shutdown().await;
    receptions.end(Duration::ZERO).await;
    subscription.close(CLOSING).await;
}

fn broker_config(
    program: Program,
    version: &str,
    url: AmqpUrl,
    ca_file: Option<std::path::PathBuf>,
) -> BrokerConfig {
    let source = move || url.current().map_err(|problem| problem.to_string());
    let mut config = BrokerConfig::new(Arc::new(source), format!("{}/{version}", binary(program)));
    config.ca_file = ca_file;
    config
}

/// Shows that the event loop turns.
async fn beat(health: Health) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        health.beat();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How much of the journal is kept; nothing when it is off.
fn keep(settings: &JournalSettings) -> Option<JournalKeep> {
    settings.on.then_some(JournalKeep { max_age: settings.max_age, max_bytes: settings.max_bytes })
}

/// Program and version, as in the headers of messages.
fn worker_name(program: Program) -> String {
    format!("{}/{}", binary(program), env!("CARGO_PKG_VERSION"))
}

/// The name of a worker's binary.
fn binary(program: Program) -> String {
    format!("kingpost-{program}")
}
