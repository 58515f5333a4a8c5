//! Header signing and the login signature, checked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::cli::Options;
use crate::http::Request;

/// The constant that the official SDKs hide; its first 24 bytes are used.
const KEY: &[u8; 32] = b"0054f397c6234378b09ca7d3e5debce7";

/// Checks every signing header of a request against the credentials; errors say which one is wrong and how.
pub(super) fn check_headers(options: &Options, request: &Request) -> Result<(), String> {
    let header = |name: &str| request.header(name).ok_or_else(|| format!("header {name} is missing"));
    let equal = |name: &str, expected: &str| match header(name)? {
        sent if sent == expected => Ok(()),
        sent => Err(format!("header {name} is {sent:?}, expected {expected:?}")),
    };
    let app_id = &options.kingdee_app_id;
    equal("X-Kd-Appkey", app_id)?;
    let appdata =
        STANDARD.decode(header("X-Kd-Appdata")?).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let appdata = appdata.ok_or("header X-Kd-Appdata is no base64 of UTF-8")?;
    equal("X-Kd-Signature", &hmac64(&options.kingdee_app_secret, &format!("{app_id}{appdata}")))?;
    let parts: Vec<&str> = appdata.split(',').collect();
    let [account, user, lcid, org] = parts[..] else {
        return Err(format!("X-Kd-Appdata holds {} parts, expected four", parts.len()));
    };
    if account != options.kingdee_acct_id {
        return Err("account set in X-Kd-Appdata is unknown".to_owned());
    }
    if user != options.kingdee_username {
        return Err("user in X-Kd-Appdata is not allowed".to_owned());
    }
    if lcid.parse::<u32>().is_err() || org.parse::<u32>().is_err() {
        return Err("lcid and organisation in X-Kd-Appdata are no numbers".to_owned());
    }
    let (client, secret) = client_secret(app_id);
    equal("X-Api-ClientID", &client)?;
    equal("X-Api-Auth-Version", "2.0")?;
    if !header("x-api-signheaders")?.eq_ignore_ascii_case("x-api-timestamp,x-api-nonce") {
        return Err("header x-api-signheaders is not x-api-timestamp,x-api-nonce".to_owned());
    }
    let (timestamp, nonce) = (header("x-api-timestamp")?, header("x-api-nonce")?);
    if timestamp.parse::<u64>().is_err() || nonce.is_empty() {
        return Err("x-api-timestamp is no number or x-api-nonce is empty".to_owned());
    }
    equal("X-Api-Signature", &hmac64(&secret, &canonical(&request.target, nonce, timestamp)))
}

/// The `LoginBySign` signature: lower-case hexadecimal SHA-256 over the sorted parts.
pub(super) fn login(account: &str, user: &str, app_id: &str, app_secret: &str, timestamp: &str) -> String {
    let mut parts = [account, user, app_id, app_secret, timestamp];
    parts.sort_unstable();
    hex::encode(Sha256::digest(parts.concat()))
}

/// Client id and client secret that an app id holds; both empty when it has not the expected form.
fn client_secret(app_id: &str) -> (String, String) {
    let parts: Vec<&str> = app_id.split('_').collect();
    let [client, tail] = parts[..] else { return Default::default() };
    let decoded = match STANDARD.decode(tail) {
        Ok(bytes) if tail.len() == 32 && bytes.len() == 24 => bytes,
        _ => return (client.to_owned(), String::new()),
    };
    let mixed: Vec<u8> = decoded.iter().zip(KEY).map(|(byte, key)| byte ^ key).collect();
    (client.to_owned(), STANDARD.encode(mixed))
}

fn canonical(target: &str, nonce: &str, timestamp: &str) -> String {
    let mut path = String::new();
    for byte in target.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'~' | b'-' => {
                path.push(char::from(byte))
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    format!("POST\n{path}\n\nx-api-nonce:{nonce}\nx-api-timestamp:{timestamp}\n")
}

/// Base64 of the hexadecimal text of an HMAC-SHA256.
fn hmac64(key: &str, message: &str) -> String {
    // An HMAC takes a key of any length; the empty text would fail the comparison.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(message.as_bytes());
    STANDARD.encode(hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{canonical, check_headers, client_secret, hmac64, login};
    use crate::cli::Options;
    use crate::http::Request;
    use crate::json::Json;

    const VECTORS: &str = include_str!("../../tests/data/kingdee_vectors.json");

    #[test]
    fn primitives_give_the_published_values() {
        let secret = |tail: &str| client_secret(&format!("1_{tail}")).1;
        assert_eq!(secret("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4"), "UVJWUANVXl8KXFlfWV1YSBNCShcUQRNL");
        assert_eq!(secret("too-short"), "");
        assert_eq!(secret(&"!".repeat(32)), "");
        let message = "POST\n%2Ftest\n\nx-api-nonce:1\nx-api-timestamp:1\n";
        assert_eq!(canonical("/test", "1", "1"), message);
        let expected =
            "MThmZGFiM2U5MGZhNmU0MDQ0MWI1NTNkNmNmMjY2MDY0YzEzZTllNTA0OTBmM2M0NDI2NzFiMTI3NTFkZmU1ZQ==";
        assert_eq!(hmac64("key123", message), expected);
    }

    #[test]
    fn every_header_vector_is_accepted_and_any_change_refused() {
        let vectors = Json::parse(VECTORS).unwrap();
        for vector in vectors.get("headers").unwrap().items() {
            let of = |key: &str| vector.text_of(key).unwrap();
            let options = Options {
                kingdee_acct_id: of("acct_id"),
                kingdee_username: of("user"),
                kingdee_app_id: of("app_id"),
                kingdee_app_secret: of("app_secret"),
                ..Options::default()
            };
            let headers = vector.get("sent").unwrap().members();
            let mut request = Request {
                method: "POST".to_owned(),
                target: of("target"),
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.scalar().unwrap()))
                    .collect(),
                body: Vec::new(),
            };
            assert_eq!(check_headers(&options, &request), Ok(()), "vector {}", of("id"));
            for at in 0..request.headers.len() {
                let kept = request.headers[at].1.clone();
                request.headers[at].1.push('x');
                assert!(check_headers(&options, &request).is_err(), "{} {:?}", of("id"), request.headers[at]);
                request.headers[at].1 = kept;
            }
            request.target.push_str("?a=1");
            assert!(check_headers(&options, &request).is_err(), "vector {} with a query", of("id"));
        }
    }

    #[test]
    fn login_signatures_give_the_computed_values() {
        for vector in Json::parse(VECTORS).unwrap().get("login").unwrap().items() {
            let of = |key: &str| vector.text_of(key).unwrap();
            let signed =
                login(&of("acct_id"), &of("user"), &of("app_id"), &of("app_secret"), &of("timestamp"));
            assert_eq!(signed, of("sign"));
        }
    }
}
