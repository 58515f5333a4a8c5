//! What is cut into windows, and what a person may ask of it: the message of a scheme's cursor queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Comparisons, Origin, Reconciled, reconciled};

/// How many answers to instructions are remembered.
const ANSWERS_MAX: usize = 50;
/// How many periods are remembered that are over.
const OVER_MAX: usize = 20;
/// How many stretches are remembered that were left out.
const SKIPPED_MAX: usize = 50;

/// How far the windows of a scheme have been cut, and what is cut beside them. It is the one message in the queue
/// `cursor.<scheme>`, written by whoever leads and read by anybody. Times are whole seconds since the epoch, written in
/// RFC 3339 with Beijing's offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", from = "Wire")]
pub struct Agenda {
    /// The scheme.
    pub scheme: String,
    /// Everything before this second has been cut into live windows, belongs to a period, or was left out.
    pub cursor_s: i64,
    /// The last second that was ever cut: later than the cursor after a clock went back, or the cursor was set back. What
    /// was changed before it may have been read.
    pub reached_s: Option<i64>,
    /// The scheme's start as it was when last seen: an earlier one leaves a period to be read.
    pub start_s: Option<i64>,
    /// Everything before this second has had its second look.
    pub remedied_s: Option<i64>,
    /// What is read beside the live windows, and what has been lately.
    pub periods: Vec<Period>,
    /// What a person has left out, and no second look brings back.
    pub skipped: Vec<Stretch>,
    /// What became of the last instructions.
    pub answers: Vec<Answer>,
    /// How the comparisons of both books ended.
    pub reconciled: Comparisons,
    /// What a newer release has written; it is kept, so that going back a release loses nothing of it.
    pub others: BTreeMap<String, Value>,
}

/// The agenda as it is written. An older release knows `cursor` and `reached` alone, and would write back nothing else: so
/// `cursor` stands where history has come to, from where such a release reads everything again, and `live` where the live
/// windows are.
#[derive(Serialize, Deserialize)]
struct Wire {
    scheme: String,
    #[serde(rename = "cursor", with = "second")]
    cursor_s: i64,
    #[serde(rename = "live", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
    live_s: Option<i64>,
    #[serde(rename = "reached", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
    reached_s: Option<i64>,
    #[serde(rename = "start", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
    start_s: Option<i64>,
    #[serde(rename = "remedied", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
    remedied_s: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    periods: Vec<Period>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Stretch>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    answers: Vec<Answer>,
    #[serde(default, deserialize_with = "reconciled::readable", skip_serializing_if = "Option::is_none")]
    reconciled: Option<Reconciled>,
    #[serde(default, deserialize_with = "reconciled::readable_ones", skip_serializing_if = "Vec::is_empty")]
    differing: Vec<Reconciled>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl From<Agenda> for Wire {
    fn from(agenda: Agenda) -> Self {
        let unread = agenda.periods.iter().filter(|p| p.kind == PeriodKind::History && !p.is_over());
        let cursor_s = unread.map(|period| period.next_s).fold(agenda.cursor_s, i64::min);
        let reached_s = Some(agenda.reached_s()).filter(|reached_s| *reached_s > cursor_s);
        Wire {
            scheme: agenda.scheme,
            cursor_s,
            live_s: Some(agenda.cursor_s).filter(|live_s| *live_s != cursor_s),
            reached_s,
            start_s: agenda.start_s,
            remedied_s: agenda.remedied_s,
            periods: agenda.periods,
            skipped: agenda.skipped,
            answers: agenda.answers,
            reconciled: agenda.reconciled.last,
            differing: agenda.reconciled.open,
            others: agenda.others,
        }
    }
}

impl From<Wire> for Agenda {
    fn from(wire: Wire) -> Self {
        let cursor_s = wire.live_s.unwrap_or(wire.cursor_s);
        Agenda {
            scheme: wire.scheme,
            cursor_s,
            reached_s: wire.reached_s.filter(|reached_s| *reached_s > cursor_s),
            start_s: wire.start_s,
            remedied_s: wire.remedied_s,
            periods: wire.periods,
            skipped: wire.skipped,
            answers: wire.answers,
            reconciled: Comparisons::kept(wire.reconciled, wire.differing),
            others: wire.others,
        }
    }
}

/// A stretch of time, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// First second.
    #[serde(rename = "from", with = "second")]
    pub from_s: i64,
    /// First second after it.
    #[serde(rename = "to", with = "second")]
    pub to_s: i64,
}

