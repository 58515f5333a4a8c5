//! Which keys this process has in flight.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use kingpost_model::Item;
use tokio::sync::Notify;

/// The keys in flight; a set of keys is claimed whole or waited for, so that two claims can't wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashSet<String>>,
    released: Notify,
}

/// Keys in flight until dropped.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    keys: Vec<String>,
}

impl Claims {
    /// Waits until none of the keys is in flight, then claims them.
    pub(crate) async fn claim(&self, keys: Vec<String>) -> Claim<'_> {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the look, so that a release between look and wait is not missed.
            released.as_mut().enable();
            {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                if !keys.iter().any(|key| held.contains(key)) {
                    held.extend(keys.iter().cloned());
                    drop(held);
                    return Claim { claims: self, keys };
                }
            }
            released.await;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.held.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            held.remove(key);
        }
        drop(held);
        self.claims.released.notify_waiters();
    }
}

/// What an item locks: its own number, and what the target locks while it is written.
pub(crate) fn keys_of(item: &Item) -> Vec<String> {
    #[cfg(kingpost_bugs)]
    if kingpost_settings::bug("one-key-twice-in-flight") {
        return Vec::new();
    }
    let number = format!("n:{}", item.work.key.number);
    let write = item.work.write_key.as_deref().filter(|key| !key.is_empty()).map(|key| format!("w:{key}"));
    std::iter::once(number).chain(write).collect()
}

/// Splits items into rounds, by index, so that no key occurs twice in a round and equal keys keep their order.
pub(crate) fn rounds(items: &[Item]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<(HashSet<String>, Vec<usize>)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let keys = keys_of(item);
        let after = rounds.iter().rposition(|(held, _)| keys.iter().any(|key| held.contains(key)));
        let round = after.map_or(0, |last| last + 1);
        if round == rounds.len() {
            rounds.push((HashSet::new(), Vec::new()));
        }
        if let Some((held, members)) = rounds.get_mut(round) {
            held.extend(keys);
            members.push(index);
        }
    }
    rounds.into_iter().map(|(_, members)| members).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use kingpost_model::{RecordKey, StageName, Work, WorkId};
    use proptest::prelude::*;

    use super::*;

    fn item(number: &str, write: Option<&str>) -> Item {
        let key = RecordKey::new("STK_InStock", number);
        let mut work = Work::new(WorkId::new(number), StageName::Load, "s", key, "{}");
        work.write_key = write.map(str::to_owned);
        Item { work, redelivered: false }
    }

    #[test]
    fn documents_of_one_purchase_order_are_never_in_one_round() {
        let items =
            [item("RK1", Some("CG1")), item("RK2", Some("CG1")), item("RK3", None), item("RK1", Some("CG9"))];
        assert_eq!(rounds(&items), [vec![0, 2], vec![1, 3]]);
    }

    proptest! {
        #[test]
        fn rounds_hold_every_item_once_and_no_key_twice(
            pairs in proptest::collection::vec((0_u8..20, proptest::option::of(0_u8..8)), 0..60)
        ) {
            let items: Vec<_> =
                pairs.iter().map(|(n, w)| item(&n.to_string(), w.map(|w| w.to_string()).as_deref())).collect();
            let rounds = rounds(&items);
            let mut all: Vec<usize> = rounds.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items.len()).collect::<Vec<_>>());
            for round in rounds {
                let keys: Vec<_> = round.iter().flat_map(|i| keys_of(&items[*i])).collect();
                prop_assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
            }
        }
    }

    #[tokio::test]
    async fn a_key_in_flight_is_waited_for() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim(vec!["a".into(), "b".into()]).await;
        let other = Arc::clone(&claims);
        let waiting = tokio::spawn(async move {
            let _claim = other.claim(vec!["b".into(), "c".into()]).await;
        });
        let free = claims.claim(vec!["d".into()]).await;
        assert!(!waiting.is_finished());
        drop((first, free));
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
