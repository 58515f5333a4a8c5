//! The rules themselves, tried on small snippets that break them and on neighbours that don't.

use std::collections::BTreeSet;

use cargo_metadata::DependencyKind;

use super::workspace::{Text, Violation};
use super::{documents, facts, floors, manifests, seeded, sizes, supply, uses};

fn text(path: &str, text: &str) -> Text {
    Text { path: path.to_owned(), text: text.to_owned() }
}

fn lines(found: &[Violation]) -> Vec<usize> {
    found.iter().map(|violation| violation.line).collect()
}

fn edge(from: &str, to: &str) -> Option<String> {
    let edge = floors::Edge { from: from.to_owned(), to: to.to_owned() };
    floors::bad_edge(&edge).map(|violation| violation.text)
}

#[test]
fn an_edge_up_or_sideways_is_named_and_one_down_is_not() {
    assert!(edge("kingpost-model", "kingpost-broker").is_some_and(|text| text.contains("goes up")));
    assert!(edge("kingpost-wdt", "kingpost-kingdee").is_some_and(|text| text.contains("goes sideways")));
    assert!(edge("kingpost-extractor", "kingpost-loader").is_some_and(|text| text.contains("goes sideways")));
    assert!(edge("kingpost-mapping", "kingpost-scheme").is_some(), "only scheme may use mapping");
    assert!(edge("kingpost-new", "kingpost-model").is_some_and(|text| text.contains("no floor")));
    assert_eq!(edge("kingpost-scheme", "kingpost-mapping"), None);
    assert_eq!(edge("kingpost-loader", "kingpost-model"), None);
    assert_eq!(edge("e2e", "kingpost-operator"), None);
}

#[test]
fn the_sandbox_stands_alone() {
    assert!(edge("kingpost-sandbox", "kingpost-kingdee").is_some());
    assert!(edge("kingpost-operator", "kingpost-sandbox").is_some());
    assert_eq!(edge("e2e", "kingpost-sandbox"), None);
    assert_eq!(floors::homeless(&["kingpost-sandbox", "kingpost-model"]).len(), 0);
    assert_eq!(floors::homeless(&["kingpost-surprise"]).len(), 1);
}

#[test]
fn a_crate_reached_by_a_detour_is_named() {
    let reach: BTreeSet<String> = ["serde", "kingpost-wdt"].map(str::to_owned).into();
    assert_eq!(floors::forbidden_reach("kingpost-transformer", &reach).len(), 1);
    assert_eq!(floors::forbidden_reach("kingpost-extractor", &reach).len(), 0);
}

#[test]
fn a_wrapped_crate_belongs_to_its_wrapper() {
    assert!(floors::unwrapped("kingpost-loader", "lapin", DependencyKind::Development).is_some());
    assert!(floors::unwrapped("kingpost-kingdee", "reqwest", DependencyKind::Normal).is_some());
    assert!(floors::unwrapped("kingpost-telemetry", "reqwest", DependencyKind::Development).is_none());
    assert!(floors::unwrapped("kingpost-broker", "lapin", DependencyKind::Normal).is_none());
    assert!(floors::unwrapped("kingpost-loader", "serde", DependencyKind::Normal).is_none());
}

#[test]
fn a_banned_path_is_seen_through_groups_renames_macros_and_types() {
    for bad in [
        "use lapin::Channel;",
        "use {std::fmt, lapin as rabbit};",
        "fn f(channel: &lapin::Channel) {}",
        "fn f() { tokio::select! { _ = tokio::signal::ctrl_c() => {} } }",
        "use tokio::{signal, time};",
        "use std::env; fn f() { env::var(\"X\").ok(); }",
        "use std::env::var as look; fn f() { look(\"X\").ok(); }",
        "fn f() { let _ = std::env::vars_os(); }",
        "fn f() { vec![std::env::var(\"X\")]; }",
        "struct S { client: reqwest::Client }",
    ] {
        assert!(!uses::banned_paths(&text("crates/loader/src/lib.rs", bad)).is_empty(), "not seen: {bad}");
    }
}

