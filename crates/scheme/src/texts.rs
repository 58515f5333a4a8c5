//! `target.texts`: what texts of a target's refusals mean, in a CSV file that operators keep.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use kingpost_mapping::spec::Position;

use crate::nearest::suggestion;
use crate::problem::{Findings, Problem};
use crate::scheme::{TargetText, TextKind};
use crate::section::text;
use crate::table::{at, beside};
use crate::yaml::Tree;

const COLUMNS: [&str; 5] = ["text", "field", "code", "kind", "advice"];
const HEAD: &str = "text,field,code,kind,advice";

const KINDS: [(&str, TextKind); 8] = [
    ("refused", TextKind::Refused),
    ("base-data", TextKind::BaseData),
    ("transient", TextKind::Transient),
    ("throttled", TextKind::Throttled),
    ("configuration", TextKind::Configuration),
    ("unclear", TextKind::Unclear),
    ("duplicate", TextKind::Duplicate),
    ("state", TextKind::State),
];

/// Reads the file that `target.texts` names; it stands relative to the scheme file.
pub(crate) fn read(
    tree: &Tree,
    name: &str,
    scheme: &Path,
    findings: &mut Findings,
) -> Option<Vec<TargetText>> {
    let written = text(tree, name, findings)?;
    let file = beside(scheme, &written, "file", tree.at, findings)?;
    match fs::read(&file) {
        Ok(bytes) => {
            let before = findings.len();
            let (texts, problems) = parse(&file, &bytes);
            findings.absorb(problems);
            (findings.len() == before).then_some(texts)
        }
        Err(error) => {
            let what = format!("the texts {} can't be read: {error}", file.display());
            findings.note(tree.at, what, "write the path of a CSV file, relative to this file");
            None
        }
    }
}

fn parse(file: &Path, bytes: &[u8]) -> (Vec<TargetText>, Vec<Problem>) {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let Ok(content) = std::str::from_utf8(bytes) else {
        let remedy = "save it as “CSV UTF-8”; a spreadsheet's plain CSV may be in GBK";
        return (Vec::new(), vec![Problem::of_file(file, "the texts are not in UTF-8", remedy)]);
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
        return (Vec::new(), findings.into_list());
    }
    let mut texts = Vec::new();
    let mut lines: HashMap<(String, String, String), u32> = HashMap::new();
    for row in rows {
        match row {
            Ok(row) => {
                let place = findings.first_written(at(row.position()));
                texts.extend(Row { head: &head, row: &row, at: place }.read(&mut lines, &mut findings));
            }
            Err(error) => {
                findings.note(at(error.position()), format!("not a row of CSV: {error}"), "mend the row");
            }
        }
    }
    (texts, findings.into_list())
}

fn good_head(head: &StringRecord, findings: &mut Findings) -> bool {
    let first = Position { line: 1, column: 1 };
    if !head.iter().any(|name| COLUMNS.contains(&name)) {
        findings.note(
            first,
            "the first row names no column of the texts",
            format!("write `{HEAD}` above it"),
        );
        return false;
    }
    let mut good = true;
    for (index, name) in head.iter().enumerate() {
        if !COLUMNS.contains(&name) {
            findings.note(first, format!("unknown column `{name}`"), suggestion(name, &COLUMNS));
            good = false;
        } else if head.iter().take(index).any(|other| other == name) {
            findings.note(first, format!("two columns are called `{name}`"), "remove one");
            good = false;
        }
    }
    let has = |name: &str| head.iter().any(|column| column == name);
    if good && !(has("kind") && has("advice") && (has("text") || has("field") || has("code"))) {
        let what = "the texts need the columns `kind` and `advice`, and one of `text`, `field`, `code`";
        findings.note(first, what, format!("write `{HEAD}` as the first row"));
        good = false;
    }
    good
}

/// One row of the file.
struct Row<'a> {
    head: &'a StringRecord,
    row: &'a StringRecord,
    at: Position,
}

impl Row<'_> {
    fn get(&self, column: &str) -> &str {
        let index = self.head.iter().position(|name| name == column);
        index.and_then(|index| self.row.get(index)).unwrap_or_default()
    }

    fn read(
        &self,
        lines: &mut HashMap<(String, String, String), u32>,
        findings: &mut Findings,
    ) -> Option<TargetText> {
        let before = findings.len();
        if self.row.len() != self.head.len() {
            let what = format!("{} values in {} columns", self.row.len(), self.head.len());
            findings.note(self.at, what, "write one value per column; quote a value that holds a comma");
            return None;
        }
        let (text, field, code) = (self.get("text"), self.get("field"), self.get("code"));
        self.conditions(text, field, code, findings);
        let msg_code = self.code(code, findings);
        let kind = self.kind(findings);
        let advice = self.get("advice");
        if advice.is_empty() {
            findings.note(self.at, "the row has no advice", "write what whoever is told of it should do");
        }
        let condition = [text, field, code].map(str::to_owned).into();
        if let Some(first) = lines.insert(condition, self.at.line) {
            let what = format!("the same text, field and code stand on line {first}");
            findings.note(self.at, what, "keep one row: the first of those that fit counts");
        }
        (findings.len() == before).then_some(())?;
        let own = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        Some(TargetText {
            text: own(text),
            field: own(field),
            msg_code,
            kind: kind?,
            advice: advice.to_owned(),
        })
    }

    fn conditions(&self, text: &str, field: &str, code: &str, findings: &mut Findings) {
        if text.is_empty() && field.is_empty() && code.is_empty() {
            let remedy = "write a text, a field or a code; a row without one would fit every refusal";
            findings.note(self.at, "the row has no condition", remedy);
        } else if !text.is_empty() && text.trim_matches('…').trim().is_empty() {
            let remedy = "write words of the message around `…`, or leave `text` empty";
            findings.note(self.at, format!("`{text}` fits every message"), remedy);
        } else if text.contains("...") {
            let remedy = "write `…`, one character, for what differs between messages";
            findings.note(self.at, "`...` stands for three dots of the message", remedy);
        }
    }

    fn code(&self, code: &str, findings: &mut Findings) -> Option<u16> {
        if code.is_empty() {
            return None;
        }
        let parsed = code.parse().ok();
        if parsed.is_none() {
            let remedy = "write the whole number that stands as MsgCode in the answer, or leave it empty";
            findings.note(self.at, format!("`{code}` is no MsgCode"), remedy);
        }
        parsed
    }

    fn kind(&self, findings: &mut Findings) -> Option<TextKind> {
        let written = self.get("kind");
        let found = KINDS.iter().find(|(word, _)| *word == written);
        if found.is_none() {
            let known: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
            findings.note(self.at, format!("`{written}` is no kind of refusal"), suggestion(written, &known));
        }
        found.map(|(_, kind)| *kind)
    }
}
