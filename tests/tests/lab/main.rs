//! The lab keeps its word: real nodes and processes start, fail on demand and leave nothing behind.
#![forbid(unsafe_code)]

mod proxy;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::lab::{
    BrokerOptions, PrivateBroker, Process, Sandbox, SandboxOptions, is_alive, shared_broker, wait_for,
    wait_until,
};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

const SOON: Duration = Duration::from_secs(20);

async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    Ok(())
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel
        .basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties)
        .await?
        .await?;
    anyhow::ensure!(confirm.is_ack(), "not confirmed: {confirm:?}");
    Ok(())
}

/// Takes one message. A get that meets a quorum queue between two leaders may never be answered, so each attempt is
/// bounded and has a channel of its own.
async fn take(connection: &Connection, queue: &str) -> Result<Vec<u8>> {
    wait_for(SOON, "the message", async || {
        let channel = connection.create_channel().await.ok()?;
        let get = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
        let got = tokio::time::timeout(Duration::from_secs(2), get).await.ok()?;
        got.ok().flatten().map(|message| message.delivery.data)
    })
    .await
}

fn sleeper(seconds: &str) -> Result<Process> {
    Process::program(Path::new("/bin/sleep")).arg(seconds).start()
}

#[tokio::test]
async fn a_private_node_keeps_confirmed_messages_through_a_kill_and_leaves_nothing_behind() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let (_connection, first) = channel(&broker.amqp_url()).await?;
    declare(&first, "kept").await?;
    broker.save_queues().await?;
    publish(&first, "kept", b"through the kill").await?;

    let before = broker.pid().context("no node")?;
    broker.kill();
    assert!(!is_alive(before), "the killed node is still there");
    assert_eq!(broker.pid(), None);
    broker.restart().await?;

    let (second, _channel) = channel(&broker.amqp_url()).await?;
    assert_eq!(take(&second, "kept").await?, b"through the kill");

    let (node, epmd, dir) = (broker.pid().context("no node")?, broker.epmd_pid(), broker.dir().to_owned());
    assert!(node != before && is_alive(node) && is_alive(epmd) && dir.is_dir());
    drop(broker);
    assert!(!is_alive(node), "the node outlived its handle");
    assert!(!is_alive(epmd), "epmd outlived its handle");
    assert!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

#[tokio::test]
async fn a_frozen_node_answers_nothing_and_goes_on_when_thawed() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let (_connection, channel) = channel(&broker.vhost("frozen").await?).await?;
    declare(&channel, "waiting").await?;
    broker.freeze()?;
    let pid = broker.pid().context("no node")?;
    // A signal is on its way for a moment.
    wait_until(Duration::from_secs(10), "the node to stand still", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
    .await?;
    let silent =
        tokio::time::timeout(Duration::from_millis(500), publish(&channel, "waiting", b"late")).await;
    assert!(silent.is_err(), "a frozen node confirmed a message");
    broker.thaw()?;
    publish(&channel, "waiting", b"after").await?;
    broker.stop().await?;
    assert_eq!(broker.pid(), None);
    Ok(())
}

#[tokio::test]
async fn tests_share_one_node_and_each_has_a_vhost_of_its_own() -> Result<()> {
    let broker = shared_broker().await?;
    let urls = broker.vhosts(&["one", "two"]).await?;
    let (one, first) = channel(&urls[0]).await?;
    let (two, second) = channel(&urls[1]).await?;
    declare(&first, "same name").await?;
    declare(&second, "same name").await?;
    publish(&first, "same name", b"first").await?;
    publish(&second, "same name", b"second").await?;
    assert_eq!(take(&two, "same name").await?, b"second");
    assert_eq!(take(&one, "same name").await?, b"first");
    assert_eq!(shared_broker().await?.amqp_port(), broker.amqp_port());
    assert!(broker.ctl(&["list_vhosts"]).await?.contains("one-"));
    Ok(())
}

#[tokio::test]
async fn a_process_is_signalled_by_its_id_and_dies_with_its_handle() -> Result<()> {
    let asked = sleeper("600")?;
    asked.term()?;
    assert!(!asked.wait(SOON).await?.success());

    let dropped = sleeper("601")?;
    let pid = dropped.pid();
    dropped.freeze()?;
    assert!(is_alive(pid));
    drop(dropped);
    assert!(!is_alive(pid), "the process outlived its handle");
    Ok(())
}

#[tokio::test]
async fn what_a_process_writes_can_be_read_and_its_status_is_its_own() -> Result<()> {
    let shell = Process::program(Path::new("/bin/sh"))
        .args(["-c", "echo \"$GREETING\"; echo trouble >&2; exit 69"])
        .env("GREETING", "good day")
        .start()?;
    assert_eq!(shell.wait(SOON).await?.code(), Some(69));
    assert_eq!(shell.output(), "good day\ntrouble\n");
    Ok(())
}

/// Runs the ignored test below as a process of its own and kills it as the kernel would when memory is short.
#[tokio::test]
async fn nothing_outlives_a_test_process_that_is_killed() -> Result<()> {
    let note = tempfile::NamedTempFile::new()?;
    let victim = Process::program(&std::env::current_exe()?)
        .args(["--ignored", "--exact", "a_test_that_never_ends"])
        .env("LAB_NOTE", note.path())
        .start()?;
    let started = wait_for(Duration::from_secs(90), "the victim's node", async || {
        let text = std::fs::read_to_string(note.path()).ok()?;
        text.ends_with(".\n").then_some(text)
    })
    .await
    .with_context(|| victim.log_tail())?;
    let mut words = started.split_whitespace();
    let pids: Vec<u32> = words.by_ref().take(3).map(str::parse).collect::<Result<_, _>>()?;
    let dir = Path::new(words.next().context("no directory")?);
    assert!(pids.iter().all(|pid| is_alive(*pid)) && dir.is_dir());
    victim.kill();
    wait_until(SOON, "node, epmd and process to end", async || !pids.iter().any(|pid| is_alive(*pid)))
        .await?;
    wait_until(SOON, "the directory to be removed", async || !dir.exists()).await
}

#[tokio::test]
#[ignore = "the victim of nothing_outlives_a_test_process_that_is_killed"]
async fn a_test_that_never_ends() -> Result<()> {
    let Some(note) = std::env::var_os("LAB_NOTE") else { return Ok(()) };
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let process = sleeper("602")?;
    let node = broker.pid().context("no node")?;
    let text = format!("{node} {} {} {} .\n", broker.epmd_pid(), process.pid(), broker.dir().display());
    std::fs::write(note, text)?;
    std::future::pending::<()>().await;
    Ok(())
}

#[tokio::test]
async fn the_sandbox_tells_the_workers_settings_and_its_truth() -> Result<()> {
    let sandbox = Sandbox::start(SandboxOptions { orders: 7, seed: 3, ..SandboxOptions::default() }).await?;
    assert!(sandbox.setting("KINGDEE_URL")?.starts_with(&format!("http://{}", sandbox.address())));
    assert!(sandbox.setting("WDT_URL")?.contains(sandbox.address()));
    assert!(sandbox.orders().await?.as_array().is_some_and(|orders| orders.len() >= 7));
    assert_eq!(sandbox.documents().await?.as_array().map(Vec::len), Some(0));
    assert_eq!(sandbox.ledger().await?.as_array().map(Vec::len), Some(0));
    let pid = sandbox.process().pid();
    drop(sandbox);
    assert!(!is_alive(pid));
    Ok(())
}
