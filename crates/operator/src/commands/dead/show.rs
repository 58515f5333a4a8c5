use std::{collections::BTreeMap, fmt::Write as _, ops::ControlFlow};

use clap::Args;
use kingpost_broker::Letter;
use kingpost_mapping::{Outcome, Rejection, Scratch};
use kingpost_model::{FailureKind, FailureRecord, StageName};
use kingpost_scheme::Scheme;
use serde_json::{Map, Value, json, value::RawValue};

use super::{filter::Filter, list::next, place, read::Places};
use crate::{
    clock,
    ending::{Report, Stop},
    json as layout,
    session::Session,
    terminal::{counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead show RK2407190003
  kingpost dead show RK2407190003 --no-body
  kingpost dead show RK2407190003 --json | jq .body > order.json

Letters are read and put back; none is taken. Where several letters have the number, all are shown. The body of a
letter of `transform` is the order as the source sent it, which `kingpost check --case` maps again; the body of a
letter of `load` is the model as it was to be posted. An arrow in the body points at what a problem is about.
A body holds business data, and may name people: --no-body leaves it out, for a ticket or a shared screen.";

/// Show one dead letter: its identity, its first and last failure with every problem, its body, what to do next
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Show {
    /// The document's number in the target or in the source, or the id of the message
    #[arg(value_name = "NUMBER")]
    number: String,
    /// Only this scheme; its file isn't needed then
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "STAGE", value_parser = crate::commands::stage())]
    stage: Option<StageName>,
    /// Leave the body out
    #[arg(long)]
    no_body: bool,
    /// Print one JSON object per letter
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let filter =
            Filter { scheme: self.scheme.clone(), stage: self.stage, ..Filter::of_key(&*self.number) };
        let places = Places::of(session, &filter)?;
        let mut found = Vec::new();
        let keep = |letter| {
            found.push(letter);
            ControlFlow::Continue(())
        };
        let reading = Box::pin(places.scan(&filter, session.now_ms, usize::MAX, keep)).await?;
        let notes = reading.notes()?;
        if found.is_empty() {
            let looked = counted(reading.looked, "dead letter");
            let text =
                format!("none of {looked} has the number {}; `kingpost dead list` lists them", self.number);
            return Err(Stop::failed(format!("{text}\n{notes}")));
        }
        // A scheme that is being mended must not keep anybody from reading.
        let schemes = session.schemes().unwrap_or_default();
        let mut out = String::new();
        for letter in &found {
            if self.json {
                out.push_str(&object(letter, !self.no_body)?);
                out.push('\n');
            } else {
                let scheme = schemes.iter().find(|scheme| scheme.name == letter.work.scheme);
                // The id tells letters of one number apart.
                let key = if found.len() > 1 { letter.work.id.as_str() } else { &*letter.work.key.number };
                let page = Page { letter, key, scheme, now_ms: session.now_ms, width: session.width };
                out.push_str(&plain(&page.text(!self.no_body)));
            }
        }
        Ok(Report::done(out).with_notes(notes))
    }
}

/// The failures of a letter, the decisive one first, each once.
fn failures(letter: &Letter) -> Vec<(&'static str, &FailureRecord)> {
    let mut failures = vec![("last failure", &letter.failure)];
    let earlier = [
        ("last failure before the broker gave up", letter.work.last_failure.as_deref()),
        ("first failure", letter.work.first_failure.as_deref()),
    ];
    for (name, record) in earlier {
        if let Some(record) = record
            && !failures.iter().any(|(_, known)| *known == record)
        {
            failures.push((name, record));
        }
    }
    failures
}

struct Page<'a> {
    letter: &'a Letter,
    /// What it is called on a command line.
    key: &'a str,
    /// As it is now, where it can be read.
    scheme: Option<&'a Scheme>,
    now_ms: i64,
    width: u16,
}

impl Page<'_> {
    fn text(&self, with_body: bool) -> String {
        let Page { letter, now_ms, .. } = *self;
        let mut out = String::new();
        identity(letter, now_ms, &mut out);
        let failures = failures(letter);
        let body = String::from_utf8_lossy(&letter.work.body);
        let leaves = layout::leaves(&body).unwrap_or_default();
        for (name, record) in &failures {
            failure(name, record, now_ms, if with_body { &leaves } else { &[] }, &mut out);
        }
        if failures.len() == 1 && letter.work.attempt > 1 {
            out.push_str("\nfirst failure: the same\n");
        }
        let bytes = counted(letter.work.body.len(), "byte");
        let what = match letter.work.stage {
            StageName::Extract => "window",
            StageName::Transform => "order, as the source sent it",
            StageName::Load => "model, as it was to be posted",
        };
        let notes = place::notes(letter.work.stage, &body, &letter.failure.problems);
        // Writing to a String can't fail.
        let _ = match layout::annotated(&body, &|path| arrow(&notes, path)) {
            _ if !with_body => writeln!(out, "\nbody: {what}, {bytes}, not shown"),
            Some(pretty) => writeln!(out, "\nbody: {what}, {bytes}\n{pretty}"),
            None => writeln!(out, "\nbody: {what}, {bytes}, no JSON\n{body}\n"),
        };
        let _ = writeln!(out, "what to do: {}", letter.failure.kind.advice());
        if let Some(today) = self.scheme.and_then(|scheme| today(letter, scheme)) {
            let _ = writeln!(out, "{today}");
        }
        out.push_str(&next(&commands(letter, self.key), self.width));
        out.push('\n');
        out
    }
}

