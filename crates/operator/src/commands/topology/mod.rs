mod show;

use clap::Subcommand;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look at the queues and exchanges of the schemes
#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    Show(show::Show),
}

impl Topology {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Topology::Show(command) => command.run(session).await,
        }
    }
}
