use clap::Args;
use kingpost_model::failure_table;

use crate::ending::Report;

/// Print the failure policy: each kind of failure, whose fault it is, what happens, what to do
#[derive(Debug, Args)]
#[command(after_help = "The table is Markdown, and the one in docs/runbooks/failures.md.")]
pub(crate) struct Failures {}

impl Failures {
    pub(crate) fn run(self) -> Report {
        Report::done(failure_table())
    }
}
