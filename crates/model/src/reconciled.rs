//! How both books were found to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::agenda::second;

/// Words that are told, and letters of one: they become labels of metrics, whose values are few and short.
const WORDS_MAX: usize = 40;
const WORD_MAX: usize = 32;
/// Comparisons with differences that are kept one by one: the cursor's message holds them, and is written every minute.
const OPEN_MAX: usize = 100;

/// How a whole comparison of both books ended: a message of the queue `reconcile.<scheme>`, on its way to whoever
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
        if read.from_s >= read.to_s {
            return Err("its period ends before it begins".to_owned());
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

/// The last comparison of both books, and those before it whose differences no later one has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparisons {
    /// The last one, whatever its period.
    pub last: Option<Reconciled>,
    /// Those in which the books differed, the oldest first, each until its whole period is compared again. The last one is
    /// the last of them when the books differed in it; words without a document are left away.
    pub open: Vec<Reconciled>,
}

impl Comparisons {
    /// As they were kept. An older release knows of the last one alone, so it counts as one that comes now.
    pub(crate) fn kept(last: Option<Reconciled>, open: Vec<Reconciled>) -> Self {
        let mut kept = Comparisons { last: None, open };
        if let Some(last) = last {
            kept.add(last);
        }
        kept
    }

    /// Adds a comparison. It ends the open ones whose period it covers wholly, and is open itself when the books differ.
    /// Gives the period of two that had to be kept as one, because there are too many.
    pub fn add(&mut self, new: Reconciled) -> Option<(i64, i64)> {
        self.open.retain(|open| open.from_s < new.from_s || new.to_s < open.to_s);
        if !new.agrees {
            let documents = new.documents.iter().filter(|(_, count)| **count > 0);
            let documents = documents.map(|(word, count)| (word.clone(), *count)).collect();
            self.open.push(Reconciled { documents, ..new.clone() });
        }
        self.last = Some(new);
        if self.open.len() > OPEN_MAX { self.join() } else { None }
    }

    /// Makes one of the two that lie closest together, but for the newest: forgotten, what is missing would be so for good,
    /// and one comparison still ends both.
    fn join(&mut self) -> Option<(i64, i64)> {
        let newest = self.open.pop()?;
        let earliest_first = |open: &Reconciled| (open.from_s, open.to_s);
        let mut sorted = self.open.clone();
        sorted.sort_by_key(earliest_first);
        let joined = sorted
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] => Some((a, b, a.to_s.max(b.to_s))),
                _ => None,
            })
            .min_by_key(|(a, _, to_s)| to_s.saturating_sub(a.from_s));
        let period = joined.map(|(a, b, to_s)| {
            let documents = sum([a, b].into_iter());
            let finished_s = a.finished_s.min(b.finished_s);
            let one = Reconciled { to_s, finished_s, documents, ..a.clone() };
            self.open.retain(|open| open != a && open != b);
            let place = self.open.partition_point(|open| open.finished_s < finished_s);
            self.open.insert(place, one);
            (a.from_s, to_s)
        });
        self.open.push(newest);
        period
    }

    /// The comparison that tells when and what was compared last.
    pub fn newest(&self) -> Option<&Reconciled> {
        self.last.as_ref().or(self.open.last())
    }

    /// Whether the books agreed at the last comparison, and nothing is left of those before.
    pub fn agree(&self) -> bool {
        self.open.is_empty() && self.last.as_ref().is_none_or(|last| last.agrees)
    }

    /// How many numbers have which verdict, in the last comparison and all open ones; one that is in two of them counts
    /// twice.
    pub fn documents(&self) -> BTreeMap<String, u64> {
        let of_last = self.last.as_ref().map(|last| (last.from_s, last.to_s));
        let before = self.open.iter().filter(|open| Some((open.from_s, open.to_s)) != of_last);
        sum(self.last.iter().chain(before))
    }
}

fn sum<'a>(of: impl Iterator<Item = &'a Reconciled>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (word, count) in of.flat_map(|reconciled| &reconciled.documents) {
        let all: &mut u64 = sum.entry(word.clone()).or_default();
        *all = all.saturating_add(*count);
    }
    sum
}

