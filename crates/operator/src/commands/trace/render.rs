//! A trace as text for people and as lines for programs.

use kingpost_connectors::Present;
use kingpost_model::{Fetched, JournalEvent, JournalStep};
use serde_json::{Value, json};

use super::{
    conclude,
    story::{Findings, Story},
};
use crate::clock::{beijing, rfc3339};

/// For people: the way in the order of time, what is there now, what could not be asked, and the sentence.
pub(super) fn text(findings: &Findings, now_ms: i64) -> String {
    let mut out = String::new();
    for story in &findings.stories {
        out.push_str(&head(story));
        let mut rows: Vec<(i64, String)> = story.events.iter().map(|e| (e.at_ms, event(e))).collect();
        rows.extend(story.actions.iter().map(|acted| {
            let why = if acted.reason.is_empty() { String::new() } else { format!(": {}", acted.reason) };
            let text = format!(
                "{:<10} {} by {} (action {}){why}",
                "operator", acted.command, acted.actor, acted.action
            );
            (acted.at_ms, text)
        }));
        rows.sort_by_key(|(at_ms, _)| *at_ms);
        for (at_ms, row) in rows {
            out.push_str(&format!("  {}  {row}\n", beijing(at_ms)));
        }
        out.push_str(&now(story));
        out.push('\n');
    }
    for unasked in &findings.unasked {
        out.push_str(&format!("not asked: {unasked}\n"));
    }
    if !findings.stories.iter().any(|story| !story.events.is_empty())
        && let Some(at_ms) = findings.reaches_back_ms
    {
        out.push_str(&format!("the journal was read back to {}\n", beijing(at_ms)));
    }
    for story in &findings.stories {
        out.push_str(&format!("{}.\n", conclude::of(story, now_ms).text));
    }
    out
}

fn head(story: &Story) -> String {
    let target = story.target_number.as_ref().map_or_else(String::new, |n| format!(", in the target {n}"));
    let order = story.write_key.as_ref().map_or_else(String::new, |n| format!(", purchase order {n}"));
    format!("{}: {}{target}{order}\n", story.scheme, story.number)
}

/// One event as a line.
fn event(event: &JournalEvent) -> String {
    let failed = |failure: &kingpost_model::JournalFailure| {
        let code = failure.code.as_ref().map_or_else(String::new, |code| format!(" [{code}]"));
        let field = failure.field.as_ref().map_or_else(String::new, |field| format!("; {field}"));
        format!("{}: {}{code}{field}", failure.kind, failure.text)
    };
    let changed = |modified_ms: Option<i64>, place: &str| {
        modified_ms.map_or_else(String::new, |ms| format!(", changed {place} {}", beijing(ms)))
    };
    let said = match &event.step {
        JournalStep::WindowRead { documents } => format!("window read: {documents} documents"),
        JournalStep::WindowSplit { windows } => format!("handed on as {windows} narrower windows"),
        JournalStep::Extracted { window, modified_ms } => {
            let window = window.as_ref().map_or_else(String::new, |window| format!(" in {window}"));
            format!("read from the source{window}{}", changed(*modified_ms, "there"))
        }
        JournalStep::Pushed { modified_ms } => {
            format!("pushed by a sender{}", changed(*modified_ms, "in the source"))
        }
        JournalStep::Mapped { target_number } => format!("mapped to {target_number}"),
        JournalStep::Filtered => "left out by the scheme's filter".to_owned(),
        JournalStep::Loaded { target_number, target_id, how } => {
            format!("in the target as {target_number}, id {target_id} ({})", how.as_str())
        }
        JournalStep::Retry { tier, failure, .. } => {
            format!("try {} failed, again after {tier}: {}", event.attempt, failed(failure))
        }
        JournalStep::Dead { failure } => format!("dead after try {}: {}", event.attempt, failed(failure)),
        JournalStep::HandedBack => "given back unjudged".to_owned(),
        JournalStep::Replayed(by) => format!("sent again by {} (action {})", by.actor, by.action),
        JournalStep::Edited(by) => {
            format!("replaced by an edited letter by {} (action {})", by.actor, by.action)
        }
        JournalStep::Discarded(by) => format!("discarded by {} (action {})", by.actor, by.action),
        JournalStep::Imported(by) => {
            format!("put back as a dead letter by {} (action {})", by.actor, by.action)
        }
        JournalStep::Unknown { step, details } => format!("{step} {}", Value::Object(details.clone())),
    };
    let origin = if event.origin == "live" || event.origin.is_empty() {
        String::new()
    } else {
        format!(" ({})", event.origin)
    };
    format!("{:<10} {said}{origin}", event.stage)
}

