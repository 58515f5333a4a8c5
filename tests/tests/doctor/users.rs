//! The users that `kingpost topology users` prints are enough for the whole pipeline, and for nothing beyond.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker},
};
use lapin::{Channel, Connection, ConnectionProperties, options, types::FieldTable};

use crate::{SOON, kingpost};

/// Definitions of all users for a virtual host, written to a file, and the URLs beside their passwords.
async fn definitions(broker: &PrivateBroker, dir: &Path, vhost: &str) -> Result<String> {
    let (secrets, port) = (dir.join("secrets"), broker.amqp_port().to_string());
    let secrets = secrets.to_str().context("no UTF-8")?;
    let own = ["topology", "users", "--secrets-dir", secrets, "--port", &port, "--vhost", vhost];
    let (code, output) = kingpost(&[&own[..], &["--as", "definitions"]].concat(), &[]).await?;
    ensure!(code == Some(0), "{output}");
    // The notes come after it.
    let end = output.rfind("\n}\n").context("no JSON")? + 3;
    let file = dir.join("definitions.json");
    std::fs::write(&file, output.get(..end).unwrap_or_default())?;
    Ok(file.to_string_lossy().into_owned())
}

fn url_file(dir: &Path, user: &str) -> String {
    dir.join(format!("secrets/{user}.amqp-url")).to_string_lossy().into_owned()
}

