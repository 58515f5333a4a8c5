//! Names that look like ours and are not: typing errors that would otherwise be ignored in silence.

use std::collections::BTreeSet;
use std::fmt;

use crate::reader::variable_part;
use crate::{Environment, SETTINGS};

/// What a variable of ours starts with; anything else of that kind is a typing error.
const PREFIXES: [&str; 10] = [
    "AMQP_",
    "WDT_",
    "QIMEN_",
    "KINGDEE_",
    "SCHEMES_",
    "DRAIN_",
    "PUSH_",
    "MANAGEMENT_",
    "HTTP_ADDR",
    "LOG_FORMAT",
];

/// A variable that nothing reads although it looks like a setting. The program starts all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The variable as it is set. Its value isn't kept.
    pub variable: String,
    /// The nearest name that would be read.
    pub nearest: Option<String>,
    /// Why it isn't read.
    pub why: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.why)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// Every variable that looks like a setting and is none, in alphabetical order. A variable of another Kingpost program is
/// no cause for a warning: the programs may share one environment. `accounts` are those of all schemes.
pub fn warnings(environment: &Environment, accounts: &[Option<&str>]) -> Vec<Warning> {
    let parts: Vec<String> = accounts.iter().flatten().filter_map(|name| variable_part(name).ok()).collect();
    let known = known_names(&parts);
    let unknown = environment.names().filter(|name| !known.contains(*name) && !is_service_link(name));
    unknown.filter_map(|name| warning(name, &known)).collect()
}

fn known_names(accounts: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for setting in SETTINGS {
        let of_accounts =
            accounts.iter().filter(|_| setting.is_per_account()).map(|name| Some(name.as_str()));
        for account in of_accounts.chain([None]) {
            let name = setting.variable(account);
            if setting.may_come_from_a_file() {
                names.insert(format!("{name}_FILE"));
            }
            names.insert(name);
        }
    }
    names
}

fn warning(name: &str, known: &BTreeSet<String>) -> Option<Warning> {
    let upper = name.to_ascii_uppercase();
    let named =
        |nearest: Option<String>, why: String| Some(Warning { variable: name.to_owned(), nearest, why });
    if known.contains(&upper) {
        return named(Some(upper), "nothing reads it, as names are upper case".to_owned());
    }
    let nearest = known.iter().map(|known| (distance(&upper, known), known)).min();
    let (far, nearest) = nearest?;
    let close = far <= if nearest.len() <= 8 { 1 } else { 2 };
    let ours = PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
    if ours && let Some(account) = account_in(&upper) {
        let why = format!("nothing reads it, as no scheme names the account {account:?}");
        return named(close.then(|| nearest.clone()), why);
    }
    // Half of the letters wrong is another word, not a typing error.
    let hint = (far * 2 <= nearest.len()).then(|| nearest.clone());
    if ours || close { named(hint, "nothing reads it".to_owned()) } else { None }
}

/// `north`, for a name such as `WDT_NORTH_URL`.
fn account_in(name: &str) -> Option<String> {
    let of_account = |setting: &crate::Setting| {
        let (system, rest) = setting.name.split_once('_')?;
        let account = name.strip_prefix(system)?.strip_prefix('_')?;
        let account =
            account.strip_suffix(rest).or_else(|| account.strip_suffix("_FILE")?.strip_suffix(rest))?;
        account.strip_suffix('_').filter(|account| !account.is_empty()).map(str::to_ascii_lowercase)
    };
    // The longest setting leaves the shortest account: `QIMEN_NORTH_TARGET_APP_KEY` is one of `north`.
    SETTINGS
        .iter()
        .filter(|setting| setting.is_per_account())
        .filter_map(of_account)
        .min_by_key(|account| account.len())
}

/// Kubernetes puts `AMQP_SERVICE_HOST` or `AMQP_PORT_5672_TCP` there by itself when a service is called `amqp`.
fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || name.ends_with("_PORT")
}

/// The number of letters to insert, remove, replace, or swap with a neighbour: AMPQ is one away from AMQP.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(row[j - 1] + 1).min(last[j] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}
