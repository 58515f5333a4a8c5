//! What became of the letters of a plan.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use comfy_table::{Cell, CellAlignment, Table};
use kingpost_broker::{BrokerConfig, Inspector};
use kingpost_model::{LoadedHow, RETRY_TIERS};
use kingpost_settings::Exit;
use serde_json::{Value, json};

use crate::{
    clock,
    ending::Stop,
    replay::{Ended, Fate, LaneEnd},
    terminal::{self, counted},
};

/// Reasons of renewed failures that are shown per cause.
const REASONS: usize = 3;

/// The counts of one cause, in the order of the columns.
#[derive(Clone, Debug, Default)]
struct Tally {
    sent: usize,
    posted: usize,
    already_there: usize,
    /// Filtered, cancelled in the source, or windows that were read.
    passed: usize,
    failed: usize,
    waiting: usize,
    gone: usize,
    left: usize,
    /// Why letters failed again, or stayed, each with its count.
    reasons: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, fate: &Fate) {
        self.sent += usize::from(!matches!(fate, Fate::Pending | Fate::Gone | Fate::Unmade { .. }));
        match fate {
            Fate::Pending => self.left += 1,
            Fate::Unmade { text, .. } => {
                self.left += 1;
                *self.reasons.entry(text.clone()).or_default() += 1;
            }
            Fate::Sent | Fate::Waiting { .. } => self.waiting += 1,
            Fate::Loaded { how: LoadedHow::AlreadyThere | LoadedHow::Ignored, .. } => self.already_there += 1,
            Fate::Loaded { how: LoadedHow::Posted | LoadedHow::Resumed | LoadedHow::Updated, .. } => {
                self.posted += 1;
            }
            Fate::Loaded { how: LoadedHow::Withdrawn, .. } | Fate::Filtered | Fate::Read { .. } => {
                self.passed += 1;
            }
            Fate::Failed { kind, cause, stage, .. } => {
                self.failed += 1;
                *self.reasons.entry(format!("{stage}, {kind}: {cause}")).or_default() += 1;
            }
            Fate::Gone => self.gone += 1,
        }
    }
}

fn tallies(ended: &Ended) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); ended.plan.causes.len()];
    for (entry, fate) in ended.plan.letters.iter().zip(&ended.fates) {
        if let Some(tally) = tallies.get_mut(entry.cause) {
            tally.add(fate);
        }
    }
    tallies
}

/// 0 when every letter ended well or was taken care of by somebody else.
pub(super) fn exit(ended: &Ended) -> Exit {
    let finished = ended.lanes.iter().all(|(_, end)| *end == LaneEnd::Finished);
    if finished && ended.is_well() { Exit::Done } else { Exit::Failed }
}

/// A table by cause; with `verbose` every letter as well.
pub(super) fn page(ended: &Ended, verbose: bool, width: u16) -> String {
    let plan = &ended.plan;
    let mut out = format!("plan {}: {}\n\n", plan.plan, counted(plan.letters.len(), "letter"));
    if verbose {
        for (entry, fate) in plan.letters.iter().zip(&ended.fates) {
            let _ = writeln!(out, "{}: {}", entry.number, told(fate));
        }
        out.push('\n');
    }
    out.push_str(&terminal::lines(&table(ended, width)));
    let outcomes = ended.outcomes();
    let outcomes: Vec<String> = outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let _ = writeln!(out, "\n{}", outcomes.join(", "));
    out
}

fn table(ended: &Ended, width: u16) -> Table {
    let mut table = terminal::table(width, true);
    table.set_header(["sent", "posted", "there", "failed", "waiting", "gone", "left", "cause"]);
    for (index, tally) in tallies(ended).iter().enumerate() {
        let cause = &ended.plan.causes[index];
        let mut text = format!("{}, {}: {}", cause.stage, cause.kind, cause.cause);
        if tally.passed > 0 {
            let _ = write!(text, "\n{} filtered, withdrawn or read", tally.passed);
        }
        if let Some(why) = ended.stopped.get(&index) {
            let _ = write!(text, "\nstopped: {}", why.text());
        }
        for (reason, count) in tally.reasons.iter().take(REASONS) {
            let _ = write!(text, "\n{count} × {reason}");
        }
        if tally.reasons.len() > REASONS {
            let _ = write!(text, "\nand {} more reasons", tally.reasons.len() - REASONS);
        }
        let counts = [
            tally.sent,
            tally.posted,
            tally.already_there,
            tally.failed,
            tally.waiting,
            tally.gone,
            tally.left,
        ];
        let counts = counts.map(|count| Cell::new(count).set_alignment(CellAlignment::Right));
        table.add_row(counts.into_iter().chain([Cell::new(crate::terminal::plain(&text))]));
    }
    table
}

/// What became of one letter, in words.
fn told(fate: &Fate) -> String {
    match fate {
        Fate::Pending => "not sent; it stays a dead letter".to_owned(),
        Fate::Unmade { text, .. } => format!("not sent; it stays a dead letter: {text}"),
        Fate::Sent => "sent, nothing heard yet".to_owned(),
        Fate::Waiting { after_ms, kind, text } => {
            let after = clock::age(i64::try_from(*after_ms).unwrap_or(i64::MAX));
            format!("tried again after {after}: {kind}: {text}")
        }
        Fate::Loaded { number, id, how } => {
            let how = match how {
                LoadedHow::Posted => "posted",
                LoadedHow::Resumed => "found half way and finished",
                LoadedHow::AlreadyThere => "already there",
                LoadedHow::Updated => "overwrote the draft that was there",
                LoadedHow::Ignored => "there with another content and left as it is",
                LoadedHow::Withdrawn => {
                    return format!("{number} is cancelled in the source and not in the target");
                }
            };
            format!("{how} as {number} (id {id})")
        }
        Fate::Filtered => "left out by the scheme's filter".to_owned(),
        Fate::Read { handed_on } => format!("read, {} handed on", counted(*handed_on as usize, "document")),
        Fate::Failed { stage, kind, text, .. } => format!("failed again at {stage}: {kind}: {text}"),
        Fate::Gone => "no longer there when its turn came; somebody else sent or discarded it".to_owned(),
    }
}

