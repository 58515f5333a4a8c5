//! What workers tell each other without keeping it, and what one at a time may do.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::lab::{shared_broker, wait_for};
use kingpost_broker::{Ear, NoObserver};

use crate::{QUIET, SOON, start};

async fn next(ear: &mut Ear) -> Result<Bytes> {
    Ok(tokio::time::timeout(SOON, ear.hear()).await.context("nothing is heard")??)
}

#[tokio::test]
async fn everybody_who_listens_hears_in_one_order_and_nobody_else_later() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-notices").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let (voice, mut ear) = broker.notices().await?;
    let (_, mut other) = broker.notices().await?;
    for n in 0..20 {
        voice.tell(format!("notice {n}").into()).await?;
    }
    for n in 0..20 {
        for listener in [&mut ear, &mut other] {
            assert_eq!(next(listener).await?, format!("notice {n}"));
        }
    }
    let (_, mut late) = broker.notices().await?;
    assert!(tokio::time::timeout(QUIET, late.hear()).await.is_err(), "notices are not kept");
    // One that goes takes its queue with it, and the others go on.
    other.close().await;
    voice.tell("after".into()).await?;
    assert_eq!(next(&mut late).await?, "after");
    ear.close().await;
    assert!(voice.tell("nobody".into()).await.is_err(), "its connection is closed");
    broker.close(SOON).await;
    Ok(())
}

#[tokio::test]
async fn a_lock_has_one_holder_and_passes_on_with_its_end() -> Result<()> {
    let url = shared_broker().await?.vhost("broker-lock").await?;
    let broker = start(&url, Arc::new(NoObserver)).await?;
    let locks = broker.locks();
    let held = locks.take("prober.wdt.default.0").await?.context("nobody holds it")?;
    assert!(held.is_held() && locks.take("prober.wdt.default.0").await?.is_none(), "two hold one lock");
    assert!(locks.take("prober.wdt.default.1").await?.is_some(), "another lock is free");
    held.release().await;
    let held = locks.take("prober.wdt.default.0").await?.context("it was given back")?;
    // Its holder dies.
    drop(held);
    wait_for(SOON, "the lock", async || locks.take("prober.wdt.default.0").await.ok().flatten()).await?;
    broker.close(SOON).await;
    Ok(())
}
