use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use clap::Args;
use kingpost_broker::{AuditLetter, Custody, CustodyError, Held, Identity, Round};
use kingpost_model::{JournalStep, Route, Work};
use serde_json::json;

use super::{
    file::{Writer, Written},
    filter::{Filter, some},
    list::{Group, Groups},
    read::Places,
};
use crate::{
    act::{Action, Actor, Scribe, audited, new_id, now_ms},
    ending::{Report, Stop},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead discard RK2407190003 --reason 'entered by hand, KD-1042'
  kingpost dead discard --kind malformed --older-than 30d --reason 'test messages' --yes

What is discarded is first written to a file on disk, from which `kingpost dead import` puts it back. Nothing but the
letters in that file leaves its queue, whatever arrives meanwhile.";

/// Letters that are taken out together.
const GROUP: usize = 256;

/// Take dead letters out for good, after they were exported to a file
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Discard {
    /// The document's number in the target or in the source, or the id of the message
    #[arg(value_name = "NUMBER", value_parser = some)]
    numbers: Vec<String>,
    /// All letters of the scheme and stage that are given, or of all
    #[arg(long)]
    all: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Where to export them to [default: kingpost-discarded-TIME.ndjson in this directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Don't ask whether the count is right
    #[arg(long)]
    yes: bool,
    /// Print one JSON object of what was done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
    #[command(flatten)]
    filter: Filter,
}

/// What was done, for a script.
fn object(path: &Path, sha256: &str, gone: usize, count: usize) -> String {
    let file = path.display().to_string();
    let object = json!({"discarded": gone, "not_found": count - gone, "file": file, "sha256": sha256});
    format!("{object}\n")
}

/// The same for people.
fn told(kept: &str, gone: usize, count: usize) -> String {
    let mut out = format!("{} discarded\n{kept}\n", counted(gone, "dead letter"));
    if gone < count {
        out.push_str(&format!(
            "{} not found again: taken meanwhile, or in the hands of somebody who reads the queue\n",
            counted(count - gone, "letter")
        ));
    }
    out
}

/// What is to go: how often each identity was exported, by queue.
type Wanted = BTreeMap<String, HashMap<Identity, usize>>;

impl Discard {
    pub(super) async fn run(mut self, session: &Session) -> Result<Report, Stop> {
        self.filter.keys.append(&mut self.numbers);
        if self.filter.is_wide() && !self.all {
            return Err(Stop::usage(
                "say which letters are to go, such as a number or --cause, or --all for all of them",
            ));
        }
        if self.reason.trim().is_empty() {
            return Err(Stop::usage("--reason: say why, for whoever asks later"));
        }
        let places = Places::of(session, &self.filter)?;
        let (custodies, mut notes) = custodies(&places).await?;
        let id = new_id(session.now_ms, "dead discard");
        let path = self.out.clone().unwrap_or_else(|| format!("kingpost-discarded-{id}.ndjson").into());
        // What was there before under this name may be the only copy of other letters: from here on the file is ours.
        let writer = Writer::create(&path, session.now_ms, &self.actor.name(), &self.filter.describe())?;
        let mut chosen = match self.choose(session, &custodies, writer).await {
            Ok(chosen) => chosen,
            Err(stop) => {
                let _ = std::fs::remove_file(&path);
                return Err(stop);
            }
        };
        let count = chosen.written.count;
        eprint!("{}", plain(&chosen.summary()));
        if !self.yes {
            let question = format!("type {count} to discard {}: ", counted(count, "dead letter"));
            let answer = terminal::ask(&question);
            if answer.as_deref() != Some(&*count.to_string()) {
                let _ = std::fs::remove_file(&path);
                return Err(match answer {
                    None => Stop::usage("nothing was discarded: nobody can be asked here; add --yes"),
                    Some(_) => Stop::failed("nothing was discarded"),
                });
            }
        }
        let letters = std::mem::take(&mut chosen.letters);
        let action = Action::begin((&places.broker, places.journal), &self.actor, "dead discard", |event| {
            event.reason.clone_from(&self.reason);
            event.queues = chosen.wanted.keys().cloned().collect();
            event.count = count as u64;
            event.letters = letters;
            event.digest = Some(chosen.written.sha256.clone());
            event.details = json!({"selected": self.filter.describe(), "file": path.display().to_string()});
        })
        .await?;
        let (gone, trouble) = remove(&custodies, &mut chosen.wanted, &action.scribe()).await;
        let outcomes = [("discarded", gone), ("no longer there", count - gone)];
        let outcomes = outcomes.map(|(name, count)| (name.to_owned(), count as u64));
        notes.push_str(&chosen.notes);
        notes.push_str(&action.end(outcomes.into_iter().filter(|(_, count)| *count > 0).collect()).await);
        for custody in custodies {
            custody.release().await;
        }
        let kept = format!("the letters are in {}; kingpost dead import puts them back", path.display());
        if let Some(stop) = trouble {
            return Err(stop.hint(&format!("{} discarded; {kept}\n{notes}", counted(gone, "letter"))));
        }
        let out = match self.json {
            true => object(&path, &chosen.written.sha256, gone, count),
            false => told(&kept, gone, count),
        };
        Ok(Report::done(out).with_notes(notes))
    }

    /// Exports what the filter means and notes what was exported.
    async fn choose(
        &self,
        session: &Session,
        custodies: &[Custody],
        mut writer: Writer,
    ) -> Result<Chosen, Stop> {
        let (mut groups, mut letters, mut looked) = (Groups::default(), Vec::new(), 0);
        let (mut wanted, mut notes) = (Wanted::new(), String::new());
        for custody in custodies {
            let readers = custody.readers().await?;
            let mut round = custody.round().await?;
            while let Some(held) = round.next().await? {
                looked += 1;
                if self.filter.matches(&held.letter, session.now_ms) {
                    writer.add(&held.letter)?;
                    groups.add(&held.letter);
                    letters.push(audited(&held.letter));
                    let queue = wanted.entry(custody.queue()).or_default();
                    *queue.entry(held.letter.identity()).or_insert(0) += 1;
                }
            }
            if readers > 0 || round.seen() < round.mark() {
                notes.push_str(&format!(
                    "note: somebody else is reading {}; letters in their hands are neither exported nor discarded\n",
                    custody.queue()
                ));
            }
            round.close().await?;
        }
        if letters.is_empty() {
            let text = format!(
                "{notes}none of {} is meant by {}",
                counted(looked, "dead letter"),
                self.filter.describe()
            );
            return Err(Stop::failed(text));
        }
        let written = writer.finish()?;
        Ok(Chosen { written, wanted, letters, groups: groups.finish(session.now_ms), notes })
    }
}

/// Letters that are on disk and may go.
struct Chosen {
    written: Written,
    wanted: Wanted,
    letters: Vec<AuditLetter>,
    groups: Vec<Group>,
    /// What was out of sight.
    notes: String,
}

impl Chosen {
    fn summary(&self) -> String {
        let group = |group: &Group| {
            let Group { count, scheme, stage, kind, cause, example, .. } = group;
            format!("{count:>6} × {scheme} {stage} {kind}: {cause} (e.g. {example})\n")
        };
        let groups: String = self.groups.iter().take(20).map(group).collect();
        format!("{groups}exported to {}\n", self.written.path.display())
    }
}

/// The right to act on each queue that is there, and a note on each that isn't.
async fn custodies(places: &Places) -> Result<(Vec<Custody>, String), Stop> {
    let (mut custodies, mut missing) = (Vec::new(), Vec::new());
    for (stage, scheme) in &places.queues {
        match Custody::take(&places.broker, *stage, scheme).await {
            Ok(custody) => custodies.push(custody),
            Err(CustodyError::Missing(_)) => missing.push(Route::new(*stage, &**scheme).dead_queue()),
            Err(error) => return Err(error.into()),
        }
    }
    let notes: String =
        missing.iter().map(|queue| format!("note: the queue {queue} is not there\n")).collect();
    match custodies.is_empty() {
        true => Err(Stop::failed(format!("there is no dead-letter queue to act on: {}", missing.join(", ")))),
        false => Ok((custodies, notes)),
    }
}

/// Takes out exactly what was exported; how many, and what went wrong on the way.
async fn remove(custodies: &[Custody], wanted: &mut Wanted, scribe: &Scribe) -> (usize, Option<Stop>) {
    let mut gone = 0;
    for custody in custodies {
        if let Some(left) = wanted.get_mut(&custody.queue())
            && let Err(error) = remove_from(custody, left, &mut gone, scribe).await
        {
            return (gone, Some(error.into()));
        }
    }
    (gone, None)
}

async fn remove_from(
    custody: &Custody,
    left: &mut HashMap<Identity, usize>,
    gone: &mut usize,
    scribe: &Scribe,
) -> Result<(), CustodyError> {
    let mut round = custody.round().await?;
    let mut group = Vec::new();
    while let Some(held) = round.next().await? {
        if let Some(count) = left.get_mut(&held.letter.identity()).filter(|count| **count > 0) {
            *count -= 1;
            group.push(held);
        }
        if group.len() >= GROUP {
            *gone += drop_group(&mut round, std::mem::take(&mut group), scribe).await?;
        }
    }
    *gone += drop_group(&mut round, group, scribe).await?;
    round.close().await
}

/// Takes a group out; how many.
async fn drop_group(round: &mut Round<'_>, group: Vec<Held>, scribe: &Scribe) -> Result<usize, CustodyError> {
    let works: Vec<Work> = group.iter().map(|held| held.letter.work.clone()).collect();
    let at_ms = now_ms();
    round.remove(group).await?;
    works.iter().for_each(|work| scribe.write(work, JournalStep::Discarded, at_ms));
    Ok(works.len())
}
