//! docs/kubernetes.md: what its commands name exists, and what they make is what the manifests want.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::lab::binary;
use e2e::tools::{repository, tool};
use serde_json::{Value, json};

use super::objects::{Build, at, containers, list, text};
use super::{PRODUCTION, TRY_OUT, build, build_patched, pushing};

/// The lines of every block of shell, loops unrolled.
fn commands() -> Result<Vec<String>> {
    let page = fs::read_to_string(repository().join("docs/kubernetes.md"))?;
    let once = || (String::from("$"), vec![String::from("$")]);
    let (mut found, mut turns, mut is_shell) = (Vec::new(), once(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
        } else if let Some((name, list)) = line
            .strip_prefix("for ")
            .and_then(|rest| rest.strip_suffix("; do")?.split_once(" in "))
            .filter(|_| is_shell)
        {
            turns = (format!("${name}"), list.split(' ').map(str::to_owned).collect());
        } else if is_shell && line == "done" {
            turns = once();
        } else if is_shell {
            let (variable, values) = &turns;
            found.extend(values.iter().map(|value| line.trim().replace(variable.as_str(), value)));
        }
    }
    ensure!(found.len() > 40, "only {} commands were found", found.len());
    // The copy that a person makes of the overlay.
    Ok(found.into_iter().map(|line| line.replace("k8s/overlays/ours", PRODUCTION)).collect())
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.trim_matches(['"', '\'', '(', ')', '&']).to_owned()).collect()
}

#[test]
fn every_path_and_object_of_the_page_exists() -> Result<()> {
    let builds = [build(TRY_OUT)?, build(PRODUCTION)?, pushing()?];
    let mut seen = 0;
    for line in commands()? {
        for word in words(&line) {
            if ["k8s/", "scripts/", "schemes/"].iter().any(|start| word.starts_with(start)) {
                ensure!(repository().join(&word).exists(), "{line}: there is no {word}");
                seen += 1;
            }
            let Some((kind, name)) = word.split_once('/').filter(|(_, name)| !name.contains(['/', ':', '=']))
            else {
                continue;
            };
            let kind = ["Deployment", "Job", "CronJob", "Service", "ScaledObject", "RabbitmqCluster"]
                .into_iter()
                .find(|known| known.to_lowercase() == kind.trim_start_matches("--from="));
            if let Some(kind) = kind {
                ensure!(
                    builds.iter().any(|build| build.object(kind, name).is_ok()),
                    "{line}: there is no {kind} {name}"
                );
                seen += 1;
            }
        }
    }
    ensure!(seen > 20, "only {seen} names were looked at");
    Ok(())
}

/// Whether the command itself knows these sub-commands and options, by its own help.
fn is_known(given: &[String]) -> Result<()> {
    let depth = given.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).count();
    let run = Command::new(binary("kingpost")?).args(&given[..depth]).arg("--help").output()?;
    ensure!(run.status.success(), "there is no command {:?}", &given[..depth]);
    let help = String::from_utf8_lossy(&run.stdout).into_owned();
    let known: BTreeSet<&str> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    for option in given.iter().filter_map(|word| word.split('=').next()).filter(|word| word.starts_with("--"))
    {
        ensure!(known.contains(option), "{:?} has no option {option}", &given[..depth]);
    }
    Ok(())
}

#[test]
fn every_kingpost_command_of_page_and_manifests_is_one() -> Result<()> {
    let mut all: Vec<Vec<String>> = Vec::new();
    for line in commands()? {
        let ours =
            line.strip_prefix("scripts/kubernetes-run.sh ").filter(|rest| !rest.starts_with("--fetch "));
        all.extend(ours.map(words));
    }
    for build in [build(TRY_OUT)?, build(PRODUCTION)?] {
        for container in build.pods().iter().flat_map(|(_, pod)| containers(pod)) {
            let given = list(container, "/command").iter().chain(list(container, "/args"));
            let given: Vec<String> = given.filter_map(Value::as_str).map(str::to_owned).collect();
            if given.first().is_some_and(|program| program == "/usr/local/bin/kingpost") {
                all.push(given[1..].to_vec());
            }
        }
    }
    ensure!(all.len() >= 10, "only {} commands were found", all.len());
    all.iter().try_for_each(|given| is_known(given))
}

/// Name and keys of every Secret and ConfigMap that the commands of the page make.
fn made() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut made = BTreeMap::<String, BTreeSet<String>>::new();
    for line in commands()?.iter().filter(|line| line.contains("-n kingpost create ")) {
        let words = words(line);
        let Some(verb) = words.iter().position(|word| word == "create") else { continue };
        let (name, keys): (_, Vec<&str>) = match (words[verb + 1].as_str(), words[verb + 2].as_str()) {
            ("secret", "tls") => (&words[verb + 3], vec!["tls.crt", "tls.key"]),
            ("secret", "generic") => (&words[verb + 3], keys(&words)),
            ("configmap", _) => (&words[verb + 2], keys(&words)),
            _ => continue,
        };
        made.entry(name.clone()).or_default().extend(keys.into_iter().map(str::to_owned));
    }
    Ok(made)
}

