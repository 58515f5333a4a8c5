//! The life of one document in Kingdee, as a state machine that touches nothing: no clock, no network, no queue.
//!
//! | state | what is known | what is due |
//! |---|---|---|
//! | [`NotSent`](State::NotSent) | nobody can be writing it, and it isn't there | save |
//! | [`Outdated`](State::Outdated) | it is there as a draft (`Z`, `A`, `D`) with another content, which is older than ours, and nobody can be writing it | update |
//! | [`Unknown`](State::Unknown) | it may have been written, or moved on: an earlier try, another loader, an answer that decides nothing | look up |
//! | [`Saved`](State::Saved) | it is there, status `Z`, `A` or `D` | submit; nothing where the scheme saves only |
//! | [`Submitted`](State::Submitted) | it is there, status `B` | audit; nothing where the scheme submits only |
//! | [`Audited`](State::Audited) | it is there, status `C` | nothing |
//! | [`Left`](State::Left) | nothing has to be written: what the scheme ignores, or what was cancelled in the source and isn't there | nothing |
//! | [`Failed`](State::Failed) | why, and whether a write of this try may still take effect | nothing |
//!
//! What happens moves it, and nothing else does:
//!
//! | in | what happens | leads to |
//! |---|---|---|
//! | `NotSent` | the answer names it as saved | `Saved` |
//! | `NotSent` | the answer refuses it | `Failed` |
//! | `NotSent` | the answer leaves it open: not mentioned, taken, a time-out inside the server | `Unknown` |
//! | `NotSent` | no answer | `Failed`, unclear, with a write in flight: the next try begins in `Unknown` |
//! | `NotSent`, `Outdated` | turned away by what stands before Kingdee | `Failed`, throttled or unavailable, with a write in flight: as above |
//! | `Unknown` | found once, with our content | `Saved`, `Submitted` or `Audited`, by its status |
//! | `Unknown` | found once, cancelled | `Failed`, conflict |
//! | `Unknown` | found once, with another content, as a draft that we may update: see below | `Outdated` |
//! | `Unknown` | found once, with another content that the scheme ignores | `Left`, ignored |
//! | `Unknown` | found once, with another content, otherwise | `Failed`, conflict, code [`CHANGED`](crate::CHANGED) |
//! | `Unknown` | found more than once | `Failed`, conflict, code [`DUPLICATE`] |
//! | `Unknown` | cancelled in the source, and found once | `Left` where it is cancelled as well or the scheme ignores it; else `Failed`, conflict, code [`CANCELLED`](crate::CANCELLED) |
//! | `Unknown` | cancelled in the source, and absent, and no write of it can be running | `Left`, withdrawn |
//! | `Unknown` | absent, and a write of it may still be running | `Failed`, unclear |
//! | `Unknown` | absent, and no write of it can be running | `NotSent` |
//! | `Unknown` | the look-up fails | `Failed`: nothing is posted |
//! | `Outdated` | the answer to the update names it, or leaves it open, or speaks of its status | `Unknown`: what is there is read again |
//! | `Outdated` | the answer refuses it | `Failed` |
//! | `Outdated` | no answer | `Failed`, unclear, with a write in flight |
//! | `Unknown` after an update | found once, with our content | `Saved`, `Submitted` or `Audited`, by its status |
//! | `Unknown` after an update | found once, still another content | `Failed`: conflict where somebody has submitted it, unclear with a write in flight else |
//! | `Saved`, `Submitted` | the answer names it | the next state |
//! | `Saved`, `Submitted` | the answer leaves it open, or speaks of another status | `Unknown`: the status is read again |
//! | `Saved`, `Submitted` | the answer refuses it, or there is none | `Failed`: the next try reads the status |
//! | any | the lease is lost before a write | `Failed`: nothing more is written |
//!
//! A draft is updated where the scheme says so, what is at hand was read from the source surely after the draft was last written
//! ([`Terms::is_newer_than`]), and no write of the number can be running. So neither an older version nor a write that comes late overwrites a
//! newer one, and nothing overwrites what a person has typed since. Whether the draft is one still is for Kingdee to say, which
//! takes no save of a submitted or audited document.
//!
//! So a document is saved again only after a look-up that didn't find it while no write of it could be running, and never
//! after it was there or was refused. What a later try begins with is the loader's to say, by the [`Standing`].

