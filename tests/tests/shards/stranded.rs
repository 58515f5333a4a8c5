//! Messages in queues of another number of shards, when it is not easy to look for them.

use std::sync::Arc;

use anyhow::{Context, Result};
use e2e::{
    lab::refusing_depth_of,
    pipeline::{Pipeline, SCHEME, Worker},
};
use kingpost_broker::{Broker, Destination, NoObserver, Posting, Topology};
use kingpost_model::{RecordKey, Route, StageName, Work, WorkId};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    SOON,
    broker::config,
    loaders::{pipeline, sandbox},
};

/// A pipeline of two shards, of which one message lies in the queue of before there were any.
async fn resharded(name: &str) -> Result<Pipeline> {
    let sandbox = sandbox(1, 0, &[]).await?;
    let pipeline = pipeline(name, &sandbox, (2, 1), "3s").await?;
    put(&pipeline, Route::new(StageName::Load, SCHEME), 1).await?;
    Ok(pipeline)
}

/// Puts a message into a queue of a topology of so many shards.
async fn put(pipeline: &Pipeline, route: Route, shards: u32) -> Result<()> {
    let (topology, stop) = (Topology::new([(SCHEME, shards)]), CancellationToken::new());
    let broker = Broker::start(config(&pipeline.amqp_url), topology, Arc::new(NoObserver), &stop).await?;
    let key = RecordKey::new("STK_InStock", "RK1");
    let work = Work::new(WorkId::new("id-1"), StageName::Load, SCHEME, key, "{}");
    broker.outbound().publish(vec![Posting { destination: Destination::Work(route), work }]).await?;
    broker.close(SOON).await;
    Ok(())
}

/// The URL through a place that ends the second connection at once, and passes all others on; it ends with the test.
async fn without_the_second_connection(url: &str) -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (_, behind) = url.split_once('@').context("no user in the URL")?;
    let (upstream, _) = behind.split_once('/').context("no vhost in the URL")?;
    let upstream = upstream.to_owned();
    let theirs = url.replace(&upstream, &listener.local_addr()?.to_string());
    tokio::spawn(async move {
        let mut accepted = 0;
        while let Ok((mut client, _)) = listener.accept().await {
            accepted += 1;
            if accepted == 2 {
                continue;
            }
            let Ok(mut server) = TcpStream::connect(&upstream).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    Ok(theirs)
}

async fn refuses(loader: &Worker, queue: &str) -> Result<()> {
    let status = loader.process.wait(SOON).await.with_context(|| loader.process.log_tail())?;
    let log = loader.process.output();
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(log.contains("another number of shards") && log.contains(&format!("{queue} (1)")), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_loader_that_loses_the_connection_while_it_looks_looks_again() -> Result<()> {
    let mut pipeline = resharded("shards-cut").await?;
    pipeline.amqp_url = without_the_second_connection(&pipeline.amqp_url).await?;
    let loader = pipeline.start("loader")?;
    refuses(&loader, &format!("load.{SCHEME}")).await?;
    let log = loader.process.output();
    assert!(log.contains("waiting for RabbitMQ"), "it lost nothing: {log}");
    Ok(())
}

#[tokio::test]
async fn a_loader_that_may_not_look_everywhere_says_so_and_looks_where_it_may() -> Result<()> {
    const HIDDEN: &str = "load.purchase-stockin";
    let mut pipeline = resharded("shards-unseen").await?;
    assert_eq!(HIDDEN, Route::new(StageName::Load, SCHEME).queue());
    pipeline.amqp_url = refusing_depth_of(HIDDEN, &pipeline.amqp_url).await?;
    let loader = pipeline.start("loader")?;
    pipeline.ready(&loader, SOON).await?;
    loader.process.term()?;
    assert_eq!(loader.process.wait(SOON).await?.code(), Some(0));
    let log = loader.process.output();
    for part in ["is not checked", HIDDEN, "read permission"] {
        assert!(log.contains(part), "`{part}` is missing in: {log}");
    }
    let route = Route { shard: Some(3), ..Route::new(StageName::Load, SCHEME) };
    put(&pipeline, route, 4).await?;
    refuses(&pipeline.start("loader")?, &format!("{HIDDEN}.3")).await
}