fn arrow(notes: &BTreeMap<String, String>, path: &str) -> Option<String> {
    notes.get(path).map(|note| format!("problem {note}"))
}

/// What the scheme makes of an order now; nothing for anything else.
fn today(letter: &Letter, scheme: &Scheme) -> Option<String> {
    if letter.work.stage != StageName::Transform {
        return None;
    }
    let applied = scheme.mapping.apply(&letter.work.body, &mut Scratch::new(), &mut Vec::new());
    Some(match applied {
        Ok(Outcome::Mapped { .. }) => "with the scheme as it is now it can be mapped: replay it".to_owned(),
        Ok(Outcome::Filtered) => {
            "with the scheme as it is now the filter leaves it alone: replay or discard it".to_owned()
        }
        Err(Rejection::Malformed { .. }) => "the scheme as it is now can't read it either".to_owned(),
        Err(Rejection::Unmappable(problems)) => {
            let count = counted(problems.len(), "problem");
            format!("with the scheme as it is now it still has {count}")
        }
    })
}

/// The exact commands that come next.
fn commands(letter: &Letter, key: &str) -> Vec<(String, &'static str)> {
    let (work, kind) = (&letter.work, letter.failure.kind);
    let key = shell(key);
    let mut commands =
        vec![(format!("kingpost dead replay {key} --reason '…'"), "send it again, once the cause is mended")];
    let editable = work.stage != StageName::Extract;
    if editable && !matches!(kind, FailureKind::Unclear | FailureKind::BaseData) {
        let edit = format!("kingpost dead edit {key} --reason '…'");
        commands.push((edit, "change it here; the source stays as it is"));
    }
    if editable {
        let again = format!("kingpost dead replay {key} --from-source --reason '…'");
        commands.push((again, "read its order from the source again, map it anew"));
    }
    commands.push((format!("kingpost dead discard {key} --reason '…'"), "take it out; it is exported first"));
    commands
}

/// A word for a shell, in quotes where it needs them.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '+' | '@');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn identity(letter: &Letter, now_ms: i64, out: &mut String) {
    let work = &letter.work;
    let time = |ms: i64| format!("{} ({} ago)", clock::beijing(ms), clock::age(now_ms.saturating_sub(ms)));
    let rows = [
        ("scheme", Some(work.scheme.clone())),
        ("stage", Some(format!("{} (queue {})", work.stage, letter.queue))),
        ("attempts", Some(work.attempt.to_string())),
        ("origin", Some(work.origin.as_str().to_owned())),
        ("message id", Some(work.id.as_str().to_owned())),
        ("source number", work.source_number.clone()),
        ("write key", work.write_key.clone()),
        ("cancelled", work.cancelled.then(|| "in the source".to_owned())),
        ("changed", work.modified_ms.map(time)),
        ("read", work.extracted_ms.map(time)),
        ("unclear since", work.unclear_since_ms.map(time)),
        ("trace context", work.traceparent.clone()),
        ("broker says", letter.broker_reason.clone()),
    ];
    let _ = writeln!(out, "{} {}", work.key.document, work.key.number);
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(out, "  {name:<14} {value}");
        }
    }
    for (name, value) in &work.headers {
        let _ = writeln!(out, "  header         {name}: {value}");
    }
}

