//! A minute of random faults from a fixed seed, every order accounted for afterwards. `make chaos` runs other seeds, and longer.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::Result;

/// Loaders and the broker are killed, a commit comes after its answer was given up, and Kingdee takes a number twice.
const SEED: u64 = 8;
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn when_faults_are_random_for_a_minute_then_every_order_is_in_kingdee_once_or_an_explained_dead_letter()
-> Result<()> {
    let outcome = Box::pin(e2e::chaos::run(SEED, MINUTE)).await?;
    assert!(outcome.violations.is_empty(), "seed {SEED}: {:#?}\n{:?}", outcome.violations, outcome.kept);
    let counters = outcome.counters;
    assert_eq!(counters.ok + counters.dead, counters.attempted, "{counters}");
    assert!(counters.withdrawn > 0, "nobody cancelled anything, WDT did not live: {counters}");
    assert!(counters.acknowledged < counters.ok, "no answer was lost, the run has shown little: {counters}");
    assert!(outcome.drained <= MINUTE, "{:?}", outcome.drained);
    Ok(())
}
