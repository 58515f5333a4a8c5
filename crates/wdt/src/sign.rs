use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::json::{self, Kind};
use crate::values;

/// How the gateway's own signature is made (`sign_method` of the Taobao open platform).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignMethod {
    /// MD5 over secret, parameters, secret.
    #[default]
    Md5,
    /// HMAC-MD5, named `hmac` on the wire.
    Hmac,
    /// HMAC-SHA256, the default of newer official SDKs.
    HmacSha256,
}

impl SignMethod {
    /// The word on the wire: `md5`, `hmac` or `hmac-sha256`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Hmac => "hmac",
            Self::HmacSha256 => "hmac-sha256",
        }
    }
}

impl fmt::Display for SignMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names neither a transport nor a sign method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not known: use {allowed}")]
pub struct UnknownWord {
    /// What was given.
    pub given: String,
    /// What would have been right.
    pub allowed: &'static str,
}

impl FromStr for SignMethod {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Md5, Self::Hmac, Self::HmacSha256]
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or_else(|| UnknownWord { given: text.to_owned(), allowed: "md5, hmac or hmac-sha256" })
    }
}

/// The method name without a scene prefix: `3ldsmu02o9.wdt.wms.…` → `wdt.wms.…`.
#[must_use]
pub fn bare_method(method: &str) -> &str {
    if method.starts_with("wdt.") {
        return method;
    }
    method.find(".wdt.").map_or(method, |dot| &method[dot + 1..])
}

/// WDT's own signature inside a Qimen call: lower-case hex MD5 over secret, flattened fields, secret.
///
/// `fields` are the form parameters; those that take no part (`wdt3_customer_id`, `wdt_sign`, `target_app_key`) may
/// be among them. `method` may carry a scene prefix, which is not signed. A value that is the text of a JSON object or
/// array is signed by its content: members in ascending order of their names, `null` ones left out, numbers with the
/// digits they were written with. Rule of the published Qimen clients for the flagship edition, which agree on it.
#[must_use]
pub fn wdt_sign(secret: &SecretString, method: &str, fields: &[(&str, &str)]) -> String {
    let mut sorted: BTreeMap<&str, &str> =
        fields.iter().copied().filter(|(name, _)| !is_unsigned(name)).collect();
    sorted.insert("method", bare_method(method));
    let mut flat = String::new();
    for (name, value) in sorted {
        flat.push_str(name);
        flatten_text(value, 0, &mut flat);
    }
    md5_wrapped(secret, &flat)
}

/// The gateway's signature over everything that is sent (query and form, `wdt_sign` included): upper-case hex.
///
/// `sign` itself and empty values take no part; the caller must not send the empty ones either. Rule of the Taobao
/// open platform's documentation and SDKs.
#[must_use]
pub fn top_sign(secret: &SecretString, method: SignMethod, params: &[(&str, &str)]) -> String {
    let mut sorted: Vec<_> =
        params.iter().filter(|(name, value)| *name != "sign" && !value.is_empty()).collect();
    sorted.sort_unstable();
    let flat: String = sorted.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let key = secret.expose_secret().as_bytes();
    match method {
        SignMethod::Md5 => md5_wrapped(secret, &flat).to_uppercase(),
        SignMethod::Hmac => hmac_hex::<Hmac<Md5>>(key, &flat),
        SignMethod::HmacSha256 => hmac_hex::<Hmac<Sha256>>(key, &flat),
    }
}

/// The direct gateway's signature: lower-case hex MD5 over secret, sorted query parameters with `body`, secret.
///
/// `body` must be the very text that is sent. Rule of the vendor's interface pages.
#[must_use]
pub fn direct_sign(secret: &SecretString, query: &[(&str, &str)], body: &str) -> String {
    let mut sorted: Vec<_> = query.iter().copied().filter(|(name, _)| *name != "sign").collect();
    sorted.push(("body", body));
    sorted.sort_unstable();
    let flat: String = sorted.iter().flat_map(|(name, value)| [*name, *value]).collect();
    md5_wrapped(secret, &flat)
}

