//! The two signatures of the WebAPI, byte for byte as the official SDKs (Python, Java, PHP 8.2) make them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use crate::config::KingdeeConfig;

/// Key that the SDKs mix into the tail of an application id; they use its first 24 bytes.
const TAIL_KEY: &[u8; 32] = b"0054f397c6234378b09ca7d3e5debce7";

/// Headers of one signed call to `url`, the exact text that is sent. `seconds` is Unix time; as in the SDKs it
/// serves as nonce too.
#[must_use]
pub fn headers(config: &KingdeeConfig, url: &str, seconds: u64) -> Vec<(String, String)> {
    let time = seconds.to_string();
    let app_data = format!("{},{},{},{}", config.acct_id, config.username, config.lcid, config.org_num);
    let (client_id, secret) = client(&config.app_id);
    let api_signature = hmac64(secret.expose_secret(), &canonical(url, &time, &time));
    let kd_signature = hmac64(config.app_secret.expose_secret(), &format!("{}{app_data}", config.app_id));
    [
        ("X-Api-ClientID", client_id.to_owned()),
        ("X-Api-Auth-Version", "2.0".to_owned()),
        ("x-api-timestamp", time.clone()),
        ("x-api-nonce", time),
        ("x-api-signheaders", "x-api-timestamp,x-api-nonce".to_owned()),
        ("X-Api-Signature", api_signature),
        ("X-Kd-Appkey", config.app_id.clone()),
        ("X-Kd-Appdata", BASE64.encode(&app_data)),
        ("X-Kd-Signature", kd_signature),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The text that `X-Api-Signature` signs: method, encoded path, empty query line, nonce, timestamp.
#[must_use]
pub fn canonical(url: &str, nonce: &str, time: &str) -> String {
    format!("POST\n{}\n\nx-api-nonce:{nonce}\nx-api-timestamp:{time}\n", encoded_path(url))
}

/// Secret hidden in the tail of an application id; empty when the tail has not the form of one, as in the SDKs,
/// which then sign with the empty key.
#[must_use]
pub fn client_secret(app_id: &str) -> SecretString {
    client(app_id).1
}

/// Base64 of the lower-case hex text of HMAC-SHA256: 88 characters.
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn hmac64(key: &str, message: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key length is valid");
    mac.update(message.as_bytes());
    BASE64.encode(hex::encode(mac.finalize().into_bytes()))
}

/// `sign` of `LoginBySign`: lower-case hex SHA-256 over the five values, sorted by code unit and joined.
/// Servers before 8.0.0.202205 (PT-146911) take SHA-1 only and are not supported.
#[must_use]
pub fn login(config: &KingdeeConfig, seconds: u64) -> String {
    let time = seconds.to_string();
    let mut values =
        [&config.acct_id, &config.username, &config.app_id, config.app_secret.expose_secret(), time.as_str()];
    // .NET's ordinal order compares UTF-16 code units, which differs from Rust's above the basic plane.
    values.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    hex::encode(Sha256::digest(values.concat()))
}

/// Client id and client secret of an application id.
fn client(app_id: &str) -> (&str, SecretString) {
    let Some((id, tail)) = app_id.split_once('_').filter(|(_, tail)| !tail.contains('_')) else {
        return ("", SecretString::default());
    };
    let plain = tail.len() == 32
        && tail.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/');
    let Some(mut bytes) = BASE64.decode(tail).ok().filter(|_| plain) else {
        return (id, SecretString::default());
    };
    for (byte, key) in bytes.iter_mut().zip(TAIL_KEY) {
        *byte ^= key;
    }
    (id, SecretString::from(BASE64.encode(bytes)))
}

fn encoded_path(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = if rest.len() == url.len() { rest } else { rest.find('/').map_or("", |at| &rest[at..]) };
    let mut encoded = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
