//! What was asked, what was committed, and whether the answer arrived.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::beijing;
use crate::json::Json;

/// Which of the two systems a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Wdt,
    Kingdee,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Wdt => "wdt",
            System::Kingdee => "kingdee",
        }
    }
}

/// One request.
#[derive(Debug)]
struct Entry {
    at: Timestamp,
    started: Instant,
    system: System,
    operation: String,
    /// Document numbers that the request names.
    keys: Vec<String>,
    fault: Option<&'static str>,
    /// `ok`, or what went wrong in a few words; empty while it runs.
    outcome: String,
    duration: Option<Duration>,
    /// Whether the whole, unharmed answer was handed to the network.
    answered: bool,
}

/// One step of one document that was made durable.
#[derive(Debug)]
struct Commit {
    at: Timestamp,
    number: String,
    fid: i64,
    step: &'static str,
    request: u64,
}

/// The record of a run. Request ids count from 1.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    commits: Vec<Commit>,
}

impl Ledger {
    /// Notes a request and gives it its id.
    pub(crate) fn begin(&mut self, system: System, operation: &str, keys: &[String]) -> u64 {
        self.entries.push(Entry {
            at: Timestamp::now(),
            started: Instant::now(),
            system,
            operation: operation.to_owned(),
            keys: keys.to_vec(),
            fault: None,
            outcome: String::new(),
            duration: None,
            answered: false,
        });
        self.entries.len() as u64
    }

    /// Notes the scripted fault that a request met.
    pub(crate) fn fault(&mut self, request: u64, kind: &'static str) {
        if let Some(entry) = self.entry(request) {
            entry.fault = Some(kind);
        }
    }

    /// Notes what a request came to.
    pub(crate) fn outcome(&mut self, request: u64, outcome: &str) {
        if let Some(entry) = self.entry(request) {
            outcome.clone_into(&mut entry.outcome);
        }
    }

    /// Notes that a request is over.
    pub(crate) fn end(&mut self, request: u64, answered: bool) {
        if let Some(entry) = self.entry(request) {
            entry.duration = Some(entry.started.elapsed());
            entry.answered = answered;
        }
    }

    /// Notes a durable step.
    pub(crate) fn commit(&mut self, number: &str, fid: i64, step: &'static str, request: u64) {
        self.commits.push(Commit { at: Timestamp::now(), number: number.to_owned(), fid, step, request });
    }

    /// The requests after the one of that id, optionally of one system or operation.
    pub(crate) fn requests(&self, since: u64, system: Option<&str>, operation: Option<&str>) -> Json {
        let wanted = self.entries.iter().enumerate().skip(usize::try_from(since).unwrap_or(usize::MAX));
        let wanted = wanted
            .filter(|(_, entry)| system.is_none_or(|name| name == entry.system.name()))
            .filter(|(_, entry)| operation.is_none_or(|name| name.eq_ignore_ascii_case(&entry.operation)));
        Json::Array(wanted.map(|(at, entry)| describe(at as u64 + 1, entry)).collect())
    }

    /// Every commit, and whether the answer to its request arrived.
    pub(crate) fn commits(&self, number: Option<&str>) -> Json {
        let wanted = self.commits.iter().filter(|commit| number.is_none_or(|number| number == commit.number));
        let describe = |commit: &Commit| {
            let at = usize::try_from(commit.request).unwrap_or_default().wrapping_sub(1);
            let answered = self.entries.get(at).is_some_and(|entry| entry.answered);
            Json::object([
                ("at", beijing::rfc3339(commit.at).into()),
                ("FBillNo", commit.number.as_str().into()),
                ("FID", commit.fid.into()),
                ("step", commit.step.into()),
                ("request", commit.request.into()),
                ("answered", answered.into()),
            ])
        };
        Json::Array(wanted.map(describe).collect())
    }

    /// Requests and seconds per system and operation, for a quick look.
    pub(crate) fn summary(&self) -> Json {
        let mut counts: HashMap<(&str, &str), [usize; 3]> = HashMap::new();
        for entry in &self.entries {
            let count = counts.entry((entry.system.name(), entry.operation.as_str())).or_default();
            count[0] += 1;
            count[1] += usize::from(entry.outcome != "ok");
            count[2] += usize::from(entry.fault.is_some());
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable();
        let row = |((system, operation), [requests, not_ok, faults]): ((&str, &str), [usize; 3])| {
            Json::object([
                ("system", system.into()),
                ("operation", operation.into()),
                ("requests", requests.into()),
                ("not_ok", not_ok.into()),
                ("faults", faults.into()),
            ])
        };
        Json::Array(counts.into_iter().map(row).collect())
    }

    fn entry(&mut self, request: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(request).ok()?.checked_sub(1)?)
    }
}

fn describe(id: u64, entry: &Entry) -> Json {
    let keys = entry.keys.iter().map(|key| key.as_str().into()).collect();
    Json::object([
        ("id", id.into()),
        ("at", beijing::rfc3339(entry.at).into()),
        ("system", entry.system.name().into()),
        ("operation", entry.operation.as_str().into()),
        ("keys", Json::Array(keys)),
        ("fault", entry.fault.into()),
        ("outcome", entry.outcome.as_str().into()),
        (
            "duration_ms",
            entry
                .duration
                .map(|spent| Json::Number(format!("{:.3}", spent.as_secs_f64() * 1e3)))
                .unwrap_or(Json::Null),
        ),
        ("answered", entry.answered.into()),
    ])
}
