use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kingpost_mapping::Mapping;
use kingpost_mapping::spec::{Field, Node, Output, Position, Shape, Spec, Text};

use crate::nearest::nearest;
use crate::problem::{Findings, Problem, Problems};
use crate::scheme::{Scheme, TargetSystem};
use crate::section::{Section, text};
use crate::source::Source;
use crate::target::Target;
use crate::yaml::{self, Meaning, Tree, Value};
use crate::{document, lint, model, outline, source, table, target};

/// Both systems keep Beijing time.
const BEIJING_SECONDS: i32 = 8 * 60 * 60;
const KEYS: [&str; 10] =
    ["scheme", "title", "account", "settings", "switches", "source", "filter", "tables", "target", "model"];

/// Loads every `*.yaml` that stands directly in a folder, in the order of their names.
///
/// # Errors
/// Everything that is wrong with the folder, with every scheme in it and with the tables they name.
pub fn load_dir(folder: &Path) -> Result<Vec<Scheme>, Problems> {
    let set = "set SCHEMES_DIR to the folder that holds the scheme files";
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut files: Vec<PathBuf> = match listed {
        Ok(listed) => listed.into_iter().map(|entry| entry.path()).collect(),
        Err(error) => {
            let what = format!("the folder of the schemes can't be read: {error}");
            return Err(Problem::of_file(folder, what, set).into());
        }
    };
    files.sort();
    let mut schemes = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    for file in files.iter().filter(|file| !is_hidden(file) && !file.is_dir()) {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            "yaml" => match load_file(file) {
                Ok(scheme) => schemes.push(scheme),
                Err(found) => problems.extend(found),
            },
            "yml" | "YAML" | "YML" => {
                let remedy = format!("rename it to {}", file.with_extension("yaml").display());
                problems.push(Problem::of_file(
                    file,
                    "a scheme file whose name doesn't end in .yaml",
                    remedy,
                ));
            }
            _ => {}
        }
    }
    if problems.is_empty() && schemes.is_empty() {
        problems.push(Problem::of_file(folder, "the folder holds no scheme (*.yaml)", set));
    }
    if problems.is_empty() { Ok(schemes) } else { Err(problems.into()) }
}

/// Loads one scheme.
///
/// # Errors
/// Everything that is wrong with it and with the tables it names.
pub fn load_file(file: &Path) -> Result<Scheme, Problems> {
    let content = match fs::read(file).map(String::from_utf8) {
        Ok(Ok(content)) => content,
        Ok(Err(_)) => {
            let problem = Problem::of_file(file, "the file is not in UTF-8", "save it in UTF-8");
            return Err(problem.into());
        }
        Err(error) => {
            let what = format!("the file can't be read: {error}");
            return Err(Problem::of_file(file, what, "check its path and its permissions").into());
        }
    };
    let mut findings = Findings::new(file, &content);
    let scheme = yaml::parse(&content, &mut findings).and_then(|tree| scheme(&tree, file, &mut findings));
    match scheme {
        Some(scheme) if findings.is_empty() => Ok(scheme),
        _ if findings.is_empty() => {
            let remedy = "write a scheme, or remove the file";
            Err(Problem::of_file(file, "the file is empty", remedy).into())
        }
        _ => Err(findings.into_list().into()),
    }
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'))
}

fn scheme(tree: &Tree, file: &Path, findings: &mut Findings) -> Option<Scheme> {
    let section = Section::open(tree, "", &KEYS, findings)?;
    let name = name(&section, file, findings);
    let title = section.need("title", "title: 采购入库 → 采购入库单", findings);
    let title = title.and_then(|tree| text(tree, "title", findings));
    let account =
        section.or("account", None, findings, |tree, _, findings| account(tree, findings).map(Some));
    let source = match section.need("source", "source: { system: wdt, … }", findings) {
        Some(tree) => source::read(tree, findings),
        None => Source::default(),
    };
    let target = match section.need("target", "target: { system: kingdee, … }", findings) {
        Some(tree) => target::read(tree, file, source.shape.as_ref(), findings),
        None => Target::default(),
    };
    let (spec, whole) = spec(&section, file, source.shape, &target, findings);
    let mapping = if whole && source.shape_whole { compile(&spec, findings) } else { None };
    Some(Scheme {
        name: name?,
        title: title?,
        account: account?,
        source: source.spec?,
        target: target.spec?,
        mapping: Arc::new(mapping?),
        fields: outline::outline(&spec.model, &spec.tables),
        file: file.to_owned(),
        notes: [source.notes, target.notes].concat(),
    })
}

