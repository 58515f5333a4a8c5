//! One order, mapped at the prompt.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use kingpost_mapping::{FieldProblem, Outcome, Rejection, Scratch};
use kingpost_scheme::{Scheme, load_dir, load_file};

use crate::{
    ending::{Report, Stop},
    json,
    terminal::{counted, plain},
};

/// Maps the order in a file by a scheme of a folder.
pub(super) fn run(folder: &Path, name: Option<&str>, order: &Path) -> Result<Report, Stop> {
    let scheme = scheme(folder, name)?;
    let (shown, document) = read(order)?;
    map(&scheme, &shown, &document)
}

fn scheme(folder: &Path, name: Option<&str>) -> Result<Scheme, Stop> {
    let Some(name) = name else {
        let mut schemes = load_dir(folder).map_err(|problems| {
            Stop::settings(&problems).hint("\na scheme that is right can be tried alone: add --scheme NAME")
        })?;
        return match (schemes.pop(), schemes.last()) {
            (Some(only), None) => Ok(only),
            (last, _) => {
                let names: Vec<&str> =
                    schemes.iter().chain(&last).map(|scheme| scheme.name.as_str()).collect();
                Err(Stop::usage(format!("say by which scheme: --scheme {}", names.join(" | --scheme "))))
            }
        };
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let file: PathBuf = folder.join(format!("{name}.yaml"));
    if !name.chars().all(good) || !file.is_file() {
        let text =
            format!("no scheme is called `{name}`: {} is not there", plain(&file.display().to_string()));
        return Err(Stop::usage(text));
    }
    load_file(&file).map_err(|problems| Stop::settings(&problems))
}

fn read(order: &Path) -> Result<(String, Vec<u8>), Stop> {
    let standard_input = order == Path::new("-");
    let shown = if standard_input { "standard input".to_owned() } else { order.display().to_string() };
    let mut document = Vec::new();
    let result = if standard_input {
        std::io::stdin().read_to_end(&mut document).map(|_| document)
    } else {
        fs::read(order)
    };
    match result {
        Ok(document) => Ok((shown, document)),
        Err(error) => Err(Stop::failed(format!("{shown} can't be read: {error}"))),
    }
}

fn map(scheme: &Scheme, shown: &str, document: &[u8]) -> Result<Report, Stop> {
    let mut model = Vec::new();
    match scheme.mapping.apply(document, &mut Scratch::new(), &mut model) {
        Ok(Outcome::Mapped { outputs }) => {
            let text = String::from_utf8_lossy(&model);
            let pretty =
                json::pretty(&text).ok_or_else(|| Stop::bug(format!("the model is no JSON: {text}")))?;
            let output = |index: usize| outputs.get(index).cloned().flatten();
            let key = output(Scheme::KEY).unwrap_or_default();
            let mut notes = format!("{}: {} {key}", scheme.name, scheme.target.key);
            if let Some(write_key) = output(Scheme::WRITE_KEY) {
                notes.push_str(&format!(", write key {write_key}"));
            }
            Ok(Report::done(plain(&pretty) + "\n").with_notes(plain(&notes) + "\n"))
        }
        Ok(Outcome::Filtered) => {
            let notes =
                format!("{}: the filter leaves {shown} alone; nothing would be posted\n", scheme.name);
            Ok(Report::done("").with_notes(notes))
        }
        Err(Rejection::Malformed { message, line, column }) => {
            let place = format!("{shown}:{line}:{column}");
            Err(Stop::failed(format!("{place}: the order is not a readable document: {message}")))
        }
        Err(Rejection::Unmappable(problems)) => {
            let count = counted(problems.len(), "problem");
            let blocks: String = problems.iter().map(block).collect();
            Err(Stop::failed(format!("{shown} can't be mapped by {}: {count}\n{blocks}", scheme.name)))
        }
    }
}

fn block(problem: &FieldProblem) -> String {
    let FieldProblem { field, rule, inputs, message } = problem;
    let mut text = format!("\n{field}\n  {message}\n  rule:  {rule}\n");
    for input in inputs {
        text.push_str(&format!("  input: {} = {}\n", input.path, input.value));
    }
    text
}
