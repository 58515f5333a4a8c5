//! Every document in a file, and the sums with them.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use rust_decimal::Decimal;
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};
use serde_json::{Map, Value};

use super::record::{Field, NAMES, digits, record};
use crate::{
    clock,
    ending::Stop,
    reconcile::{Ended, Group, Request, Side, Sorted, Verdict},
};

/// Characters of a cell; Excel takes 32,767.
const CELL_MAX: usize = 30_000;
/// Rows of a sheet, the heading among them (Excel's limit).
const ROWS_MAX: u32 = 1_048_576;
/// Digits that a binary floating-point number of Excel's keeps whatever they are.
const EXCEL_DIGITS: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Csv,
    Xlsx,
    Json,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Kind::Csv),
        "xlsx" => Some(Kind::Xlsx),
        "json" | "ndjson" => Some(Kind::Json),
        _ => None,
    }
}

/// Finds a file that can't be written before anything is read.
pub(super) fn check(out: Option<&Path>) -> Result<(), Stop> {
    let Some(path) = out else { return Ok(()) };
    let shown = path.display();
    if kind(path).is_none() {
        return Err(Stop::usage(format!("{shown}: let the name end with .csv, .xlsx or .json")));
    }
    match folder(path).is_dir() {
        true => Ok(()),
        false => Err(Stop::usage(format!("{shown}: there is no such folder"))),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the file, which takes the place of one that was there once it is whole, and with `json` prints as well.
pub(super) fn write(
    out: Option<&Path>,
    json: bool,
    request: &Request,
    ended: &Ended,
    details: Sorted<Verdict>,
) -> Result<(), Stop> {
    let mut printed = json.then(|| BufWriter::new(io::stdout().lock()));
    let mut file = match out {
        Some(path) => Some(File::create(path, request, ended).map_err(|error| unwritten(path, &error))?),
        None => None,
    };
    let basis = ended.totals.basis;
    for verdict in details {
        let verdict =
            verdict.map_err(|error| Stop::failed(format!("what was sorted can't be read: {error}")))?;
        let record = record(&verdict, basis);
        if let Some(out) = &mut printed {
            // A reader that went away, such as `head`, is no failure.
            let _ = writeln!(out, "{}", object("document", &record));
        }
        if let (Some(file), Some(path)) = (&mut file, out) {
            file.row(&record).map_err(|error| unwritten(path, &error))?;
        }
    }
    if let Some(mut out) = printed {
        let _ = sums(request, ended).iter().try_for_each(|line| writeln!(out, "{line}"));
        let _ = out.flush();
    }
    if let (Some(file), Some(path)) = (file, out) {
        file.end(path, request, ended).map_err(|error| unwritten(path, &error))?;
    }
    Ok(())
}

fn unwritten(path: &Path, error: &io::Error) -> Stop {
    Stop::failed(format!("{} can't be written: {error}", path.display()))
}

type Temporary = tempfile::NamedTempFile;

enum File {
    Csv(Box<csv::Writer<BufWriter<Temporary>>>),
    Json(BufWriter<Temporary>),
    Xlsx(Box<Sheets>),
}

/// Rows are on disk as soon as the next one begins, so sheets are written one after the other.
struct Sheets {
    workbook: Workbook,
    row: u32,
}

fn spoilt(error: XlsxError) -> io::Error {
    io::Error::other(error.to_string())
}

impl File {
    fn create(path: &Path, request: &Request, ended: &Ended) -> io::Result<Self> {
        let temporary = || Ok::<_, io::Error>(BufWriter::new(Temporary::new_in(folder(path))?));
        Ok(match kind(path) {
            Some(Kind::Xlsx) => {
                let mut workbook = Workbook::new();
                let sheet = workbook.add_worksheet_with_constant_memory().map_err(spoilt)?;
                summary_sheet(sheet, request, ended).map_err(spoilt)?;
                let sheet = workbook.add_worksheet_with_constant_memory().map_err(spoilt)?;
                sheet.set_name("documents").map_err(spoilt)?;
                heading(sheet, &NAMES).map_err(spoilt)?;
                File::Xlsx(Box::new(Sheets { workbook, row: 1 }))
            }
            Some(Kind::Json) => File::Json(temporary()?),
            Some(Kind::Csv) | None => {
                let mut out = temporary()?;
                // Without the mark Excel takes UTF-8 for the code page of the machine.
                out.write_all("\u{feff}".as_bytes())?;
                let mut writer = csv::WriterBuilder::new()
                    .terminator(csv::Terminator::CRLF)
                    .flexible(true)
                    .from_writer(out);
                writer.write_record(NAMES)?;
                File::Csv(Box::new(writer))
            }
        })
    }

    fn row(&mut self, record: &[Field]) -> io::Result<()> {
        match self {
            File::Csv(writer) => Ok(writer.write_record(record.iter().map(csv_text))?),
            File::Json(out) => writeln!(out, "{}", object("document", record)),
            File::Xlsx(sheets) => {
                if sheets.row >= ROWS_MAX {
                    return Err(io::Error::other(
                        "a sheet holds a million rows; write .csv, or a shorter period",
                    ));
                }
                let row = sheets.row;
                let sheet = sheets.workbook.worksheet_from_name("documents").map_err(spoilt)?;
                for (column, field) in (0_u16..).zip(record) {
                    cell(sheet, row, column, field).map_err(spoilt)?;
                }
                sheets.row += 1;
                Ok(())
            }
        }
    }

    /// Adds the sums and puts the file in its place.
    fn end(self, path: &Path, request: &Request, ended: &Ended) -> io::Result<()> {
        let temporary = match self {
            File::Csv(mut writer) => {
                for row in summary(request, ended) {
                    writer.write_record(row.iter().map(csv_text))?;
                }
                writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?
            }
            File::Json(mut out) => {
                for line in sums(request, ended) {
                    writeln!(out, "{line}")?;
                }
                out
            }
            File::Xlsx(mut sheets) => {
                let mut temporary = Temporary::new_in(folder(path))?;
                sheets.workbook.save_to_writer(&mut temporary).map_err(spoilt)?;
                BufWriter::new(temporary)
            }
        };
        let temporary = temporary.into_inner().map_err(io::IntoInnerError::into_error)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        Ok(())
    }
}

/// A field as text of a CSV file. What a spreadsheet would take for a formula gets an apostrophe in front.
fn csv_text(field: &Field) -> String {
    match field {
        Field::Number(number) => number.map(digits).unwrap_or_default(),
        Field::Count(count) => count.map(|count| count.to_string()).unwrap_or_default(),
        Field::Text(text) => {
            let text = crate::terminal::plain(text);
            if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text }
        }
    }
}

fn heading(sheet: &mut Worksheet, names: &[&str]) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold();
    for (column, name) in (0_u16..).zip(names) {
        sheet.write_string_with_format(0, column, *name, &bold)?;
    }
    Ok(())
}

