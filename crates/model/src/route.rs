//! Names of queues and exchanges, which other tools rely on.

use std::fmt;

/// The direct exchange that carries work; routing key = queue name.
pub const WORK_EXCHANGE: &str = "kingpost.work";
/// The direct exchange that carries dead letters; routing key = dead-letter queue name.
pub const DEAD_EXCHANGE: &str = "kingpost.dead";

/// The three stages of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StageName {
    /// Reads a window of time from the source.
    Extract,
    /// Maps a source document to a target model.
    Transform,
    /// Posts a model to the target.
    Load,
}

impl StageName {
    /// All stages in flow order.
    pub const ALL: [StageName; 3] = [StageName::Extract, StageName::Transform, StageName::Load];

    /// The word used in queue names, headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            StageName::Extract => "extract",
            StageName::Transform => "transform",
            StageName::Load => "load",
        }
    }

    /// The stage of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The queue of one stage of one scheme, or of one shard of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// The stage.
    pub stage: StageName,
    /// The scheme.
    pub scheme: String,
    /// The shard, where the scheme spreads its loading over several queues.
    pub shard: Option<u32>,
}

impl Route {
    /// The unsharded queue of a stage.
    pub fn new(stage: StageName, scheme: impl Into<String>) -> Self {
        Route { stage, scheme: scheme.into(), shard: None }
    }

    /// The load queue of a document: `load.<scheme>`, or `load.<scheme>.<n>` where there are shards. By its number, which is
    /// what must not be posted twice: its write key may change from one version to the next, and with it the owner would.
    pub fn load(scheme: impl Into<String>, number: &str, shards: u32) -> Self {
        let shard = (shards > 1).then(|| shard_of(number, shards));
        Route { stage: StageName::Load, scheme: scheme.into(), shard }
    }

    /// Every queue of a stage of a scheme with that many shards; only loading is sharded.
    pub fn all(stage: StageName, scheme: &str, shards: u32) -> Vec<Self> {
        if stage == StageName::Load && shards > 1 {
            (0..shards).map(|n| Route { stage, scheme: scheme.to_owned(), shard: Some(n) }).collect()
        } else {
            vec![Route::new(stage, scheme)]
        }
    }

    /// The name of the work queue, which is also its routing key.
    pub fn queue(&self) -> String {
        match self.shard {
            Some(shard) => format!("{}.{}.{shard}", self.stage, self.scheme),
            None => format!("{}.{}", self.stage, self.scheme),
        }
    }

    /// The name of the dead-letter queue, one per stage and scheme whatever the shards.
    pub fn dead_queue(&self) -> String {
        format!("{}.{}.dead", self.stage, self.scheme)
    }
}

/// The shard of a key: FNV-1a over its UTF-8 bytes, modulo the number of shards. It may never change, since two
/// releases that disagree would let two owners hold one key.
pub fn shard_of(key: &str, shards: u32) -> u32 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    u32::try_from(hash % u64::from(shards.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_those_that_others_build_on() {
        assert_eq!(Route::new(StageName::Extract, "purchase-stockin").queue(), "extract.purchase-stockin");
        assert_eq!(Route::new(StageName::Load, "s").dead_queue(), "load.s.dead");
        assert_eq!(Route::load("s", "CG1", 1).queue(), "load.s");
        let sharded: Vec<_> = Route::all(StageName::Load, "s", 2).iter().map(Route::queue).collect();
        assert_eq!(sharded, ["load.s.0", "load.s.1"]);
        assert_eq!(Route::all(StageName::Transform, "s", 8).len(), 1);
        assert!(Route::all(StageName::Load, "s", 2).iter().all(|r| r.dead_queue() == "load.s.dead"));
    }

    #[test]
    fn a_key_never_changes_its_shard() {
        // Pinned: a changed hash would move keys between owners while both have them in flight.
        let pinned = [("CG2404210003", 5), ("采购-1", 7), ("", 5)];
        for (key, shard) in pinned {
            assert_eq!(shard_of(key, 8), shard, "{key}");
        }
    }

    #[test]
    fn shards_share_keys_evenly() {
        let mut counts = [0_u32; 4];
        for n in 0..4000 {
            counts[shard_of(&format!("CG{n:06}"), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }
}
