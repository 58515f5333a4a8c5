mod apply;
mod show;
mod users;

use clap::Subcommand;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look at the queues and exchanges of the schemes, declare them, or print the users they need
#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    Apply(apply::Apply),
    Show(show::Show),
    Users(users::Users),
}

impl Topology {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Topology::Apply(command) => command.run(session).await,
            Topology::Show(command) => command.run(session).await,
            Topology::Users(command) => command.run(),
        }
    }
}
