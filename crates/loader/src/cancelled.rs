//! Documents that were cancelled in the source, so that an older version of one that comes late isn't posted.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kingpost_model::Work;

/// How long a cancelled document is remembered: longer than a message waits in the retry tiers.
const KEPT: Duration = Duration::from_secs(6 * 60 * 60);

/// Those that came by here, and when the source had changed them and they were read.
///
/// A version from before the cancellation may wait in a retry tier while the cancelled one passes it. The memory of a
/// loader ends with it, and nothing else can tell.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    seen: Mutex<HashMap<String, (Version, Instant)>>,
}

/// Which of two versions of a document is the older one.
#[derive(Clone, Copy, Debug)]
struct Version {
    modified_ms: Option<i64>,
    extracted_ms: Option<i64>,
}

impl Version {
    fn of(work: &Work) -> Self {
        Version { modified_ms: work.modified_ms, extracted_ms: work.extracted_ms }
    }

    /// By the source's own time of change, and where that doesn't tell, by when they were read; false if nothing tells.
    fn is_before(self, other: Version) -> bool {
        let before = |ours: Option<i64>, theirs: Option<i64>| {
            let (ours, theirs) = ours.zip(theirs)?;
            (ours != theirs).then_some(ours < theirs)
        };
        before(self.modified_ms, other.modified_ms)
            .or_else(|| before(self.extracted_ms, other.extracted_ms))
            .unwrap_or(false)
    }
}

impl Cancelled {
    /// Learns of a message before any beside it is judged.
    pub(crate) fn learn(&self, work: &Work, now: Instant) {
        if !work.cancelled {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= 4_096 {
            seen.retain(|_, (_, since)| now.duration_since(*since) < KEPT);
        }
        let version = Version::of(work);
        match seen.get(&work.key.number) {
            Some((known, _)) if version.is_before(*known) => {}
            _ => drop(seen.insert(work.key.number.clone(), (version, now))),
        }
    }

    /// Whether a document is cancelled: it says so itself, or a later version of it did.
    pub(crate) fn holds(&self, work: &Work) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        work.cancelled
            || seen.get(&work.key.number).is_some_and(|(known, _)| Version::of(work).is_before(*known))
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{RecordKey, StageName, WorkId};

    use super::*;

    fn work(number: &str, modified_ms: i64, cancelled: bool) -> Work {
        let key = RecordKey::new("STK_InStock", number);
        let mut work = Work::new(WorkId::new(number), StageName::Load, "s", key, "{}");
        (work.modified_ms, work.extracted_ms) = (Some(modified_ms), Some(modified_ms + 10));
        work.cancelled = cancelled;
        work
    }

    #[test]
    fn an_older_version_of_a_cancelled_document_is_cancelled_and_a_newer_one_is_not() {
        let (cancelled, now) = (Cancelled::default(), Instant::now());
        assert!(!cancelled.holds(&work("RK1", 5, false)), "nothing has come yet");
        assert!(cancelled.holds(&work("RK1", 5, true)), "it says so itself");
        cancelled.learn(&work("RK1", 7, true), now);
        cancelled.learn(&work("RK1", 6, true), now);
        cancelled.learn(&work("RK1", 9, false), now);
        for (number, modified_ms, holds) in
            [("RK1", 5, true), ("RK1", 7, false), ("RK1", 8, false), ("RK2", 5, false)]
        {
            assert_eq!(cancelled.holds(&work(number, modified_ms, false)), holds, "{number} {modified_ms}");
        }
        let mut silent = work("RK1", 5, false);
        silent.modified_ms = None;
        assert!(!cancelled.holds(&Work { extracted_ms: Some(17), ..silent.clone() }));
        assert!(cancelled.holds(&Work { extracted_ms: Some(16), ..silent.clone() }));
        assert!(!cancelled.holds(&Work { extracted_ms: None, ..silent }), "nothing tells");
    }
}
