//! The page that says which test stands for which promise names only tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `fn` that stands below `#[test]` or `#[tokio::test]` in the sources below a directory.
fn tests_below(dir: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            tests_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            for after in text.split("test]\n").chain(text.split("test(")).skip(1) {
                let name = after.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
                found.extend(name.map(|name| name.trim().to_owned()));
            }
        }
    }
    Ok(())
}

/// The cells of a line of the page that begins with the number of a fault.
fn row(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.trim_end().strip_suffix('|')?;
    let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
    number(&cells).map(|_| cells)
}

/// The number of a fault; a star marks those that tell an honest system from a lucky one.
fn number(row: &[&str]) -> Option<u32> {
    row.first()?.trim_end_matches(" ★").parse().ok()
}

fn rows(page: &str) -> Vec<Vec<&str>> {
    page.lines().filter_map(row).collect()
}

/// Names in backticks that look like tests.
fn named(cell: &str) -> Vec<&str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('_') && !name.contains([' ', '/', '.', ':'])).collect()
}

#[test]
fn every_row_of_the_fault_matrix_has_a_test_that_exists_or_a_reason() -> Result<()> {
    let page =
        std::fs::read_to_string(root().join("docs/fault-matrix.md")).context("docs/fault-matrix.md")?;
    let mut tests = BTreeSet::new();
    tests_below(&root().join("tests"), &mut tests)?;
    tests_below(&root().join("crates"), &mut tests)?;
    let rows = rows(&page);
    let numbers: BTreeSet<u32> = rows.iter().filter_map(|row| number(row)).collect();
    let missing: Vec<u32> = (1..=56).filter(|number| !numbers.contains(number)).collect();
    ensure!(missing.is_empty(), "docs/fault-matrix.md has no row for {missing:?}");
    for row in &rows {
        let last = row.last().copied().unwrap_or_default();
        ensure!(!last.is_empty(), "row {} of docs/fault-matrix.md has neither a test nor a reason", row[0]);
        let names = named(last);
        let says = |name: &&str| name.starts_with("when_") && name.contains("_then_");
        ensure!(
            names.is_empty() || names.iter().any(says),
            "row {} of docs/fault-matrix.md names no test called when_…_then_…",
            row[0]
        );
        for name in names {
            ensure!(
                tests.contains(name),
                "row {} of docs/fault-matrix.md names the test {name}, which isn't there",
                row[0]
            );
        }
    }
    Ok(())
}

#[test]
fn every_test_of_this_target_stands_in_the_fault_matrix() -> Result<()> {
    let page =
        std::fs::read_to_string(root().join("docs/fault-matrix.md")).context("docs/fault-matrix.md")?;
    let mut tests = BTreeSet::new();
    tests_below(&root().join("tests/tests/faults"), &mut tests)?;
    let named: BTreeSet<&str> =
        rows(&page).iter().flat_map(|row| named(row.last().copied().unwrap_or_default())).collect();
    let unnamed: Vec<&String> =
        tests.iter().filter(|name| name.starts_with("when_") && !named.contains(name.as_str())).collect();
    ensure!(unnamed.is_empty(), "docs/fault-matrix.md does not name {unnamed:#?}");
    Ok(())
}
