//! JSON that keeps what a signature and a price depend on: the order of keys and the digits of numbers.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting that is read; documents of both systems stay below ten.
const MAX_DEPTH: usize = 64;

/// A JSON value. Numbers are kept as the text they were written with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one JSON value. Errors are the parser's own words.
    pub(crate) fn parse(text: &str) -> Result<Json, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| e.to_string())?;
        read(raw, 0)
    }

    /// An object from its pairs, in the given order.
    pub(crate) fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Json)>) -> Json {
        Json::Object(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The member of that exact name.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        self.members().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The member of that name in any case, as Kingdee matches keys.
    pub(crate) fn get_any_case(&self, key: &str) -> Option<&Json> {
        self.members().iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// The pairs of an object; empty for anything else.
    pub(crate) fn members(&self) -> &[(String, Json)] {
        if let Json::Object(pairs) = self { pairs } else { &[] }
    }

    /// The elements of an array; empty for anything else.
    pub(crate) fn items(&self) -> &[Json] {
        if let Json::Array(items) = self { items } else { &[] }
    }

    /// Sets or appends a member; does nothing on a value that is no object.
    pub(crate) fn set(&mut self, key: &str, value: Json) {
        if let Json::Object(pairs) = self {
            match pairs.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => pairs.push((key.to_owned(), value)),
            }
        }
    }

    /// Adds to every member of that name that is a whole number, however deep it lies.
    pub(crate) fn shift(&mut self, key: &str, add: i64) {
        match self {
            Json::Array(items) => items.iter_mut().for_each(|item| item.shift(key, add)),
            Json::Object(pairs) => {
                for (name, value) in pairs {
                    match value.integer().filter(|_| name == key) {
                        Some(number) => *value = number.saturating_add(add).into(),
                        None => value.shift(key, add),
                    }
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
        }
    }

    /// A scalar as text: text itself, digits of a number, `true`/`false`; nothing for null, arrays, objects.
    pub(crate) fn scalar(&self) -> Option<String> {
        match self {
            Json::Text(text) | Json::Number(text) => Some(text.clone()),
            Json::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// The scalar text of a member, if it is there and not null.
    pub(crate) fn text_of(&self, key: &str) -> Option<String> {
        self.get_any_case(key).and_then(Json::scalar)
    }

    /// A whole number, given as number or text.
    pub(crate) fn integer(&self) -> Option<i64> {
        self.scalar()?.trim().parse().ok()
    }

    /// A flag given as a boolean, as text, or as 0/1.
    pub(crate) fn flag(&self) -> Option<bool> {
        match self.scalar()?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Json {
        Json::Bool(flag)
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Json {
        Json::Number(number.to_string())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Json {
        Json::Number(number.to_string())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Json {
        Json::Number(number.to_string())
    }
}

impl From<Decimal> for Json {
    fn from(number: Decimal) -> Json {
        Json::Number(number.to_string())
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Json {
        Json::Array(items)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Bool(flag) => write!(out, "{flag}"),
            Json::Number(digits) => out.write_str(digits),
            Json::Text(text) => write_text(out, text),
            Json::Array(items) => {
                out.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.write_str(",")?;
                    }
                    write!(out, "{item}")?;
                }
                out.write_str("]")
            }
            Json::Object(pairs) => {
                out.write_str("{")?;
                for (index, (key, value)) in pairs.iter().enumerate() {
                    if index > 0 {
                        out.write_str(",")?;
                    }
                    write_text(out, key)?;
                    write!(out, ":{value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

/// The text of an array, written element by element so that a large one never exists twice.
pub(crate) fn array_text(items: impl Iterator<Item = Json>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push_str(",\n");
        }
        text.push_str(&item.to_string());
    }
    text.push(']');
    text
}

fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if u32::from(c) < 0x20 => write!(out, "\\u{:04x}", u32::from(c))?,
            c => fmt::Write::write_char(out, c)?,
        }
    }
    out.write_str("\"")
}

fn read(raw: &RawValue, depth: usize) -> Result<Json, String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let text = raw.get();
    let failed = |e: serde_json::Error| e.to_string();
    Ok(match text.as_bytes().first() {
        Some(b'n') => Json::Null,
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'"') => Json::Text(serde_json::from_str(text).map_err(failed)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            Json::Array(items.into_iter().map(|item| read(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'{') => {
            let Pairs(pairs) = serde_json::from_str(text).map_err(failed)?;
            let read_pair = |(key, value)| Ok::<_, String>((key, read(value, depth + 1)?));
            Json::Object(pairs.into_iter().map(read_pair).collect::<Result<_, _>>()?)
        }
        _ => Json::Number(text.to_owned()),
    })
}

struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn digits_and_key_order_survive_a_round_trip() {
        let text = r#"{"b":1.10,"a":[-0,12345678901234567890.123456789,null,true,"“引号”\"\\😀"],"":{}}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn broken_and_bottomless_text_is_refused() {
        assert!(Json::parse("{\"a\":").is_err());
        assert!(Json::parse(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))).is_err());
    }
}