#[test]
fn a_path_that_only_looks_banned_is_left_alone() {
    let fine = "fn f() { env!(\"CARGO_PKG_NAME\"); crate::lapin_like::go(); std::env::args(); } // lapin";
    assert!(uses::banned_paths(&text("crates/loader/src/lib.rs", fine)).is_empty());
    let own = "use lapin::Channel;";
    assert!(uses::banned_paths(&text("crates/broker/src/lib.rs", own)).is_empty());
    let test = "#[cfg(test)] mod tests { fn f() { std::env::var(\"UPDATE\").ok(); } }";
    assert!(uses::banned_paths(&text("crates/loader/src/lib.rs", test)).is_empty());
    assert!(
        uses::banned_paths(&text("crates/telemetry/tests/metrics.rs", "use reqwest::Client;")).is_empty()
    );
    assert_eq!(
        uses::banned_paths(&text("crates/loader/tests/x.rs", own)).len(),
        1,
        "lapin isn't free in tests"
    );
}

#[test]
fn a_pure_crate_has_no_clock_and_no_files() {
    let bad = "use std::time::Instant;\nfn f() {\n Instant::now();\n std::fs::read(\"x\");\n jiff::Timestamp::now(); }";
    assert_eq!(lines(&uses::impurities(&text("crates/mapping/src/a.rs", bad))), [3, 4, 5]);
    assert!(uses::impurities(&text("crates/loader/src/a.rs", bad)).is_empty());
    let cases = "fn f() { std::fs::read(\"case\").ok(); std::env::var(\"UPDATE\").ok(); }";
    assert!(uses::impurities(&text("crates/mapping/tests/cases.rs", cases)).is_empty());
}

#[test]
fn settling_unfinished_work_and_sleeping_tests_are_named() {
    let settle = "fn f() {\n delivery.settle(verdict); }";
    assert_eq!(lines(&uses::settlements(&text("crates/loader/src/a.rs", settle))), [2]);
    assert!(uses::settlements(&text("crates/worker/src/a.rs", settle)).is_empty());
    assert!(uses::settlements(&text("crates/broker/src/a.rs", settle)).is_empty());

    let macros = "fn f() {\n todo!(); std::dbg!(1);\n }";
    assert_eq!(lines(&uses::unfinished(&text("crates/loader/src/a.rs", macros))), [2, 2]);

    let sleep = "use tokio::time::sleep;\nasync fn f() { sleep(LONG).await; }";
    assert_eq!(lines(&uses::sleeping_tests(&text("crates/loader/tests/a.rs", sleep))), [1, 2]);
    assert!(uses::sleeping_tests(&text("crates/loader/src/a.rs", sleep)).is_empty());
    assert!(uses::sleeping_tests(&text("tests/src/lab/mod.rs", sleep)).is_empty());
    assert!(!uses::sleeping_tests(&text("tests/src/lab/broker.rs", sleep)).is_empty());
}

#[test]
fn lengths_are_counted_from_the_first_line_to_the_last() {
    let of = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
    assert!(sizes::long_functions(&text("a.rs", &of(70))).is_empty());
    assert_eq!(lines(&sizes::long_functions(&text("a.rs", &of(71)))), [1]);
    let method = format!("impl T {{\n    {}}}\n", of(71));
    assert_eq!(lines(&sizes::long_functions(&text("a.rs", &method))), [2]);
    assert!(sizes::long_file(&text("a.rs", &"\n".repeat(600))).is_none());
    assert!(sizes::long_file(&text("a.rs", &"\n".repeat(601))).is_some());
    assert!(sizes::long_main(&text("crates/a/src/main.rs", &"\n".repeat(31))).is_some());
    assert!(sizes::long_main(&text("crates/a/src/lib.rs", &"\n".repeat(31))).is_none());
}

#[test]
fn a_test_attribute_is_told_from_its_negation() {
    let source = "#[cfg(not(test))] fn a() { x::y(); } #[tokio::test] async fn b() { x::z(); }";
    let found = facts::facts("a.rs", source).paths;
    let test = |name: &str| found.iter().find(|path| path.name == name).map(|path| path.test);
    assert_eq!((test("x::y"), test("x::z")), (Some(false), Some(true)));
}

