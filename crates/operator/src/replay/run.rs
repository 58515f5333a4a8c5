//! Carrying a plan out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kingpost_broker::{AuditLetter, BrokerConfig, Custody, JournalKeep, Replies};
use kingpost_model::{LoadedHow, StageName};
use kingpost_settings::Exit;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Fate, LaneEnd, Plan, Remake, Rules, Shards, Why,
    lane::{Lane, Shared},
    ledger::Ledger,
    progress::{Counts, Progress},
    rate::Rate,
};
use crate::{
    act::{Action, Actor},
    ending::Stop,
};

/// How long what became of a plan is remembered after it was last asked for.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Messages per second in canary steps at most.
const CANARY_RATE: u32 = 10;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// Pause before a lost connection to the reply queue is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for what the reply queue already holds.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

/// A plan and how to carry it out.
pub(crate) struct Order {
    pub(crate) plan: Plan,
    pub(crate) broker: BrokerConfig,
    /// How much of the journal is kept, where there is one.
    pub(crate) journal: Option<JournalKeep>,
    pub(crate) shards: Shards,
    pub(crate) rules: Rules,
    /// Messages per second after the canary steps; 0 is no limit.
    pub(crate) rate: u32,
    /// How long to wait for a report when none comes.
    pub(crate) wait: Duration,
    /// For a plan that reads the orders from their source again.
    pub(crate) source: Option<Box<dyn Remake>>,
    pub(crate) actor: Actor,
    pub(crate) reason: String,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) plan: Plan,
    /// What became of each letter, in the order of the plan.
    pub(crate) fates: Vec<Fate>,
    /// Causes that were stopped.
    pub(crate) stopped: BTreeMap<usize, Why>,
    /// Each dead-letter queue, and how the work on it ended.
    pub(crate) lanes: Vec<(String, LaneEnd)>,
    /// What is to be told of the audit trail.
    pub(crate) trail: String,
}

impl Ended {
    /// Every letter ended well, or was taken care of by somebody else; not all of them by somebody else, which looks more
    /// like a plan for letters of another day.
    pub(crate) fn is_well(&self) -> bool {
        self.fates.iter().any(|fate| *fate != Fate::Gone)
            && self
                .fates
                .iter()
                .all(|fate| fate.is_final() && !matches!(fate, Fate::Failed { .. } | Fate::Unmade { .. }))
    }

    /// Which causes were stopped and why, for the audit trail.
    fn stops(&self) -> Value {
        let stops = self.stopped.iter().filter_map(|(index, why)| {
            let cause = self.plan.causes.get(*index)?;
            Some(json!({"queue": cause.queue, "cause": cause.cause, "stopped": why.text()}))
        });
        Value::Array(stops.collect())
    }

    /// How many letters ended how, in words.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut outcomes = BTreeMap::new();
        for fate in &self.fates {
            let word = match fate {
                Fate::Pending | Fate::Unmade { .. } => "left",
                Fate::Sent | Fate::Waiting { .. } => "waiting",
                Fate::Loaded { how: LoadedHow::AlreadyThere | LoadedHow::Ignored, .. } => "already there",
                Fate::Loaded { how: LoadedHow::Withdrawn, .. } => "withdrawn",
                Fate::Loaded { .. } => "posted",
                Fate::Filtered => "filtered",
                Fate::Read { .. } => "read",
                Fate::Failed { .. } => "failed again",
                Fate::Gone => "gone",
            };
            *outcomes.entry(word.to_owned()).or_default() += 1;
        }
        outcomes
    }
}

/// Carries a plan out as far as it goes, or takes it up where it was left.
///
/// # Errors
/// Nothing was moved: somebody else is at work, the broker is away or refuses, or the audit trail can't be written.
pub(crate) async fn run(order: Order) -> Result<Ended, Stop> {
    let custodies = take(&order).await?;
    let replies = Replies::open(&order.broker, &order.plan.replies, KEEP).await?;
    let action = begin(&order).await?;
    let shared = Arc::new(Shared {
        ledger: Mutex::new(Ledger::new(&order.plan)),
        rates: (canary_rate(order.rate), Rate::new(order.rate)),
        plan: order.plan,
        shards: order.shards,
        rules: order.rules,
        wait: order.wait,
        source: order.source,
        news: watch::Sender::new(0),
        stop: watch::Sender::new(false),
        stopped: Mutex::default(),
        removed: Mutex::default(),
        scribe: action.scribe(),
    });
    let reader = listen(Arc::clone(&shared), replies).await?;
    let ear = tokio::spawn(heed(Arc::clone(&shared)));
    let resumed = shared.ledger().fates().iter().any(|fate| *fate != Fate::Pending);
    shared.ledger().begin();
    let lanes = work(&shared, custodies, resumed).await;
    reader.abort();
    let fates = shared.ledger().fates().to_vec();
    let stopped = shared.stopped().clone();
    let removed = std::mem::take(&mut *shared.removed());
    let mut ended = Ended { plan: shared.plan.clone(), fates, stopped, lanes, trail: String::new() };
    ended.trail = conclude(action, &ended, removed).await;
    ear.abort();
    Ok(ended)
}

/// Writes into the audit trail how it ended; what to tell when that can't be done.
async fn conclude(mut action: Action, ended: &Ended, removed: Vec<AuditLetter>) -> String {
    if !removed.is_empty() {
        action
            .note(|event| {
                event.count = removed.len() as u64;
                event.letters = removed;
                event.details = json!("taken out because a copy was on its way or had ended well");
            })
            .await;
    }
    if !ended.stopped.is_empty() {
        action.note(|event| event.details = ended.stops()).await;
    }
    action.end(ended.outcomes()).await
}

