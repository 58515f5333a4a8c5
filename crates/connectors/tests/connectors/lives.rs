//! Documents over all their tries, against a ledger that misbehaves: what a batch does is the connector's own, what
//! comes between two tries is a model of the loader and the broker, small enough to be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kingpost_connectors::kingdee::{
    Finish, OnChange, Rules,
    batch::{Batch, Call},
    life::{Action, State},
};
use kingpost_kingdee::Catalogue;
use kingpost_model::{Failure, FailureKind, Load, Loaded, LoadedHow, Standing, Tier, Verdict, decide};
use proptest::prelude::*;

use crate::fake::load;
use crate::ledger::{DRAFTS, Dice, INVALID, Ledger, Nature, SETTLE_MS, Sent};

/// Batches in one run at most; a run that takes more doesn't end.
const BATCHES_MAX: u32 = 2_000;

/// Calls of one batch at most.
const CALLS_MAX: usize = 500;

/// One message that asks for a document.
#[derive(Clone, Debug)]
struct Message {
    number: String,
    attempt: u32,
    verify: bool,
    redelivered: bool,
    unclear_since_ms: Option<u64>,
    due_ms: u64,
    /// Which version of the source document it carries, and when that was read.
    version: u32,
    read_ms: u64,
    cancelled: bool,
    end: Option<Result<Loaded, Failure>>,
}

impl Message {
    fn new(number: String) -> Self {
        Message {
            number,
            attempt: 1,
            verify: false,
            redelivered: false,
            unclear_since_ms: None,
            due_ms: 0,
            version: 1,
            read_ms: 0,
            cancelled: false,
            end: None,
        }
    }
}

/// The one loader that is active, and what it remembers.
#[derive(Debug, Default)]
struct Owner {
    unproven_ms: BTreeMap<String, u64>,
    everything_ms: u64,
}

impl Owner {
    fn standing(&self, message: &Message, now_ms: u64) -> Standing {
        let held = self.unproven_ms.get(&message.number).is_some_and(|until| *until > now_ms);
        match message.unclear_since_ms {
            _ if message.redelivered || held || self.everything_ms > now_ms => Standing::Unproven,
            Some(since) if now_ms - since < SETTLE_MS => Standing::Unproven,
            Some(_) => Standing::Settled,
            None => Standing::Verify,
        }
    }
}

struct Run {
    ledger: Ledger,
    dice: Dice,
    owner: Owner,
    messages: Vec<Message>,
    /// Some number is asked for more than once.
    copies: bool,
    rules: Rules,
    /// Somebody edits and submits drafts meanwhile.
    meddled: bool,
    /// Numbers that the loader was told are refused for their data.
    refused: BTreeSet<String>,
    calls: usize,
}

impl Run {
    fn new(nature: Nature, finish: Finish, numbers: Vec<String>, script: Vec<u8>) -> Self {
        let rules = Rules { finish, on_change: OnChange::Report };
        let ledger = Ledger { nature, now_ms: 10 * SETTLE_MS, ..Ledger::default() };
        let copies = numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len();
        let messages = numbers.into_iter().map(Message::new).collect();
        let (owner, dice) = (Owner::default(), Dice::new(script));
        let (refused, meddled) = (BTreeSet::new(), false);
        Run { ledger, dice, owner, messages, copies, rules, meddled, refused, calls: 0 }
    }

    /// Later versions of the documents, each read and delivered so many seconds after the first ones, some of them
    /// cancelled.
    fn with_versions(mut self, versions: &[(usize, u16, u16, bool)], on_change: OnChange) -> Self {
        (self.rules.on_change, self.copies) = (on_change, true);
        let begun_ms = self.ledger.now_ms;
        self.messages.iter_mut().for_each(|message| message.read_ms = begun_ms);
        let documents = self.messages.len();
        for (later, (n, read_s, late_s, cancelled)) in (2..).zip(versions) {
            let mut message = Message::new(number(n % documents));
            message.version = later;
            message.read_ms = begun_ms + u64::from(*read_s) * 1_000;
            message.due_ms = message.read_ms + u64::from(*late_s) * 1_000;
            message.cancelled = *cancelled;
            self.messages.push(message);
        }
        self
    }

