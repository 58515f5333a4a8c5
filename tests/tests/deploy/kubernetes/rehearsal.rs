//! The try-out without a cluster: every container of its manifests runs as a process with the files, variables and arguments
//! that it would have there, on a RabbitMQ with the users of its definitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::account::Account;
use e2e::lab::{
    BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions, free_port, shared_broker, wait_until,
};
use e2e::pipeline::SCHEME;
use serde_json::Value;
use tempfile::TempDir;

use super::files::lay_out;
use super::objects::{Build, at, containers, list, template, text};
use super::{PRODUCTION, TRY_OUT, build};

const SOON: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(240);

/// The first container of an object, with its pod.
fn first<'a>(build: &'a Build, kind: &str, name: &str) -> Result<(&'a Value, &'a Value)> {
    let pod = template(build.object(kind, name)?).context("no pods")?;
    Ok((pod, containers(pod).first().copied().context("no container")?))
}

fn command(container: &Value) -> Vec<String> {
    let words = list(container, "/command").iter().chain(list(container, "/args"));
    words.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Where the names of the cluster lead on this machine.
struct Names {
    broker_port: u16,
    management_port: u16,
    sandbox: String,
}

impl Names {
    fn of(&self, text: &str) -> String {
        let broker = format!("@127.0.0.1:{}/", self.broker_port);
        let management = format!("@127.0.0.1:{}", self.management_port);
        let text = text.replace("@rabbitmq:5672/", &broker).replace("@rabbitmq:15672", &management);
        text.replace("kingpost-sandbox:8099", &self.sandbox)
    }

    /// The mounted files and the variables, with names that lead somewhere.
    fn container(
        &self,
        build: &Build,
        pod: &Value,
        container: &Value,
        place: &Path,
    ) -> Result<BTreeMap<String, String>> {
        let mut environment = lay_out(build, pod, container, place)?;
        environment.values_mut().for_each(|value| *value = self.of(value));
        for name in ["AMQP_URL_FILE", "MANAGEMENT_URL_FILE"] {
            let Some(file) = environment.get(name) else { continue };
            self.lead(Path::new(file))?;
        }
        Ok(environment)
    }

    /// Lets the URL of a file lead to the broker of this machine.
    fn lead(&self, file: &Path) -> Result<()> {
        let url = fs::read_to_string(file)?;
        let led = self.of(&url);
        ensure!(led != url, "{url} doesn't name the broker of the try-out");
        Ok(fs::write(file, led)?)
    }
}

struct Worker {
    name: String,
    process: Process,
    address: String,
    readiness: String,
    grace: Duration,
    _place: TempDir,
}

fn start(build: &Build, names: &Names, stage: &str) -> Result<Worker> {
    let (pod, container) = first(build, "Deployment", &format!("kingpost-{stage}"))?;
    let place = tempfile::tempdir()?;
    let mut environment = names.container(build, pod, container, place.path())?;
    // The port is the pod's own there, and one of many here.
    let address = format!("127.0.0.1:{}", free_port()?);
    environment.insert("HTTP_ADDR".to_owned(), address.clone());
    let program = command(container).first().cloned().context("no command")?;
    let program = program.rsplit('/').next().unwrap_or_default();
    let grace = at(pod, "/spec/terminationGracePeriodSeconds").as_u64().context("no grace period")?;
    Ok(Worker {
        name: program.to_owned(),
        process: Process::of(program)?.envs(environment).start()?,
        address,
        readiness: text(container, "/readinessProbe/httpGet/path").to_owned(),
        grace: Duration::from_secs(grace),
        _place: place,
    })
}

/// The definitions of the try-out, as RabbitMQ loads them there at its start.
async fn broker(build: &Build, place: &Path) -> Result<PrivateBroker> {
    let (pod, container) = first(build, "StatefulSet", "rabbitmq")?;
    let mount = list(container, "/volumeMounts").iter().find(|mount| text(mount, "/name") == "definitions");
    let mounted = text(mount.context("no definitions")?, "/mountPath");
    let conf = build.files(pod, "conf")?.context("no configuration")?;
    let conf = String::from_utf8(conf["rabbitmq.conf"].clone())?;
    let line = format!("load_definitions = {mounted}/definitions.json");
    ensure!(conf.lines().any(|own| own == line), "the configuration doesn't say `{line}`:\n{conf}");
    let definitions = build.files(pod, "definitions")?.context("no definitions")?;
    let file = place.join("definitions.json");
    fs::write(&file, &definitions["definitions.json"])?;
    let config = conf.lines().map(|own| {
        if own == line { format!("load_definitions = {}", file.display()) } else { own.to_owned() }
    });
    let config = config.collect();
    PrivateBroker::start(BrokerOptions { config, management: true, ..BrokerOptions::default() }).await
}

async fn sandbox(build: &Build) -> Result<(Sandbox, u32, u32)> {
    let (_, container) = first(build, "Deployment", "kingpost-sandbox")?;
    let number = |name: &str| -> Result<u32> {
        let words = command(container);
        let value = words.iter().find_map(|word| word.strip_prefix(&format!("--{name}="))).map(str::to_owned);
        Ok(value.with_context(|| format!("no --{name}"))?.parse()?)
    };
    let (orders, unpostable) = (number("orders")?, number("unpostable")?);
    let options = SandboxOptions { orders, unpostable, seed: 1, ..SandboxOptions::default() };
    Ok((Sandbox::start(options).await?, orders, unpostable))
}

/// A node with a line that it doesn't know ends at its start, and so would all three.
#[tokio::test]
async fn rabbitmq_takes_the_configuration_of_production() -> Result<()> {
    let production = build(PRODUCTION)?;
    let cluster = production.object("RabbitmqCluster", "rabbitmq")?;
    let is_newer = shared_broker().await?.version()? >= (3, 13);
    let lines = text(cluster, "/spec/rabbitmq/additionalConfig").lines().map(str::to_owned);
    // Only from 3.13 on; the cluster's image is newer, the node at hand need not be.
    let config: Vec<String> =
        lines.filter(|line| is_newer || !line.contains("membership_reconciliation")).collect();
    ensure!(config.len() > 3, "only {config:?}");
    let broker = PrivateBroker::start(BrokerOptions { config, ..BrokerOptions::default() }).await?;
    let handling = broker.ctl(&["eval", "application:get_env(rabbit, cluster_partition_handling)."]).await?;
    assert_eq!(handling.trim(), "{ok,pause_minority}");
    Ok(())
}

/// The doctor as its template describes it, with the users of all stages and of the management API.
async fn is_examined(build: &Build, names: &Names) -> Result<()> {
    let (pod, container) = first(build, "CronJob", "kingpost-doctor")?;
    let place = tempfile::tempdir()?;
    let environment = names.container(build, pod, container, place.path())?;
    for user in ["extractor", "transformer", "loader"] {
        names.lead(&place.path().join(format!("etc/kingpost/users/kingpost-{user}.amqp-url")))?;
    }
    let arguments =
        command(container).into_iter().skip(1).map(|word| match word.strip_prefix("--secrets-dir=") {
            Some(dir) => format!("--secrets-dir={}{dir}", place.path().display()),
            None => word,
        });
    let doctor = Process::of("kingpost")?.args(arguments).envs(environment).start()?;
    let status = doctor.wait(SOON).await?;
    let said = doctor.output();
    ensure!(status.code() == Some(0), "{said}");
    for part in ["extractor", "transformer", "loader", "policies", "limits", "metadata"] {
        ensure!(said.contains(part), "no {part} in:\n{said}");
    }
    ensure!(!said.contains("MANAGEMENT_URL"), "what only the management API tells was skipped:\n{said}");
    Ok(())
}

#[tokio::test]
async fn the_try_out_runs_to_its_account_with_the_users_of_its_definitions() -> Result<()> {
    let own = build(TRY_OUT)?;
    let place = tempfile::tempdir()?;
    let broker = broker(&own, place.path()).await?;
    let (sandbox, orders, unpostable) = sandbox(&own).await?;
    let management = broker.management_url().context("no management API")?;
    let names = Names {
        broker_port: broker.amqp_port(),
        management_port: management.rsplit(':').next().unwrap_or_default().parse()?,
        sandbox: sandbox.address().to_owned(),
    };

    // The workers first, as everything starts at once in a cluster: they may not declare, and wait until the Job has.
    let workers = ["extractor", "transformer", "loader"].map(|stage| start(&own, &names, stage));
    let workers: Vec<Worker> = workers.into_iter().collect::<Result<_>>()?;
    let (pod, container) = first(&own, "Job", "kingpost-topology")?;
    let job = tempfile::tempdir()?;
    let environment = names.container(&own, pod, container, job.path())?;
    let arguments = command(container).into_iter().skip(1);
    let topology = Process::of("kingpost")?.args(arguments).envs(environment).start()?;
    let status = topology.wait(SOON).await?;
    assert_eq!(status.code(), Some(0), "{}", topology.output());

    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    for worker in &workers {
        let url = format!("http://{}{}", worker.address, worker.readiness);
        wait_until(SOON, &format!("{} to be ready", worker.name), async || {
            client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await
        .with_context(|| worker.process.log_tail())?;
    }

    is_examined(&own, &names).await?;

    let documents = u64::from(orders - unpostable);
    wait_until(DEADLINE, "every order that can be posted to be audited", async || {
        let summary = sandbox.summary().await.unwrap_or_default();
        summary.pointer("/by_status/C").and_then(Value::as_u64) == Some(documents)
    })
    .await
    .with_context(|| workers.iter().map(|worker| worker.process.log_tail()).collect::<Vec<_>>().join("\n"))?;
    // The account needs a user that may look at every queue; a node that loads definitions makes none by itself.
    broker.ctl(&["add_user", "guest", "guest"]).await?;
    broker.ctl(&["set_permissions", "-p", "kingpost", "guest", ".*", ".*", ".*"]).await?;
    let account = Account::take(&sandbox, &broker.vhost_url("kingpost"), SCHEME).await?;
    assert_eq!(account.orders, orders as usize, "{}", account.report());

    for worker in &workers {
        worker.process.term()?;
        let status = worker.process.wait(worker.grace).await?;
        assert_eq!(status.code(), Some(0), "{}: {}", worker.name, worker.process.log_tail());
    }
    Ok(())
}
