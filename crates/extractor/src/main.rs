//! Reads windows of the source and publishes its documents.
#![forbid(unsafe_code)]

use kingpost_settings::Program;

fn main() -> std::process::ExitCode {
    kingpost_worker::run(Program::Extractor, kingpost_extractor::plan)
}
