use clap::Args;
use kingpost_settings::markdown_table;

use crate::ending::Report;

/// Print every setting: its variable, default, who reads it, what it means
#[derive(Debug, Args)]
#[command(
    after_help = "The table is Markdown, and the one in the README. It shows what can be set, never what is set;\n`kingpost check --settings PROGRAM` says what is missing or wrong."
)]
pub(crate) struct Settings {}

impl Settings {
    pub(crate) fn run(self) -> Report {
        Report::done(markdown_table())
    }
}