async fn channel(dir: &Path, user: &str) -> Result<(Connection, Channel)> {
    let url = std::fs::read_to_string(url_file(dir, user))?;
    let connection = Connection::connect(url.as_str(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Whether RabbitMQ refuses a user to consume a queue.
async fn may_not_read(dir: &Path, user: &str, queue: &str) -> Result<()> {
    let (_connection, channel) = channel(dir, user).await?;
    let (options, none) = (options::BasicConsumeOptions::default(), FieldTable::default());
    let answer = channel.basic_consume(queue.into(), "outsider".into(), options, none).await;
    let refused = answer.as_ref().is_err_and(|error| error.to_string().contains("ACCESS_REFUSED"));
    ensure!(refused, "{user} may read {queue}: {answer:?}");
    Ok(())
}

async fn may_not_declare(dir: &Path, user: &str, queue: &str) -> Result<()> {
    let (_connection, channel) = channel(dir, user).await?;
    let answer = channel
        .queue_declare(queue.into(), options::QueueDeclareOptions::default(), FieldTable::default())
        .await;
    let refused = answer.as_ref().is_err_and(|error| error.to_string().contains("ACCESS_REFUSED"));
    ensure!(refused, "{user} may declare {queue}: {answer:?}");
    Ok(())
}

async fn may_not_publish(dir: &Path, user: &str, exchange: &str) -> Result<()> {
    let (_connection, channel) = channel(dir, user).await?;
    channel.confirm_select(options::ConfirmSelectOptions::default()).await?;
    let (options, properties) = (options::BasicPublishOptions::default(), lapin::BasicProperties::default());
    let sent = channel.basic_publish(exchange.into(), "nowhere".into(), options, b"{}", properties).await?;
    let answer = sent.await;
    let refused = answer.as_ref().is_err_and(|error| error.to_string().contains("ACCESS_REFUSED"));
    ensure!(refused, "{user} may publish to {exchange}: {answer:?}");
    Ok(())
}

/// Declares everything as `kingpost-topology`, and runs each stage as its user until all is done.
async fn run_stages(dir: &Path, pipeline: &Pipeline, sandbox: &Sandbox) -> Result<()> {
    run_as(dir, pipeline, "kingpost-topology", &["topology", "apply"]).await?;
    let mut workers: Vec<Worker> = Vec::new();
    for stage in ["extractor", "transformer", "loader"] {
        let file = url_file(dir, &format!("kingpost-{stage}"));
        workers.push(pipeline.start_with(stage, &[("AMQP_URL", ""), ("AMQP_URL_FILE", &file)])?);
    }
    pipeline.wait_done(sandbox, 12, 12, SOON).await?;
    for worker in workers {
        worker.process.term()?;
        ensure!(worker.process.wait(SOON).await?.code() == Some(0), "{}", worker.process.log_tail());
        // That it may not declare is told once and is no warning.
        let refused = |line: &&str| line.contains("ACCESS_REFUSED") && !line.contains(r#""level":"INFO""#);
        let output = worker.process.output();
        let refused: Vec<&str> = output.lines().filter(refused).collect();
        ensure!(refused.is_empty(), "something was refused: {refused:#?}");
    }
    Ok(())
}

async fn run_as(dir: &Path, pipeline: &Pipeline, user: &str, command: &[&str]) -> Result<()> {
    let (schemes, url) = (pipeline.schemes.path().to_string_lossy().into_owned(), url_file(dir, user));
    let settings = [("SCHEMES_DIR", schemes.as_str()), ("AMQP_URL_FILE", url.as_str())];
    let (code, output) = kingpost(command, &settings).await?;
    ensure!(code == Some(0), "{command:?}: {output}");
    Ok(())
}

/// What each user must not be able to do.
async fn nothing_beyond(dir: &Path) -> Result<()> {
    let (load, dead) = (format!("load.{SCHEME}"), format!("transform.{SCHEME}.dead"));
    for (user, queue) in [
        ("kingpost-transformer", &load),
        ("kingpost-transformer", &dead),
        ("kingpost-loader", &format!("transform.{SCHEME}")),
        ("kingpost-extractor", &load),
        ("kingpost-operator", &load),
        ("kingpost-topology", &dead),
        ("kingpost-monitor", &load),
    ] {
        may_not_read(dir, user, queue).await?;
    }
    for user in ["kingpost-topology", "kingpost-monitor"] {
        may_not_publish(dir, user, "kingpost.work").await?;
    }
    for user in ["extractor", "transformer", "loader", "operator", "monitor"] {
        may_not_declare(dir, &format!("kingpost-{user}"), "load.another").await?;
    }
    Ok(())
}

/// `kingpost doctor` finds nothing wrong with any of the users.
async fn examined(dir: &Path, pipeline: &Pipeline, sandbox: &Sandbox, broker: &PrivateBroker) -> Result<()> {
    let (schemes, secrets) = (pipeline.schemes.path().to_string_lossy(), dir.join("secrets"));
    let password = std::fs::read_to_string(secrets.join("kingpost-monitor.password"))?;
    let base = broker.management_url().context("no management")?;
    let management = base.replace("://", &format!("://kingpost-monitor:{password}@"));
    let mut settings: Vec<(&str, &str)> = vec![("SCHEMES_DIR", &schemes), ("MANAGEMENT_URL", &management)];
    settings.extend(sandbox.settings().iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let args = ["doctor", "--json", "--secrets-dir", secrets.to_str().context("no UTF-8")?];
    let (code, output) = kingpost(&args, &settings).await?;
    let fine = |line: &str| line.contains(r#""result":"ok""#);
    ensure!(code == Some(0) && output.lines().all(fine), "{output}");
    for user in ["extractor", "transformer", "loader"] {
        ensure!(output.contains(&format!("connected as kingpost-{user}")), "{output}");
    }
    Ok(())
}

#[tokio::test]
async fn the_whole_pipeline_runs_with_a_user_per_stage_and_none_can_do_what_it_needs_not() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions { management: true, ..BrokerOptions::default() }).await?;
    let dir = tempfile::tempdir()?;
    let file = definitions(&broker, dir.path(), "kingpost").await?;
    broker.ctl(&["import_definitions", &file]).await?;
    // The test's own look at the queues.
    broker.ctl(&["set_permissions", "-p", "kingpost", "guest", ".*", ".*", ".*"]).await?;

    let options = SandboxOptions { orders: 24, unpostable: 12, seed: 3, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await?;
    let tempo = Tempo { settle: "2s".into(), width: "29d".into(), ..Tempo::default() };
    let pipeline = Pipeline::new(broker.vhost_url("kingpost"), Schemes::at(&tempo)?, &sandbox)?;
    run_stages(dir.path(), &pipeline, &sandbox).await?;
    for command in [
        &["status"][..],
        &["dead", "list"],
        &["topology", "show"],
        &["cursor", "show"],
        &["dead", "discard", "--all", "--reason", "an example", "--yes", "--out", "letters.ndjson"],
        &["audit", "list"],
    ] {
        run_as(dir.path(), &pipeline, "kingpost-operator", command).await?;
    }
    nothing_beyond(dir.path()).await?;
    examined(dir.path(), &pipeline, &sandbox, &broker).await?;

    let base = broker.management_url().context("no management")?;
    let password = std::fs::read_to_string(dir.path().join("secrets/kingpost-monitor.password"))?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for path in ["queues/kingpost", "queues/kingpost/load.purchase-stockin", "nodes"] {
        let answer = client.get(format!("{base}/api/{path}")).basic_auth("kingpost-monitor", Some(&password));
        let status = answer.send().await?.status();
        ensure!(status.is_success(), "{path}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn the_script_makes_the_users_and_may_run_again() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let dir = tempfile::tempdir()?;
    let (secrets, vhost) = (dir.path().join("my secrets"), "kp test");
    let own =
        ["topology", "users", "--vhost", vhost, "--port", &broker.amqp_port().to_string(), "--secrets-dir"];
    let own = [&own[..], &[secrets.to_str().context("no UTF-8")?, "--as", "rabbitmqctl"]].concat();
    let (code, script) = kingpost(&own, &[]).await?;
    ensure!(code == Some(0), "{script}");
    // The notes come after it, a line that is no command.
    let script = script.split_once("\n13 files made").context("no notes")?.0;
    let (file, ctl) = (dir.path().join("users.sh"), dir.path().join("ctl"));
    std::fs::write(&file, script)?;
    std::fs::write(&ctl, broker.ctl_script())?;
    for round in ["first", "second"] {
        let run = Process::program(Path::new("/bin/sh"))
            .arg(&file)
            .env("RABBITMQCTL", format!("/bin/sh {}", ctl.display()))
            .start()?;
        let status = run.wait(SOON * 5).await?;
        ensure!(status.success(), "the {round} time: {}", run.log_tail());
    }
    let listed = broker.ctl(&["list_permissions", "-p", vhost]).await?;
    for user in kingpost_broker::USERS {
        let row = [user.name, user.configure, user.write, user.read].join("\t");
        ensure!(listed.lines().any(|line| line == row), "{row}\nis missing in\n{listed}");
        let url = std::fs::read_to_string(secrets.join(format!("{}.amqp-url", user.name)))?;
        Connection::connect(url.as_str(), ConnectionProperties::default())
            .await
            .with_context(|| format!("{} can't log in", user.name))?;
    }
    ensure!(broker.ctl(&["list_users"]).await?.contains("kingpost-monitor\t[monitoring]"));
    Ok(())
}
