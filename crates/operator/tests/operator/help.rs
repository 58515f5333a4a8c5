use std::path::{Path, PathBuf};

use kingpost_model::{FailureKind, failure_table};
use kingpost_settings::{Exit, markdown_table};

use super::{holds, kingpost};

/// Every command, as it is typed.
const COMMANDS: [&[&str]; 34] = [
    &[],
    &["audit"],
    &["audit", "export"],
    &["audit", "list"],
    &["backfill"],
    &["backfill", "cancel"],
    &["backfill", "list"],
    &["backfill", "pause"],
    &["backfill", "rate"],
    &["backfill", "resume"],
    &["check"],
    &["cursor"],
    &["cursor", "set"],
    &["cursor", "show"],
    &["dead"],
    &["dead", "discard"],
    &["dead", "edit"],
    &["dead", "export"],
    &["dead", "import"],
    &["dead", "list"],
    &["dead", "plan"],
    &["dead", "replay"],
    &["dead", "show"],
    &["doctor"],
    &["failures"],
    &["health"],
    &["reconcile"],
    &["settings"],
    &["status"],
    &["topology"],
    &["topology", "apply"],
    &["topology", "show"],
    &["topology", "users"],
    &["trace"],
];

fn golden(command: &[&str]) -> PathBuf {
    let name = if command.is_empty() { "kingpost".to_owned() } else { command.join("-") };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/help/{name}.txt"))
}

#[test]
fn every_command_has_the_help_that_was_agreed() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    for command in COMMANDS {
        let run = kingpost(&[command, &["--help"]].concat(), &[]);
        assert_eq!(run.exit, Some(0), "{command:?}: {}", run.notes);
        let path = golden(command);
        if update {
            std::fs::write(&path, &run.out).unwrap();
        }
        let agreed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(run.out, agreed, "{command:?}; `UPDATE=1 cargo test -p kingpost-operator` writes it anew");
    }
}

#[test]
fn no_command_is_without_golden_help() {
    let mut found: Vec<String> = Vec::new();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = waiting.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = kingpost(&arguments, &[]).out;
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        for line in listed.lines().take_while(|line| line.starts_with("  ")) {
            let name = line.split_whitespace().next().unwrap_or_default();
            if name != "help" {
                waiting.push(command.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
        found.push(command.join(" "));
    }
    found.sort();
    assert_eq!(found, COMMANDS.map(|command| command.join(" ")));
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let help = kingpost(&["--help"], &[]).out;
    for exit in Exit::ALL {
        holds(&help, &[&format!("{:>2}  {}\n", exit.code(), exit.meaning())]);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for wrong in [
        &["dead", "list", "--stage", "post"][..],
        &["check", "--settings", "sandbox"],
        &["check", "--scheme", "purchase-stockin"],
        &["dead", "show"],
        &["dead", "list", "--limit", "0"],
        &["no-such-command"],
    ] {
        let run = kingpost(wrong, &[]);
        assert_eq!((run.exit, run.out.as_str()), (Some(2), ""), "{wrong:?}");
    }
}

#[test]
fn the_tables_are_those_that_the_programs_go_by() {
    let failures = kingpost(&["failures"], &[]);
    assert_eq!((failures.exit, failures.out.as_str()), (Some(0), failure_table().as_str()));
    holds(&failures.out, &[FailureKind::Conflict.advice()]);
    let settings = kingpost(&["settings"], &[("KINGDEE_APP_SECRET", "marker-7f3a")]);
    assert_eq!((settings.exit, settings.out.as_str()), (Some(0), markdown_table().as_str()));
}
