//! What the autoscalers may do: follow work queues alone, within bounds, and never faster than a worker drains.

use anyhow::{Context, Result, ensure};
use e2e::tools::repository;
use kingpost_model::{Route, StageName};
use serde_json::Value;

use super::objects::{Build, at, list, template, text};
use super::{PRODUCTION, build, build_with};

fn grace_s(build: &Build, deployment: &str) -> Result<i64> {
    let pod = template(build.object("Deployment", deployment)?).context("no pods")?;
    at(pod, "/spec/terminationGracePeriodSeconds").as_i64().context("no grace period")
}

/// Scaling in waits longer than a drain and takes one pod per drain at most.
fn is_patient(behaviour: &Value, grace_s: i64) -> Result<()> {
    let window = at(behaviour, "/scaleDown/stabilizationWindowSeconds").as_i64().context("no window")?;
    ensure!(window >= grace_s, "scaled in after {window} s, while a drain may take {grace_s} s");
    let policies = list(behaviour, "/scaleDown/policies");
    ensure!(!policies.is_empty(), "scaled in all at once");
    for policy in policies {
        ensure!(
            at(policy, "/value") == 1 && text(policy, "/type") == "Pods",
            "more than one at a time: {policy}"
        );
        ensure!(at(policy, "/periodSeconds").as_i64() >= Some(grace_s), "faster than a drain: {policy}");
    }
    Ok(())
}

/// An autoscaler and a number in the manifest would undo each other with every apply.
fn owns_the_number(build: &Build, deployment: &str) -> Result<()> {
    let object = build.object("Deployment", deployment)?;
    ensure!(at(object, "/spec/replicas").is_null(), "{deployment} has a number of its own");
    Ok(())
}

#[test]
fn keda_follows_the_work_queues_of_the_shipped_schemes() -> Result<()> {
    let production = build(PRODUCTION)?;
    let schemes = kingpost_scheme::load_dir(&repository().join("schemes"))
        .map_err(|wrong| anyhow::anyhow!("{wrong}"))?;
    for (name, stage) in [
        ("extractor", StageName::Extract),
        ("transformer", StageName::Transform),
        ("loader", StageName::Load),
    ] {
        let scaled = production.object("ScaledObject", &format!("kingpost-{name}"))?;
        let target = text(scaled, "/spec/scaleTargetRef/name");
        owns_the_number(&production, target)?;
        let grace_s = grace_s(&production, target)?;
        is_patient(at(scaled, "/spec/advanced/horizontalPodAutoscalerConfig/behavior"), grace_s)
            .context(name)?;
        assert!(at(scaled, "/spec/cooldownPeriod").as_i64() >= Some(grace_s), "{name}");
        let (least, most) =
            (at(scaled, "/spec/minReplicaCount").as_i64(), at(scaled, "/spec/maxReplicaCount").as_i64());
        assert!(least >= Some(2) && most >= least, "{name}: from {least:?} to {most:?}");
        let triggers = list(scaled, "/spec/triggers");
        for scheme in &schemes {
            for route in Route::all(stage, &scheme.name, scheme.target.shards) {
                let matching = triggers.iter().filter(|trigger| follows(trigger, &route.queue())).count();
                assert_eq!(matching, 1, "{name}: {} is followed by {matching} triggers", route.queue());
                let dead = route.dead_queue();
                assert!(
                    !triggers.iter().any(|trigger| follows(trigger, &dead)),
                    "{name} is scaled by {dead}"
                );
            }
        }
        let wait = "wait.5s";
        assert!(!triggers.iter().any(|trigger| follows(trigger, wait)), "{name} is scaled by {wait}");
        if stage == StageName::Load {
            let useful = schemes.iter().map(|scheme| i64::from(scheme.target.shards)).max().unwrap_or(1) + 1;
            assert_eq!(most, Some(useful.max(2)), "one loader for each load queue, and one that stands by");
        }
    }
    Ok(())
}

/// Whether a trigger counts a queue.
fn follows(trigger: &Value, queue: &str) -> bool {
    let name = text(trigger, "/metadata/queueName");
    if text(trigger, "/metadata/useRegex") != "true" {
        return name == queue;
    }
    // The one form that the manifests use: a scheme's queue, with shards or without.
    let Some(stem) = name.strip_prefix('^').and_then(|name| name.strip_suffix(r"(\.[0-9]+)?$")) else {
        return true;
    };
    let rest = queue.strip_prefix(&stem.replace(r"\.", "."));
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|shard| shard.parse::<u32>().is_ok())
    })
}

#[test]
fn keda_counts_what_workers_have_in_hand_and_knows_no_more_than_it_needs() -> Result<()> {
    let production = build(PRODUCTION)?;
    for scaled in production.of("ScaledObject") {
        for trigger in list(scaled, "/spec/triggers") {
            assert_eq!(text(trigger, "/metadata/protocol"), "http");
            assert_eq!(text(trigger, "/metadata/excludeUnacknowledged"), "false");
            assert_eq!(text(trigger, "/metadata/vhostName"), "kingpost");
            assert!(text(trigger, "/metadata/value").parse::<u32>().is_ok_and(|value| value > 0));
            assert!(at(trigger, "/metadata/host").is_null(), "a URL with a password in the manifest");
            assert_eq!(text(trigger, "/authenticationRef/name"), "kingpost-rabbitmq");
        }
    }
    let authentication = production.object("TriggerAuthentication", "kingpost-rabbitmq")?;
    for parameter in list(authentication, "/spec/secretTargetRef") {
        assert_eq!(text(parameter, "/name"), "kingpost-monitor-credentials");
    }
    let user = production.object("User", "kingpost-monitor")?;
    assert_eq!(at(user, "/spec/tags"), &serde_json::json!(["monitoring"]));
    let permission = production.object("Permission", "kingpost-monitor")?;
    for right in ["configure", "write", "read"] {
        assert_eq!(text(permission, &format!("/spec/permissions/{right}")), "^$", "{right}");
    }
    Ok(())
}

#[test]
fn without_keda_the_transformer_alone_is_scaled() -> Result<()> {
    let plain = build_with("k8s/base", &["k8s/components/hpa", "schemes"])?;
    let scalers = plain.of("HorizontalPodAutoscaler");
    assert_eq!(scalers.len(), 1);
    let scaler = plain.object("HorizontalPodAutoscaler", "kingpost-transformer")?;
    let target = text(scaler, "/spec/scaleTargetRef/name");
    owns_the_number(&plain, target)?;
    is_patient(at(scaler, "/spec/behavior"), grace_s(&plain, target)?)?;
    assert!(at(scaler, "/spec/minReplicas").as_i64() >= Some(2));
    Ok(())
}
