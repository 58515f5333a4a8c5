mod export;
mod list;

use clap::Subcommand;
use kingpost_broker::{AuditEvent, AuditTrail};

use crate::{
    clock,
    ending::{Report, Stop},
    session::Session,
};

/// Read the audit trail: who did what to which messages, when and why
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Export(export::Export),
    List(list::List),
}

impl Audit {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Audit::Export(command) => command.run(session).await,
            Audit::List(command) => command.run(session).await,
        }
    }
}

/// Hands every event since a time to `each`, the oldest first.
async fn read(session: &Session, since: Option<&str>, each: impl FnMut(AuditEvent)) -> Result<(), Stop> {
    let since_ms = match since {
        Some(text) => {
            clock::point(text, session.now_ms).map_err(|text| Stop::usage(format!("--since: {text}")))?
        }
        None => i64::MIN,
    };
    let trail = AuditTrail::open(&session.broker(&session.settings()?)).await?;
    trail.read(since_ms, each).await?;
    trail.close().await;
    Ok(())
}
