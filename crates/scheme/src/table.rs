//! Look-up tables: CSV files beside the schemes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};
use kingpost_mapping::spec::{Position, Table};

use crate::document::{checked_name, is_name};
use crate::problem::{Findings, Problem};
use crate::section::{entries, text};
use crate::yaml::Tree;

/// The key of the row that answers for every key without a row of its own.
const ANY: &str = "*";

/// Reads `tables`; the files stand relative to the scheme file. False when a table's columns are not known.
pub(crate) fn read(tree: &Tree, scheme: &Path, findings: &mut Findings) -> (BTreeMap<String, Table>, bool) {
    let mut tables = BTreeMap::new();
    let mut whole = true;
    for entry in entries(tree, "tables", findings).unwrap_or_default() {
        let named = checked_name(entry, "table", findings);
        let Some(written) = text(&entry.value, &format!("tables.{}", entry.key), findings) else {
            whole = false;
            continue;
        };
        let Some(file) = beside(scheme, &written, "table", entry.value.at, findings) else {
            whole = false;
            continue;
        };
        match fs::read(&file) {
            Ok(bytes) => {
                let (table, problems) = parse(&file, &bytes);
                findings.absorb(problems);
                match table {
                    Some(table) if named => drop(tables.insert(entry.key.clone(), table)),
                    _ => whole = false,
                }
            }
            Err(error) => {
                let what = format!("the table {} can't be read: {error}", file.display());
                findings.note(entry.value.at, what, "write the path of a CSV file, relative to this file");
                whole = false;
            }
        }
    }
    (tables, whole)
}

/// The path of a file that a scheme names, if it lies beside the scheme or below.
pub(crate) fn beside(
    scheme: &Path,
    written: &str,
    noun: &str,
    at: Position,
    findings: &mut Findings,
) -> Option<PathBuf> {
    let path = Path::new(written);
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Some(scheme.parent().unwrap_or(Path::new("")).join(path));
    }
    let what = format!("`{written}` leads out of the folder of the schemes");
    findings.note(at, what, format!("put the {noun} beside the scheme and write its relative path"));
    None
}

/// Reads a CSV file: a header row, the key in the first column, every key once.
fn parse(file: &Path, bytes: &[u8]) -> (Option<Table>, Vec<Problem>) {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let Ok(content) = std::str::from_utf8(bytes) else {
        let remedy = "save it as “CSV UTF-8”; a spreadsheet's plain CSV may be in GBK";
        return (None, vec![Problem::of_file(file, "the table is not in UTF-8", remedy)]);
    };
    let mut findings = Findings::new(file, content);
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(content.as_bytes());
    let mut rows = reader.records();
    let head = match rows.next() {
        Some(Ok(head)) => head,
        _ => StringRecord::new(),
    };
    if !good_head(&head, &mut findings) {
        return (None, findings.into_list());
    }
    let mut table = Table { columns: head.iter().skip(1).map(str::to_owned).collect(), ..Table::default() };
    let mut lines: HashMap<String, u64> = HashMap::new();
    for row in rows {
        match row {
            Ok(row) => read_row(&row, &head, &mut table, &mut lines, &mut findings),
            Err(error) => {
                findings.note(at(error.position()), format!("not a row of CSV: {error}"), "mend the row");
            }
        }
    }
    (Some(table), findings.into_list())
}

fn good_head(head: &StringRecord, findings: &mut Findings) -> bool {
    let first = Position { line: 1, column: 1 };
    if head.len() < 2 {
        let remedy =
            "write the names of the columns in the first row, the key's first: warehouse_no,org,stock";
        findings.note(first, "the table has no answer column", remedy);
        return false;
    }
    let mut good = true;
    for (index, name) in head.iter().enumerate() {
        if !is_name(name) {
            let what = format!("column {} is called `{name}`", index + 1);
            findings.note(first, what, "name it with letters, digits and `_`, beginning with a letter");
            good = false;
        } else if head.iter().take(index).any(|other| other == name) {
            findings.note(first, format!("two columns are called `{name}`"), "rename one");
            good = false;
        }
    }
    good
}

fn read_row(
    row: &StringRecord,
    head: &StringRecord,
    table: &mut Table,
    lines: &mut HashMap<String, u64>,
    findings: &mut Findings,
) {
    let place = findings.first_written(at(row.position()));
    if row.len() != head.len() {
        let what = format!("{} values in a table of {} columns", row.len(), head.len());
        findings.note(place, what, "write one value per column; quote a value that holds a comma");
        return;
    }
    let key = row.get(0).unwrap_or_default();
    if key.is_empty() {
        findings.note(place, "the row has no key", "write the key in the first column, or remove the row");
        return;
    }
    let line = u64::from(place.line);
    if let Some(first) = lines.insert(key.to_owned(), line) {
        findings.note(place, format!("key `{key}` is given twice, first on line {first}"), "keep one row");
        return;
    }
    let answers: Vec<String> = row.iter().skip(1).map(str::to_owned).collect();
    if key == ANY {
        table.fallback = Some(answers);
    } else {
        table.rows.insert(key.to_owned(), answers);
    }
}

/// The place of a record in its file.
pub(crate) fn at(position: Option<&csv::Position>) -> Position {
    let line = position.map_or(0, csv::Position::line);
    Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 }
}
