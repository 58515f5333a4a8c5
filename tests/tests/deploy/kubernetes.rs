//! The Kubernetes manifests: built with kustomize as a person builds them, and held against the schemas of Kubernetes, the
//! tables of the code and each other.

mod autoscaling;
mod files;
mod network;
mod objects;
mod page;
mod pods;
mod rehearsal;
mod schemas;
mod settings;
mod users;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::tools::{output, repository, tool};

use self::objects::Build;

pub(super) const TRY_OUT: &str = "k8s/overlays/try-out";
pub(super) const PRODUCTION: &str = "k8s/overlays/production";
const BASE: &str = "k8s/base";

/// The manifests of a directory, as `kubectl apply -k` would send them.
fn build(directory: &str) -> Result<Build> {
    let printed = output(&tool("kubectl")?, &["kustomize", directory])?;
    Build::parse(directory, &printed)
}

/// A directory of manifests with components added to it, each a path in the repository.
fn build_with(directory: &str, components: &[&str]) -> Result<Build> {
    build_patched(directory, components, "")
}

/// The same, with the entries of a list of patches.
fn build_patched(directory: &str, components: &[&str], patches: &str) -> Result<Build> {
    let place = tempfile::tempdir()?;
    let own = place.path().canonicalize()?;
    let list = |paths: &[&str]| {
        paths.iter().map(|path| format!("  - {}\n", relative(&own, path))).collect::<String>()
    };
    let mut text = format!("resources:\n{}", list(&[directory]));
    for (key, entries) in [("components", list(components)), ("patches", patches.to_owned())] {
        if !entries.is_empty() {
            text.push_str(&format!("{key}:\n{entries}"));
        }
    }
    fs::write(own.join("kustomization.yaml"), text)?;
    let printed = output(&tool("kubectl")?, &["kustomize".as_ref(), own.as_os_str()])?;
    Build::parse(&format!("{directory} with {}", components.join(", ")), &printed)
}

/// kustomize takes no absolute path.
fn relative(from: &Path, path: &str) -> String {
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", repository().join(path).display().to_string().trim_start_matches('/'))
}

/// Every component by its path in the repository.
fn components() -> Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_dir(repository().join("k8s/components"))?
        .map(|entry| Ok(format!("k8s/components/{}", entry?.file_name().to_string_lossy())))
        .collect::<Result<_>>()?;
    found.sort();
    ensure!(found.len() > 10, "only {found:?} are there");
    Ok(found)
}

/// Both overlays, the base with each component, and production with what it leaves out.
fn builds() -> Result<Vec<Build>> {
    let mut builds = vec![build(TRY_OUT)?, build(PRODUCTION)?, pushing()?];
    for component in components()? {
        builds.push(build_with(BASE, &[&component, "schemes"])?);
    }
    Ok(builds)
}

fn pushing() -> Result<Build> {
    build_with(PRODUCTION, &["k8s/components/push"])
}

/// Text files below a directory of the repository.
fn texts(directory: &str) -> Result<Vec<(PathBuf, String)>> {
    let (mut found, mut open) = (Vec::new(), vec![repository().join(directory)]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.clone(), fs::read_to_string(&path)?));
            }
        }
    }
    Ok(found)
}

#[test]
fn every_directory_and_every_component_builds() -> Result<()> {
    let builds = builds()?;
    for build in &builds {
        ensure!(build.objects.len() > 8, "{} has only {} objects", build.name, build.objects.len());
        build.has_no_duplicates()?;
    }
    let base = build(BASE)?;
    assert_eq!(base.of("Deployment").len(), 3, "a Deployment for each stage");
    assert!(base.of("Secret").is_empty(), "the base holds no secret");
    assert!(build(PRODUCTION)?.of("Secret").is_empty(), "production names secrets and holds none");
    Ok(())
}

#[test]
fn the_try_out_needs_no_operator() -> Result<()> {
    for object in build(TRY_OUT)?.objects {
        let api = objects::text(&object, "/apiVersion");
        let own = !api.contains('.')
            || api.ends_with(".k8s.io/v1")
            || ["apps/v1", "batch/v1", "policy/v1"].contains(&api);
        assert!(own, "{} is of {api}, which a bare cluster doesn't know", objects::label(&object));
    }
    Ok(())
}

#[test]
fn nothing_floats_in_production_and_nothing_is_pulled_by_surprise() -> Result<()> {
    let production = build(PRODUCTION)?;
    for (object, pod) in production.pods() {
        for container in objects::containers(pod) {
            let image = objects::text(container, "/image");
            let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
            assert!(
                !tag.is_empty() && tag != "latest",
                "{}: {image} may be another one tomorrow",
                objects::label(object)
            );
        }
    }
    Ok(())
}
