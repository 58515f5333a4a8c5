//! Spreads the shards of a scheme over the loaders that are there.
//!
//! Every loader consumes every shard, so that one takes over at once when another is gone, and the broker makes the one
//! that came first the active one of them all. So a loader that finds itself active on more than its fair share leaves
//! the excess to whoever waits, and waits in turn at the end of the line. Nobody takes anything; a shard goes from hand
//! to hand until somebody has room for it.

use std::{sync::Arc, time::Instant};

use kingpost_broker::Subscription;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lane::Lane;

/// A shard as the balance sees it.
pub(crate) struct Shard {
    pub(crate) lane: Arc<Lane>,
    /// Since when it has been delivering to us.
    pub(crate) active: watch::Receiver<Option<Instant>>,
}

/// How many of the shards that we are active on should go, where `loaders` were counted twice in a row.
///
/// Two counts, so that a loader that starts and dies at once moves nothing. What is left over when the shards can't be
/// divided evenly stays where it is: a shard is no slower for having its loader to share with another.
fn excess(active: usize, shards: usize, loaders: [u32; 2]) -> usize {
    let agreed = loaders.into_iter().min().unwrap_or(0) as usize;
    if agreed == 0 { 0 } else { active.saturating_sub(shards.div_ceil(agreed)) }
}

/// Balances the shards of a scheme until `stop`.
pub(crate) async fn run(shards: Vec<Shard>, mut loaders: watch::Receiver<u32>, stop: CancellationToken) {
    let mut before = 0;
    loop {
        let counted = tokio::select! {
            () = stop.cancelled() => return,
            counted = loaders.changed() => counted,
        };
        if counted.is_err() {
            return;
        }
        let now = *loaders.borrow_and_update();
        step_back(&shards, [before, now]);
        before = now;
    }
}

fn step_back(shards: &[Shard], loaders: [u32; 2]) {
    let staying = |shard: &&Shard| !*shard.lane.asked_to_step_back.borrow();
    let mut active: Vec<(Instant, &Shard)> =
        shards.iter().filter(staying).filter_map(|shard| Some(((*shard.active.borrow())?, shard))).collect();
    let excess = excess(active.len(), shards.len(), loaders);
    // What came last goes first: it came because somebody else had too much of it.
    active.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
    for (_, shard) in active.into_iter().take(excess) {
        shard.lane.asked_to_step_back.send_replace(true);
    }
}

/// The balance of every sharded scheme among some lanes.
pub(crate) fn of(subscription: &Subscription, lanes: Vec<Shard>) -> Vec<(Vec<Shard>, watch::Receiver<u32>)> {
    let mut schemes: std::collections::BTreeMap<String, Vec<Shard>> = std::collections::BTreeMap::new();
    for shard in lanes.into_iter().filter(|shard| shard.lane.route.shard.is_some()) {
        schemes.entry(shard.lane.route.scheme.clone()).or_default().push(shard);
    }
    let balanced =
        schemes.into_iter().filter_map(|(scheme, shards)| Some((shards, subscription.loaders(&scheme)?)));
    balanced.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_more_than_the_share_goes() {
        assert_eq!(excess(4, 4, [2, 2]), 2);
        assert_eq!(excess(4, 4, [3, 3]), 2);
        assert_eq!(excess(2, 4, [3, 3]), 0);
        assert_eq!(excess(1, 4, [9, 9]), 0, "the last one stays, however many there are");
        assert_eq!(excess(4, 4, [1, 3]), 0, "counted only once");
        assert_eq!(excess(4, 4, [0, 0]), 0, "not counted");
    }

    /// The queues' own order: the first of each line is active, who steps back goes to its end.
    fn settle(lines: &mut [VecDeque<usize>], loaders: usize, turns: &[usize]) -> Option<usize> {
        let count = u32::try_from(loaders).unwrap();
        for (moves, turn) in turns.iter().enumerate() {
            let held = |lines: &[VecDeque<usize>], who| lines.iter().filter(|line| line[0] == who).count();
            let shards = lines.len();
            if (0..loaders).all(|who| excess(held(lines, who), shards, [count; 2]) == 0) {
                return Some(moves);
            }
            let who = turn % loaders;
            let go = excess(held(lines, who), shards, [count; 2]);
            for line in lines.iter_mut().filter(|line| line[0] == who).take(go) {
                line.rotate_left(1);
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn shards_come_to_rest_whoever_moves_when(
            shards in 1_usize..65,
            loaders in 1_usize..9,
            seed in any::<u64>(),
        ) {
            let mut seed = seed | 1;
            let mut next = || {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                usize::try_from(seed % 1_000).unwrap()
            };
            let mut lines: Vec<VecDeque<usize>> = (0..shards).map(|_| {
                let mut line: Vec<usize> = (0..loaders).collect();
                line.sort_by_cached_key(|_| next());
                line.into()
            }).collect();
            let turns: Vec<usize> = (0..loaders * loaders * 40).map(|_| next()).collect();
            prop_assert!(settle(&mut lines, loaders, &turns).is_some(), "they never come to rest");
            let share = shards.div_ceil(loaders);
            for who in 0..loaders {
                prop_assert!(lines.iter().filter(|line| line[0] == who).count() <= share);
            }
        }
    }
}
