mod act;
mod list;
mod start;

use clap::{Args, Subcommand};

use crate::{
    ending::{Report, Stop},
    session::Session,
};

const AFTER_HELP: &str = "\
Examples:
  kingpost backfill --scheme purchase-stockin --from 2026-10-01 --to 2026-11-01 --reason 'books of October'
  kingpost backfill list --watch
  kingpost backfill pause 20261128-093000-3f9a1c

A period is cut into windows behind the live ones: while a live window waits, or the transformer and the loaders have
enough to do, none is added. Every document of it is looked up in the target before anything is posted, so what is there
already is recognised and nothing is posted twice.";

/// Read a period of the source again, behind the live documents
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub(crate) struct Backfill {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: start::Start,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cancel(act::Cancel),
    List(list::List),
    /// Cut no more of a period for now
    Pause(act::Act),
    Rate(act::Rate),
    /// Go on with a period
    Resume(act::Act),
}

impl Backfill {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        use kingpost_model::Act;
        match self.command {
            None => Box::pin(self.start.run(session)).await,
            Some(Command::List(command)) => Box::pin(command.run(session)).await,
            Some(Command::Pause(command)) => {
                Box::pin(command.run(session, "backfill pause", |period| Act::Pause { period })).await
            }
            Some(Command::Resume(command)) => {
                Box::pin(command.run(session, "backfill resume", |period| Act::Resume { period })).await
            }
            Some(Command::Cancel(command)) => Box::pin(command.run(session)).await,
            Some(Command::Rate(command)) => Box::pin(command.run(session)).await,
        }
    }
}
