use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::Args;
use kingpost_settings::Exit;

use crate::{
    ending::{Report, Stop},
    session::Session,
    terminal::counted,
};

const AFTER_HELP: &str = "\
Examples:
  kingpost audit export --out audit-2026.ndjson
  kingpost audit export --since 30d | gzip > audit.ndjson.gz

Reading takes nothing out of the trail. An action has an event when it begins and one when it ends, with a common
`action`; an action on many letters names them in several events, `part` 1 of n and so on.";

/// Write the audit trail as one JSON object per event and line
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Export {
    /// Only from then on: a time such as 2026-11-23T08:00:00+08:00 or 2026-11-23, or an age such as 90m, 12h or 7d
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Write to this file, which must not exist yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let (mut lines, mut count) = (String::new(), 0);
        super::read(session, self.since.as_deref(), |event| {
            if let Ok(line) = serde_json::to_string(&event) {
                count += 1;
                lines.push_str(&line);
                lines.push('\n');
            }
        })
        .await?;
        let Some(path) = self.out else { return Ok(Report::done(lines)) };
        let write = || -> std::io::Result<()> {
            // It names orders and holds edited documents: only its owner may read it.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| Stop::failed(format!("{} can't be written: {error}", path.display())))?;
        let notes = format!("{} written to {}\n", counted(count, "event"), path.display());
        Ok(Report { out: String::new(), notes, exit: Exit::Done })
    }
}
