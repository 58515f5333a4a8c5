//! What is cut beside the live windows: history, second looks, and what people ask for.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use kingpost_model::{Act, Agenda, Answer, Instruction, Period, PeriodKind, Stretch, Window};

use crate::cursor::{ASTRAY_S, Cursor, Cutting, beijing};

/// What a first start leaves to the live windows; the rest waits its turn behind them.
const RECENT_S: i64 = 86_400;
/// Second looks that may be open at once; the next one waits, and reaches back as far as it has to.
const LOOKS_MAX: usize = 8;
/// Periods that may be open at once.
const OPEN_MAX: usize = 100;
/// Characters that are kept of a name or a reason.
const WORDS_MAX: usize = 500;
/// An instruction to move the cursor that has waited for longer is not meant any more.
const STALE_S: i64 = 3_600;
/// How far the clock of whoever asks may be ahead of ours.
const SKEW_S: i64 = 60;

/// A second look at what was read: every so often, at what lies between two ages; in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// How often.
    pub(crate) every_s: i64,
    /// The greater age.
    pub(crate) from_s: i64,
    /// The lesser age.
    pub(crate) to_s: i64,
}

/// The agenda of a scheme that was never run: the last day is live, everything before it is history.
pub(crate) fn first(scheme: &str, now_s: i64, cutting: Cutting) -> Agenda {
    let end_s = now_s.saturating_sub(cutting.lag_s.max(0));
    let live_s = end_s.saturating_sub(RECENT_S.max(cutting.width_s)).max(cutting.start_s);
    let mut agenda = Agenda::new(scheme, live_s);
    agenda.start_s = Some(cutting.start_s);
    history(&mut agenda, cutting.start_s, live_s);
    agenda
}

/// Sees whether the scheme starts earlier than when it was last run, which leaves a period that nobody has read, or later,
/// before which nothing more is read.
pub(crate) fn begin(agenda: &mut Agenda, cutting: Cutting) {
    for period in &mut agenda.periods {
        period.next_s = period.next_s.max(cutting.start_s);
    }
    let known = agenda.start_s.replace(cutting.start_s);
    if let Some(known) = known.filter(|known| cutting.start_s < *known) {
        history(agenda, cutting.start_s, known.min(agenda.cursor_s));
    }
}

fn history(agenda: &mut Agenda, from_s: i64, to_s: i64) {
    if from_s < to_s {
        let id = named(agenda, "history", to_s);
        agenda.periods.push(period(id, PeriodKind::History, (from_s, to_s)));
    }
}

fn period(id: String, kind: PeriodKind, (from_s, to_s): (i64, i64)) -> Period {
    Period {
        id,
        kind,
        from_s,
        to_s,
        next_s: from_s,
        per_minute: None,
        paused: false,
        cancelled: false,
        by: String::new(),
        reason: String::new(),
        others: BTreeMap::new(),
    }
}

/// A name for a period of the schedule itself: what it is and the day on which it ends.
fn named(agenda: &Agenda, what: &str, to_s: i64) -> String {
    let day: String = beijing(to_s).chars().take(10).filter(char::is_ascii_digit).collect();
    let taken = |name: &str| agenda.periods.iter().any(|period| period.id == name);
    let plain = format!("{what}-{day}");
    let more = (2..).map(|n| format!("{plain}-{n}"));
    std::iter::once(plain.clone()).chain(more).find(|name| !taken(name)).unwrap_or(plain)
}

/// The live cursor of an agenda.
pub(crate) fn cursor(agenda: &Agenda) -> Cursor {
    Cursor { at_s: agenda.cursor_s, reached_s: agenda.reached_s() }
}

/// The agenda behind a new live cursor.
pub(crate) fn moved(mut agenda: Agenda, cursor: Cursor) -> Agenda {
    agenda.cursor_s = cursor.at_s;
    agenda.reached_s = Some(cursor.reached_s).filter(|reached_s| *reached_s > cursor.at_s);
    agenda
}

