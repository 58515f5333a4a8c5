//! Every folder under `cases/<topic>/<case>`: `spec.json` and `input.json` in, `expected.json` (the model as it is
//! written, to the byte) or `problems.txt` out, `outputs.json` beside it. `UPDATE=1 cargo test` rewrites what is out.

use std::fs;
use std::path::{Path, PathBuf};

use kingpost_mapping::{Mapping, Outcome, Rejection, Scratch};

use crate::spec_json;

#[test]
fn every_case_gives_what_its_folder_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let cases: Vec<PathBuf> = folders(&root).iter().flat_map(|topic| folders(topic)).collect();
    assert!(cases.len() > 50, "only {} cases were found under {}", cases.len(), root.display());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).expect("cases can be listed").map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// What a case gives: the content of each file that may be there.
fn run(case: &Path) -> [(&'static str, Option<String>); 3] {
    let spec = spec_json::read(&fs::read_to_string(case.join("spec.json")).expect("a case has a spec.json"));
    let (mut model, mut problems, mut outputs) = (None, None, None);
    match Mapping::compile(&spec) {
        Err(found) => problems = Some(lines(&found)),
        Ok(mapping) => {
            let input =
                fs::read(case.join("input.json")).expect("a case whose spec is right has an input.json");
            let mut out = Vec::new();
            match mapping.apply(&input, &mut Scratch::new(), &mut out) {
                Ok(Outcome::Filtered) => problems = Some("filtered\n".to_owned()),
                Ok(Outcome::Mapped { outputs: found }) => {
                    model = Some(String::from_utf8(out).expect("a model is UTF-8") + "\n");
                    outputs = (!found.is_empty()).then(|| serde_json::to_string(&found).unwrap() + "\n");
                }
                Err(Rejection::Unmappable(found)) => problems = Some(lines(&found)),
                Err(malformed) => problems = Some(format!("{malformed}\n")),
            }
        }
    }
    [("expected.json", model), ("problems.txt", problems), ("outputs.json", outputs)]
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

fn check(case: &Path) -> Option<String> {
    let updates = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    for (name, given) in run(case) {
        let file = case.join(name);
        if name == "expected.json"
            && let Some(model) = &given
        {
            serde_json::from_str::<serde_json::Value>(model).expect("a model is JSON");
        }
        if updates {
            match given {
                Some(given) => fs::write(&file, given).expect("a case can be rewritten"),
                None => drop(fs::remove_file(&file)),
            }
            continue;
        }
        let expected = fs::read_to_string(&file).ok();
        if expected != given {
            let shown = |text: Option<String>| text.unwrap_or_else(|| "(no file)\n".to_owned());
            wrong +=
                &format!("{}\n  expected: {}  given:    {}", file.display(), shown(expected), shown(given));
        }
    }
    (!wrong.is_empty()).then_some(wrong)
}
