//! Which crate may use which.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, PackageId};

use super::workspace::Violation;

/// Edges go strictly down.
const FLOORS: &[(u8, &[&str])] = &[
    (4, &["e2e"]),
    (3, &["kingpost-extractor", "kingpost-transformer", "kingpost-loader", "kingpost-operator"]),
    (2, &["kingpost-connectors", "kingpost-worker"]),
    (
        1,
        &[
            "kingpost-mapping",
            "kingpost-scheme",
            "kingpost-broker",
            "kingpost-telemetry",
            "kingpost-wdt",
            "kingpost-kingdee",
        ],
    ),
    (0, &["kingpost-model", "kingpost-settings", "kingpost-outbound"]),
];

/// A scheme file holds mappings and compiles them.
const SIDEWAYS: &[(&str, &str)] = &[("kingpost-scheme", "kingpost-mapping")];

/// Only the whole-pipeline tests start it; a client that shared its code would pass every test with a wrong signature.
const SANDBOX: &str = "kingpost-sandbox";

/// What a crate may not reach by any way.
pub(crate) const UNREACHABLE: &[(&str, &[&str])] = &[
    (
        "kingpost-transformer",
        &["kingpost-wdt", "kingpost-kingdee", "kingpost-connectors", "kingpost-outbound", "reqwest"],
    ),
    ("kingpost-mapping", &["tokio", "reqwest", "lapin", "hyper"]),
    ("kingpost-model", &["tokio", "reqwest", "lapin", "hyper"]),
];

/// Outside crates that only one of ours may depend on; development dependencies are free where `dev` says so.
const WRAPPED: &[(&str, &[&str], bool)] = &[
    ("lapin", &["kingpost-broker", "e2e"], false),
    ("reqwest", &["kingpost-outbound", "e2e"], true),
    ("envy", &["kingpost-settings"], false),
    ("opentelemetry", &["kingpost-telemetry"], false),
    ("opentelemetry-otlp", &["kingpost-telemetry"], false),
    ("opentelemetry_sdk", &["kingpost-telemetry"], false),
    ("tracing-opentelemetry", &["kingpost-telemetry"], false),
];

/// One edge between two crates of the workspace.
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
}

pub(crate) fn edges(metadata: &Metadata) -> Vec<Edge> {
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut edges = Vec::new();
    for package in &members {
        for dependency in &package.dependencies {
            if names.contains(dependency.name.as_str()) && dependency.name != package.name.as_str() {
                edges.push(Edge { from: package.name.to_string(), to: dependency.name.clone() });
            }
        }
    }
    edges
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, crates)| crates.contains(&name)).map(|(floor, _)| *floor)
}

fn manifest(name: &str) -> String {
    match name.strip_prefix("kingpost-") {
        Some(dir) => format!("crates/{dir}/Cargo.toml"),
        None => "tests/Cargo.toml".to_owned(),
    }
}

/// The rule that an edge breaks, if it breaks one.
pub(crate) fn bad_edge(edge: &Edge) -> Option<Violation> {
    let (from, to) = (edge.from.as_str(), edge.to.as_str());
    let text = if from == SANDBOX {
        format!("{from} uses {to}; the sandbox shares no code with what it tests")
    } else if to == SANDBOX {
        if from == "e2e" {
            return None;
        }
        format!("{from} uses {to}; only the whole-pipeline tests start the sandbox")
    } else {
        match (floor(from), floor(to)) {
            (Some(upper), Some(lower)) if upper > lower || SIDEWAYS.contains(&(from, to)) => return None,
            (Some(upper), Some(lower)) => {
                let way = if upper == lower { "sideways" } else { "up" };
                format!(
                    "{from} (floor {upper}) uses {to} (floor {lower}), which goes {way}; edges go strictly down"
                )
            }
            _ => format!("{from} uses {to}, one of which has no floor; give it one in floors.rs"),
        }
    };
    Some(Violation::new(manifest(from), 1, text))
}

/// Workspace members without a floor.
pub(crate) fn homeless(members: &[&str]) -> Vec<Violation> {
    let lost = members.iter().filter(|name| **name != SANDBOX && floor(name).is_none());
    lost.map(|name| {
        Violation::new(manifest(name), 1, format!("{name} has no floor; give it one in floors.rs"))
    })
    .collect()
}

/// Every normal or build dependency of a package, however far away.
pub(crate) fn reach(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let nodes: BTreeMap<&PackageId, _> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let start = names.iter().find(|(_, own)| **own == name).map(|(id, _)| *id);
    let mut waiting: Vec<&PackageId> = start.into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for dependency in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            if linked && seen.insert(&dependency.pkg) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().filter_map(|id| names.get(id).map(|name| (*name).to_owned())).collect()
}

/// Every forbidden crate that `name` reaches.
pub(crate) fn forbidden_reach(name: &str, reach: &BTreeSet<String>) -> Vec<Violation> {
    let rules = UNREACHABLE.iter().filter(|(own, _)| *own == name).flat_map(|(_, far)| far.iter());
    rules
        .filter(|far| reach.contains(**far))
        .map(|far| {
            let text =
                format!("{name} reaches {far}; see the way with `cargo tree -p {name} -i {far} -e normal`");
            Violation::new(manifest(name), 1, text)
        })
        .collect()
}

/// A dependency on a wrapped outside crate by another than its wrapper.
pub(crate) fn unwrapped(from: &str, dependency: &str, kind: DependencyKind) -> Option<Violation> {
    let (name, wrappers, free) = WRAPPED.iter().find(|(name, _, _)| *name == dependency)?;
    let excused = wrappers.contains(&from) || (*free && kind == DependencyKind::Development);
    let text = format!("{from} depends on {name}; only {} may", wrappers.join(" and "));
    (!excused).then(|| Violation::new(manifest(from), 1, text))
}