/// A clock that went back may have been wrong for as long as it is believed: what was read meanwhile was read too early.
pub(crate) fn distrust(agenda: &mut Agenda, now_s: i64, cutting: Cutting) {
    let from_s = now_s.saturating_sub(ASTRAY_S).max(cutting.start_s);
    look_again(agenda, "clock", from_s, agenda.cursor_s);
}

/// Open second looks.
fn looks(agenda: &Agenda) -> usize {
    agenda.periods.iter().filter(|p| p.kind == PeriodKind::Remedy && !p.is_over()).count()
}

/// Has a stretch read a second time, but for what a person has left out. One that goes on from an open look is added to it.
fn look_again(agenda: &mut Agenda, what: &str, from_s: i64, to_s: i64) {
    for Stretch { from_s, to_s } in agenda.without_skipped(from_s, to_s) {
        // What is cut of it already would not be read again, and a paused one holds nothing else back.
        let grows = |p: &&mut Period| {
            p.kind == PeriodKind::Remedy
                && !p.is_over()
                && !p.paused
                && p.next_s <= from_s
                && from_s <= p.to_s
        };
        match agenda.periods.iter_mut().rev().find(grows) {
            Some(open) => open.to_s = open.to_s.max(to_s),
            None => {
                let id = named(agenda, what, to_s);
                agenda.periods.push(period(id, PeriodKind::Remedy, (from_s, to_s)));
            }
        }
    }
    agenda.tidy();
}

/// Adds a second look when one is due; false when none is.
pub(crate) fn remedy(agenda: &mut Agenda, now_s: i64, cutting: Cutting, remedy: Remedy) -> bool {
    // Not beyond what has had its first look.
    let to_s = now_s.saturating_sub(remedy.to_s).min(agenda.cursor_s);
    let oldest_s = now_s.saturating_sub(remedy.from_s);
    // A mark in the future was made by a clock that was wrong.
    let last_s = agenda.remedied_s.filter(|last_s| *last_s <= now_s);
    if last_s.is_some_and(|last_s| to_s.saturating_sub(last_s) < remedy.every_s) {
        return false;
    }
    // After a standstill it reaches back to where the last one ended.
    let from_s = last_s.map_or(oldest_s, |last_s| last_s.min(oldest_s)).max(cutting.start_s);
    if from_s >= to_s || looks(agenda) >= LOOKS_MAX {
        return false;
    }
    agenda.remedied_s = Some(to_s);
    look_again(agenda, "remedy", from_s, to_s);
    true
}

/// Carries an instruction out, once, and remembers the answer. False when it had been carried out before.
pub(crate) fn carry_out(
    agenda: &mut Agenda,
    instruction: &Instruction,
    now_s: i64,
    cutting: Cutting,
) -> bool {
    if agenda.answer(&instruction.id).is_some() {
        return false;
    }
    let refused = match instruction.act {
        Act::Move { .. } => {
            timely(instruction, now_s).and_then(|()| act(agenda, instruction, now_s, cutting))
        }
        _ => act(agenda, instruction, now_s, cutting),
    };
    let refused = refused.err();
    agenda.tidy();
    agenda.answered(Answer { id: instruction.id.clone(), refused });
    true
}

/// The agenda that a person sets in the place of one that can't be read. Nothing of that one is known any more: all that is
/// read from here on may have been read before.
pub(crate) fn anew(
    scheme: &str,
    instruction: &Instruction,
    now_s: i64,
    cutting: Cutting,
) -> Result<Agenda, String> {
    // Who was shown where the cursor stood knows nothing of what is lost now.
    let Act::Move { to_s, from_s: None, .. } = instruction.act else {
        return Err(
            "the cursor can't be read: set it anew with `kingpost cursor set`, then ask again".to_owned()
        );
    };
    timely(instruction, now_s)?;
    within(to_s, now_s, cutting)?;
    let mut agenda = Agenda::new(scheme, to_s);
    agenda.start_s = Some(cutting.start_s);
    agenda.reached_s = Some(now_s).filter(|reached_s| *reached_s > to_s);
    agenda.answered(Answer { id: instruction.id.clone(), refused: None });
    Ok(agenda)
}

