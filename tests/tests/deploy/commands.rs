//! Commands of `kingpost` in pages and alerts, held against the help of the program.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use e2e::tools::repository;

/// The help of every command by its words, such as `dead list`; tests of the program itself keep these files true.
fn helps() -> Result<&'static BTreeMap<String, String>> {
    static HELPS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    if let Some(helps) = HELPS.get() {
        return Ok(helps);
    }
    let folder = repository().join("crates/operator/tests/data/help");
    let mut helps = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{} can't be read", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('-', " ");
        helps.insert(name, std::fs::read_to_string(&path)?);
    }
    Ok(HELPS.get_or_init(|| helps))
}

/// Fails where a text names a command or an option that `kingpost` doesn't have. Commands are what stands in backquotes or
/// on a line of code and begins with `kingpost`.
pub(crate) fn known(text: &str) -> Result<()> {
    for command in commands(text) {
        check(&command).with_context(|| format!("`{command}`"))?;
    }
    Ok(())
}

fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let code = line.trim_start().trim_start_matches("$ ");
            let code = code.split(" #").next().unwrap_or(code).trim_end();
            found.extend(code.starts_with("kingpost ").then(|| code.to_owned()));
        }
    }
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join(" ");
    let quoted = prose.split('`').skip(1).step_by(2);
    found.extend(quoted.filter(|code| code.starts_with("kingpost ")).map(|code| code.replace('\n', " ")));
    found
}

fn check(command: &str) -> Result<()> {
    let helps = helps()?;
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let (mut name, mut used) = (String::new(), 0);
    for (at, word) in words.iter().enumerate() {
        let longer = format!("{name} {word}").trim_start().to_owned();
        if !helps.contains_key(&longer) {
            break;
        }
        (name, used) = (longer, at + 1);
    }
    ensure!(!name.is_empty(), "there is no such command");
    let help = helps.get(&name).map(String::as_str).unwrap_or_default();
    let rest = words.get(used..).unwrap_or_default();
    let group = help.contains("<COMMAND>") && !help.contains("[OPTIONS]");
    ensure!(!group, "`kingpost {name}` wants one of its commands");
    for option in rest.iter().filter(|word| word.starts_with('-')) {
        let option = option.split('=').next().unwrap_or(option);
        let has = help.split_whitespace().any(|word| word.trim_end_matches(',') == option);
        ensure!(has, "`kingpost {name}` has no {option}");
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_there_is_noticed() -> Result<()> {
    known(
        "`kingpost dead list --kind base-data` and\n```sh\n$ kingpost status --watch   # until stopped\n```\n",
    )?;
    for wrong in ["`kingpost dead`", "`kingpost dead lits`", "`kingpost status --all`", "`kingpost nothing`"]
    {
        ensure!(known(wrong).is_err(), "{wrong} passes");
    }
    Ok(())
}
