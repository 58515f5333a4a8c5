//! What is wrong with the settings, worded for the person who has to mend them.

use std::fmt;

use crate::Setting;

/// One setting that can't be used: which variable, what was received, what is expected, what to do.
///
/// A secret's value never appears in it; a secret is described by its shape ("38 characters").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable as a person sets it, with the account in it: `WDT_NORTH_URL`.
    pub variable: String,
    /// What was found: `not set`, a value in quotes, or the shape of a secret.
    pub received: String,
    /// What the variable has to hold.
    pub expected: String,
    /// What to do: an example line, or the step that mends it.
    pub remedy: String,
}

impl Problem {
    /// A problem in four parts, each a lowercase fragment without a full stop.
    pub fn new(
        variable: impl Into<String>,
        received: impl Into<String>,
        expected: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Problem {
            variable: variable.into(),
            received: received.into(),
            expected: expected.into(),
            remedy: remedy.into(),
        }
    }

    /// A problem with `variable`, whose expectation and example are those of its row in the table.
    pub(crate) fn with(setting: &Setting, variable: &str, received: impl Into<String>) -> Self {
        Problem::new(variable, received, setting.expected, example(setting, variable))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected {}; {}", self.variable, self.received, self.expected, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// Every problem of one reading, so that a person mends all of them at once. Ends the program with
/// [`Exit::Settings`](crate::Exit::Settings).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, unless the very same one is there already: two readers may look at one variable.
    pub fn push(&mut self, problem: Problem) {
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// These and the other ones, in that order, each once.
    #[must_use]
    pub fn merge(mut self, other: Problems) -> Problems {
        other.list.into_iter().for_each(|problem| self.push(problem));
        self
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// `value` when nothing is wrong, else the problems.
    ///
    /// # Errors
    /// The problems themselves, when there are any.
    pub fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// The values of two readings, or the problems of both.
///
/// # Errors
/// What is wrong with either, together.
pub fn both<A, B>(one: Result<A, Problems>, other: Result<B, Problems>) -> Result<(A, B), Problems> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err(one.merge(other)),
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            0 => return f.write_str("no setting is wrong"),
            1 => f.write_str("1 setting is wrong:")?,
            n => write!(f, "{n} settings are wrong:")?,
        }
        self.list.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Problems { list: vec![problem] }
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        problems.into_iter().fold(Problems::new(), |mut all, problem| {
            all.push(problem);
            all
        })
    }
}

/// What is said of a value: itself, when it may be shown and is short enough to be no pasted secret, else its shape.
pub(crate) fn shape(setting: &Setting, value: &str) -> String {
    let count = value.chars().count();
    if setting.secret || count > 80 || value.contains('@') {
        let plural = if count == 1 { "" } else { "s" };
        format!("holds {count} character{plural}")
    } else {
        format!("holds {value:?}")
    }
}

fn example(setting: &Setting, variable: &str) -> String {
    let line = format!("for example {variable}={}", setting.example);
    if setting.secret { format!("{line}, or {variable}_FILE=/path/to/a/file that holds it") } else { line }
}
