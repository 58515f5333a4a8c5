//! Shards of a scheme over several loaders, and topologies that a worker may not declare.
#![forbid(unsafe_code)]

mod broker;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
