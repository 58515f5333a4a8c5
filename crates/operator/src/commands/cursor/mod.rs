mod set;
mod show;

use clap::Subcommand;

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// See or move the point up to which a scheme's source has been cut into windows
#[derive(Debug, Subcommand)]
pub(crate) enum Cursor {
    Set(set::Set),
    Show(show::Show),
}

impl Cursor {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self {
            Cursor::Set(command) => Box::pin(command.run(session)).await,
            Cursor::Show(command) => command.run(session).await,
        }
    }
}