    /// Works until every message has ended.
    fn work_off(&mut self) {
        for _ in 0..BATCHES_MAX {
            let open = self.messages.iter().filter(|message| message.end.is_none());
            let Some(due) = open.map(|message| message.due_ms).min() else { return };
            self.ledger.wait(due.saturating_sub(self.ledger.now_ms));
            // One that has nothing unsettled ends without a trace; a second message of a number would come to an owner that
            // knows nothing of the first one's save.
            if !self.copies && self.dice.chance(20) {
                self.owner = Owner::default();
            }
            if self.meddled && self.dice.chance(4) {
                self.ledger.meddle(&mut self.dice);
            }
            let batch = self.deliver();
            self.process(&batch);
        }
        panic!("some message never ends: {:?}", self.messages);
    }

    /// Messages that are due, by index, no number twice.
    fn deliver(&self) -> Vec<usize> {
        let mut batch: Vec<usize> = Vec::new();
        for (at, message) in self.messages.iter().enumerate() {
            let is_twice = batch.iter().any(|other| self.messages[*other].number == message.number);
            if message.end.is_none() && message.due_ms <= self.ledger.now_ms && !is_twice {
                batch.push(at);
            }
        }
        batch
    }

    fn process(&mut self, members: &[usize]) {
        let now_ms = self.ledger.now_ms;
        for message in members.iter().map(|at| &self.messages[*at]).filter(|message| message.redelivered) {
            self.owner.unproven_ms.insert(message.number.clone(), now_ms + SETTLE_MS);
        }
        let loads: Vec<Load> = members
            .iter()
            .map(|at| &self.messages[*at])
            .map(|message| Load {
                extracted_ms: i64::try_from(message.read_ms).ok(),
                cancelled: message.cancelled,
                ..load(&message.number, self.owner.standing(message, now_ms))
            })
            .collect();
        let (mut batch, mut lost, before) = (Batch::new(&loads, self.rules), false, self.calls);
        while let Some(call) = batch.next(Duration::from_millis(self.ledger.now_ms - now_ms)) {
            lost |= call.action != Action::LookUp && self.dice.chance(40);
            if lost && self.dice.chance(3) {
                // The loader ends while its request is on its way.
                self.make(&call, members, &mut batch);
                break;
            }
            if lost && call.action != Action::LookUp {
                batch.lease_lost(&call);
                continue;
            }
            self.make(&call, members, &mut batch);
            self.calls += 1;
            assert!(self.calls - before <= CALLS_MAX, "a batch never ends");
            let took = self.dice.roll(40) * 1_000;
            self.ledger.wait(took);
        }
        if lost {
            return self.hand_over(members);
        }
        for (at, outcome) in members.iter().zip(batch.outcomes()) {
            self.conclude(*at, outcome);
        }
    }

    /// The connection is gone: what it had delivered comes again, to another loader.
    fn hand_over(&mut self, members: &[usize]) {
        let now_ms = self.ledger.now_ms;
        self.owner = Owner { everything_ms: now_ms + SETTLE_MS, ..Owner::default() };
        for at in members {
            self.messages[*at].redelivered = true;
            // Whoever was told of it is gone.
            self.refused.remove(&self.messages[*at].number);
        }
    }

    /// The messages that a call is about.
    fn about(&self, call: &Call, members: &[usize]) -> Vec<&Message> {
        call.members.iter().map(|at| &self.messages[members[*at]]).collect()
    }

