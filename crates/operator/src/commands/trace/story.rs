//! What is known of one document.

use kingpost_connectors::Present;
use kingpost_model::{Fetched, JournalEvent};

/// A dead letter that lies in a queue now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lying {
    pub(super) queue: String,
    pub(super) id: String,
    /// The number at its stage.
    pub(super) number: String,
    pub(super) source_number: Option<String>,
    pub(super) write_key: Option<String>,
    pub(super) scheme: String,
    pub(super) stage: String,
    /// When it failed last, in milliseconds since the epoch, where that is known.
    pub(super) at_ms: Option<i64>,
    pub(super) attempt: u32,
    pub(super) kind: String,
    pub(super) text: String,
    pub(super) advice: &'static str,
}

impl Lying {
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.id == key
            || self.number == key
            || self.source_number.as_deref() == Some(key)
            || self.write_key.as_deref() == Some(key)
    }

    pub(super) fn source_number(&self) -> &str {
        self.source_number.as_deref().unwrap_or(&self.number)
    }
}

/// An action of the audit trail that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acted {
    pub(super) at_ms: i64,
    pub(super) action: String,
    pub(super) actor: String,
    pub(super) command: String,
    pub(super) reason: String,
}

/// What was asked of another system, or why it was not.
pub(super) type Asked<T> = Result<T, String>;

/// One document.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    /// Empty when nothing is known but the key.
    pub(super) scheme: String,
    /// In the source.
    pub(super) number: String,
    /// In the target, where it is known to be another.
    pub(super) target_number: Option<String>,
    /// Such as a purchase order number.
    pub(super) write_key: Option<String>,
    pub(super) is_window: bool,
    /// In the order of time.
    pub(super) events: Vec<JournalEvent>,
    pub(super) letters: Vec<Lying>,
    pub(super) actions: Vec<Acted>,
    /// Nothing for a window, which is in no target.
    pub(super) present: Option<Asked<Vec<Present>>>,
    pub(super) source: Option<Asked<Fetched>>,
    /// Queues it may wait in, with how many messages are ready there; nothing for one that isn't there.
    pub(super) depths: Vec<(String, Option<u32>)>,
}

impl Story {
    /// The number to look for in the target.
    pub(super) fn number_there(&self) -> &str {
        self.target_number.as_deref().unwrap_or(&self.number)
    }

    /// What happened last.
    pub(super) fn last(&self) -> Option<&JournalEvent> {
        self.events.last()
    }

    /// Whether anybody has it, or has ever seen it.
    pub(super) fn is_known(&self) -> bool {
        let there = matches!(&self.present, Some(Ok(documents)) if !documents.is_empty());
        let read = matches!(&self.source, Some(Ok(Fetched::Found(_) | Fetched::LeftOut(_))));
        let seen = !self.events.is_empty() || !self.letters.is_empty() || !self.actions.is_empty();
        there || read || seen
    }

    /// Whether a number or an id is one of its own.
    pub(super) fn goes_by(&self, key: &str) -> bool {
        self.number == key
            || self.target_number.as_deref() == Some(key)
            || self.events.iter().any(|event| event.work_id == key)
            || self.letters.iter().any(|letter| letter.id == key)
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) stories: Vec<Story>,
    /// What could not be asked, and the remedy.
    pub(super) unasked: Vec<String>,
    /// When the earliest event that the journal still has happened, where all of it was read.
    pub(super) reaches_back_ms: Option<i64>,
}

impl Findings {
    /// Leaves out the schemes in which nothing goes by the key, unless that is all there is to say.
    pub(super) fn forget_the_empty(&mut self) {
        if self.stories.iter().any(Story::is_known) {
            self.stories.retain(Story::is_known);
        } else {
            self.stories.truncate(1);
        }
    }
}
