//! The rules of the house, each a test of its own that names file, line and remedy.
#![forbid(unsafe_code)]

mod documents;
mod facts;
mod floors;
mod manifests;
mod seeded;
mod sizes;
mod supply;
mod trials;
mod uses;
mod workspace;

use std::collections::BTreeSet;

use cargo_metadata::Package;

use workspace::{Text, Violation, none};

/// Files whose text a person reads or runs.
const READABLE: &[&str] = &[
    ".rs",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".sh",
    ".py",
    ".json",
    ".csv",
    ".txt",
    "Makefile",
    "Dockerfile",
    ".ci/run",
];

fn over_sources<I: IntoIterator<Item = Violation>>(rule: impl Fn(&Text) -> I) -> Vec<Violation> {
    workspace::sources().iter().flat_map(rule).collect()
}

/// A member's directory relative to the root, such as `crates/model`.
fn dir(package: &Package) -> String {
    let dir = package.manifest_path.parent().map(|dir| dir.as_std_path().to_owned()).unwrap_or_default();
    dir.strip_prefix(workspace::root()).unwrap_or(&dir).to_string_lossy().into_owned()
}

fn read(path: &str) -> Option<Text> {
    let text = std::fs::read_to_string(workspace::root().join(path)).ok()?;
    Some(Text { path: path.to_owned(), text })
}

fn over_members<I: IntoIterator<Item = Violation>>(
    rule: impl Fn(&Package, &str, &Text) -> I,
) -> Vec<Violation> {
    let metadata = workspace::metadata();
    let members = metadata.workspace_packages();
    assert!(members.len() > 10, "cargo metadata names only {} members", members.len());
    let mut found = Vec::new();
    for package in members {
        let dir = dir(package);
        let Some(manifest) = read(&format!("{dir}/Cargo.toml")) else { panic!("{dir} has no manifest") };
        found.extend(rule(package, &dir, &manifest));
    }
    found
}

#[test]
fn each_deliberate_bug_has_a_test_that_is_there() {
    let [list, code, script] =
        [seeded::LIST, seeded::CODE, seeded::SCRIPT].map(|path| read(path).expect(path));
    none(seeded::wrong(&list, &code, &script, &workspace::sources()));
}

#[test]
fn edges_go_strictly_down_the_floors() {
    let edges = floors::edges(&workspace::metadata());
    assert!(edges.len() > 10, "only {} edges found", edges.len());
    none(edges.iter().filter_map(floors::bad_edge).collect());
}

#[test]
fn every_crate_has_a_floor() {
    let metadata = workspace::metadata();
    let names: Vec<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    none(floors::homeless(&names));
}

#[test]
fn the_transformer_links_no_client_and_the_pure_crates_no_network() {
    let metadata = workspace::metadata();
    let rules = floors::UNREACHABLE.iter();
    none(
        rules
            .flat_map(|(name, _)| {
                let reach = floors::reach(&metadata, name);
                assert!(!reach.is_empty(), "{name} reaches nothing, not even serde");
                floors::forbidden_reach(name, &reach)
            })
            .collect(),
    );
}

#[test]
fn only_their_wrappers_depend_on_the_wrapped_crates() {
    none(over_members(|package, _, _| {
        let from = package.name.to_string();
        let dependencies = package.dependencies.clone().into_iter();
        dependencies.filter_map(move |dependency| floors::unwrapped(&from, &dependency.name, dependency.kind))
    }));
}

#[test]
fn lapin_reqwest_the_environment_and_signals_are_named_in_one_place_each() {
    none(over_sources(uses::banned_paths));
}

#[test]
fn mapping_and_model_touch_no_clock_network_environment_or_broker() {
    none(over_sources(uses::impurities));
}

#[test]
fn only_the_worker_settles_a_delivery() {
    none(over_sources(uses::settlements));
}

#[test]
fn nothing_is_left_unfinished() {
    none(over_sources(uses::unfinished));
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    none(over_sources(uses::sleeping_tests));
}

#[test]
fn files_are_short() {
    none(over_sources(sizes::long_file));
}

