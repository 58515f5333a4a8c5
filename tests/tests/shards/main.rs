//! Shards of a scheme over several loaders, the passing on of a queue, and topologies that a worker may not declare.
#![forbid(unsafe_code)]

mod broker;
mod loaders;
mod pause;
mod stranded;
mod topology;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