fn keys(words: &[String]) -> Vec<&str> {
    let sources = words
        .iter()
        .filter_map(|word| word.strip_prefix("--from-file=").or(word.strip_prefix("--from-literal=")));
    sources.filter_map(|source| source.split_once('=').map(|(key, _)| key)).collect()
}

/// Name and keys of everything that a build refers to and doesn't make.
fn wanted(build: &Build) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut wanted = BTreeMap::<String, BTreeSet<String>>::new();
    let mut want = |name: &str, key: &str| {
        wanted.entry(name.to_owned()).or_default().insert(key.to_owned());
    };
    for (_, pod) in build.pods() {
        for source in list(pod, "/spec/volumes").iter().flat_map(|volume| list(volume, "/projected/sources"))
        {
            let Some(secret) = source.get("secret") else { continue };
            list(secret, "/items").iter().for_each(|item| want(text(secret, "/name"), text(item, "/key")));
        }
        for volume in list(pod, "/spec/volumes") {
            let (name, items) = match (volume.get("secret"), volume.get("configMap")) {
                (Some(secret), _) => (text(secret, "/secretName"), list(secret, "/items")),
                (_, Some(map)) => (text(map, "/name"), list(map, "/items")),
                _ => continue,
            };
            items.iter().for_each(|item| want(name, text(item, "/key")));
            for container in containers(pod) {
                let mounts = list(container, "/volumeMounts")
                    .iter()
                    .filter(|mount| at(mount, "/name") == at(volume, "/name"));
                for mount in mounts.filter(|_| items.is_empty()) {
                    let below = format!("{}/", text(mount, "/mountPath"));
                    for value in build.environment(container)?.values() {
                        value.strip_prefix(&below).into_iter().for_each(|key| want(name, key));
                    }
                }
            }
        }
    }
    for authentication in build.of("TriggerAuthentication") {
        for field in ["/spec/secretTargetRef", "/spec/configMapTargetRef"] {
            list(authentication, field).iter().for_each(|own| want(text(own, "/name"), text(own, "/key")));
        }
    }
    for user in build.of("User") {
        ["username", "password"]
            .iter()
            .for_each(|key| want(text(user, "/spec/importCredentialsSecret/name"), key));
    }
    for cluster in build.of("RabbitmqCluster") {
        ["tls.crt", "tls.key"].iter().for_each(|key| want(text(cluster, "/spec/tls/secretName"), key));
    }
    wanted
        .retain(|name, _| build.object("ConfigMap", name).is_err() && build.object("Secret", name).is_err());
    Ok(wanted)
}

#[test]
fn the_page_makes_every_secret_that_production_refers_to_and_no_other() -> Result<()> {
    let (made, wanted) = (made()?, wanted(&pushing()?)?);
    for (name, keys) in &wanted {
        let given = made.get(name).with_context(|| format!("the page makes no {name}"))?;
        for key in keys {
            assert!(given.contains(key), "the page makes {name} without {key}");
        }
    }
    for name in made.keys() {
        assert!(wanted.contains_key(name), "nothing refers to {name}");
    }
    assert!(wanted.len() >= 10, "only {:?}", wanted.keys());
    Ok(())
}

/// What the first apply of the page leaves out by its selector is the workers and what belongs to them, and no more.
#[test]
fn the_first_apply_leaves_out_the_workers_alone() -> Result<()> {
    let selector = "'app.kubernetes.io/component notin (extractor,transformer,loader)'";
    assert!(commands()?.iter().any(|line| line.contains(" apply -k ") && line.ends_with(selector)));
    let left_out: BTreeSet<String> = build(PRODUCTION)?
        .objects
        .iter()
        .filter(|object| {
            let component = text(object, "/metadata/labels/app.kubernetes.io~1component");
            ["extractor", "transformer", "loader"].contains(&component)
        })
        .map(|object| text(object, "/kind").to_owned())
        .collect();
    let workers = ["Deployment", "PodDisruptionBudget", "ScaledObject"].map(str::to_owned);
    assert_eq!(left_out, BTreeSet::from(workers));
    Ok(())
}

#[test]
fn every_component_is_on_the_page() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/kubernetes.md"))?;
    for component in super::components()? {
        let name = component.rsplit('/').next().unwrap_or_default().to_owned();
        assert!(page.contains(&format!("`{name}`")), "{name} isn't on the page");
    }
    Ok(())
}

/// A `kubectl` that plays the cluster: it answers what the script asks of one, and leaves to the real one what needs none.
const CLUSTER: &str = r#"#!/usr/bin/env bash
set -eu
echo "$*" >>"$STATE/calls"
shift 2
case "$1 $2" in
'create job') [[ $3 == kingpost-run-* ]]; sed "s/NAME/$3/" "$STATE/job.json" ;;
'patch --local') exec "$REAL" "$@" ;;
'create --filename=-') cat >"$STATE/created.json" ;;
'get pods')
    case "$*" in
    *exitCode*) echo 1 ;;
    *) echo '{"terminated":{"exitCode":1}}' ;;
    esac
    ;;
