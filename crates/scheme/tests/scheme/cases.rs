//! The case folder of the shipped scheme: a document, and either the model or every problem.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kingpost_mapping::{Outcome, Rejection, Scratch};
use kingpost_scheme::{Mapping, Scheme, load_dir};

use crate::golden;

fn schemes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes")
}

/// Copies the shipped schemes, with the changes a case asks for, and loads the one of the case.
fn scheme(case: &Path) -> Scheme {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("tables")).expect("a folder of tables");
    for table in ["stock.csv", "supplier.csv"] {
        let own = case.join("tables").join(table);
        let from = if own.exists() { own } else { schemes().join("tables").join(table) };
        fs::copy(from, folder.path().join("tables").join(table)).expect("a table");
    }
    let mut text = fs::read_to_string(schemes().join("purchase-stockin.yaml")).expect("the shipped scheme");
    // One `name: value` of settings or switches per line, as a customer would change it.
    for change in fs::read_to_string(case.join("changes.txt")).unwrap_or_default().lines() {
        let (name, value) = change.split_once(": ").expect("name: value");
        let start = text.find(&format!("\n  {name}: ")).expect("a setting or switch of the scheme") + 1;
        let end = start + text[start..].find(['#', '\n']).expect("an end of the line");
        text.replace_range(start..end, &format!("  {name}: {value} "));
    }
    fs::write(folder.path().join("purchase-stockin.yaml"), text).expect("the scheme");
    load_dir(folder.path()).unwrap_or_else(|problems| panic!("{}:\n{problems}", case.display())).remove(0)
}

fn run(mapping: &Mapping, input: &[u8]) -> (Option<String>, Option<String>) {
    let mut model = Vec::new();
    let mut problems = String::new();
    match mapping.apply(input, &mut Scratch::new(), &mut model) {
        Ok(Outcome::Mapped { outputs }) => {
            let model = String::from_utf8(model).expect("a model in UTF-8");
            let _: serde_json::Value = serde_json::from_str(&model).expect("a model in JSON");
            assert_eq!(outputs.len(), 2);
            let key = format!("\"FBillNo\":\"{}\"", outputs[Scheme::KEY].as_deref().expect("a key"));
            assert!(model.contains(&key), "the key {key} is the model's");
            (Some(model + "\n"), None)
        }
        Ok(Outcome::Filtered) => (None, Some("filtered\n".to_owned())),
        Err(Rejection::Unmappable(found)) => {
            assert!(model.is_empty(), "nothing is written for a document with problems");
            found.iter().for_each(|problem| writeln!(problems, "{problem}").expect("a line"));
            (None, Some(problems))
        }
        Err(other) => (None, Some(format!("{other}\n"))),
    }
}

#[test]
fn every_case_of_the_shipped_scheme_gives_its_document_or_its_problems() {
    let folder = schemes().join("purchase-stockin/cases");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the case folder").map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are there");
    let mut differences = Vec::new();
    for case in &cases {
        let input = fs::read(case.join("input.json")).expect("an input");
        let (model, problems) = run(&scheme(case).mapping, &input);
        differences.extend(golden(&case.join("expected.json"), model.as_deref()).err());
        differences.extend(golden(&case.join("problems.txt"), problems.as_deref()).err());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn the_shipped_folder_loads_and_its_case_folders_are_no_schemes() {
    let loaded = load_dir(&schemes()).unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<&str> = loaded.iter().map(|scheme| scheme.name.as_str()).collect();
    assert_eq!(names, ["purchase-stockin"]);
    assert_eq!(loaded[0].notes, Vec::<String>::new());
    assert_eq!(loaded[0].source.params, [("status".to_owned(), "80".to_owned())]);
}

#[test]
fn both_ways_of_writing_one_document_give_the_same_model() {
    let folder = schemes().join("purchase-stockin/cases");
    let read = |case: &str| {
        let text = fs::read_to_string(folder.join(case).join("expected.json")).expect("an expected model");
        let mut model: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        numbers(&mut model);
        model
    };
    assert_eq!(read("qimen"), read("direct"));
}

/// Numbers by value: `100.0000` of the one transport is `100` of the other.
fn numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => *value = number.as_f64().into(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(numbers),
        serde_json::Value::Object(members) => members.values_mut().for_each(numbers),
        _ => {}
    }
}