/// Text is written as text, which is never a formula. A number is written as one where Excel's binary floating point keeps
/// every digit of it, and as text where it would change one.
fn cell(sheet: &mut Worksheet, row: u32, column: u16, field: &Field) -> Result<(), XlsxError> {
    match field {
        Field::Number(None) | Field::Count(None) => {}
        Field::Number(Some(number)) => match exact(*number) {
            Some(float) => drop(sheet.write_number(row, column, float)?),
            None => drop(sheet.write_string(row, column, digits(*number))?),
        },
        Field::Count(Some(count)) => match exact(Decimal::from(*count)) {
            Some(float) => drop(sheet.write_number(row, column, float)?),
            None => drop(sheet.write_string(row, column, count.to_string())?),
        },
        Field::Text(text) if text.is_empty() => {}
        Field::Text(text) => {
            let text: String = text.chars().take(CELL_MAX).collect();
            sheet.write_string(row, column, text)?;
        }
    }
    Ok(())
}

/// A number as Excel keeps it, if it keeps it whole.
fn exact(number: Decimal) -> Option<f64> {
    let text = digits(number);
    let kept = text.bytes().filter(u8::is_ascii_digit).count() <= EXCEL_DIGITS;
    let float: f64 = text.parse().ok()?;
    (kept && float.to_string() == text).then_some(float)
}

const SUMS: [&str; 9] = [
    "what",
    "name",
    "count",
    "documents_source",
    "documents_kingdee",
    "quantity_source",
    "quantity_kingdee",
    "amount_source",
    "amount_kingdee",
];

/// A sum in the order of [`SUMS`].
fn sum(what: &str, name: &str, count: u64, group: &Group) -> [Field; SUMS.len()] {
    let whole = |count: u64| Field::Count(usize::try_from(count).ok());
    let Group { ours, theirs, .. } = group;
    [
        Field::Text(what.to_owned()),
        Field::Text(name.to_owned()),
        whole(count),
        whole(ours.documents),
        whole(theirs.documents),
        Field::Number(Some(ours.quantity)),
        Field::Number(Some(theirs.quantity)),
        Field::Number(Some(ours.amount)),
        Field::Number(Some(theirs.amount)),
    ]
}

