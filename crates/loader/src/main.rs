//! Posts models to the target.
#![forbid(unsafe_code)]

use kingpost_settings::Program;

fn main() -> std::process::ExitCode {
    kingpost_worker::run(Program::Loader, kingpost_loader::plan)
}
