//! Reads the variables of one concern through envy and collects what is wrong with them.
//!
//! envy alone stops at the first problem, prints the value it could not parse, takes an empty variable for a value and
//! ignores a file. So it is given only resolved texts (blanks cut, files read, empty ones left out), fills a flat struct of
//! optional texts with them, and every check is worded here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use serde::de::DeserializeOwned;

use crate::problem::shape;
use crate::secret::{SecretSource, check_certificates, read_value};
use crate::{Environment, Problem, Problems, Program, SETTINGS, SecretString, Setting, setting};

pub(crate) struct Reader<'a> {
    environment: &'a Environment,
    program: Program,
    /// In upper case, as it stands in a variable.
    account: Option<String>,
    pub(crate) problems: Problems,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(environment: &'a Environment, program: Program) -> Self {
        Reader { environment, program, account: None, problems: Problems::new() }
    }

    /// A reader of an account's variables.
    pub(crate) fn of_account(
        environment: &'a Environment,
        program: Program,
        account: Option<&str>,
    ) -> Result<Self, Problems> {
        let account = account.map(variable_part).transpose()?;
        Ok(Reader { environment, program, account, problems: Problems::new() })
    }

    /// The variable's name for this account.
    pub(crate) fn variable(&self, setting: &Setting) -> String {
        setting.variable(self.account.as_deref())
    }

    /// The texts of every setting whose name starts with one of `systems` (`WDT`, `QIMEN`), in envy's struct `T` of
    /// optional texts. A problem with one of them is noted and leaves its field `None`.
    pub(crate) fn variables<T: DeserializeOwned + Default>(&mut self, systems: &[&str]) -> T {
        let mut texts = BTreeMap::new();
        for setting in SETTINGS.iter().filter(|setting| systems.contains(&setting.system())) {
            if let Some(text) = self.text(setting) {
                texts.insert(setting.name.to_owned(), text);
            }
        }
        envy::from_iter(texts).unwrap_or_else(|error| {
            let variables = format!("{}_*", systems.join("_*, "));
            self.problems.push(Problem::new(
                variables,
                error.to_string(),
                "readable text",
                "report this as a bug",
            ));
            T::default()
        })
    }

    /// Where the text of a setting comes from, without reading a file: for what is read again later.
    pub(crate) fn source(&mut self, name: &'static str) -> Option<(&'static Setting, SecretSource)> {
        let setting = setting(name)?;
        match self.file(setting)? {
            Some(path) => Some((setting, SecretSource::File(path))),
            None => {
                let text = self.text(setting)?;
                Some((setting, SecretSource::Value(SecretString::from(text))))
            }
        }
    }

    /// Parses a text; a missing one gives `None` and, when the table says that it is needed here, a problem.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let setting = setting(name)?;
        let text = text?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(Wrong(why)) => {
                let received = match why {
                    Some(why) => format!("{}: {why}", shape(setting, &text)),
                    None => shape(setting, &text),
                };
                self.problems.push(Problem::with(setting, &self.variable(setting), received));
                None
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required(&mut self, name: &'static str, text: Option<String>) -> Option<String> {
        if text.is_none()
            && let Some(setting) = setting(name)
        {
            let variable = self.variable(setting);
            // A problem noted already says better why there is no text.
            if !self.problems.iter().any(|problem| problem.variable.starts_with(&variable)) {
                self.problems.push(Problem::with(setting, &variable, "not set"));
            }
        }
        text
    }

    /// A path to certificates, checked to be readable.
    pub(crate) fn certificates(&mut self, name: &'static str, text: Option<String>) -> Option<PathBuf> {
        self.parsed(name, text, |text| {
            let path = PathBuf::from(text);
            check_certificates(&path).map_err(Wrong::because)?;
            Ok(path)
        })
    }

    fn text(&mut self, setting: &'static Setting) -> Option<String> {
        if let Some(path) = self.file(setting)? {
            return match read_value(&path) {
                Ok(text) => Some(text),
                Err(why) => {
                    let variable = format!("{}_FILE", self.variable(setting));
                    self.problems.push(Problem::new(
                        variable,
                        why,
                        format!("a file that holds {}", setting.expected),
                        "mend the path, or the right to read it",
                    ));
                    None
                }
            };
        }
        let variable = self.variable(setting);
        match self.environment.get(&variable) {
            Some(Ok(text)) => Some(text.to_owned()),
            Some(Err(())) => {
                self.problems.push(Problem::with(setting, &variable, "holds bytes that are no UTF-8"));
                None
            }
            None => setting.default_for(self.program).map(str::to_owned),
        }
    }

    /// The path in `NAME_FILE`: `Some(None)` when there is none, `None` after a problem.
    fn file(&mut self, setting: &'static Setting) -> Option<Option<PathBuf>> {
        if !setting.may_come_from_a_file() {
            return Some(None);
        }
        let variable = self.variable(setting);
        let file_variable = format!("{variable}_FILE");
        let path = match self.environment.get(&file_variable) {
            None => return Some(None),
            Some(Ok(path)) => path,
            Some(Err(())) => {
                self.problems.push(Problem::new(
                    file_variable,
                    "holds bytes that are no UTF-8",
                    "the path of a file",
                    format!("for example {variable}_FILE=/run/secrets/value"),
                ));
                return None;
            }
        };
        if self.environment.get(&variable).is_some() {
            self.problems.push(Problem::new(
                &variable,
                format!("given together with {file_variable}"),
                "one of the two",
                format!("remove {variable} or {file_variable}"),
            ));
            return None;
        }
        Some(Some(PathBuf::from(path)))
    }
}

/// Why a text was refused; the reason must hold no part of it.
pub(crate) struct Wrong(Option<String>);

impl Wrong {
    /// It isn't what the table expects.
    pub(crate) const SHAPE: Wrong = Wrong(None);

    pub(crate) fn because(why: impl Into<String>) -> Self {
        Wrong(Some(why.into()))
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .ok_or(Wrong::SHAPE)
}

/// When something expires, in seconds since the epoch: the beginning of a day in Beijing, or an instant.
pub(crate) fn expiry(text: &str) -> Result<i64, Wrong> {
    let instant = text.parse::<Timestamp>().ok();
    // A date of jiff's may have a time behind it, which would be lost.
    let day = || Some(text).filter(|text| text.len() == 10)?.parse::<Date>().ok();
    let midnight = || Offset::constant(8).to_timestamp(day()?.to_datetime(Time::midnight())).ok();
    instant.or_else(midnight).map(Timestamp::as_second).ok_or(Wrong::SHAPE)
}

/// The part of a variable's name that an account stands for: `north-2` gives `NORTH_2`.
pub(crate) fn variable_part(account: &str) -> Result<String, Problems> {
    let clean = account.starts_with(|c: char| c.is_ascii_lowercase())
        && account.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    let part = account.to_ascii_uppercase().replace('-', "_");
    // QIMEN_TARGET_APP_KEY would be both the target app key and the app key of an account called target.
    if clean && part != "TARGET" && !part.ends_with("_TARGET") {
        return Ok(part);
    }
    Err(Problems::from(Problem::new(
        format!("account {account:?}"),
        "can't stand in the name of a variable",
        "lowercase letters, digits, - and _, starting with a letter and not ending in \"target\"",
        "rename the account in the scheme, for example account: north",
    )))
}