'logs --follow') echo 'the books differ' ;;
'exec job/kingpost-run-'*)
    [ "$4" = cat ] || { echo plan.json; exit; }
    [ "$5" = /files/plan.json ] || exit 1
    printf 'a\0b'
    ;;
'delete job') ;;
*) exit 70 ;;
esac
"#;

/// Runs the script in a directory, with the cluster played there.
fn run_script(place: &Path, template: &str, given: &[&str]) -> Result<Output> {
    let from = format!("--from=cronjob/{template}");
    let template = at(build(TRY_OUT)?.object("CronJob", template)?, "/spec/jobTemplate/spec").clone();
    let job =
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "NAME" }, "spec": template });
    fs::write(place.join("job.json"), job.to_string())?;
    let kubectl = place.join("kubectl");
    fs::write(&kubectl, CLUSTER)?;
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755))?;
    let run = Command::new(repository().join("scripts/kubernetes-run.sh"))
        .args(given)
        .current_dir(place)
        .env("KUBECTL", &kubectl)
        .env("STATE", place)
        .env("REAL", tool("kubectl")?)
        .output()?;
    let calls = fs::read_to_string(place.join("calls")).unwrap_or_default();
    assert!(calls.lines().all(|call| call.starts_with("--namespace kingpost ")), "{calls}");
    assert!(calls.is_empty() || calls.contains(&from), "{calls}");
    let ended = |call: &str| call.contains("delete job kingpost-run-");
    assert!(calls.lines().last().is_none_or(ended), "{calls}");
    Ok(run)
}

/// The first container of the Job that the script makes.
fn run_in_the_cluster(template: &str, given: &[&str]) -> Result<Value> {
    let place = tempfile::tempdir()?;
    let run = run_script(place.path(), template, given)?;
    assert_eq!(run.status.code(), Some(1), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), "the books differ\n");
    let created: Value = serde_json::from_str(&fs::read_to_string(place.path().join("created.json"))?)?;
    Ok(list(&created, "/spec/template/spec/containers")[0].clone())
}

#[test]
fn a_command_in_the_cluster_gets_its_words_as_they_are_and_gives_its_exit_code() -> Result<()> {
    let given = ["dead", "discard", "--reason", r#"it's "gone" \ 已作废"#, "--yes"];
    let container = run_in_the_cluster("kingpost-operator", &given)?;
    assert_eq!(at(&container, "/args"), &json!(given));
    assert_eq!(at(&container, "/command"), &json!(["/usr/local/bin/kingpost"]));
    Ok(())
}

#[test]
fn the_doctor_in_the_cluster_has_the_users_of_all_stages() -> Result<()> {
    let container = run_in_the_cluster("kingpost-doctor", &["doctor", "--json"])?;
    let command = ["/usr/local/bin/kingpost", "doctor", "--secrets-dir=/etc/kingpost/users"];
    assert_eq!((at(&container, "/command"), at(&container, "/args")), (&json!(command), &json!(["--json"])));
    Ok(())
}

#[test]
fn a_file_of_a_command_is_fetched_byte_by_byte_and_never_over_another() -> Result<()> {
    let place = tempfile::tempdir()?;
    let fetch = |file| run_script(place.path(), "kingpost-files", &["--fetch", file]);
    let missing = fetch("no.json")?;
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(66), "{said}");
    assert!(said.contains("no.json") && said.contains("plan.json"), "{said}");
    assert!(!place.path().join("no.json").exists() && !place.path().join("no.json.part").exists());
    let run = fetch("plan.json")?;
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(fs::read(place.path().join("plan.json"))?, b"a\0b");
    assert_eq!(fetch("plan.json")?.status.code(), Some(64), "one that is here is kept");
    Ok(())
}

/// What a person copies from the page into an overlay does there what the page says.
#[test]
fn the_patches_of_the_page_apply_to_production() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/kubernetes.md"))?;
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let patches: String = blocks.filter(|block| block.starts_with("  - target:")).collect();
    let patched = build_patched(PRODUCTION, &[], &patches)?;
    let account = patched.object("ServiceAccount", "kingpost")?;
    assert_eq!(at(account, "/imagePullSecrets"), &json!([{ "name": "registry" }]));
    let cluster = patched.object("RabbitmqCluster", "rabbitmq")?;
    let own = build(PRODUCTION)?;
    let image = text(own.object("RabbitmqCluster", "rabbitmq")?, "/spec/image").to_owned();
    assert_eq!(text(cluster, "/spec/image"), format!("registry.example/{image}"));
    assert_eq!(at(cluster, "/spec/imagePullSecrets"), &json!([{ "name": "registry" }]));
    for kind in ["PodMonitor", "PrometheusRule"] {
        let objects = patched.of(kind);
        assert!(!objects.is_empty(), "no {kind}");
        for object in objects {
            assert_eq!(text(object, "/metadata/labels/release"), "kube-prometheus-stack", "{kind}");
        }
    }
    Ok(())
}
