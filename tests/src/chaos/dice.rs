//! Chance that can be repeated.

use std::time::Duration;

/// SplitMix64. Its row of numbers is fixed for ever, unlike a library's, so that a seed printed today gives the same
/// schedule next year.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The row of a seed; `track` gives independent rows of one seed.
    pub fn new(seed: u64, track: u64) -> Self {
        let mut dice =
            Dice(seed.wrapping_mul(0xA076_1D64_78BD_642F) ^ track.wrapping_mul(0xE703_7ED1_A0B4_28DB));
        // Seeds that differ in one bit begin alike otherwise.
        dice.next();
        dice
    }

    /// A number below `limit`, which counts as 1 when it is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A time from `low` to `high` milliseconds.
    pub fn time(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// Changes the order of some things at random.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(0);
            things.swap(last, other);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Cards that are dealt out once each before any comes again.
pub(super) struct Deck<T> {
    cards: Vec<T>,
    dealt: usize,
}

impl<T: Copy> Deck<T> {
    pub(super) fn new(cards: &[T]) -> Self {
        Deck { cards: cards.to_vec(), dealt: cards.len() }
    }

    /// The next card; nothing from a deck without cards.
    pub(super) fn deal(&mut self, dice: &mut Dice) -> Option<T> {
        if self.dealt >= self.cards.len() {
            dice.shuffle(&mut self.cards);
            self.dealt = 0;
        }
        let card = self.cards.get(self.dealt).copied();
        self.dealt += 1;
        card
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_track_have_a_row_of_their_own_for_ever() {
        let row = |seed, track| {
            let mut dice = Dice::new(seed, track);
            [dice.below(1_000), dice.below(1_000), dice.below(1_000)]
        };
        assert_eq!(row(1, 0), row(1, 0));
        assert_ne!(row(1, 0), row(2, 0));
        assert_ne!(row(1, 0), row(1, 1));
        assert_eq!(row(7, 3), [271, 891, 521]);
    }

    #[test]
    fn a_deck_deals_every_card_before_any_again() {
        let (mut deck, mut dice) = (Deck::new(&[1, 2, 3, 4]), Dice::new(5, 0));
        for _ in 0..10 {
            let mut round: Vec<i32> = (0..4).filter_map(|_| deck.deal(&mut dice)).collect();
            round.sort_unstable();
            assert_eq!(round, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_time_lies_between_its_bounds() {
        let mut dice = Dice::new(9, 9);
        for _ in 0..1_000 {
            let time = dice.time(20, 30).as_millis();
            assert!((20..=30).contains(&time), "{time}");
        }
    }
}
