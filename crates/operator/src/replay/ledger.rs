//! What became of each letter of a plan, as the reply queue tells it. The queue may be read again from its start at any
//! time, so that seeing something twice changes nothing.

use std::{collections::HashMap, time::Instant};

use kingpost_broker::{Identity, Letter, Reply};
use kingpost_model::{FailureKind, LoadedHow, Outcome, StageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ENTRY_HEADER, Plan, REPLAY_HEADER, Unmade, ladder::Standing, plan::Entry};
use crate::clock::failed_at;

/// What is known of one letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// Not sent yet.
    Pending,
    /// Sent, and nothing heard yet.
    Sent,
    /// It failed and is tried again.
    Waiting { after_ms: u64, kind: FailureKind, text: String },
    /// In the target.
    Loaded { number: String, id: String, how: LoadedHow },
    /// The scheme's filter leaves it out.
    Filtered,
    /// A window that was read.
    Read { handed_on: u64 },
    /// A dead letter again.
    Failed { stage: String, kind: FailureKind, cause: String, text: String },
    /// It stays, because its order could not be made anew: the source doesn't have it any more, or failed to answer.
    Unmade { text: String, source_failed: bool },
    /// Not in its queue any more when its turn came: somebody else sent it or discarded it.
    Gone,
}

impl Fate {
    /// Nothing more will be heard of it.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Fate::Pending | Fate::Sent | Fate::Waiting { .. })
    }

    /// A copy of it is on its way or has ended well, so that the letter itself may go. Not so for a copy that failed again:
    /// it may have been taken out since, and two letters are better than none.
    pub(super) fn has_living_copy(&self) -> bool {
        matches!(self, Fate::Waiting { .. } | Fate::Loaded { .. } | Fate::Filtered | Fate::Read { .. })
    }
}

/// A mark of the command itself in the reply queue: these letters are being sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(rename = "kingpost-replay-sent")]
    pub(super) sent: Vec<usize>,
}

/// What counts of a report.
struct Heard {
    work_id: String,
    stage: String,
    outcome: Outcome,
}

impl Heard {
    /// Read apart from each other, because a report and its outcome both have a `number`, and the outcome's comes last.
    fn of(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (work_id, stage) = (text("work_id")?, text("stage")?);
        Some(Heard { work_id, stage, outcome: serde_json::from_value(value).ok()? })
    }
}

/// The state of a plan.
pub(crate) struct Ledger {
    plan: String,
    /// By entry of the plan.
    fates: Vec<Fate>,
    causes: Vec<Tally>,
    /// Cause and stage of each entry.
    places: Vec<(usize, Option<StageName>)>,
    by_id: HashMap<String, Vec<usize>>,
}

/// The counts of one cause.
#[derive(Clone, Debug)]
struct Tally {
    standing: Standing,
    /// What had ended before this run, when some of it had failed: the ladder begins anew then.
    before: Standing,
    /// When something was last heard or done.
    news: Instant,
}

impl Ledger {
    pub(crate) fn new(plan: &Plan) -> Self {
        let tally =
            Tally { standing: Standing::default(), before: Standing::default(), news: Instant::now() };
        let mut causes = vec![tally; plan.causes.len()];
        let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
        let mut places = Vec::with_capacity(plan.letters.len());
        for (index, entry) in plan.letters.iter().enumerate() {
            let stage = plan.cause(entry).and_then(|cause| StageName::parse(&cause.stage));
            places.push((entry.cause, stage));
            by_id.entry(entry.id.clone()).or_default().push(index);
            if let Some(tally) = causes.get_mut(entry.cause) {
                tally.standing.pending += 1;
            }
        }
        Ledger {
            plan: plan.plan.clone(),
            fates: vec![Fate::Pending; plan.letters.len()],
            causes,
            places,
            by_id,
        }
    }

    /// What is known of every letter, in the order of the plan.
    pub(crate) fn fates(&self) -> &[Fate] {
        &self.fates
    }

