//! The workspace as the rules see it: its packages, its sources, its other texts.

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", ".git", ".venv", ".lab", "node_modules"];

/// A place in the repository that breaks a rule, and what to do about it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Violation {
    pub(crate) fn new(file: impl Into<String>, line: usize, text: impl Into<String>) -> Self {
        Self { file: file.into(), line, text: text.into() }
    }
}

/// Fails the test with every violation on a line of its own.
#[track_caller]
pub(crate) fn none(violations: Vec<Violation>) {
    let list: Vec<String> =
        violations.iter().map(|found| format!("{}:{}: {}", found.file, found.line, found.text)).collect();
    assert!(list.is_empty(), "{} place(s) break this rule:\n{}\n", list.len(), list.join("\n"));
}

/// A text file of the repository; `path` is relative to its root, with `/` between the parts.
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

pub(crate) fn metadata() -> Metadata {
    metadata_with(&[])
}

/// With further options of `cargo metadata`.
pub(crate) fn metadata_with(options: &[&str]) -> Metadata {
    // Only for the machine at hand: the crates of other platforms need not have been fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let all = ["--locked", "--filter-platform", &platform].into_iter().chain(options.iter().copied());
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        // Called once: a second call would replace the first one's.
        .other_options(all.map(str::to_owned).collect::<Vec<_>>())
        .exec()
        .unwrap_or_else(|error| panic!("cargo metadata can't read the workspace: {error}"))
}

/// Every file of the repository whose name ends with one of `endings`, sorted by path.
pub(crate) fn texts(endings: &[&str]) -> Vec<Text> {
    let mut found = Vec::new();
    walk(&root(), &mut |path| {
        let name = path.to_string_lossy();
        if endings.iter().any(|ending| name.ends_with(ending))
            && let Ok(text) = std::fs::read_to_string(path)
        {
            found.push(Text { path: relative(path), text });
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust source of the repository.
pub(crate) fn sources() -> Vec<Text> {
    let sources = texts(&[".rs"]);
    assert!(sources.len() > 20, "only {} Rust files found below {}", sources.len(), root().display());
    sources
}

/// The package a source belongs to: the directory below `crates/`, or `e2e`.
pub(crate) fn package_of(path: &str) -> &str {
    match path.strip_prefix("crates/") {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => "e2e",
    }
}

/// Whether a source is only ever compiled for tests, examples or benchmarks.
pub(crate) fn is_test_file(path: &str) -> bool {
    let inner =
        path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')).map_or(path, |(_, inner)| inner);
    ["tests/", "benches/", "examples/"].iter().any(|dir| inner.starts_with(dir))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) => {
                walk(&path, visit)
            }
            Ok(kind) if kind.is_file() => visit(&path),
            _ => {}
        }
    }
}
