//! One pace for all queues of a scheme at a stage, and what is said when it changes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use kingpost_model::{FailureKind, Item, StageName, Verdict};
use kingpost_telemetry::LaneMetrics;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::pause::{DEAD_IN_A_ROW, Lesson, Limits, Pace, Reason, Ticket, Turn};

/// The pace that the queues of a scheme share, so that one document is tried per scheme and process, and not one per
/// shard.
pub(crate) struct SchemePace {
    scheme: String,
    stage: StageName,
    metrics: LaneMetrics,
    pace: Mutex<Pace>,
    changed: Notify,
}

impl SchemePace {
    pub(crate) fn new(scheme: &str, stage: StageName, metrics: LaneMetrics, limits: Limits) -> Arc<Self> {
        // There from the start, so that an alert knows the difference between none and unknown.
        Reason::WORDS.into_iter().for_each(|word| metrics.paused(word, false));
        Arc::new(SchemePace {
            scheme: scheme.to_owned(),
            stage,
            metrics,
            pace: Mutex::new(Pace::new(limits)),
            changed: Notify::new(),
        })
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.pace().limits()
    }

    /// Whether a batch may begin now.
    pub(crate) fn is_open(&self) -> bool {
        self.pace().turn(Instant::now()) == Turn::Now
    }

    /// Waits until a batch may begin, or until more may.
    pub(crate) async fn turn(&self) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        // Registered before the look, so that a change between look and wait is not missed.
        changed.as_mut().enable();
        let turn = self.pace().turn(Instant::now());
        match turn {
            Turn::Now => {}
            Turn::At(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = changed => {}
                }
            }
            Turn::AfterProbe => changed.await,
        }
    }

    /// Begins a batch; nothing when another queue has begun the probe.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Permit> {
        let ticket = self.pace().begin(Instant::now())?;
        Some(Permit { pace: Arc::clone(self), ticket })
    }

    /// Changes the pace and tells what has come of it.
    fn change<T>(&self, change: impl FnOnce(&mut Pace, Instant) -> T) -> T {
        let mut pace = self.pace();
        let before = pace.reason().cloned();
        let made = change(&mut pace, Instant::now());
        let after = pace.reason().cloned();
        drop(pace);
        if before != after {
            self.tell(before.as_ref(), after.as_ref());
        }
        self.changed.notify_waiters();
        made
    }

    fn tell(&self, before: Option<&Reason>, after: Option<&Reason>) {
        for word in Reason::WORDS {
            self.metrics.paused(word, after.is_some_and(|reason| reason.as_str() == word));
        }
        let (scheme, stage) = (self.scheme.as_str(), self.stage.as_str());
        match (before, after) {
            (_, Some(Reason::Outage(kind))) => {
                let advice = kind.advice();
                let kind = kind.as_str();
                warn!(scheme, stage, kind, "work pauses and is probed until it succeeds: {advice}");
            }
            (_, Some(Reason::DeadLetters(cause))) => {
                let (kind, advice) = (cause.kind.as_str(), flood_advice(cause.kind));
                error!(
                    scheme,
                    stage,
                    kind,
                    "{DEAD_IN_A_ROW} dead letters in a row with one cause: {}; work pauses, and one document is tried \
                     every half minute, later every five, until one gets through or fails otherwise: {advice}",
                    cause.text
                );
            }
            (Some(Reason::DeadLetters(cause)), None) => info!(
                scheme,
                stage,
                kind = cause.kind.as_str(),
                "a document got past the cause, work goes on; replay the dead letters that it left: {}",
                cause.text
            ),
            (_, None) => info!(scheme, stage, "a probe succeeded, work goes on"),
        }
    }
}

/// What to do about a cause that kills one document after the other.
const fn flood_advice(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Unmappable => {
            "if every document lacks it, mend the scheme or its tables; work goes on by itself, then replay the dead letters"
        }
        kind => kind.advice(),
    }
}

/// The right to run one batch; dropped unended, it taught nothing.
pub(crate) struct Permit {
    pace: Arc<SchemePace>,
    ticket: Ticket,
}

impl Permit {
    /// Looks at the verdicts of a queue's batch before they are carried out, and holds back a flood of dead letters.
    pub(crate) fn judge(&self, queue: usize, items: &[Item], verdicts: &mut [Verdict]) -> Lesson {
        self.pace.change(|pace, now| pace.judge(queue, items, verdicts, now))
    }

    /// Ends the batch.
    pub(crate) fn end(self, lesson: &Lesson) {
        self.pace.change(|pace, now| pace.end(&self.ticket, lesson, now));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pace.pace().release(&self.ticket);
        self.pace.changed.notify_waiters();
    }
}