    /// The counts of a cause since its ladder began.
    pub(super) fn standing(&self, cause: usize) -> Standing {
        let Some(tally) = self.causes.get(cause) else { return Standing::default() };
        Standing {
            well: tally.standing.well.saturating_sub(tally.before.well),
            failed: tally.standing.failed.saturating_sub(tally.before.failed),
            ..tally.standing
        }
    }

    /// When something was last heard of a cause, or done to it.
    pub(super) fn news(&self, cause: usize) -> Option<Instant> {
        self.causes.get(cause).map(|tally| tally.news)
    }

    /// The first pending letters of a cause, at most so many.
    pub(super) fn pending(&self, cause: usize, most: usize) -> Vec<usize> {
        let entries = self.fates.iter().zip(&self.places).enumerate();
        let mine = entries.filter(|(_, (fate, place))| place.0 == cause && **fate == Fate::Pending);
        mine.map(|(index, _)| index).take(most).collect()
    }

    /// Everything that is known so far belongs to earlier runs: a cause that failed in one begins its ladder anew.
    pub(super) fn begin(&mut self) {
        for tally in &mut self.causes {
            tally.news = Instant::now();
            if tally.standing.failed > 0 {
                tally.before = tally.standing;
                tally.standing.streak = 0;
            }
        }
    }

    /// A letter is being sent.
    pub(super) fn sent(&mut self, entry: usize) {
        if self.fates.get(entry).is_some_and(|fate| matches!(fate, Fate::Pending | Fate::Gone)) {
            self.set(entry, Fate::Sent);
        }
    }

    /// A letter is still where it was, whatever was said of sending it.
    pub(super) fn unsent(&mut self, entry: usize) {
        if self.fates.get(entry).is_some_and(|fate| !fate.is_final()) {
            self.set(entry, Fate::Pending);
        }
    }

    /// A letter has nothing to be sent as.
    pub(super) fn unmade(&mut self, entry: usize, why: Unmade) {
        self.set(entry, Fate::Unmade { text: why.text, source_failed: why.source_failed });
    }

    /// A letter was not found where it should be.
    pub(super) fn gone(&mut self, entry: usize) {
        if self.fates.get(entry) == Some(&Fate::Pending) {
            self.set(entry, Fate::Gone);
        }
    }

    /// Takes a message of the reply queue; true when it changed something.
    pub(super) fn hear(&mut self, reply: &Reply) -> bool {
        if let Ok(mark) = serde_json::from_slice::<Mark>(&reply.body) {
            mark.sent.into_iter().for_each(|entry| self.sent(entry));
            return true;
        }
        let Some(report) = Heard::of(&reply.body) else { return false };
        let Some(entry) = self.entry(reply, &report.work_id) else { return false };
        let Some((_, stage)) = self.places.get(entry).copied() else { return false };
        // A window is done when it was read; what becomes of its orders is their own affair.
        if stage == Some(StageName::Extract) && report.stage != StageName::Extract.as_str() {
            return false;
        }
        let fate = match report.outcome {
            Outcome::Loaded { number, id, how } => Fate::Loaded { number, id, how },
            Outcome::Filtered => Fate::Filtered,
            Outcome::Read { handed_on, .. } => Fate::Read { handed_on },
            Outcome::Waiting { after_ms, failure } => {
                Fate::Waiting { after_ms, kind: failure.kind, text: failure.text }
            }
            Outcome::Dead { failure } => {
                let cause = failure.cause();
                Fate::Failed { stage: report.stage, kind: failure.kind, cause, text: failure.text }
            }
        };
        let Some(known) = self.fates.get(entry) else { return false };
        // A message that a worker lost hold of after its report may end once more; being in the target counts most.
        let better = matches!(fate, Fate::Loaded { .. }) && !matches!(known, Fate::Loaded { .. });
        if (known.is_final() && *known != Fate::Gone && !better) || *known == fate {
            return false;
        }
        self.set(entry, fate);
        true
    }

