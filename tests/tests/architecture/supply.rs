//! What the programs are made of: licences, bans and sources, as `deny.toml` has them.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::Metadata;
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

use super::workspace::{Text, Violation};

/// The parts of `deny.toml` that can be held without the tool.
#[derive(Deserialize)]
pub(crate) struct Rules {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// It may be there, in one version.
    #[serde(default)]
    deny_multiple_versions: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Sources {
    /// Besides cargo's own, which is allowed where none is named.
    allow_registry: Vec<String>,
}

/// The source of what comes from cargo's own registry.
pub(crate) const USUAL: &str = "the registry";

/// One package of the tree.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// Where it comes from; nothing for one of ours.
    pub(crate) source: Option<String>,
    /// The dependencies whose version may be any.
    pub(crate) anything: Vec<String>,
}

pub(crate) fn rules(file: &Text) -> Rules {
    toml::from_str(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

/// Every package that is linked, or that builds or tests what is.
pub(crate) fn parts(metadata: &Metadata) -> Vec<Part> {
    // The list also has what only other platforms need.
    let nodes: BTreeMap<_, _> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let mut waiting: Vec<_> = metadata.workspace_members.iter().collect();
    let mut used: BTreeSet<_> = waiting.iter().copied().collect();
    while let Some(node) = waiting.pop().and_then(|id| nodes.get(id)) {
        waiting.extend(node.deps.iter().map(|dependency| &dependency.pkg).filter(|id| used.insert(*id)));
    }
    let packages = metadata.packages.iter().filter(|package| used.contains(&package.id));
    packages
        .map(|package| {
            let outside = package.dependencies.iter().filter(|dependency| dependency.path.is_none());
            let anything = outside.filter(|dependency| dependency.req.to_string() == "*");
            Part {
                name: package.name.to_string(),
                version: package.version.to_string(),
                licence: package.license.clone(),
                source: package
                    .source
                    .as_ref()
                    .map(|source| if source.is_crates_io() { USUAL.to_owned() } else { source.repr.clone() }),
                anything: anything.map(|dependency| dependency.name.clone()).collect(),
            }
        })
        .collect()
}

/// Everything that breaks a rule, and every licence that is allowed and that nothing has.
pub(crate) fn broken(rules: &Rules, parts: &[Part]) -> Vec<Violation> {
    let violation = |text: String| Violation::new("deny.toml", 1, text);
    let (mut found, mut granted) = (Vec::new(), BTreeSet::new());
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for part in parts {
        let name = format!("{} {}", part.name, part.version);
        versions.entry(&part.name).or_default().insert(&part.version);
        if let Err(why) = licensed(rules, part.licence.as_deref(), &mut granted) {
            found.push(violation(format!("{name} {why}; take another crate, or allow it for a reason")));
        }
        if let Some(source) = part.source.as_deref() {
            let named = source
                .strip_prefix("registry+")
                .is_some_and(|index| rules.sources.allow_registry.iter().any(|allowed| allowed == index));
            let known = named || (source == USUAL && rules.sources.allow_registry.is_empty());
            if !known {
                found.push(violation(format!("{name} comes from {source}; only the registry is allowed")));
            }
        }
        for dependency in &part.anything {
            found.push(violation(format!("{name} takes any version of {dependency}; name one")));
        }
    }
    for ban in &rules.bans.deny {
        let Some(versions) = versions.get(ban.name.as_str()) else { continue };
        if !ban.deny_multiple_versions {
            found.push(violation(format!("{} is banned; see `cargo tree -i {}`", ban.name, ban.name)));
        } else if versions.len() > 1 {
            found.push(violation(format!("{} is there in {} versions; one only", ban.name, versions.len())));
        }
    }
    let unused = rules.licenses.allow.iter().filter(|licence| !granted.contains(*licence));
    found.extend(unused.map(|licence| violation(format!("nothing has the licence {licence}; take it out"))));
    found
}

/// Whether a licence is among the allowed ones; notes which of them it is.
fn licensed(rules: &Rules, licence: Option<&str>, granted: &mut BTreeSet<String>) -> Result<(), String> {
    let text = licence.ok_or("names no licence")?;
    let expression = Expression::parse_mode(text, ParseMode::LAX)
        .map_err(|_| format!("has the licence `{text}`, which is none"))?;
    let allowed = |wanted: &LicenseReq| {
        let id = wanted.license.id()?.name;
        rules.licenses.allow.iter().find(|allowed| *allowed == id && wanted.addition.is_none())
    };
    granted.extend(expression.requirements().filter_map(|one| allowed(&one.req)).cloned());
    let accepted = expression.evaluate(|wanted| allowed(wanted).is_some());
    if accepted { Ok(()) } else { Err(format!("has the licence `{text}`, which isn't allowed")) }
}