fn failure(name: &str, record: &FailureRecord, now_ms: i64, leaves: &[(String, String)], out: &mut String) {
    let _ = writeln!(out, "\n{name}: {}, fault: {}", record.kind, record.fault.as_str());
    let _ = writeln!(out, "  {}", record.text);
    if let Some(code) = &record.code {
        let _ = writeln!(out, "  code: {code}");
    }
    if record.at_ms > 0 {
        let age = clock::age(now_ms.saturating_sub(record.at_ms));
        let _ = writeln!(
            out,
            "  {} ({age} ago), attempt {}, {} by {}",
            clock::beijing(record.at_ms),
            record.attempt,
            record.stage,
            record.worker
        );
    }
    for (n, problem) in (1..).zip(&record.problems) {
        let _ = writeln!(out, "\n  {n}. {}\n    {}", problem.field, problem.message);
        if !problem.rule.is_empty() {
            let _ = writeln!(out, "    rule:  {}", problem.rule);
        }
        for input in &problem.inputs {
            // Headers tell where an input stands; its value is in the body alone.
            let value = leaves.iter().find(|(path, _)| path == input);
            let value = value.map_or_else(String::new, |(_, raw)| format!(" = {raw}"));
            let _ = writeln!(out, "    input: {input}{value}");
        }
    }
    if record.more_problems > 0 {
        let _ = writeln!(
            out,
            "\n  and {} that the headers had no room for",
            counted(record.more_problems, "problem")
        );
    }
}

fn object(letter: &Letter, with_body: bool) -> Result<String, Stop> {
    let Letter { queue, work, failure, .. } = letter;
    let headers: Map<String, Value> =
        work.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let body = String::from_utf8_lossy(&work.body);
    let fields = json!({
        "queue": queue,
        "scheme": work.scheme,
        "stage": work.stage.as_str(),
        "document": work.key.document,
        "number": work.key.number,
        "source_number": work.source_number,
        "write_key": work.write_key,
        "id": work.id.as_str(),
        "attempt": work.attempt,
        "origin": work.origin.as_str(),
        "verify": work.verify,
        "cancelled": work.cancelled,
        "modified_ms": work.modified_ms,
        "extracted_ms": work.extracted_ms,
        "unclear_since_ms": work.unclear_since_ms,
        "traceparent": work.traceparent,
        "tracestate": work.tracestate,
        "headers": headers,
        "failure": failure,
        "last_failure": work.last_failure,
        "first_failure": work.first_failure,
        "advice": failure.kind.advice(),
        "body_bytes": work.body.len(),
        "body_sha256": letter.identity().sha256,
    });
    let bug = |error: serde_json::Error| Stop::bug(error.to_string());
    if !with_body {
        return Ok(fields.to_string());
    }
    // The body is written raw beside the rest, since a `Value` would round its numbers.
    let body = match layout::compact(&body) {
        Some(line) => RawValue::from_string(line).map_err(bug)?,
        None => serde_json::value::to_raw_value(&body).map_err(bug)?,
    };
    let mut line = serde_json::to_string(&fields).map_err(bug)?;
    line.pop();
    Ok(format!("{line},\"body\":{body}}}"))
}

#[cfg(test)]
pub(super) mod tests {
    use kingpost_model::{Failure, FieldProblem, RecordKey, Work, WorkId};

    use super::*;

    const NOW_MS: i64 = 1_767_200_400_000;

