//! Queues that somebody else has to declare, and queues that are not what they should be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Process, SharedBroker, shared_broker, wait_until},
    pipeline::SCHEME,
};
use kingpost_broker::{
    Broker, Destination, Inspector, LaneSpec, NoObserver, Observer, PartState, Posting, Receipt, Role,
    StartError, Topology,
};
use kingpost_model::{RecordKey, Route, StageName, Work, WorkId};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio_util::sync::CancellationToken;

use crate::{
    SOON,
    broker::config,
    loaders::{pipeline, sandbox},
};

/// The URL of a vhost for a user of its own, with these rights to configure, write and read.
async fn user(node: &SharedBroker, url: &str, rights: [&str; 3]) -> Result<String> {
    let (_, place) = url.split_once("guest:guest@").context("no user in the URL")?;
    let vhost = url.rsplit('/').next().context("no vhost in the URL")?;
    let name = format!("user-{vhost}");
    node.ctl(&["add_user", &name, "test"]).await?;
    let [configure, write, read] = rights;
    node.ctl(&["set_permissions", "--vhost", vhost, &name, configure, write, read]).await?;
    Ok(format!("amqp://{name}:test@{place}"))
}

/// Runs the operator's command with the shipped schemes.
async fn kingpost(url: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .env("AMQP_URL", url)
        .env("SCHEMES_DIR", e2e::pipeline::shipped_schemes())
        .start()?;
    let status = process.wait(SOON).await?;
    Ok((status.code(), process.output()))
}

#[tokio::test]
async fn a_worker_that_may_not_declare_says_what_is_missing_and_works_once_it_is_applied() -> Result<()> {
    let node = shared_broker().await?;
    let sandbox = sandbox(1, 0, &[]).await?;
    let mut pipeline = pipeline("shards-worker", &sandbox, (1, 1), "3s").await?;
    let admin = pipeline.amqp_url.clone();
    pipeline.amqp_url = user(node, &admin, ["^$", ".*", ".*"]).await?;
    let worker = pipeline.start("transformer")?;
    wait_until(SOON, "a word on what is missing", async || {
        let log = worker.process.output();
        log.contains(&format!("queue `transform.{SCHEME}`")) && log.contains("run `kingpost topology apply`")
    })
    .await
    .with_context(|| worker.process.log_tail())?;
    ensure!(worker.process.is_running(), "{}", worker.process.log_tail());
    let (code, output) = kingpost(&admin, &["topology", "apply"]).await?;
    assert_eq!(code, Some(0), "{output}");
    pipeline.ready(&worker, SOON).await?;
    worker.process.term()?;
    assert_eq!(worker.process.wait(SOON).await?.code(), Some(0));
    // The next one finds everything, and has nothing to say.
    let worker = pipeline.start("transformer")?;
    pipeline.ready(&worker, SOON).await?;
    let log = worker.process.output();
    ensure!(log.contains("not declared by this user") && !log.contains("missing on the broker"), "{log}");
    Ok(())
}