/// To move a cursor is meant for now.
fn timely(instruction: &Instruction, now_s: i64) -> Result<(), String> {
    if instruction.at_s.is_some_and(|at_s| now_s.saturating_sub(at_s) > STALE_S) {
        return Err("it was asked for more than an hour ago, and nobody led meanwhile; ask again".to_owned());
    }
    Ok(())
}

/// Where a cursor can stand.
fn within(to_s: i64, now_s: i64, cutting: Cutting) -> Result<(), String> {
    let end_s = now_s.saturating_sub(cutting.lag_s.max(0));
    if to_s < cutting.start_s || to_s > end_s {
        return Err(format!(
            "the cursor can stand between the scheme's `start` ({}) and `lag` before now ({})",
            beijing(cutting.start_s),
            beijing(end_s)
        ));
    }
    Ok(())
}

fn act(agenda: &mut Agenda, instruction: &Instruction, now_s: i64, cutting: Cutting) -> Result<(), String> {
    match &instruction.act {
        Act::Backfill { from_s, to_s, per_minute } => {
            let range = readable((*from_s, *to_s), now_s, cutting)?;
            if agenda.periods.iter().filter(|period| !period.is_over()).count() >= OPEN_MAX {
                return Err(format!("{OPEN_MAX} periods are being read already; wait for some of them"));
            }
            let same =
                |p: &&Period| !p.is_over() && p.kind == PeriodKind::Backfill && (p.from_s, p.to_s) == range;
            if let Some(same) = agenda.periods.iter().find(same) {
                return Err(format!("the same period is being read already, as {}", same.id));
            }
            let mut added = period(instruction.id.clone(), PeriodKind::Backfill, range);
            added.per_minute = *per_minute;
            added.by = instruction.by.chars().take(WORDS_MAX).collect();
            added.reason = instruction.reason.chars().take(WORDS_MAX).collect();
            agenda.periods.push(added);
        }
        Act::Pause { period } => open(agenda, period)?.paused = true,
        Act::Resume { period } => open(agenda, period)?.paused = false,
        Act::Cancel { period, skip } => {
            let period = open(agenda, period)?;
            if period.kind == PeriodKind::History && !skip {
                return Err(format!(
                    "from {} to {} nothing was ever read; say that it is to be left out",
                    beijing(period.next_s),
                    beijing(period.to_s)
                ));
            }
            period.cancelled = true;
        }
        Act::Rate { period, per_minute } => open(agenda, period)?.per_minute = *per_minute,
        Act::Move { to_s, from_s, skip } => {
            // Somebody else has set it back since the plan was shown: more would be left out than the person knows.
            if *skip && from_s.is_some_and(|from_s| agenda.cursor_s < from_s) {
                return Err(format!("the cursor stands at {} by now; look again", beijing(agenda.cursor_s)));
            }
            move_cursor(agenda, *to_s, *skip, now_s, cutting)?;
        }
    }
    Ok(())
}

fn open<'a>(agenda: &'a mut Agenda, id: &str) -> Result<&'a mut Period, String> {
    let found = agenda.periods.iter_mut().find(|period| period.id == id);
    match found {
        Some(period) if period.is_over() => Err(format!("the period {id} is over")),
        Some(period) => Ok(period),
        None => Err(format!("there is no period {id}; `kingpost backfill list` shows them")),
    }
}

/// A range that windows may be cut of.
fn readable((from_s, to_s): (i64, i64), now_s: i64, cutting: Cutting) -> Result<(i64, i64), String> {
    let end_s = now_s.saturating_sub(cutting.lag_s.max(0));
    // Until now, by a clock that may be a little ahead of ours, is until windows end.
    let to_s = if to_s <= now_s.saturating_add(SKEW_S) { to_s.min(end_s) } else { to_s };
    if to_s <= from_s {
        return Err(format!("the period ends ({}) before it begins ({})", beijing(to_s), beijing(from_s)));
    }
    if from_s < cutting.start_s {
        return Err(format!(
            "nothing before the scheme's `start` ({}) is read; set an earlier `start` to have it read",
            beijing(cutting.start_s)
        ));
    }
    if to_s > end_s {
        return Err(format!("windows end `lag` in the past, at {} now; ask for no later", beijing(end_s)));
    }
    Ok((from_s, to_s))
}

