use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use clap::Args;
use kingpost_broker::{AuditLetter, Custody, Letter, Parcel};
use kingpost_model::{JournalStep, StageName, Work};

use super::file::{self, Line, Reader};
use crate::{
    act::{Action, Actor, Scribe, now_ms},
    ending::{Report, Stop},
    session::Session,
    terminal::counted,
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead import dead.ndjson --reason 'discarded by mistake'

The whole file is checked before anything is published: every hash, the count, and that the dead-letter queues are
there. A letter that lies in its queue already is left out, as often as it lies there, so that an import which broke off
can be run again. Body and headers come back as they were exported; the letters are dead letters as before, and nothing is posted by this.";

/// Letters that are published before their confirms are awaited.
const GROUP: usize = 256;
/// Bytes of their bodies.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Put exported dead letters back into their queues
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Import {
    /// A file that `kingpost dead export` or `discard` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print one JSON object of what was done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
}

impl Import {
    /// What was done, for people or for a script.
    fn told(&self, imported: usize, left_out: usize) -> String {
        let (count, left) = (counted(imported, "dead letter"), counted(left_out, "letter"));
        if self.json {
            let file = self.file.display().to_string();
            let object = serde_json::json!({"imported": imported, "there_already": left_out, "file": file});
            return format!("{object}\n");
        }
        match (imported, left_out) {
            (0, _) => format!("nothing to import: {left} of the file, all in their queues already\n"),
            (_, 0) => format!("{count} imported\n"),
            _ => format!("{count} imported\n{left} in their queues already, left out\n"),
        }
    }

    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let checked = file::check(&self.file)?;
        let settings = session.settings()?;
        let broker = session.broker(&settings);
        let mut custodies = BTreeMap::new();
        for Line { queue, .. } in &checked.letters {
            if custodies.contains_key(queue) {
                continue;
            }
            let Some((stage, scheme)) = place_of(queue) else {
                return Err(Stop::failed(format!(
                    "`{queue}` is no dead-letter queue of a stage and a scheme"
                )));
            };
            custodies.insert(queue.clone(), Custody::take(&broker, stage, scheme).await?);
        }
        let mut there = present(&custodies).await?;
        let mut left = there.clone();
        let fresh = checked.letters.iter().filter(|line| !take(&mut left, &line.fingerprint));
        let named: Vec<AuditLetter> = fresh.map(|line| line.named.clone()).collect();
        let left_out = checked.letters.len() - named.len();
        if named.is_empty() {
            return Ok(Report::done(self.told(0, left_out)));
        }
        let action =
            Action::begin((&broker, Session::journal(&settings)), &self.actor, "dead import", |event| {
                event.reason.clone_from(&self.reason);
                event.queues = custodies.keys().cloned().collect();
                event.count = named.len() as u64;
                event.digest = Some(checked.sha256.clone());
                event.details = serde_json::json!({"file": self.file.display().to_string()});
                event.letters = named;
            })
            .await?;
        let published =
            publish((&self.file, &checked.sha256), &custodies, &mut there, &action.scribe()).await;
        let (count, end) = match &published {
            Ok(count) => (*count, "imported"),
            Err((count, _)) => (*count, "imported before it broke off"),
        };
        let outcomes = [(end, count), ("there already", left_out)];
        let outcomes = outcomes.map(|(name, count)| (name.to_owned(), count as u64));
        let notes = action.end(outcomes.into_iter().filter(|(_, count)| *count > 0).collect()).await;
        for custody in custodies.into_values() {
            custody.release().await;
        }
        match published {
            Ok(count) => Ok(Report::done(self.told(count, left_out)).with_notes(notes)),
            Err((count, stop)) => {
                let count = counted(count, "letter");
                Err(stop.hint(&format!("{count} imported; run it again for the rest\n{notes}")))
            }
        }
    }
}

/// How many letters of each fingerprint lie in their queues: several may be alike, since windows overlap and what died
/// twice is twice there.
type There = HashMap<String, usize>;

