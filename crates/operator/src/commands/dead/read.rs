//! Reading dead letters without taking them.

use std::ops::ControlFlow;

use kingpost_broker::{BrokerConfig, Inspector, JournalKeep, Letter};
use kingpost_model::{Route, StageName};

use super::filter::Filter;
use crate::{
    ending::{Stop, both},
    session::Session,
    terminal::counted,
};

/// The dead-letter queues that a filter is about, and how to reach them.
pub(crate) struct Places {
    /// Stage and scheme of each, in the order of schemes and, within one, of the flow.
    pub(crate) queues: Vec<(StageName, String)>,
    pub(crate) broker: BrokerConfig,
    /// How much of the journal is kept, where there is one.
    pub(crate) journal: Option<JournalKeep>,
}

/// What was read, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// How many letters were looked at, over all queues.
    pub(crate) looked: usize,
    /// How many queues were looked into.
    pub(crate) queues: usize,
    /// Queues that aren't there.
    missing: Vec<String>,
    /// Queues that hold more than was read: name, read, held.
    cut: Vec<(String, usize, usize)>,
    /// Queues that somebody else was reading, and how many of their letters are known to be out of sight.
    hidden: Vec<(String, usize)>,
}

impl Places {
    /// The queues of one scheme, or of all.
    pub(crate) fn of(session: &Session, filter: &Filter) -> Result<Self, Stop> {
        // One scheme's queues follow from its name, so they can be read while a scheme file is being mended.
        let names = match &filter.scheme {
            Some(name) => Ok(vec![name.clone()]),
            None => session
                .schemes()
                .map(|schemes| schemes.into_iter().map(|scheme| scheme.name).collect())
                .map_err(|stop| {
                    stop.hint("\ndead letters of one scheme can be reached all the same: add --scheme NAME")
                }),
        };
        let (names, settings): (Vec<String>, _) = both(names, session.settings())?;
        let stages = filter.stages();
        let queues =
            names.iter().flat_map(|name| stages.iter().map(|stage| (*stage, name.clone()))).collect();
        Ok(Places { queues, broker: session.broker(&settings), journal: Session::journal(&settings) })
    }

    /// Hands every letter that a filter means to `each`, queue by queue in its own order, looking at `limit` letters of
    /// each queue at most. Memory doesn't grow with the number of letters.
    pub(crate) async fn scan(
        &self,
        filter: &Filter,
        now_ms: i64,
        limit: usize,
        mut each: impl FnMut(Letter) -> ControlFlow<()>,
    ) -> Result<Reading, Stop> {
        let inspector = Inspector::open(&self.broker).await?;
        let mut reading = Reading { queues: self.queues.len(), ..Reading::default() };
        for (stage, scheme) in &self.queues {
            let queue = Route::new(*stage, &**scheme).dead_queue();
            let mut broken = false;
            let scanned = inspector
                .scan(&queue, limit, |letter| {
                    if !filter.matches(&letter, now_ms) {
                        return ControlFlow::Continue(());
                    }
                    let flow = each(letter);
                    broken = flow.is_break();
                    flow
                })
                .await?;
            reading.looked += scanned.read;
            if !scanned.there {
                reading.missing.push(queue);
            } else if scanned.readers > 0 || (scanned.read < scanned.held.min(limit) && !broken) {
                let unseen = if broken { 0 } else { scanned.held.min(limit).saturating_sub(scanned.read) };
                reading.hidden.push((queue, unseen));
            } else if scanned.read < scanned.held && !broken {
                reading.cut.push((queue, scanned.read, scanned.held));
            }
            if broken {
                break;
            }
        }
        inspector.close().await;
        Ok(reading)
    }
}

impl Reading {
    /// How many queues were there.
    pub(crate) fn there(&self) -> usize {
        self.queues - self.missing.len()
    }

    /// True when everything that was there was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.cut.is_empty() && self.hidden.is_empty()
    }

    /// True when somebody else may have had letters in hand, so that "none" would be no answer.
    pub(crate) fn is_hidden(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// What the answer leaves out, a line each.
    ///
    /// # Errors
    /// There is not one of the queues, so that no answer would be the wrong answer.
    pub(crate) fn notes(&self) -> Result<String, Stop> {
        const WHERE: &str = "no worker has declared it yet, or AMQP_URL names another virtual host";
        if self.missing.len() == self.queues {
            let queues = self.missing.join(", ");
            return Err(Stop::failed(format!("there is no dead-letter queue to read: {queues}; {WHERE}")));
        }
        let mut notes = String::new();
        for queue in &self.missing {
            notes.push_str(&format!("note: the queue {queue} is not there; {WHERE}\n"));
        }
        for (queue, read, held) in &self.cut {
            let read = counted(*read, "letter");
            notes.push_str(&format!("note: {read} of {held} in {queue} were read; --limit reads more\n"));
        }
        for (queue, unseen) in &self.hidden {
            let unseen = match unseen {
                0 => "letters".to_owned(),
                n => counted(*n, "letter"),
            };
            notes.push_str(&format!(
                "note: somebody else is reading {queue}; {unseen} may be out of sight until they have done\n"
            ));
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_are_not_there_are_never_taken_for_empty_ones() {
        let mut reading = Reading { queues: 2, missing: vec!["load.a.dead".into()], ..Reading::default() };
        assert!(reading.notes().is_ok_and(|notes| notes.contains("load.a.dead is not there")));
        assert_eq!(reading.there(), 1);
        reading.missing.push("load.b.dead".into());
        let Err(stop) = reading.notes() else { panic!("nothing was read") };
        assert_eq!(stop.exit.code(), 1);
        assert!(stop.text.contains("load.a.dead, load.b.dead"), "{}", stop.text);
    }

    #[test]
    fn letters_in_the_hands_of_others_are_never_taken_for_none() {
        let hidden = vec![("load.a.dead".to_owned(), 3), ("load.b.dead".to_owned(), 0)];
        let reading = Reading { queues: 2, hidden, ..Reading::default() };
        let Ok(notes) = reading.notes() else { panic!("both are there") };
        assert!(notes.contains("reading load.a.dead; 3 letters may be out of sight"), "{notes}");
        assert!(notes.contains("reading load.b.dead; letters may be"), "{notes}");
        assert!(!reading.is_whole() && reading.is_hidden());
    }

    #[test]
    fn a_listing_that_is_cut_says_so() {
        let cut = vec![("load.a.dead".to_owned(), 10, 25)];
        let reading = Reading { queues: 1, cut, ..Reading::default() };
        assert!(reading.notes().is_ok_and(|notes| notes.contains("10 letters of 25 in load.a.dead")));
        assert!(!reading.is_whole());
    }
}
