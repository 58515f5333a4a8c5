use std::{ops::ControlFlow, path::PathBuf};

use clap::Args;
use kingpost_model::Route;
use serde_json::json;

use super::{file::Writer, filter::Filter, read::Places};
use crate::{
    act::{Action, Actor},
    ending::{Report, Stop},
    session::Session,
    terminal::counted,
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead export --out dead.ndjson
  kingpost dead export --kind malformed --out malformed.ndjson
  jq -r 'select(.number) | [.number, .kind, .text] | @tsv' dead.ndjson

Letters are read and put back; none is taken. The file has one JSON object per line: a head, a letter each with its
properties, headers and body as they are, and a last line with count and SHA-256, without which the file is not whole.
`kingpost dead import` publishes them again. It holds business data: only its owner may read it.";

/// Write dead letters to a file from which each can be put back byte for byte
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Export {
    /// Write to this file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object of what was done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let places = Places::of(session, &self.filter)?;
        let what = self.filter.describe();
        let mut writer = Writer::create(&self.out, session.now_ms, &self.actor.name(), &what)?;
        let mut trouble = None;
        let each = |letter| match writer.add(&letter) {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                trouble = Some(stop);
                ControlFlow::Break(())
            }
        };
        let read = Box::pin(places.scan(&self.filter, session.now_ms, usize::MAX, each)).await;
        let read = read.and_then(|reading| reading.notes());
        let notes = match (read, trouble) {
            (Ok(notes), None) => notes,
            (Err(stop), _) | (_, Some(stop)) => {
                let _ = std::fs::remove_file(&self.out);
                return Err(stop);
            }
        };
        let written = writer.finish()?;
        // Without an entry in the trail no letter leaves the broker's care.
        let action = Action::begin((&places.broker, None), &self.actor, "dead export", |event| {
            event.queues =
                places.queues.iter().map(|(stage, name)| Route::new(*stage, &**name).dead_queue()).collect();
            event.count = written.count as u64;
            event.digest = Some(written.sha256.clone());
            event.details = json!({"selected": what, "file": self.out.display().to_string()});
        })
        .await;
        let action = action.inspect_err(|_| {
            let _ = std::fs::remove_file(&self.out);
        })?;
        let ended = action.end([("exported".to_owned(), written.count as u64)].into()).await;
        if self.json {
            let file = written.path.display().to_string();
            let object = json!({"exported": written.count, "file": file, "sha256": written.sha256});
            return Ok(Report::done(format!("{object}\n")).with_notes(notes + &ended));
        }
        let count = counted(written.count, "dead letter");
        let out = format!("{count} in {}\nSHA-256 {}\n", written.path.display(), written.sha256);
        Ok(Report::done(out).with_notes(notes + &ended))
    }
}