async fn present(custodies: &BTreeMap<String, Custody>) -> Result<There, Stop> {
    let mut there = There::new();
    for (queue, custody) in custodies {
        let readers = custody.readers().await?;
        let mut round = custody.round().await?;
        while let Some(held) = round.next().await? {
            *there.entry(held.letter.fingerprint()).or_default() += 1;
        }
        let hidden = readers > 0 || round.seen() < round.mark();
        round.close().await?;
        if hidden {
            return Err(Stop::failed(format!(
                "somebody else is reading {queue}, so that what lies there already can't be told; nothing was published. \
                 Try again when they have done"
            )));
        }
    }
    Ok(there)
}

/// Whether one of a fingerprint is left; it is taken then.
fn take(there: &mut There, fingerprint: &str) -> bool {
    there.get_mut(fingerprint).filter(|count| **count > 0).map(|count| *count -= 1).is_some()
}

/// Publishes every letter of a file that isn't there yet; how many, also when it breaks off.
async fn publish(
    (path, sha256): (&Path, &str),
    custodies: &BTreeMap<String, Custody>,
    there: &mut There,
    scribe: &Scribe,
) -> Result<usize, (usize, Stop)> {
    let mut reader = Reader::open(path).map_err(|stop| (0, stop))?;
    let (mut count, mut group, mut bytes) = (0, Vec::new(), 0);
    loop {
        let next = reader.next().map_err(|stop| (count, stop))?;
        let ended = next.is_none();
        if let Some(letter) = next.filter(|letter| !take(there, &letter.fingerprint())) {
            bytes += letter.work.body.len();
            group.push(letter);
        }
        if ended || group.len() >= GROUP || bytes >= GROUP_BYTES {
            count += together(std::mem::take(&mut group), custodies, scribe)
                .await
                .map_err(|(n, stop)| (count + n, stop))?;
            bytes = 0;
        }
        if ended {
            break;
        }
    }
    if reader.sha256() != sha256 {
        return Err((count, Stop::failed(format!("{} was changed while it was read", path.display()))));
    }
    Ok(count)
}

/// Publishes letters, each under the custody of its queue; how many were taken.
async fn together(
    letters: Vec<Letter>,
    custodies: &BTreeMap<String, Custody>,
    scribe: &Scribe,
) -> Result<usize, (usize, Stop)> {
    let mut count = 0;
    let mut by_queue: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    for letter in letters {
        by_queue.entry(letter.queue.clone()).or_default().push(letter);
    }
    for (queue, letters) in by_queue {
        let Some(custody) = custodies.get(&queue) else {
            return Err((
                count,
                Stop::failed(format!("the file was changed while it was read: `{queue}` is new")),
            ));
        };
        let works: Vec<Work> = letters.iter().map(|letter| letter.work.clone()).collect();
        let parcels = letters.into_iter().map(Parcel::from).collect();
        let at_ms = now_ms();
        let fates = custody.publish(parcels).await.map_err(|error| (count, error.into()))?;
        let taken = works.iter().zip(&fates).filter(|(_, fate)| fate.is_none());
        taken.for_each(|(work, _)| scribe.write(work, JournalStep::Imported, at_ms));
        count += fates.iter().filter(|fate| fate.is_none()).count();
        if let Some(refusal) = fates.into_iter().flatten().next() {
            return Err((count, Stop::failed(refusal)));
        }
    }
    Ok(count)
}

/// Stage and scheme of a dead-letter queue.
fn place_of(queue: &str) -> Option<(StageName, &str)> {
    let (stage, scheme) = queue.strip_suffix(".dead")?.split_once('.')?;
    Some((StageName::parse(stage)?, scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_queue_tells_stage_and_scheme() {
        assert_eq!(place_of("load.purchase-stockin.dead"), Some((StageName::Load, "purchase-stockin")));
        for other in ["load.purchase-stockin", "post.s.dead", "dead", "load.dead"] {
            assert_eq!(place_of(other), None, "{other}");
        }
    }
}
