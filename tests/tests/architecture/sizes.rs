//! How long things may be.

use super::facts::facts;
use super::workspace::{Text, Violation};

const FILE: usize = 600;
const FUNCTION: usize = 70;
const MAIN: usize = 30;

pub(crate) fn long_file(source: &Text) -> Option<Violation> {
    let lines = source.text.lines().count();
    let text = format!("{lines} lines; split it, a file has {FILE} at most");
    (lines > FILE).then(|| Violation::new(&source.path, lines, text))
}

pub(crate) fn long_functions(source: &Text) -> Vec<Violation> {
    let functions = facts(&source.path, &source.text).functions.into_iter();
    functions
        .filter(|function| function.lines > FUNCTION)
        .map(|function| {
            let text =
                format!("fn {} has {} lines; split it, {FUNCTION} at most", function.name, function.lines);
            Violation::new(&source.path, function.line, text)
        })
        .collect()
}

pub(crate) fn long_main(source: &Text) -> Option<Violation> {
    let lines = source.text.lines().count();
    let text = format!("{lines} lines; a main parses, builds, runs and maps the error, in {MAIN} at most");
    (source.path.ends_with("src/main.rs") && lines > MAIN).then(|| Violation::new(&source.path, lines, text))
}