/// What stands before the sums: what was compared.
fn about(request: &Request, ended: &Ended) -> [(&'static str, String); 7] {
    [
        ("scheme", request.scheme.name.clone()),
        ("from", request.rules.days.from.to_string()),
        ("to (not included)", request.rules.days.to.to_string()),
        ("read", clock::beijing(request.now_ms)),
        ("amounts", ended.totals.basis.as_str().to_owned()),
        ("grouped by", request.by.as_str().to_owned()),
        ("the books agree", if super::agrees(ended) { "yes" } else { "no" }.to_owned()),
    ]
}

fn sum_rows(ended: &Ended) -> Vec<[Field; SUMS.len()]> {
    let totals = &ended.totals;
    let mut rows: Vec<_> = totals
        .findings
        .iter()
        .map(|(finding, (count, group))| sum("result", finding.as_str(), *count, group))
        .collect();
    let prefixes = totals.prefixes.iter().map(|((finding, prefix), side)| {
        let group = Group { theirs: *side, ours: Side::default(), differing: 0 };
        sum(&format!("{} by beginning", finding.as_str()), prefix, side.documents, &group)
    });
    rows.extend(prefixes);
    let groups = totals.groups.iter();
    rows.extend(groups.map(|(name, group)| sum(totals.by.as_str(), name, group.differing, group)));
    rows.push(sum("all", "", totals.all.differing, &totals.all));
    rows
}

/// The sums as rows behind the documents, after an empty one.
fn summary(request: &Request, ended: &Ended) -> Vec<Vec<Field>> {
    let text = |text: &str| Field::Text(text.to_owned());
    let mut rows = vec![vec![text("")]];
    rows.extend(about(request, ended).iter().map(|(name, value)| vec![text(name), text(value)]));
    rows.push(SUMS.map(text).to_vec());
    rows.extend(sum_rows(ended).into_iter().map(Vec::from));
    rows
}

fn summary_sheet(sheet: &mut Worksheet, request: &Request, ended: &Ended) -> Result<(), XlsxError> {
    sheet.set_name("summary")?;
    for (row, fields) in (0_u32..).zip(summary(request, ended).iter().skip(1)) {
        for (column, field) in (0_u16..).zip(fields) {
            cell(sheet, row, column, field)?;
        }
    }
    Ok(())
}

/// A record as a JSON object; numbers are text, so that whatever reads it keeps their digits.
fn object(of: &str, record: &[Field]) -> Value {
    named(of, &NAMES, record)
}

fn named(of: &str, names: &[&str], record: &[Field]) -> Value {
    let mut members = Map::new();
    members.insert("type".to_owned(), of.into());
    for (name, field) in names.iter().zip(record) {
        let value = match field {
            Field::Text(text) if text.is_empty() => continue,
            Field::Text(text) => Value::from(text.as_str()),
            Field::Number(None) | Field::Count(None) => continue,
            Field::Number(Some(number)) => Value::from(digits(*number)),
            Field::Count(Some(count)) => Value::from(*count),
        };
        members.insert((*name).to_owned(), value);
    }
    Value::Object(members)
}

/// The sums as JSON, a line each, and the whole at the end.
fn sums(request: &Request, ended: &Ended) -> Vec<Value> {
    let mut lines: Vec<Value> = sum_rows(ended).iter().map(|row| named("sum", &SUMS, row)).collect();
    let results: Map<String, Value> =
        super::counts(ended).map(|(finding, count)| (finding.as_str().to_owned(), count.into())).collect();
    lines.push(serde_json::json!({
        "type": "summary",
        "scheme": request.scheme.name,
        "from": request.rules.days.from.to_string(),
        "to": request.rules.days.to.to_string(),
        "read": clock::rfc3339(request.now_ms),
        "agrees": super::agrees(ended),
        "results": results,
        "amounts": ended.totals.basis.as_str(),
        "orders_read": ended.read.0,
        "documents_read": ended.read.1,
        "on_their_way": ended.explained.moving(),
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::from_str_exact(text).unwrap()
    }

    #[test]
    fn a_number_goes_to_excel_as_a_number_only_where_every_digit_is_kept() {
        for (text, kept) in [
            ("0", true),
            ("-12.34", true),
            ("0.1", true),
            ("100", true),
            ("123456789012345", true),
            ("12345678901.2345", true),
            ("1234567890123456", false),
            ("0.12345678901234567890", false),
            ("9007199254740993", false),
        ] {
            assert_eq!(exact(decimal(text)).is_some(), kept, "{text}");
        }
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        let text = |text: &str| csv_text(&Field::Text(text.to_owned()));
        assert_eq!(text("=1+1"), "'=1+1");
        assert_eq!(text("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(text("-RK1"), "'-RK1");
        assert_eq!(text("RK1=2"), "RK1=2");
        assert_eq!(csv_text(&Field::Number(Some(decimal("-1.50")))), "-1.5", "a number is none");
    }

    #[test]
    fn the_kind_of_a_file_is_told_by_its_ending() {
        assert!(check(Some(Path::new("a.XLSX"))).is_ok());
        assert!(check(Some(Path::new("a.txt"))).is_err());
        assert!(check(Some(Path::new("no-such-folder/a.csv"))).is_err());
    }
}
