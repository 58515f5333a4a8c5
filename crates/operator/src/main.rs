//! `kingpost`, the operator's command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    kingpost_operator::run()
}
