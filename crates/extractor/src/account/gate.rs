//! Whether a call may begin now: open, closed until a time, or to be probed by one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::pace::Pace;

/// Longest wait with a window in hand. Whatever lasts longer is waited for without holding a delivery.
pub(crate) const IN_PLACE: Duration = Duration::from_secs(300);
/// Longest time an account is left alone without asking it again, whatever a text or another extractor says.
const CLOSED_MAX: Duration = Duration::from_secs(48 * 3_600);
/// How long a limit that doesn't say how long it lasts is left alone, by how often it was met in a row. Limits are counted
/// by the minute; WDT asks to be left alone for five to ten.
const UNTOLD: [Duration; 4] =
    [Duration::from_secs(65), Duration::from_secs(120), Duration::from_secs(300), Duration::from_secs(600)];
/// By how much the pause grows each time a limit is met again right after it was said to be over.
const STEP: Duration = Duration::from_secs(5);
/// The longest that it grows to.
const STEP_MAX: Duration = Duration::from_secs(65);
/// Pause before the right to probe is asked for again.
const TURN_PAUSE: Duration = Duration::from_secs(2);

/// What extractors tell each other of one account. Times are lengths, since their clocks may differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Word {
    /// It is to be left alone.
    Closed {
        /// For so long from now on.
        for_ms: u64,
        /// A limit was met by calls, which makes everybody slower; otherwise it is only known to be closed.
        met: bool,
        /// How often in a row.
        times: u32,
    },
    /// A call went through again.
    Open,
    /// Somebody is new and wants to know.
    Asks,
    /// The pace of one who has met a limit.
    Paced {
        /// Calls a minute.
        per_minute: f64,
        /// While it was only one: at how many calls a minute it was met.
        once: Option<f64>,
    },
}

/// How a call ended, as far as limits go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By an answer of any other kind, so no limit is in force.
    Answered,
    /// Without an answer, which says nothing.
    Unanswered,
    /// By a limit, which lasts so long if it says so.
    Limited(Option<Duration>),
}

/// What a call was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// What was begun before the account was closed teaches nothing about the pace since.
    generation: u64,
    pub(crate) probe: bool,
    /// It used the pace.
    paced: bool,
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Call.
    Go(Ticket),
    /// Ask for the right to probe; whoever is told this has to end it by [`Gate::begin_probe`] or [`Gate::leave_probe`].
    Ask,
    /// Look again then, or when something has changed.
    Wait(Instant),
    /// It takes longer than may be waited.
    Refuse(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed { until: Instant },
}

