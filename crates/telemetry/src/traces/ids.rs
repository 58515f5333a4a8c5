//! Ids of traces and spans: unpredictable at the start of a process, and a count from there, well mixed.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two numbers of this process, from the randomness that the standard library keys its maps with.
static SEEDS: LazyLock<[u64; 2]> =
    LazyLock::new(|| [0_u64, 1].map(|n| RandomState::new().hash_one((std::process::id(), n))));
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The id of a new trace; never 0.
pub(super) fn trace_id() -> u128 {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = SEEDS.map(|seed| mixed(seed.wrapping_add(count.wrapping_mul(STEP))));
    (u128::from(high) << 64 | u128::from(low)).max(1)
}

/// The id of a new span; never 0.
pub(super) fn span_id() -> u64 {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    mixed(SEEDS[0].rotate_left(32).wrapping_add(count.wrapping_mul(STEP))).max(1)
}

/// The odd number of SplitMix64, which goes through all numbers before one comes again.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014): every number gives another one.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let spans: HashSet<u64> = (0..10_000).map(|_| span_id()).collect();
        let traces: HashSet<u128> = (0..10_000).map(|_| trace_id()).collect();
        assert_eq!((spans.len(), traces.len()), (10_000, 10_000));
    }
}