    fn make(&mut self, call: &Call, members: &[usize], batch: &mut Batch<'_>) {
        let texts = Catalogue::builtin();
        let ids: Vec<String> = call.members.iter().map(|at| batch.id(*at).to_owned()).collect();
        let sent = |(message, id): (&Message, &String)| Sent {
            number: message.number.clone(),
            version: message.version,
            id: (call.action == Action::Update).then(|| id.clone()),
        };
        let sent: Vec<Sent> = self.about(call, members).into_iter().zip(&ids).map(sent).collect();
        match call.action {
            Action::LookUp if self.dice.chance(12) => {
                batch.failed(call, &Failure::new(FailureKind::Unavailable, "503"));
            }
            Action::LookUp => {
                let seen = |sent: &Sent| self.ledger.seen(&sent.number, sent.version);
                batch.looked_up(call, sent.iter().map(seen).collect());
            }
            Action::Save | Action::Update => {
                let is_update = call.action == Action::Update;
                match is_update {
                    true => self.may_update(&self.about(call, members), &ids),
                    false => self.may_save(&self.about(call, members)),
                }
                match (self.ledger.save(&sent, &mut self.dice), is_update) {
                    (Ok(answer), true) => batch.updated(call, texts, &answer),
                    (Ok(answer), false) => batch.saved(call, texts, &answer),
                    (Err(failure), _) => batch.failed(call, &failure),
                }
                self.refused.append(&mut self.ledger.told);
            }
            Action::Submit | Action::Audit => {
                let (from, to) =
                    if call.action == Action::Submit { (&DRAFTS[..], "B") } else { (&["B"][..], "C") };
                match self.ledger.step(&ids, from, to, &mut self.dice) {
                    Ok(answer) => batch.stepped(call, texts, &answer),
                    Err(failure) => batch.failed(call, &failure),
                }
            }
        }
        for at in &call.members {
            let state = batch.state(*at);
            assert!(!matches!(state, Some(State::Failed(f)) if f.kind == FailureKind::Internal), "{state:?}");
        }
    }

    /// What must hold whenever a save or an update leaves.
    fn may_write(&self, message: &Message) {
        let number = &message.number;
        assert!(!message.cancelled, "{number} is saved although it was cancelled");
        let running = self.ledger.running.iter().any(|(_, other)| other.number == *number);
        assert!(!running, "{number} is saved while a save of it is running");
    }

    fn may_save(&self, messages: &[&Message]) {
        for message in messages {
            self.may_write(message);
            let number = &message.number;
            let there = !self.ledger.of(number).is_empty();
            assert!(self.ledger.nature.unique || !there, "{number} is saved although it is there");
            assert!(!self.refused.contains(number), "{number} is saved after it was refused");
        }
    }

    fn may_update(&self, messages: &[&Message], ids: &[String]) {
        assert_eq!((messages.len(), self.rules.on_change), (1, OnChange::UpdateDraft));
        for (message, id) in messages.iter().zip(ids) {
            self.may_write(message);
            let there = self.ledger.documents.iter().find(|document| document.id == *id).unwrap();
            assert!(there.written_ms < message.read_ms, "{message:?} overwrites what is newer: {there:?}");
        }
    }

    /// What the loader's stage and the harness make of an outcome.
    fn conclude(&mut self, at: usize, outcome: Result<Loaded, Failure>) {
        let (now_ms, finish) = (self.ledger.now_ms, self.rules.finish);
        let message = &mut self.messages[at];
        let mut failure = match outcome {
            Ok(loaded) if loaded.how == LoadedHow::Withdrawn => {
                let number = &message.number;
                assert!(message.cancelled && self.ledger.of(number).is_empty(), "{number} is there");
                let running = self.ledger.running.iter().any(|(_, other)| other.number == *number);
                assert!(!running, "{number} may still come to be there");
                message.end = Some(Ok(loaded));
                return;
            }
            Ok(loaded) if loaded.how == LoadedHow::Ignored => {
                assert_eq!(self.rules.on_change, OnChange::Ignore);
                message.end = Some(Ok(loaded));
                return;
            }
            Ok(loaded) => {
                let version = self.ledger.find(&loaded.id).map(|document| document.version);
                assert!(
                    self.meddled || version == Some(message.version),
                    "{message:?} is there as {version:?}"
                );
                assert!(!message.cancelled);
                let status = self.ledger.find(&loaded.id).map(|document| document.status);
                let enough = match finish {
                    Finish::Save => &["A", "B", "C"][..],
                    Finish::Submit => &["B", "C"],
                    Finish::Audit => &["C"],
                };
                assert!(status.is_some_and(|s| enough.contains(&s)), "{loaded:?} is at {status:?}");
                message.end = Some(Ok(loaded));
                return;
            }
            Err(failure) => failure,
        };
        let unclear = failure.kind == FailureKind::Unclear;
        if unclear && failure.in_flight {
            self.owner.unproven_ms.insert(message.number.clone(), now_ms + SETTLE_MS);
        } else if unclear {
            failure.retry_after = Some(Duration::from_secs(30));
        }
        let in_flight = failure.in_flight;
        match decide(failure, message.attempt) {
            Verdict::Done => {}
            Verdict::Dead { failure } => {
                message.end = Some(Err(failure));
                let number = message.number.clone();
                // Another message of the number is another matter.
                if self.messages.iter().any(|other| other.number == number && other.end.is_none()) {
                    self.refused.remove(&number);
                }
            }
            Verdict::Retry { after, counted, .. } => {
                if message.redelivered || (unclear && (in_flight || message.unclear_since_ms.is_none())) {
                    message.unclear_since_ms = Some(now_ms);
                }
                message.attempt += u32::from(counted);
                (message.verify, message.redelivered) = (true, false);
                let delay = Tier::at_least(after).delay.as_millis();
                message.due_ms = now_ms + u64::try_from(delay).unwrap();
            }
        }
    }

