//! What every pod has to be: restricted, bounded, probed by paths that exist, and stopped no sooner than it drains.

use anyhow::{Context, Result, ensure};
use kingpost_settings::{Program, setting};
use serde_json::{Value, json};

use super::objects::{Build, at, containers, label, list, template, text};
use super::{PRODUCTION, build, builds, pushing};

const STAGES: [&str; 3] = ["extractor", "transformer", "loader"];
/// What a supervisor has to give beyond the drain (docs/deploying.md).
const BEYOND_DRAIN_S: i64 = 5;

/// Kubernetes' own rules for the level `restricted`, and more: nothing is written to the image, no token, no CPU limit.
fn restricted(pod: &Value) -> Result<()> {
    let spec = at(pod, "/spec");
    ensure!(
        at(spec, "/automountServiceAccountToken") == &json!(false),
        "a token of the API server is mounted"
    );
    ensure!(at(spec, "/enableServiceLinks") == &json!(false), "every Service becomes variables");
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(spec.get(host).is_none(), "{host} is set");
    }
    ensure!(at(spec, "/securityContext/runAsNonRoot") == &json!(true), "may be root");
    ensure!(at(spec, "/securityContext/runAsUser").as_i64().is_some_and(|user| user > 0), "no numeric user");
    ensure!(text(spec, "/securityContext/seccompProfile/type") == "RuntimeDefault", "no seccomp profile");
    for volume in list(spec, "/volumes") {
        let kinds = ["configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"];
        ensure!(kinds.iter().any(|kind| volume.get(kind).is_some()), "a volume of another kind: {volume}");
        let empty = volume.get("emptyDir");
        ensure!(empty.is_none_or(|empty| empty.get("sizeLimit").is_some()), "{volume} is unbounded");
    }
    let all = containers(pod);
    ensure!(!all.is_empty(), "no containers");
    all.into_iter()
        .try_for_each(|container| contained(container).with_context(|| text(container, "/name").to_owned()))
}

fn contained(container: &Value) -> Result<()> {
    let context = at(container, "/securityContext");
    ensure!(at(context, "/allowPrivilegeEscalation") == &json!(false), "may gain privileges");
    ensure!(at(context, "/readOnlyRootFilesystem") == &json!(true), "may write to its image");
    ensure!(at(context, "/capabilities") == &json!({ "drop": ["ALL"] }), "keeps capabilities");
    for weaker in ["privileged", "runAsUser", "runAsNonRoot", "seccompProfile", "procMount"] {
        ensure!(context.get(weaker).is_none(), "{weaker} overrides what the pod says");
    }
    let resources = at(container, "/resources");
    let memory = text(resources, "/requests/memory");
    ensure!(!memory.is_empty() && memory == text(resources, "/limits/memory"), "memory: {resources}");
    ensure!(!text(resources, "/requests/cpu").is_empty(), "no request of CPU");
    ensure!(at(resources, "/limits/cpu").is_null(), "a throttled process misses heartbeats");
    Ok(())
}

#[test]
fn every_pod_is_restricted_and_bounded() -> Result<()> {
    let mut seen = 0;
    for build in builds()? {
        for (object, pod) in build.pods() {
            restricted(pod).with_context(|| format!("{}: {}", build.name, label(object)))?;
            seen += 1;
        }
        let namespace = build.object("Namespace", "kingpost")?;
        for level in ["enforce", "audit", "warn"] {
            let key = format!("/metadata/labels/pod-security.kubernetes.io~1{level}");
            assert_eq!(text(namespace, &key), "restricted", "{}", build.name);
        }
    }
    ensure!(seen > 40, "only {seen} pods were looked at");
    Ok(())
}

/// The pods that the cluster operator makes are in the same namespace, so they have to be as restricted.
#[test]
fn rabbitmqs_pods_are_allowed_in_the_namespace() -> Result<()> {
    let production = build(PRODUCTION)?;
    let pod =
        at(production.object("RabbitmqCluster", "rabbitmq")?, "/spec/override/statefulSet/spec/template");
    assert_eq!(at(pod, "/spec/securityContext/runAsNonRoot"), &json!(true));
    assert_eq!(text(pod, "/spec/securityContext/seccompProfile/type"), "RuntimeDefault");
    let names: Vec<&str> = containers(pod).into_iter().map(|container| text(container, "/name")).collect();
    assert_eq!(names, ["setup-container", "rabbitmq"]);
    for container in containers(pod) {
        assert_eq!(at(container, "/securityContext/allowPrivilegeEscalation"), &json!(false));
        assert_eq!(at(container, "/securityContext/capabilities"), &json!({ "drop": ["ALL"] }));
        assert_eq!(at(container, "/securityContext/runAsNonRoot"), &json!(true));
    }
    Ok(())
}

