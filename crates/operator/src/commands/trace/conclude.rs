//! One sentence: where a document is now, and what to do next.

use kingpost_connectors::Present;
use kingpost_model::{Fetched, JournalEvent, JournalStep, StageName};

use super::story::{Lying, Story};
use crate::clock::{age, beijing};

/// Where a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In the target, as far as its scheme wants it; or a window that was read.
    There,
    /// In the target, and not finished, cancelled, or more than once.
    HalfWay,
    Dead,
    Waiting,
    LeftOut,
    Discarded,
    /// It was somewhere, and isn't there any more.
    Gone,
    Unknown,
}

impl State {
    pub(super) const fn is_there(self) -> bool {
        matches!(self, State::There)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            State::There => "there",
            State::HalfWay => "half-way",
            State::Dead => "dead",
            State::Waiting => "waiting",
            State::LeftOut => "left-out",
            State::Discarded => "discarded",
            State::Gone => "gone",
            State::Unknown => "unknown",
        }
    }
}

pub(super) struct Conclusion {
    pub(super) state: State,
    pub(super) text: String,
}

fn conclusion(state: State, text: String) -> Conclusion {
    Conclusion { state, text }
}

/// The conclusion of a story. What lies in Kingdee decides, then what lies in a queue, then what happened last.
pub(super) fn of(story: &Story, now_ms: i64) -> Conclusion {
    let present: &[Present] = match &story.present {
        Some(Ok(documents)) => documents,
        _ => &[],
    };
    match (present, story.letters.last(), story.last()) {
        ([], Some(letter), _) => dead(story, letter, now_ms),
        ([], None, Some(event)) => by_event(story, event, now_ms),
        ([], None, None) => unseen(story),
        ([document], ..) => present_once(story, document, now_ms),
        (documents, ..) => {
            let ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
            let text = format!(
                "{} is in Kingdee {} times (ids {}), which must never be; compare them, delete the wrong ones there, and \
                 report it",
                story.number_there(),
                documents.len(),
                ids.join(", ")
            );
            conclusion(State::HalfWay, text)
        }
    }
}

fn present_once(story: &Story, document: &Present, now_ms: i64) -> Conclusion {
    let Present { number, id, status, .. } = document;
    if document.cancelled {
        let text = format!(
            "{number} is in Kingdee, but cancelled (作废), id {id}; un-cancel it there or delete it, then replay or read the \
             document again"
        );
        return conclusion(State::HalfWay, text);
    }
    let mut text = format!("{number} is in Kingdee: {status}, id {id}");
    if let Some(letter) = story.letters.last() {
        let next = if document.finished {
            format!("discard it with `kingpost dead discard --key {}` if both say the same", letter.number)
        } else {
            format!("see `kingpost dead show {}`", letter.number)
        };
        text.push_str(&format!("; a dead letter of it lies in {} ({}): {next}", letter.queue, letter.kind));
    } else if let Some(event) = story.last().filter(|event| waits(event)) {
        text.push_str(&format!("; a copy of it is still on its way: {}", waiting(story, event, now_ms)));
    } else if document.finished {
        text.push_str("; nothing to do");
    } else {
        text.push_str(
            ", which is not as far as its scheme wants it, and no letter or event says why; finish it there, or read the \
             document again",
        );
    }
    conclusion(if document.finished { State::There } else { State::HalfWay }, text)
}

fn dead(story: &Story, letter: &Lying, now_ms: i64) -> Conclusion {
    let since = letter.at_ms.map_or_else(
        || "for an unknown time".to_owned(),
        |at_ms| format!("since {}, {} ago", beijing(at_ms), age(now_ms - at_ms)),
    );
    let more = match story.letters.len() {
        1 => String::new(),
        count => format!(" (the last of {count} letters)"),
    };
    let text = format!(
        "{} is a dead letter in {} {since}{more}: {}: {}; {}; see `kingpost dead show {}`",
        story.number, letter.queue, letter.kind, letter.text, letter.advice, letter.number
    );
    conclusion(State::Dead, text)
}

fn waits(event: &JournalEvent) -> bool {
    !event.step.is_end()
}

