//! Who may talk to whom, read from the policies as a cluster's network would.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::objects::{Build, at, list, template, text};
use super::pods::selects;
use super::{PRODUCTION, TRY_OUT, build, builds, pushing};

/// What pods with such labels may reach, or be reached by: `TCP 5671 pods app.kubernetes.io/name=rabbitmq`.
fn allowed(build: &Build, labels: &Value, direction: &str) -> BTreeSet<String> {
    let (rules, peers) =
        if direction == "Egress" { ("/spec/egress", "/to") } else { ("/spec/ingress", "/from") };
    let mut found = BTreeSet::new();
    for policy in build
        .of("NetworkPolicy")
        .into_iter()
        .filter(|policy| selects(at(policy, "/spec/podSelector"), labels))
    {
        for rule in list(policy, rules) {
            let all = json!([{}]);
            let peers = rule.pointer(peers).unwrap_or(&all);
            for port in list(rule, "/ports") {
                for peer in list(peers, "") {
                    found.insert(format!("{} {} {}", text(port, "/protocol"), number(port), named(peer)));
                }
            }
            if list(rule, "/ports").is_empty() {
                found.insert(format!("everything: {rule}"));
            }
        }
    }
    found
}

fn number(port: &Value) -> String {
    let first = at(port, "/port");
    let first = first.as_str().map_or_else(|| first.to_string(), str::to_owned);
    at(port, "/endPort").as_i64().map_or(first.clone(), |last| format!("{first}-{last}"))
}

fn named(peer: &Value) -> String {
    let labels = |selector: &Value| {
        let equal = at(selector, "/matchLabels").as_object().into_iter().flatten();
        let mut words: Vec<String> = equal
            .map(|(key, value)| {
                format!("{}={}", key.rsplit(['/', '.']).next().unwrap_or(key), value.as_str().unwrap_or("?"))
            })
            .collect();
        for rule in list(selector, "/matchExpressions") {
            let values: Vec<&str> = list(rule, "/values").iter().filter_map(Value::as_str).collect();
            words.push(format!("{} {}", text(rule, "/operator"), values.join("|")));
        }
        words.join(",")
    };
    let mut parts = Vec::new();
    if let Some(block) = peer.get("ipBlock") {
        parts.push(text(block, "/cidr").to_owned());
    }
    if let Some(selector) = peer.get("namespaceSelector") {
        parts.push(format!("namespace {}", labels(selector)));
    }
    if let Some(selector) = peer.get("podSelector") {
        parts.push(format!("pods {}", labels(selector)));
    }
    if parts.is_empty() { "anywhere".to_owned() } else { parts.join(" ") }
}

const NAMES: [&str; 4] = [
    "TCP 53 169.254.20.10/32",
    "TCP 53 namespace name=kube-system",
    "UDP 53 169.254.20.10/32",
    "UDP 53 namespace name=kube-system",
];

fn with_names(others: &[&str]) -> BTreeSet<String> {
    NAMES.iter().chain(others).map(|text| (*text).to_owned()).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn labels<'a>(build: &'a Build, kind: &str, name: &str) -> Result<&'a Value> {
    Ok(at(template(build.object(kind, name)?).context("no pods")?, "/metadata/labels"))
}

/// A pod that no policy of a direction selects may do everything in it.
#[test]
fn everything_is_denied_that_nobody_allows() -> Result<()> {
    for build in builds()? {
        let deny = build.object("NetworkPolicy", "kingpost-default-deny")?;
        assert_eq!(
            at(deny, "/spec"),
            &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }),
            "{}",
            build.name
        );
        for policy in build.of("NetworkPolicy") {
            let types = list(policy, "/spec/policyTypes");
            for (direction, rules) in [("Ingress", "/spec/ingress"), ("Egress", "/spec/egress")] {
                let given = policy.pointer(rules).is_some();
                let stated = types.contains(&json!(direction));
                assert!(
                    !given || stated,
                    "{}: {} has rules for {direction}",
                    build.name,
                    text(policy, "/metadata/name")
                );
            }
        }
        for (object, pod) in build.pods() {
            let all = ["Egress", "Ingress"]
                .map(|direction| allowed(&build, at(pod, "/metadata/labels"), direction));
            for rule in all.iter().flatten() {
                assert!(
                    !rule.starts_with("everything"),
                    "{}: {}: {rule}",
                    build.name,
                    super::objects::label(object)
                );
            }
        }
    }
    Ok(())
}

