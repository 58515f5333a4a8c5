//! Files as a pod sees them: laid out the way a kubelet lays them, and read by the real programs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::lab::binary;
use e2e::tools::repository;
use serde_json::Value;

use super::objects::{Build, containers, label, list, template, text};
use super::{PRODUCTION, TRY_OUT, build};

/// A kubelet writes a volume into a directory of its own, and links from the mount to it: each name at the top to
/// `..data`, and `..data` to the directory. A program meets hidden directories and links where it expects files.
pub(super) fn mount(files: &BTreeMap<String, Vec<u8>>, place: &Path) -> Result<()> {
    let kept = place.join("..2026_01_01_00_00_00.000000001");
    for (path, content) in files {
        let file = kept.join(path);
        fs::create_dir_all(file.parent().context("no directory")?)?;
        fs::write(file, content)?;
    }
    fs::create_dir_all(&kept)?;
    symlink(kept.file_name().context("no name")?, place.join("..data"))?;
    for entry in fs::read_dir(&kept)? {
        let name = entry?.file_name();
        symlink(Path::new("..data").join(&name), place.join(&name))?;
    }
    Ok(())
}

/// Lays every volume of a container out below a directory, and returns the container's variables with their paths there.
pub(super) fn lay_out(
    build: &Build,
    pod: &Value,
    container: &Value,
    place: &Path,
) -> Result<BTreeMap<String, String>> {
    for volume in list(container, "/volumeMounts") {
        let target = below(place, text(volume, "/mountPath"));
        fs::create_dir_all(&target)?;
        let name = text(volume, "/name");
        let files = build
            .files(pod, name)?
            .with_context(|| format!("{} doesn't make what {name} shows", build.name))?;
        mount(&files, &target)?;
    }
    let mut environment = build.environment(container)?;
    for value in environment.values_mut().filter(|value| value.starts_with('/')) {
        *value = below(place, value).display().to_string();
    }
    Ok(environment)
}

fn below(place: &Path, path: &str) -> PathBuf {
    place.join(path.trim_start_matches('/'))
}

/// The schemes and tables of the repository: what the programs read of the directory, and neither cases nor Kustomization.
fn shipped() -> Result<BTreeMap<String, Vec<u8>>> {
    let (root, mut found) = (repository().join("schemes"), BTreeMap::new());
    for (directory, ending) in [("", "yaml"), ("tables", "csv")] {
        for entry in fs::read_dir(root.join(directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|own| own == ending) {
                found.insert(path.strip_prefix(&root)?.display().to_string(), fs::read(&path)?);
            }
        }
    }
    ensure!(found.len() >= 3, "only {:?}", found.keys());
    Ok(found)
}

#[test]
fn the_mounted_schemes_are_the_directory() -> Result<()> {
    let shipped = shipped()?;
    for build in [build(TRY_OUT)?, build(PRODUCTION)?] {
        let mut seen = 0;
        for (object, pod) in build.pods() {
            for container in containers(pod) {
                let mounts = list(container, "/volumeMounts");
                let Some(mount) =
                    mounts.iter().find(|mount| text(mount, "/mountPath") == "/etc/kingpost/schemes")
                else {
                    continue;
                };
                let environment = build.environment(container)?;
                assert_eq!(environment["SCHEMES_DIR"], "/etc/kingpost/schemes", "{}", label(object));
                let files = build.files(pod, text(mount, "/name"))?.context("the build makes the schemes")?;
                assert_eq!(
                    files.keys().collect::<Vec<_>>(),
                    shipped.keys().collect::<Vec<_>>(),
                    "{}",
                    label(object)
                );
                assert_eq!(files, shipped, "{}: another content", label(object));
                seen += 1;
            }
        }
        ensure!(seen >= 4, "{}: only {seen} pods have schemes", build.name);
    }
    Ok(())
}

/// The real command in the layout of the pod, with the pod's own variables: what the Job `kingpost-check` runs.
#[test]
fn kingpost_check_passes_with_the_files_and_variables_of_each_pod() -> Result<()> {
    let own = build(TRY_OUT)?;
    for (kind, name, program) in [
        ("Deployment", "kingpost-extractor", Some("extractor")),
        ("Deployment", "kingpost-transformer", Some("transformer")),
        ("Deployment", "kingpost-loader", Some("loader")),
        ("CronJob", "kingpost-operator", Some("operator")),
        ("Job", "kingpost-check", None),
    ] {
        let place = tempfile::tempdir()?;
        let pod = template(own.object(kind, name)?).context("no pods")?;
        let container = containers(pod).first().copied().context("no container")?;
        let environment = lay_out(&own, pod, container, place.path())?;
        let arguments: Vec<&str> = match program {
            Some(program) => vec!["check", "--settings", program],
            None => list(container, "/command").iter().skip(1).filter_map(Value::as_str).collect(),
        };
        let run =
            Command::new(binary("kingpost")?).args(&arguments).env_clear().envs(&environment).output()?;
        let said =
            [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(run.status.code(), Some(0), "{name}: {said}");
        assert!(said.contains("purchase-stockin"), "{name}: {said}");
        assert!(!said.contains("warning"), "{name}: {said}");
    }
    Ok(())
}