#[test]
fn manifests_must_inherit() {
    assert!(manifests::own_lints(&text("m", "[package]\nworkspace = true\n")).is_some());
    assert!(manifests::own_lints(&text("m", "[lints]\nworkspace = true\n")).is_none());
    let own = "[dependencies]\nserde.workspace = true\nhex = \"1\"\n\n[dependencies.csv]\nversion = \"1\"\n\n[[bin]]\nname = \"x\"\n";
    assert_eq!(lines(&manifests::own_versions(&text("m", own))), [3, 5, 6]);
    let fine = "[dev-dependencies]\n# why\nclap = { workspace = true, features = [\"x\"] }\n";
    assert!(manifests::own_versions(&text("m", fine)).is_empty());
    assert!(manifests::unpinned("serde", "^1.0").is_some());
    assert!(manifests::unpinned("serde", "=1.0.2").is_none());
    let table = "[workspace.dependencies]\na = \"=1\"\n# b\nb = \"=1\"\n[profile.dev]\nc = 1\n";
    assert_eq!(lines(&manifests::unused_entries(&text("Cargo.toml", table), &|name| name == "a")), [4]);
}

#[test]
fn crates_need_a_name_a_front_page_and_safety() {
    assert!(manifests::magnet("kingpost-common", "m").is_some());
    assert!(manifests::magnet("kingpost-mapping", "m").is_none());
    assert!(manifests::unsafe_root(&text("a.rs", "// #![forbid(unsafe_code)]")).is_some());
    assert!(manifests::unsafe_root(&text("a.rs", "#![forbid(unsafe_code)]\n")).is_none());
    assert_eq!(manifests::front_page(None, None, "crates/a").len(), 1);
    let (empty, good) = (text("r", "# a\n"), text("r", "# a\n\nwhat\n\nfor whom\n"));
    let library = text("l", "//! Own words.");
    assert_eq!(manifests::front_page(Some(&empty), None, "crates/a").len(), 1);
    assert_eq!(manifests::front_page(Some(&good), Some(&library), "crates/a").len(), 1);
    let showing = text("l", "#![doc = include_str!(\"../README.md\")]");
    assert_eq!(manifests::front_page(Some(&good), Some(&showing), "crates/a").len(), 0);
}

#[test]
fn dead_links_are_found_in_prose_only() {
    let page = text(
        "docs/a.md",
        "# One, two\n[b](b.md) [gone](c.md)\n[up](../README.md#first-steps) [no](b.md#nothing)\n\
         `[code](x.md)` [web](https://example.com/x)\n```\n[fenced](y.md)\n```\n[self](#one-two) [rust](crate::A)\n[r]: d.md\n",
    );
    let exists = |path: &str| ["docs/a.md", "docs/b.md", "README.md"].contains(&path);
    let read =
        |path: &str| (path == "README.md").then(|| "## First steps\n".to_owned()).or(Some(page.text.clone()));
    assert_eq!(lines(&documents::dead_links(&page, &exists, &read)), [2, 3, 9]);
}

#[test]
fn generated_blocks_are_replaced_between_their_markers() {
    fn table() -> String {
        "| new |\n".to_owned()
    }
    let tables: &[documents::Table] = &[("t", table)];
    let page = text("a.md", "before\n<!-- begin:t -->\nold\n<!-- end:t -->\nafter\n");
    let (fresh, found) = documents::regenerated(&page, tables);
    assert!(found.is_empty());
    assert_eq!(fresh, "before\n<!-- begin:t -->\n\n| new |\n\n<!-- end:t -->\nafter\n");
    assert_eq!(documents::regenerated(&text("a.md", &fresh), tables).0, fresh, "a fresh page stays as it is");
    for broken in ["<!-- begin:u -->\n<!-- end:u -->\n", "<!-- begin:t -->\n", "<!-- end:t -->\n"] {
        assert_eq!(documents::regenerated(&text("a.md", broken), tables).1.len(), 1, "{broken}");
    }
}

#[test]
fn broken_yaml_is_named_with_its_line() {
    let found = documents::broken_yaml(&text("schemes/a.yaml", "a: 1\nb: [1, 2\nc: 3\n"));
    assert!(found.is_some_and(|violation| violation.line > 1));
    assert!(documents::broken_yaml(&text("k8s/a.yaml", "a: 1\n---\nb: { c: \"{{ d }}\" }\n")).is_none());
    assert!(documents::is_our_yaml("schemes/a.yaml") && documents::is_our_yaml("compose.yaml"));
    assert!(!documents::is_our_yaml("crates/scheme/tests/bad.yaml"));
}