    /// A letter as a worker leaves it.
    pub(in super::super) fn letter(stage: StageName, number: &str, failure: Failure, at_ms: i64) -> Letter {
        let key = RecordKey::new("STK_InStock", number);
        let id = WorkId::new(format!("purchase-stockin-{number}"));
        let work = Work::new(id, stage, "purchase-stockin", key, r#"{"FBillNo":"RK1","FRealQty":12.3400}"#);
        let record = FailureRecord::of(&failure, &work, at_ms, "kingpost-test/1");
        Letter::of(&work.after_failure(record, false), u64::try_from(at_ms / 1_000).unwrap())
    }

    fn page(letter: &Letter) -> String {
        Page { letter, key: &letter.work.key.number, scheme: None, now_ms: NOW_MS, width: 100 }.text(true)
    }

    fn unmappable() -> Letter {
        let problem = |field: &str| FieldProblem {
            field: field.into(),
            rule: "{{ check_time | date }}".into(),
            inputs: vec!["check_time".into()],
            message: "check_time is empty".into(),
        };
        let failure = Failure::new(FailureKind::Unmappable, "2 fields can't be mapped")
            .with_problems(vec![problem("FDate"), problem("FOther")]);
        letter(StageName::Transform, "RK1", failure, NOW_MS - 90 * 60_000)
    }

    #[test]
    fn a_page_tells_identity_every_problem_and_the_body_with_its_digits() {
        let mut letter = unmappable();
        letter.work.write_key = Some("CG1".into());
        letter.work.headers = vec![("ticket".into(), "T-1".into())];
        let page = page(&letter);
        for part in [
            "STK_InStock RK1\n",
            "  stage          transform (queue transform.purchase-stockin.dead)\n",
            "  write key      CG1\n",
            "  header         ticket: T-1\n",
            "last failure: unmappable, fault: data\n  2 fields can't be mapped\n",
            "  2025-12-31 23:30:00 (1 h 30 min ago), attempt 1, transform by kingpost-test/1\n",
            "  2. FOther\n    check_time is empty\n    rule:  {{ check_time | date }}\n    input: check_time\n",
            "\nwhat to do: complete the document in the source system",
            "\nbody: order, as the source sent it, 36 bytes\n{  <-- problem 1: no check_time, 2: no check_time\n",
            "  \"FBillNo\": \"RK1\",\n  \"FRealQty\": 12.3400\n}\n",
            "  kingpost dead replay RK1 --reason '…' ",
        ] {
            assert!(page.contains(part), "{part:?} is missing in\n{page}");
        }
        assert!(!page.contains("first failure"), "the only failure is told once:\n{page}");
    }

    #[test]
    fn an_earlier_failure_of_another_kind_is_told_as_well() {
        let mut letter = unmappable();
        letter.work.attempt = 4;
        let transient = Failure::new(FailureKind::Transient, "busy").with_code("LOCK");
        letter.work.first_failure = Some(Box::new(FailureRecord::of(&transient, &letter.work, NOW_MS, "w")));
        let text = page(&letter);
        assert!(text.contains("first failure: transient, fault: target\n  busy\n  code: LOCK\n"), "{text}");
        letter.work.first_failure.clone_from(&letter.work.last_failure);
        assert!(page(&letter).contains("\nfirst failure: the same\n"));
    }

    #[test]
    fn a_letter_that_the_broker_gave_up_on_keeps_what_the_worker_said_last() {
        let mut letter = unmappable();
        letter.failure = FailureRecord::unjudged(StageName::Transform, 0);
        let text = page(&letter);
        assert!(text.contains("last failure: internal, fault: broker\n"), "{text}");
        assert!(text.contains("last failure before the broker gave up: unmappable"), "{text}");
    }

    #[test]
    fn a_body_that_is_no_json_is_shown_as_it_is() {
        let mut letter = unmappable();
        letter.work.body = b"<html>502</html>".to_vec().into();
        assert!(
            page(&letter)
                .contains("body: order, as the source sent it, 16 bytes, no JSON\n<html>502</html>\n")
        );
        let object: Value = serde_json::from_str(&object(&letter, true).unwrap()).unwrap();
        assert_eq!(object["body"], "<html>502</html>");
    }

    #[test]
    fn the_value_of_an_input_comes_from_the_body() {
        let mut letter = unmappable();
        letter.work.body = r#"{"check_time":"soon","more":1}"#.as_bytes().to_vec().into();
        let text = page(&letter);
        assert!(text.contains("    input: check_time = \"soon\"\n"), "{text}");
        assert!(text.contains("  \"check_time\": \"soon\",  <-- problem 1, 2\n"), "{text}");
        let hidden =
            Page { letter: &letter, key: "RK1", scheme: None, now_ms: NOW_MS, width: 80 }.text(false);
        assert!(!hidden.contains("soon"), "{hidden}");
    }

    #[test]
    fn a_body_can_be_left_out() {
        let letter = unmappable();
        let page = Page { letter: &letter, key: "RK1", scheme: None, now_ms: NOW_MS, width: 60 }.text(false);
        assert!(page.contains("body: order, as the source sent it, 36 bytes, not shown\n"), "{page}");
        assert!(!page.contains("FRealQty"), "{page}");
        let object = object(&letter, false).unwrap();
        assert!(!object.contains("FRealQty") && object.contains("body_sha256"), "{object}");
    }

    #[test]
    fn the_next_commands_can_be_pasted_into_a_shell() {
        assert_eq!(shell("RK采购-1"), "RK采购-1");
        assert_eq!(shell("it's; rm"), r"'it'\''s; rm'");
        let window = letter(StageName::Extract, "2026", Failure::new(FailureKind::Incomplete, "x"), NOW_MS);
        assert!(
            !commands(&window, "2026")
                .iter()
                .any(|(command, _)| command.contains("edit") || command.contains("source"))
        );
        let text = page(&letter(StageName::Load, "RK1", Failure::new(FailureKind::Refused, "no"), NOW_MS));
        for part in ["dead replay RK1", "dead edit RK1", "--from-source", "dead discard RK1"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_json_of_a_letter_keeps_the_digits_of_its_body() {
        let line = object(&unmappable(), true).unwrap();
        assert!(line.ends_with(r#","body":{"FBillNo":"RK1","FRealQty":12.3400}}"#), "{line}");
        assert!(!line.contains('\n'));
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["failure"]["problems"][1]["field"], "FOther");
        assert_eq!(object["number"], "RK1");
        assert_eq!(object["last_failure"], object["first_failure"]);
    }
}
