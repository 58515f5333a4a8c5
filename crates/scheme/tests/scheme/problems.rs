//! Folders of wrong scheme files, each with the problems exactly as a person reads them.

use std::fs;
use std::path::{Path, PathBuf};

use kingpost_scheme::load_dir;

use crate::golden;

#[test]
fn every_wrong_scheme_is_explained_by_file_line_and_remedy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the wrong schemes")
        .map(|entry| entry.expect("a case").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 15, "the wrong schemes are there");
    let mut differences = Vec::new();
    for case in &cases {
        let prefix = format!("{}/", case.display());
        let found = match load_dir(case) {
            Ok(_) => "no problem\n".to_owned(),
            Err(problems) => format!("{problems}\n").replace(&prefix, ""),
        };
        differences.extend(golden(&case.join("problems.txt"), Some(&found)).err());
        if found == "no problem\n" {
            differences.push(format!("{} has no problem", case.display()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn a_folder_that_is_missing_or_empty_is_one_clear_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("nowhere");
    let problems = load_dir(&missing).expect_err("no folder");
    let text = problems.to_string();
    assert!(
        text.starts_with(&format!("{}: the folder of the schemes can't be read: ", missing.display())),
        "{text}"
    );
    assert!(text.ends_with("remedy: set SCHEMES_DIR to the folder that holds the scheme files"), "{text}");

    fs::write(folder.path().join("README.md"), "no scheme").expect("a file");
    fs::create_dir(folder.path().join("inner.yaml")).expect("a folder");
    let problems = load_dir(folder.path()).expect_err("no scheme");
    assert_eq!(
        problems.to_string(),
        format!(
            "{}: the folder holds no scheme (*.yaml)\nremedy: set SCHEMES_DIR to the folder that holds the scheme files",
            folder.path().display()
        )
    );
}
