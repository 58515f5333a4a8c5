//! The documents of one call of the loader: which call to Kingdee is due next, and what its answer means for each.
//!
//! Nothing is touched here. What an answer about several documents leaves open is sent again in halves, so that one
//! document that spoils its call is alone after as many calls as the batch can be halved, and the others are posted.

use std::time::Duration;

use kingpost_kingdee::{
    Catalogue, Class, Entity, FieldError, SaveAnswer,
    classify::{DocumentOutcome, Doubt, Sent, errors_per_document, per_document_with},
};
use kingpost_model::{Failure, FailureKind, Load, Loaded};

use super::{
    failures::{refused, refused_whole},
    life::{Action, Event, Life, Open, Rules, SaveSaid, Seen, State, StepSaid, Terms, Why},
};
use crate::TIMED_OUT;

/// How long parts of one batch are tried before the rest has to come again: 50 documents that take half a minute each
/// would outlast the broker's patience with its consumer (30 minutes).
const PARTS_MAX: Duration = Duration::from_secs(120);

/// A call that is due, with the documents that it is about, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What to ask.
    pub action: Action,
    /// About which documents; never empty.
    pub members: Vec<usize>,
}

/// Documents of distinct numbers on their way.
#[derive(Debug)]
pub struct Batch<'a> {
    documents: Vec<Document<'a>>,
    parts: usize,
    /// The write whose answer left documents open, and those documents.
    open: Option<(Action, Vec<usize>)>,
    /// What the last save made that is none of those sent.
    strangers: Vec<Entity>,
    saving: Parts,
    updating: Parts,
    stepping: Parts,
}

#[derive(Debug)]
struct Document<'a> {
    number: &'a str,
    life: Life,
    /// What is sent together: 0 is everything, anything else a part of a call that was left open.
    part: usize,
}

/// The parts of calls that were left open, and updates, which are made one by one. They end with the first sign that Kingdee doesn't work, or when they take
/// too long.
#[derive(Debug, Default)]
struct Parts {
    begun: Option<Duration>,
    ended: Option<Failure>,
}

impl Parts {
    /// What becomes of the next part instead of a try, once they have ended.
    fn ended(&mut self, elapsed: Duration) -> Option<Failure> {
        let begun = *self.begun.get_or_insert(elapsed);
        if self.ended.is_none() && elapsed.saturating_sub(begun) >= PARTS_MAX {
            let text = "not tried: documents that have to be tried in parts take too long; it comes again";
            return Some(Failure::new(FailureKind::Unavailable, text));
        }
        self.ended.clone()
    }

    /// Learns from a document that was tried.
    fn learn(&mut self, failure: &Failure) {
        let hangs = failure.code.as_deref() == Some(TIMED_OUT);
        if self.ended.is_none() && (hangs || failure.kind.is_outage()) {
            let kind = if hangs { FailureKind::Unavailable } else { failure.kind };
            let mut next = Failure::new(kind, format!("not tried after another document: {}", failure.text));
            next.retry_after = failure.retry_after;
            self.ended = Some(next);
        }
    }
}

