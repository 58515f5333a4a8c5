//! The lab: real brokers, real processes and the sandbox ERPs, each private to the test that started it.
//!
//! Everything started here is ended by its own process id when its handle is dropped. When the test process itself is
//! killed, a small shell at the other end of a pipe does it instead, so that nothing outlives a run.

mod broker;
mod leash;
mod node;
mod process;
mod proxy;
mod refusing;
mod sandbox;
mod shared;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use broker::{BrokerOptions, PrivateBroker};
pub use leash::is_alive;
pub use node::Node;
pub use process::{Process, ProcessBuilder, Trace, binary};
pub use proxy::{Proxy, Traffic, Way, Welcome};
pub use refusing::refusing_depth_of;
pub use sandbox::{Sandbox, SandboxOptions};
pub use shared::{SharedBroker, shared_broker};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Waits until `condition` gives a value; fails with `what` once `deadline` has passed.
pub async fn wait_for<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain for {what}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until `condition` is true; fails with `what` once `deadline` has passed.
pub async fn wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<()> {
    wait_for(deadline, what, async || condition().await.then_some(())).await
}

/// A TCP port of the loopback interface that was free a moment ago; whoever binds it must be ready to try another.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