    /// By the header that the copy carries; by its message id where that had no room.
    fn entry(&self, reply: &Reply, work_id: &str) -> Option<usize> {
        let header =
            |name: &str| reply.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        if header(REPLAY_HEADER).is_some_and(|plan| plan != self.plan) {
            return None;
        }
        let named = header(ENTRY_HEADER).and_then(|index| index.parse().ok());
        named.filter(|index| *index < self.fates.len()).or_else(|| {
            let entries = self.by_id.get(work_id)?;
            let open = entries.iter().find(|entry| !self.fates[**entry].is_final());
            open.or(entries.first()).copied()
        })
    }

    fn set(&mut self, entry: usize, fate: Fate) {
        let (Some(known), Some((cause, _))) = (self.fates.get_mut(entry), self.places.get(entry)) else {
            return;
        };
        let Some(tally) = self.causes.get_mut(*cause) else { return };
        if let Some(count) = place(&mut tally.standing, known) {
            *count -= 1;
        }
        if let Some(count) = place(&mut tally.standing, &fate) {
            *count += 1;
        }
        match &fate {
            Fate::Failed { .. } | Fate::Unmade { source_failed: true, .. } => tally.standing.streak += 1,
            Fate::Gone | Fate::Unmade { .. } => {}
            fate if fate.is_final() => tally.standing.streak = 0,
            _ => {}
        }
        tally.news = Instant::now();
        *known = fate;
    }
}

/// Which count a letter of a fate is in.
fn place<'a>(standing: &'a mut Standing, fate: &Fate) -> Option<&'a mut usize> {
    match fate {
        Fate::Pending => Some(&mut standing.pending),
        Fate::Sent | Fate::Waiting { .. } => Some(&mut standing.out),
        Fate::Loaded { .. } | Fate::Filtered | Fate::Read { .. } => Some(&mut standing.well),
        // A source that fails would fail for the next letter as well, so the ladder has to hear of it.
        Fate::Failed { .. } | Fate::Unmade { source_failed: true, .. } => Some(&mut standing.failed),
        Fate::Gone | Fate::Unmade { .. } => None,
    }
}

/// What tells a letter from all others: which message it is, which plan sent it last, and when it failed. A letter that died
/// once more has the id and the body that it had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    identity: Identity,
    replay: Option<String>,
    failed_ms: Option<i64>,
}

impl Likeness {
    /// Of a letter.
    pub(super) fn of(letter: &Letter) -> Self {
        let replay = letter.header(REPLAY_HEADER).map(str::to_owned);
        Likeness { identity: letter.identity(), replay, failed_ms: failed_at(letter) }
    }

    /// Of a letter as it was when it was planned.
    pub(super) fn planned(entry: &Entry) -> Self {
        let identity = Identity { id: entry.id.clone(), sha256: entry.sha256.clone() };
        Likeness { identity, replay: entry.replay.clone(), failed_ms: entry.failed_ms }
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureRecord, RecordKey, Report, Work, WorkId};

    use super::{super::plan::tests::sample, *};

    fn reply(entry: Option<usize>, number: &str, outcome: Outcome) -> Reply {
        let key = RecordKey::new("STK_InStock", number);
        let work = Work::new(WorkId::new(format!("s-{number}")), StageName::Load, "s", key, "{}");
        let report = Report::of(&work, outcome, 1, "w/1");
        let mut headers = Vec::new();
        if let Some(entry) = entry {
            headers.push((REPLAY_HEADER.to_owned(), "20261123-010203-abcdef".to_owned()));
            headers.push((ENTRY_HEADER.to_owned(), entry.to_string()));
        }
        Reply { headers, body: serde_json::to_vec(&report).unwrap().into() }
    }

    fn failure() -> FailureRecord {
        let work = Work::new(WorkId::new("w"), StageName::Load, "s", RecordKey::new("d", "n"), "{}");
        FailureRecord::of(&Failure::new(FailureKind::BaseData, "物料[A]不存在"), &work, 1, "w/1")
    }

