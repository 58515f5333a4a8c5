//! The command line: one module per command, each with its arguments and what it does.

mod audit;
mod backfill;
mod check;
mod cursor;
pub(crate) mod dead;
mod doctor;
mod failures;
mod health;
mod reconcile;
mod settings;
mod status;
mod topology;
mod trace;

use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use kingpost_model::StageName;
use kingpost_settings::{Exit, Program};

use crate::{
    ending::{Report, Stop},
    session::Session,
};

/// Look into a Kingpost pipeline and act on what waits in it
#[derive(Debug, Parser)]
#[command(name = "kingpost", version, arg_required_else_help = true, max_term_width = 100, after_help = after_help())]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Audit(audit::Audit),
    Backfill(backfill::Backfill),
    Check(check::Check),
    #[command(subcommand)]
    Cursor(cursor::Cursor),
    #[command(subcommand)]
    Dead(dead::Dead),
    Doctor(doctor::Doctor),
    Failures(failures::Failures),
    Health(health::Health),
    Reconcile(Box<reconcile::Reconcile>),
    Settings(settings::Settings),
    Status(status::Status),
    #[command(subcommand)]
    Topology(topology::Topology),
    Trace(trace::Trace),
}

impl CommandLine {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match self.command {
            Command::Audit(command) => Box::pin(command.run(session)).await,
            Command::Backfill(command) => Box::pin(command.run(session)).await,
            Command::Check(command) => command.run(session),
            Command::Cursor(command) => Box::pin(command.run(session)).await,
            Command::Dead(command) => Box::pin(command.run(session)).await,
            Command::Doctor(command) => Box::pin(command.run(session)).await,
            Command::Failures(command) => Ok(command.run()),
            Command::Health(command) => Box::pin(command.run(session)).await,
            Command::Reconcile(command) => Box::pin(command.run(session)).await,
            Command::Settings(command) => Ok(command.run()),
            Command::Status(command) => Box::pin(command.run(session)).await,
            Command::Topology(command) => Box::pin(command.run(session)).await,
            Command::Trace(command) => Box::pin(command.run(session)).await,
        }
    }
}

fn after_help() -> String {
    let codes = Exit::ALL.map(|exit| format!("  {:>2}  {}\n", exit.code(), exit.meaning())).concat();
    format!(
        "Settings come from the environment alone; `kingpost settings` lists them.\n\nExit codes:\n{codes}"
    )
}

/// One of the programs, by its word.
fn program() -> impl TypedValueParser<Value = Program> {
    PossibleValuesParser::new(Program::ALL.map(Program::as_str)).try_map(|word| {
        Program::ALL.into_iter().find(|program| program.as_str() == word).ok_or("not the name of a program")
    })
}

/// One of the stages, by its word.
fn stage() -> impl TypedValueParser<Value = StageName> {
    PossibleValuesParser::new(StageName::ALL.map(StageName::as_str))
        .try_map(|word| StageName::parse(&word).ok_or("not the name of a stage"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