/// A period that is read beside the live windows, which have precedence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its name, by which instructions refer to it.
    pub id: String,
    /// Why it is read.
    pub kind: PeriodKind,
    /// First second.
    #[serde(rename = "from", with = "second")]
    pub from_s: i64,
    /// First second after it.
    #[serde(rename = "to", with = "second")]
    pub to_s: i64,
    /// Everything of it before this second has been cut into windows; from then on it is over.
    #[serde(rename = "next", with = "second")]
    pub next_s: i64,
    /// Windows per minute at most; without one as fast as the pipeline takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Held back by a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Given up by a person before its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// Who asked for it, where a person did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why, in the words of who asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What a newer release has written.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Why a period is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeriodKind {
    /// A second look at what has been read, for what came late.
    Remedy,
    /// A person asked for it.
    Backfill,
    /// What lies between the scheme's start and the day on which it was first run.
    History,
}

impl PeriodKind {
    /// The word used in messages and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            PeriodKind::Remedy => "remedy",
            PeriodKind::Backfill => "backfill",
            PeriodKind::History => "history",
        }
    }

    /// What its windows and documents carry.
    pub const fn origin(self) -> Origin {
        match self {
            PeriodKind::Remedy => Origin::Remedy,
            PeriodKind::Backfill | PeriodKind::History => Origin::Backfill,
        }
    }
}

impl Period {
    /// True when all of it has been cut, or it was given up.
    pub const fn is_over(&self) -> bool {
        self.cancelled || self.next_s >= self.to_s
    }

    /// Windows of that width, in seconds, that are still to be cut.
    pub const fn windows_left(&self, width_s: i64) -> u64 {
        if self.is_over() { 0 } else { windows(self.next_s, self.to_s, width_s) }
    }
}

/// Windows of that width, in seconds, between two seconds.
pub const fn windows(from_s: i64, to_s: i64, width_s: i64) -> u64 {
    let width = if width_s > 0 { width_s.unsigned_abs() } else { 1 };
    if to_s > from_s { to_s.abs_diff(from_s).div_ceil(width) } else { 0 }
}

impl Agenda {
    /// An agenda with nothing but a cursor.
    pub fn new(scheme: impl Into<String>, cursor_s: i64) -> Self {
        Agenda {
            scheme: scheme.into(),
            cursor_s,
            reached_s: None,
            start_s: None,
            remedied_s: None,
            periods: Vec::new(),
            skipped: Vec::new(),
            answers: Vec::new(),
            reconciled: Comparisons::default(),
            others: BTreeMap::new(),
        }
    }

