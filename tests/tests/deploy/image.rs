//! `Dockerfile`: linted, and what the image says of itself is so.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;
use e2e::tools::{output, repository, validator};

fn dockerfile() -> Result<String> {
    Ok(fs::read_to_string(repository().join("Dockerfile"))?)
}

/// What follows `FROM … AS name`, up to the next stage.
fn stage<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let heading = format!(" AS {name}\n");
    let (_, rest) = text.split_once(&heading).with_context(|| format!("no stage {name}"))?;
    Ok(rest.split_once("\nFROM ").map_or(rest, |(stage, _)| stage))
}

#[test]
fn hadolint_finds_nothing() -> Result<()> {
    output(&validator("hadolint")?, &["Dockerfile"]).map(|_| ())
}

#[test]
fn every_program_that_is_shipped_is_in_the_image() -> Result<()> {
    let text = dockerfile()?;
    let metadata = MetadataCommand::new()
        .manifest_path(repository().join("Cargo.toml"))
        .no_deps()
        .other_options(["--locked".to_owned()])
        .exec()?;
    let packages = metadata.workspace_packages().into_iter().filter(|package| package.name != "e2e");
    for package in packages {
        let programs = package.targets.iter().filter(|target| target.is_bin());
        for program in programs {
            assert!(text.contains(&format!("-p {} ", package.name)), "{} isn't built", package.name);
            assert!(
                text.contains(&format!("\"$built/{}\"", program.name)),
                "{} isn't installed",
                program.name
            );
        }
    }
    Ok(())
}

#[test]
fn the_final_stages_hold_no_shell_no_root_and_the_labels() -> Result<()> {
    let text = dockerfile()?;
    assert!(text.contains("\nFROM scratch AS root\n") && text.contains("\nFROM root AS sandbox\n"));
    assert!(
        text.trim_end().rsplit("\nFROM ").next().is_some_and(|last| last.starts_with("root AS kingpost\n"))
    );
    let root = stage(&text, "root")?;
    for line in ["USER 65532:65532", "STOPSIGNAL SIGTERM"] {
        assert!(root.lines().any(|own| own == line), "{line} is missing in\n{root}");
    }
    for label in [
        "title",
        "description",
        "version=\"${VERSION}\"",
        "revision=\"${REVISION}\"",
        "licenses=\"Apache-2.0\"",
    ] {
        assert!(root.contains(&format!("org.opencontainers.image.{label}")), "no label {label}");
    }
    for name in ["root", "sandbox", "kingpost"] {
        let stage = stage(&text, name)?;
        let shell = stage.lines().find(|line| line.starts_with("RUN ") || line.starts_with("HEALTHCHECK "));
        assert_eq!(shell, None, "{name} has nothing to run that with");
        assert!(!stage.contains("schemes/"), "{name} holds schemes, which are mounted");
    }
    Ok(())
}

#[test]
fn the_version_of_the_label_and_the_compiler_are_those_of_the_workspace() -> Result<()> {
    let (text, manifest) = (dockerfile()?, fs::read_to_string(repository().join("Cargo.toml"))?);
    let field = |name: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
        line.strip_suffix('"')
    };
    let version = field("version").context("no version")?;
    assert!(text.contains(&format!("\nARG VERSION={version}\n")), "the label's version isn't {version}");
    let rust = field("rust-version").context("no rust-version")?;
    assert!(
        text.contains(&format!("\nARG RUST_IMAGE=rust:{rust}-")),
        "the image is built by another Rust than {rust}"
    );
    Ok(())
}

/// Whether a pattern of `.dockerignore` takes a path, or a directory above it.
fn takes(pattern: &str, path: &Path) -> bool {
    let wanted: Vec<&str> = pattern.split('/').collect();
    let steps: Vec<&str> = path.iter().filter_map(OsStr::to_str).collect();
    let whole = |wanted: &[&str], steps: &[&str]| {
        wanted.len() <= steps.len()
            && wanted.iter().zip(steps).all(|(wanted, step)| wanted == &"*" || wanted == step)
    };
    match wanted.as_slice() {
        ["**", rest @ ..] => (0..steps.len()).any(|from| whole(rest, &steps[from..])),
        all => whole(all, &steps),
    }
}

#[test]
fn no_source_is_kept_out_of_the_build() -> Result<()> {
    let text = fs::read_to_string(repository().join(".dockerignore"))?;
    let patterns: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(['#', '!']) && *line != "*" && !line.is_empty())
        .collect();
    assert!(
        takes("**/target", Path::new("crates/a/src/target/mod.rs")),
        "that would take a module of this name"
    );
    let (mut open, mut seen) = (vec![PathBuf::from("crates"), PathBuf::from("tests/src")], 0);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(repository().join(&directory))? {
            let path = directory.join(entry?.file_name());
            if repository().join(&path).is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let taken = patterns.iter().find(|pattern| takes(pattern, &path));
                assert_eq!(taken, None, "{} would be missing in the build of the image", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 300, "only {seen} sources were looked at");
    Ok(())
}
