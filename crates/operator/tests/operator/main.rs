//! The `kingpost` command from outside: its help, its output and its exit codes, without a broker.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod case;
mod check;
mod health;
mod help;
mod reach;
mod users;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What one run left behind.
#[derive(Debug)]
struct Run {
    exit: Option<i32>,
    out: String,
    notes: String,
}

/// Runs the command from the repository's root with these variables and no others.
fn kingpost(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kingpost"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(root())
        .stdin(Stdio::null());
    finished(command.output())
}

fn finished(output: std::io::Result<Output>) -> Run {
    match output {
        Ok(output) => Run {
            exit: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            notes: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(error) => panic!("kingpost can't be run: {error}"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An order of the shipped scheme's case folder.
fn order(case: &str) -> String {
    format!("schemes/purchase-stockin/cases/{case}/input.json")
}

/// Asserts that every part is in a text.
#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
