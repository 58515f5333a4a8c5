//! The variables of every container against the one table of settings: each exists, each that is needed is given, and no
//! secret stands in a manifest.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kingpost_settings::{Program, SETTINGS, Setting};
use serde_json::Value;

use super::objects::{Build, containers, label, list, text};
use super::{PRODUCTION, TRY_OUT, build, pushing};

/// What a container of ours runs, and what it reads.
struct Role {
    program: Program,
    /// What it checks for others besides.
    checks: Vec<Program>,
    /// Whether it calls the ERPs, so that it needs their settings.
    calls: bool,
    /// Whether a directory tells it the URLs of several users, in place of a variable.
    has_users: bool,
}

fn role(container: &Value) -> Option<Role> {
    let command: Vec<&str> = list(container, "/command").iter().filter_map(Value::as_str).collect();
    let name = command.first()?.strip_prefix("/usr/local/bin/")?;
    let program = match name {
        "kingpost-extractor" => Program::Extractor,
        "kingpost-transformer" => Program::Transformer,
        "kingpost-loader" => Program::Loader,
        "kingpost" => Program::Operator,
        _ => return None,
    };
    let all = matches!(command.get(1), Some(&"check" | &"doctor"));
    let checks = if all { Program::ALL.to_vec() } else { Vec::new() };
    let has_users = command.iter().any(|word| word.starts_with("--secrets-dir="));
    Some(Role { program, checks, calls: command.get(1) != Some(&"topology"), has_users })
}

/// The row of a variable, whether it is given plainly or as a file.
fn row(variable: &str) -> Option<(&'static Setting, bool)> {
    let plain = SETTINGS.iter().find(|setting| setting.name == variable);
    plain.map(|setting| (setting, false)).or_else(|| {
        let name = variable.strip_suffix("_FILE")?;
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        setting.may_come_from_a_file().then_some((setting, true))
    })
}

/// Variables that aren't ours.
const OTHERS: [&str; 1] = ["TMPDIR"];

fn reads(role: &Role, setting: &Setting) -> bool {
    [role.program].iter().chain(&role.checks).any(|program| setting.used_by.contains(program))
}

fn is_needed(setting: &Setting, given: &BTreeMap<String, String>) -> bool {
    match setting.required_when {
        None => false,
        Some("always") => true,
        Some("over Qimen") => given.get("WDT_TRANSPORT").is_none_or(|transport| transport == "qimen"),
        Some("with `PUSH_ADDR`") => given.contains_key("PUSH_ADDR"),
        // A condition that nobody has taught this test is taken for one that holds.
        Some(_) => true,
    }
}

fn check(build: &Build, container: &Value, role: &Role) -> Result<()> {
    let given = build.environment(container)?;
    for name in given.keys().filter(|name| !OTHERS.contains(&name.as_str())) {
        let (setting, from_file) = row(name).with_context(|| format!("{name} is no setting of Kingpost"))?;
        ensure!(reads(role, setting), "{name} isn't read by {}", role.program);
        ensure!(from_file || !setting.secret, "{name} is a secret and stands in the manifest");
        ensure!(
            !from_file || !given.contains_key(setting.name),
            "{name} and {} are both given",
            setting.name
        );
    }
    for setting in SETTINGS.iter().filter(|setting| reads(role, setting) && is_needed(setting, &given)) {
        let is_given =
            given.contains_key(setting.name) || given.contains_key(&format!("{}_FILE", setting.name));
        let is_an_erps = setting.is_per_account();
        ensure!(is_given || (is_an_erps && !role.calls), "{} is needed and missing", setting.name);
    }
    let has_url = given.contains_key("AMQP_URL_FILE") || role.has_users;
    ensure!(has_url, "the default of AMQP_URL is a broker of the same machine");
    Ok(())
}

#[test]
fn every_container_is_given_what_it_reads_and_nothing_else() -> Result<()> {
    let mut seen = 0;
    for build in [build(TRY_OUT)?, build(PRODUCTION)?, pushing()?] {
        for (object, pod) in build.pods() {
            for container in containers(pod) {
                let Some(role) = role(container) else { continue };
                check(&build, container, &role)
                    .with_context(|| format!("{}: {}", build.name, label(object)))?;
                seen += 1;
            }
        }
    }
    ensure!(seen > 15, "only {seen} containers were looked at");
    Ok(())
}