fn by_event(story: &Story, event: &JournalEvent, now_ms: i64) -> Conclusion {
    let (number, when) = (&story.number, beijing(event.at_ms));
    let asked = matches!(story.present, Some(Ok(_)));
    match &event.step {
        JournalStep::Loaded { target_number, target_id, .. } if asked => {
            let text = format!(
                "{target_number} was in Kingdee at {when}, id {target_id}, and is not there any more: somebody has deleted \
                 it, or the account of KINGDEE_* may not see it; to post it again, have the source send it anew"
            );
            conclusion(State::Gone, text)
        }
        JournalStep::Loaded { target_number, target_id, .. } => {
            let text = format!(
                "{target_number} was in Kingdee at {when}, id {target_id}, by the journal; Kingdee itself was not asked"
            );
            conclusion(State::There, text)
        }
        JournalStep::Filtered => {
            let text = format!(
                "{number} was left out at {when} by the filter of its scheme; if it should be posted, change the filter or \
                 the document in the source"
            );
            conclusion(State::LeftOut, text)
        }
        JournalStep::WindowRead { documents } => {
            conclusion(State::There, format!("the window was read at {when}: {documents} documents"))
        }
        JournalStep::WindowSplit { windows } => {
            let text = format!("the window was handed on at {when} as {windows} narrower ones; trace those");
            conclusion(State::There, text)
        }
        JournalStep::Discarded(by) => {
            let text = format!(
                "{number} was discarded at {when} by {} (action {}); its export brings it back: `kingpost dead import`",
                by.actor, by.action
            );
            conclusion(State::Discarded, text)
        }
        JournalStep::Dead { failure } => {
            let text = format!(
                "{number} became a dead letter at {when} ({}), and lies in no dead-letter queue now: somebody has it in \
                 hand, or took it out; see `kingpost audit list`",
                failure.kind
            );
            conclusion(State::Gone, text)
        }
        JournalStep::Edited(_) | JournalStep::Imported(_) => {
            let text = format!(
                "{number} was put back as a dead letter at {when} ({}), and lies in no dead-letter queue now; see `kingpost \
                 audit list`",
                event.step.as_str()
            );
            conclusion(State::Gone, text)
        }
        _ => conclusion(State::Waiting, format!("{number} {}", waiting(story, event, now_ms))),
    }
}

/// What is said of a document that is on its way. Work queues can't be looked into without disturbing them, so this follows
/// from the last event, and the depth of the queue is told beside it.
fn waiting(story: &Story, event: &JournalEvent, now_ms: i64) -> String {
    let depth = |queue: &str| match story.depths.iter().find(|(name, _)| name == queue) {
        Some((_, Some(ready))) => format!("{queue} ({ready} ready)"),
        Some((_, None)) => format!("{queue} (which is not there)"),
        None => queue.to_owned(),
    };
    let queues = |stage: StageName| {
        let prefix = format!("{stage}.{}", story.scheme);
        let named = story.depths.iter().map(|(name, _)| name.as_str());
        let of: Vec<String> = named
            .filter(|name| *name == prefix || name.starts_with(&format!("{prefix}.")))
            .map(depth)
            .collect();
        if of.is_empty() { prefix } else { of.join(" or ") }
    };
    let stage = StageName::parse(&event.stage).unwrap_or(StageName::Load);
    let since = format!("since {}, {} ago", beijing(event.at_ms), age(now_ms - event.at_ms));
    let by = "by its last event; a work queue can't be looked into";
    match &event.step {
        JournalStep::Extracted { .. } | JournalStep::Pushed { .. } => format!(
            "waits for the transformer in {}, {since}, {by}; if it lasts, see that a transformer runs",
            queues(StageName::Transform)
        ),
        JournalStep::Mapped { .. } => format!(
            "waits for the loader in {}, {since}, {by}; if it lasts, see that a loader runs, and whether its scheme is \
             paused",
            queues(StageName::Load)
        ),
        JournalStep::Retry { tier, after_ms, failure } => {
            let due_ms = event.at_ms.saturating_add(i64::try_from(*after_ms).unwrap_or(i64::MAX));
            let place = if due_ms > now_ms {
                format!("in {} until {}", depth(&format!("wait.{tier}")), beijing(due_ms))
            } else {
                format!("in {}, where it came back at {}", queues(stage), beijing(due_ms))
            };
            format!(
                "is tried again: it waits {place}, {by}; the last try failed with {}: {}; nothing to do unless it lasts",
                failure.kind, failure.text
            )
        }
        step => format!("waits in {}, {since} ({}), {by}", queues(stage), step.as_str()),
    }
}

fn unseen(story: &Story) -> Conclusion {
    if let Some(acted) = story.actions.last() {
        let text = format!(
            "{} was last acted on at {} by `{}` of {} (action {}), and nothing tells what became of it since; see `kingpost \
             audit list`",
            story.number,
            beijing(acted.at_ms),
            acted.command,
            acted.actor,
            acted.action
        );
        return conclusion(State::Gone, text);
    }
    let next = match &story.source {
        Some(Ok(Fetched::Found(_))) => {
            "the source has it, so it was not read yet, or in a window that failed; see `kingpost dead list --stage extract`"
        }
        Some(Ok(Fetched::LeftOut(_))) => "the source has it, but not among what is read",
        Some(Ok(Fetched::Absent)) => "the source has none either; check the number",
        _ => "check the number, and ask the source with --source",
    };
    conclusion(State::Unknown, format!("{} was never seen; {next}", story.number))
}
