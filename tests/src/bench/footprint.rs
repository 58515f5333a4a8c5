//! What workers take when there is nothing to do, and how soon they do something.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::hop::{Mover, Yard, settled_memory};
use super::report::{Aim, median, result};
use super::{Extent, orders};
use crate::lab::{PrivateBroker, Sandbox, SandboxOptions};
use crate::pipeline::{Pipeline, Schemes, Tempo};

const DEADLINE: Duration = Duration::from_secs(30);

/// Measures idle workers and the start of a transformer.
pub(super) async fn measure(broker: &PrivateBroker, extent: Extent) -> Result<()> {
    println!("\nan idle worker, connected and ready, with nothing to do");
    let sandbox = Sandbox::start(SandboxOptions::default()).await?;
    let start = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 60)?;
    let schemes = Schemes::at(&Tempo { start: start.to_string(), ..Tempo::default() })?;
    let pipeline = Pipeline::new(broker.vhost("idle").await?, schemes, &sandbox)?;
    for stage in ["extractor", "transformer", "loader"] {
        let worker = pipeline.start(stage)?;
        pipeline.ready(&worker, DEADLINE).await?;
        let resident = settled_memory(worker.process.pid()).await?;
        result(&format!("kingpost-{stage}, RSS"), resident, "MB", Aim::AtMost(15.0));
        worker.process.term()?;
        worker.process.wait(DEADLINE).await?;
    }
    println!("\nfrom the start of the process to its first delivery, queues declared, one order waiting");
    let yard = Yard::prepare(broker.vhost("start").await?).await?;
    let (starts, aim) = (extent.of(7, 2), Aim::AtMost(0.3));
    result(
        "kingpost-transformer, median",
        first_delivery(&yard, Mover::Transformer, starts).await?,
        "s",
        aim,
    );
    let bare = first_delivery(&yard, Mover::RelayByHand, starts).await?;
    result("relay with mapping by hand, median", bare, "s", Aim::None);
    Ok(())
}

async fn first_delivery(yard: &Yard, mover: Mover, starts: usize) -> Result<f64> {
    let works = orders::works(1, 5);
    let mut seconds = Vec::new();
    for _ in 0..starts {
        yard.fill(&works).await?;
        let began = Instant::now();
        let process = mover.start(&yard.url)?;
        let (_, first) = yard.take(1).await.with_context(|| process.log_tail())?;
        seconds.push((first - began).as_secs_f64());
        process.term()?;
        process.wait(DEADLINE).await?;
    }
    Ok(median(seconds))
}
