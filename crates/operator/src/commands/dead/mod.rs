mod discard;
mod edit;
mod export;
mod file;
mod filter;
mod import;
mod list;
mod place;
mod plan;
mod read;
mod replay;
mod results;
mod revision;
mod show;
pub(super) mod source;

use clap::Subcommand;

pub(super) use self::filter::some;
pub(super) use self::{
    filter::Filter,
    list::{Group, Groups},
    read::Places,
};
pub(crate) use source::version_id;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look at the dead letters, which wait until a person has mended the cause, and act on them
#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    Discard(discard::Discard),
    Edit(edit::Edit),
    Export(export::Export),
    Import(import::Import),
    List(list::List),
    Plan(plan::PlanLetters),
    Replay(Box<replay::Replay>),
    Show(show::Show),
}

impl Dead {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Dead::Discard(command) => command.run(session).await,
            Dead::Edit(command) => command.run(session).await,
            Dead::Export(command) => command.run(session).await,
            Dead::Import(command) => command.run(session).await,
            Dead::List(command) => command.run(session).await,
            Dead::Plan(command) => command.run(session).await,
            Dead::Replay(command) => command.run(session).await,
            Dead::Show(command) => command.run(session).await,
        }
    }
}