use kingpost_kingdee::{DocumentStatus, classify::Doubt};
use kingpost_model::{Failure, FailureKind, Load, Loaded, LoadedHow, Standing};

mod words;

pub(super) use words::lease_lost;
use words::{cancelled_there, changed, gone, in_source_cancelled, out_of_sight, renumbered, several};

/// A document that is refused alone this often for a status that stays as it is stays there.
const REFUSALS_MAX: u32 = 3;
/// Steps of one try at most, whatever the answers: more than halving the largest batch takes for both steps.
const STEPS_MAX: u32 = 24;

/// How much later than the draft was written, by Kingdee's clock, a version must have been read, by ours, to be newer for sure:
/// as far as the two clocks may be apart.
const CLOCKS_APART_MS: i64 = 60_000;

/// How far a document is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Saved.
    Save,
    /// Saved and submitted.
    Submit,
    /// Saved, submitted and audited.
    Audit,
}

/// What becomes of a document that is there with another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// Nothing, and it counts as done.
    Ignore,
    /// A conflict.
    Report,
    /// A draft is overwritten, anything else is a conflict.
    UpdateDraft,
}

/// What a scheme asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far documents are taken.
    pub finish: Finish,
    /// What becomes of those that differ.
    pub on_change: OnChange,
}

/// Everything that is known of a document before its first look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is known of its writes.
    pub standing: Standing,
    /// What the scheme asks for.
    pub rules: Rules,
    /// When it was read from the source, in milliseconds since the epoch.
    pub extracted_ms: Option<i64>,
    /// It was cancelled in the source.
    pub cancelled: bool,
}

impl Terms {
    /// Those of a document that is to be loaded.
    pub fn of(load: &Load, rules: Rules) -> Self {
        Terms { standing: load.standing, rules, extracted_ms: load.extracted_ms, cancelled: load.cancelled }
    }

    /// Whether this version was surely read after what is there was last written. Kingdee shows whole seconds, and may have cut
    /// a fraction off.
    pub fn is_newer_than(&self, there: &Seen) -> bool {
        #[cfg(kingpost_bugs)]
        if kingpost_settings::bug("updates-with-any-version") {
            return true;
        }
        self.extracted_ms.zip(there.written_s).is_some_and(|(read_ms, written_s)| {
            let written_ms = written_s.saturating_add(1).saturating_mul(1_000);
            read_ms >= written_ms.saturating_add(CLOCKS_APART_MS)
        })
    }
}

/// What is due for a document, in the order in which that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Save it over the draft that is there.
    Update,
    /// Ask Kingdee what it has under the number.
    LookUp,
    /// Save it as a new document.
    Save,
    /// Submit it (提交).
    Submit,
    /// Audit it (审核).
    Audit,
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody can be writing it, and it isn't there.
    NotSent,
    /// It may have been written, or moved on.
    Unknown(Why),
    /// It is there as a draft with this id and an older content.
    Outdated(String),
    /// It is there, not submitted.
    Saved(There),
    /// It is there, submitted.
    Submitted(There),
    /// It is there, audited.
    Audited(There),
    /// Nothing has to be written; how that differs from what is at hand.
    Left(There, Option<String>),
    /// This try of it is over.
    Failed(Failure),
}

/// A document that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// `FID`.
    pub id: String,
    /// How it came to be there.
    pub how: LoadedHow,
}

