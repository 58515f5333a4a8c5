mod list;
mod read;
mod show;

use clap::Subcommand;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look at the dead letters: what can't go on until a person has mended the cause
#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    List(list::List),
    Show(show::Show),
}

impl Dead {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Dead::List(command) => command.run(session).await,
            Dead::Show(command) => command.run(session).await,
        }
    }
}