/// What is there now.
fn now(story: &Story) -> String {
    let mut out = String::new();
    let mut row = |place: &str, text: String| out.push_str(&format!("  {:<19}  {place:<10} {text}\n", "now"));
    for letter in &story.letters {
        let since = letter.at_ms.map_or_else(String::new, |ms| format!(" since {}", beijing(ms)));
        row("dead", format!("in {}{since}: {}: {}", letter.queue, letter.kind, letter.text));
    }
    match &story.present {
        Some(Ok(documents)) if documents.is_empty() => {
            row("kingdee", format!("has no {}", story.number_there()));
        }
        Some(Ok(documents)) => documents.iter().for_each(|document| row("kingdee", present(document))),
        _ => {}
    }
    match &story.source {
        Some(Ok(Fetched::Found(document))) => {
            let changed =
                document.modified_ms.map_or_else(String::new, |ms| format!(", changed {}", beijing(ms)));
            row("source", format!("has it{changed}"));
        }
        Some(Ok(Fetched::LeftOut(why))) => {
            row("source", format!("has it, but not among what is read: {why}"))
        }
        Some(Ok(Fetched::Absent)) => row("source", format!("has no {}", story.number)),
        _ => {}
    }
    out
}

fn present(document: &Present) -> String {
    let Present { number, id, status, cancelled, created, modified, .. } = document;
    let when = |word: &str, time: &Option<String>| {
        time.as_ref().map_or_else(String::new, |time| format!(", {word} {}", time.replace('T', " ")))
    };
    let cancelled = if *cancelled { ", cancelled" } else { "" };
    format!("{number}: id {id}, {status}{cancelled}{}{}", when("created", created), when("changed", modified))
}

/// For programs: one object a line, each with `what`.
pub(super) fn lines(findings: &Findings, now_ms: i64) -> String {
    let mut out = String::new();
    let mut line = |object: Value| out.push_str(&format!("{object}\n"));
    for story in &findings.stories {
        let (scheme, number) = (&story.scheme, &story.number);
        for event in &story.events {
            let mut object = serde_json::to_value(event).unwrap_or_default();
            if let Some(fields) = object.as_object_mut() {
                fields.insert("what".to_owned(), "event".into());
                fields.insert("at".to_owned(), rfc3339(event.at_ms).into());
            }
            line(object);
        }
        for acted in &story.actions {
            line(json!({"what": "action", "scheme": scheme, "number": number, "at": rfc3339(acted.at_ms),
                "action": acted.action, "actor": acted.actor, "command": acted.command, "reason": acted.reason}));
        }
        for letter in &story.letters {
            line(
                json!({"what": "dead-letter", "scheme": scheme, "number": letter.number, "queue": letter.queue,
                "id": letter.id, "at": letter.at_ms.and_then(rfc3339), "attempt": letter.attempt,
                "kind": letter.kind, "text": letter.text, "advice": letter.advice}),
            );
        }
        if let Some(Ok(documents)) = &story.present {
            let documents: Vec<Value> = documents
                .iter()
                .map(|d| {
                    json!({"number": d.number, "id": d.id, "status": d.status, "finished": d.finished,
                        "cancelled": d.cancelled, "created": d.created, "modified": d.modified})
                })
                .collect();
            line(
                json!({"what": "target", "scheme": scheme, "number": story.number_there(), "documents": documents}),
            );
        }
        if let Some(Ok(fetched)) = &story.source {
            let (state, at, why) = match fetched {
                Fetched::Found(document) => ("found", document.modified_ms.and_then(rfc3339), None),
                Fetched::LeftOut(why) => ("left-out", None, Some(why)),
                Fetched::Absent => ("absent", None, None),
            };
            line(
                json!({"what": "source", "scheme": scheme, "number": number, "state": state, "modified": at,
                "why": why}),
            );
        }
    }
    for unasked in &findings.unasked {
        line(json!({"what": "not-asked", "text": unasked}));
    }
    for story in &findings.stories {
        let conclusion = conclude::of(story, now_ms);
        let state = conclusion.state.as_str();
        line(json!({"what": "conclusion", "scheme": story.scheme, "number": story.number, "state": state,
            "text": conclusion.text}));
    }
    out
}

#[cfg(test)]
mod tests;