fn stage<'a>(build: &'a Build, name: &str) -> Result<(&'a Value, &'a Value, &'a Value)> {
    let deployment = build.object("Deployment", &format!("kingpost-{name}"))?;
    let pod = template(deployment).context("no pods")?;
    Ok((deployment, pod, containers(pod).first().copied().context("no container")?))
}

#[test]
fn no_stage_is_killed_before_its_drain_is_over() -> Result<()> {
    for build in [build(PRODUCTION)?, pushing()?] {
        for name in STAGES {
            let (_, pod, container) = stage(&build, name)?;
            let grace_s =
                at(pod, "/spec/terminationGracePeriodSeconds").as_i64().context("no grace period")?;
            let drain_s: i64 = build.environment(container)?["DRAIN_SECONDS"].parse()?;
            let sleep_s = at(container, "/lifecycle/preStop/sleep/seconds").as_i64().unwrap_or(0);
            ensure!(
                grace_s >= drain_s + sleep_s + BEYOND_DRAIN_S,
                "{}: {name} is killed after {grace_s} s and drains for {drain_s} s after {sleep_s} s",
                build.name
            );
        }
        let loader = build.environment(stage(&build, "loader")?.2)?;
        assert_eq!(
            loader["DRAIN_SECONDS"], "150",
            "a call for a batch of 20 may take 130 s (docs/deploying.md)"
        );
    }
    Ok(())
}

/// The paths are those that a worker serves, and the port is the one that it listens on.
#[test]
fn probes_ask_what_a_worker_answers() -> Result<()> {
    let server = std::fs::read_to_string(e2e::tools::repository().join("crates/telemetry/src/server.rs"))?;
    for build in [build(PRODUCTION)?, pushing()?] {
        for (name, program) in
            STAGES.into_iter().zip([Program::Extractor, Program::Transformer, Program::Loader])
        {
            let (_, _, container) = stage(&build, name)?;
            let probes =
                [("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")];
            for (probe, path) in probes {
                assert_eq!(text(container, &format!("/{probe}/httpGet/path")), path, "{name}: {probe}");
                assert_eq!(text(container, &format!("/{probe}/httpGet/port")), "http", "{name}: {probe}");
                assert!(server.contains(&format!("\"{path}\"")), "the server has no {path}");
            }
            let address = build.environment(container)?["HTTP_ADDR"].clone();
            let usual =
                setting("HTTP_ADDR").and_then(|setting| setting.default_for(program)).unwrap_or_default();
            let port = usual.rsplit(':').next().unwrap_or_default();
            assert_eq!(address, format!("0.0.0.0:{port}"), "{name}: probes come from outside");
            let ports = list(container, "/ports").iter().filter(|other| text(other, "/name") == "http");
            let ports: Vec<String> = ports.map(|other| at(other, "/containerPort").to_string()).collect();
            assert_eq!(ports, [port], "{name}");
        }
    }
    Ok(())
}

#[test]
fn pushed_documents_arrive_at_the_port_that_is_listened_on() -> Result<()> {
    let pushing = pushing()?;
    let (_, pod, container) = stage(&pushing, "extractor")?;
    let environment = pushing.environment(container)?;
    assert_eq!(environment["PUSH_ADDR"], "0.0.0.0:9111");
    let port =
        list(container, "/ports").iter().find(|port| text(port, "/name") == "push").context("no port")?;
    assert_eq!(at(port, "/containerPort"), 9111);
    let service = pushing.object("Service", "kingpost-push")?;
    assert_eq!(text(service, "/spec/ports/0/targetPort"), "push");
    let labels = at(pod, "/metadata/labels");
    for (key, value) in at(service, "/spec/selector").as_object().context("no selector")? {
        assert_eq!(labels.get(key), Some(value), "the Service finds no extractor");
    }
    // What 32 requests may hold at once, and as much for the rest.
    let bytes: u64 = environment["PUSH_MAX_BYTES"].parse()?;
    let memory = text(container, "/resources/limits/memory").trim_end_matches("Mi").parse::<u64>()? << 20;
    assert!(memory >= 32 * bytes + (128 << 20), "{memory} bytes of memory for 32 bodies of {bytes}");
    Ok(())
}

