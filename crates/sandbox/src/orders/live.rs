//! The life of a source: so many edits a minute, drawn from a seed.

use serde::{Deserialize, Serialize};

use super::generate::Rng;
use super::{Book, Edit};
use crate::json::Json;

/// A source where everything is edited sixty times a minute shows nothing more.
const MOST_PER_MINUTE: f64 = 60.0;

/// How much happens in a minute, as shares of the completed orders; of `complete`, of the unfinished ones.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Another note and another flag, which no stock-in is booked by.
    pub modify: f64,
    /// Another quantity on the first line.
    pub content: f64,
    /// Cancelled, status 10.
    pub cancel: f64,
    /// Unfinished orders that are completed.
    pub complete: f64,
    /// New completed orders.
    pub add: f64,
    /// Which orders are drawn.
    pub seed: u64,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { modify: 0.0, content: 0.0, cancel: 0.0, complete: 0.0, add: 0.0, seed: 1 }
    }
}

impl Rates {
    /// `0.05`, which is a share for `modify` and what usually goes with it, or `modify=0.05,cancel=0.01` and so on.
    pub(crate) fn parse(text: &str) -> Result<Rates, String> {
        let mut rates = Rates::default();
        if let Ok(share) = text.parse::<f64>() {
            rates =
                Rates { modify: share, cancel: share / 10.0, add: share / 10.0, complete: share, ..rates };
            return rates.checked();
        }
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is no NAME=SHARE"))?;
            let share = value.parse::<f64>().map_err(|_| format!("{value:?} is no share such as 0.05"))?;
            *rates.rate(name)? = share;
        }
        rates.checked()
    }

    fn rate(&mut self, name: &str) -> Result<&mut f64, String> {
        match name {
            "modify" => Ok(&mut self.modify),
            "content" => Ok(&mut self.content),
            "cancel" => Ok(&mut self.cancel),
            "complete" => Ok(&mut self.complete),
            "add" => Ok(&mut self.add),
            _ => Err(format!("{name:?} is none of modify, content, cancel, complete, add")),
        }
    }

    /// The rates, if each is a share that can be lived.
    pub(crate) fn checked(self) -> Result<Rates, String> {
        let shares = [self.modify, self.content, self.cancel, self.complete, self.add];
        match shares.iter().find(|share| !(0.0..=MOST_PER_MINUTE).contains(*share)) {
            Some(share) => Err(format!(
                "{share} is no share of the orders per minute (0.05 is 5 %, {MOST_PER_MINUTE} the most)"
            )),
            None => Ok(self),
        }
    }

    fn of(&self, edit: Edit) -> f64 {
        match edit {
            Edit::Modify => self.modify,
            Edit::Content => self.content,
            Edit::Cancel => self.cancel,
            Edit::Complete => self.complete,
            Edit::Add => self.add,
        }
    }
}

/// A source that lives.
#[derive(Debug)]
pub(crate) struct Live {
    rates: Rates,
    rng: Rng,
    /// What is due and not whole yet, and what was done, in the order of [`Edit::ALL`].
    due: [f64; 5],
    done: [u64; 5],
}

impl Live {
    pub(crate) fn new(rates: Rates) -> Live {
        let rng = Rng::new(rates.seed, 0, 5);
        Live { rates, rng, due: [0.0; 5], done: [0; 5] }
    }

    /// Lets so many seconds pass; `now` is the epoch second of the fake server.
    pub(crate) fn step(&mut self, book: &mut Book, seconds: f64, now: i64) {
        for (at, edit) in Edit::ALL.into_iter().enumerate() {
            let rate = self.rates.of(edit);
            if rate <= 0.0 {
                continue;
            }
            let kind = if edit == Edit::Add { Edit::Modify } else { edit };
            let mut among = book.suiting(kind);
            self.due[at] += rate * among.len() as f64 * seconds / 60.0;
            while self.due[at] >= 1.0 {
                self.due[at] -= 1.0;
                if edit == Edit::Add {
                    book.add(now);
                } else if among.is_empty() {
                    break;
                } else {
                    // What was drawn is edited once a step: a second edit within a second has the same time.
                    let drawn = self.rng.below(among.len() as u64) as usize;
                    book.edit(among.swap_remove(drawn), edit, now);
                }
                self.done[at] += 1;
            }
        }
    }

    /// Its rates and what it has done.
    pub(crate) fn describe(&self) -> Json {
        let rates = serde_json::to_string(&self.rates).ok().and_then(|text| Json::parse(&text).ok());
        let done = Edit::ALL.into_iter().zip(self.done).map(|(edit, done)| (edit.name(), done.into()));
        Json::object([("rates", rates.unwrap_or(Json::Null)), ("done", Json::object(done))])
    }
}

#[cfg(test)]
mod tests {
    use super::{Live, Rates};
    use crate::orders::{Book, Criteria, Plan, Sorting, Style};

    const FROM: i64 = 1_785_513_600;

    fn lived(seed: u64) -> (Book, Live) {
        let mut book = Book::new(Plan::new(3, FROM, 3600, [400, 24, 40]), Sorting::default());
        let rates = Rates { modify: 0.1, content: 0.05, cancel: 0.05, complete: 0.5, add: 0.05, seed };
        let mut live = Live::new(rates);
        for second in 0..120 {
            live.step(&mut book, 1.0, FROM + 10_000 + second);
        }
        (book, live)
    }

    #[test]
    fn a_minute_brings_the_share_that_was_asked_for_and_a_seed_repeats_it() {
        let (book, live) = lived(1);
        let [modified, content, cancelled, completed, added] = live.done;
        assert!((75..=85).contains(&modified) && (37..=43).contains(&content), "{:?}", live.done);
        assert!((37..=43).contains(&cancelled) && (37..=43).contains(&added), "{:?}", live.done);
        assert!((15..=30).contains(&completed), "{:?}", live.done);
        assert_eq!(book.truth().orders(None), lived(1).0.truth().orders(None));
        assert_ne!(book.truth().orders(None), lived(2).0.truth().orders(None));
    }

    #[test]
    fn what_was_edited_left_its_window_for_the_present() {
        let (mut book, live) = lived(1);
        let mut count = |start, end, statuses: &[&str]| {
            let statuses = statuses.iter().map(|status| (*status).to_owned()).collect();
            let wanted = Criteria { start, end, statuses, ..Criteria::default() };
            book.query(&wanted, 0, 0, 1, Style::Qimen).0 as u64
        };
        let (old, new) = (count(FROM, FROM + 3600, &["80"]), count(FROM + 10_000, FROM + 10_120, &["80"]));
        let [_, _, cancelled, completed, added] = live.done;
        assert_eq!(old + new, 400 - cancelled + completed + added);
        assert!(new > 100, "{new}");
    }

    #[test]
    fn shares_are_read_from_the_command_line_and_slips_are_named() {
        let one = Rates::parse("0.05").unwrap();
        assert_eq!((one.modify, one.content, one.complete), (0.05, 0.0, 0.05));
        let two = Rates::parse("modify=0.2,content=0.1").unwrap();
        assert_eq!((two.modify, two.content, two.cancel), (0.2, 0.1, 0.0));
        for (text, part) in
            [("modify", "NAME=SHARE"), ("modfy=1", "modfy"), ("add=x", "\"x\""), ("-1", "-1"), ("NaN", "NaN")]
        {
            let error = Rates::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
