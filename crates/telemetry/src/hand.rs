//! What a stage has in hand, and how old it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many messages a stage has in hand, by when they came into their queue.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    /// By milliseconds since the epoch; AMQP's timestamps are whole seconds, so that many share one.
    since: Mutex<BTreeMap<i64, usize>>,
}

impl Hand {
    pub(crate) fn take(self: &Arc<Self>, since_ms: i64) -> InHand {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since.entry(since_ms).or_default() += 1;
        InHand { hand: Arc::clone(self), since_ms }
    }

    /// The age of the oldest message in seconds, 0 without any.
    pub(crate) fn oldest_seconds(&self, now_ms: i64) -> f64 {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.first_key_value().map_or(0.0, |(oldest, _)| seconds_since(*oldest, now_ms))
    }
}

/// One message in hand, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct InHand {
    hand: Arc<Hand>,
    since_ms: i64,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut since = self.hand.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = since.get_mut(&self.since_ms) {
            *count -= 1;
            if *count == 0 {
                since.remove(&self.since_ms);
            }
        }
    }
}

/// A clock that is behind makes no age below zero.
pub(crate) fn seconds_since(since_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(since_ms).max(0) as f64 / 1_000.0
}

pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_the_last_of_its_age_is_gone() {
        let hand = Arc::new(Hand::default());
        assert_eq!(hand.oldest_seconds(50_000), 0.0);
        let (old, same, young) = (hand.take(10_000), hand.take(10_000), hand.take(30_000));
        assert_eq!(hand.oldest_seconds(50_000), 40.0);
        drop(old);
        assert_eq!(hand.oldest_seconds(50_000), 40.0);
        drop(same);
        assert_eq!(hand.oldest_seconds(50_000), 20.0);
        assert_eq!(hand.oldest_seconds(29_000), 0.0, "a clock that is behind");
        drop(young);
        assert_eq!(hand.oldest_seconds(50_000), 0.0);
    }
}
