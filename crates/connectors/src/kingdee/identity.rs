//! What a model says it is, checked before anything is sent.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in the order of the text, repeated ones included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
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

        deserializer.deserialize_map(Object)
    }
}

/// Checks that a model is the document it is looked up as: it has one `FBillNo`, which is the number, and no id of an
/// existing document, which Kingdee would overwrite (`FID` of the WebAPI manual's save call). Kingdee reads keys
/// without regard to case.
///
/// # Errors
/// What is wrong and the remedy, for a person.
pub(super) fn check(model: &[u8], number: &str) -> Result<(), String> {
    let Members(members) = serde_json::from_slice(model)
        .map_err(|error| format!("the model is no JSON object ({error}); mend what published it"))?;
    let named = |name: &str| -> Vec<&RawValue> {
        members.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value).collect()
    };
    match named("FBillNo").as_slice() {
        [] => {
            return Err(format!(
                "the model has no FBillNo, so Kingdee would give it a number other than {number}"
            ));
        }
        [one] if scalar(one) == number => {}
        [one] => {
            let found = scalar(one);
            return Err(format!(
                "the model's FBillNo is `{found}`, but the document is looked up as `{number}`"
            ));
        }
        _ => return Err("the model has FBillNo more than once; keep one".to_owned()),
    }
    match named("FID").iter().map(|id| scalar(id)).find(|id| id != "0") {
        Some(id) => Err(format!(
            "the model's FID is {id}, with which Kingdee changes an existing document; leave FID out of the model"
        )),
        None => Ok(()),
    }
}

/// A model that changes the existing document of an id, `FID` first. It has to be the document of that number: see [`check`].
///
/// # Errors
/// It is no JSON object.
pub(super) fn with_id(model: &[u8], id: &str) -> Result<Bytes, String> {
    let no_object = |error: serde_json::Error| format!("the model is no JSON object: {error}");
    let Members(members) = serde_json::from_slice(model).map_err(no_object)?;
    let id = match id.bytes().all(|byte| byte.is_ascii_digit()) {
        true => id.to_owned(),
        false => serde_json::to_string(id).map_err(no_object)?,
    };
    let mut text = format!("{{\"FID\":{id}");
    for (key, value) in members.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("FID")) {
        text.push(',');
        text.push_str(&serde_json::to_string(key).map_err(no_object)?);
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    Ok(text.into())
}

/// The text of a string, or the JSON of anything else.
fn scalar(value: &RawValue) -> Cow<'_, str> {
    serde_json::from_str::<String>(value.get()).map_or(Cow::Borrowed(value.get()), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_the_document_it_is_looked_up_as() {
        for model in [
            r#"{"FBillNo":"RK1"}"#,
            r#" {"FID":0,"fbillno":"RK1","FEntity":[{"FID":7,"FBillNo":"x"}]} "#,
            r#"{"FID":"0","FBILLNO":"RK\u0031"}"#,
        ] {
            assert_eq!(check(model.as_bytes(), "RK1"), Ok(()), "{model}");
        }
        assert_eq!(check(br#"{"FBillNo":100}"#, "100"), Ok(()));
    }

    #[test]
    fn a_model_that_changes_a_document_names_its_id_once_and_keeps_its_digits() {
        for (model, changed) in [
            (r#"{"FBillNo":"RK1"}"#, r#"{"FID":100001,"FBillNo":"RK1"}"#),
            (
                r#" { "FID":0, "FBillNo" : "RK\"1", "fid":"0", "FInStockEntry":[{"FID":7,"FRealQty":2.00}] } "#,
                r#"{"FID":100001,"FBillNo":"RK\"1","FInStockEntry":[{"FID":7,"FRealQty":2.00}]}"#,
            ),
            (r#"{"物\n":1e2}"#, r#"{"FID":100001,"物\n":1e2}"#),
            ("{}", r#"{"FID":100001}"#),
        ] {
            assert_eq!(with_id(model.as_bytes(), "100001").unwrap(), changed, "{model}");
        }
        assert!(with_id(b"[]", "1").is_err());
    }

    #[test]
    fn a_model_of_another_number_or_with_an_id_is_refused() {
        for (model, said) in [
            (r#"{"FDate":"2026-01-01"}"#, "no FBillNo"),
            (r#"{"FEntity":[{"FBillNo":"RK1"}]}"#, "no FBillNo"),
            (r#"{"FBillNo":"RK2"}"#, "`RK2`"),
            (r#"{"FBillNo":"rk1"}"#, "`rk1`"),
            (r#"{"FBillNo":" RK1"}"#, "` RK1`"),
            (r#"{"FBillNo":null}"#, "`null`"),
            (r#"{"FBillNo":"RK1","FBILLNO":"RK2"}"#, "more than once"),
            (r#"{"FBillNo":"RK1","FBillNo":"RK1"}"#, "more than once"),
            (r#"{"FID":100001,"FBillNo":"RK1"}"#, "FID is 100001"),
            (r#"{"fid":"100001","FBillNo":"RK1"}"#, "FID is 100001"),
            (r#"{"FID":0,"FBillNo":"RK1","Fid":5}"#, "FID is 5"),
            (r#"[{"FBillNo":"RK1"}]"#, "no JSON object"),
            (r#"{"FBillNo":"RK1""#, "no JSON object"),
        ] {
            let error = check(model.as_bytes(), "RK1").unwrap_err();
            assert!(error.contains(said), "{model}: {error}");
        }
    }
}
