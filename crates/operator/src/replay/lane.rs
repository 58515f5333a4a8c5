//! Sending the letters of one dead-letter queue, cause by cause, each up its own ladder.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kingpost_broker::{AuditLetter, Custody, CustodyError, Destination, Held, Parcel, Posting, Round};
use kingpost_model::{JournalStep, RecordKey, Route, StageName, Work, WorkId};
use tokio::sync::watch;

use super::{
    Plan, REPLAY_HEADER, Remake, Shards, Unmade, copy,
    ladder::{Next, Rules, Why},
    ledger::{Fate, Ledger, Likeness, Mark},
    marked,
    rate::Rate,
    select::destination,
};
use crate::act::{Scribe, audited, now_ms};

/// A round holds letters that it passes over, and a broker takes them back after half an hour.
const ROUND_MAX: Duration = Duration::from_secs(120);
/// How often a letter that isn't found is looked for, and the pause in between: somebody may be browsing.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_secs(3);

/// A queue of which so many looks show the same depth has everything back.
const RETURN_LOOKS: u32 = 5;
const RETURN_PAUSE: Duration = Duration::from_millis(200);
const RETURN_MAX: Duration = Duration::from_secs(10);

/// What the lanes of a run share.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) shards: Shards,
    pub(super) rules: Rules,
    /// Of the canary steps, and of the rest.
    pub(super) rates: (Rate, Rate),
    pub(super) wait: Duration,
    pub(super) source: Option<Box<dyn Remake>>,
    pub(super) ledger: Mutex<Ledger>,
    /// Counts what was heard.
    pub(super) news: watch::Sender<u64>,
    /// Set when a person wants an end.
    pub(super) stop: watch::Sender<bool>,
    /// Causes that were stopped, and why.
    pub(super) stopped: Mutex<BTreeMap<usize, Why>>,
    /// Letters that were taken out because a copy of theirs was on its way or had ended well, for the audit trail.
    pub(super) removed: Mutex<Vec<AuditLetter>>,
    pub(super) scribe: Scribe,
}

impl Shared {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn removed(&self) -> MutexGuard<'_, Vec<AuditLetter>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopped(&self) -> MutexGuard<'_, BTreeMap<usize, Why>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// How the work on one queue ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaneEnd {
    /// Everything that may be sent was sent, and has ended.
    Finished,
    /// Some of what was sent has no final report, and nothing was heard for the time that was given.
    Unheard,
    /// A person ended it.
    Interrupted,
    /// So many letters weren't found while somebody else was reading the queue.
    Hidden(usize),
    /// No queue takes the copies.
    Refused(String),
    /// The connection was lost.
    Lost(String),
}

pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) custody: Custody,
    pub(super) stage: StageName,
    pub(super) scheme: String,
    /// The causes of this queue.
    pub(super) causes: Vec<usize>,
}

/// Letters that are wanted; several may be alike.
type Wanted = HashMap<Likeness, VecDeque<usize>>;

enum Flow {
    On,
    End(LaneEnd),
}

impl Lane {
    /// Works until nothing is left to do; `resumed` when the plan was begun before.
    pub(super) async fn run(self, resumed: bool) -> LaneEnd {
        let end = self.work(resumed).await.unwrap_or_else(|error| LaneEnd::Lost(error.to_string()));
        self.custody.release().await;
        end
    }

    async fn work(&self, resumed: bool) -> Result<LaneEnd, CustodyError> {
        let mut censuses = if resumed { 2 } else { 0 };
        if resumed {
            self.wait_returned().await?;
            self.census().await?;
            censuses -= 1;
        }
        loop {
            if self.shared.is_stopping() {
                return Ok(LaneEnd::Interrupted);
            }
            let mut news = self.shared.news.subscribe();
            let (wanted, out) = self.decide();
            if !wanted.is_empty() {
                if let Flow::End(end) = self.send(wanted).await? {
                    return Ok(end);
                }
            } else if !out && censuses > 0 {
                // What the run before had in hand when it was cut off may have come back only now.
                self.census().await?;
                censuses -= 1;
            } else if !out {
                return Ok(LaneEnd::Finished);
            } else if !self.hear(&mut news).await {
                return Ok(LaneEnd::Unheard);
            }
        }
    }

    /// What may be sent now, and whether anything is out.
    fn decide(&self) -> (Vec<usize>, bool) {
        let ledger = self.shared.ledger();
        let mut stopped = self.shared.stopped();
        let (mut wanted, mut out) = (Vec::new(), false);
        for cause in &self.causes {
            let standing = ledger.standing(*cause);
            out |= standing.out > 0;
            if stopped.contains_key(cause) {
                continue;
            }
            match self.shared.rules.next(standing) {
                Next::Send(most) => wanted.extend(ledger.pending(*cause, most)),
                Next::Stop(why) => drop(stopped.insert(*cause, why)),
                Next::Wait | Next::Done => {}
            }
        }
        (wanted, out)
    }

