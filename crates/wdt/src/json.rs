//! JSON read as slices of the text it came in: numbers keep their characters and rows can be handed on uncopied.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of the named members of an object, in the order of `names`; `null` counts as absent and the last of
/// several equal names wins. `None` when `text` is no object.
pub(crate) fn pick<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[Option<&'a RawValue>; N]> {
    struct Pick<'n, const N: usize>([&'n str; N]);
    impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
        type Value = [Option<&'de RawValue>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(index) = map.next_key_seed(IndexOf(&self.0))? {
                match index {
                    Some(index) => {
                        let value: &RawValue = map.next_value()?;
                        found[index] = (value.get() != "null").then_some(value);
                    }
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(found)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Pick(names)).ok()?;
    reader.end().ok()?;
    Some(found)
}

/// Every member of an object in its order, `null` ones left out. `None` when `text` is no object.
pub(crate) fn members(text: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                if value.get() != "null" {
                    found.push((name, value));
                }
            }
            Ok(found)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Members).ok()?;
    reader.end().ok()?;
    Some(found)
}

/// The elements of an array. `None` when `text` is no array.
pub(crate) fn elements(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// The kinds of JSON value that are told apart here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    Text,
    /// A number, `true`, `false` or `null`.
    Plain,
}

/// The kind of the value whose text (without leading white space) this is.
pub(crate) fn kind(text: &str) -> Kind {
    match text.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::Text,
        _ => Kind::Plain,
    }
}

/// Reads a member name and yields its place among the wanted names, without keeping a copy.
struct IndexOf<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for IndexOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IndexOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_values_keep_their_characters() {
        let text = r#" {"a":1.50,"b":{"a":2},"c":null,"\u0064":"x"} "#;
        let [a, b, c, d, e] = pick(text, ["a", "b", "c", "d", "e"]).unwrap();
        assert_eq!(a.unwrap().get(), "1.50");
        assert_eq!(b.unwrap().get(), r#"{"a":2}"#);
        assert!(c.is_none() && e.is_none());
        assert_eq!(d.unwrap().get(), r#""x""#);
    }

    #[test]
    fn only_a_whole_object_has_members() {
        for text in ["", "[]", "1", r#"{"a":1"#, r#"{"a":1} x"#, "{a:1}"] {
            assert!(pick(text, ["a"]).is_none() && members(text).is_none(), "{text}");
        }
        let names: Vec<String> =
            members(r#"{"b":1,"a":null,"c":[]}"#).unwrap().into_iter().map(|member| member.0).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
