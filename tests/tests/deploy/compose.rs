//! `docker-compose.yml`: valid by the tools, and what it tells the programs is what they take.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use e2e::lab::{Sandbox, SandboxOptions};
use e2e::tools::{output, repository, tool, validator};
use kingpost_broker::UserRights;
use kingpost_settings::{Environment, SETTINGS, extractor, loader, operator, transformer, warnings};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The compose file as docker-compose understands it, with all profiles, or as `arguments` say.
fn config(arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["config", "--format", "json"]].concat();
    Ok(serde_json::from_str(&output(&tool("docker-compose")?, &arguments)?)?)
}

fn services() -> Result<Map<String, Value>> {
    let config = config(&["--profile", "*"])?;
    Ok(config["services"].as_object().context("no services")?.clone())
}

/// A list of texts, empty where there is none.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_ours(service: &Value) -> bool {
    service["image"].as_str().is_some_and(|image| image.starts_with("kingpost"))
}

/// The services that can be scaled.
const WORKERS: [&str; 3] = ["extractor", "transformer", "loader"];

#[test]
fn the_compose_file_is_valid_with_the_sandbox_and_without() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (rendered, own) = (folder.path().join("compose.json"), folder.path().join("compose.env"));
    fs::write(&own, "ERP_DIR=./deploy/sandbox\n")?;
    let own = own.to_str().context("a path that is text")?;
    for (arguments, sandbox) in [(&[][..], true), (&["--env-file", own], false), (&["--profile", "*"], true)]
    {
        let config = config(arguments)?;
        assert_eq!(config["services"].get("sandbox").is_some(), sandbox, "{arguments:?}");
        fs::write(&rendered, config.to_string())?;
        let schema = ["--builtin-schema", "vendor.compose-spec"];
        let file = rendered.to_str().context("a path that is text")?;
        output(&validator("check-jsonschema")?, &[&schema[..], &[file, "docker-compose.yml"]].concat())?;
    }
    let own = fs::read_to_string(own)?.replace("ERP_DIR", "OTHER");
    fs::write(folder.path().join("compose.env"), own)?;
    let error = config(&["--env-file", &folder.path().join("compose.env").to_string_lossy()]);
    let told = error.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(told.contains("ERP_DIR"), "without its directory it says so: {told}");
    Ok(())
}

/// The settings of a service as its program reads them: paths inside of the container lead to what is mounted there.
struct Given {
    environment: Vec<(String, String)>,
    _secrets: TempDir,
}

impl Given {
    fn of(service: &Value) -> Result<Self> {
        let secrets = tempfile::tempdir()?;
        let mut environment = Vec::new();
        for (name, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().with_context(|| format!("{name} has no value"))?;
            let value = match value.strip_prefix("/etc/kingpost/amqp/") {
                Some(file) => made(file, secrets.path())?,
                None => mounted(service, value),
            };
            environment.push((name.clone(), value));
        }
        // The image sets it.
        environment.push(("SCHEMES_DIR".to_owned(), mounted(service, "/etc/kingpost/schemes")));
        Ok(Given { environment, _secrets: secrets })
    }

