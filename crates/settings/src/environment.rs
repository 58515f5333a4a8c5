//! The variables a program was started with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// A snapshot of environment variables, handed to the readers, so that a test can hand in its own.
///
/// `Debug` shows the names and never a value.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Clone)]
enum Value {
    Text(String),
    NotUnicode,
}

impl Environment {
    /// The variables of this process, as they are now. A name that isn't Unicode is none of ours and is left out.
    pub fn process() -> Self {
        std::env::vars_os().collect()
    }

    /// The text of a variable without surrounding blanks. `None` when it is missing or empty; `Some(Err(()))` when it
    /// is no Unicode.
    pub(crate) fn get(&self, name: &str) -> Option<Result<&str, ()>> {
        match self.variables.get(name)? {
            Value::Text(text) if text.trim().is_empty() => None,
            Value::Text(text) => Some(Ok(text.trim())),
            Value::NotUnicode => Some(Err(())),
        }
    }

    /// The command line of the editor that the user prefers: `VISUAL`, then `EDITOR`.
    pub fn editor(&self) -> Option<String> {
        ["VISUAL", "EDITOR"].iter().find_map(|name| self.get(name)).and_then(Result::ok).map(str::to_owned)
    }

    /// Whether any variable that isn't empty begins like this.
    pub fn has_any(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix) && self.get(name).is_some())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(pairs: I) -> Self {
        let variables = pairs.into_iter().filter_map(|(name, value)| {
            let value = value.into_string().map_or(Value::NotUnicode, Value::Text);
            Some((name.into_string().ok()?, value))
        });
        Environment { variables: variables.collect() }
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        pairs.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }
}

impl<'a, const N: usize> From<[(&'a str, &'a str); N]> for Environment {
    fn from(pairs: [(&'a str, &'a str); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