/// One JSON object per letter, then one per cause.
pub(super) fn lines(ended: &Ended) -> Result<String, Stop> {
    let bug = |error: serde_json::Error| Stop::bug(error.to_string());
    let plan = &ended.plan;
    let mut out = String::new();
    for (entry, fate) in plan.letters.iter().zip(&ended.fates) {
        let mut line = json!({
            "plan": plan.plan,
            "number": entry.number,
            "source_number": entry.source_number,
            "message_id": entry.id,
            "told": told(fate),
        });
        if let (Some(line), Value::Object(fate)) =
            (line.as_object_mut(), serde_json::to_value(fate).map_err(bug)?)
        {
            // The number in the target has a name of its own beside that of the letter.
            let named = fate.into_iter().map(|(name, value)| match name.as_str() {
                "number" => ("loaded_number".to_owned(), value),
                "id" => ("loaded_id".to_owned(), value),
                _ => (name, value),
            });
            line.extend(named);
        }
        let _ = writeln!(out, "{line}");
    }
    for (index, tally) in tallies(ended).iter().enumerate() {
        let cause = &plan.causes[index];
        let line = json!({
            "plan": plan.plan,
            "cause": cause.cause,
            "kind": cause.kind,
            "queue": cause.queue,
            "count": cause.count,
            "sent": tally.sent,
            "posted": tally.posted,
            "already_there": tally.already_there,
            "filtered_or_read": tally.passed,
            "failed_again": tally.failed,
            "waiting": tally.waiting,
            "gone": tally.gone,
            "left": tally.left,
            "stopped": ended.stopped.get(&index).map(|why| why.text()),
            "reasons": tally.reasons,
        });
        let _ = writeln!(out, "{line}");
    }
    Ok(out)
}

/// What should be known besides: why it didn't end, what the queues hold, how to go on.
pub(super) async fn notes(ended: &Ended, path: &Path, broker: &BrokerConfig, wait: Duration) -> String {
    let mut notes = String::new();
    for (queue, end) in &ended.lanes {
        // Writing to a String can't fail.
        let _ = match end {
            LaneEnd::Finished => Ok(()),
            LaneEnd::Unheard => writeln!(notes, "note: {}", unheard(ended, queue, broker, wait).await),
            LaneEnd::Hidden(count) => writeln!(
                notes,
                "note: {queue}: somebody else is reading it; {} not found, which may be out of sight in their hands",
                match *count {
                    1 => "1 letter was".to_owned(),
                    n => format!("{n} letters were"),
                }
            ),
            LaneEnd::Interrupted => writeln!(notes, "note: {queue}: ended by Ctrl-C"),
            LaneEnd::Refused(why) => writeln!(
                notes,
                "note: {queue}: {why}; the letters stay. Start the workers of the scheme, which declare its queues"
            ),
            LaneEnd::Lost(why) => writeln!(notes, "note: {why}"),
        };
    }
    let failed = ended.fates.iter().filter(|fate| matches!(fate, Fate::Failed { .. })).count();
    if failed > 0 {
        let failed = counted(failed, "letter");
        let _ = writeln!(
            notes,
            "note: {failed} of the plan are dead letters again, with their new failure; once that is mended, another \
             replay takes them up"
        );
    }
    if !ended.fates.is_empty() && ended.fates.iter().all(|fate| *fate == Fate::Gone) {
        notes.push_str(
            "note: not one letter of the plan is in its queue; `kingpost audit list` tells who took them\n",
        );
    }
    let open = ended.fates.iter().any(|fate| !fate.is_final());
    if open || ended.lanes.iter().any(|(_, end)| *end != LaneEnd::Finished) {
        let _ = writeln!(notes, "note: to go on: kingpost dead replay --plan {} --yes", path.display());
    }
    notes
}

/// Why nothing may have been heard: what waits, and whether anybody reads it.
async fn unheard(ended: &Ended, queue: &str, broker: &BrokerConfig, wait: Duration) -> String {
    let wait = clock::age(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let mut text = format!("{queue}: nothing was heard for {wait} of what is out");
    let Ok(inspector) = Inspector::open(broker).await else { return text };
    let causes = ended.plan.causes.iter().filter(|cause| cause.queue == queue);
    let mut queues: Vec<&str> = causes.flat_map(|cause| cause.goes_to.iter().map(String::as_str)).collect();
    queues.sort_unstable();
    queues.dedup();
    for name in queues {
        if let Ok(Some(depth)) = inspector.depth(name).await {
            let who = if depth.consumers == 0 { "and no worker reads it" } else { "which workers read" };
            let _ = write!(text, "; {name} holds {} ready, {who}", depth.ready);
        }
    }
    for tier in RETRY_TIERS {
        if let Ok(Some(depth)) = inspector.depth(tier.queue).await
            && depth.ready > 0
        {
            let _ = write!(text, "; {} holds {}", tier.queue, depth.ready);
        }
    }
    inspector.close().await;
    text
}
