//! How fast a scheme goes at a stage. Batch size and concurrency follow what the other side bears, within the limits of
//! the scheme; when work fails for a reason that has nothing to do with the single document, everything pauses and one
//! document at a time is tried until one succeeds.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kingpost_model::{Failure, FailureKind, FailureRecord, Item, Origin, Verdict};

/// Longest pause before an unavailable system is tried again.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(30);
/// Pause before a wrong configuration is tried again; a person has to act first.
const CONFIGURATION: Duration = Duration::from_secs(30);
/// Pause after a limit that doesn't say how long it lasts.
const THROTTLED: Duration = Duration::from_secs(65);
/// Dead letters in a row, with one cause and no other verdict of their queue in between, after which the scheme pauses:
/// a flood of them is no matter of the documents.
pub(crate) const DEAD_IN_A_ROW: u32 = 20;
/// Pause before the next document is tried while one cause kills them all; a person has to act first.
const FLOOD: Duration = Duration::from_secs(30);
/// The longest that this pause grows to.
const FLOOD_MAX: Duration = Duration::from_secs(300);
/// The longest that a document waits which was tried meanwhile; its tier has no bearing on the pause.
const FLOOD_WAIT_MAX: Duration = Duration::from_secs(180);

/// Why work pauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A failure that says nothing about the document.
    Outage(FailureKind),
    /// One cause kills document after document.
    DeadLetters(Cause),
}

impl Reason {
    /// Every word that [`Reason::as_str`] gives.
    pub(crate) const WORDS: [&'static str; 4] = [
        FailureKind::Throttled.as_str(),
        FailureKind::Unavailable.as_str(),
        FailureKind::Configuration.as_str(),
        "dead-letters",
    ];

    /// The word used in metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Reason::Outage(kind) => kind.as_str(),
            Reason::DeadLetters(_) => "dead-letters",
        }
    }
}

/// What dead letters have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) kind: FailureKind,
    /// The failure's text without what differs between documents.
    pub(crate) text: String,
}

impl Cause {
    fn of(failure: &Failure, item: &Item) -> Self {
        Cause { kind: failure.kind, text: FailureRecord::of(failure, &item.work, 0, "").cause() }
    }
}

/// The limits of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Items per batch.
    pub(crate) rows: usize,
    /// Batches at once, per queue.
    pub(crate) concurrency: usize,
}

/// When the next batch may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    At(Instant),
    /// When the probe that is under way has ended.
    AfterProbe,
}

/// What a batch was begun with.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// What was begun before the last change teaches nothing about what came after it.
    generation: u64,
    rows: usize,
}

/// What a batch teaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lesson {
    items: usize,
    outage: Option<(FailureKind, Duration)>,
    overload: bool,
    /// A document failed with the very cause for which work pauses.
    same_cause: bool,
}

#[derive(Debug)]
struct Pause {
    reason: Reason,
    until: Instant,
    step: Duration,
    probing: bool,
}

impl Pause {
    /// The probe failed.
    fn again(&mut self, longest: Duration, now: Instant) {
        self.step = (self.step * 2).min(longest);
        self.until = now + self.step;
        self.probing = false;
    }
}

/// The pace of a scheme at a stage, over all its queues in this process.
#[derive(Debug)]
pub(crate) struct Pace {
    full: Limits,
    now: Limits,
    /// Up to here batches double in size, beyond it they creep: it is where the last overload began, halved.
    brisk: usize,
    generation: u64,
    pause: Option<Pause>,
    /// By queue, the dead letters in a row and their cause.
    runs: HashMap<usize, (Cause, u32)>,
}

impl Pace {
    pub(crate) fn new(full: Limits) -> Self {
        let full = Limits { rows: full.rows.max(1), concurrency: full.concurrency.max(1) };
        Pace { full, now: full, brisk: full.rows, generation: 0, pause: None, runs: HashMap::new() }
    }

    /// What the next batch may have.
    pub(crate) fn limits(&self) -> Limits {
        self.now
    }