fn move_cursor(
    agenda: &mut Agenda,
    to_s: i64,
    skip: bool,
    now_s: i64,
    cutting: Cutting,
) -> Result<(), String> {
    within(to_s, now_s, cutting)?;
    // A cursor ahead of the clock was made by a clock that was wrong: to go back to the present skips nothing.
    if to_s > agenda.cursor_s && !skip {
        return Err(format!(
            "between {} and {} nothing would be read; say that this is meant, or set an earlier time",
            beijing(agenda.cursor_s),
            beijing(to_s)
        ));
    }
    let reached_s = agenda.reached_s();
    if to_s > agenda.cursor_s {
        agenda.skipped.push(Stretch { from_s: agenda.cursor_s, to_s });
    }
    // What is read again after all is not left out any more.
    agenda.skipped.retain_mut(|gap| {
        gap.to_s = if to_s < agenda.cursor_s { gap.to_s.min(to_s) } else { gap.to_s };
        gap.from_s < gap.to_s
    });
    agenda.cursor_s = to_s;
    // What a wrong clock has reached is no mark of what was read.
    agenda.reached_s = Some(reached_s.min(now_s)).filter(|reached_s| *reached_s > to_s);
    Ok(())
}

/// When the periods with a limit may be cut again, and whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    due: HashMap<String, Instant>,
    /// How often windows of a kind were cut.
    turns: HashMap<PeriodKind, u64>,
}

impl Paces {
    fn turns(&self, kind: PeriodKind) -> u64 {
        self.turns.get(&kind).copied().unwrap_or(0)
    }

    /// How many windows of a period may be cut now.
    fn allowed(&self, period: &Period, most: usize, now: Instant) -> usize {
        match period.per_minute {
            None => most,
            Some(_) if self.due.get(&period.id).is_some_and(|due| *due > now) => 0,
            Some(per_minute) => most.min((per_minute as usize).div_ceil(60)),
        }
    }

    /// Some windows of a period were cut.
    pub(crate) fn cut(&mut self, period: &Period, windows: usize, now: Instant) {
        // A kind that had nothing to do for long is not made up for.
        let most = self.turns.values().copied().max().unwrap_or(0);
        let turns = self.turns.entry(period.kind).or_default();
        *turns = (*turns + 1).max(most);
        let Some(per_minute) = period.per_minute else { return };
        let pause = Duration::from_secs(60).saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
        self.due.insert(period.id.clone(), now + pause / per_minute.max(1));
    }
}

/// Windows of one period, and the agenda behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The period as it is behind them.
    pub(crate) period: Period,
    pub(crate) windows: Vec<Window>,
    pub(crate) agenda: Agenda,
}

/// The next windows beside the live ones, at most `most`. Second looks, what people asked for, and history take turns, so
/// that none of them keeps another from ever being read.
pub(crate) fn next(
    agenda: &Agenda,
    cutting: Cutting,
    most: usize,
    paces: &Paces,
    now: Instant,
) -> Option<Cut> {
    let mut agenda = agenda.clone();
    let open = agenda.periods.iter_mut().filter(|period| !period.is_over() && !period.paused);
    let allowed = |period: &&mut Period| paces.allowed(period, most, now) > 0;
    let period = open.filter(allowed).min_by_key(|period| (paces.turns(period.kind), period.kind))?;
    let most = paces.allowed(period, most, now);
    let mut windows = Vec::new();
    while windows.len() < most && period.next_s < period.to_s {
        let to_s = period.next_s.saturating_add(cutting.width_s.max(1)).min(period.to_s);
        windows.push(Window::new(period.next_s, to_s));
        period.next_s = to_s;
    }
    Some(Cut { period: period.clone(), windows, agenda })
}

/// Windows that are still to be cut of all periods.
pub(crate) fn windows_left(agenda: &Agenda, cutting: Cutting) -> u64 {
    agenda.periods.iter().map(|period| period.windows_left(cutting.width_s)).sum()
}

#[cfg(test)]
mod tests;
