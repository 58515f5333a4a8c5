//! Deliberate bugs and the tests that must notice them: the list names what is there.

use std::collections::BTreeSet;

use super::workspace::{Text, Violation};

/// The list, which `scripts/seeded-bugs.sh` goes by.
pub(crate) const LIST: &str = "tests/seeded-bugs.txt";
/// Where the bugs are named in code.
pub(crate) const CODE: &str = "crates/settings/src/bug.rs";
pub(crate) const SCRIPT: &str = "scripts/seeded-bugs.sh";

/// The names of all tests in the packages that the script runs.
fn tests(script: &Text, sources: &[Text]) -> BTreeSet<String> {
    let packages = script.text.lines().find_map(|line| line.strip_prefix("packages=(")).unwrap_or_default();
    let directories: Vec<String> = packages
        .trim_end_matches(')')
        .split_whitespace()
        .filter(|word| *word != "-p")
        .map(|package| match package.strip_prefix("kingpost-") {
            Some(name) => format!("crates/{name}/"),
            None => "tests/".to_owned(),
        })
        .collect();
    let ours = sources.iter().filter(|file| directories.iter().any(|dir| file.path.starts_with(dir)));
    let lines = ours.flat_map(|file| file.text.lines());
    lines.filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next().map(str::to_owned)).collect()
}

pub(crate) fn wrong(list: &Text, code: &Text, script: &Text, sources: &[Text]) -> Vec<Violation> {
    let (known, mut found) = (tests(script, sources), Vec::new());
    let mut bugs = Vec::new();
    for (number, line) in list.text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(bug), Some(test), None) = (words.next(), words.next(), words.next()) else {
            found.push(Violation::new(LIST, number + 1, "a row is a bug and a test"));
            continue;
        };
        bugs.push(bug.to_owned());
        if !known.contains(test) {
            let text = format!("no package that {SCRIPT} runs has a test {test}");
            found.push(Violation::new(LIST, number + 1, text));
        }
    }
    let coded: Vec<String> = code
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("    \"")?.strip_suffix("\",").map(str::to_owned))
        .collect();
    if coded != bugs {
        found.push(Violation::new(LIST, 1, format!("lists {bugs:?}, and {CODE} {coded:?}")));
    }
    found
}