#[tokio::test]
async fn what_is_published_before_its_queue_is_there_waits_for_it() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("shards-late").await?;
    let theirs = user(node, &url, ["^$", ".*", ".*"]).await?;
    let topology = || Topology::new([("orders", 2)]);
    let stop = CancellationToken::new();
    let broker = Broker::start(config(&theirs), topology(), Arc::new(NoObserver), &stop).await?;
    let route = Route { shard: Some(1), ..Route::new(StageName::Load, "orders") };
    let (subscription, mut inboxes) = broker.subscribe(vec![LaneSpec { route: route.clone(), prefetch: 5 }]);
    let outbound = broker.outbound();
    let key = RecordKey::new("STK_InStock", "RK1");
    let work = Work::new(WorkId::new("id-1"), StageName::Load, "orders", key, "{}");
    let posting = Posting { destination: Destination::Work(route), work };
    let publishing = tokio::spawn(async move { outbound.publish(vec![posting]).await });
    let reports = topology().apply(&config(&url), false).await?;
    ensure!(reports.iter().all(|part| part.state == PartState::Made), "{reports:?}");
    tokio::time::timeout(SOON, publishing).await.context("it is never published")???;
    let delivery = tokio::time::timeout(SOON, inboxes[0].recv()).await.context("it never arrives")?;
    Receipt::acknowledge(vec![delivery.context("the inbox was closed")?.receipt]);
    let mut loaders = subscription.loaders("orders").context("not counted")?;
    tokio::time::timeout(SOON, loaders.wait_for(|count| *count == 1)).await.context("not counted")??;
    subscription.close(SOON).await;
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn apply_says_of_everything_whether_it_was_there_and_changes_nothing_that_is() -> Result<()> {
    let url = shared_broker().await?.vhost("shards-apply").await?;
    let (code, output) = kingpost(&url, &["topology", "apply", "--dry-run"]).await?;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("would be made") && output.contains("kingpost.replies"), "{output}");
    let inspector = Inspector::open(&config(&url)).await?;
    let queue = format!("transform.{SCHEME}");
    assert_eq!(inspector.depth(&queue).await?, None, "a dry run made something");
    for (state, count) in [("made", "0 were there"), ("there", "0 made")] {
        let (code, output) = kingpost(&url, &["topology", "apply"]).await?;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains(state) && output.contains(count), "{output}");
    }
    let (code, output) = kingpost(&url, &["topology", "show"]).await?;
    assert!(code == Some(0) && output.contains("kingpost.replies"), "{output}");
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
    for more in [&["topology", "apply"][..], &["topology", "apply", "--dry-run"]] {
        let (code, output) = kingpost(&url, more).await?;
        assert_eq!(code, Some(69), "{output}");
        let flat = output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("differs: `x-dead-letter-exchange` is none there and"), "{output}");
        assert!(flat.contains("delete it, and run this again"), "{output}");
    }
    inspector.close().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_refuses_a_queue_that_differs_and_spells_the_difference_out() -> Result<()> {
    let url = shared_broker().await?.vhost("shards-differs").await?;
    let admin = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = admin.create_channel().await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare("cursor.orders".into(), options, FieldTable::default()).await?;
    let (topology, stop) = (Topology::new([("orders", 1)]), CancellationToken::new());
    let started = Broker::start(config(&url), topology, Arc::new(NoObserver), &stop).await;
    let Err(StartError::Refused(text)) = started else {
        anyhow::bail!("a foreign queue was accepted");
    };
    for part in ["the queue `cursor.orders`", "there and", "delete it and start again", "PRECONDITION_FAILED"]
    {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn apply_without_the_right_to_configure_says_so() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("shards-refused").await?;
    let theirs = user(node, &url, ["^$", ".*", ".*"]).await?;
    let (code, output) = kingpost(&theirs, &["topology", "apply"]).await?;
    assert_eq!(code, Some(69), "{output}");
    assert!(output.contains("refused") && output.contains("set_permissions"), "{output}");
    Ok(())
}

/// Counts the sessions for consuming that were built anew.
#[derive(Default)]
struct Rebuilt(AtomicUsize);

impl Observer for Rebuilt {
    fn rebuilt(&self, role: Role, _reason: &'static str) {
        self.0.fetch_add(usize::from(role == Role::Consume), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn loaders_that_can_not_be_counted_keep_what_they_have() -> Result<()> {
    let node = shared_broker().await?;
    let url = node.vhost("shards-uncounted").await?;
    let topology = Topology::new([("orders", 2)]);
    topology.apply(&config(&url), false).await?;
    let theirs = user(node, &url, ["^$", ".*", r"^load\."]).await?;
    let rebuilt = Arc::new(Rebuilt::default());
    let stop = CancellationToken::new();
    let broker =
        Broker::start(config(&theirs), topology, Arc::clone(&rebuilt) as Arc<dyn Observer>, &stop).await?;
    let routes = Route::all(StageName::Load, "orders", 2);
    let specs = routes.iter().map(|route| LaneSpec { route: route.clone(), prefetch: 5 });
    let (subscription, mut inboxes) = broker.subscribe(specs.collect());
    for route in &routes {
        let key = RecordKey::new("STK_InStock", "RK1");
        let work = Work::new(WorkId::new("id-1"), StageName::Load, "orders", key, "{}");
        let posting = Posting { destination: Destination::Work(route.clone()), work };
        broker.outbound().publish(vec![posting]).await?;
    }
    for inbox in &mut inboxes {
        let delivery = tokio::time::timeout(SOON, inbox.recv()).await?.context("no delivery")?;
        Receipt::acknowledge(vec![delivery.receipt]);
    }
    let mut loaders = subscription.loaders("orders").context("not counted")?;
    let counted =
        tokio::time::timeout(Duration::from_millis(500), loaders.wait_for(|count| *count > 0)).await;
    assert!(counted.is_err(), "counted without the right to");
    // That it may not count, costs nobody a session.
    assert_eq!(rebuilt.0.load(Ordering::Relaxed), 0, "the session was built anew");
    Ok(())
}
