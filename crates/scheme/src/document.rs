//! The declared shape of a source document, and the constants and switches of a scheme.

use std::collections::BTreeMap;

use kingpost_mapping::spec::{Kind, Setting, Shape};
use rust_decimal::Decimal;

use crate::problem::Findings;
use crate::section::{entries, word};
use crate::yaml::{Entry, Meaning, Tree, Value};

const KINDS: [(&str, Kind); 4] =
    [("text", Kind::Text), ("decimal", Kind::Decimal), ("time", Kind::Time), ("bool", Kind::Bool)];

/// Reads `source.document`: `header` with the fields of a document, and each of its arrays with the fields of a line.
pub(crate) fn read(tree: &Tree, findings: &mut Findings) -> Shape {
    let mut shape = Shape::default();
    let Some(entries) = entries(tree, "source.document", findings) else { return shape };
    for entry in entries {
        if !checked_name(entry, "field", findings) {
            continue;
        }
        let kinds = kinds(&entry.value, &format!("source.document.{}", entry.key), findings);
        if entry.key == "header" {
            shape.header = kinds;
        } else {
            shape.arrays.insert(entry.key.clone(), kinds);
        }
    }
    if !entries.iter().any(|entry| entry.key == "header") {
        findings.note(
            tree.at,
            "`source.document.header` is missing",
            "write `header: { order_no: text, … }` with the fields outside the lines",
        );
    }
    for entry in entries.iter().filter(|entry| shape.header.contains_key(&entry.key)) {
        let what = format!("`{}` is declared as a field and as an array", entry.key);
        findings.note(entry.at, what, "remove it from `header`");
    }
    shape
}

fn kinds(tree: &Tree, name: &str, findings: &mut Findings) -> BTreeMap<String, Kind> {
    let fields = entries(tree, name, findings).unwrap_or_default();
    let read = |entry: &Entry| {
        let known = checked_name(entry, "field", findings);
        let kind = word(&entry.value, &format!("{name}.{}", entry.key), &KINDS, findings)?;
        known.then(|| (entry.key.clone(), kind))
    };
    fields.iter().filter_map(read).collect()
}

/// Reads `settings`; a constant has the type it looks like.
pub(crate) fn settings(tree: &Tree, findings: &mut Findings) -> BTreeMap<String, Setting> {
    let mut settings = BTreeMap::new();
    for entry in entries(tree, "settings", findings).unwrap_or_default() {
        let name = format!("settings.{}", entry.key);
        let Value::Scalar(scalar) = &entry.value.value else {
            let what = format!("`{name}` is {}", entry.value.kind());
            findings.note(entry.value.at, what, "write one text, number, true or false");
            continue;
        };
        let setting = match scalar.meaning() {
            Meaning::Text(text) => Setting::Text(text.to_owned()),
            Meaning::Bool(value) => Setting::Bool(value),
            Meaning::Number(digits) => {
                match Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits)) {
                    Ok(value) => Setting::Decimal(value),
                    Err(_) => {
                        let what = format!("`{name}` is {digits}, which has more than 28 digits");
                        findings.note(entry.value.at, what, "write it with fewer digits");
                        continue;
                    }
                }
            }
            Meaning::Nothing => {
                findings.note(
                    entry.value.at,
                    format!("`{name}` has no value"),
                    "write one, or remove the line",
                );
                continue;
            }
        };
        if checked_name(entry, "setting", findings) {
            settings.insert(entry.key.clone(), setting);
        }
    }
    settings
}

/// Reads `switches`: fields of the model that are ready but off.
pub(crate) fn switches(tree: &Tree, findings: &mut Findings) -> BTreeMap<String, bool> {
    let mut switches = BTreeMap::new();
    for entry in entries(tree, "switches", findings).unwrap_or_default() {
        let on = match &entry.value.value {
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Bool(on) => Some(on),
                _ => None,
            },
            _ => None,
        };
        if on.is_none() {
            let what = format!("`switches.{}` is {}, not true or false", entry.key, entry.value.kind());
            findings.note(entry.value.at, what, "write true or false, without quotes");
        }
        if checked_name(entry, "switch", findings) {
            // A switch that can't be read still has a name that the model may use.
            switches.insert(entry.key.clone(), on.unwrap_or_default());
        }
    }
    switches
}

/// A name that expressions can hold: a letter or `_`, then letters, digits and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c == '_' || c.is_alphabetic())
        && characters.all(|c| c == '_' || c.is_alphanumeric())
}

pub(crate) fn checked_name(entry: &Entry, what: &str, findings: &mut Findings) -> bool {
    let good = is_name(&entry.key);
    if !good {
        let what = format!("`{}` can't be the name of a {what}", entry.key);
        findings.note(entry.at, what, "use letters, digits and `_`, beginning with a letter");
    }
    good
}
