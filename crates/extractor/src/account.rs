//! One account of a source, as all that calls it in this process share it, and as the extractors of all processes hear of
//! it. Limits and bans are counted per account, whichever scheme or replica makes the calls.

mod gate;
mod pace;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kingpost_model::{BoxFuture, Failure, FailureKind, Fault};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub(crate) use gate::Word;
use gate::{Ending, Gate, Step, Ticket};

/// Told of an account's limits, for metrics.
pub trait AccountObserver: Send + Sync {
    /// A call has met a limit.
    fn limit_met(&self);
    /// How many calls a minute are allowed, and for how long the account is closed; nothing while it isn't limited, or open.
    fn changed(&self, calls_per_minute: Option<f64>, closed_for: Option<Duration>);
}

/// The other extractors of an account.
pub(crate) trait Company: Send + Sync {
    /// Tells them, and returns once each has it in its queue, or can't be told.
    fn tell<'a>(&'a self, account: &'a Account, word: Word) -> BoxFuture<'a, ()>;
    /// Asks for the right to make the first call after a ban.
    fn turn<'a>(&'a self, account: &'a Account) -> BoxFuture<'a, Turn>;
}

/// Whether this process may make the first call.
pub(crate) enum Turn {
    /// It may, until it gives the right back. All that was told before somebody else gave it back has been heard.
    Ours(Box<dyn Right>),
    /// Another one does.
    Theirs,
    /// Nobody can say.
    Untold,
}

/// The right to make the first call after a ban; given up when dropped.
pub(crate) trait Right: Send {
    /// Gives it back.
    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// One account of a source.
pub struct Account {
    system: &'static str,
    name: String,
    id: String,
    gate: Mutex<Gate>,
    changed: Notify,
    company: Mutex<Option<Arc<dyn Company>>>,
    observer: Arc<dyn AccountObserver>,
}

impl Account {
    /// An account by the name that schemes give it. `url` and `user` tell it apart from others of that name, and are kept as
    /// a short hash only.
    pub fn new(
        system: &'static str,
        name: &str,
        [url, user]: [&str; 2],
        observer: Arc<dyn AccountObserver>,
    ) -> Arc<Self> {
        let mut hash = Sha256::new();
        hash.update(url.trim_end_matches('/'));
        hash.update([0]);
        hash.update(user);
        let id = hex::encode(hash.finalize()).chars().take(12).collect();
        let (gate, changed, company) = (Mutex::new(Gate::new()), Notify::new(), Mutex::new(None));
        Arc::new(Account { system, name: name.to_owned(), id, gate, changed, company, observer })
    }

    /// What it is called among extractors, such as `wdt.default.0f3c9a5e1b77`.
    pub(crate) fn key(&self) -> String {
        format!("{}.{}.{}", self.system, self.name, self.id)
    }

    /// Gives it the others, or takes them away.
    pub(crate) fn join(&self, company: Option<Arc<dyn Company>>) {
        *self.company.lock().unwrap_or_else(PoisonError::into_inner) = company;
    }

    /// Holds calls back until then, so that others can say what they know first; or no longer.
    pub(crate) fn hush(&self, until: Option<Instant>) {
        self.change(|gate, _| gate.hush(until));
    }

    /// Hears what another extractor says, and answers.
    pub(crate) async fn hear(&self, word: &Word) {
        let answers = self.change(|gate, now| gate.hear(word, now));
        for answer in answers {
            self.tell(answer).await;
        }
    }