/// Each path of a variable lies in a volume that this very container mounts, and the key exists where the build makes it.
#[test]
fn every_path_of_a_variable_is_mounted() -> Result<()> {
    for build in [build(TRY_OUT)?, build(PRODUCTION)?, pushing()?] {
        for (object, pod) in build.pods() {
            for container in containers(pod).into_iter().filter(|container| role(container).is_some()) {
                for (name, value) in build.environment(container)? {
                    if name.ends_with("_FILE") {
                        is_mounted(&build, pod, container, &value)
                            .with_context(|| format!("{}: {}: {name}", build.name, label(object)))?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn is_mounted(build: &Build, pod: &Value, container: &Value, path: &str) -> Result<()> {
    let mounts = list(container, "/volumeMounts").iter();
    let found = mounts.filter_map(|mount| {
        let below = path.strip_prefix(text(mount, "/mountPath"))?.strip_prefix('/')?;
        Some((text(mount, "/name"), below))
    });
    let (volume, file) = found
        .max_by_key(|(_, below)| usize::MAX - below.len())
        .with_context(|| format!("{path} is in no volume"))?;
    let volume_object = list(pod, "/spec/volumes").iter().find(|other| text(other, "/name") == volume);
    let items = volume_object.map(|volume| list(volume, "/secret/items")).unwrap_or_default();
    ensure!(
        items.is_empty() || items.iter().any(|item| text(item, "/path") == file),
        "{path}: the volume {volume} shows no {file}"
    );
    if let Some(files) = build.files(pod, volume)? {
        ensure!(files.contains_key(file), "{path}: {volume} has {:?}", files.keys());
    }
    Ok(())
}

/// Least privilege: a stage sees its own user of RabbitMQ, and no ERP's secret but the one it calls.
#[test]
fn no_stage_sees_a_secret_of_another() -> Result<()> {
    let production = build(PRODUCTION)?;
    let secrets = |kind: &str, name: &str| -> Result<Vec<String>> {
        let object = production.object(kind, name)?;
        let pod = super::objects::template(object).context("no pods")?;
        let names =
            list(pod, "/spec/volumes").iter().map(|volume| text(volume, "/secret/secretName").to_owned());
        Ok(names.filter(|name| !name.is_empty()).collect())
    };
    for (kind, name, wanted) in [
        ("Deployment", "kingpost-extractor", vec!["kingpost-extractor-credentials", "kingpost-wdt"]),
        ("Deployment", "kingpost-transformer", vec!["kingpost-transformer-credentials"]),
        ("Deployment", "kingpost-loader", vec!["kingpost-loader-credentials", "kingpost-kingdee"]),
        ("Job", "kingpost-topology", vec!["kingpost-topology-credentials"]),
        (
            "CronJob",
            "kingpost-reconcile",
            vec!["kingpost-operator-credentials", "kingpost-wdt", "kingpost-kingdee"],
        ),
        (
            "CronJob",
            "kingpost-operator",
            vec![
                "kingpost-operator-credentials",
                "kingpost-monitor-credentials",
                "kingpost-wdt",
                "kingpost-kingdee",
            ],
        ),
    ] {
        assert_eq!(secrets(kind, name)?, wanted, "{name}");
    }
    Ok(())
}

/// Passwords stand in one file alone, which says that they are examples.
#[test]
fn no_secret_stands_anywhere_but_in_the_try_out() -> Result<()> {
    let secret = ["password=", "app-secret=", "amqp://", "amqps://", "BEGIN "];
    for (path, content) in
        super::texts("k8s")?.into_iter().filter(|(path, _)| !path.ends_with("try-out/kustomization.yaml"))
    {
        for line in content.lines().filter(|line| !line.trim_start().starts_with('#')) {
            for word in secret {
                assert!(!line.contains(word), "{}: {line}", path.display());
            }
        }
    }
    let examples =
        std::fs::read_to_string(e2e::tools::repository().join(TRY_OUT).join("kustomization.yaml"))?;
    let literals = examples.lines().filter(|line| line.contains("amqp://") || line.contains("app-secret="));
    for line in literals {
        assert!(line.contains("example-"), "no plain example: {line}");
    }
    Ok(())
}
