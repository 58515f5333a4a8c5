#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod act;
mod clock;
mod commands;
mod doctor;
mod ending;
mod json;
mod management;
mod reconcile;
mod replay;
mod schedule;
mod sealed;
mod session;
mod terminal;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    commands::CommandLine,
    ending::{Report, Stop},
    session::Session,
};

/// Runs the command line of this process: parses it, does what it says, prints, and returns its exit code. What was
/// asked for goes to standard output; what is wrong, and what should be known besides, to standard error.
pub fn run() -> ExitCode {
    let command_line = CommandLine::parse();
    let session = Session::of_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let report = match runtime {
        Ok(runtime) => runtime.block_on(command_line.run(&session)),
        Err(error) => Err(Stop::bug(format!("the runtime can't be started: {error}"))),
    };
    report.unwrap_or_else(Report::from).print()
}