/// A result of a comparison, if it can be read: nothing about it is worth that windows are cut no more.
pub(crate) fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Reconciled>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// Those of several results that can be read.
pub(crate) fn readable_ones<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reconciled>, D::Error> {
    let values = match Value::deserialize(from)? {
        Value::Array(values) => values,
        _ => Vec::new(),
    };
    Ok(values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
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

    const DAY: i64 = 86_400;

    /// A comparison of some days after the first of November.
    fn days(from: i64, to: i64, missing: u64) -> Reconciled {
        let from_s = november().from_s;
        Reconciled {
            from_s: from_s + from * DAY,
            to_s: from_s + to * DAY,
            agrees: missing == 0,
            documents: [("matched".to_owned(), 10), ("missing".to_owned(), missing)].into(),
            ..november()
        }
    }

    fn after(comparisons: impl IntoIterator<Item = Reconciled>) -> Comparisons {
        let mut kept = Comparisons::default();
        comparisons.into_iter().for_each(|comparison| assert_eq!(kept.add(comparison), None));
        kept
    }

    fn missing(comparisons: &Comparisons) -> (u64, bool) {
        (comparisons.documents().get("missing").copied().unwrap_or(0), comparisons.agree())
    }

    #[test]
    fn what_is_missing_ends_with_a_comparison_of_its_whole_period_and_with_no_other() {
        let noon = days(0, 30, 3);
        assert_eq!(missing(&after([noon.clone()])), (3, false));
        let night = after([noon.clone(), days(29, 30, 0)]);
        assert_eq!((missing(&night), night.newest()), ((3, false), Some(&days(29, 30, 0))));
        assert_eq!(
            missing(&after([noon.clone(), days(29, 31, 0), days(-5, 29, 0)])),
            (3, false),
            "only together"
        );
        assert_eq!(missing(&after([noon.clone(), days(4, 5, 2)])), (5, false));
        assert_eq!(missing(&after([noon.clone(), days(4, 5, 2), days(4, 5, 0)])), (3, false));
        assert_eq!(missing(&after([days(4, 5, 2), noon.clone()])), (3, false), "counted once");
        for ends in [days(0, 30, 0), days(-1, 31, 0)] {
            let ended = after([noon.clone(), days(4, 5, 2), days(29, 30, 0), ends.clone()]);
            assert_eq!((missing(&ended), ended), ((0, true), Comparisons { last: Some(ends), open: vec![] }));
        }
        assert_eq!(missing(&after([noon, days(0, 30, 1)])), (1, false));
    }

    #[test]
    fn of_too_many_none_is_forgotten_and_neighbours_are_kept_as_one() {
        let mut kept = after((0..100).map(|n| days(n * 3, n * 3 + 1, 1)));
        assert_eq!(kept.open.len(), 100);
        let from_s = november().from_s;
        assert_eq!(kept.add(days(301, 302, 1)), Some((from_s, from_s + 4 * DAY)));
        assert_eq!((kept.open.len(), missing(&kept)), (100, (101, false)));
        assert_eq!(kept.open.last(), Some(&days(301, 302, 1)), "the newest stays as it is");
        kept.add(days(0, 4, 0));
        assert_eq!(missing(&kept), (99, false), "one comparison ends both");
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_and_of_an_older_release_the_last_one() {
        let (noon, night) = (days(0, 30, 3), days(29, 30, 0));
        let kept = after([noon.clone(), night.clone()]);
        assert_eq!(Comparisons::kept(kept.last.clone(), kept.open.clone()), kept);
        assert_eq!(Comparisons::kept(Some(noon.clone()), Vec::new()), after([noon.clone()]));
        // An older release has led meanwhile, and carried along what it doesn't know.
        assert_eq!(Comparisons::kept(Some(days(0, 30, 0)), kept.open), after([days(0, 30, 0)]));
    }

    #[test]
    fn a_period_that_nothing_could_cover_is_refused() {
        let none = Reconciled { to_s: november().from_s, ..november() };
        assert!(Reconciled::read("s", &none.write()).unwrap_err().contains("ends before it begins"));
    }
}