    /// What must hold when everything has ended.
    fn account(&mut self) {
        self.ledger.wait(SETTLE_MS);
        for message in &self.messages {
            let there = self.ledger.of(&message.number).len();
            assert!(there <= 1, "{} is there {there} times", message.number);
            match message.end.as_ref().unwrap() {
                Ok(loaded) if loaded.how == LoadedHow::Withdrawn => {}
                Ok(_) => assert_eq!(there, 1),
                Err(failure) => {
                    assert!(!failure.text.is_empty());
                    let blamed = failure.kind == FailureKind::Refused && failure.text.contains(INVALID);
                    let at_fault = self.ledger.nature.unsavable.contains(&message.number);
                    assert!(!blamed || at_fault, "{} is blamed for another: {failure}", message.number);
                }
            }
        }
    }
}

fn number(n: usize) -> String {
    format!("RK{n:03}")
}

fn nature(documents: usize) -> impl Strategy<Value = Nature> {
    let some =
        |one_in: u32| proptest::collection::vec(proptest::bool::weighted(1.0 / f64::from(one_in)), documents);
    (any::<bool>(), proptest::bool::weighted(0.3), some(6), some(8), some(12)).prop_map(
        |(unique, all_or_nothing, unsavable, unauditable, stuck)| {
            let set = |flags: Vec<bool>| (0..flags.len()).filter(|at| flags[*at]).map(number).collect();
            let (unsavable, unauditable, stuck) = (set(unsavable), set(unauditable), set(stuck));
            Nature { unique, all_or_nothing, unsavable, unauditable, stuck }
        },
    )
}

fn finish() -> impl Strategy<Value = Finish> {
    proptest::sample::select(vec![Finish::Audit, Finish::Audit, Finish::Submit, Finish::Save])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, late, half or repeated: no number is there twice, nothing is finished that isn't, what was
    /// refused for its data is not saved again, and every message ends.
    #[test]
    fn a_document_is_there_once_and_every_message_ends(
        (documents, nature) in (1_usize..7).prop_flat_map(|n| (Just(n), nature(n))),
        finish in finish(),
        copies in proptest::collection::vec(0_usize..6, 0..3),
        script in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut numbers: Vec<String> = (0..documents).map(number).collect();
        // A second message of a number that is there already is told apart by Kingdee alone.
        numbers.extend(copies.into_iter().filter(|_| nature.unique).map(|n| number(n % documents)));
        let mut run = Run::new(nature, finish, numbers, script);
        run.work_off();
        run.account();
    }

    /// Whatever changes, is cancelled, comes late or is edited by a person meanwhile: no update overwrites what was written
    /// after its version was read, or leaves while another write runs; nothing cancelled is posted; every message ends.
    #[test]
    fn a_changed_document_is_written_over_an_older_one_alone(
        (documents, nature) in (1_usize..4).prop_flat_map(|n| (Just(n), nature(n))),
        finish in finish(),
        versions in proptest::collection::vec((0_usize..4, 0_u16..2_000, 0_u16..1_000, proptest::bool::weighted(0.2)), 1..6),
        on_change in proptest::sample::select(vec![
            OnChange::UpdateDraft, OnChange::UpdateDraft, OnChange::UpdateDraft, OnChange::Report, OnChange::Ignore,
        ]),
        meddled in any::<bool>(),
        script in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        // A second message of a number that is there already is told apart by Kingdee alone.
        let nature = Nature { unique: true, ..nature };
        let numbers = (0..documents).map(number).collect();
        let mut run = Run::new(nature, finish, numbers, script).with_versions(&versions, on_change);
        run.meddled = meddled;
        run.work_off();
        run.account();
    }

    /// Where nothing else is wrong, each document that Kingdee refuses dies, every other one is there, and it takes no
    /// more calls than halving does.
    #[test]
    fn a_document_that_spoils_its_batch_dies_alone(
        documents in 1_usize..=50,
        spoils in proptest::collection::btree_set(0_usize..50, 0..4),
    ) {
        let unsavable: BTreeSet<String> =
            spoils.into_iter().filter(|n| *n < documents).map(number).collect();
        let bad = unsavable.len();
        let nature = Nature { unique: true, all_or_nothing: true, unsavable: unsavable.clone(), ..Nature::default() };
        let mut run = Run::new(nature, Finish::Audit, (0..documents).map(number).collect(), Vec::new());
        run.work_off();
        run.account();
        for message in &run.messages {
            let is_dead = matches!(message.end, Some(Err(_)));
            prop_assert_eq!(is_dead, unsavable.contains(&message.number), "{:?}", message);
            prop_assert_eq!(message.attempt, 1);
        }
        let depth = documents.next_power_of_two().trailing_zeros() as usize;
        let saves = 1 + 2 * depth * bad;
        let look_ups = 1 + depth * bad;
        prop_assert!(run.calls <= saves + look_ups + 2, "{} calls for {documents} documents, {bad} bad", run.calls);
    }
}

