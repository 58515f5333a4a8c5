//! The users of RabbitMQ in the manifests are those of the code. With `UPDATE=1` the files are written anew.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::binary,
    tools::{output, repository},
};
use kingpost_broker::UserRights;
use serde_json::{Value, json};

const OBJECTS: &str = "k8s/components/rabbitmq-cluster/users.yaml";
const DEFINITIONS: &str = "k8s/overlays/try-out/definitions.json";

/// Holds a file against what it has to be.
fn fresh(path: &str, expected: &str) -> Result<()> {
    let file = repository().join(path);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&file, expected)?;
    }
    let there = fs::read_to_string(&file)?;
    ensure!(there == expected, "{path} is stale; run UPDATE=1 cargo test -p e2e --test deploy");
    Ok(())
}

#[test]
fn the_users_of_the_cluster_are_what_the_command_prints() -> Result<()> {
    let arguments = ["topology", "users", "--as", "kubernetes", "--cluster", "rabbitmq"];
    fresh(OBJECTS, &output(&binary("kingpost")?, &arguments)?)
}

#[test]
fn the_users_of_the_try_out_may_do_what_those_of_the_code_may() -> Result<()> {
    let text = fs::read_to_string(repository().join(DEFINITIONS))?;
    let mut definitions: Value = serde_json::from_str(&text)?;
    let permissions = definitions["permissions"].as_array_mut().context("no permissions")?;
    for permission in permissions {
        let name = permission["user"].as_str().context("a permission of nobody")?;
        let rights = UserRights::named(name).with_context(|| format!("{name} is no user of the code"))?;
        *permission = json!({
            "user": name, "vhost": permission["vhost"],
            "configure": rights.configure, "write": rights.write, "read": rights.read,
        });
    }
    let mut expected = serde_json::to_string_pretty(&definitions)?;
    expected.push('\n');
    fresh(DEFINITIONS, &expected)
}