#[test]
fn functions_are_short() {
    none(over_sources(sizes::long_functions));
}

#[test]
fn mains_are_thin() {
    none(over_sources(sizes::long_main));
}

#[test]
fn crates_are_named_after_what_they_are() {
    none(over_members(|package, dir, _| manifests::magnet(&package.name, &format!("{dir}/Cargo.toml"))));
}

#[test]
fn every_crate_inherits_the_lints() {
    none(over_members(|_, _, manifest| manifests::own_lints(manifest)));
}

#[test]
fn every_crate_forbids_unsafe_code() {
    none(over_members(|package, dir, _| {
        let roots = package.targets.iter().filter(|target| target.is_lib() || target.is_bin());
        let paths: Vec<String> = roots
            .filter_map(|target| target.src_path.as_str().split_once(&format!("/{dir}/")))
            .map(|(_, inner)| format!("{dir}/{inner}"))
            .collect();
        paths.into_iter().filter_map(|path| manifests::unsafe_root(&read(&path)?))
    }));
}

#[test]
fn every_crate_has_a_front_page() {
    none(over_members(|_, dir, _| {
        let (readme, library) = (read(&format!("{dir}/README.md")), read(&format!("{dir}/src/lib.rs")));
        manifests::front_page(readme.as_ref(), library.as_ref(), dir)
    }));
}

#[test]
fn versions_come_from_the_workspace_table() {
    none(over_members(|_, _, manifest| manifests::own_versions(manifest)));
}

#[test]
fn versions_are_pinned_exactly() {
    none(over_members(|package, _, _| {
        let outside = package.dependencies.clone().into_iter().filter(|dependency| dependency.path.is_none());
        outside.filter_map(|dependency| manifests::unpinned(&dependency.name, &dependency.req.to_string()))
    }));
}

#[test]
fn the_workspace_table_holds_nothing_unused() {
    let metadata = workspace::metadata();
    let members = metadata.workspace_packages();
    let used: BTreeSet<&str> = members
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    let root = read("Cargo.toml").expect("the workspace has a manifest");
    none(manifests::unused_entries(&root, &|name| used.contains(name)));
}

#[test]
fn licences_bans_and_sources_are_as_deny_toml_says() {
    let rules = supply::rules(&read("deny.toml").expect("the rules of what the programs are made of"));
    let metadata = workspace::metadata_with(&["--all-features"]);
    assert!(metadata.packages.len() > 100, "only {} packages found", metadata.packages.len());
    none(supply::broken(&rules, &supply::parts(&metadata)));
}

#[test]
fn every_yaml_file_parses() {
    let files = workspace::texts(&[".yaml", ".yml"]);
    none(
        files
            .iter()
            .filter(|file| documents::is_our_yaml(&file.path))
            .filter_map(documents::broken_yaml)
            .collect(),
    );
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let exists = |path: &str| workspace::root().join(path).exists();
    let text = |path: &str| read(path).map(|file| file.text);
    let pages = workspace::texts(&[".md"]);
    none(pages.iter().flat_map(|page| documents::dead_links(page, &exists, &text)).collect());
}

#[test]
fn generated_tables_are_fresh() {
    let pages = workspace::texts(&[".md"]);
    let root = workspace::root();
    let pages = pages.iter().filter(|page| documents::is_page(&page.path));
    none(pages.flat_map(|page| documents::stale_tables(page, &root)).collect());
}

#[test]
fn every_generated_table_is_shown() {
    let pages = workspace::texts(&[".md"]);
    let shown = |name: &str| pages.iter().any(|page| page.text.contains(&format!("<!-- begin:{name} -->")));
    let lost = documents::TABLES.iter().filter(|(name, _)| !shown(name));
    none(
        lost.map(|(name, _)| {
            let text = format!(
                "no page shows it; add <!-- begin:{name} --> and <!-- end:{name} --> where it belongs"
            );
            Violation::new("README.md", 1, text)
        })
        .collect(),
    );
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    none(workspace::texts(READABLE).iter().flat_map(documents::private_words).collect());
}