#[test]
fn a_path_of_somebodys_machine_is_told_from_a_part_of_an_address() {
    let own = concat!(
        "see /ho",
        "me/ann/x\nin (/wo",
        "rk/y)\nat example.com/wo",
        "rk/z\nfrom ../sha",
        "red/q.md\n"
    );
    assert_eq!(lines(&documents::private_words(&text("a.md", own))), [1, 2, 4]);
}

#[test]
fn a_part_that_breaks_a_rule_of_supply_is_named() {
    let rules = supply::rules(&text(
        "deny.toml",
        "[licenses]\nallow = [\"MIT\", \"BSD-3-Clause\"]\n[bans]\ndeny = [{ crate = \"openssl\" },\n\
         { crate = \"tokio\", deny-multiple-versions = true }]\n[sources]\nallow-registry = [\"https://index\"]\n",
    ));
    let part = |name: &str, version: &str, licence: Option<&str>, source: Option<&str>| supply::Part {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.map(str::to_owned),
        source: source.map(str::to_owned),
        anything: Vec::new(),
    };
    let registry = Some("registry+https://index");
    let fine = [
        part("a", "1.0.0", Some("(MIT OR GPL-3.0-only) AND BSD-3-Clause"), registry),
        part("b", "1.0.0", Some("MIT/Apache-2.0"), registry),
        part("b", "2.0.0", Some("MIT"), registry),
        part("tokio", "1.0.0", Some("MIT"), None),
    ];
    assert_eq!(supply::broken(&rules, &fine).len(), 0, "{:?}", supply::broken(&rules, &fine));
    for bad in [
        part("a", "1.0.0", Some("MIT AND GPL-3.0-only"), registry),
        part("a", "1.0.0", Some("a licence of our own"), registry),
        part("a", "1.0.0", None, registry),
        part("a", "1.0.0", Some("MIT"), Some("git+https://index")),
        part("a", "1.0.0", Some("MIT"), Some("registry+https://other")),
        part("openssl", "1.0.0", Some("MIT"), registry),
        part("tokio", "2.0.0", Some("MIT"), registry),
        supply::Part { anything: vec!["hex".into()], ..part("kingpost-x", "1.0.0", Some("MIT"), None) },
    ] {
        let all: Vec<supply::Part> = [
            part("tokio", "1.0.0", Some("MIT"), registry),
            part("c", "1.0.0", Some("BSD-3-Clause"), None),
            bad,
        ]
        .into();
        assert_eq!(supply::broken(&rules, &all).len(), 1, "{:?}", all.last().map(|part| &part.name));
    }
    let usual = |rules: &str| {
        let rules = supply::rules(&text("deny.toml", rules));
        supply::broken(&rules, &[part("a", "1.0.0", Some("MIT"), Some(supply::USUAL))]).len()
    };
    let rest = "[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = []\n[sources]\n";
    assert_eq!((usual(rest), usual(&format!("{rest}allow-registry = [\"https://index\"]\n"))), (0, 1));
    let unused = supply::broken(&rules, &[part("a", "1.0.0", Some("MIT"), registry)]);
    assert!(unused.iter().any(|found| found.text.contains("BSD-3-Clause")), "{unused:?}");
}

#[test]
fn a_deliberate_bug_whose_test_is_elsewhere_or_gone_is_named() {
    let script = text(seeded::SCRIPT, "packages=(-p e2e -p kingpost-loader)\n");
    let code = text(seeded::CODE, "    \"one\",\n    \"two\",\n");
    let sources = [
        text("crates/loader/src/a.rs", "    async fn finds_one() {"),
        text("crates/model/src/b.rs", "fn finds_two() {"),
    ];
    let list = |rows: &str| text(seeded::LIST, rows);
    let wrong = |rows: &str| lines(&seeded::wrong(&list(rows), &code, &script, &sources));
    assert_eq!(wrong("# head\none finds_one\ntwo finds_one\n"), Vec::<usize>::new());
    assert_eq!(wrong("# head\none finds_one\ntwo finds_two\n"), [3]);
    assert_eq!(wrong("one finds_one\n"), [1]);
}
