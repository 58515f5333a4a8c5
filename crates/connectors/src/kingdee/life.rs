//! The life of one document in Kingdee, as a state machine that touches nothing: no clock, no network, no queue.
//!
//! | state | what is known | what is due |
//! |---|---|---|
//! | [`NotSent`](State::NotSent) | nobody can be writing it, and it isn't there | save |
//! | [`Unknown`](State::Unknown) | it may have been written, or moved on: an earlier try, another loader, an answer that decides nothing | look up |
//! | [`Saved`](State::Saved) | it is there, status `Z`, `A` or `D` | submit; nothing where the scheme saves only |
//! | [`Submitted`](State::Submitted) | it is there, status `B` | audit; nothing where the scheme submits only |
//! | [`Audited`](State::Audited) | it is there, status `C` | nothing |
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
//! | `Unknown` | found once, with our content | `Saved`, `Submitted` or `Audited`, by its status |
//! | `Unknown` | found once, cancelled or with another content | `Failed`, conflict |
//! | `Unknown` | found more than once | `Failed`, conflict, code [`DUPLICATE`] |
//! | `Unknown` | absent, and a write of it may still be running | `Failed`, unclear |
//! | `Unknown` | absent, and no write of it can be running | `NotSent` |
//! | `Unknown` | the look-up fails | `Failed`: nothing is posted |
//! | `Saved`, `Submitted` | the answer names it | the next state |
//! | `Saved`, `Submitted` | the answer leaves it open, or speaks of another status | `Unknown`: the status is read again |
//! | `Saved`, `Submitted` | the answer refuses it, or there is none | `Failed`: the next try reads the status |
//! | any | the lease is lost before a write | `Failed`: nothing more is written |
//!
//! So a document is saved again only after a look-up that didn't find it while no write of it could be running, and never
//! after it was there or was refused. What a later try begins with is the loader's to say, by the [`Standing`].

use kingpost_kingdee::{DocumentStatus, classify::Doubt};
use kingpost_model::{Failure, FailureKind, Fault, Loaded, LoadedHow, Standing};

use crate::DUPLICATE;

/// A document that is refused alone this often for a status that stays as it is stays there.
const REFUSALS_MAX: u32 = 3;
/// Steps of one try at most, whatever the answers: more than halving the largest batch takes for both steps.
const STEPS_MAX: u32 = 24;

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

/// What is due for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
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
    /// It is there, not submitted.
    Saved(There),
    /// It is there, submitted.
    Submitted(There),
    /// It is there, audited.
    Audited(There),
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
    standing: Standing,
    finish: Finish,
    state: State,
    /// By this try, as far as its answers say.
    saved: bool,
    refusals: u32,
    steps: u32,
}