    fn loaded(how: LoadedHow) -> Outcome {
        Outcome::Loaded { number: "RK".into(), id: "7".into(), how }
    }

    #[test]
    fn reports_are_counted_once_however_often_they_are_read() {
        let plan = sample(&[3, 2]);
        let mut ledger = Ledger::new(&plan);
        assert_eq!(ledger.standing(0), Standing { pending: 3, ..Standing::default() });
        let replies = [
            Reply {
                headers: Vec::new(),
                body: serde_json::to_vec(&Mark { sent: vec![0, 1] }).unwrap().into(),
            },
            reply(Some(0), "RK00000", Outcome::Waiting { after_ms: 5_000, failure: failure() }),
            reply(Some(0), "RK00000", loaded(LoadedHow::Posted)),
            reply(Some(1), "RK00001", Outcome::Dead { failure: failure() }),
            reply(None, "RK10001", loaded(LoadedHow::AlreadyThere)),
        ];
        for _ in 0..3 {
            for reply in &replies {
                ledger.hear(reply);
            }
            assert_eq!(ledger.standing(0), Standing { pending: 1, out: 0, well: 1, failed: 1, streak: 1 });
            assert_eq!(ledger.standing(1), Standing { pending: 1, well: 1, ..Standing::default() });
        }
        assert!(
            matches!(&ledger.fates()[0], Fate::Loaded { how: LoadedHow::Posted, number, .. } if number == "RK")
        );
        assert_eq!(ledger.pending(0, 9), [2]);
    }

    #[test]
    fn a_source_that_fails_stops_its_cause_and_a_letter_without_an_order_does_not() {
        let mut ledger = Ledger::new(&sample(&[30]));
        let rules = crate::replay::Rules::default();
        ledger.unmade(0, Unmade::of_order("deleted".into()));
        assert_eq!(ledger.fates().first().map(Fate::has_living_copy), Some(false));
        assert_eq!(rules.next(ledger.standing(0)), crate::replay::ladder::Next::Send(1));
        ledger.unmade(1, Unmade { text: "down".into(), source_failed: true });
        assert!(matches!(rules.next(ledger.standing(0)), crate::replay::ladder::Next::Stop(_)));
    }

    #[test]
    fn another_plans_reports_and_strange_bodies_change_nothing() {
        let mut ledger = Ledger::new(&sample(&[2]));
        let mut foreign = reply(Some(0), "RK00000", loaded(LoadedHow::Posted));
        foreign.headers[0].1 = "another".into();
        let beyond = reply(Some(99), "RK-unknown", loaded(LoadedHow::Posted));
        let garbage = Reply { headers: Vec::new(), body: "<html>".into() };
        for reply in [foreign, beyond, garbage] {
            assert!(!ledger.hear(&reply));
        }
        assert_eq!(ledger.standing(0).pending, 2);
    }

    #[test]
    fn a_run_after_a_failure_begins_its_ladder_anew_and_one_after_none_goes_on() {
        let mut ledger = Ledger::new(&sample(&[5, 5]));
        ledger.hear(&reply(Some(0), "RK00000", loaded(LoadedHow::Posted)));
        ledger.hear(&reply(Some(1), "RK00001", Outcome::Dead { failure: failure() }));
        ledger.hear(&reply(Some(5), "RK10000", loaded(LoadedHow::Posted)));
        ledger.begin();
        assert_eq!(ledger.standing(0), Standing { pending: 3, ..Standing::default() });
        assert_eq!(ledger.standing(1), Standing { pending: 4, well: 1, ..Standing::default() });
        ledger.sent(2);
        ledger.unsent(2);
        ledger.gone(2);
        assert_eq!(ledger.standing(0).pending, 2);
        assert_eq!(ledger.fates()[2], Fate::Gone);
        // Found after all, by whoever was browsing: what is reported of it counts.
        assert!(ledger.hear(&reply(Some(2), "RK00002", loaded(LoadedHow::Posted))));
        assert_eq!(ledger.standing(0).well, 1);
    }
}