    /// Reads the message of a scheme's cursor queue.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn read(scheme: &str, body: &[u8]) -> Result<Self, String> {
        let remedy = format!(
            "start extractors of the release that wrote it, or set it anew with `kingpost cursor set --scheme {scheme} --to WHEN`"
        );
        let agenda: Agenda =
            serde_json::from_slice(body).map_err(|e| format!("the cursor can't be read: {e}; {remedy}"))?;
        if agenda.scheme != scheme {
            return Err(format!("the cursor belongs to the scheme `{}`; {remedy}", agenda.scheme));
        }
        Ok(agenda)
    }

    /// Where a cursor stands that can't be read otherwise, if that much can be told of it: everything before was read, or
    /// was left out.
    pub fn glimpse(scheme: &str, body: &[u8]) -> Option<i64> {
        #[derive(Deserialize)]
        struct Glimpse(#[serde(with = "second")] i64);
        let value: Value = serde_json::from_slice(body).ok()?;
        value.get("scheme").filter(|name| *name == scheme)?;
        serde_json::from_value(value.get("cursor")?.clone()).ok().map(|Glimpse(second)| second)
    }

    /// Writes it as JSON.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The last second that was ever cut.
    pub fn reached_s(&self) -> i64 {
        self.reached_s.map_or(self.cursor_s, |reached_s| reached_s.max(self.cursor_s))
    }

    /// The answer to an instruction, if it was carried out lately.
    pub fn answer(&self, id: &str) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.id == id)
    }

    /// Remembers an answer, and forgets the oldest of many.
    pub fn answered(&mut self, answer: Answer) {
        self.answers.push(answer);
        let surplus = self.answers.len().saturating_sub(ANSWERS_MAX);
        self.answers.drain(..surplus);
    }

    /// Forgets the oldest of many periods that are over, but none that nobody has read.
    pub fn tidy(&mut self) {
        let forgotten =
            |period: &Period| period.is_over() && !(period.cancelled && period.kind == PeriodKind::History);
        let mut surplus = self.periods.iter().filter(|p| forgotten(p)).count().saturating_sub(OVER_MAX);
        self.periods.retain(|period| {
            let forget = surplus > 0 && forgotten(period);
            surplus -= usize::from(forget);
            !forget
        });
        let surplus = self.skipped.len().saturating_sub(SKIPPED_MAX);
        self.skipped.drain(..surplus);
    }

    /// What of a stretch was not left out by a person, in order.
    pub fn without_skipped(&self, from_s: i64, to_s: i64) -> Vec<Stretch> {
        let mut parts = vec![Stretch { from_s, to_s }];
        for gap in &self.skipped {
            parts = parts
                .into_iter()
                .flat_map(|part| {
                    let left = Stretch { to_s: part.to_s.min(gap.from_s), ..part };
                    let right = Stretch { from_s: part.from_s.max(gap.to_s), ..part };
                    // What lies on one side of the gap is left or right of it whole.
                    [left, right]
                })
                .filter(|part| part.from_s < part.to_s)
                .collect();
        }
        parts
    }
}

/// Something that a person asks of whoever leads: a message of the queue `instructions.<scheme>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Its name; carried out once, however often it is delivered.
    pub id: String,
    /// Who asks.
    pub by: String,
    /// When, in seconds since the epoch: what was asked long ago may not be meant any more.
    #[serde(rename = "at", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
    pub at_s: Option<i64>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is to be done.
    #[serde(flatten)]
    pub act: Act,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Act {
    /// Read a period again; it is named after the instruction.
    Backfill {
        /// First second.
        #[serde(rename = "from", with = "second")]
        from_s: i64,
        /// First second after it.
        #[serde(rename = "to", with = "second")]
        to_s: i64,
        /// Windows per minute at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
    },
    /// Cut no more of a period for now.
    Pause {
        /// Its name.
        period: String,
    },
    /// Go on with it.
    Resume {
        /// Its name.
        period: String,
    },
    /// Give it up.
    Cancel {
        /// Its name.
        period: String,
        /// What is left of it is never read, and the person knows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        skip: bool,
    },
    /// Change how fast it is cut.
    Rate {
        /// Its name.
        period: String,
        /// Windows per minute at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
    },
    /// Move the cursor of the live windows.
    Move {
        /// Where to.
        #[serde(rename = "to", with = "second")]
        to_s: i64,
        /// Where the cursor stood when the person was shown what would be left out; nothing where it couldn't be read.
        #[serde(rename = "from", default, with = "optional_second", skip_serializing_if = "Option::is_none")]
        from_s: Option<i64>,
        /// What lies between is not read, and the person knows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        skip: bool,
    },
}

