//! Reading one mapping of a scheme file: its keys are known, and every value has a type and limits.

use std::ops::RangeInclusive;
use std::time::Duration;

use kingpost_mapping::spec::Position;

use crate::nearest::{nearest, suggestion};
use crate::problem::Findings;
use crate::yaml::{Entry, Meaning, Tree, Value};

/// A mapping whose keys have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    path: &'static str,
    at: Position,
    entries: &'a [Entry],
    known: &'a [&'static str],
}

impl<'a> Section<'a> {
    /// Opens a mapping that stands at `path` (empty for the file itself); unknown keys are noted.
    pub(crate) fn open(
        tree: &'a Tree,
        path: &'static str,
        known: &'a [&'static str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let entries = entries(tree, if path.is_empty() { "a scheme" } else { path }, findings)?;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            findings.note(
                entry.at,
                format!("unknown key `{}`{place}", entry.key),
                suggestion(&entry.key, known),
            );
        }
        Some(Section { path, at: tree.at, entries, known })
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Tree> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A value that must be there; `example` is the line to write.
    pub(crate) fn need(&self, key: &str, example: &str, findings: &mut Findings) -> Option<&'a Tree> {
        let found = self.get(key);
        // A misspelt key has been noted as unknown.
        let misspelt = |entry: &Entry| {
            !self.known.contains(&entry.key.as_str()) && nearest(&entry.key, self.known) == Some(key)
        };
        if found.is_none() && !self.entries.iter().any(misspelt) {
            findings.note(self.at, format!("`{}` is missing", self.name(key)), format!("write `{example}`"));
        }
        found
    }

    /// The value of a key as the reader in `read` gives it, or `default` if the key isn't there.
    pub(crate) fn or<T>(
        &self,
        key: &str,
        default: T,
        findings: &mut Findings,
        read: impl FnOnce(&'a Tree, &str, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            None => Some(default),
            Some(tree) => read(tree, &self.name(key), findings),
        }
    }

    /// The key with the path of its section, as in `source.window.width`.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The entries of a mapping.
pub(crate) fn entries<'a>(tree: &'a Tree, name: &str, findings: &mut Findings) -> Option<&'a [Entry]> {
    if let Value::Map(entries) = &tree.value {
        return Some(entries);
    }
    let remedy = "write its keys below it, indented, or in braces: { key: value, … }";
    findings.note(tree.at, format!("{name} is {}, not a mapping", tree.kind()), remedy);
    None
}

/// A single value as text; numbers keep their digits.
pub(crate) fn text(tree: &Tree, name: &str, findings: &mut Findings) -> Option<String> {
    if let Value::Scalar(scalar) = &tree.value
        && scalar.meaning() != Meaning::Nothing
        && !scalar.text.trim().is_empty()
    {
        return Some(scalar.text.clone());
    }
    let kind = if let Value::Scalar(_) = tree.value { "empty" } else { tree.kind() };
    findings.note(tree.at, format!("`{name}` is {kind}, not a text"), "write a text, in quotes if in doubt");
    None
}

/// One of several words.
pub(crate) fn word<T: Copy>(
    tree: &Tree,
    name: &str,
    words: &[(&str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let written = text(tree, name, findings)?;
    let found = words.iter().find(|(word, _)| *word == written);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("`{name}` is `{written}`, which is none of {}", known.join(", "));
        findings.note(tree.at, what, suggestion(&written, &known));
    }
    found.map(|(_, value)| *value)
}

/// A whole number within limits.
pub(crate) fn whole(
    tree: &Tree,
    name: &str,
    limits: RangeInclusive<u32>,
    findings: &mut Findings,
) -> Option<u32> {
    let (low, high) = (limits.start(), limits.end());
    let remedy = format!("write a whole number from {low} to {high}");
    let written = match &tree.value {
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Number(digits) => digits,
            _ => "",
        },
        _ => "",
    };
    if written.is_empty() {
        findings.note(tree.at, format!("`{name}` is {}, not a number", tree.kind()), remedy);
        return None;
    }
    let number = written.parse().ok().filter(|number| limits.contains(number));
    if number.is_none() {
        findings.note(tree.at, format!("`{name}` is {written}, outside {low} to {high}"), remedy);
    }
    number
}

/// A length of time within limits: a whole number and a unit, as `500ms`, `5s`, `3m`, `2h`, `1d`.
pub(crate) fn duration(
    tree: &Tree,
    name: &str,
    limits: RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let written = text(tree, name, findings)?;
    let Some(found) = parse_duration(&written) else {
        let what = format!("`{name}` is `{written}`, which is no length of time");
        findings.note(
            tree.at,
            what,
            "write a whole number and its unit without a blank: 500ms, 5s, 3m, 2h or 1d",
        );
        return None;
    };
    if limits.contains(&found) {
        return Some(found);
    }
    let (low, high) = (shown(*limits.start()), shown(*limits.end()));
    let what = format!("`{name}` is {written}, outside {low} to {high}");
    findings.note(tree.at, what, format!("write a time from {low} to {high}"));
    None
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// A length of time in the largest unit that divides it.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}
