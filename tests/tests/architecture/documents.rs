//! What the repository's pages and files of text must hold: links that lead somewhere, YAML that parses, fresh tables.

use std::path::Path;

use super::workspace::{Text, Violation};

/// The name of a generated table and what writes it.
pub(crate) type Table = (&'static str, fn() -> String);

/// Tables that are written from the code. A page shows one between `<!-- begin:NAME -->` and `<!-- end:NAME -->`.
pub(crate) const TABLES: &[Table] = &[
    ("settings", kingpost_settings::markdown_table),
    ("metrics", kingpost_telemetry::names::markdown_table),
    ("failures", kingpost_model::failure_table),
    ("users", kingpost_broker::users_page),
    ("alerts", e2e::monitoring::pages::markdown_table),
];

/// The pages that show generated tables.
pub(crate) fn is_page(path: &str) -> bool {
    path.ends_with(".md") && !path.contains("/cases/")
}

/// A page with every generated block written anew, and what is wrong with its markers.
pub(crate) fn regenerated(page: &Text, tables: &[Table]) -> (String, Vec<Violation>) {
    let (mut text, mut found) = (String::new(), Vec::new());
    let mut open: Option<(String, usize)> = None;
    let mut fenced = false;
    for (number, line) in page.text.split_inclusive('\n').enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        match marker(line).filter(|_| !fenced) {
            Some(("begin", name)) => {
                text.push_str(line);
                match tables.iter().find(|(own, _)| *own == name) {
                    Some((_, table)) => text.push_str(&format!("\n{}\n\n", table().trim())),
                    None => found.push(Violation::new(
                        &page.path,
                        number + 1,
                        format!("nothing generates `{name}`; add it to TABLES in tests/tests/architecture/documents.rs"),
                    )),
                }
                open = Some((name.to_owned(), number + 1));
            }
            Some((_, name)) => {
                if open.take().is_none_or(|(begun, _)| begun != name) {
                    found.push(Violation::new(
                        &page.path,
                        number + 1,
                        format!("end:{name} has no begin:{name}"),
                    ));
                }
                text.push_str(line);
            }
            None if open.is_none() => text.push_str(line),
            None => {}
        }
    }
    if let Some((name, line)) = open {
        found.push(Violation::new(&page.path, line, format!("begin:{name} has no end:{name}")));
    }
    (text, found)
}

fn marker(line: &str) -> Option<(&str, &str)> {
    let inner = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    inner.split_once(':').filter(|(word, _)| ["begin", "end"].contains(word))
}

/// Every block of a page that isn't what the code says; with `UPDATE=1` the page is rewritten first.
pub(crate) fn stale_tables(page: &Text, root: &Path) -> Vec<Violation> {
    let (fresh, mut found) = regenerated(page, TABLES);
    if found.is_empty() && fresh != page.text {
        if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
            let written = std::fs::write(root.join(&page.path), fresh);
            found.extend(
                written
                    .err()
                    .map(|error| Violation::new(&page.path, 1, format!("can't be written: {error}"))),
            );
        } else {
            let line = 1 + fresh.lines().zip(page.text.lines()).take_while(|(new, old)| new == old).count();
            let text = "a generated table is stale; run `UPDATE=1 cargo test -p e2e --test architecture`";
            found.push(Violation::new(&page.path, line, text));
        }
    }
    found
}

/// Whether a file must parse as YAML: schemes and everything for deployment.
pub(crate) fn is_our_yaml(path: &str) -> bool {
    ["schemes/", "k8s/", "deploy/", "docs/"].iter().any(|dir| path.starts_with(dir)) || !path.contains('/')
}

pub(crate) fn broken_yaml(file: &Text) -> Option<Violation> {
    let error = serde_saphyr::from_multiple::<serde_json::Value>(&file.text).err()?;
    let line = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
    Some(Violation::new(&file.path, line, format!("not YAML: {error}")))
}

/// Every link of a page to a file or heading that isn't there. `read` gives the text of a file, or nothing.
pub(crate) fn dead_links(
    page: &Text,
    exists: &dyn Fn(&str) -> bool,
    read: &dyn Fn(&str) -> Option<String>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, target) in links(&page.text) {
        let outside = ["http:", "https:", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
        if outside || target.contains("::") {
            continue;
        }
        let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
        let file = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
        if !exists(&file) {
            found.push(Violation::new(
                &page.path,
                line,
                format!("the link `{target}` leads nowhere; {file} is missing"),
            ));
        } else if !heading.is_empty() && file.ends_with(".md") {
            let known = read(&file).is_some_and(|text| headings(&text).iter().any(|own| own == heading));
            if !known {
                found.push(Violation::new(
                    &page.path,
                    line,
                    format!("the link `{target}` names no heading of {file}"),
                ));
            }
        }
    }
    found
}

/// `../x` and `./x` seen from the page.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The lines of a page outside of fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((number + 1, line))
    })
}

/// The targets of `[text](target)` and `[text]: target`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second piece between backticks is code.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let mut rest = plain.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, left)) = after.split_once(')') else { break };
            found.push((number, target.split_whitespace().next().unwrap_or("").to_owned()));
            rest = left;
        }
        if let Some((_, target)) =
            plain.trim_start().strip_prefix('[').and_then(|line| line.split_once("]: "))
        {
            found.push((number, target.trim().to_owned()));
        }
    }
    found
}

/// The anchors that a forge makes of a page's headings.
fn headings(text: &str) -> Vec<String> {
    let titles = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.trim())
    });
    titles
        .map(|title| {
            let kept = title.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Words that only mean something on one machine.
pub(crate) fn private_words(file: &Text) -> Vec<Violation> {
    let words = [
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
        concat!("/tmp/ba", "sh_jobs"),
        concat!("../sha", "red"),
    ];
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for word in words {
            let begins =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/}".contains(c));
            if line.match_indices(word).any(|(at, _)| begins(at)) {
                let text =
                    format!("`{word}` is a path of somebody's machine; say it relative to the repository");
                found.push(Violation::new(&file.path, number + 1, text));
            }
        }
    }
    found
}
