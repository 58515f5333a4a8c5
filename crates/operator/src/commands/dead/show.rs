use std::fmt::Write as _;

use clap::Args;
use kingpost_broker::DeadLetter;
use kingpost_model::{FailureRecord, StageName, Work};
use serde_json::{Map, Value, json, value::RawValue};

use super::read::read;
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
  kingpost dead show RK2407190003 --json | jq .body > order.json

Letters are read and put back; none is taken. Where several letters have the number, all are shown. The body of a
letter of `transform` is the order as the source sent it, which `kingpost check --case` maps again; the body of a
letter of `load` is the model as it was to be posted.";

/// Show one dead letter: its identity, its first and last failure with every problem, its body
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Show {
    /// The document's number in the target or in the source, or the id of the message
    #[arg(value_name = "NUMBER")]
    number: String,
    /// Only this scheme; its file isn't read then
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Read at most so many letters of each queue
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object per letter
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let reading = read(session, self.scheme.as_deref(), &StageName::ALL, self.limit).await?;
        let notes = reading.notes()?;
        let found: Vec<&DeadLetter> = named(&reading.letters, &self.number);
        if found.is_empty() {
            let looked = counted(reading.letters.len(), "dead letter");
            let text =
                format!("none of {looked} has the number {}; `kingpost dead list` lists them", self.number);
            return Err(Stop::failed(format!("{text}\n{notes}")));
        }
        let mut out = String::new();
        for letter in found {
            if self.json {
                out.push_str(&object(letter)?);
                out.push('\n');
            } else {
                out.push_str(&plain(&page(letter, session.now_ms)));
            }
        }
        Ok(Report::done(out).with_notes(notes))
    }
}

/// The letters of a number.
fn named<'a>(letters: &'a [DeadLetter], number: &str) -> Vec<&'a DeadLetter> {
    let is = |work: &Work| {
        work.key.number == number
            || work.source_number.as_deref() == Some(number)
            || work.id.as_str() == number
    };
    letters.iter().filter(|letter| is(&letter.work)).collect()
}

