//! The manual says what is so: its schemes load, its functions are the language's.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kingpost_mapping::functions;
use kingpost_scheme::{TargetText, TextKind, load_dir};

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

/// The block of a language that follows a heading.
fn block<'a>(manual: &'a str, heading: &str, language: &str) -> &'a str {
    let section = &manual[manual.find(heading).expect(heading)..];
    let fence = format!("```{language}\n");
    let text = &section[section.find(&fence).expect("a block") + fence.len()..];
    &text[..text.find("```").expect("its end")]
}

#[test]
fn the_texts_of_the_manual_load() {
    let (_, manual) = manual();
    let target = block(&manual, "## What refusals mean", "yaml");
    let texts = block(&manual, "## What refusals mean", "csv");
    let scheme = format!(
        "scheme: demo\ntitle: texts\nsource:\n  system: wdt\n  \
         method: wdt.wms.stockin.purchase.querywithdetail\n  key: order_no\n  \
         window: {{ start: 2026-01-01T00:00:00+08:00 }}\n{target}model:\n  FBillNo: \"{{{{ order_no }}}}\"\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("tables")).expect("a folder of tables");
    fs::write(folder.path().join("demo.yaml"), scheme).expect("the scheme");
    // As a spreadsheet saves it.
    fs::write(folder.path().join("tables/kingdee-texts.csv"), format!("\u{feff}{texts}")).expect("the texts");
    let schemes = load_dir(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let texts = &schemes[0].target.texts;
    let kinds: Vec<TextKind> = texts.iter().map(|text| text.kind).collect();
    use TextKind::{BaseData, Refused, Throttled, Transient};
    assert_eq!(kinds, [Transient, Refused, BaseData, Throttled]);
    let project = TargetText {
        text: Some("示例编码…尚未同步".into()),
        field: Some("F_ABCD_Project".into()),
        msg_code: None,
        kind: BaseData,
        advice: "create the project in Kingdee".into(),
    };
    assert_eq!(texts[2], project);
    assert_eq!((texts[3].text.as_deref(), texts[3].msg_code), (None, Some(99)));
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