/// Why it is not known what has become of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Of what happened before this try.
    Standing,
    /// A save was answered, and the answer leaves it open.
    Save(Open),
    /// An update of the document with this id was answered; what the answer leaves open, if it doesn't name the document.
    Update(String, Option<Open>),
    /// A step was answered, and the answer leaves it open or speaks of another status.
    Step(Unmoved),
}

/// What the answer to a save leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Why it doesn't decide.
    pub doubt: Doubt,
    /// The server's words about it, if any.
    pub words: String,
    /// The document was sent alone.
    pub alone: bool,
    /// What becomes of it instead of another save, where the answer says that Kingdee takes none.
    pub instead: Option<Failure>,
}

/// A document that a step may not have moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmoved {
    /// The document.
    pub there: There,
    /// The step that was asked for.
    pub step: Action,
    /// What becomes of it if its status is still the same; without one the step is tried again.
    pub instead: Option<Failure>,
}

/// One document that Kingdee has under a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `FID`.
    pub id: String,
    /// `FDocumentStatus`.
    pub status: DocumentStatus,
    /// `FCancelStatus` is `B` (作废).
    pub cancelled: bool,
    /// When it was last written, in seconds since the epoch, where that was asked for and is known.
    pub written_s: Option<i64>,
    /// How its content differs from ours, in words.
    pub difference: Option<String>,
}

/// What the answer to a save says about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveSaid {
    /// It is saved, with this id.
    Yes(String),
    /// It is refused.
    No(Failure),
    /// Nothing that decides.
    Open(Open),
}

/// What the answer to a step says about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepSaid {
    /// It is done.
    Yes,
    /// It is refused.
    No(Failure),
    /// Nothing that decides, or that its status is another one: what it would be refused for, whether it was sent alone,
    /// and what becomes of it instead of another try, where the answer says that Kingdee takes none.
    OtherState {
        /// The refusal, if the status turns out to be what it was.
        refusal: Failure,
        /// The document was sent alone.
        alone: bool,
        /// Kingdee takes no step at all.
        over: bool,
    },
}

/// Something that happened to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A look-up was answered.
    LookedUp {
        /// Every document of the number.
        seen: Vec<Seen>,
        /// The number of a document that the last save made and that is none of those sent.
        stray: Option<String>,
    },
    /// A save was answered.
    SaveAnswered(SaveSaid),
    /// A step was answered.
    StepAnswered(StepSaid),
    /// The call that was due failed as a whole, or was not made.
    Failed(Failure),
    /// The right to act is gone.
    LeaseLost,
}

/// One try of one document.
#[derive(Clone, Debug)]
pub struct Life {
    terms: Terms,
    state: State,
    /// By this try, as far as its answers say.
    saved: bool,
    refusals: u32,
    steps: u32,
}