    /// Waits for news; false when there was none for too long.
    async fn hear(&self, news: &mut watch::Receiver<u64>) -> bool {
        let last = {
            let ledger = self.shared.ledger();
            self.causes.iter().filter_map(|cause| ledger.news(*cause)).max()
        };
        let until = last.unwrap_or_else(Instant::now) + self.shared.wait;
        let mut stop = self.shared.stop.subscribe();
        tokio::select! {
            changed = news.changed() => changed.is_ok(),
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep_until(until.into()) => false,
        }
    }

    /// Sends letters; those that are not there are gone, unless somebody else is reading and may have them in hand.
    async fn send(&self, entries: Vec<usize>) -> Result<Flow, CustodyError> {
        let mut wanted = self.wanted(entries);
        let mut looks = 0;
        while !wanted.is_empty() {
            // Before the round begins, whose own consumer would count.
            let readers = self.custody.readers().await?;
            let mut round = self.custody.round().await?;
            let flow = self.pass(&mut round, &mut wanted).await;
            let hidden = readers > 0 || round.seen() < round.mark();
            let whole = match flow {
                Ok(Ok(whole)) => whole,
                Ok(Err(end)) => {
                    round.close().await?;
                    return Ok(Flow::End(end));
                }
                Err(error) => return Err(error),
            };
            round.close().await?;
            if self.shared.is_stopping() || wanted.is_empty() {
                break;
            }
            if whole {
                looks += 1;
                if looks >= LOOKS && hidden {
                    return Ok(Flow::End(LaneEnd::Hidden(wanted.values().map(VecDeque::len).sum())));
                }
                if looks >= LOOKS {
                    let mut ledger = self.shared.ledger();
                    wanted.values().flatten().for_each(|entry| ledger.gone(*entry));
                    break;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
        Ok(Flow::On)
    }

    fn wanted(&self, entries: Vec<usize>) -> Wanted {
        let mut wanted = Wanted::new();
        for entry in entries {
            if let Some(letter) = self.shared.plan.letters.get(entry) {
                wanted.entry(Likeness::planned(letter)).or_default().push_back(entry);
            }
        }
        wanted
    }

    /// One pass over the queue: true when it was seen whole, else it ended early.
    async fn pass(
        &self,
        round: &mut Round<'_>,
        wanted: &mut Wanted,
    ) -> Result<Result<bool, LaneEnd>, CustodyError> {
        let until = Instant::now() + ROUND_MAX;
        let mut batch: Vec<(Held, usize)> = Vec::new();
        loop {
            let held = if wanted.is_empty() || Instant::now() > until || self.shared.is_stopping() {
                None
            } else {
                round.next().await?
            };
            let over = held.is_none();
            if let Some((held, entry)) = held.and_then(|held| self.pick(held, wanted)) {
                batch.push((held, entry));
            }
            let group = self.rate(&batch).group();
            let due = over || batch.len() >= group || wanted.is_empty();
            if due
                && !batch.is_empty()
                && let Err(end) = self.flush(round, std::mem::take(&mut batch), wanted).await?
            {
                return Ok(Err(end));
            }
            if over {
                return Ok(Ok(Instant::now() <= until));
            }
        }
    }

    /// Takes a letter that is wanted. One that died again since, as a copy of this plan, of another or of none, is another
    /// letter, whatever its id and body.
    fn pick(&self, held: Held, wanted: &mut Wanted) -> Option<(Held, usize)> {
        if held.letter.header(REPLAY_HEADER) == Some(self.shared.plan.plan.as_str()) {
            return None;
        }
        let likeness = Likeness::of(&held.letter);
        let entries = wanted.get_mut(&likeness)?;
        let entry = entries.pop_front();
        if entries.is_empty() {
            wanted.remove(&likeness);
        }
        entry.map(|entry| (held, entry))
    }

    /// The slow rate while any of them belongs to a canary step.
    fn rate(&self, batch: &[(Held, usize)]) -> &Rate {
        let ledger = self.shared.ledger();
        let steps: usize = self.shared.rules.steps.iter().sum();
        let proven = |entry: usize| {
            let standing = self.shared.plan.letters.get(entry).map(|entry| ledger.standing(entry.cause));
            standing.is_some_and(|standing| standing.well + standing.failed >= steps)
        };
        let (canary, rest) = &self.shared.rates;
        if batch.iter().all(|(_, entry)| proven(*entry)) { rest } else { canary }
    }

    /// Sends a group: publishes the copies with a mark that says so, waits for the confirms, and only then takes the
    /// letters out. What belongs to a cause that was stopped meanwhile stays.
    async fn flush(
        &self,
        round: &mut Round<'_>,
        batch: Vec<(Held, usize)>,
        wanted: &mut Wanted,
    ) -> Result<Result<(), LaneEnd>, CustodyError> {
        self.rate(&batch).take(batch.len()).await;
        let batch = self.not_stopped(batch, wanted);
        if batch.is_empty() {
            return Ok(Ok(()));
        }
        let (moves, entries) = self.moves(batch).await;
        let at_ms = now_ms();
        let moved = round.move_to(moves).await?;
        let mut ledger = self.shared.ledger();
        let mut refusal = None;
        for (moved, entry) in moved.into_iter().zip(entries) {
            match moved.refused {
                None => {
                    self.shared.scribe.write(&moved.letter.work, JournalStep::Replayed, at_ms);
                    ledger.sent(entry);
                }
                Some(why) => {
                    ledger.unsent(entry);
                    refusal.get_or_insert(why);
                }
            }
        }
        Ok(refusal.map_or(Ok(()), |why| Err(LaneEnd::Refused(why))))
    }

    /// Drops what belongs to a cause that has been stopped.
    fn not_stopped(&self, mut batch: Vec<(Held, usize)>, wanted: &mut Wanted) -> Vec<(Held, usize)> {
        let _ = self.decide();
        let stopped = self.shared.stopped();
        let letters = &self.shared.plan.letters;
        let goes = |entry: usize| letters.get(entry).is_some_and(|entry| !stopped.contains_key(&entry.cause));
        batch.retain(|(_, entry)| goes(*entry));
        wanted.retain(|_, entries| {
            entries.retain(|entry| goes(*entry));
            !entries.is_empty()
        });
        batch
    }

    /// What each letter of a group becomes, and which entries they are; with the first goes the mark of all.
    async fn moves(&self, batch: Vec<(Held, usize)>) -> (Vec<(Held, Vec<Parcel>)>, Vec<usize>) {
        let plan = &self.shared.plan;
        let (mut moves, mut entries) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (held, entry) in batch {
            // What is in hand when a person wants an end stays where it is.
            let Some(copy) = self.copy(&held, entry).await else { break };
            match copy {
                Ok(copy) => {
                    moves.push((held, vec![marked(copy, &plan.plan, entry).into()]));
                    entries.push(entry);
                }
                Err(unmade) => self.shared.ledger().unmade(entry, unmade),
            }
        }
        if let Some((_, parcels)) = moves.first_mut() {
            parcels.insert(0, self.mark(&entries).into());
        }
        (moves, entries)
    }

    /// What a letter becomes; nothing when a person wants an end before its source has answered.
    async fn copy(&self, held: &Held, entry: usize) -> Option<Result<Posting, Unmade>> {
        let plan = &self.shared.plan;
        let Some(source) = &self.shared.source else {
            let copy = destination(&held.letter, self.stage, &self.scheme, &self.shared.shards)
                .map(|route| copy(&held.letter, route, &plan.plan, &plan.replies, entry))
                .ok_or_else(|| Unmade::of_order(format!("SCHEMES_DIR has no scheme `{}`", self.scheme)));
            return Some(copy);
        };
        let mut stop = self.shared.stop.subscribe();
        tokio::select! {
            made = source.remake(&held.letter, &plan.replies) => Some(made),
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }

    /// What the reply queue is told before these letters go.
    fn mark(&self, entries: &[usize]) -> Posting {
        let plan = &self.shared.plan;
        let body = serde_json::to_vec(&Mark { sent: entries.to_vec() }).unwrap_or_default();
        let id = WorkId::new(format!("{}-mark", plan.plan));
        let key = RecordKey::new("replay", &*plan.plan);
        let work = Work::new(id, self.stage, &*self.scheme, key, body);
        let route = Route::new(self.stage, &*self.scheme);
        Posting { destination: Destination::Report(plan.replies.clone(), route), work }
    }

    /// Waits until the queue has what a run that was cut off had in hand: its lock goes a moment before they come back.
    async fn wait_returned(&self) -> Result<(), CustodyError> {
        let (mut known, mut same) = (self.custody.depth().await?, 0);
        let until = Instant::now() + RETURN_MAX;
        while same < RETURN_LOOKS && Instant::now() < until {
            tokio::time::sleep(RETURN_PAUSE).await;
            let depth = self.custody.depth().await?;
            same = if depth == known { same + 1 } else { 0 };
            known = depth;
        }
        Ok(())
    }

    /// Puts right what a run that was cut off has left: a letter whose copy was never confirmed is to be sent again; one
    /// whose copy is on its way or has ended well needs no second. One whose copy failed again or was never made stays.
    async fn census(&self) -> Result<(), CustodyError> {
        let mine = self.shared.plan.letters.iter().enumerate();
        let mine = mine.filter(|(_, entry)| self.causes.contains(&entry.cause)).map(|(index, _)| index);
        let mut wanted = {
            let ledger = self.shared.ledger();
            let answered = |entry: &usize| ledger.fates().get(*entry).is_some_and(Fate::has_living_copy);
            let (last, first): (Vec<_>, Vec<_>) = mine.partition(answered);
            // Of several letters with one identity, those that still have to go are found first.
            self.wanted(first.into_iter().chain(last).collect())
        };
        let mut round = self.custody.round().await?;
        while let Some(held) = round.next().await? {
            let Some((held, entry)) = self.pick(held, &mut wanted) else { continue };
            let needless = {
                let mut ledger = self.shared.ledger();
                match ledger.fates().get(entry) {
                    Some(Fate::Sent) => {
                        ledger.unsent(entry);
                        false
                    }
                    fate => fate.is_some_and(Fate::has_living_copy),
                }
            };
            if needless {
                let letter = audited(&held.letter);
                round.remove(vec![held]).await?;
                self.shared.removed().push(letter);
            }
        }
        round.close().await
    }
}
