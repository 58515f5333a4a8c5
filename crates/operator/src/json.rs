//! JSON laid out anew, every key and scalar byte for byte: a price of `12.3400` stays one.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// One line per field; nothing when the text is no JSON.
pub(crate) fn pretty(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(lay_out(text, true))
}

/// On one line; nothing when the text is no JSON.
pub(crate) fn compact(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(lay_out(text, false))
}

/// One line per field like [`pretty`], with what `note` has to say about the value at a path behind the line on which it
/// begins. Lines of an array count from 1: `FInStockEntry[3].FTaxPrice`.
pub(crate) fn annotated(text: &str, note: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    annotate(raw, &Place { path: String::new(), label: String::new(), depth: 0, last: true }, note, &mut out);
    Some(out)
}

/// Every scalar, and every empty array or object, with its path and its characters, in the order of the document.
pub(crate) fn leaves(text: &str) -> Option<Vec<(String, String)>> {
    let mut leaves = Vec::new();
    gather(serde_json::from_str(text).ok()?, String::new(), &mut leaves);
    Some(leaves)
}

fn gather(raw: &RawValue, path: String, leaves: &mut Vec<(String, String)>) {
    let children = children(raw, &path);
    if children.is_empty() {
        leaves.push((path, raw.get().to_owned()));
    }
    for (_, path, child) in children {
        gather(child, path, leaves);
    }
}

/// Members or elements: the label in front of each, its path, its text.
fn children<'a>(raw: &'a RawValue, path: &str) -> Vec<(String, String, &'a RawValue)> {
    if let Ok(Members(members)) = serde_json::from_str(raw.get()) {
        let child = |(name, value): (String, &'a RawValue)| {
            let label = serde_json::to_string(&name).unwrap_or_default() + ": ";
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            (label, path, value)
        };
        return members.into_iter().map(child).collect();
    }
    let elements: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    (1..).zip(elements).map(|(n, value)| (String::new(), format!("{path}[{n}]"), value)).collect()
}

struct Place {
    path: String,
    label: String,
    depth: usize,
    last: bool,
}

fn annotate(raw: &RawValue, place: &Place, note: &dyn Fn(&str) -> Option<String>, out: &mut String) {
    let (indent, comma) = ("  ".repeat(place.depth), if place.last { "" } else { "," });
    let said = note(&place.path).map_or_else(String::new, |said| format!("  <-- {said}"));
    let children = children(raw, &place.path);
    let count = children.len();
    if count == 0 {
        out.push_str(&format!("{indent}{}{}{comma}{said}\n", place.label, raw.get()));
        return;
    }
    let [open, close] = if raw.get().starts_with('{') { ["{", "}"] } else { ["[", "]"] };
    out.push_str(&format!("{indent}{}{open}{said}\n", place.label));
    for (n, (label, path, child)) in children.into_iter().enumerate() {
        annotate(child, &Place { path, label, depth: place.depth + 1, last: n + 1 == count }, note, out);
    }
    out.push_str(&format!("{indent}{close}{comma}\n"));
}

/// The members of an object in their order, repeated ones as well.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

fn lay_out(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let new_line = |out: &mut String, depth: usize| {
        if lines {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = rest.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(if lines { ": " } else { ":" }),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_numbers_their_digits() {
        let text = r#" {"z":100.0000,"a":[1e400, {} ,[ ]],"t":"x\": [\\","b":{"n":null}}"#;
        let expected = "{\n  \"z\": 100.0000,\n  \"a\": [\n    1e400,\n    {},\n    []\n  ],\n  \
                        \"t\": \"x\\\": [\\\\\",\n  \"b\": {\n    \"n\": null\n  }\n}";
        assert_eq!(pretty(text).as_deref(), Some(expected));
        let line = r#"{"z":100.0000,"a":[1e400,{},[]],"t":"x\": [\\","b":{"n":null}}"#;
        assert_eq!(compact(expected).as_deref(), Some(line));
    }

    #[test]
    fn a_note_stands_behind_the_line_on_which_its_value_begins() {
        let text = r#"{"a":1.00,"lines":[{"n":"x"},{"n":[],"a":null}]}"#;
        let note = |path: &str| matches!(path, "a" | "lines[2].n" | "lines[2]").then(|| path.to_owned());
        let expected = "{\n  \"a\": 1.00,  <-- a\n  \"lines\": [\n    {\n      \"n\": \"x\"\n    },\n    \
                        {  <-- lines[2]\n      \"n\": [],  <-- lines[2].n\n      \"a\": null\n    }\n  ]\n}\n";
        assert_eq!(annotated(text, &note).as_deref(), Some(expected));
        assert_eq!(annotated(text, &|_| None).as_deref().map(str::trim_end), pretty(text).as_deref());
    }

    #[test]
    fn leaves_have_paths_that_count_lines_from_one() {
        let leaves = leaves(r#"{"a":{"b":1.50},"c":[{"d":"x"},[]],"a":2}"#).unwrap();
        let shown: Vec<String> = leaves.iter().map(|(path, raw)| format!("{path}={raw}")).collect();
        assert_eq!(shown, ["a.b=1.50", "c[1].d=\"x\"", "c[2]=[]", "a=2"]);
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        assert_eq!((annotated("{", &|_| None), leaves("<")), (None, None));
        for text in ["", "{", "<html>", r#"{"a":1} trailing"#] {
            assert_eq!((pretty(text), compact(text)), (None, None), "{text}");
        }
    }
}
