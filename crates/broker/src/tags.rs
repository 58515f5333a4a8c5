//! Which deliveries of a channel are settled.

use std::collections::VecDeque;

/// Which tags are settled, so that one acknowledgement can cover as many as possible.
#[derive(Default)]
pub(crate) struct Tags {
    /// The tag of the first entry.
    base: u64,
    settled: VecDeque<Mark>,
    /// Settled tags that wait behind an unsettled one.
    behind: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Open,
    Settled,
    /// Acknowledged or returned by itself.
    Sent,
}

impl Tags {
    /// How many settled tags wait behind an unsettled one.
    pub(crate) const fn behind(&self) -> usize {
        self.behind
    }

    pub(crate) fn delivered(&mut self, tag: u64) {
        if self.settled.is_empty() {
            self.base = tag;
        }
        self.settled.push_back(Mark::Open);
    }

    pub(crate) fn mark(&mut self, tag: u64, mark: Mark) -> bool {
        let index = tag.checked_sub(self.base).and_then(|i| usize::try_from(i).ok());
        match index.and_then(|i| self.settled.get_mut(i)) {
            Some(old) if *old == Mark::Open => {
                *old = mark;
                self.behind += usize::from(mark == Mark::Settled);
                true
            }
            _ => false,
        }
    }

    /// The tag up to which everything is settled, if an acknowledgement is due for it.
    pub(crate) fn prefix(&mut self) -> Option<u64> {
        let mut due = None;
        while let Some(mark) = self.settled.front().copied().filter(|mark| *mark != Mark::Open) {
            if mark == Mark::Settled {
                self.behind -= 1;
                due = Some(self.base);
            }
            self.settled.pop_front();
            self.base += 1;
        }
        due
    }

    /// Settled tags behind an unsettled one; they are taken as sent.
    pub(crate) fn stragglers(&mut self) -> Vec<u64> {
        let base = self.base;
        let settled = self.settled.iter_mut().zip(base..).filter(|(mark, _)| **mark == Mark::Settled);
        let tags = settled
            .map(|(mark, tag)| {
                *mark = Mark::Sent;
                tag
            })
            .collect();
        self.behind = 0;
        tags
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_acknowledgement_covers_the_settled_prefix() {
        let mut tags = Tags::default();
        (1..=5).for_each(|tag| tags.delivered(tag));
        assert!(tags.mark(2, Mark::Settled));
        assert_eq!(tags.prefix(), None);
        assert!(tags.mark(1, Mark::Settled));
        assert_eq!(tags.prefix(), Some(2));
        assert!(tags.mark(4, Mark::Settled));
        assert_eq!(tags.stragglers(), [4]);
        assert!(!tags.mark(4, Mark::Settled), "a tag is settled once");
        assert!(tags.mark(3, Mark::Settled));
        assert_eq!(tags.prefix(), Some(3));
    }

    proptest! {
        #[test]
        fn every_settled_tag_is_acknowledged_once_and_no_other(
            order in Just((1_u64..60).collect::<Vec<_>>()).prop_shuffle(),
            settle in 0_usize..60,
            flush_every in 1_usize..9,
        ) {
            let mut tags = Tags::default();
            (1..60).for_each(|tag| tags.delivered(tag));
            let mut acknowledged = std::collections::BTreeMap::new();
            let mut sent_alone = std::collections::BTreeSet::new();
            let mut up_to = 0;
            for (n, tag) in order.iter().take(settle).enumerate() {
                prop_assert!(tags.mark(*tag, Mark::Settled));
                if let Some(prefix) = tags.prefix() {
                    for covered in up_to + 1..=prefix {
                        // "multiple" names only what is still outstanding.
                        if !sent_alone.contains(&covered) {
                            *acknowledged.entry(covered).or_insert(0) += 1;
                        }
                    }
                    up_to = prefix;
                }
                if n % flush_every == 0 {
                    for alone in tags.stragglers() {
                        sent_alone.insert(alone);
                        *acknowledged.entry(alone).or_insert(0) += 1;
                    }
                }
            }
            for alone in tags.stragglers() {
                *acknowledged.entry(alone).or_insert(0) += 1;
            }
            let expected: std::collections::BTreeMap<_, _> = order.iter().take(settle).map(|t| (*t, 1)).collect();
            prop_assert_eq!(acknowledged, expected);
        }
    }
}
