mod apply;
mod show;

use clap::Subcommand;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look at the queues and exchanges of the schemes, or declare them
#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    Apply(apply::Apply),
    Show(show::Show),
}

impl Topology {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Topology::Apply(command) => command.run(session).await,
            Topology::Show(command) => command.run(session).await,
        }
    }
}
