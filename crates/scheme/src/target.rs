//! The `target` of a scheme.

use std::path::Path;
use std::time::Duration;

use kingpost_mapping::spec::{Position, Shape, Text};

use crate::document::is_name;
use crate::kingdee;
use crate::problem::Findings;
use crate::scheme::{BatchSpec, Finish, OnChange, TargetSpec, TargetSystem};
use crate::section::{Section, duration, text, whole, word};
use crate::source::undeclared;
use crate::texts;
use crate::yaml::Tree;

/// What the rest of the scheme needs of its target.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// None when something in it is wrong.
    pub(crate) spec: Option<TargetSpec>,
    pub(crate) form: Option<String>,
    /// The model's field that is the business key.
    pub(crate) key: Option<(Position, String)>,
    pub(crate) write_key: Option<Text>,
    pub(crate) notes: Vec<String>,
}

const KEYS: [&str; 11] = [
    "system",
    "form",
    "finish",
    "on_change",
    "options",
    "batch",
    "settle",
    "key",
    "write_key",
    "shards",
    "texts",
];
const FINISHES: [(&str, Finish); 3] =
    [("save", Finish::Save), ("submit", Finish::Submit), ("audit", Finish::Audit)];

const CHANGES: [(&str, OnChange); 3] =
    [("ignore", OnChange::Ignore), ("report", OnChange::Report), ("update-draft", OnChange::UpdateDraft)];

/// The number of a document: what Kingdee itself keeps unique, and what the loader looks documents up by.
const NUMBER: &str = "FBillNo";

/// A delivery may be kept unsettled for as long, which has to end before the broker's patience with its consumer does (30
/// minutes); and an unclear write is looked up for 49 minutes at most.
const SETTLE_MAX: Duration = Duration::from_secs(20 * 60);

/// Reads `target`; the file of its texts stands relative to the scheme file.
pub(crate) fn read(tree: &Tree, file: &Path, shape: Option<&Shape>, findings: &mut Findings) -> Target {
    let mut target = Target::default();
    let Some(section) = Section::open(tree, "target", &KEYS, findings) else { return target };
    let system = section.need("system", "system: kingdee", findings);
    let system =
        system.and_then(|tree| word(tree, "target.system", &[("kingdee", TargetSystem::Kingdee)], findings));
    target.form = section.need("form", "form: STK_InStock", findings).and_then(|tree| form(tree, findings));
    let finish = section
        .need("finish", "finish: audit", findings)
        .and_then(|tree| word(tree, "target.finish", &FINISHES, findings));
    let on_change = section.or("on_change", OnChange::default(), findings, |tree, name, findings| {
        word(tree, name, &CHANGES, findings)
    });
    let options = section.get("options").map_or_else(Vec::new, |tree| {
        kingdee::options(tree, target.form.as_deref(), finish, &mut target.notes, findings)
    });
    let batch = batch(section.get("batch"), findings);
    let settle = section.or("settle", None, findings, |tree, name, findings| {
        duration(tree, name, Duration::from_secs(1)..=SETTLE_MAX, findings).map(Some)
    });
    target.key = section.need("key", "key: FBillNo", findings).and_then(|tree| key(tree, findings));
    let write_key = section
        .or("write_key", None, findings, |tree, _, findings| write_key(tree, shape, findings).map(Some));
    let shards =
        section.or("shards", 1, findings, |tree, name, findings| whole(tree, name, 1..=64, findings));
    let texts = section
        .or("texts", Vec::new(), findings, |tree, name, findings| texts::read(tree, name, file, findings));
    target.spec = (|| {
        let write_key = write_key?;
        target.write_key = write_key.as_ref().map(|(at, name)| rule(*at, name));
        Some(TargetSpec {
            system: system?,
            form: target.form.clone()?,
            finish: finish?,
            on_change: on_change?,
            options,
            batch: batch?,
            settle: settle?,
            key: target.key.clone()?.1,
            write_key: write_key.map(|(_, name)| name),
            shards: shards?,
            texts: texts?,
        })
    })();
    target
}

fn form(tree: &Tree, findings: &mut Findings) -> Option<String> {
    let form = text(tree, "target.form", findings)?;
    if form.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some(form);
    }
    let what = format!("`target.form` is `{form}`, which can't be a form id");
    findings.note(tree.at, what, "write letters, digits and `_`, as in STK_InStock");
    None
}

/// Any other field would be written, but never looked up: a document that is tried twice could arrive twice.
fn key(tree: &Tree, findings: &mut Findings) -> Option<(Position, String)> {
    let key = text(tree, "target.key", findings)?;
    if key == NUMBER {
        return Some((tree.at, key));
    }
    let what = format!("`target.key` is `{key}`, but documents are looked up in Kingdee by `{NUMBER}` alone");
    let remedy = format!("write `key: {NUMBER}`, and the document's number into that field of the model");
    findings.note(tree.at, what, remedy);
    None
}

fn batch(tree: Option<&Tree>, findings: &mut Findings) -> Option<BatchSpec> {
    let default = BatchSpec { rows: 20, wait: Duration::from_millis(500), concurrency: 2 };
    let Some(tree) = tree else { return Some(default) };
    let section = Section::open(tree, "target.batch", &["rows", "wait", "concurrency"], findings)?;
    let rows = section
        .or("rows", default.rows, findings, |tree, name, findings| whole(tree, name, 1..=50, findings));
    let wait = section.or("wait", default.wait, findings, |tree, name, findings| {
        duration(tree, name, Duration::ZERO..=Duration::from_secs(60), findings)
    });
    let concurrency = section.or("concurrency", default.concurrency, findings, |tree, name, findings| {
        whole(tree, name, 1..=10, findings)
    });
    Some(BatchSpec { rows: rows?, wait: wait?, concurrency: concurrency? })
}

fn write_key(tree: &Tree, shape: Option<&Shape>, findings: &mut Findings) -> Option<(Position, String)> {
    let name = text(tree, "target.write_key", findings)?;
    if !is_name(&name) {
        let what = format!("`target.write_key` is `{name}`, not the name of a header field");
        findings.note(tree.at, what, "write the field's bare name, as in `write_key: purchase_no`");
        return None;
    }
    if let Some(shape) = shape.filter(|shape| !shape.header.contains_key(&name)) {
        undeclared(tree.at, &name, shape, findings);
        return None;
    }
    Some((tree.at, name))
}

const OPENING: &str = "{{ ";

/// The template of a field, placed so that a column inside the name is the column in the file.
fn rule(at: Position, name: &str) -> Text {
    let before = u32::try_from(OPENING.len()).unwrap_or_default();
    let at = Position { column: at.column.saturating_sub(before).max(1), ..at };
    Text { text: format!("{OPENING}{name} }}}}"), at }
}