    fn environment(&self) -> Environment {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// A file as `kingpost topology users --secrets-dir` makes it.
fn made(file: &str, folder: &Path) -> Result<String> {
    let (user, kind) = file.split_once('.').with_context(|| format!("{file} is no URL of a user"))?;
    let rights = UserRights::named(user);
    let rights = rights.with_context(|| format!("{user} is no user that `kingpost topology users` knows"))?;
    let path = folder.join(file);
    match kind {
        "amqp-url" => fs::write(&path, format!("amqp://{user}:example@rabbitmq:5672/kingpost"))?,
        "management-url" if rights.tags == ["monitoring"] => {
            fs::write(&path, format!("http://{user}:example@rabbitmq:15672"))?;
        }
        _ => bail!("{file} is no URL that `kingpost topology users` makes"),
    }
    Ok(path.to_string_lossy().into_owned())
}

/// A path of the container as a path of this machine, where a directory of the repository is mounted there.
fn mounted(service: &Value, path: &str) -> String {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let source = volumes.filter(|volume| volume["type"] == "bind").find_map(|volume| {
        let rest = path.strip_prefix(volume["target"].as_str()?)?;
        Some(format!("{}{rest}", volume["source"].as_str()?))
    });
    source.unwrap_or_else(|| path.to_owned())
}

#[test]
fn the_programs_take_the_settings_that_they_are_given_and_know_them_all() -> Result<()> {
    let services = services()?;
    let names: BTreeSet<String> = SETTINGS
        .iter()
        .flat_map(|setting| [setting.name.to_owned(), format!("{}_FILE", setting.name)])
        .collect();
    for (name, service) in &services {
        if !is_ours(service) || ["init", "sandbox"].contains(&name.as_str()) {
            continue;
        }
        let given = Given::of(service)?;
        let environment = given.environment();
        let read = match name.as_str() {
            "extractor" => extractor(&environment, &[None]).map(|_| ()),
            "transformer" => transformer(&environment).map(|_| ()),
            "loader" => loader(&environment, &[None]).map(|_| ()),
            "kingpost" => operator(&environment, &[None]).map(|_| ()),
            "topology" => operator(&environment, &[]).map(|_| ()),
            other => panic!("nothing says which settings {other} reads"),
        };
        assert!(
            read.is_ok(),
            "{name}: {}",
            read.err().map(|problems| problems.to_string()).unwrap_or_default()
        );
        let unknown = given.environment.iter().find(|(variable, _)| !names.contains(variable));
        assert_eq!(unknown, None, "{name} is given what nothing reads");
        assert!(warnings(&environment, &[None]).is_empty(), "{name}");
    }
    // Each is given only what it reads.
    for (name, foreign) in [("extractor", "KINGDEE_"), ("transformer", "WDT_"), ("loader", "WDT_")] {
        let environment = services[name]["environment"].as_object().context("no environment")?;
        assert!(!environment.keys().any(|variable| variable.starts_with(foreign)), "{name} holds {foreign}*");
    }
    Ok(())
}

#[tokio::test]
async fn the_examples_are_what_the_sandbox_takes() -> Result<()> {
    let sandbox = Sandbox::start(SandboxOptions { orders: 1, ..SandboxOptions::default() }).await?;
    let services = services()?;
    let mut given = Given::of(&services["extractor"])?.environment;
    given.extend(Given::of(&services["loader"])?.environment);
    for (name, wanted) in sandbox.settings() {
        let plain = given.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let from_file = || {
            let (_, path) = given.iter().find(|(own, _)| *own == format!("{name}_FILE"))?;
            fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        let value = plain.or_else(from_file).with_context(|| format!("{name} isn't given"))?;
        assert_eq!(value.replace("sandbox:8099", sandbox.address()), *wanted, "{name}");
    }
    Ok(())
}

#[test]
fn what_is_published_stays_on_the_loopback_and_workers_can_be_scaled() -> Result<()> {
    for (name, service) in &services()? {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} publishes {port}");
        }
        assert!(service["container_name"].is_null(), "{name}: a name of its own lets no second one start");
        if WORKERS.contains(&name.as_str()) {
            assert!(service["ports"].is_null(), "{name}: a second one couldn't have the same port");
        }
    }
    let networks = config(&["--profile", "*"])?["networks"].clone();
    let transformer = services()?["transformer"]["networks"].clone();
    for name in transformer.as_object().context("no networks")?.keys() {
        assert_eq!(networks[name]["internal"], true, "the transformer has a way out by {name}");
    }
    Ok(())
}

#[test]
fn every_container_is_denied_what_it_doesnt_need() -> Result<()> {
    for (name, service) in &services()? {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["privileged"].is_null() && service["network_mode"] != "host", "{name}");
        for limit in ["cpus", "memory", "pids"] {
            assert!(
                !service["deploy"]["resources"]["limits"][limit].is_null(),
                "{name} has no limit of {limit}"
            );
        }
        if is_ours(service) {
            assert_eq!(service["user"], "65532:65532", "{name}");
        }
    }
    Ok(())
}

#[test]
fn images_are_pinned_and_ours_never_fetched() -> Result<()> {
    for (name, service) in &services()? {
        let image = service["image"].as_str().with_context(|| format!("{name} names no image"))?;
        let (_, tag) = image.rsplit_once(':').with_context(|| format!("{image} has no tag"))?;
        if is_ours(service) {
            assert_eq!(service["pull_policy"], "never", "{name}");
            assert!(!service["build"].is_null(), "{name}");
        } else {
            let numbers = tag.trim_start_matches('v').split(['.', '-']);
            assert!(numbers.take(2).all(|part| part.parse::<u32>().is_ok()), "{image} may become anything");
        }
    }
    Ok(())
}