#[test]
fn the_runs_meet_every_ending() {
    // The properties above prove nothing if their runs are all alike: these seeds are looked at.
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..400_u32 {
        let script: Vec<u8> = (0..300_u32)
            .map(|n| (seed.wrapping_mul(2_654_435_761).wrapping_add(n * 40_503) >> 9) as u8)
            .collect();
        let unsavable = [number(1)].into();
        let unauditable = [number(2)].into();
        let stuck = [number(3)].into();
        let (unique, all_or_nothing) = (seed % 2 == 0, seed % 3 == 0);
        let nature = Nature { unique, all_or_nothing, unsavable, unauditable, stuck };
        let mut run = Run::new(nature, Finish::Audit, (0..5).map(number).collect(), script);
        run.work_off();
        run.account();
        for message in &run.messages {
            let end = match message.end.as_ref().unwrap() {
                Ok(loaded) => loaded.how.as_str().to_owned(),
                Err(failure) => failure.kind.as_str().to_owned(),
            };
            *kinds.entry(end).or_default() += 1;
        }
    }
    for ending in ["posted", "resumed", "already-there", "refused", "transient"] {
        assert!(kinds.get(ending).is_some_and(|n| *n > 20), "{kinds:?}");
    }
}

#[test]
fn the_runs_with_changes_meet_every_ending() {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..600_u32 {
        let byte = |n: u32| (seed.wrapping_mul(2_654_435_761).wrapping_add(n * 40_503) >> 9) as u8;
        let script: Vec<u8> = (0..200).map(byte).collect();
        let versions: Vec<_> = (0..4_u8)
            .map(|n| (usize::from(n % 3), u16::from(byte(n.into())) * 8, u16::from(n) * 90, n == 3))
            .collect();
        let on_change = [OnChange::UpdateDraft, OnChange::UpdateDraft, OnChange::Ignore][seed as usize % 3];
        let finish = if seed % 2 == 0 { Finish::Save } else { Finish::Audit };
        let unsavable = (seed % 4 == 0).then(|| number(0)).into_iter().collect();
        let nature = Nature { unique: true, unsavable, ..Nature::default() };
        let mut run = Run::new(nature, finish, (0..3).map(number).collect(), script);
        run = run.with_versions(&versions, on_change);
        run.meddled = seed % 5 == 0;
        run.work_off();
        run.account();
        for message in &run.messages {
            let end = match message.end.as_ref().unwrap() {
                Ok(loaded) => loaded.how.as_str().to_owned(),
                Err(failure) => {
                    format!("{} {}", failure.kind, failure.code.as_deref().unwrap_or_default())
                }
            };
            *kinds.entry(end).or_default() += 1;
        }
    }
    for ending in [
        "posted",
        "updated",
        "ignored",
        "withdrawn",
        "already-there",
        "conflict changed",
        "conflict cancelled",
    ] {
        assert!(kinds.get(ending).is_some_and(|n| *n > 10), "{ending}: {kinds:?}");
    }
}