impl<'a> Batch<'a> {
    /// Documents to be loaded by the rules of their scheme.
    pub fn new(loads: &'a [Load], rules: Rules) -> Self {
        let document = |load: &'a Load| Document {
            number: &load.number,
            life: Life::new(Terms::of(load, rules)),
            part: 0,
        };
        Batch {
            documents: loads.iter().map(document).collect(),
            parts: 0,
            open: None,
            strangers: Vec::new(),
            saving: Parts::default(),
            updating: Parts::default(),
            stepping: Parts::default(),
        }
    }

    /// The call that is due after so much time, if any. Everything is looked up before anything is saved, everything
    /// saved before anything is submitted, everything submitted before anything is audited. What is outdated is updated
    /// first, each document by a call of its own, and looked up again.
    pub fn next(&mut self, elapsed: Duration) -> Option<Call> {
        self.halve();
        loop {
            let due = self.documents.iter().filter_map(|d| Some((d.life.next()?, d.part)));
            // Of one action the first document's part comes first.
            let (action, part) = due.min_by_key(|(action, _)| *action)?;
            let is_due = |d: &Document<'_>| {
                d.life.next() == Some(action) && (action == Action::LookUp || d.part == part)
            };
            let mut members: Vec<usize> =
                self.documents.iter().enumerate().filter(|(_, d)| is_due(d)).map(|(at, _)| at).collect();
            if action == Action::Update {
                members.truncate(1);
            }
            let ended = match action {
                Action::LookUp => None,
                Action::Update => self.updating.ended(elapsed),
                _ if part == 0 => None,
                Action::Save => self.saving.ended(elapsed),
                Action::Submit | Action::Audit => self.stepping.ended(elapsed),
            };
            match ended {
                None => return Some(Call { action, members }),
                Some(failure) => {
                    for at in members {
                        self.happens(action, at, Event::Failed(failure.clone()));
                    }
                }
            }
        }
    }

    /// The number of a document.
    pub fn number(&self, at: usize) -> &'a str {
        self.documents.get(at).map_or("", |document| document.number)
    }

    /// The id of a document that is there, or nothing.
    pub fn id(&self, at: usize) -> &str {
        self.documents.get(at).map_or("", |document| document.life.id())
    }

    /// Where a document stands.
    pub fn state(&self, at: usize) -> Option<&State> {
        self.documents.get(at).map(|document| document.life.state())
    }

    /// A document is not to be sent at all.
    pub fn refuse(&mut self, at: usize, failure: Failure) {
        self.happens(Action::Save, at, Event::Failed(failure));
    }

    /// A look-up was answered: what it found of each member, in their order.
    pub fn looked_up(&mut self, call: &Call, found: Vec<Vec<Seen>>) {
        let known = |entity: &&Entity| !found.iter().flatten().any(|seen| seen.id == entity.id);
        let stray = self.strangers.iter().find(known).map(|entity| entity.number.clone());
        let action = self.open.as_ref().map_or(Action::LookUp, |(action, _)| *action);
        for (at, seen) in call.members.iter().zip(found) {
            self.happens(action, *at, Event::LookedUp { seen, stray: stray.clone() });
        }
    }

    /// A save was answered.
    pub fn saved(&mut self, call: &Call, catalogue: &Catalogue, answer: &SaveAnswer) {
        let numbers: Vec<&str> = call.members.iter().map(|at| self.number(*at)).collect();
        let outcomes = per_document_with(catalogue, &numbers, answer);
        let none_named =
            outcomes.iter().all(|o| matches!(o, DocumentOutcome::Verify { why: Doubt::NotMentioned, .. }));
        let instead = if none_named { nothing_goes(catalogue, answer) } else { None };
        let alone = call.members.len() == 1;
        let strangers = answer.successes.iter().filter(|entity| !numbers.contains(&entity.number.as_str()));
        self.strangers = strangers.cloned().collect();
        for (at, outcome) in call.members.iter().zip(outcomes) {
            let said = match outcome {
                DocumentOutcome::Saved { id } => SaveSaid::Yes(id),
                DocumentOutcome::Failed { ruling, errors } => {
                    SaveSaid::No(refused(&ruling, &errors, answer.msg_code))
                }
                DocumentOutcome::Verify { why, errors } => {
                    let words = errors.into_iter().next().map(|error| error.message).unwrap_or_default();
                    SaveSaid::Open(Open { doubt: why, words, alone, instead: instead.clone() })
                }
            };
            #[cfg(kingpost_bugs)]
            let said = match answer.errors.first() {
                Some(error) if kingpost_settings::bug("one-refusal-refuses-the-batch") => {
                    SaveSaid::No(Failure::new(kingpost_model::FailureKind::Refused, error.message.clone()))
                }
                _ => said,
            };
            self.happens(call.action, *at, Event::SaveAnswered(said));
        }
        self.leave_open(call);
    }

    /// An update was answered. A refusal for the status of the document, or for a number that is taken, is looked into: it
    /// may have been submitted since it was looked up.
    pub fn updated(&mut self, call: &Call, catalogue: &Catalogue, answer: &SaveAnswer) {
        for at in &call.members {
            let outcome = per_document_with(catalogue, &[self.number(*at)], answer).into_iter().next();
            let open = |doubt, errors: &[FieldError], instead| {
                let words = errors.first().map(|error| error.message.clone()).unwrap_or_default();
                SaveSaid::Open(Open { doubt, words, alone: true, instead })
            };
            let said = match outcome {
                Some(DocumentOutcome::Saved { id }) => SaveSaid::Yes(id),
                Some(DocumentOutcome::Failed { ruling, errors }) => {
                    let refusal = refused(&ruling, &errors, answer.msg_code);
                    match ruling.class {
                        Class::State => open(Doubt::Unclear, &errors, Some(refusal)),
                        _ => SaveSaid::No(refusal),
                    }
                }
                Some(DocumentOutcome::Verify { why: Doubt::NotMentioned, errors }) => {
                    open(Doubt::NotMentioned, &errors, nothing_goes(catalogue, answer))
                }
                Some(DocumentOutcome::Verify { why, errors }) => open(why, &errors, None),
                None => open(Doubt::NotMentioned, &[], None),
            };
            self.happens(call.action, *at, Event::SaveAnswered(said));
        }
    }

    /// A step was answered.
    pub fn stepped(&mut self, call: &Call, catalogue: &Catalogue, answer: &SaveAnswer) {
        let sent: Vec<Sent<'_>> =
            call.members.iter().map(|at| Sent { number: self.number(*at), id: self.id(*at) }).collect();
        let errors = errors_per_document(&sent, answer);
        let done: Vec<bool> = sent.iter().map(|s| answer.successes.iter().any(|e| s.is(e))).collect();
        let alone = call.members.len() == 1;
        let none_named = !done.contains(&true) && errors.iter().all(Vec::is_empty);
        let over = if none_named { nothing_goes(catalogue, answer) } else { None };
        for ((at, done), errors) in call.members.iter().zip(done).zip(errors) {
            let said = if done {
                StepSaid::Yes
            } else if errors.is_empty() {
                // Steps answer by document, but not every text names its document: the status decides.
                let refusal = over.clone().unwrap_or_else(|| stays(refused_whole(catalogue, answer)));
                StepSaid::OtherState { refusal, alone, over: over.is_some() }
            } else {
                let ruling = catalogue.rule(answer.msg_code, &errors);
                let refusal = refused(&ruling, &errors, answer.msg_code);
                match ruling.class {
                    Class::State | Class::Unclear | Class::Duplicate => {
                        StepSaid::OtherState { refusal: stays(refusal), alone, over: false }
                    }
                    _ => StepSaid::No(refusal),
                }
            };
            self.happens(call.action, *at, Event::StepAnswered(said));
        }
        self.leave_open(call);
    }

    /// A call failed as a whole, or was not made.
    pub fn failed(&mut self, call: &Call, failure: &Failure) {
        let action = match (&self.open, call.action) {
            (Some((action, _)), Action::LookUp) => *action,
            (_, action) => action,
        };
        for at in &call.members {
            self.happens(action, *at, Event::Failed(failure.clone()));
        }
    }

    /// The right to act was gone before a write.
    pub fn lease_lost(&mut self, call: &Call) {
        for at in &call.members {
            self.happens(call.action, *at, Event::LeaseLost);
        }
    }

    /// One outcome for each document, in their order.
    pub fn outcomes(self) -> Vec<Result<Loaded, Failure>> {
        self.documents.into_iter().map(|document| document.life.outcome(document.number)).collect()
    }

    /// Moves one document; `action` is the write that it is about.
    fn happens(&mut self, action: Action, at: usize, event: Event) {
        let Some(document) = self.documents.get_mut(at) else { return };
        document.life.on(event);
        let parts = match action {
            Action::Save => &mut self.saving,
            Action::Update => &mut self.updating,
            Action::LookUp | Action::Submit | Action::Audit => &mut self.stepping,
        };
        match document.life.state() {
            State::Failed(failure) if document.part != 0 || action == Action::Update => parts.learn(failure),
            // What moved on goes on together with all others.
            State::Saved(_) | State::Submitted(_) | State::Audited(_)
                if document.life.next() != Some(action) =>
            {
                document.part = 0;
            }
            _ => {}
        }
    }

    fn leave_open(&mut self, call: &Call) {
        let is_open =
            |at: &usize| matches!(self.state(*at), Some(State::Unknown(Why::Save(_) | Why::Step(_))));
        let open: Vec<usize> = call.members.iter().copied().filter(is_open).collect();
        self.open = (!open.is_empty()).then_some((call.action, open));
    }

    /// Makes two parts of the documents that were left open and have to be sent again.
    fn halve(&mut self) {
        let Some((action, open)) = self.open.take_if(|(_, open)| {
            open.iter()
                .all(|at| self.documents.get(*at).is_none_or(|d| d.life.next() != Some(Action::LookUp)))
        }) else {
            return;
        };
        let again: Vec<usize> = open
            .into_iter()
            .filter(|at| self.documents.get(*at).is_some_and(|d| d.life.next() == Some(action)))
            .collect();
        let (left, right) = again.split_at(again.len() / 2);
        for half in [left, right] {
            self.parts += 1;
            for at in half {
                if let Some(document) = self.documents.get_mut(*at) {
                    document.part = self.parts;
                }
            }
        }
    }
}

/// What an answer that names no document says of all of them, where that is: come back later.
fn nothing_goes(catalogue: &Catalogue, answer: &SaveAnswer) -> Option<Failure> {
    let failure = refused_whole(catalogue, answer);
    (!answer.is_success && failure.kind.is_outage()).then_some(failure)
}

/// A step that was refused may have been broken off, but nothing of it is in flight, and the try counts.
fn stays(mut refusal: Failure) -> Failure {
    if refusal.kind == FailureKind::Unclear {
        refusal.kind = FailureKind::Transient;
    }
    refusal
}