/// The right to every queue of the plan, or to none.
async fn take(order: &Order) -> Result<Vec<(Custody, StageName, String)>, Stop> {
    let mut custodies = Vec::new();
    for (queue, scheme, stage) in order.plan.queues() {
        let Some(stage) = StageName::parse(&stage) else {
            return Err(Stop::failed(format!(
                "the plan names `{queue}`, which no stage of this release has"
            )));
        };
        let taken = Custody::take(&order.broker, stage, &scheme).await;
        custodies.push((taken?, stage, scheme));
    }
    Ok(custodies)
}

async fn begin(order: &Order) -> Result<Action, Stop> {
    let plan = &order.plan;
    let letters = plan.letters.iter().map(|entry| AuditLetter {
        id: entry.id.clone(),
        key: entry.number.clone(),
        sha256: entry.sha256.clone(),
    });
    let queues = plan.queues().into_iter().map(|(queue, ..)| queue).collect();
    Action::begin((&order.broker, order.journal), &order.actor, "dead replay", |event| {
        event.reason.clone_from(&order.reason);
        event.queues = queues;
        event.count = plan.letters.len() as u64;
        event.plan = Some(plan.plan.clone());
        event.digest = Some(plan.digest.clone());
        event.letters = letters.collect();
    })
    .await
}

fn canary_rate(rate: u32) -> Rate {
    Rate::new(if rate == 0 { CANARY_RATE } else { rate.min(CANARY_RATE) })
}

/// Reads the reply queue from its first message on, whatever happens to the connection; returns when it has caught up.
async fn listen(shared: Arc<Shared>, replies: Replies) -> Result<tokio::task::JoinHandle<()>, Stop> {
    let caught = Arc::new(watch::Sender::new(false));
    let mut caught_up = caught.subscribe();
    let reader = tokio::spawn(async move {
        loop {
            let each = |reply| {
                if shared.ledger().hear(&reply) {
                    shared.news.send_modify(|news| *news += 1);
                }
            };
            // Only ever ends with an error, and then begins anew: nothing was acknowledged.
            let _ = replies.read(each, || caught.send_modify(|caught| *caught = true)).await;
            tokio::time::sleep(AGAIN).await;
        }
    });
    let caught = tokio::time::timeout(CATCH_UP_MAX, caught_up.wait_for(|caught| *caught)).await;
    match caught {
        Ok(Ok(_)) => Ok(reader),
        _ => {
            reader.abort();
            Err(Stop::failed("the reply queue of the plan can't be read; nothing was sent. Run it again"))
        }
    }
}

/// Works on every queue at once, and shows progress.
async fn work(
    shared: &Arc<Shared>,
    custodies: Vec<(Custody, StageName, String)>,
    resumed: bool,
) -> Vec<(String, LaneEnd)> {
    let mut lanes = JoinSet::new();
    for (custody, stage, scheme) in custodies {
        let queue = custody.queue();
        let causes = shared.plan.causes.iter().enumerate().filter(|(_, cause)| cause.queue == queue);
        let causes = causes.map(|(index, _)| index).collect();
        let lane = Lane { shared: Arc::clone(shared), custody, stage, scheme, causes };
        lanes.spawn(async move { (queue, lane.run(resumed).await) });
    }
    let mut progress = Progress::new(shared.plan.letters.len());
    let mut told = 0;
    let mut tick = tokio::time::interval(SHOW_EVERY);
    let mut ends = Vec::new();
    let (mut stop, mut said) = (shared.stop.subscribe(), false);
    loop {
        tokio::select! {
            end = lanes.join_next() => match end {
                Some(Ok(end)) => ends.push(end),
                Some(Err(error)) => ends.push((String::new(), LaneEnd::Lost(error.to_string()))),
                None => break,
            },
            _ = tick.tick() => {
                progress.show(counts(shared));
                told = tell_stopped(shared, &progress, told);
            }
            _ = stop.wait_for(|stop| *stop), if !said => {
                said = true;
                progress.say(
                    "ending: what is out is left to the workers; run the plan again to go on. Ctrl-C once more ends it \
                     at once",
                );
            }
        }
    }
    tell_stopped(shared, &progress, told);
    progress.end();
    ends.sort_by(|one, other| one.0.cmp(&other.0));
    ends
}

/// A first Ctrl-C ends the run in good order, which takes a while where the broker is slow; a second ends the process, as a
/// kill would: what was in hand stays, perhaps beside its copy, and the next run puts that right.
async fn heed(shared: Arc<Shared>) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    shared.stop.send_replace(true);
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("ended; run the plan again to go on");
        std::process::exit(i32::from(Exit::Failed.code()));
    }
}

/// Tells of causes that were stopped since.
fn tell_stopped(shared: &Shared, progress: &Progress, told: usize) -> usize {
    let stopped = shared.stopped().clone();
    if stopped.len() > told {
        for (index, why) in &stopped {
            if let Some(cause) = shared.plan.causes.get(*index) {
                progress.say(&format!("stopped: {} ({})", cause.cause, why.text()));
            }
        }
    }
    stopped.len()
}

fn counts(shared: &Shared) -> Counts {
    let mut counts = Counts::default();
    for fate in shared.ledger().fates() {
        match fate {
            Fate::Pending | Fate::Gone | Fate::Unmade { .. } => continue,
            Fate::Sent | Fate::Waiting { .. } => counts.out += 1,
            Fate::Failed { .. } => counts.failed += 1,
            Fate::Loaded { .. } | Fate::Filtered | Fate::Read { .. } => counts.well += 1,
        }
        counts.sent += 1;
    }
    counts
}