/// Everything the mapping is made of, and whether all of it was read, so that compiling tells no untruths.
fn spec(
    section: &Section<'_>,
    file: &Path,
    shape: Option<Shape>,
    target: &Target,
    findings: &mut Findings,
) -> (Spec, bool) {
    let before = findings.len();
    let settings = section.get("settings").map(|tree| document::settings(tree, findings)).unwrap_or_default();
    let settings_whole = findings.len() == before;
    let switches = section.get("switches").map(|tree| document::switches(tree, findings)).unwrap_or_default();
    let (tables, tables_whole) =
        section.get("tables").map_or((BTreeMap::new(), true), |tree| table::read(tree, file, findings));
    let filter = section.get("filter").and_then(|tree| filter(tree, findings));
    let tree = section.need("model", "model: { FBillNo: \"{{ order_no }}\", … }", findings);
    let mut model = tree.map(|tree| model::read(tree, &switches, findings)).unwrap_or_default();
    if target.spec.as_ref().is_some_and(|spec| spec.system == TargetSystem::Kingdee) || target.form.is_some()
    {
        lint::kingdee(&model, target.form.as_deref().unwrap_or_default(), findings);
    }
    let mut outputs = Vec::new();
    let key = target.key.as_ref().filter(|_| tree.is_some());
    let rule = key.and_then(|(at, name)| key_rule(*at, name, &model, findings));
    // Without the key the write key would take its place, and nothing is made of such a scheme anyway.
    if let Some(rule) = rule {
        outputs.push(Output { name: "key".to_owned(), rule, optional: false });
        let write_key = target.write_key.clone();
        outputs.extend(write_key.map(|rule| Output { name: "write_key".to_owned(), rule, optional: true }));
    }
    model::name_variants(&mut model);
    let utc_offset_seconds = BEIJING_SECONDS;
    let spec = Spec { model, filter, outputs, shape, settings, tables, utc_offset_seconds };
    (spec, settings_whole && tables_whole && tree.is_some())
}

fn compile(spec: &Spec, findings: &mut Findings) -> Option<Mapping> {
    match Mapping::compile(spec) {
        Ok(mapping) => Some(mapping),
        Err(problems) => {
            let places: Vec<Position> = problems.iter().map(|problem| problem.at).collect();
            for problem in problems {
                // The key is a field's own rule; what is wrong with it is said once, of the field.
                let twice = places.iter().filter(|at| **at == problem.at).count() > 1;
                if !(twice && problem.what.starts_with("outputs.key: ")) {
                    findings.note(problem.at, problem.what, problem.remedy);
                }
            }
            None
        }
    }
}

fn name(section: &Section<'_>, file: &Path, findings: &mut Findings) -> Option<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let tree = section.need("scheme", &format!("scheme: {stem}"), findings)?;
    let name = text(tree, "scheme", findings)?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.chars().all(good) || name.len() > 40 {
        let remedy = "write at most 40 of the characters a to z, 0 to 9 and -; queues are named after it";
        findings.note(tree.at, format!("`{name}` can't be the name of a scheme"), remedy);
        return None;
    }
    if name != stem {
        let what = format!("the scheme is called `{name}`, but its file `{stem}.yaml`");
        findings.note(tree.at, what, format!("write `scheme: {stem}`, or rename the file to {name}.yaml"));
        return None;
    }
    Some(name)
}

fn account(tree: &Tree, findings: &mut Findings) -> Option<String> {
    let account = text(tree, "account", findings)?;
    let clean = account.starts_with(|c: char| c.is_ascii_lowercase())
        && account.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    // QIMEN_TARGET_APP_KEY is a setting of its own, so no account may end in its word.
    if clean && account != "target" && !account.ends_with("-target") && !account.ends_with("_target") {
        return Some(account);
    }
    let remedy = "write lowercase letters, digits, - and _, beginning with a letter and not ending in target: account: north";
    findings.note(tree.at, format!("`{account}` can't stand in the names of settings"), remedy);
    None
}

fn filter(tree: &Tree, findings: &mut Findings) -> Option<Text> {
    if let Value::Scalar(scalar) = &tree.value
        && let Meaning::Text(text) = scalar.meaning()
        && text.trim_start().starts_with('=')
    {
        return Some(Text { text: text.to_owned(), at: scalar.at });
    }
    let remedy = "write a condition that begins with `= `, in quotes: filter: \"= warehouse_no != 'TEST'\"";
    findings.note(tree.at, "`filter` is no condition", remedy);
    None
}

/// The rule of the field that is the business key: a field of the model's root that is always written.
fn key_rule(at: Position, name: &str, model: &[Field], findings: &mut Findings) -> Option<Text> {
    let wrong = match model.iter().filter(|field| field.key == name).max_by_key(|field| field.enabled) {
        None => {
            let known: Vec<&str> = model.iter().map(|field| field.key.as_str()).collect();
            let line = format!("`{name}: \"{{{{ order_no }}}}\"`");
            let remedy = match nearest(name, &known) {
                Some(found) => {
                    format!("write {line} at the root of the model; was `{found}` meant to be it?")
                }
                None => format!("write {line} at the root of the model"),
            };
            findings.note(at, format!("`target.key` is `{name}`, which is no field of the model"), remedy);
            return None;
        }
        Some(field) if field.optional => "may be left out",
        Some(field) if !field.enabled => "is switched off",
        // What can't be read has been noted already.
        Some(field) if findings.within(field.at.line..=field.at.line) => return None,
        Some(field) => match &field.value {
            Node::Text(rule) if rule.text.trim_start().starts_with('=') || rule.text.contains("{{") => {
                return Some(rule.clone());
            }
            Node::Text(_) | Node::Number(_) | Node::Bool(_) | Node::Null => "is the same for every document",
            _ => "is no text",
        },
    };
    let what = format!("`target.key` is `{name}`, which {wrong}");
    findings.note(at, what, format!("write the field as `{name}: \"{{{{ order_no }}}}\"`"));
    None
}
