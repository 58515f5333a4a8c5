//! The `source` of a scheme.

use std::time::Duration;

use jiff::Timestamp;
use kingpost_mapping::spec::{Position, Shape};

use crate::document;
use crate::nearest::{nearest, suggestion};
use crate::problem::Findings;
use crate::scheme::{RemedySpec, SourceSpec, SourceSystem, WindowSpec};
use crate::section::{Section, duration, entries, shown, text, whole, word};
use crate::wdt::Method;
use crate::yaml::{Tree, Value};

/// What the rest of the scheme needs of its source.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// None when something in it is wrong.
    pub(crate) spec: Option<SourceSpec>,
    pub(crate) shape: Option<Shape>,
    /// False when something in the declared shape is wrong.
    pub(crate) shape_whole: bool,
    pub(crate) notes: Vec<String>,
}

const WINDOW_KEYS: [&str; 6] = ["start", "width", "lag", "overlap", "every", "remedy"];
const KEYS: [&str; 8] = ["system", "method", "params", "cancelled", "key", "page_size", "document", "window"];
const METHOD: &str = "method: wdt.wms.stockin.purchase.querywithdetail";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(crate) fn read(tree: &Tree, findings: &mut Findings) -> Source {
    let mut source = Source::default();
    let Some(section) = Section::open(tree, "source", &KEYS, findings) else { return source };
    let system = section.need("system", "system: wdt", findings);
    let system = system.and_then(|tree| word(tree, "source.system", &[("wdt", SourceSystem::Wdt)], findings));
    let method = section.need("method", METHOD, findings).and_then(|tree| method(tree, findings));
    let known = method.as_ref().map(|(_, known)| *known);
    let params = section.or("params", Vec::new(), findings, |tree, _, findings| {
        params(tree, known, &mut source.notes, findings)
    });
    let cancelled = section.or("cancelled", Vec::new(), findings, |tree, name, findings| {
        cancelled(tree, name, known, params.as_deref(), findings)
    });
    let key = section.need("key", "key: order_no", findings);
    let key = key.and_then(|tree| Some((tree.at, text(tree, "source.key", findings)?)));
    let page_size =
        section.or("page_size", 50, findings, |tree, name, findings| whole(tree, name, 1..=200, findings));
    let before = findings.len();
    source.shape = section.get("document").map(|tree| document::read(tree, findings));
    source.shape_whole = findings.len() == before;
    if let Some((at, key)) = &key {
        check_key(*at, key, known, source.shape.as_ref(), findings);
    }
    let window = section
        .need("window", "window: { start: 2026-01-01T00:00:00+08:00, width: 1h }", findings)
        .and_then(|tree| window(tree, known, findings));
    source.spec = (|| {
        let (method, _) = method?;
        let (_, key) = key?;
        Some(SourceSpec {
            system: system?,
            method,
            params: params?,
            key,
            page_size: page_size?,
            cancelled: cancelled?,
            window: window?,
        })
    })();
    source
}

fn method(tree: &Tree, findings: &mut Findings) -> Option<(String, &'static Method)> {
    let written = text(tree, "source.method", findings)?;
    if let Some(known) = Method::find(&written) {
        return Some((written, known));
    }
    let names = Method::names(written.to_ascii_lowercase().contains("wdt."));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    findings.note(
        tree.at,
        format!("`{written}` is no query method known here"),
        suggestion(&written, &names),
    );
    None
}

