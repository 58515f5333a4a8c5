//! The `model` of a scheme: its keys with their marks, its values as they are written.

use std::collections::BTreeMap;

use kingpost_mapping::spec::{Field, Node, Position, Text};

use crate::nearest::suggestion;
use crate::problem::Findings;
use crate::section::entries;
use crate::yaml::{Entry, Meaning, Scalar, Tree, Value};

/// The key that makes an object one object per element of a source array.
const EACH: &str = "each";

/// Reads the model; `switches` turn the fields on and off that name them.
pub(crate) fn read(tree: &Tree, switches: &BTreeMap<String, bool>, findings: &mut Findings) -> Vec<Field> {
    let Some(entries) = entries(tree, "model", findings) else { return Vec::new() };
    if let Some(each) = entries.iter().find(|entry| entry.key == EACH) {
        findings.note(
            each.at,
            "`each` at the root of the model",
            "put it into the field that holds the lines, as in `FInStockEntry: { each: details_list, … }`",
        );
    }
    let mut reader = Reader { switches, findings };
    reader.fields(entries.iter().filter(|entry| entry.key != EACH))
}

/// Gives every variant that is off a name of its own: it is compiled and checked like all others, beside the one that
/// is on.
pub(crate) fn name_variants(fields: &mut [Field]) {
    for index in 0..fields.len() {
        let twin = fields.iter().enumerate().any(|(other, field)| {
            other != index && fields.get(index).is_some_and(|this| field.key.eq_ignore_ascii_case(&this.key))
        });
        let Some(field) = fields.get_mut(index) else { continue };
        if twin && !field.enabled {
            field.key = format!("{} (off, line {})", field.key, field.at.line);
        }
        name_inner_variants(&mut field.value);
    }
}

fn name_inner_variants(value: &mut Node) {
    match value {
        Node::Object(fields) | Node::Each { item: fields, .. } => name_variants(fields),
        Node::Array(items) => items.iter_mut().for_each(name_inner_variants),
        _ => {}
    }
}

/// What a key of the model says.
struct Key<'a> {
    name: &'a str,
    optional: bool,
    switch: Option<(&'a str, bool)>,
}

struct Reader<'s, 'f> {
    switches: &'s BTreeMap<String, bool>,
    findings: &'f mut Findings,
}

impl Reader<'_, '_> {
    fn fields<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for entry in entries {
            let Some(key) = self.key(entry) else { continue };
            let enabled = match key.switch {
                None => true,
                Some((switch, wanted)) => self.switch(switch, entry.at) == wanted,
            };
            let Some(value) = self.node(&entry.value, key.name) else { continue };
            // Kingdee reads keys without regard to case, so two spellings are one key.
            let same = |field: &&Field| field.enabled && enabled && field.key.eq_ignore_ascii_case(key.name);
            if let Some(first) = fields.iter().find(same) {
                let what = format!("`{}` is written twice, first on line {}", key.name, first.at.line);
                self.findings.note(
                    entry.at,
                    what,
                    "keep one; of two variants with switches only one may be on",
                );
                continue;
            }
            fields.push(Field {
                key: key.name.to_owned(),
                optional: key.optional,
                enabled,
                at: entry.at,
                value,
            });
        }
        fields
    }

    fn switch(&mut self, name: &str, at: Position) -> bool {
        self.switches.get(name).copied().unwrap_or_else(|| {
            let known: Vec<&str> = self.switches.keys().map(String::as_str).collect();
            self.findings.note(at, format!("unknown switch `{name}`"), suggestion(name, &known));
            false
        })
    }

    /// `NAME`, `NAME?`, and either with `when SWITCH` or `when not SWITCH`.
    fn key<'a>(&mut self, entry: &'a Entry) -> Option<Key<'a>> {
        let words: Vec<&str> = entry.key.split_whitespace().collect();
        let (marked, switch) = match *words.as_slice() {
            [name] => (name, None),
            [name, "when", switch] if switch != "not" => (name, Some((switch, true))),
            [name, "when", "not", switch] => (name, Some((switch, false))),
            _ => ("", None),
        };
        let (name, optional) = match marked.strip_suffix('?') {
            Some(name) => (name, true),
            None => (marked, false),
        };
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(good) {
            let remedy =
                "write NAME or NAME?, with `when SWITCH` or `when not SWITCH` after it if it can be off";
            self.findings.note(entry.at, format!("`{}` is no key of a model", entry.key), remedy);
            return None;
        }
        Some(Key { name, optional, switch })
    }

    fn node(&mut self, tree: &Tree, key: &str) -> Option<Node> {
        match &tree.value {
            Value::Scalar(scalar) => self.scalar(scalar, tree.at, key),
            Value::List(items) => {
                Some(Node::Array(items.iter().filter_map(|item| self.node(item, key)).collect()))
            }
            Value::Map(entries) => match entries.iter().find(|entry| entry.key == EACH) {
                None => Some(Node::Object(self.fields(entries.iter()))),
                Some(each) => {
                    let item = self.fields(entries.iter().filter(|entry| entry.key != EACH));
                    let array = self.array(each)?;
                    Some(Node::Each { array, item })
                }
            },
        }
    }

    fn array(&mut self, each: &Entry) -> Option<Text> {
        if let Value::Scalar(scalar) = &each.value.value
            && let Meaning::Text(text) = scalar.meaning()
            && !text.contains(['{', '}'])
        {
            return Some(Text { text: text.to_owned(), at: scalar.at });
        }
        let remedy = "write the bare name of the source's array, as in `each: details_list`";
        self.findings.note(
            each.value.at,
            format!("`each` is {}, not an array's name", each.value.kind()),
            remedy,
        );
        None
    }

    fn scalar(&mut self, scalar: &Scalar, at: Position, key: &str) -> Option<Node> {
        if scalar.is_missing() {
            let remedy = "write one; \"\" is an empty text, null is nothing, and a `?` after the key leaves the field out \
                          when its source is empty";
            self.findings.note(at, format!("`{key}` has no value"), remedy);
            return None;
        }
        Some(match scalar.meaning() {
            Meaning::Nothing => Node::Null,
            Meaning::Bool(value) => Node::Bool(value),
            Meaning::Number(digits) => Node::Number(digits.to_owned()),
            Meaning::Text(text) => Node::Text(Text { text: text.to_owned(), at: scalar.at }),
        })
    }
}
