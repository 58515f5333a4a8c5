//! The options of a Kingdee save that a scheme may set, from the manual of the WebAPI's `Save` and `BatchSave`.

use kingpost_mapping::spec::Position;
use serde_json::value::RawValue;

use crate::nearest::suggestion;
use crate::problem::Findings;
use crate::scheme::{Finish, SaveOption};
use crate::section::entries;
use crate::yaml::{Entry, Meaning, Tree, Value};

/// What an option holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Bool,
    Text,
    Count(u32),
    Texts,
    /// Names the call itself and is not sent beside the model.
    Call,
}

const OPTIONS: [(&str, Holds); 19] = [
    ("NeedUpDateFields", Holds::Texts),
    ("NeedReturnFields", Holds::Texts),
    ("IsDeleteEntry", Holds::Bool),
    ("SubSystemId", Holds::Text),
    ("IsVerifyBaseDataField", Holds::Bool),
    ("IsEntryBatchFill", Holds::Bool),
    ("ValidateFlag", Holds::Bool),
    ("NumberSearch", Holds::Bool),
    ("IsAutoAdjustField", Holds::Bool),
    ("InterationFlags", Holds::Text),
    ("IgnoreInterationFlag", Holds::Bool),
    ("IsControlPrecision", Holds::Bool),
    ("ValidateRepeatJson", Holds::Bool),
    // Kingdee runs at most ten threads for one batch.
    ("BatchCount", Holds::Count(10)),
    ("IsAutoSubmitAndAudit", Holds::Bool),
    ("Creator", Holds::Text),
    ("FormId", Holds::Call),
    ("Operation", Holds::Call),
    ("Model", Holds::Call),
];

/// The names that other tools keep in the model although they are options of the call.
pub(crate) const NOT_FIELDS: [&str; 5] =
    ["FormId", "IsAutoSubmitAndAudit", "Operation", "IsVerifyBaseDataField", "SubSystemId"];

/// Reads `target.options`.
pub(crate) fn options(
    tree: &Tree,
    form: Option<&str>,
    finish: Option<Finish>,
    notes: &mut Vec<String>,
    findings: &mut Findings,
) -> Vec<SaveOption> {
    let mut options = Vec::new();
    for entry in entries(tree, "target.options", findings).unwrap_or_default() {
        let Some((name, holds)) = OPTIONS.iter().find(|(name, _)| *name == entry.key) else {
            let known: Vec<&str> =
                OPTIONS.iter().map(|(name, _)| *name).filter(|name| *name != "Model").collect();
            findings.note(
                entry.at,
                format!("unknown option `{}`", entry.key),
                suggestion(&entry.key, &known),
            );
            continue;
        };
        if *holds == Holds::Call {
            check_call(entry, form, findings);
            continue;
        }
        let Some(json) = json(entry, *holds, findings) else { continue };
        check_danger(entry, &json, findings);
        check_finish(entry.at, (name, &json), finish, findings);
        notes.extend(note(name, &json));
        if let Ok(value) = RawValue::from_string(json) {
            options.push((entry.key.clone(), value));
        }
    }
    options
}

