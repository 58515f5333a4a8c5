//! Whether a program is ready, and whether it still moves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long the program may go without a [`Health::beat`] before it counts as stuck.
const BEAT_LIMIT: Duration = Duration::from_secs(30);

/// The health of one program. Cheap to clone; clones share it.
///
/// *Ready* means that every component is: a broker or an ERP that is down makes a program unready, which is a sign for
/// people and for a roll-out. *Alive* looks inwards only: the event loop ticks, and deliveries that are held get
/// settled. It never depends on a broker or an ERP, as an outage would then restart every worker.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    components: BTreeMap<String, State>,
    last_beat: Option<Instant>,
    watchdogs: Vec<Weak<Dog>>,
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can do its part.
    Ready,
    /// It can't; the reason is a lowercase fragment without secrets.
    NotReady(String),
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether every component is ready and there is at least one.
    pub ready: bool,
    /// By name.
    pub components: BTreeMap<String, Component>,
}

/// One component in `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Whether it is ready.
    pub ready: bool,
    /// Why it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What `/healthz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// Whether nothing is stuck.
    pub alive: bool,
    /// What is.
    pub stalled: Vec<Stall>,
}

/// Something that is stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// The name of a watchdog, or `beat` for the event loop.
    pub what: String,
    /// Deliveries held; 0 for the event loop.
    pub held: usize,
    /// Whole seconds without progress.
    pub seconds: u64,
}

impl Health {
    /// Without components, and so not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how a component is. The first call for a name adds it.
    pub fn set(&self, component: &str, state: State) {
        self.lock().components.insert(component.to_owned(), state);
    }

    /// Forgets a component.
    pub fn remove(&self, component: &str) {
        self.lock().components.remove(component);
    }

    /// The event loop still ticks. From the first call on, half a minute without another one is a stall.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// A watch over deliveries that are held; it ends when the watchdog is dropped. `limit` is the longest time a batch
    /// may take with everything that belongs to it: its wait, its requests and look-ups, its publishes.
    pub fn watchdog(&self, name: impl Into<String>, limit: Duration) -> Watchdog {
        let dog = Arc::new(Dog { name: name.into(), limit, hold: Mutex::default() });
        let mut inner = self.lock();
        inner.watchdogs.retain(|other| other.strong_count() > 0);
        inner.watchdogs.push(Arc::downgrade(&dog));
        Watchdog { dog }
    }

    /// Whether every component is ready.
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        let components: BTreeMap<String, Component> = inner
            .components
            .iter()
            .map(|(name, state)| {
                let reason = match state {
                    State::Ready => None,
                    State::NotReady(reason) => Some(reason.clone()),
                };
                (name.clone(), Component { ready: reason.is_none(), reason })
            })
            .collect();
        // Before the first component has reported, "all are ready" would be true of none.
        let ready = !components.is_empty() && components.values().all(|component| component.ready);
        Readiness { ready, components }
    }

    /// Whether nothing is stuck.
    pub fn liveness(&self) -> Liveness {
        self.liveness_at(Instant::now())
    }

    fn beat_at(&self, now: Instant) {
        self.lock().last_beat = Some(now);
    }

    fn liveness_at(&self, now: Instant) -> Liveness {
        let inner = self.lock();
        let beat = inner.last_beat.map(|beat| now.saturating_duration_since(beat));
        let beat = beat.filter(|silent| *silent > BEAT_LIMIT);
        let beat = beat.map(|silent| Stall { what: "beat".to_owned(), held: 0, seconds: silent.as_secs() });
        let dogs = inner.watchdogs.iter().filter_map(Weak::upgrade).filter_map(|dog| dog.stall_at(now));
        let stalled: Vec<Stall> = beat.into_iter().chain(dogs).collect();
        Liveness { alive: stalled.is_empty(), stalled }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("readiness", &self.readiness()).finish_non_exhaustive()
    }
}

