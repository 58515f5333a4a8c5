//! The manual says what is so: its schemes load, its functions are the language's.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kingpost_mapping::functions;
use kingpost_scheme::load_dir;

use crate::golden;

fn manual() -> (PathBuf, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemes.md");
    let text = fs::read_to_string(&file).expect("the manual");
    (file, text)
}

#[test]
fn the_scheme_of_the_manual_loads() {
    let (_, manual) = manual();
    let begin = manual.find("```yaml\n").expect("a scheme") + "```yaml\n".len();
    let scheme = &manual[begin..begin + manual[begin..].find("```").expect("its end")];
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("returns-out.yaml"), scheme).expect("the scheme");
    let schemes = load_dir(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(schemes[0].account.as_deref(), Some("north"));
}

#[test]
fn the_manual_lists_every_function() {
    let mut table = String::from("| function | what it does | example | gives |\n|---|---|---|---|\n");
    for function in functions::all() {
        let example = function.examples.iter().find(|example| example.gives.is_ok()).expect("an example");
        let row = [
            format!("`{}`", function.signature),
            function.doc.to_owned(),
            format!("`{}` with `{}`", example.expression, example.document),
            format!("`{}`", example.gives.expect("a value")),
        ];
        writeln!(table, "| {} |", row.map(|cell| cell.replace('|', "\\|")).join(" | ")).expect("a row");
    }
    let (file, manual) = manual();
    let (before, rest) = manual.split_once("<!-- functions -->\n").expect("a place for the table");
    let (_, after) = rest.split_once("<!-- /functions -->").expect("its end");
    let wanted = format!("{before}<!-- functions -->\n{table}<!-- /functions -->{after}");
    golden(&file, Some(&wanted)).unwrap_or_else(|difference| panic!("{difference}"));
}

/// A slip of the hand anywhere in the shipped scheme ends in a scheme or in problems, each with a remedy.
#[test]
fn no_line_that_is_lost_or_cut_goes_unexplained() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes");
    let text = fs::read_to_string(shipped.join("purchase-stockin.yaml")).expect("the shipped scheme");
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("tables")).expect("a folder of tables");
    for table in ["tables/stock.csv", "tables/supplier.csv"] {
        fs::copy(shipped.join(table), folder.path().join(table)).expect("a table");
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut refused = 0;
    for (index, line) in lines.iter().enumerate() {
        let half = line.char_indices().nth(line.chars().count() / 2).map_or(0, |(at, _)| at);
        let lost = [&lines[..index], &lines[index + 1..]].concat();
        let cut = [&lines[..index], &[&line[..half]], &lines[index + 1..]].concat();
        for changed in [lost, cut, lines[..index].to_vec()] {
            fs::write(folder.path().join("purchase-stockin.yaml"), changed.join("\n")).expect("the scheme");
            if let Err(problems) = load_dir(folder.path()) {
                refused += 1;
                assert!(!problems.is_empty(), "line {}", index + 1);
                for problem in problems.iter() {
                    assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem}");
                }
            }
        }
    }
    assert!(refused > lines.len(), "{refused} of {} changes were refused", 3 * lines.len());
}
