//! The users in the forms that RabbitMQ's own tools take.

use std::path::Path;

use kingpost_broker::USERS;
use serde_json::{Value, json};

use super::secrets::Secrets;

/// A shell script that makes virtual host, users and permissions, or brings them up to date.
pub(super) fn script(vhost: &str, dir: Option<&Path>) -> String {
    let dir = dir.map_or(String::new(), |dir| {
        format!("SECRETS_DIR=${{SECRETS_DIR:-{}}}\n", quoted(&dir.to_string_lossy()))
    });
    let mut out = format!(
        r#"#!/bin/sh
# The users of Kingpost, made or brought up to date; safe to run again. Each password is read from $SECRETS_DIR/USER.password.
# rabbitmqctl 4.x reads a password only where no option stands beside the command: name the node by RABBITMQ_NODENAME.
# RABBITMQCTL='kubectl exec -i rabbitmq-0 -- rabbitmqctl' runs it where rabbitmqctl is.
set -eu
{dir}: "${{SECRETS_DIR:?the directory of the passwords, as kingpost topology users --secrets-dir makes it}}"
VHOST={vhost}
ctl() {{ ${{RABBITMQCTL:-rabbitmqctl}} "$@"; }}
has() {{ cut -f 1 | grep -F -x -q -e "$1"; }}
password() {{ cat "$SECRETS_DIR/$1.password" && echo; }}
KNOWN=$(ctl -q list_users </dev/null)
user() {{ # name, tags, configure, write, read
    if echo "$KNOWN" | has "$1"; then
        password "$1" | ctl change_password "$1"
    else
        password "$1" | ctl add_user "$1"
    fi
    ctl -q set_user_tags "$1" $2 </dev/null
    ctl -q set_permissions -p "$VHOST" "$1" "$3" "$4" "$5" </dev/null
}}
ctl -q list_vhosts name </dev/null | has "$VHOST" || ctl add_vhost "$VHOST" </dev/null
"#,
        vhost = quoted(vhost)
    );
    for user in USERS {
        let words = [user.configure, user.write, user.read].map(quoted).join(" ");
        out.push_str(&format!("user {} {} {words}\n", user.name, quoted(&user.tags.join(" "))));
    }
    out
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Definitions in RabbitMQ's own format.
pub(super) fn definitions(vhost: &str, secrets: &Secrets) -> String {
    let users: Vec<Value> = USERS
        .iter()
        .map(|user| {
            json!({
                "name": user.name,
                "password_hash": secrets.hash(user.name),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": user.tags,
            })
        })
        .collect();
    let permissions: Vec<Value> = USERS
        .iter()
        .map(|user| {
            json!({
                "user": user.name,
                "vhost": vhost,
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            })
        })
        .collect();
    let whole = json!({ "vhosts": [{ "name": vhost }], "users": users, "permissions": permissions });
    format!("{whole:#}\n")
}

/// Objects of the Messaging Topology Operator (`rabbitmq.com/v1beta1`). A password gets into the cluster by a Secret of
/// its own, with the keys that `importCredentialsSecret` expects.
pub(super) fn kubernetes(vhost: &str, cluster: &str, dir: Option<&Path>) -> String {
    let dir = dir.map_or("DIR".to_owned(), |dir| quoted(&dir.to_string_lossy()));
    let mut out = format!(
        "# Users of Kingpost for the RabbitMQ Messaging Topology Operator. Make the Secrets first, once for each user:\n\
         #   kubectl create secret generic USER-credentials --from-literal=username=USER \\\n\
         #     --from-file=password={dir}/USER.password --from-file=amqp-url={dir}/USER.amqp-url\n\
         #   kubectl label secret USER-credentials rabbitmq.com/topology-operator=true\n\
         # `kingpost topology users --secrets-dir` makes these files; AMQP_URL_FILE takes the mounted amqp-url.\n"
    );
    let reference = format!("  rabbitmqClusterReference:\n    name: {cluster}\n");
    out.push_str(&format!(
        "apiVersion: rabbitmq.com/v1beta1\nkind: Vhost\nmetadata:\n  name: kingpost\nspec:\n  name: {}\n{reference}",
        yaml(vhost)
    ));
    for user in USERS {
        let tags: String = user.tags.iter().map(|tag| format!("    - {tag}\n")).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("  tags:\n{tags}") };
        let name = user.name;
        out.push_str(&format!(
            "---\napiVersion: rabbitmq.com/v1beta1\nkind: User\nmetadata:\n  name: {name}\nspec:\n{tags}  \
             importCredentialsSecret:\n    name: {name}-credentials\n{reference}"
        ));
        out.push_str(&format!(
            "---\napiVersion: rabbitmq.com/v1beta1\nkind: Permission\nmetadata:\n  name: {name}\nspec:\n  vhost: {}\n  \
             userReference:\n    name: {name}\n  permissions:\n    configure: {}\n    write: {}\n    read: {}\n{reference}",
            yaml(vhost),
            yaml(user.configure),
            yaml(user.write),
            yaml(user.read)
        ));
    }
    out
}

/// A text in single quotes, in which YAML knows no escape but a doubled quote.
fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_every_form_with_its_patterns() {
        let forms = [script("kp", None), kubernetes("kp", "rabbitmq", None)];
        for text in &forms {
            for user in USERS {
                for part in [user.name, user.configure, user.write, user.read] {
                    assert!(text.contains(part), "{part} is missing in\n{text}");
                }
            }
        }
        assert!(forms[1].contains("tags:\n    - monitoring\n"), "{}", forms[1]);
    }

    #[test]
    fn words_of_a_shell_stay_words() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert!(script("kp", Some(Path::new("my secrets"))).contains("${SECRETS_DIR:-'my secrets'}"));
    }
}