    /// Waits for the turn of a call that has to begin by `latest`. Dropping the wait loses nothing.
    ///
    /// # Errors
    /// A failure of kind throttled, with what remains, when the turn comes later than that, or than may be waited with
    /// work in hand.
    pub(crate) async fn admit(&self, latest: Instant) -> Result<Admission<'_>, Failure> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change between look and wait is not missed.
            changed.as_mut().enable();
            let step = self.gate().step(Instant::now(), latest);
            match step {
                Step::Go(ticket) => {
                    return Ok(Admission { account: self, ticket, right: None, ended: false });
                }
                Step::Ask => {
                    if let Some(admission) = self.probe().await {
                        return Ok(admission);
                    }
                }
                Step::Wait(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = changed => {}
                    }
                }
                Step::Refuse(left) => return Err(self.refusal(left)),
            }
        }
    }

    async fn probe(&self) -> Option<Admission<'_>> {
        let asking = Asking { account: self, over: false };
        let company = self.company();
        let turn = match &company {
            Some(company) => company.turn(self).await,
            None => Turn::Untold,
        };
        let right = match turn {
            Turn::Ours(right) => Some(right),
            Turn::Untold => None,
            Turn::Theirs => return None,
        };
        let ticket = self.change(|gate, now| gate.begin_probe(now));
        asking.over();
        match (ticket, right) {
            (Some(ticket), right) => Some(Admission { account: self, ticket, right, ended: false }),
            (None, Some(right)) => {
                right.give_back().await;
                None
            }
            (None, None) => None,
        }
    }

    fn refusal(&self, left: Duration) -> Failure {
        let text = format!(
            "the account {} of {} is left alone for {} s more, because a limit of calls was met; see \
             kingpost_account_closed_until_timestamp_seconds and kingpost_account_calls_per_minute",
            self.name,
            self.system,
            left.as_secs_f64().ceil()
        );
        Failure::new(FailureKind::Throttled, text).by(Fault::Source).retry_after(left)
    }

    fn company(&self) -> Option<Arc<dyn Company>> {
        self.company.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn tell(&self, word: Word) {
        if let Some(company) = self.company() {
            company.tell(self, word).await;
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the gate, and tells the log, the metrics and whoever waits.
    fn change<T>(&self, change: impl FnOnce(&mut Gate, Instant) -> T) -> T {
        let now = Instant::now();
        let mut gate = self.gate();
        let before = gate.closed_until();
        let made = change(&mut gate, now);
        let (after, pace) = (gate.closed_until(), gate.per_minute());
        drop(gate);
        let closed_for = after.map(|until| until.saturating_duration_since(now));
        let (system, account, seconds) = (self.system, self.name.as_str(), closed_for.map(|d| d.as_secs()));
        match (before, after) {
            (None, Some(_)) => {
                warn!(system, account, seconds, pace, "a limit of calls: the account is left alone")
            }
            (Some(before), Some(after)) if after > before => {
                warn!(system, account, seconds, "the account is left alone for longer");
            }
            (Some(_), None) => info!(system, account, pace, "a call went through, the account is open again"),
            _ => {}
        }
        self.observer.changed(pace, closed_for);
        self.changed.notify_waiters();
        made
    }
}

/// Asks for the right to probe, for all of this process.
struct Asking<'a> {
    account: &'a Account,
    over: bool,
}

impl Asking<'_> {
    fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.account.change(Gate::leave_probe);
        }
    }
}

/// The turn of one call. Dropped unended, it has taught nothing.
pub(crate) struct Admission<'a> {
    account: &'a Account,
    ticket: Ticket,
    right: Option<Box<dyn Right>>,
    ended: bool,
}

impl Admission<'_> {
    /// Learns from how the call ended, and tells the others before the right to probe is given back.
    pub(crate) async fn end<T>(mut self, answer: &Result<T, Failure>) {
        self.ended = true;
        let ending = match answer {
            Err(failure) if failure.kind == FailureKind::Throttled => {
                self.account.observer.limit_met();
                Ending::Limited(failure.retry_after)
            }
            Err(failure) if failure.kind == FailureKind::Unavailable => Ending::Unanswered,
            _ => Ending::Answered,
        };
        let word = self.account.change(|gate, now| gate.end(self.ticket, &ending, now));
        if let Some(word) = word {
            self.account.tell(word).await;
        }
        if let Some(right) = self.right.take() {
            right.give_back().await;
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if !self.ended && self.ticket.probe {
            self.account.change(Gate::leave_probe);
        }
    }
}