fn params(
    tree: &Tree,
    method: Option<&Method>,
    notes: &mut Vec<String>,
    findings: &mut Findings,
) -> Option<Vec<(String, String)>> {
    let mut params = Vec::new();
    for entry in entries(tree, "source.params", findings)? {
        let name = entry.key.as_str();
        if matches!(name, "start_time" | "end_time") {
            let remedy = format!("remove `{name}`; set `source.window` instead");
            findings.note(
                entry.at,
                format!("`{name}` is the window's, not a criterion of the scheme"),
                remedy,
            );
            continue;
        }
        let known = method.map_or(&[][..], |method| method.criteria);
        if !known.is_empty() && !known.contains(&name) {
            findings.note(entry.at, format!("unknown criterion `{name}`"), suggestion(name, known));
            continue;
        }
        // An empty text leaves the criterion out, so that a scheme can show all of them.
        if matches!(&entry.value.value, Value::Scalar(scalar) if scalar.text.is_empty() && !scalar.is_missing())
        {
            continue;
        }
        let Some(value) = text(&entry.value, &format!("source.params.{name}"), findings) else { continue };
        if name == "status" {
            check_status(entry.value.at, &value, method, notes, findings);
        }
        params.push((entry.key.clone(), value));
    }
    Some(params)
}

fn check_status(
    at: Position,
    value: &str,
    method: Option<&Method>,
    notes: &mut Vec<String>,
    findings: &mut Findings,
) {
    let Some(codes) = method.map(|method| method.statuses).filter(|codes| !codes.is_empty()) else { return };
    check_codes(at, value, codes, findings);
    if value != "80" {
        notes.push(format!(
            "source.params.status is {value}: documents that are not completed (80) can still change after they were posted"
        ));
    }
}

fn check_codes(at: Position, value: &str, known: &[&str], findings: &mut Findings) {
    for code in value.split(',').filter(|code| !known.contains(code)) {
        let remedy = format!("write codes of {} with commas between them and no blanks", known.join(", "));
        findings.note(at, format!("`{code}` is no status of this document"), remedy);
    }
}

/// The statuses of cancelled documents. One that is posted can't be cancelled as well.
fn cancelled(
    tree: &Tree,
    name: &str,
    method: Option<&Method>,
    params: Option<&[(String, String)]>,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    let value = text(tree, name, findings)?;
    let before = findings.len();
    let known = method.map_or(&[][..], |method| method.statuses);
    if !known.is_empty() {
        check_codes(tree.at, &value, known, findings);
    } else if value.split(',').any(|code| code.is_empty() || code.trim() != code) {
        let what = format!("`{name}` is `{value}`, which has a blank or a missing code in it");
        findings.note(tree.at, what, "write status codes with commas between them and no blanks");
    }
    let posted = params.unwrap_or_default().iter().find(|(param, _)| param == "status");
    for code in posted.iter().flat_map(|(_, posted)| posted.split(',')) {
        if value.split(',').any(|cancelled| cancelled == code) {
            let what = format!("`{code}` is a status of documents that are posted, and of cancelled ones");
            findings.note(tree.at, what, "keep it in `source.params.status` or in `source.cancelled`");
        }
    }
    (findings.len() == before).then(|| value.split(',').map(str::to_owned).collect())
}

fn check_key(
    at: Position,
    key: &str,
    method: Option<&Method>,
    shape: Option<&Shape>,
    findings: &mut Findings,
) {
    if let Some(method) = method.filter(|method| method.key != key) {
        let remedy = format!("write `key: {}`", method.key);
        findings.note(at, format!("documents of this method are identified by `{}`", method.key), remedy);
    } else if let Some(shape) = shape.filter(|shape| !shape.header.contains_key(key)) {
        undeclared(at, key, shape, findings);
    }
}

/// A name that should be a header field of the declared document, and isn't.
pub(crate) fn undeclared(at: Position, name: &str, shape: &Shape, findings: &mut Findings) {
    let known: Vec<&str> = shape.header.keys().map(String::as_str).collect();
    let remedy = match nearest(name, &known) {
        Some(found) => format!("did you mean `{found}`?"),
        None => format!("declare it under `source.document.header`: {name}: text"),
    };
    findings.note(at, format!("`{name}` is no header field of the declared document"), remedy);
}

