//! Reading dead letters without taking them.

use kingpost_broker::DeadLetter;
use kingpost_model::{Route, StageName};

use crate::{
    ending::{Stop, both},
    session::Session,
    terminal::counted,
};

/// What was read, and what was not.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// In the order of the queues, and within one in its own.
    pub(super) letters: Vec<DeadLetter>,
    /// How many queues were looked into.
    pub(super) queues: usize,
    /// Queues that aren't there.
    pub(super) missing: Vec<String>,
    /// Queues that hold more than was read: name, read, held.
    pub(super) cut: Vec<(String, usize, u32)>,
}

/// Reads up to `limit` letters of each dead-letter queue of one scheme, or of all.
pub(super) async fn read(
    session: &Session,
    scheme: Option<&str>,
    stages: &[StageName],
    limit: u32,
) -> Result<Reading, Stop> {
    // One scheme's queues follow from its name, so they can be read while a scheme file is being mended.
    let names = match scheme {
        Some(name) => Ok(vec![name.to_owned()]),
        None => {
            session.schemes().map(|schemes| schemes.into_iter().map(|scheme| scheme.name).collect()).map_err(
                |stop| stop.hint("\ndead letters of one scheme can be read all the same: add --scheme NAME"),
            )
        }
    };
    let (names, settings) = both(names, session.settings())?;
    let inspector = session.inspector(settings).await?;
    let mut reading = Reading::default();
    for name in &names {
        for stage in stages {
            let queue = Route::new(*stage, name).dead_queue();
            reading.queues += 1;
            let Some(depth) = inspector.depth(&queue).await? else {
                reading.missing.push(queue);
                continue;
            };
            let letters = inspector.browse(&queue, limit as usize).await?;
            if depth.ready as usize > letters.len() {
                reading.cut.push((queue, letters.len(), depth.ready));
            }
            reading.letters.extend(letters);
        }
    }
    inspector.close().await;
    Ok(reading)
}

impl Reading {
    /// What the answer leaves out, a line each.
    ///
    /// # Errors
    /// There is not one of the queues, so that no answer would be the wrong answer.
    pub(super) fn notes(&self) -> Result<String, Stop> {
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
            notes.push_str(&format!(
                "note: {read} of {held} in {queue} were read; --limit reads more, and letters that somebody else is \
                 reading are out of sight\n"
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
        reading.missing.push("load.b.dead".into());
        let Err(stop) = reading.notes() else { panic!("nothing was read") };
        assert_eq!(stop.exit.code(), 1);
        assert!(stop.text.contains("load.a.dead, load.b.dead"), "{}", stop.text);
    }

    #[test]
    fn a_listing_that_is_cut_says_so() {
        let cut = vec![("load.a.dead".to_owned(), 10, 25)];
        let reading = Reading { queues: 1, cut, ..Reading::default() };
        assert!(reading.notes().is_ok_and(|notes| notes.contains("10 letters of 25 in load.a.dead")));
    }
}