/// The failures of a letter, the decisive one first, each once.
fn failures(letter: &DeadLetter) -> Vec<(&'static str, &FailureRecord)> {
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

fn page(letter: &DeadLetter, now_ms: i64) -> String {
    let mut out = String::new();
    identity(letter, now_ms, &mut out);
    let failures = failures(letter);
    for (name, record) in &failures {
        failure(name, record, now_ms, &mut out);
    }
    if failures.len() == 1 && letter.work.attempt > 1 {
        out.push_str("\nfirst failure: the same\n");
    }
    let _ = writeln!(out, "\nwhat to do: {}", letter.failure.kind.advice());
    let body = String::from_utf8_lossy(&letter.work.body);
    let bytes = counted(letter.work.body.len(), "byte");
    // Writing to a String can't fail.
    let _ = match layout::pretty(&body) {
        Some(pretty) => writeln!(out, "\nbody ({bytes}):\n{pretty}\n"),
        None => writeln!(out, "\nbody ({bytes}, no JSON):\n{body}\n"),
    };
    out
}

fn identity(letter: &DeadLetter, now_ms: i64, out: &mut String) {
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
        ("changed", work.modified_ms.map(time)),
        ("read", work.extracted_ms.map(time)),
        ("unclear since", work.unclear_since_ms.map(time)),
        ("trace context", work.traceparent.clone()),
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

fn failure(name: &str, record: &FailureRecord, now_ms: i64, out: &mut String) {
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
    for problem in &record.problems {
        let _ = writeln!(out, "\n  {}\n    {}", problem.field, problem.message);
        if !problem.rule.is_empty() {
            let _ = writeln!(out, "    rule:  {}", problem.rule);
        }
        for input in &problem.inputs {
            let _ = writeln!(out, "    input: {input}");
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

fn object(letter: &DeadLetter) -> Result<String, Stop> {
    let DeadLetter { queue, work, failure } = letter;
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
        "modified_ms": work.modified_ms,
        "extracted_ms": work.extracted_ms,
        "unclear_since_ms": work.unclear_since_ms,
        "traceparent": work.traceparent,
        "headers": headers,
        "failure": failure,
        "last_failure": work.last_failure,
        "first_failure": work.first_failure,
        "advice": failure.kind.advice(),
        "body_bytes": work.body.len(),
    });
    let bug = |error: serde_json::Error| Stop::bug(error.to_string());
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
    use kingpost_model::{Failure, FailureKind, FieldProblem, RecordKey, Route, WorkId};

    use super::*;

    const NOW_MS: i64 = 1_767_200_400_000;

    /// A letter as a worker leaves it.
    pub(in super::super) fn letter(
        stage: StageName,
        number: &str,
        failure: Failure,
        at_ms: i64,
    ) -> DeadLetter {
        let key = RecordKey::new("STK_InStock", number);
        let id = WorkId::new(format!("purchase-stockin-{number}"));
        let work = Work::new(id, stage, "purchase-stockin", key, r#"{"FBillNo":"RK1","FRealQty":12.3400}"#);
        let record = FailureRecord::of(&failure, &work, at_ms, "kingpost-test/1");
        let work = work.after_failure(record.clone(), false);
        let queue = Route::new(stage, "purchase-stockin").dead_queue();
        DeadLetter { queue, work, failure: record }
    }

    fn unmappable() -> DeadLetter {
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
    fn a_letter_is_found_by_its_number_its_source_number_or_its_id() {
        let mut letters = vec![unmappable(), unmappable()];
        letters[1].work.key.number = "RK2".into();
        letters[1].work.source_number = Some("CG7".into());
        assert_eq!(named(&letters, "RK1").len(), 1);
        assert_eq!(named(&letters, "CG7").len(), 1);
        assert_eq!(named(&letters, "RK2")[0].work, named(&letters, "CG7")[0].work);
        assert_eq!(named(&letters, "purchase-stockin-RK1").len(), 2);
        assert!(named(&letters, "RK").is_empty());
    }

    #[test]
    fn a_page_tells_identity_every_problem_and_the_body_with_its_digits() {
        let mut letter = unmappable();
        letter.work.write_key = Some("CG1".into());
        letter.work.headers = vec![("ticket".into(), "T-1".into())];
        let page = page(&letter, NOW_MS);
        for part in [
            "STK_InStock RK1\n",
            "  stage          transform (queue transform.purchase-stockin.dead)\n",
            "  write key      CG1\n",
            "  header         ticket: T-1\n",
            "last failure: unmappable, fault: data\n  2 fields can't be mapped\n",
            "  2025-12-31 23:30:00 (1 h 30 min ago), attempt 1, transform by kingpost-test/1\n",
            "  FOther\n    check_time is empty\n    rule:  {{ check_time | date }}\n    input: check_time\n",
            "\nwhat to do: complete the document in the source system",
            "\nbody (36 bytes):\n{\n  \"FBillNo\": \"RK1\",\n  \"FRealQty\": 12.3400\n}\n",
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
        let text = page(&letter, NOW_MS);
        assert!(text.contains("first failure: transient, fault: target\n  busy\n  code: LOCK\n"), "{text}");
        letter.work.first_failure.clone_from(&letter.work.last_failure);
        assert!(page(&letter, NOW_MS).contains("\nfirst failure: the same\n"));
    }

    #[test]
    fn a_letter_that_the_broker_gave_up_on_keeps_what_the_worker_said_last() {
        let mut letter = unmappable();
        letter.failure = FailureRecord::unjudged(StageName::Transform, 0);
        let text = page(&letter, NOW_MS);
        assert!(text.contains("last failure: internal, fault: broker\n"), "{text}");
        assert!(text.contains("last failure before the broker gave up: unmappable"), "{text}");
    }

    #[test]
    fn a_body_that_is_no_json_is_shown_as_it_is() {
        let mut letter = unmappable();
        letter.work.body = b"<html>502</html>".to_vec().into();
        assert!(page(&letter, NOW_MS).contains("body (16 bytes, no JSON):\n<html>502</html>\n"));
        let object: Value = serde_json::from_str(&object(&letter).unwrap()).unwrap();
        assert_eq!(object["body"], "<html>502</html>");
    }

    #[test]
    fn the_json_of_a_letter_keeps_the_digits_of_its_body() {
        let line = object(&unmappable()).unwrap();
        assert!(line.ends_with(r#","body":{"FBillNo":"RK1","FRealQty":12.3400}}"#), "{line}");
        assert!(!line.contains('\n'));
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["failure"]["problems"][1]["field"], "FOther");
        assert_eq!(object["number"], "RK1");
        assert_eq!(object["last_failure"], object["first_failure"]);
    }
}