/// True when WDT would sign `text` by its content instead of its characters.
pub(crate) fn looks_like_json(text: &str) -> bool {
    flatten_json(text, 0, &mut String::new()).is_some()
}

/// Nesting past this is signed as plain text; PHP's decoder has such a limit too, and ours must not exhaust the stack.
const DEEPEST: usize = 128;

fn is_unsigned(name: &str) -> bool {
    matches!(name, "wdt3_customer_id" | "wdt_sign" | "target_app_key")
}

fn md5_wrapped(secret: &SecretString, flat: &str) -> String {
    let secret = secret.expose_secret();
    hex::encode(Md5::new().chain_update(secret).chain_update(flat).chain_update(secret).finalize())
}

fn hmac_hex<M: Mac + KeyInit>(key: &[u8], message: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length");
    mac.update(message.as_bytes());
    hex::encode_upper(mac.finalize().into_bytes())
}

fn flatten_text(text: &str, depth: usize, out: &mut String) {
    let start = out.len();
    if flatten_json(text.trim(), depth, out).is_none() {
        out.truncate(start);
        out.push_str(text);
    }
}

/// `None`, with `out` in any state, when `text` is not the text of an object or array.
fn flatten_json(text: &str, depth: usize, out: &mut String) -> Option<()> {
    let text = text.trim();
    if depth > DEEPEST {
        return None;
    }
    match json::kind(text) {
        Kind::Object => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            for (name, value) in members {
                if value.get() != "null" && !is_unsigned(&name) {
                    out.push_str(&name);
                    flatten_value(value, depth + 1, out)?;
                }
            }
        }
        Kind::Array => {
            for value in json::elements(text)? {
                flatten_value(value, depth + 1, out)?;
            }
        }
        Kind::Text | Kind::Plain => return None,
    }
    Some(())
}

fn flatten_value(value: &RawValue, depth: usize, out: &mut String) -> Option<()> {
    match json::kind(value.get()) {
        Kind::Object | Kind::Array => flatten_json(value.get(), depth, out)?,
        Kind::Text => flatten_text(&values::text(value)?, depth, out),
        // Only an array can hold a null here; a decoder turns it into nothing.
        Kind::Plain if value.get() == "null" => {}
        Kind::Plain => out.push_str(value.get()),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> String {
        let mut out = String::new();
        flatten_text(text, 0, &mut out);
        out
    }

    #[test]
    fn numbers_are_signed_with_the_characters_they_were_written_with() {
        assert_eq!(
            flat(r#"{"b":1.50,"a":1e3,"c":12345678901234567890.10}"#),
            "a1e3b1.50c12345678901234567890.10"
        );
    }

    #[test]
    fn text_that_only_resembles_json_is_signed_as_text() {
        for text in ["{", "[1", "[] x", "", " 80 ", "null", "\"a\"", r#"{"a":"\ud800"}"#] {
            assert_eq!(flat(text), text);
            assert!(!looks_like_json(text), "{text}");
        }
        assert_eq!(flat(" [1,\"a\",[true,null]] "), "1atrue");
        assert!(looks_like_json(" {} "));
    }

    #[test]
    fn json_inside_json_text_is_decoded_all_the_way() {
        assert_eq!(flat(r#"{"a":"{\"z\":1,\"b\":\"[2]\"}"}"#), "ab2z1");
    }

    #[test]
    fn endless_nesting_is_text_and_not_a_crash() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(flat(&text), text);
    }

    #[test]
    fn a_scene_prefix_is_cut_and_nothing_else() {
        assert_eq!(bare_method("3ldsmu02o9.wdt.wms.a"), "wdt.wms.a");
        assert_eq!(bare_method("wdt.wms.wdt.a"), "wdt.wms.wdt.a");
        assert_eq!(
            bare_method("wms.stockin.Purchase.queryWithDetail"),
            "wms.stockin.Purchase.queryWithDetail"
        );
    }

    #[test]
    fn sign_methods_are_read_from_their_words() {
        for method in [SignMethod::Md5, SignMethod::Hmac, SignMethod::HmacSha256] {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        assert!("MD5".parse::<SignMethod>().unwrap_err().to_string().contains("hmac-sha256"));
    }
}