impl Life {
    /// A document of which so much is known, to be taken so far.
    pub fn new(standing: Standing, finish: Finish) -> Self {
        let state = State::Unknown(Why::Standing);
        #[cfg(kingpost_bugs)]
        let state = match kingpost_settings::bug("no-look-up-after-time-out") {
            true => State::NotSent,
            false => state,
        };
        Life { standing, finish, state, saved: false, refusals: 0, steps: 0 }
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
            State::NotSent | State::Unknown(_) | State::Failed(_) => None,
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
        self.saved |= self.there().is_some_and(|there| there.how == LoadedHow::Posted);
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
                Ok(Loaded { number: number.to_owned(), id: there.id, how: there.how })
            }
            state => {
                let text = format!("the try ended in {state:?} with something left to do");
                Err(Failure::new(FailureKind::Internal, text).leaving_a_write_in_flight())
            }
        }
    }

    fn due(&self, state: &State) -> Option<Action> {
        match (state, self.finish) {
            (State::NotSent, _) => Some(Action::Save),
            (State::Unknown(_), _) => Some(Action::LookUp),
            (State::Saved(_), Finish::Submit | Finish::Audit) => Some(Action::Submit),
            (State::Submitted(_), Finish::Audit) => Some(Action::Audit),
            (State::Saved(_), Finish::Save)
            | (State::Submitted(_), Finish::Save | Finish::Submit)
            | (State::Audited(_) | State::Failed(_), _) => None,
        }
    }

    fn moved(&mut self, state: State, event: Event) -> State {
        match (state, event) {
            (State::Failed(failure), _) => State::Failed(failure),
            (State::Unknown(Why::Save(_)), Event::Failed(failure)) => {
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
            Why::Standing if self.standing == Standing::Unproven => {
                let text = "not found, but a write of it may still be running; it is looked up again";
                Failure::new(FailureKind::Unclear, text)
            }
            Why::Standing => return State::NotSent,
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
                (Doubt::Duplicate, _) if self.standing == Standing::Settled => {
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
        if seen.cancelled {
            let text = format!(
                "a cancelled (作废) document with the id {} holds this number; delete it or let it count as done",
                seen.id
            );
            return State::Failed(Failure::new(FailureKind::Conflict, text));
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
            Why::Standing | Why::Save(_) => {
                #[cfg(kingpost_bugs)]
                let seen = &match kingpost_settings::bug("any-document-will-do") {
                    true => Seen { difference: None, ..seen.clone() },
                    false => seen.clone(),
                };
                if let Some(difference) = &seen.difference {
                    let text = format!("another document (id {}) holds this number: {difference}", seen.id);
                    return State::Failed(Failure::new(FailureKind::Conflict, text));
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

/// What a loader reports whose broker is silent. It is carried out only if the connection turns out to be alive; where it is
/// lost, its deliveries are lost as well.
pub(super) fn lease_lost() -> Failure {
    let text = "this loader has not heard of the broker for too long, or lost its connection, and posts nothing more";
    Failure::new(FailureKind::Unavailable, text).by(Fault::Broker)
}

/// More than one document of one number: what must never happen. Nothing is written until a person has decided.
fn several(documents: &[Seen]) -> Failure {
    let ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    let text = format!(
        "{} documents hold this number (ids {}); delete all but the right one in Kingdee",
        documents.len(),
        ids.join(", ")
    );
    Failure::new(FailureKind::Conflict, text).with_code(DUPLICATE)
}

fn gone(id: &str) -> Failure {
    let text = format!("the document (id {id}) was there and is not found any more");
    Failure::new(FailureKind::Transient, text)
}

fn renumbered(number: &str) -> Failure {
    let text = format!(
        "Kingdee saved a document of this call under its own number {number}: a code rule (编码规则) overrides \
         FBillNo; allow manual numbers for this form, see whether {number} is this document, delete it if so, then replay"
    );
    Failure::new(FailureKind::Conflict, text)
}

fn out_of_sight(words: &str) -> Failure {
    let text = format!(
        "Kingdee says the number is taken, but the user can't see the document: {words}; look for it in other \
         organisations and among deleted documents"
    );
    Failure::new(FailureKind::Conflict, text).with_code("MsgCode 11")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: &str) -> Seen {
        Seen { id: "1".into(), status: status.into(), cancelled: false, difference: None }
    }

    fn looked_up(seen: &[Seen]) -> Event {
        Event::LookedUp { seen: seen.to_vec(), stray: None }
    }

    fn failed(kind: FailureKind) -> Failure {
        Failure::new(kind, "x").leaving_a_write_in_flight()
    }

    fn open(doubt: Doubt, alone: bool) -> Event {
        Event::SaveAnswered(SaveSaid::Open(Open { doubt, words: String::new(), alone, instead: None }))
    }

    /// A word for where a document stands after some events.
    fn after(standing: Standing, events: impl IntoIterator<Item = Event>) -> String {
        let mut life = Life::new(standing, Finish::Audit);
        events.into_iter().for_each(|event| life.on(event));
        match life.state() {
            State::NotSent => "not sent".to_owned(),
            State::Unknown(_) => "unknown".to_owned(),
            State::Saved(there) => format!("saved {}", there.how.as_str()),
            State::Submitted(there) => format!("submitted {}", there.how.as_str()),
            State::Audited(there) => format!("audited {}", there.how.as_str()),
            State::Failed(f) => format!("{}{}", f.kind, if f.in_flight { " in flight" } else { "" }),
        }
    }

    /// The same for one that a look-up has not found, so that it is sent.
    fn after_absent(events: impl IntoIterator<Item = Event>) -> String {
        after(Standing::Verify, std::iter::once(looked_up(&[])).chain(events))
    }

    #[test]
    fn steps_follow_the_status_and_stop_where_the_scheme_says() {
        for (finish, status, due) in [
            (Finish::Audit, "A", Some(Action::Submit)),
            (Finish::Audit, "Z", Some(Action::Submit)),
            (Finish::Audit, "D", Some(Action::Submit)),
            (Finish::Audit, "B", Some(Action::Audit)),
            (Finish::Audit, "C", None),
            (Finish::Submit, "A", Some(Action::Submit)),
            (Finish::Submit, "B", None),
            (Finish::Submit, "C", None),
            (Finish::Save, "Z", None),
            (Finish::Save, "B", None),
        ] {
            let mut life = Life::new(Standing::Verify, finish);
            life.on(looked_up(&[seen(status)]));
            assert_eq!(life.next(), due, "{finish:?} {status}");
        }
    }

    #[test]
    fn only_what_is_absent_and_can_not_be_running_is_sent() {
        use Standing::{Settled, Unproven, Verify};
        let absent = || looked_up(&[]);
        for (standing, then) in [(Verify, "not sent"), (Settled, "not sent"), (Unproven, "unclear")] {
            assert_eq!(after(standing, []), "unknown");
            assert_eq!(after(standing, [absent()]), then);
        }
        assert_eq!(after_absent([Event::Failed(failed(FailureKind::Unclear))]), "unclear in flight");
        for (doubt, alone, then) in [
            (Doubt::NotMentioned, false, "not sent"),
            (Doubt::NotMentioned, true, "unclear in flight"),
            (Doubt::Unclear, false, "unclear in flight"),
            (Doubt::NoId, false, "unclear in flight"),
            (Doubt::Duplicate, false, "conflict"),
            (Doubt::OtherNumber { number: "CG1".into() }, false, "conflict"),
        ] {
            assert_eq!(after_absent([open(doubt.clone(), alone)]), "unknown");
            assert_eq!(after_absent([open(doubt.clone(), alone), absent()]), then, "{doubt:?} {alone}");
            let silence = Event::Failed(failed(FailureKind::Unavailable));
            assert_eq!(after_absent([open(doubt, alone), silence]), "unclear in flight");
        }
    }

    #[test]
    fn what_is_found_is_ours_only_once_and_with_our_content() {
        let differing = Seen { difference: Some("2 lines there, 1 here".into()), ..seen("A") };
        let cancelled = Seen { cancelled: true, ..seen("A") };
        for (found, then) in [
            (vec![seen("A")], "saved resumed"),
            (vec![seen("B")], "submitted resumed"),
            (vec![seen("C")], "audited already-there"),
            (vec![differing], "conflict"),
            (vec![cancelled], "conflict"),
            (vec![seen("C"), seen("C")], "conflict"),
        ] {
            assert_eq!(after(Standing::Unproven, [looked_up(&found)]), then, "{found:?}");
        }
        assert_eq!(after_absent([open(Doubt::NotMentioned, false), looked_up(&[seen("A")])]), "saved posted");
        assert_eq!(after_absent([open(Doubt::Duplicate, false), looked_up(&[seen("A")])]), "saved resumed");
    }

    #[test]
    fn nothing_moves_what_has_failed_or_was_not_asked() {
        let lost = || Event::LeaseLost;
        assert_eq!(after_absent([lost()]), "unavailable");
        let saved = || Event::SaveAnswered(SaveSaid::Yes("1".into()));
        assert_eq!(after_absent([lost(), saved(), looked_up(&[seen("C")])]), "unavailable");
        assert_eq!(after_absent([saved(), saved()]), "internal in flight", "never saved twice");
        assert_eq!(after(Standing::Verify, [saved()]), "internal in flight");
        assert_eq!(after_absent([saved(), Event::Failed(failed(FailureKind::Unclear))]), "transient");
    }
}
