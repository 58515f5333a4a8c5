use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A shorter secret occurs in innocent text, and replacing it would make every message unreadable.
const SHORTEST: usize = 4;

/// `text` with each of `secrets` replaced by [`REDACTED`], as written and percent-encoded (upper or lower case
/// hex). Secrets shorter than 4 bytes are left alone. For text of foreign origin that is about to be logged or
/// stored, such as an error body that echoes the request.
#[must_use]
pub fn redact<'a>(text: &'a str, secrets: &[&SecretString]) -> Cow<'a, str> {
    let mut needles: Vec<String> = Vec::new();
    for secret in secrets {
        let plain = secret.expose_secret();
        if plain.len() >= SHORTEST {
            let encoded = percent_encoded(plain);
            needles.push(encoded.to_lowercase());
            needles.push(encoded);
            needles.push(plain.to_owned());
        }
    }
    // A secret that is the beginning of another must not leave the other's tail in the text.
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.dedup();
    let mut result = Cow::Borrowed(text);
    for needle in &needles {
        if result.contains(needle.as_str()) {
            result = Cow::Owned(result.replace(needle.as_str(), REDACTED));
        }
    }
    result
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_replaced_as_written_and_percent_encoded() {
        let secret = SecretString::from("a+b/secret=");
        let text = "sign a+b/secret= url?s=a%2Bb%2Fsecret%3D&t=a%2bb%2fsecret%3d end";
        assert_eq!(redact(text, &[&secret]), "sign [redacted] url?s=[redacted]&t=[redacted] end");
    }

    #[test]
    fn the_longer_of_two_overlapping_secrets_goes_first() {
        let (short, long) = (SecretString::from("secret"), SecretString::from("secret:salt"));
        assert_eq!(redact("x secret:salt y", &[&short, &long]), "x [redacted] y");
    }

    #[test]
    fn text_without_a_secret_is_not_copied() {
        let (secret, empty, short) =
            (SecretString::from("secret"), SecretString::from(""), SecretString::from("abc"));
        assert!(matches!(redact("abc, quiet", &[&secret, &empty, &short]), Cow::Borrowed("abc, quiet")));
    }
}