fn window(tree: &Tree, method: Option<&Method>, findings: &mut Findings) -> Option<WindowSpec> {
    let section = Section::open(tree, "source.window", &WINDOW_KEYS, findings)?;
    let example = "start: 2026-01-01T00:00:00+08:00";
    let start = section.need("start", example, findings).and_then(|tree| timestamp(tree, findings));
    let widest = method.map_or(MONTH, |method| method.widest);
    let mut length = |key: &str, seconds: u64, limits| {
        section.or(key, Duration::from_secs(seconds), findings, |tree, name, findings| {
            whole_seconds(tree, name, limits, findings)
        })
    };
    let width = length("width", if widest > DAY { 3600 } else { 1800 }, SECOND..=widest);
    let lag = length("lag", 300, SECOND..=DAY);
    let overlap = length("overlap", 60, Duration::ZERO..=DAY);
    let every = length("every", 60, SECOND..=DAY);
    if let (Some(width), Some(overlap)) = (width, overlap) {
        let at = section.get("overlap").or(section.get("width")).map_or(tree.at, |tree| tree.at);
        check_overlap(at, (width, overlap), widest, findings);
    }
    let remedy = section.or("remedy", None, findings, |tree, _, findings| remedy(tree, findings).map(Some));
    Some(WindowSpec {
        start: start?,
        width: width?,
        lag: lag?,
        overlap: overlap?,
        every: every?,
        remedy: remedy?,
    })
}

/// `{ every: 1d, from: 2d, to: 1d }`, all three of which are needed.
fn remedy(tree: &Tree, findings: &mut Findings) -> Option<RemedySpec> {
    const EXAMPLE: &str = "remedy: { every: 1d, from: 2d, to: 1d }";
    let section = Section::open(tree, "source.window.remedy", &["every", "from", "to"], findings)?;
    let mut length = |key: &str, limits| {
        let tree = section.need(key, EXAMPLE, findings)?;
        whole_seconds(tree, &format!("source.window.remedy.{key}"), limits, findings)
    };
    let every = length("every", MINUTE..=MONTH);
    let from = length("from", MINUTE..=YEAR);
    let to = length("to", Duration::ZERO..=YEAR);
    let (from, to) = (from?, to?);
    if from <= to {
        let what = format!(
            "`from` ({}) is not older than `to` ({}): there is nothing between",
            shown(from),
            shown(to)
        );
        findings.note(tree.at, what, format!("write both as ages, the greater one first, as in {EXAMPLE}"));
        return None;
    }
    Some(RemedySpec { every: every?, from, to })
}

fn check_overlap(
    at: Position,
    (width, overlap): (Duration, Duration),
    widest: Duration,
    findings: &mut Findings,
) {
    if overlap >= width {
        let what = format!("the overlap {} is not shorter than the width {}", shown(overlap), shown(width));
        findings.note(at, what, "shorten `overlap`, or widen `width`");
    } else if width + overlap > widest {
        let what = format!(
            "width {} and overlap {} together exceed {}, the widest range the method answers",
            shown(width),
            shown(overlap),
            shown(widest)
        );
        findings.note(at, what, format!("write a `width` of at most {}", shown(widest - overlap)));
    }
}

fn whole_seconds(
    tree: &Tree,
    name: &str,
    limits: std::ops::RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let found = duration(tree, name, limits, findings)?;
    if found.subsec_nanos() == 0 {
        return Some(found);
    }
    let what = format!("`{name}` is {}, and the source counts in seconds", shown(found));
    findings.note(tree.at, what, "write whole seconds");
    None
}

fn timestamp(tree: &Tree, findings: &mut Findings) -> Option<Timestamp> {
    let written = text(tree, "source.window.start", findings)?;
    let found: Option<Timestamp> = written.parse().ok();
    if found.is_none() {
        let what = format!("`source.window.start` is `{written}`, not a time with its offset from UTC");
        findings.note(tree.at, what, "write it as 2026-01-01T00:00:00+08:00");
    }
    found
}
