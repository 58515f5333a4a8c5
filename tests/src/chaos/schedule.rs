//! What will happen, decided before anything starts: the same seed and duration give the same schedule.

use std::fmt;
use std::time::Duration;

use super::blow::{Blow, BrokerBlow, ErpBlow, Place, Post, Trouble, erp_blows};
use super::dice::{Deck, Dice};

/// Time left for work after a fault that the product waits out for half a minute.
const SLOW_LEFT: Duration = Duration::from_secs(32);

/// The orders in which a WDT may answer.
const ORDERS: [&str; 3] = ["modified", "modified-desc", "id"];

/// One fault: when it begins, counted from the start of the nemesis, and how long it lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Not before this; an earlier fault of its track that takes longer than planned delays it.
    pub at: Duration,
    /// Until it is undone. Nothing for what happens at once.
    pub lasts: Duration,
    /// What happens.
    pub blow: Blow,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6.1} s  {}", self.at.as_secs_f64(), self.blow)?;
        if self.lasts > Duration::ZERO {
            write!(f, ", for {:.1} s", self.lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

/// A schedule. The tracks run at the same time, the events of one track one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What it was made of.
    pub seed: u64,
    /// How long faults begin.
    pub duration: Duration,
    /// Over how many queues loading is spread: 1 or 2.
    pub shards: u32,
    /// Whether Kingdee refuses a number that it has (编码唯一). Without that rule, a second post is a second document.
    pub unique_numbers: bool,
    /// In which order WDT answers, as the sandbox calls it.
    pub order: &'static str,
    /// Events by track: workers, the broker and the way to it, ways to the ERPs, ERPs.
    pub tracks: [Vec<Event>; 4],
}

impl Schedule {
    /// Draws the schedule of a seed.
    pub fn draw(seed: u64, duration: Duration) -> Self {
        let mut dice = Dice::new(seed, 0);
        let shards = u32::try_from(dice.between(1, 2)).unwrap_or(1);
        let unique_numbers = dice.below(3) == 0;
        let order = ORDERS.get(usize::try_from(dice.below(3)).unwrap_or(0)).copied().unwrap_or(ORDERS[0]);
        let tracks = [
            workers(&mut Dice::new(seed, 1), duration),
            broker(&mut Dice::new(seed, 2), duration),
            ways_to_erps(&mut Dice::new(seed, 3), duration),
            erps(&mut Dice::new(seed, 4), duration),
        ];
        Schedule { seed, duration, shards, unique_numbers, order, tracks }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events: Vec<&Event> = self.tracks.iter().flatten().collect();
        events.sort_by_key(|event| event.at);
        writeln!(
            f,
            "schedule of seed {}, {} s: {} faults, {} load queue(s), Kingdee {} a number twice, WDT answers by {}",
            self.seed,
            self.duration.as_secs(),
            events.len(),
            self.shards,
            if self.unique_numbers { "refuses" } else { "takes" },
            self.order
        )?;
        events.into_iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

/// Lays events one behind the other until the time is over. `draw` gives a blow and how long it lasts, and may decline
/// when there is too little time left.
fn lay(
    dice: &mut Dice,
    duration: Duration,
    gap: (u64, u64),
    mut draw: impl FnMut(&mut Dice, Duration) -> Option<(Blow, Duration)>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = dice.time(gap.0, gap.1);
    while at < duration {
        if let Some((blow, lasts)) = draw(dice, duration - at) {
            let takes = lasts + blow.overhead();
            events.push(Event { at, lasts, blow });
            at += takes;
        }
        at += dice.time(gap.0, gap.1);
    }
    events
}

fn workers(dice: &mut Dice, duration: Duration) -> Vec<Event> {
    let mut deck = Deck::new(&Post::ALL.map(|post| [(post, 0), (post, 1), (post, 2)]).concat());
    lay(dice, duration, (1_500, 4_500), |dice, _| {
        let (post, how) = deck.deal(dice)?;
        Some(match how {
            0 => (Blow::Kill(post), dice.time(100, 2_500)),
            1 => (Blow::Terminate(post), dice.time(100, 1_500)),
            _ => (Blow::Freeze(post), dice.time(500, 10_000)),
        })
    })
}

/// The broker and the way to it in turn. Each costs a loader its lease, and with it a settle window in which it posts
/// nothing that it doesn't know; without room in between nothing would ever be posted.
fn broker(dice: &mut Dice, duration: Duration) -> Vec<Event> {
    let mut blows = Deck::new(&BrokerBlow::ALL);
    let mut troubles = Deck::new(&Trouble::KINDS);
    let mut turn = dice.below(2);
    lay(dice, duration, (3_000, 8_000), |dice, _| {
        turn += 1;
        if turn.is_multiple_of(2) {
            let (trouble, lasts) = troubles.deal(dice)?.drawn(dice, 10_000);
            return Some((Blow::Way(Place::Broker, trouble), lasts));
        }
        let blow = blows.deal(dice)?;
        let lasts = match blow {
            BrokerBlow::Kill => dice.time(300, 2_000),
            BrokerBlow::Freeze => dice.time(1_000, 9_000),
            BrokerBlow::StopApp => dice.time(500, 3_000),
            BrokerBlow::CloseConnections => Duration::ZERO,
            BrokerBlow::MemoryAlarm => dice.time(2_000, 7_000),
            BrokerBlow::SuspendListeners => dice.time(1_000, 4_000),
        };
        Some((Blow::Broker(blow), lasts))
    })
}

/// Stalls and holes here are short: what a loader sent into them may take effect when the loader is long dead, and the
/// settle window has to cover it together with what the ERP adds.
fn ways_to_erps(dice: &mut Dice, duration: Duration) -> Vec<Event> {
    let cards = [Place::Wdt, Place::Kingdee, Place::Kingdee];
    let cards: Vec<_> =
        cards.into_iter().flat_map(|place| Trouble::KINDS.map(|trouble| (place, trouble))).collect();
    let mut deck = Deck::new(&cards);
    lay(dice, duration, (1_500, 4_500), |dice, _| {
        let (place, trouble) = deck.deal(dice)?;
        let (trouble, lasts) = trouble.drawn(dice, 1_000);
        Some((Blow::Way(place, trouble), lasts))
    })
}

fn erps(dice: &mut Dice, duration: Duration) -> Vec<Event> {
    let mut deck = Deck::new(erp_blows());
    lay(dice, duration, (800, 2_600), |dice, left| {
        let blow = deck.deal(dice)?;
        if blow.is_slow() && left < SLOW_LEFT {
            return None;
        }
        let lasts = match blow {
            ErpBlow::Freeze => dice.time(300, 1_000),
            ErpBlow::Hang { .. } => dice.time(1_000, 3_000),
            ErpBlow::Rule { .. } => Duration::ZERO,
        };
        Some((Blow::Erp(blow, dice.below(1_000)), lasts))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_has_one_schedule_and_another_seed_another() {
        assert_eq!(Schedule::draw(3, MINUTE), Schedule::draw(3, MINUTE));
        assert_ne!(Schedule::draw(3, MINUTE).tracks, Schedule::draw(4, MINUTE).tracks);
    }

    #[test]
    fn a_minute_has_faults_of_every_track_and_five_of_every_kind_of_broker_fault() {
        for seed in 0..50 {
            let schedule = Schedule::draw(seed, MINUTE);
            let counts: Vec<usize> = schedule.tracks.iter().map(Vec::len).collect();
            assert!(counts.iter().all(|count| *count >= 3), "seed {seed}: {counts:?}");
            let late = schedule.tracks.iter().flatten().filter(|event| event.at >= MINUTE);
            assert_eq!(late.count(), 0);
            let broker = &Schedule::draw(seed, 5 * MINUTE).tracks[1];
            for kind in BrokerBlow::ALL {
                assert!(broker.iter().any(|event| event.blow == Blow::Broker(kind)), "seed {seed}: {kind:?}");
            }
        }
    }

    #[test]
    fn nothing_takes_effect_later_than_the_settle_window_allows() {
        for seed in 0..200 {
            let schedule = Schedule::draw(seed, 5 * MINUTE);
            let longest = |track: usize, counts: fn(&Blow) -> bool| {
                let events = schedule.tracks.get(track).into_iter().flatten();
                events.filter(|e| counts(&e.blow)).map(|e| e.lasts).max().unwrap_or_default()
            };
            let held = longest(2, |blow| matches!(blow, Blow::Way(_, trouble) if trouble.holds_back()));
            let frozen = longest(3, |blow| matches!(blow, Blow::Erp(ErpBlow::Freeze, _)));
            let late = schedule.tracks[3].iter().map(|event| event.blow.takes_effect_late()).max();
            let all = held + frozen + late.unwrap_or_default();
            assert!(all + Duration::from_millis(1_500) <= super::super::SETTLE, "seed {seed}: {all:?}");
        }
    }

    #[test]
    fn a_schedule_is_printed_in_the_order_of_time() {
        let text = Schedule::draw(1, MINUTE).to_string();
        let times: Vec<f64> =
            text.lines().skip(1).filter_map(|line| line.split_once(" s ")?.0.trim().parse().ok()).collect();
        assert!(times.len() > 20 && times.is_sorted(), "{text}");
    }
}
