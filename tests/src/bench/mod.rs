//! `make bench`: what the transformer costs beside the least that could do its work, in one run on one broker.
//!
//! Absolute numbers belong to a machine and its load; ratios of interleaved rounds do not, or far less. So the variants
//! take turns and every ratio of speeds is taken within a round; the median of the rounds is what is shown.

mod by_hand;
mod footprint;
mod hop;
mod mapping;
mod orders;
mod relay;
mod report;
mod scrape;
mod usage;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use kingpost_scheme::{Mapping, load_file};

use crate::lab::{BrokerOptions, PrivateBroker};
use crate::pipeline::{SCHEME, shipped_schemes};

pub use by_hand::Tables;
pub use relay::run as relay;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Enough for numbers that mean something, in about six minutes.
    Full,
    /// Enough to see that everything runs and that outputs agree.
    Quick,
    /// The cost of scrapes alone, as in the full extent.
    Scrapes,
}

impl Extent {
    fn of<T>(self, full: T, quick: T) -> T {
        if self == Extent::Quick { quick } else { full }
    }
}

/// The sizes of order that are measured: the name of the size and the lines.
const SIZES: [(&str, usize); 2] = [("3 kB", 5), ("12 kB", 24)];

/// Measures everything and prints it.
///
/// # Errors
/// Something could not be started, or the outputs of two variants differ.
pub async fn run(extent: Extent) -> Result<()> {
    let began = Instant::now();
    let broker = PrivateBroker::start(BrokerOptions::default()).await?;
    let version = broker.ctl(&["version"]).await?;
    println!("machine      {}; load before the run {}", usage::machine(), usage::load());
    println!("broker       RabbitMQ {}, one private node, quorum queues, publisher confirms", version.trim());
    println!("time         {}", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"));
    if cfg!(debug_assertions) {
        println!("             a debug build: the numbers mean nothing; use `make bench`");
    }
    if extent == Extent::Quick {
        println!("             a quick run: it shows that everything works, its numbers mean little");
    }
    if extent != Extent::Scrapes {
        mapping::measure(extent)?;
        for (name, lines) in SIZES {
            hop::measure(&broker, extent, name, lines).await?;
        }
        footprint::measure(&broker, extent).await?;
    }
    scrape::measure(&broker, extent).await?;
    println!("\n{:.0} s in all", began.elapsed().as_secs_f64());
    broker.stop().await
}

/// The mapping of the shipped scheme.
fn shipped_mapping() -> Result<Arc<Mapping>> {
    let file = shipped_schemes().join(format!("{SCHEME}.yaml"));
    Ok(load_file(&file).context("the shipped scheme can't be read")?.mapping)
}