/// The state of one account in this process.
#[derive(Debug)]
pub(crate) struct Gate {
    door: Door,
    pace: Pace,
    times: u32,
    generation: u64,
    /// Somebody in this process asks for the right to probe, or probes.
    probing: bool,
    /// Before this the right to probe is not asked for again.
    turn_from: Option<Instant>,
    /// Until then others are given the time to say what they know.
    hush: Option<Instant>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Gate {
            door: Door::Open,
            pace: Pace::default(),
            times: 0,
            generation: 0,
            probing: false,
            turn_from: None,
            hush: None,
        }
    }

    /// Calls a minute; nothing while no limit is known.
    pub(crate) fn per_minute(&self) -> Option<f64> {
        self.pace.per_minute()
    }

    /// Until when it is closed; in the past while its end is to be probed.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        match self.door {
            Door::Open => None,
            Door::Closed { until } => Some(until),
        }
    }

    /// Holds calls back until others had the time to answer, or no longer.
    pub(crate) fn hush(&mut self, until: Option<Instant>) {
        self.hush = until;
    }

    /// What a call may do that has to begin by `latest`.
    pub(crate) fn step(&mut self, now: Instant, latest: Instant) -> Step {
        if let Some(hush) = self.hush.filter(|hush| *hush > now) {
            return if hush >= latest { Step::Refuse(hush - now) } else { Step::Wait(hush) };
        }
        match self.door {
            Door::Open => {
                let next = self.pace.next(now);
                if next <= now {
                    let paced = self.pace.take(now);
                    return Step::Go(Ticket { generation: self.generation, probe: false, paced });
                }
                if next >= latest { Step::Refuse(next - now) } else { Step::Wait(next) }
            }
            Door::Closed { until } if until > now => {
                let left = until - now;
                if left > IN_PLACE || until >= latest { Step::Refuse(left) } else { Step::Wait(until) }
            }
            Door::Closed { .. } if now >= latest => Step::Refuse(TURN_PAUSE),
            Door::Closed { .. } if self.probing => Step::Wait(latest),
            Door::Closed { .. } => match self.turn_from.filter(|from| *from > now) {
                Some(from) => Step::Wait(from.min(latest)),
                None => {
                    self.probing = true;
                    Step::Ask
                }
            },
        }
    }

    /// The right to probe was given. Nothing when the account was opened or closed again meanwhile.
    pub(crate) fn begin_probe(&mut self, now: Instant) -> Option<Ticket> {
        match self.door {
            Door::Closed { until } if until <= now => {
                self.pace.take(now);
                Some(Ticket { generation: self.generation, probe: true, paced: false })
            }
            _ => {
                self.probing = false;
                None
            }
        }
    }

    /// Nobody here probes any more; it was not this process's turn, or nothing came of it.
    pub(crate) fn leave_probe(&mut self, now: Instant) {
        self.probing = false;
        self.turn_from = Some(now + TURN_PAUSE);
    }

    /// Learns from a call; returns what the others should know.
    pub(crate) fn end(&mut self, ticket: Ticket, ending: &Ending, now: Instant) -> Option<Word> {
        if ticket.probe {
            self.leave_probe(now);
        }
        match ending {
            Ending::Answered if ticket.probe => {
                self.open();
                Some(Word::Open)
            }
            Ending::Answered => {
                if ticket.paced {
                    self.pace.grow();
                }
                None
            }
            Ending::Unanswered => None,
            Ending::Limited(asked) => self.limited(ticket, *asked, now),
        }
    }

    fn limited(&mut self, ticket: Ticket, asked: Option<Duration>, now: Instant) -> Option<Word> {
        let open = self.door == Door::Open;
        if open || ticket.probe {
            self.times = self.times.saturating_add(1);
        }
        let pause = pause(asked, self.times);
        // Calls that were under way when it closed are refused for the same reason: one cut is enough.
        let met = open && ticket.generation == self.generation;
        if met {
            self.pace.meet(pause, now);
        }
        let for_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.close(now + pause).then_some(Word::Closed { for_ms, met, times: self.times })
    }

    /// Hears what another extractor says; returns what to answer.
    pub(crate) fn hear(&mut self, word: &Word, now: Instant) -> Vec<Word> {
        match word {
            Word::Closed { for_ms, met, times } => {
                let pause = Duration::from_millis(*for_ms).min(CLOSED_MAX);
                if *met && self.door == Door::Open {
                    self.pace.meet(pause, now);
                }
                self.times = self.times.max(*times);
                self.close(now + pause);
            }
            Word::Open => self.open(),
            Word::Asks => return self.known(now),
            Word::Paced { per_minute, once } => self.pace.adopt(*per_minute, *once),
        }
        Vec::new()
    }

    fn known(&self, now: Instant) -> Vec<Word> {
        let left = self.closed_until().map(|until| until.saturating_duration_since(now));
        let closed = left.map(|left| Word::Closed {
            for_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            met: false,
            times: self.times,
        });
        let once = self.pace.once();
        let paced = self.per_minute().map(|per_minute| Word::Paced { per_minute, once });
        closed.into_iter().chain(paced).collect()
    }

    /// Closes it, or keeps it closed for longer; returns whether that is news.
    fn close(&mut self, until: Instant) -> bool {
        match self.door {
            Door::Closed { until: before } if before >= until => return false,
            Door::Closed { .. } => {}
            Door::Open => self.generation += 1,
        }
        self.door = Door::Closed { until };
        self.turn_from = None;
        true
    }

    fn open(&mut self) {
        self.door = Door::Open;
        self.times = 0;
        self.turn_from = None;
    }
}

/// How long a limit that is met for the `times`-th time in a row is left alone.
fn pause(asked: Option<Duration>, times: u32) -> Duration {
    let before = usize::try_from(times.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., longest] = UNTOLD;
    let Some(asked) = asked else { return UNTOLD.get(before).copied().unwrap_or(longest) };
    let again = STEP.saturating_mul(times.saturating_sub(1)).min(STEP_MAX);
    asked.min(CLOSED_MAX).max(again).max(Duration::from_secs(1))
}
