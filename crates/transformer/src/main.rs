//! Maps documents of the source to models of the target.
#![forbid(unsafe_code)]

use kingpost_settings::Program;

fn main() -> std::process::ExitCode {
    kingpost_worker::run(Program::Transformer, kingpost_transformer::plan)
}