#[test]
fn in_production_each_pod_reaches_what_it_needs_and_nothing_else() -> Result<()> {
    let production = build(PRODUCTION)?;
    let broker = "TCP 5671 pods name=rabbitmq";
    let management = "TCP 15671 pods name=rabbitmq";
    let (wdt, kingdee) = ("TCP 443 192.0.2.0/24", "TCP 443 198.51.100.0/24");
    for (kind, name, reached) in [
        ("Deployment", "kingpost-extractor", vec![broker, wdt]),
        ("Deployment", "kingpost-transformer", vec![broker]),
        ("Deployment", "kingpost-loader", vec![broker, kingdee]),
        ("Job", "kingpost-topology", vec![broker]),
        ("CronJob", "kingpost-reconcile", vec![broker, wdt, kingdee]),
        ("CronJob", "kingpost-operator", vec![broker, management, wdt, kingdee]),
        ("CronJob", "kingpost-doctor", vec![broker, management, wdt, kingdee]),
    ] {
        let labels = labels(&production, kind, name)?;
        assert_eq!(allowed(&production, labels, "Egress"), with_names(&reached), "{name}");
        let scraped =
            if kind == "Deployment" { set(&["TCP http namespace name=monitoring"]) } else { set(&[]) };
        assert_eq!(allowed(&production, labels, "Ingress"), scraped, "{name}");
    }
    Ok(())
}

#[test]
fn rabbitmq_is_reached_by_workers_its_operator_keda_and_prometheus() -> Result<()> {
    let production = build(PRODUCTION)?;
    // The labels that the cluster operator gives its pods.
    let labels = json!({ "app.kubernetes.io/name": "rabbitmq", "app.kubernetes.io/component": "rabbitmq" });
    let nodes =
        ["TCP 25672 pods name=rabbitmq", "TCP 35672-35682 pods name=rabbitmq", "TCP 4369 pods name=rabbitmq"];
    let mut reached_by = set(&[
        "TCP 15671 namespace In rabbitmq-system|keda",
        "TCP 15671 pods asks-management=true",
        "TCP 15691 namespace name=monitoring",
        "TCP 5671 pods uses-broker=true",
    ]);
    reached_by.extend(set(&nodes));
    assert_eq!(allowed(&production, &labels, "Ingress"), reached_by);
    let mut reaches = with_names(&["TCP 443 anywhere", "TCP 6443 anywhere"]);
    reaches.extend(set(&nodes));
    assert_eq!(allowed(&production, &labels, "Egress"), reaches);
    Ok(())
}

#[test]
fn in_the_try_out_both_erps_are_the_sandbox() -> Result<()> {
    let own = build(TRY_OUT)?;
    let sandbox = "TCP 8099 pods component=sandbox,name=kingpost";
    let broker = ["TCP 5672 pods name=rabbitmq"];
    for (name, reached) in [("extractor", Some(sandbox)), ("transformer", None), ("loader", Some(sandbox))] {
        let labels = labels(&own, "Deployment", &format!("kingpost-{name}"))?;
        let reached: Vec<&str> = broker.into_iter().chain(reached).collect();
        assert_eq!(allowed(&own, labels, "Egress"), with_names(&reached), "{name}");
    }
    let doctor = labels(&own, "CronJob", "kingpost-doctor")?;
    let reached = with_names(&[broker[0], "TCP 15672 pods name=rabbitmq", sandbox]);
    assert_eq!(allowed(&own, doctor, "Egress"), reached);
    let reached_by = set(&["TCP 15672 pods asks-management=true", "TCP 5672 pods uses-broker=true"]);
    assert_eq!(allowed(&own, labels(&own, "StatefulSet", "rabbitmq")?, "Ingress"), reached_by);
    let labels = labels(&own, "Deployment", "kingpost-sandbox")?;
    assert_eq!(allowed(&own, labels, "Ingress"), set(&["TCP http pods part-of=kingpost"]));
    assert_eq!(allowed(&own, labels, "Egress"), with_names(&[]));
    Ok(())
}

#[test]
fn documents_are_pushed_by_the_ingress_controller_alone() -> Result<()> {
    let pushing = pushing()?;
    let labels = labels(&pushing, "Deployment", "kingpost-extractor")?;
    let reached_by = set(&["TCP http namespace name=monitoring", "TCP push namespace name=ingress-nginx"]);
    assert_eq!(allowed(&pushing, labels, "Ingress"), reached_by);
    Ok(())
}
