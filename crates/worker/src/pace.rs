//! One pace for all queues of a scheme at a stage, and what is said when it changes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use kingpost_model::{FailureKind, Item, StageName, Verdict};
use kingpost_telemetry::LaneMetrics;
use tokio::sync::{Notify, watch};
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
    /// Since when each queue has been delivering to us, if it does.
    queues: Mutex<Vec<Active>>,
}

/// Since when a queue has been delivering to us; nothing while it doesn't.
pub(crate) type Active = watch::Receiver<Option<Instant>>;

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
            queues: Mutex::default(),
        })
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a queue to those that go at this pace.
    pub(crate) fn joined_by(&self, queue: Active) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(queue);
    }

    /// Whether any queue delivers to us.
    fn is_active(&self) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().any(|queue| queue.borrow().is_some())
    }

    /// Ends the pause of a worker that gets no work any more: nothing here would ever end it, and another worker may be
    /// past its reason for long.
    pub(crate) fn look(&self) {
        self.change(|_, _| ());
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

    /// Changes the pace and tells what has come of it. A batch may end after its queue has gone to another worker, so
    /// nothing pauses us then.
    fn change<T>(&self, change: impl FnOnce(&mut Pace, Instant) -> T) -> T {
        let is_active = self.is_active();
        let mut pace = self.pace();
        let before = pace.reason().cloned();
        let made = change(&mut pace, Instant::now());
        if !is_active {
            pace.forget_pause();
        }
        let after = pace.reason().cloned();
        drop(pace);
        match before {
            Some(_) if !is_active => self.left(),
            before if before != after => self.tell(before.as_ref(), after.as_ref()),
            _ => {}
        }
        self.changed.notify_waiters();
        made
    }

    fn show(&self, reason: Option<&Reason>) {
        for word in Reason::WORDS {
            self.metrics.paused(word, reason.is_some_and(|reason| reason.as_str() == word));
        }
    }

    /// The pause is over without a success.
    fn left(&self) {
        self.show(None);
        let (scheme, stage) = (self.scheme.as_str(), self.stage.as_str());
        info!(
            scheme,
            stage, "no work comes here at present, so this worker's pause is over and nothing is known"
        );
    }

    fn tell(&self, before: Option<&Reason>, after: Option<&Reason>) {
        self.show(after);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kingpost_model::{Failure, RecordKey, Work, WorkId};
    use kingpost_telemetry::Metrics;

    use super::*;

    struct Scene {
        metrics: Metrics,
        pace: Arc<SchemePace>,
        queues: [watch::Sender<Option<Instant>>; 2],
    }

    impl Scene {
        /// Two shards that deliver to us.
        fn new() -> Self {
            let metrics = Metrics::new();
            let lane = metrics.lane("s", StageName::Load);
            let pace = SchemePace::new("s", StageName::Load, lane, Limits { rows: 20, concurrency: 2 });
            let queues = [(); 2].map(|()| watch::channel(Some(Instant::now())).0);
            queues.iter().for_each(|queue| pace.joined_by(queue.subscribe()));
            Scene { metrics, pace, queues }
        }

        fn is_paused(&self) -> bool {
            let text = self.metrics.render().unwrap();
            let shown = |line: &&str| line.starts_with("kingpost_scheme_paused{") && line.ends_with(" 1");
            text.lines().any(|line| shown(&line))
        }

        /// A batch whose system is down.
        fn fails(&self, permit: Permit) {
            let work = Work::new(WorkId::new("1"), StageName::Load, "s", RecordKey::new("f", "RK1"), "{}");
            let failure = Failure::new(FailureKind::Unavailable, "down");
            let after = Duration::from_secs(5);
            let mut verdicts = [Verdict::Retry { after, counted: false, failure }];
            let lesson = permit.judge(0, &[Item { work, redelivered: false }], &mut verdicts);
            permit.end(&lesson);
        }
    }

    #[test]
    fn the_pause_of_a_loader_ends_with_its_last_queue() {
        let scene = Scene::new();
        scene.fails(scene.pace.begin().unwrap());
        assert!(scene.is_paused() && !scene.pace.is_open());
        scene.queues[0].send_replace(None);
        scene.pace.look();
        assert!(scene.is_paused(), "the other queue still delivers");
        scene.queues[1].send_replace(None);
        scene.pace.look();
        assert!(!scene.is_paused() && scene.pace.is_open());
        assert_eq!(scene.pace.limits(), Limits { rows: 1, concurrency: 1 }, "and begins with one document");
        // The queue comes back, and what it brings pauses as ever.
        scene.queues[0].send_replace(Some(Instant::now()));
        scene.fails(scene.pace.begin().unwrap());
        assert!(scene.is_paused());
    }

    #[test]
    fn a_batch_that_ends_after_its_queue_has_gone_pauses_nothing() {
        let scene = Scene::new();
        let permit = scene.pace.begin().unwrap();
        scene.queues.iter().for_each(|queue| assert!(queue.send_replace(None).is_some()));
        scene.pace.look();
        scene.fails(permit);
        assert!(!scene.is_paused() && scene.pace.is_open());
    }
}
