//! What every crate's manifest, root file and front page must have.

use super::workspace::{Text, Violation};

/// Names that attract everything and say nothing.
const MAGNETS: [&str; 7] = ["core", "common", "util", "utils", "types", "helpers", "shared"];

const README_LINES: usize = 60;

pub(crate) fn magnet(name: &str, manifest: &str) -> Option<Violation> {
    let last = name.strip_prefix("kingpost-").unwrap_or(name);
    let text = format!("a crate called {name} becomes a magnet; name it after what it is");
    MAGNETS.contains(&last).then(|| Violation::new(manifest, 1, text))
}

/// `[lints] workspace = true` is missing.
pub(crate) fn own_lints(manifest: &Text) -> Option<Violation> {
    let mut section = "";
    for line in manifest.text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line.replace(' ', "") == "workspace=true" {
            return None;
        }
    }
    Some(Violation::new(&manifest.path, 1, "add `[lints]` with `workspace = true`"))
}

/// Every dependency of a member that doesn't come from the workspace's table.
pub(crate) fn own_versions(manifest: &Text) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in manifest.text.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.contains("dependencies");
            if section.contains("dependencies.") {
                let text =
                    "write it as one line `name.workspace = true`, or `name = { workspace = true, … }`";
                found.push(Violation::new(&manifest.path, number + 1, text));
            }
            continue;
        }
        let inherits = line.replace(' ', "").contains("workspace=true");
        if inside && !line.is_empty() && !line.starts_with('#') && !inherits {
            let text =
                format!("`{line}` names its own version; put it into the root's [workspace.dependencies]");
            found.push(Violation::new(&manifest.path, number + 1, text));
        }
    }
    found
}

/// A version of an outside crate that isn't pinned exactly.
pub(crate) fn unpinned(name: &str, requirement: &str) -> Option<Violation> {
    let text = format!("{name} = \"{requirement}\" may move; pin it as \"=x.y.z\"");
    (!requirement.starts_with('=')).then(|| Violation::new("Cargo.toml", 1, text))
}

/// Every outside crate of the root's table that no member uses; our own are listed whether they are used or not.
pub(crate) fn unused_entries(root: &Text, used: &dyn Fn(&str) -> bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in root.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
        } else if let (true, Some((name, _))) = (inside && !line.starts_with('#'), line.split_once('=')) {
            let name = name.trim();
            if !name.starts_with("kingpost-") && !used(name) {
                let text = format!("no crate of the workspace uses {name}; take it out");
                found.push(Violation::new(&root.path, number + 1, text));
            }
        }
    }
    found
}

/// The root of a library or program that would let unsafe code in.
pub(crate) fn unsafe_root(source: &Text) -> Option<Violation> {
    let forbids = source.text.lines().any(|line| line.replace(' ', "") == "#![forbid(unsafe_code)]");
    (!forbids).then(|| Violation::new(&source.path, 1, "add `#![forbid(unsafe_code)]`"))
}

/// A front page that is missing, empty or long, or that the library doesn't show.
pub(crate) fn front_page(readme: Option<&Text>, library: Option<&Text>, dir: &str) -> Vec<Violation> {
    let path = format!("{dir}/README.md");
    let Some(readme) = readme else {
        return vec![Violation::new(path, 1, "write it: what, for whom, one example, what it refuses")];
    };
    let mut found = Vec::new();
    let lines = readme.text.lines().count();
    if lines < 5 {
        found.push(Violation::new(&path, 1, "say what the crate is, for whom, and what it refuses to do"));
    }
    if lines > README_LINES {
        found.push(Violation::new(
            &path,
            lines,
            format!("{lines} lines; the front page has {README_LINES} at most"),
        ));
    }
    if let Some(library) = library.filter(|library| !library.text.contains("include_str!(\"../README.md\")"))
    {
        let text = "begin with `#![doc = include_str!(\"../README.md\")]`";
        found.push(Violation::new(&library.path, 1, text));
    }
    found
}
