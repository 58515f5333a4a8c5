//! The three signatures of the WDT side: TOP's outer one, `wdt_sign`, and the direct gateway's.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::json::Json;

/// Parameters that take no part in `wdt_sign`: the outer protocol and what the vendor's demo leaves out.
const OUTSIDE_WDT_SIGN: [&str; 12] = [
    "app_key",
    "target_app_key",
    "method",
    "timestamp",
    "format",
    "v",
    "sign_method",
    "session",
    "partner_id",
    "sign",
    "wdt_sign",
    "wdt3_customer_id",
];

/// TOP's signature over every transmitted parameter but `sign`; upper-case hexadecimal.
/// Nothing when the method is none of `md5`, `hmac`, `hmac-sha256`.
pub(crate) fn top(method: &str, secret: &str, parameters: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    for (key, value) in parameters.iter().filter(|(key, value)| *key != "sign" && !value.is_empty()) {
        text.push_str(key);
        text.push_str(value);
    }
    let bytes = match method {
        "md5" => Md5::digest(format!("{secret}{text}{secret}")).to_vec(),
        "hmac" => {
            let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).ok()?;
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
        "hmac-sha256" => {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        }
        _ => return None,
    };
    Some(hex::encode_upper(bytes))
}

/// `wdt_sign` over the business parameters; lower-case hexadecimal.
/// The method name counts without its scene prefix.
pub(crate) fn wdt(secret: &str, method: &str, parameters: &BTreeMap<String, String>) -> String {
    let bare = method.find("wdt.").map_or(method, |at| &method[at..]);
    let mut fields: BTreeMap<&str, String> = parameters
        .iter()
        .filter(|(key, _)| !OUTSIDE_WDT_SIGN.contains(&key.as_str()))
        .map(|(key, value)| (key.as_str(), flatten_text(value)))
        .collect();
    fields.insert("method", bare.to_owned());
    let text: String = fields.into_iter().flat_map(|(key, value)| [key.to_owned(), value]).collect();
    hex::encode(Md5::digest(format!("{secret}{text}{secret}")))
}

/// The direct gateway's signature over the query and the body as it was sent; lower-case hexadecimal.
pub(crate) fn direct(secret: &str, query: &BTreeMap<String, String>, body: &[u8]) -> String {
    let mut pieces: BTreeMap<&str, &[u8]> = query
        .iter()
        .filter(|(key, _)| *key != "sign")
        .map(|(key, value)| (key.as_str(), value.as_bytes()))
        .collect();
    pieces.insert("body", body);
    let mut digest = Md5::new();
    digest.update(secret);
    for (key, value) in pieces {
        digest.update(key);
        digest.update(value);
    }
    digest.update(secret);
    hex::encode(digest.finalize())
}

fn flatten_text(text: &str) -> String {
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '['])
        && let Ok(value) = Json::parse(trimmed)
    {
        return flatten(&value);
    }
    text.to_owned()
}

fn flatten(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::Bool(flag) => flag.to_string(),
        Json::Number(digits) => digits.clone(),
        Json::Text(text) => flatten_text(text),
        Json::Array(items) => items.iter().map(flatten).collect(),
        Json::Object(pairs) => {
            let mut sorted: Vec<_> = pairs.iter().filter(|(_, value)| *value != Json::Null).collect();
            sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
            sorted.into_iter().flat_map(|(key, value)| [key.clone(), flatten(value)]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{direct, top, wdt};
    use crate::json::Json;

    const VECTORS: &str = include_str!("../../tests/data/wdt_vectors.json");

    fn map(object: &Json) -> BTreeMap<String, String> {
        let text = |value: &Json| value.scalar().unwrap_or_else(|| value.to_string());
        object.members().iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }

    #[test]
    fn every_published_and_computed_vector_is_reproduced() {
        let vectors = Json::parse(VECTORS).unwrap();
        let mut seen = BTreeMap::new();
        for vector in vectors.items() {
            let of = |key: &str| vector.text_of(key).unwrap();
            let kind = of("kind");
            let signed = match kind.as_str() {
                "top_sign" => {
                    top(&of("sign_method"), &of("secret"), &map(vector.get("params").unwrap())).unwrap()
                }
                "wdt_sign" => wdt(&of("secret"), &of("method"), &map(vector.get("fields").unwrap())),
                _ => direct(&of("secret"), &map(vector.get("query").unwrap()), of("body").as_bytes()),
            };
            assert_eq!(signed, of("sign"), "vector {}", of("id"));
            *seen.entry(kind).or_insert(0) += 1;
        }
        let expected = [("direct_sign", 5), ("top_sign", 7), ("wdt_sign", 9)];
        assert_eq!(seen, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
    }
}