/// Watches that deliveries which are held get settled within a limit.
///
/// A stage that waits on purpose, for an ERP to come back or a paused scheme to go on, calls
/// [`Watchdog::progress`] at every probe: waiting is not being stuck.
#[derive(Debug)]
pub struct Watchdog {
    dog: Arc<Dog>,
}

impl Watchdog {
    /// How many deliveries are held now. Fewer than before is progress.
    pub fn held(&self, count: usize) {
        self.dog.held_at(count, Instant::now());
    }

    /// Something was settled, or a purposeful wait was looked after.
    pub fn progress(&self) {
        self.dog.progress_at(Instant::now());
    }
}

#[derive(Debug)]
struct Dog {
    name: String,
    limit: Duration,
    hold: Mutex<Hold>,
}

#[derive(Debug, Default)]
struct Hold {
    count: usize,
    /// The last progress, or the start of this hold when that is later.
    since: Option<Instant>,
}

impl Dog {
    fn held_at(&self, count: usize, now: Instant) {
        let mut hold = self.lock();
        if count < hold.count || hold.count == 0 {
            hold.since = Some(now);
        }
        hold.count = count;
    }

    fn progress_at(&self, now: Instant) {
        self.lock().since = Some(now);
    }

    fn stall_at(&self, now: Instant) -> Option<Stall> {
        let hold = self.lock();
        let silent = now.saturating_duration_since(hold.since?);
        let stuck = hold.count > 0 && silent > self.limit;
        stuck.then(|| Stall { what: self.name.clone(), held: hold.count, seconds: silent.as_secs() })
    }

    fn lock(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn later(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn deliveries_held_beyond_the_limit_are_a_stall_and_progress_ends_it() {
        let (health, start) = (Health::new(), Instant::now());
        let watchdog = health.watchdog("load.purchase-stockin", LIMIT);
        watchdog.dog.held_at(3, start);
        assert!(health.liveness_at(later(start, 60)).alive);
        let stall = Stall { what: "load.purchase-stockin".to_owned(), held: 3, seconds: 61 };
        assert_eq!(health.liveness_at(later(start, 61)).stalled, [stall]);
        watchdog.dog.progress_at(later(start, 62));
        assert!(health.liveness_at(later(start, 122)).alive);
        assert!(!health.liveness_at(later(start, 123)).alive);
    }

    #[test]
    fn an_idle_worker_is_never_stuck_and_its_limit_starts_with_the_hold() {
        let (health, start) = (Health::new(), Instant::now());
        let watchdog = health.watchdog("load.purchase-stockin", LIMIT);
        watchdog.dog.progress_at(start);
        assert!(health.liveness_at(later(start, 3_600)).alive);
        watchdog.dog.held_at(1, later(start, 3_600));
        assert!(health.liveness_at(later(start, 3_660)).alive);
        assert!(!health.liveness_at(later(start, 3_661)).alive);
    }

    #[test]
    fn more_deliveries_are_no_progress_and_fewer_are() {
        let (health, start) = (Health::new(), Instant::now());
        let watchdog = health.watchdog("load.purchase-stockin", LIMIT);
        watchdog.dog.held_at(1, start);
        watchdog.dog.held_at(9, later(start, 50));
        assert!(!health.liveness_at(later(start, 61)).alive);
        watchdog.dog.held_at(8, later(start, 61));
        assert!(health.liveness_at(later(start, 121)).alive);
    }

    #[test]
    fn a_dropped_watchdog_watches_no_more() {
        let (health, start) = (Health::new(), Instant::now());
        let watchdog = health.watchdog("load.purchase-stockin", LIMIT);
        watchdog.dog.held_at(1, start);
        drop(watchdog);
        assert!(health.liveness_at(later(start, 3_600)).alive);
    }

    #[test]
    fn a_silent_event_loop_is_a_stall_once_it_has_beaten() {
        let (health, start) = (Health::new(), Instant::now());
        assert!(health.liveness_at(later(start, 3_600)).alive);
        health.beat_at(start);
        assert!(health.liveness_at(later(start, 30)).alive);
        assert_eq!(health.liveness_at(later(start, 31)).stalled[0].what, "beat");
    }
}