#[test]
fn everything_that_is_mounted_is_there() -> Result<()> {
    for (name, service) in &services()? {
        let volumes = service["volumes"].as_array().into_iter().flatten();
        for volume in volumes.filter(|volume| volume["type"] == "bind") {
            let source = PathBuf::from(volume["source"].as_str().context("a mount without a source")?);
            assert!(source.starts_with(repository()), "{name} mounts {}", source.display());
            let empty = source.is_dir() && fs::read_dir(&source)?.next().is_none();
            assert!(source.exists() && !empty, "{name}: {} isn't there, or is empty", source.display());
            assert_eq!(volume["read_only"], true, "{name} may write to {}", source.display());
        }
    }
    Ok(())
}

/// Seconds of a length such as `1m40s`.
fn seconds(value: &Value) -> Result<i64> {
    let text = value.as_str().context("no length of time")?;
    Ok(text.parse::<jiff::SignedDuration>()?.as_secs())
}

#[test]
fn a_worker_is_given_more_time_to_stop_than_its_drain_takes() -> Result<()> {
    let services = services()?;
    for name in WORKERS {
        let drain = services[name]["environment"]["DRAIN_SECONDS"].as_str().context("no DRAIN_SECONDS")?;
        let grace = seconds(&services[name]["stop_grace_period"])?;
        assert!(grace >= drain.parse::<i64>()? + 5, "{name}: {grace} s for a drain of {drain} s");
    }
    Ok(())
}

#[test]
fn everything_starts_in_its_order_and_is_asked_how_it_is() -> Result<()> {
    let services = services()?;
    let waits = |name: &str, other: &str, condition: &str| {
        assert_eq!(services[name]["depends_on"][other]["condition"], condition, "{name} -> {other}");
    };
    waits("rabbitmq", "init", "service_completed_successfully");
    waits("topology", "rabbitmq", "service_healthy");
    for name in WORKERS {
        waits(name, "topology", "service_completed_successfully");
        assert_eq!(texts(&services[name]["healthcheck"]["test"]), ["CMD", "kingpost", "health"]);
    }
    for name in ["extractor", "loader"] {
        waits(name, "sandbox", "service_healthy");
        assert_eq!(services[name]["depends_on"]["sandbox"]["required"], false, "{name} needs no sandbox");
    }
    Ok(())
}

#[test]
fn prometheus_finds_every_worker_where_it_listens() -> Result<()> {
    output(&tool("promtool")?, &["check", "config", "deploy/prometheus/prometheus.yml"])?;
    let services = services()?;
    let text = fs::read_to_string(repository().join("deploy/prometheus/prometheus.yml"))?;
    let config: Value = serde_saphyr::from_str(&text)?;
    let jobs = config["scrape_configs"].as_array().context("no jobs")?;
    for name in WORKERS {
        let found = jobs.iter().filter_map(|job| job["dns_sd_configs"].get(0));
        let of_worker = found.filter(|by_name| texts(&by_name["names"]) == [name]);
        let ports: Vec<String> = of_worker.map(|by_name| format!("0.0.0.0:{}", by_name["port"])).collect();
        let listens = services[name]["environment"]["HTTP_ADDR"].as_str().context("no HTTP_ADDR")?;
        assert_eq!(ports, [listens], "{name}");
        let shared = services["prometheus"]["networks"].as_object().into_iter().flatten();
        let network = shared.map(|(network, _)| network).find(|&network| network == "metrics");
        assert!(network.is_some() && !services[name]["networks"]["metrics"].is_boolean(), "{name}");
    }
    Ok(())
}

/// Whoever tries out one and deploys another would meet a release that nobody has tried.
#[test]
fn every_deployment_has_one_release_of_rabbitmq_that_was_tried() -> Result<()> {
    let read = |path: &str| fs::read_to_string(repository().join(path));
    let mut images = Vec::new();
    for path in [
        "docker-compose.yml",
        "k8s/components/rabbitmq-cluster/cluster.yaml",
        "k8s/components/operator/files.yaml",
        "k8s/overlays/try-out/rabbitmq.yaml",
    ] {
        let text = read(path)?;
        let image = text.lines().find_map(|line| line.trim().strip_prefix("image: rabbitmq:"));
        images.push(image.with_context(|| format!("{path} has no image of RabbitMQ"))?.to_owned());
    }
    images.dedup();
    assert_eq!(images.len(), 1, "different releases");
    let release = images[0].strip_suffix("-management").context("without the management plugin")?;
    let tried = read("docs/rabbitmq.md")?.contains(&format!(" {release} (Debian "));
    assert!(tried, "docs/rabbitmq.md doesn't say that {release} was tried");
    Ok(())
}
