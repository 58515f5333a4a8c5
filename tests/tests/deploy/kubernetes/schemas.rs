//! Every object against the schema of its kind: those of Kubernetes for several releases, strictly, and those of the operators
//! as far as the manifests use them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::tools::{output, repository, validator};
use serde_json::{Value, json};

use super::{PRODUCTION, build, builds, objects};

/// The oldest release that is still maintained by some vendor, the newest that the validator knows, and some between.
const RELEASES: [&str; 4] = ["1.31", "1.33", "1.35", "1.37"];

/// The schema of a kind that isn't Kubernetes' own.
fn schema(kind: &str) -> PathBuf {
    repository().join("tests/tests/deploy/crds").join(format!("{kind}.json"))
}

/// What differs among all builds, each written to a file of its own.
fn written(place: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let (mut seen, mut files) = (BTreeSet::new(), BTreeMap::<String, Vec<PathBuf>>::new());
    for build in builds()? {
        for object in build.objects {
            let content = object.to_string();
            if seen.insert(content.clone()) {
                let file =
                    place.join(format!("{}-{}.json", objects::label(&object).replace(' ', "-"), seen.len()));
                fs::write(&file, content)?;
                files.entry(objects::text(&object, "/kind").to_owned()).or_default().push(file);
            }
        }
    }
    Ok(files)
}

fn native(files: &[PathBuf], release: &str) -> Result<String> {
    let mut arguments: Vec<_> = ["--strict", "-k", release].iter().map(std::ffi::OsString::from).collect();
    arguments.extend(files.iter().map(std::ffi::OsString::from));
    let printed =
        output(&validator("kubernetes-validate")?, &arguments).with_context(|| release.to_owned())?;
    ensure!(!printed.contains("ERROR") && !printed.contains("WARN"), "Kubernetes {release}:\n{printed}");
    Ok(printed)
}

fn own(kind: &str, files: &[PathBuf]) -> Result<String> {
    let mut arguments: Vec<_> = vec!["--schemafile".into(), schema(kind).into_os_string()];
    arguments.extend(files.iter().map(std::ffi::OsString::from));
    output(&validator("check-jsonschema")?, &arguments)
}

#[test]
fn every_object_is_valid_in_every_release() -> Result<()> {
    let place = tempfile::tempdir()?;
    let files = written(place.path())?;
    let (theirs, ours): (Vec<_>, Vec<_>) = files.into_iter().partition(|(kind, _)| schema(kind).exists());
    let ours: Vec<PathBuf> = ours.into_iter().flat_map(|(_, files)| files).collect();
    for release in RELEASES {
        native(&ours, release)?;
    }
    ensure!(theirs.len() >= 8, "only {} kinds of the operators are used", theirs.len());
    for (kind, files) in theirs {
        own(&kind, &files).with_context(|| kind.clone())?;
    }
    Ok(())
}

/// The operator merges `override` into a StatefulSet of its own, so what is below it has to be one's parts.
#[test]
fn what_overrides_the_operators_statefulset_is_a_part_of_one() -> Result<()> {
    let production = build(PRODUCTION)?;
    let cluster = production.object("RabbitmqCluster", "rabbitmq")?;
    let mut pod = objects::at(cluster, "/spec/override/statefulSet/spec/template/spec").clone();
    pod["affinity"] = objects::at(cluster, "/spec/affinity").clone();
    let labels = json!({ "app.kubernetes.io/name": "rabbitmq" });
    let whole = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "rabbitmq-server" },
        "spec": {
            "serviceName": "rabbitmq-nodes", "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod }
        }
    });
    let place = tempfile::tempdir()?;
    let file = place.path().join("statefulset.json");
    fs::write(&file, whole.to_string())?;
    native(&[file], RELEASES[0])?;
    Ok(())
}

/// A validator that lets everything pass would make the tests above worthless.
#[test]
fn a_misspelt_field_is_noticed_in_every_kind() -> Result<()> {
    let place = tempfile::tempdir()?;
    for (kind, files) in written(place.path())? {
        let mut object: Value = serde_json::from_str(&fs::read_to_string(&files[0])?)?;
        let spec = if object.get("spec").is_some() { &mut object["spec"] } else { &mut object };
        spec["mispelt"] = json!(1);
        fs::write(&files[0], object.to_string())?;
        let refused =
            if schema(&kind).exists() { own(&kind, &files[..1]) } else { native(&files[..1], RELEASES[1]) };
        assert!(refused.is_err(), "a misspelt field of a {kind} passes");
    }
    Ok(())
}