/// What became of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The instruction's name.
    pub id: String,
    /// Why it was not carried out; absent when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Seconds since the epoch as RFC 3339 text in Beijing's offset.
pub(crate) mod second {
    use jiff::{Timestamp, tz::Offset};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(second: &i64, to: S) -> Result<S::Ok, S::Error> {
        match Timestamp::from_second(*second) {
            Ok(time) => to.collect_str(&time.display_with_offset(Offset::constant(8))),
            Err(_) => to.serialize_str(&second.to_string()),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = String::deserialize(from)?;
        let time: Result<Timestamp, _> = text.parse();
        time.map(Timestamp::as_second).map_err(|e| D::Error::custom(format!("`{text}` is not a time: {e}")))
    }
}

/// The same where there may be none.
mod optional_second {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(second: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
        match second {
            Some(second) => super::second::serialize(second, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        #[derive(Deserialize)]
        struct Second(#[serde(with = "super::second")] i64);
        Ok(Option::<Second>::deserialize(from)?.map(|Second(second)| second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_767_196_800;

    fn period(id: &str, next_s: i64) -> Period {
        Period {
            id: id.to_owned(),
            kind: PeriodKind::Backfill,
            from_s: START,
            to_s: START + 100,
            next_s,
            per_minute: Some(6),
            paused: false,
            cancelled: false,
            by: "ops".to_owned(),
            reason: String::new(),
            others: BTreeMap::new(),
        }
    }

    #[test]
    fn an_agenda_reads_as_a_cursor_and_comes_back() {
        let mut agenda = Agenda::new("s", START);
        assert_eq!(
            String::from_utf8(agenda.write()).unwrap(),
            r#"{"scheme":"s","cursor":"2026-01-01T00:00:00+08:00"}"#
        );
        agenda.reached_s = Some(START + 9);
        agenda.remedied_s = Some(START - 9);
        agenda.periods.push(period("p", START));
        agenda.answered(Answer { id: "i".to_owned(), refused: Some("no".to_owned()) });
        assert_eq!(Agenda::read("s", &agenda.write()), Ok(agenda));
    }

    #[test]
    fn what_a_newer_release_has_written_is_kept() {
        let body = br#"{"scheme":"s","cursor":"2026-01-01T00:00:00+08:00","moon":{"phase":[1,2.5]}}"#;
        let agenda = Agenda::read("s", body).unwrap();
        assert_eq!(agenda.write(), body);
    }

    #[test]
    fn a_result_that_can_not_be_read_stops_no_cursor() {
        let reconciled = Reconciled {
            scheme: "s".to_owned(),
            from_s: START,
            to_s: START + 86_400,
            finished_s: START + 90_000,
            agrees: true,
            documents: BTreeMap::from([("matched".to_owned(), 3)]),
        };
        let month = Reconciled { from_s: START - 86_400, agrees: false, ..reconciled.clone() };
        let kept = Comparisons { last: Some(reconciled), open: vec![month.clone()] };
        let agenda = Agenda { reconciled: kept, ..Agenda::new("s", START) };
        let body = agenda.write();
        assert_eq!(Agenda::read("s", &body), Ok(agenda));
        let newer = String::from_utf8(body).unwrap().replace("true", "\"mostly\"");
        let open = Comparisons { last: None, open: vec![month] };
        let agenda = Agenda { reconciled: open, ..Agenda::new("s", START) };
        assert_eq!(Agenda::read("s", newer.as_bytes()), Ok(agenda));
        let newest = newer.replace("false", "\"hardly\"");
        assert_eq!(Agenda::read("s", newest.as_bytes()), Ok(Agenda::new("s", START)));
    }

    #[test]
    fn an_older_release_reads_again_what_history_has_not_come_to() {
        #[derive(Serialize, Deserialize)]
        struct Older {
            scheme: String,
            cursor: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            reached: Option<String>,
        }
        let mut agenda = Agenda::new("s", START + 1_000);
        agenda.periods.push(Period { kind: PeriodKind::History, ..period("h", START + 40) });
        agenda.periods.push(period("b", START + 2));
        let older: Older = serde_json::from_slice(&agenda.write()).unwrap();
        assert_eq!(older.cursor, "2026-01-01T00:00:40+08:00");
        assert_eq!(older.reached.as_deref(), Some("2026-01-01T00:16:40+08:00"));
        let back = Agenda::read("s", &serde_json::to_vec(&older).unwrap()).unwrap();
        assert_eq!((back.cursor_s, back.reached_s()), (START + 40, START + 1_000));
        assert_eq!(Agenda::read("s", &agenda.write()), Ok(agenda));
    }

    #[test]
    fn what_was_left_out_is_cut_out_of_a_stretch() {
        let mut agenda = Agenda::new("s", START);
        let stretch = |from_s, to_s| Stretch { from_s, to_s };
        assert_eq!(agenda.without_skipped(5, 50), [stretch(5, 50)]);
        agenda.skipped = vec![stretch(10, 20), stretch(40, 90)];
        assert_eq!(agenda.without_skipped(5, 50), [stretch(5, 10), stretch(20, 40)]);
        assert_eq!(agenda.without_skipped(12, 18), []);
        assert_eq!(agenda.without_skipped(20, 40), [stretch(20, 40)]);
    }

    #[test]
    fn a_wrong_cursor_is_explained() {
        assert!(Agenda::read("s", b"{}").unwrap_err().contains("cursor set --scheme s"));
        let broken = br#"{"scheme":"s","cursor":"yesterday"}"#;
        assert!(Agenda::read("s", broken).unwrap_err().contains("`yesterday` is not a time"));
        assert!(Agenda::read("s", &Agenda::new("t", 0).write()).unwrap_err().contains("the scheme `t`"));
        let newer = br#"{"scheme":"s","cursor":"2026-01-01T00:00:00+08:00","periods":"none"}"#;
        assert!(Agenda::read("s", newer).is_err());
        assert_eq!(
            [newer, &broken[..], b""].map(|body| Agenda::glimpse("s", body)),
            [Some(START), None, None]
        );
        assert_eq!(Agenda::glimpse("t", newer), None);
    }

    #[test]
    fn only_what_is_over_is_forgotten_and_the_oldest_of_it() {
        let mut agenda = Agenda::new("s", START);
        agenda.periods = (0..30).map(|n| period(&n.to_string(), START + 100 * i64::from(n > 0))).collect();
        agenda.tidy();
        let ids: Vec<&str> = agenda.periods.iter().map(|period| period.id.as_str()).collect();
        assert_eq!((ids.len(), ids[0], ids[1]), (21, "0", "10"));
    }

    #[test]
    fn an_instruction_is_a_word_and_what_it_needs() {
        let text = r#"{"id":"1","by":"ops","do":"backfill","from":"2026-01-01T00:00:00+08:00","to":"2026-01-02T00:00:00+08:00"}"#;
        let instruction: Instruction = serde_json::from_str(text).unwrap();
        let act = Act::Backfill { from_s: START, to_s: START + 86_400, per_minute: None };
        assert_eq!(instruction.act, act);
        assert_eq!(serde_json::to_string(&instruction).unwrap(), text);
    }

    #[test]
    fn windows_are_counted_to_the_last_second() {
        assert_eq!(windows(0, 7_200, 3_600), 2);
        assert_eq!(windows(0, 7_201, 3_600), 3);
        assert_eq!((windows(9, 9, 60), windows(9, 0, 60), windows(0, 3, 0)), (0, 0, 3));
        assert_eq!(period("p", START + 99).windows_left(60), 1);
        assert_eq!(Period { cancelled: true, ..period("p", START) }.windows_left(60), 0);
    }
}