/// The JSON of an option's value.
fn json(entry: &Entry, holds: Holds, findings: &mut Findings) -> Option<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (found, remedy) = match (&entry.value.value, holds) {
        (Value::Scalar(scalar), Holds::Bool) => match scalar.meaning() {
            Meaning::Bool(value) => {
                (Some(value.to_string()), "write true or false, without quotes".to_owned())
            }
            _ => (None, "write true or false, without quotes".to_owned()),
        },
        (Value::Scalar(scalar), Holds::Count(most)) => match scalar.meaning() {
            Meaning::Number(digits) if digits.parse::<u32>().is_ok_and(|count| count <= most) => {
                (Some(digits.to_owned()), String::new())
            }
            _ => (None, format!("write a whole number from 0 to {most}")),
        },
        (Value::Scalar(scalar), Holds::Text) if scalar.meaning() != Meaning::Nothing => {
            (Some(quoted(&scalar.text)), String::new())
        }
        (Value::List(items), Holds::Texts) => {
            let texts = items.iter().map(|item| match &item.value {
                Value::Scalar(scalar) if !scalar.text.is_empty() => Some(quoted(&scalar.text)),
                _ => None,
            });
            let texts: Option<Vec<String>> = texts.collect();
            (texts.map(|texts| format!("[{}]", texts.join(","))), "write a list of texts".to_owned())
        }
        (_, Holds::Bool) => (None, "write true or false, without quotes".to_owned()),
        (_, Holds::Count(most)) => (None, format!("write a whole number from 0 to {most}")),
        (_, Holds::Texts) => (None, "write a list of texts: [FBillNo]".to_owned()),
        _ => (None, "write a text, \"\" for none".to_owned()),
    };
    if found.is_none() {
        let what = format!("`target.options.{}` can't be {}", entry.key, entry.value.kind());
        findings.note(entry.value.at, what, remedy);
    }
    found
}

/// `FormId` and `Operation` say again what the scheme says elsewhere; they have to agree with it.
fn check_call(entry: &Entry, form: Option<&str>, findings: &mut Findings) {
    let written = match &entry.value.value {
        Value::Scalar(scalar) => scalar.text.as_str(),
        _ => "",
    };
    match (entry.key.as_str(), form) {
        ("FormId", Some(form)) if written != form => {
            let what = format!("`FormId` is `{written}`, but the scheme's form is `{form}`");
            findings.note(entry.value.at, what, format!("write {form} in both, or leave `FormId` out"));
        }
        ("Operation", _) if written != "BatchSave" => {
            let remedy = "write BatchSave, or leave it out; how far a document is taken is `target.finish`";
            findings.note(entry.value.at, format!("`Operation` is `{written}`, not BatchSave"), remedy);
        }
        ("Model", _) => {
            findings.note(entry.at, "`Model` is no option", "write the fields under `model`");
        }
        _ => {}
    }
}

/// Values that would break a promise of the pipeline.
fn check_danger(entry: &Entry, json: &str, findings: &mut Findings) {
    let (what, remedy) = match (entry.key.as_str(), json) {
        ("ValidateFlag", "false") => (
            "`ValidateFlag: false` turns off the check that a number is used once",
            "write true: without the check a document can be posted twice",
        ),
        ("NumberSearch", "false") => (
            "`NumberSearch: false` looks base data up by name",
            "write true: the model's codes ({ FNumber: … }) are numbers",
        ),
        ("NeedUpDateFields", json) if json != "[]" => {
            ("`NeedUpDateFields` drops every other field of a new document", "write [], or leave it out")
        }
        _ => return,
    };
    findings.note(entry.value.at, what, remedy);
}

fn check_finish(at: Position, option: (&str, &str), finish: Option<Finish>, findings: &mut Findings) {
    if let Some(finish) = finish.filter(|finish| *finish != Finish::Audit)
        && option == ("IsAutoSubmitAndAudit", "true")
    {
        let word = if finish == Finish::Save { "save" } else { "submit" };
        let what = format!("`IsAutoSubmitAndAudit: true` audits documents, but `target.finish` is `{word}`");
        findings.note(at, what, "write `finish: audit`, or `IsAutoSubmitAndAudit: false`");
    }
}

fn note(name: &str, json: &str) -> Option<String> {
    let text = match (name, json) {
        ("IsAutoSubmitAndAudit", "true") => {
            "save, submit and audit run nested in one transaction of Kingdee: under load it may abort or time out, and \
             every unclear outcome is looked up; `finish: audit` without it takes the same three steps one by one"
        }
        ("IsVerifyBaseDataField", "false") => {
            "Kingdee doesn't check codes of base data: a wrong one may be dropped in silence"
        }
        _ => return None,
    };
    Some(format!("target.options.{name} is {json}: {text}"))
}