#[test]
fn every_stage_rolls_without_a_gap_and_outlasts_a_node() -> Result<()> {
    let base = super::build_with("k8s/base", &["schemes"])?;
    for name in STAGES {
        let (deployment, pod, _) = stage(&base, name)?;
        assert!(at(deployment, "/spec/replicas").as_i64() >= Some(2), "{name}");
        let rolling =
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } });
        assert_eq!(at(deployment, "/spec/strategy"), &rolling, "{name}");
        assert!(at(deployment, "/spec/minReadySeconds").as_i64() >= Some(15), "{name}: one scrape at least");
        assert!(at(deployment, "/spec/revisionHistoryLimit").as_i64().is_some(), "{name}");
        let keys: Vec<_> = list(pod, "/spec/topologySpreadConstraints")
            .iter()
            .map(|rule| text(rule, "/topologyKey"))
            .collect();
        assert_eq!(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], "{name}");
    }
    Ok(())
}

/// A budget whose selector matches nothing protects nothing, and one that matches two workloads protects neither.
#[test]
fn every_workload_has_its_own_disruption_budget() -> Result<()> {
    for build in [build(PRODUCTION)?, super::build_with("k8s/base", &["schemes"])?] {
        for name in STAGES {
            let (_, pod, _) = stage(&build, name)?;
            let matching: Vec<&Value> = build
                .of("PodDisruptionBudget")
                .into_iter()
                .filter(|budget| selects(at(budget, "/spec/selector"), at(pod, "/metadata/labels")))
                .collect();
            assert_eq!(matching.len(), 1, "{}: {name}", build.name);
            assert_eq!(at(matching[0], "/spec/maxUnavailable"), 1);
            assert_eq!(text(matching[0], "/spec/unhealthyPodEvictionPolicy"), "AlwaysAllow");
        }
    }
    Ok(())
}

/// Whether a label selector matches labels. An empty one matches everything.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = at(selector, "/matchLabels").as_object().into_iter().flatten();
    let listed = list(selector, "/matchExpressions");
    equal.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && listed.iter().all(|rule| {
            let own = labels.get(text(rule, "/key"));
            match text(rule, "/operator") {
                "In" => own.is_some_and(|own| list(rule, "/values").contains(own)),
                "NotIn" => own.is_none_or(|own| !list(rule, "/values").contains(own)),
                "Exists" => own.is_some(),
                _ => own.is_none(),
            }
        })
}

#[test]
fn selectors_find_their_pods() -> Result<()> {
    for build in builds()? {
        for (object, pod) in build.pods() {
            if let Some(selector) = object.pointer("/spec/selector") {
                assert!(selects(selector, at(pod, "/metadata/labels")), "{}: {}", build.name, label(object));
            }
            for key in ["name", "part-of"] {
                let labels = at(pod, "/metadata/labels");
                assert!(
                    labels.get(format!("app.kubernetes.io/{key}")).is_some(),
                    "{}: {}: {key}",
                    build.name,
                    label(object)
                );
            }
        }
        let workloads = build.pods();
        for service in build.of("Service") {
            let wanted = json!({ "matchLabels": at(service, "/spec/selector") });
            let found =
                workloads.iter().filter(|(_, pod)| selects(&wanted, at(pod, "/metadata/labels"))).count();
            assert_eq!(found, 1, "{}: {}", build.name, label(service));
        }
        for monitor in
            build.of("PodMonitor").into_iter().filter(|monitor| text(monitor, "/metadata/name") == "kingpost")
        {
            let found = workloads
                .iter()
                .filter(|(_, pod)| selects(at(monitor, "/spec/selector"), at(pod, "/metadata/labels")));
            assert_eq!(found.count(), 3, "{}: {}", build.name, label(monitor));
        }
        for monitor in build.of("ServiceMonitor") {
            let found = build
                .of("Service")
                .into_iter()
                .filter(|service| selects(at(monitor, "/spec/selector"), at(service, "/metadata/labels")));
            assert_eq!(found.count(), 3, "{}: {}", build.name, label(monitor));
        }
    }
    Ok(())
}
