//! Workers whose connections go through proxies.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    lab::{Proxy, Way, wait_until},
    pipeline::Worker,
};
use tempfile::TempDir;

use crate::{Run, SOON};

/// The same URL by another address, with a heartbeat in seconds: death is seen after two of them.
pub(crate) fn by(url: &str, address: &str, heartbeat: u32) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (user, place) = rest.split_once('@').context("no user in the URL")?;
    let (_, path) = place.split_once('/').context("no virtual host in the URL")?;
    Ok(format!("{scheme}://{user}@{address}/{path}?heartbeat={heartbeat}"))
}

/// `HOST:PORT` of a URL.
pub(crate) fn place(url: &str) -> Result<String> {
    let (_, rest) = url.split_once("://").context("no URL")?;
    let (_, place) = rest.split_once('@').context("no user in the URL")?;
    let (place, _) = place.split_once('/').context("no virtual host in the URL")?;
    Ok(place.to_owned())
}

/// A worker that publishes through one proxy and consumes, and does everything else, through another.
pub(crate) struct Split {
    pub(crate) worker: Worker,
    pub(crate) publish: Proxy,
    pub(crate) consume: Proxy,
    _dir: TempDir,
}

impl Run {
    /// A proxy before the broker, and the URL through it.
    pub(crate) async fn broker_proxy(&self, heartbeat: u32) -> Result<(Proxy, String)> {
        let proxy = Proxy::start(place(&self.pipeline.amqp_url)?).await?;
        let url = by(&self.pipeline.amqp_url, proxy.address(), heartbeat)?;
        Ok((proxy, url))
    }

    /// A proxy before Kingdee, and the `KINGDEE_URL` through it.
    pub(crate) async fn kingdee_proxy(&self) -> Result<(Proxy, String)> {
        let proxy = Proxy::start(self.sandbox.address()).await?;
        let url = format!("http://{}/k3cloud/", proxy.address());
        Ok((proxy, url))
    }

    /// Starts a worker whose two connections can be told apart, and waits until it is ready.
    ///
    /// A worker reads its URL from the file for each connection and opens the one for publishing first; that one is
    /// held in the middle of its handshake until the file names the other proxy.
    pub(crate) async fn split(&self, stage: &str, heartbeat: u32) -> Result<Split> {
        let (publish, publish_url) = self.broker_proxy(heartbeat).await?;
        let (consume, consume_url) = self.broker_proxy(heartbeat).await?;
        let dir = tempfile::Builder::new().prefix("kingpost-url-").tempdir()?;
        let file = dir.path().join("amqp-url");
        std::fs::write(&file, publish_url)?;
        publish.stall(Way::ToClient);
        let path = file.to_string_lossy().into_owned();
        let worker = self.pipeline.start_with(stage, &[("AMQP_URL", ""), ("AMQP_URL_FILE", &path)])?;
        let opened = wait_until(SOON, "the first connection", async || publish.traffic().accepted > 0);
        opened.await.with_context(|| worker.process.log_tail())?;
        std::fs::write(&file, consume_url)?;
        publish.heal();
        self.pipeline.ready(&worker, SOON).await?;
        Ok(Split { worker, publish, consume, _dir: dir })
    }

    /// Waits until a worker says that it has lost a session of a role, or any.
    pub(crate) async fn until_rebuilt(&self, worker: &Worker, role: &str) -> Result<()> {
        let role = format!("role=\"{role}\"");
        self.until_metric(worker, "kingpost_session_rebuilds_total", &[&role], 1.0).await
    }

    /// Waits until a worker is not ready.
    pub(crate) async fn until_unready(&self, worker: &Worker) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let url = format!("http://{}/readyz", worker.http);
        let unready = wait_until(SOON, "the worker not to be ready", async || {
            client.get(&url).send().await.is_ok_and(|answer| answer.status() == 503)
        });
        unready.await.with_context(|| worker.process.log_tail())
    }
}
