//! How both books were found to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agenda::second;

/// Words that are told, and letters of one: they become labels of metrics, whose values are few and short.
const WORDS_MAX: usize = 40;
const WORD_MAX: usize = 32;

/// How the last whole comparison of both books ended: a message of the queue `reconcile.<scheme>`, on its way to whoever
/// leads, who keeps it in the [`Agenda`](crate::Agenda). Times are whole seconds since the epoch, written in RFC 3339 with
/// Beijing's offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The scheme.
    pub scheme: String,
    /// First second of the period.
    #[serde(rename = "from", with = "second")]
    pub from_s: i64,
    /// First second after it.
    #[serde(rename = "to", with = "second")]
    pub to_s: i64,
    /// When both books had been compared.
    #[serde(rename = "finished_at", with = "second")]
    pub finished_s: i64,
    /// Whether they agree.
    pub agrees: bool,
    /// How many numbers have which verdict, such as `matched` or `missing`.
    pub documents: BTreeMap<String, u64>,
}

impl Reconciled {
    /// Reads the message of a scheme.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(scheme: &str, body: &[u8]) -> Result<Self, String> {
        let read: Reconciled = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if read.scheme != scheme {
            return Err(format!("it belongs to the scheme `{}`", read.scheme));
        }
        let is_word = |word: &str| {
            (1..=WORD_MAX).contains(&word.len()) && word.bytes().all(|b| b == b'-' || b.is_ascii_lowercase())
        };
        if read.documents.len() > WORDS_MAX {
            return Err(format!("it has {} verdicts, {WORDS_MAX} at most are known", read.documents.len()));
        }
        match read.documents.keys().find(|word| !is_word(word)) {
            Some(word) => Err(format!("`{}` is no verdict", word.escape_debug())),
            None => Ok(read),
        }
    }

    /// Writes it as JSON.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn november() -> Reconciled {
        let documents = [("matched", 40), ("other-period", 1)];
        Reconciled {
            scheme: "s".to_owned(),
            from_s: 1_793_462_400,
            to_s: 1_796_054_400,
            finished_s: 1_796_100_000,
            agrees: false,
            documents: documents.map(|(word, count)| (word.to_owned(), count)).into(),
        }
    }

    #[test]
    fn a_result_reads_as_beijing_time_and_comes_back() {
        let body = november().write();
        let text = String::from_utf8(body.clone()).unwrap();
        assert_eq!(
            text,
            r#"{"scheme":"s","from":"2026-11-01T00:00:00+08:00","to":"2026-12-01T00:00:00+08:00","finished_at":"2026-12-01T12:40:00+08:00","agrees":false,"documents":{"matched":40,"other-period":1}}"#
        );
        assert_eq!(Reconciled::read("s", &body).unwrap(), november());
        assert!(Reconciled::read("s", text.replace("{\"scheme", "{\"more\":1,\"scheme").as_bytes()).is_ok());
    }

    #[test]
    fn what_would_be_no_label_is_refused() {
        let error = |old: &str, new: &str| {
            let text = String::from_utf8(november().write()).unwrap().replace(old, new);
            Reconciled::read("s", text.as_bytes()).unwrap_err()
        };
        assert!(error("\"s\"", "\"t\"").contains("the scheme `t`"));
        for word in ["RK2026", "", "a b", &"a".repeat(33)] {
            assert!(error("matched", word).contains("is no verdict"), "{word}");
        }
        let mut many = november();
        many.documents = (0..41_u8)
            .map(|n| ("a".repeat(usize::from(n) / 26 + 1) + &char::from(b'a' + n % 26).to_string(), 1))
            .collect();
        assert!(Reconciled::read("s", &many.write()).unwrap_err().contains("41 verdicts"));
    }
}
