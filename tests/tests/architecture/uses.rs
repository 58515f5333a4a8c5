//! Who may name what.

use super::facts::{Mention, facts};
use super::workspace::{Text, Violation, is_test_file, package_of};

/// A path that only some crates may name.
pub(crate) struct Ban {
    /// The path and everything below it.
    pub(crate) path: &'static str,
    /// Who may.
    pub(crate) allowed: &'static [&'static str],
    /// Whether tests may, in files below `tests/` or items marked `#[cfg(test)]`.
    pub(crate) tests: bool,
    pub(crate) remedy: &'static str,
}

const ENVIRONMENT: &str = "take it from kingpost-settings, which reports all problems at once";
const SPANS: &str = "go through kingpost_telemetry::traces, which builds without an exporter as well";
const CLOCK: &str =
    "pass the time in as an argument; this crate gives the same output for the same input, forever";
const PURE: &str = "move it a floor up; this crate is pure";

/// The sandbox, the operator command and the demo are no workers: each ends at Ctrl-C by itself.
const HEARS_SIGNALS: &[&str] = &["worker", "operator", "sandbox", "e2e"];

/// Helpers that look at a condition again and again until it holds or its deadline has passed.
const POLLS: [&str; 3] = ["tests/src/lab/mod.rs", "tests/src/pipeline.rs", "tests/src/demo.rs"];

pub(crate) const BANS: &[Ban] = &[
    Ban {
        path: "lapin",
        allowed: &["broker", "e2e"],
        tests: false,
        remedy: "go through kingpost-broker, the only crate that knows the AMQP client",
    },
    Ban {
        path: "reqwest",
        allowed: &["outbound", "e2e"],
        tests: true,
        remedy: "go through kingpost-outbound, which caps, times out and redacts",
    },
    Ban { path: "std::env::var", allowed: &["settings", "e2e"], tests: true, remedy: ENVIRONMENT },
    Ban { path: "std::env::vars", allowed: &["settings", "e2e"], tests: true, remedy: ENVIRONMENT },
    Ban { path: "std::env::var_os", allowed: &["settings", "e2e"], tests: true, remedy: ENVIRONMENT },
    Ban { path: "std::env::vars_os", allowed: &["settings", "e2e"], tests: true, remedy: ENVIRONMENT },
    Ban { path: "std::env::*", allowed: &[], tests: false, remedy: "name what you use of std::env" },
    Ban { path: "envy", allowed: &["settings"], tests: true, remedy: ENVIRONMENT },
    Ban { path: "opentelemetry", allowed: &["telemetry"], tests: false, remedy: SPANS },
    Ban { path: "opentelemetry_otlp", allowed: &["telemetry"], tests: false, remedy: SPANS },
    Ban { path: "opentelemetry_sdk", allowed: &["telemetry"], tests: false, remedy: SPANS },
    Ban { path: "tracing_opentelemetry", allowed: &["telemetry"], tests: false, remedy: SPANS },
    Ban {
        path: "tokio::signal",
        allowed: HEARS_SIGNALS,
        tests: false,
        remedy: "take the stop token from kingpost-worker, the only one that hears signals",
    },
];

/// What `mapping` and `model` may not touch, in tests neither.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", PURE),
    ("reqwest", PURE),
    ("lapin", PURE),
    ("axum", PURE),
    ("std::env::var", PURE),
    ("std::env::vars", PURE),
    ("std::env::var_os", PURE),
    ("std::net", PURE),
    ("std::process", PURE),
    ("std::thread::sleep", PURE),
    ("std::time::SystemTime::now", CLOCK),
    ("std::time::Instant::now", CLOCK),
    ("jiff::Timestamp::now", CLOCK),
    ("jiff::Zoned::now", CLOCK),
];

pub(crate) const PURE_CRATES: [&str; 2] = ["mapping", "model"];

fn names(mention: &Mention, path: &str) -> bool {
    mention.name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn in_test(source: &Text, mention: &Mention) -> bool {
    mention.test || is_test_file(&source.path)
}

/// Every mention of a banned path.
pub(crate) fn banned_paths(source: &Text) -> Vec<Violation> {
    let package = package_of(&source.path);
    let mut found = Vec::new();
    for mention in facts(&source.path, &source.text).paths {
        for ban in BANS {
            let excused = ban.allowed.contains(&package) || (ban.tests && in_test(source, &mention));
            if names(&mention, ban.path) && !excused {
                let text = format!("{package} names {}; {}", mention.name, ban.remedy);
                found.push(Violation::new(&source.path, mention.line, text));
            }
        }
    }
    found
}

/// Every clock, network, environment or broker in a pure crate. Its tests may read files, its benchmarks take the time.
pub(crate) fn impurities(source: &Text) -> Vec<Violation> {
    let package = package_of(&source.path);
    if !PURE_CRATES.contains(&package) || source.path.contains("/benches/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for mention in facts(&source.path, &source.text).paths {
        let test = in_test(source, &mention);
        let banned =
            IMPURE.iter().find(|(path, _)| names(&mention, path) && !(test && path.starts_with("std::env")));
        let remedy = match banned {
            Some((_, remedy)) => remedy,
            None if !test && names(&mention, "std::fs") => PURE,
            None => continue,
        };
        found.push(Violation::new(
            &source.path,
            mention.line,
            format!("{package} names {}; {remedy}", mention.name),
        ));
    }
    found
}

/// Every delivery settled by another than the worker, and the broker, which is made of it.
pub(crate) fn settlements(source: &Text) -> Vec<Violation> {
    let package = package_of(&source.path);
    let found = facts(&source.path, &source.text)
        .methods
        .into_iter()
        .filter(|method| method.name == "settle" && !["worker", "broker"].contains(&package));
    let text = format!("{package} settles a delivery; return a verdict and let kingpost-worker settle it");
    found.map(|method| Violation::new(&source.path, method.line, text.clone())).collect()
}

/// Every macro that marks unfinished work.
pub(crate) fn unfinished(source: &Text) -> Vec<Violation> {
    let macros = facts(&source.path, &source.text).macros.into_iter();
    macros
        .filter(|call| ["todo", "unimplemented", "dbg"].contains(&call.name.as_str()))
        .map(|call| {
            Violation::new(
                &source.path,
                call.line,
                format!("{}! is left; finish it or take it out", call.name),
            )
        })
        .collect()
}

/// Every test that sleeps instead of waiting for what it needs.
pub(crate) fn sleeping_tests(source: &Text) -> Vec<Violation> {
    const SLEEPS: [&str; 4] =
        ["std::thread::sleep", "std::thread::sleep_ms", "tokio::time::sleep", "tokio::time::sleep_until"];
    let polls = POLLS.contains(&source.path.as_str());
    let all_of_it_is_test = package_of(&source.path) == "e2e";
    let paths = facts(&source.path, &source.text).paths.into_iter();
    paths
        .filter(|path| {
            !polls
                && (all_of_it_is_test || in_test(source, path))
                && SLEEPS.iter().any(|sleep| names(path, sleep))
        })
        .map(|path| {
            let text = format!("a test names {}; wait for a condition with a deadline instead", path.name);
            Violation::new(&source.path, path.line, text)
        })
        .collect()
}
