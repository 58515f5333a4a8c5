//! What is deployed beside the programs: the image, the compose file, the manifests, the rules and the dashboard, each
//! checked by its own system's tools and held against the code.
#![forbid(unsafe_code)]

mod alertmanager;
mod commands;
mod compose;
mod dashboard;
mod image;
mod kubernetes;
mod rules;

use anyhow::Result;
use e2e::tools::{output, tool, validator};

#[test]
fn the_programs_that_check_are_the_ones_the_pages_speak_of() -> Result<()> {
    for (program, arguments, says) in [
        ("promtool", ["--version", ""], "promtool, version 3."),
        ("amtool", ["--version", ""], "amtool, version 0."),
        ("kubectl", ["version", "--client"], "Kustomize Version: v5."),
        ("docker-compose", ["version", ""], "version 2."),
    ] {
        let arguments: Vec<&str> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
        let printed = output(&tool(program)?, &arguments)?;
        assert!(printed.contains(says), "{program} printed: {printed}");
    }
    let printed = output(&validator("kubernetes-validate")?, &["--version"])?;
    assert!(printed.contains("1.37"), "kubernetes-validate printed: {printed}");
    Ok(())
}