impl Life {
    /// A document of which so much is known.
    pub fn new(terms: Terms) -> Self {
        let state = State::Unknown(Why::Standing);
        #[cfg(kingpost_bugs)]
        let state = match kingpost_settings::bug("no-look-up-after-time-out") {
            true => State::NotSent,
            false => state,
        };
        Life { terms, state, saved: false, refusals: 0, steps: 0 }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The document, where it is known to exist.
    pub fn there(&self) -> Option<&There> {
        match &self.state {
            State::Saved(there) | State::Submitted(there) | State::Audited(there) => Some(there),
            State::Unknown(Why::Step(unmoved)) => Some(&unmoved.there),
            State::NotSent | State::Unknown(_) | State::Outdated(_) | State::Left(..) | State::Failed(_) => {
                None
            }
        }
    }

    /// The id that a write of it has to name, or nothing.
    pub fn id(&self) -> &str {
        match &self.state {
            State::Outdated(id) => id,
            _ => self.there().map_or("", |there| &there.id),
        }
    }

    /// What is due; nothing when this try is over.
    pub fn next(&self) -> Option<Action> {
        self.due(&self.state)
    }

    /// Moves it by what happened.
    pub fn on(&mut self, event: Event) {
        let state = std::mem::replace(&mut self.state, State::NotSent);
        self.state = self.moved(state, event);
        let written = |there: &There| matches!(there.how, LoadedHow::Posted | LoadedHow::Updated);
        self.saved |= self.there().is_some_and(written);
    }

    /// What this try came to. A document that something is still due for has no outcome and is looked up next time.
    ///
    /// # Errors
    /// Why it failed.
    pub fn outcome(self, number: &str) -> Result<Loaded, Failure> {
        let finished = self.next().is_none();
        match self.state {
            State::Failed(failure) => Err(Failure { saved: self.saved, ..failure }),
            State::Saved(there) | State::Submitted(there) | State::Audited(there) if finished => {
                Ok(Loaded { number: number.to_owned(), id: there.id, how: there.how, difference: None })
            }
            State::Left(There { id, how }, difference) => {
                Ok(Loaded { number: number.to_owned(), id, how, difference })
            }
            state => {
                let text = format!("the try ended in {state:?} with something left to do");
                Err(Failure::new(FailureKind::Internal, text).leaving_a_write_in_flight())
            }
        }
    }

    fn due(&self, state: &State) -> Option<Action> {
        match (state, self.terms.rules.finish) {
            (State::NotSent, _) => Some(Action::Save),
            (State::Outdated(_), _) => Some(Action::Update),
            (State::Unknown(_), _) => Some(Action::LookUp),
            (State::Saved(_), Finish::Submit | Finish::Audit) => Some(Action::Submit),
            (State::Submitted(_), Finish::Audit) => Some(Action::Audit),
            (State::Saved(_), Finish::Save)
            | (State::Submitted(_), Finish::Save | Finish::Submit)
            | (State::Audited(_) | State::Left(..) | State::Failed(_), _) => None,
        }
    }

    fn moved(&mut self, state: State, event: Event) -> State {
        match (state, event) {
            (State::Failed(failure), _) => State::Failed(failure),
            (State::Unknown(Why::Save(_) | Why::Update(..)), Event::Failed(failure)) => {
                let text =
                    format!("the outcome of the save is open, and the look-up failed: {}", failure.text);
                State::Failed(Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight())
            }
            (State::Saved(_) | State::Submitted(_), Event::Failed(mut failure)) => {
                // A step has no outcome of its own to lose: the status says it, and the next try reads it.
                if failure.kind == FailureKind::Unclear {
                    failure.kind = FailureKind::Transient;
                }
                failure.in_flight = false;
                State::Failed(failure)
            }
            (_, Event::Failed(failure)) => State::Failed(failure),
            (_, Event::LeaseLost) => State::Failed(lease_lost()),
            (State::NotSent, Event::SaveAnswered(said)) => match said {
                SaveSaid::Yes(id) => State::Saved(There { id, how: LoadedHow::Posted }),
                SaveSaid::No(failure) => State::Failed(failure),
                SaveSaid::Open(open) => State::Unknown(Why::Save(open)),
            },
            (State::Outdated(id), Event::SaveAnswered(said)) => match said {
                SaveSaid::Yes(_) => State::Unknown(Why::Update(id, None)),
                SaveSaid::No(failure) => State::Failed(failure),
                SaveSaid::Open(open) => State::Unknown(Why::Update(id, Some(open))),
            },
            (State::Saved(there), Event::StepAnswered(said)) => self.stepped(Action::Submit, there, said),
            (State::Submitted(there), Event::StepAnswered(said)) => self.stepped(Action::Audit, there, said),
            (State::Unknown(why), Event::LookedUp { seen, stray }) => match seen.as_slice() {
                [] => self.absent(why, stray),
                [one] => self.found(why, one),
                many => State::Failed(several(many)),
            },
            // No answer to what wasn't asked moves a document; what it did is looked up by the next try.
            (state, event) => {
                let text = format!("{event:?} met a document in {state:?}");
                State::Failed(Failure::new(FailureKind::Internal, text).leaving_a_write_in_flight())
            }
        }
    }

    fn stepped(&mut self, step: Action, there: There, said: StepSaid) -> State {
        self.steps += 1;
        match said {
            StepSaid::Yes if step == Action::Submit => State::Submitted(there),
            StepSaid::Yes => State::Audited(there),
            StepSaid::No(failure) => State::Failed(failure),
            StepSaid::OtherState { .. } if self.steps >= STEPS_MAX => {
                let text = format!("the document (id {}) keeps changing its status", there.id);
                State::Failed(Failure::new(FailureKind::Transient, text))
            }
            StepSaid::OtherState { refusal, alone, over } => {
                self.refusals = if alone { self.refusals + 1 } else { self.refusals.max(1) };
                let last = over || (alone && self.refusals >= REFUSALS_MAX);
                State::Unknown(Why::Step(Unmoved { there, step, instead: last.then_some(refusal) }))
            }
        }
    }

    fn absent(&self, why: Why, stray: Option<String>) -> State {
        let failure = match why {
            Why::Standing if self.terms.standing == Standing::Unproven => {
                let text = "not found, but a write of it may still be running; it is looked up again";
                Failure::new(FailureKind::Unclear, text)
            }
            Why::Standing if self.terms.cancelled => return withdrawn(String::new()),
            Why::Standing => return State::NotSent,
            Why::Update(_, Some(Open { doubt: Doubt::OtherNumber { number }, .. })) => renumbered(&number),
            Why::Update(id, _) => gone(&id),
            Why::Step(unmoved) => gone(&unmoved.there.id),
            Why::Save(open) => match (open.doubt, stray) {
                // Posted again, it would be there twice, each time under a number of Kingdee's own.
                (Doubt::NotMentioned, Some(number)) | (Doubt::OtherNumber { number }, _) => {
                    renumbered(&number)
                }
                (Doubt::NotMentioned, None) => match open.instead {
                    Some(failure) => failure,
                    None if open.alone => {
                        let text = "Kingdee answered, but neither with a success nor with a refusal of this document";
                        Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight()
                    }
                    None => return State::NotSent,
                },
                // The document may be our own, of a write that ended without an answer and shows late.
                (Doubt::Duplicate, _) if self.terms.standing == Standing::Settled => {
                    let text = format!("the number is taken, but a look-up doesn't show it: {}", open.words);
                    Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight()
                }
                (Doubt::Duplicate, _) => out_of_sight(&open.words),
                (Doubt::Unclear | Doubt::NoId, _) => {
                    let words = if open.words.is_empty() { "the answer leaves it open" } else { &open.words };
                    Failure::new(FailureKind::Unclear, words).leaving_a_write_in_flight()
                }
            },
        };
        State::Failed(failure)
    }

    fn found(&self, why: Why, seen: &Seen) -> State {
        if self.terms.cancelled {
            return self.found_though_cancelled(seen);
        }
        if seen.cancelled {
            return State::Failed(cancelled_there(&seen.id));
        }
        match why {
            // It is known to be ours, whatever somebody has changed in it since.
            Why::Step(unmoved) if unmoved.there.id == seen.id => {
                let state = at(&seen.status, unmoved.there);
                match unmoved.instead {
                    Some(failure) if self.due(&state) == Some(unmoved.step) => State::Failed(failure),
                    _ => state,
                }
            }
            Why::Step(unmoved) => State::Failed(gone(&unmoved.there.id)),
            Why::Update(id, _) if id != seen.id => State::Failed(gone(&id)),
            Why::Update(id, open) => updated(id, open, seen),
            Why::Standing | Why::Save(_) => {
                #[cfg(kingpost_bugs)]
                let seen = &match kingpost_settings::bug("any-document-will-do") {
                    true => Seen { difference: None, ..seen.clone() },
                    false => seen.clone(),
                };
                if let Some(difference) = &seen.difference {
                    return self.differs(&why, seen, difference);
                }
                let state = |how| at(&seen.status, There { id: seen.id.clone(), how });
                // Only a document that this try did not save, or was refused for, was there before it.
                let how = match why {
                    Why::Save(Open { doubt, .. }) if doubt != Doubt::Duplicate => LoadedHow::Posted,
                    _ if self.due(&state(LoadedHow::AlreadyThere)).is_none() => LoadedHow::AlreadyThere,
                    _ => LoadedHow::Resumed,
                };
                state(how)
            }
        }
    }

    /// Found with another content.
    fn differs(&self, why: &Why, seen: &Seen, difference: &str) -> State {
        // What this try itself has saved isn't what it has sent, and that is nothing to be ignored or repeated.
        if matches!(why, Why::Save(open) if open.doubt != Doubt::Duplicate) {
            return State::Failed(changed(seen, difference, ""));
        }
        let why_not = match self.terms.rules.on_change {
            OnChange::Ignore => {
                let there = There { id: seen.id.clone(), how: LoadedHow::Ignored };
                return State::Left(there, Some(difference.to_owned()));
            }
            OnChange::Report => "",
            OnChange::UpdateDraft if !is_draft(&seen.status) => "it is no draft any more",
            OnChange::UpdateDraft if !self.terms.is_newer_than(seen) => {
                "what is at hand was not surely read from the source after the draft was last written"
            }
            OnChange::UpdateDraft if self.terms.standing == Standing::Unproven => {
                let text = "it is there as a draft with an older content, but a write of it may still be running; it is \
                            looked up again";
                return State::Failed(Failure::new(FailureKind::Unclear, text));
            }
            OnChange::UpdateDraft => return State::Outdated(seen.id.clone()),
        };
        State::Failed(changed(seen, difference, why_not))
    }

    /// Found although it was cancelled in the source.
    fn found_though_cancelled(&self, seen: &Seen) -> State {
        if seen.cancelled {
            return withdrawn(seen.id.clone());
        }
        match self.terms.rules.on_change {
            OnChange::Ignore => {
                let words = format!("cancelled in the source, status {} in Kingdee", seen.status);
                State::Left(There { id: seen.id.clone(), how: LoadedHow::Ignored }, Some(words))
            }
            OnChange::Report | OnChange::UpdateDraft => State::Failed(in_source_cancelled(seen)),
        }
    }
}

/// What an update came to, by what is there after it.
fn updated(id: String, open: Option<Open>, seen: &Seen) -> State {
    let Some(difference) = &seen.difference else {
        return at(&seen.status, There { id, how: LoadedHow::Updated });
    };
    if !is_draft(&seen.status) {
        return State::Failed(changed(seen, difference, "it was submitted meanwhile"));
    }
    let words = match open {
        Some(Open { instead: Some(failure), .. }) => return State::Failed(failure),
        Some(Open { doubt: Doubt::Duplicate, words, .. }) => return State::Failed(out_of_sight(&words)),
        Some(Open { words, .. }) if !words.is_empty() => words,
        Some(_) => "the answer to the update leaves it open".to_owned(),
        None => format!("Kingdee says that the draft (id {id}) was updated, but shows: {difference}"),
    };
    State::Failed(Failure::new(FailureKind::Unclear, words).leaving_a_write_in_flight())
}

fn withdrawn(id: String) -> State {
    State::Left(There { id, how: LoadedHow::Withdrawn }, None)
}

fn is_draft(status: &DocumentStatus) -> bool {
    matches!(status, DocumentStatus::Draft | DocumentStatus::Created | DocumentStatus::Reopened)
}

fn at(status: &DocumentStatus, there: There) -> State {
    match status {
        DocumentStatus::Draft
        | DocumentStatus::Created
        | DocumentStatus::Reopened
        | DocumentStatus::Other(_) => State::Saved(there),
        DocumentStatus::Submitted => State::Submitted(there),
        DocumentStatus::Approved => State::Audited(there),
    }
}

#[cfg(test)]
mod tests;