    /// Why work is paused or probed.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        self.pause.as_ref().map(|pause| &pause.reason)
    }

    pub(crate) fn turn(&self, now: Instant) -> Turn {
        match &self.pause {
            Some(pause) if pause.probing => Turn::AfterProbe,
            Some(pause) if pause.until > now => Turn::At(pause.until),
            _ => Turn::Now,
        }
    }

    /// Begins a batch if it may be begun now; what it is given has to be ended or released.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Ticket> {
        if self.turn(now) != Turn::Now {
            return None;
        }
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
        }
        Some(Ticket { generation: self.generation, rows: self.now.rows })
    }

    /// Ends a batch that taught nothing, such as one whose session was lost.
    pub(crate) fn release(&mut self, ticket: &Ticket) {
        if let Some(pause) = self.pause.as_mut().filter(|_| ticket.generation == self.generation) {
            pause.probing = false;
        }
    }

    /// Forgets the pause: whoever gets the work now finds out for itself, and so do we when we get it again, with one
    /// document at first. What is under way teaches nothing about that. A flood is known again by its next dead letter.
    pub(crate) fn forget_pause(&mut self) {
        if self.pause.take().is_some() {
            self.generation += 1;
        }
    }

    /// Looks at what a queue's batch came to before it is carried out, and holds back the flood: after
    /// [`DEAD_IN_A_ROW`] dead letters with one cause, further documents with that cause wait, uncounted, instead of
    /// dying.
    ///
    /// A replayed document takes no part in that. It came out of the dead-letter queue, whoever sent it waits for its
    /// verdict, and replaying has brakes of its own; but that one succeeds ends the pause like any other success.
    pub(crate) fn judge(
        &mut self,
        queue: usize,
        items: &[Item],
        verdicts: &mut [Verdict],
        now: Instant,
    ) -> Lesson {
        let mut lesson = Lesson { items: verdicts.len(), ..Lesson::default() };
        for (item, verdict) in items.iter().zip(verdicts) {
            let replayed = item.work.reply_to.is_some() || item.work.origin == Origin::Replay;
            match verdict {
                Verdict::Dead { failure } => {
                    let cause = Cause::of(failure, item);
                    let known = matches!(self.reason(), Some(Reason::DeadLetters(known)) if *known == cause);
                    lesson.same_cause |= known;
                    if replayed {
                        continue;
                    }
                    if known {
                        let after = self.pause.as_ref().map_or(FLOOD, |pause| pause.step).min(FLOOD_WAIT_MAX);
                        *verdict = Verdict::Retry { after, counted: false, failure: failure.clone() };
                        continue;
                    }
                    let run = self.runs.entry(queue).or_insert_with(|| (cause.clone(), 0));
                    *run = if run.0 == cause {
                        (cause.clone(), run.1.saturating_add(1))
                    } else {
                        (cause.clone(), 1)
                    };
                    if run.1 >= DEAD_IN_A_ROW && self.pause.is_none() {
                        self.stop(Reason::DeadLetters(cause), FLOOD, now);
                    }
                }
                Verdict::Retry { failure, after, .. } => {
                    if failure.kind.is_outage() && lesson.outage.is_none() {
                        lesson.outage = Some((failure.kind, *after));
                    }
                    // Kingdee has no word for too much: answers take longer, then none comes, then it is HTTP 500.
                    lesson.overload |= failure.kind == FailureKind::Unclear && failure.in_flight;
                    self.other_verdict(queue, replayed);
                }
                Verdict::Done => self.other_verdict(queue, replayed),
            }
        }
        lesson
    }

    fn other_verdict(&mut self, queue: usize, replayed: bool) {
        if !replayed {
            self.runs.remove(&queue);
        }
    }

    /// Learns from a batch that has ended.
    pub(crate) fn end(&mut self, ticket: &Ticket, lesson: &Lesson, now: Instant) {
        if lesson.items == 0 {
            return self.release(ticket);
        }
        if ticket.generation != self.generation {
            // A limit lasts as long as it says, whoever is told of it.
            if let (Some((FailureKind::Throttled, after)), Some(pause)) = (lesson.outage, &mut self.pause) {
                pause.until = pause.until.max(now + after);
            }
            return;
        }
        if let Some((kind, after)) = lesson.outage {
            return self.outage(kind, after, ticket, now);
        }
        match &mut self.pause {
            Some(pause) if lesson.same_cause => pause.again(FLOOD_MAX, now),
            // A probe that hangs is no sign that the system works again.
            Some(pause) if lesson.overload && matches!(pause.reason, Reason::Outage(_)) => {
                pause.again(UNAVAILABLE_MAX.max(pause.step), now);
            }
            Some(_) => {
                self.pause = None;
                self.generation += 1;
            }
            None if lesson.overload => {
                self.now = self.now.halved();
                self.brisk = self.now.rows;
                self.generation += 1;
            }
            // A batch that didn't use what it was allowed says nothing about more.
            None if lesson.items >= ticket.rows => self.grow(),
            None => {}
        }
    }

    fn outage(&mut self, kind: FailureKind, after: Duration, ticket: &Ticket, now: Instant) {
        let again = match &self.pause {
            Some(Pause { reason: Reason::Outage(before), step, .. }) if *before == kind => Some(*step),
            _ => None,
        };
        let step = match kind {
            FailureKind::Throttled if after.is_zero() => THROTTLED,
            FailureKind::Throttled => after,
            FailureKind::Configuration => CONFIGURATION,
            _ => again.map_or(Duration::from_secs(1), |step| (step * 2).min(UNAVAILABLE_MAX)),
        };
        if self.pause.is_none() {
            let bearable = if kind == FailureKind::Throttled { ticket.rows / 2 } else { self.full.rows };
            self.brisk = bearable.max(1);
        }
        self.stop(Reason::Outage(kind), step, now);
    }

    fn stop(&mut self, reason: Reason, step: Duration, now: Instant) {
        self.pause = Some(Pause { reason, until: now + step, step, probing: false });
        self.now = Limits { rows: 1, concurrency: 1 };
        self.generation += 1;
    }

    fn grow(&mut self) {
        if self.now.rows < self.brisk {
            self.now.rows = (self.now.rows * 2).min(self.brisk);
            return;
        }
        self.now.rows = (self.now.rows + (self.full.rows / 10).max(1)).min(self.full.rows);
        self.now.concurrency = (self.now.concurrency + 1).min(self.full.concurrency);
    }
}

impl Limits {
    fn halved(self) -> Self {
        Limits { rows: (self.rows / 2).max(1), concurrency: (self.concurrency / 2).max(1) }
    }
}

#[cfg(test)]
mod tests;
