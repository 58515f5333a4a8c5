//! What is seen, for people and for scripts.

use comfy_table::{Cell, CellAlignment};
use kingpost_model::{Period, Reconciled, StageName};
use serde_json::json;

use super::read::{OfScheme, OfStage, Seen};
use crate::{
    clock,
    reconcile::Finding,
    schedule::{beijing, length},
    terminal::{self, counted, plain},
};

/// Causes that are shown of a scheme.
const CAUSES: usize = 5;
/// Comparisons with differences that are shown of a scheme, the newest ones.
const BOOKS: usize = 5;

fn left(scheme: &OfScheme) -> u64 {
    let periods = scheme.looked.agenda().into_iter().flat_map(|agenda| &agenda.periods);
    periods.map(|period| period.windows_left(scheme.cut.width_s)).sum()
}

pub(super) fn lines(seen: &Seen) -> String {
    let now_s = seen.at_ms.div_euclid(1_000);
    let mut out = String::new();
    for scheme in &seen.schemes {
        let agenda = scheme.looked.agenda();
        let stage = |stage: &OfStage| {
            json!({
                "stage": stage.stage.as_str(),
                "waiting": stage.work.map(|depth| depth.ready),
                "in_flight": stage.in_flight,
                "workers": stage.work.map(|depth| depth.consumers),
                "dead": stage.dead,
                "per_minute": stage.per_minute(),
                "minutes_to_drain": stage.minutes_to_drain(),
            })
        };
        let object = json!({
            "scheme": scheme.name,
            "at": clock::rfc3339(seen.at_ms),
            "cursor": agenda.and_then(|agenda| clock::rfc3339(agenda.cursor_s.saturating_mul(1_000))),
            "lag_seconds": agenda.map(|agenda| now_s - agenda.cursor_s),
            "backlog_windows": left(scheme),
            "unreadable": scheme.looked.why(),
            "differing": agenda.map(|agenda| &agenda.reconciled.open),
            "stages": scheme.stages.iter().map(stage).collect::<Vec<_>>(),
            "causes": scheme.causes,
        });
        out.push_str(&format!("{object}\n"));
    }
    let tiers: serde_json::Map<String, serde_json::Value> =
        seen.tiers.iter().map(|(tier, ready)| ((*tier).to_owned(), json!(ready))).collect();
    out.push_str(&format!("{}\n", json!({"tiers": tiers, "unroutable": seen.unroutable})));
    out
}

pub(super) fn tables(seen: &Seen, width: u16) -> String {
    let mut out = format!("{} (Beijing)\n", clock::beijing(seen.at_ms));
    for scheme in &seen.schemes {
        out.push('\n');
        out.push_str(&head(scheme, seen.at_ms.div_euclid(1_000)));
        out.push_str(&stages(scheme, width));
        out.push_str(&causes(scheme, width));
    }
    let waiting: Vec<String> = seen
        .tiers
        .iter()
        .filter(|(_, ready)| *ready > 0)
        .map(|(tier, ready)| format!("{ready} for {tier}"))
        .collect();
    let waiting = if waiting.is_empty() { "nothing".to_owned() } else { waiting.join(", ") };
    out.push_str(&format!("\nto be tried again, all schemes: {waiting}\n"));
    if seen.unroutable > 0 {
        let messages = counted(seen.unroutable as usize, "message");
        out.push_str(&format!("{messages} came back to a queue that is gone: see kingpost.unroutable\n"));
    }
    if let Some(why) = &seen.unseen {
        out.push_str(&format!("? in flight is not known: {}\n", plain(why)));
    }
    out
}

/// The cursor, and what is cut beside it.
fn head(scheme: &OfScheme, now_s: i64) -> String {
    if let Some(why) = scheme.looked.why() {
        return format!("{}: no windows are cut: {}\n", scheme.name, plain(why));
    }
    let Some(agenda) = scheme.looked.agenda() else {
        return format!("{}: no window cut yet; it begins at {}\n", scheme.name, beijing(scheme.cut.start_s));
    };
    let mut out = format!(
        "{}: cursor {}, {} behind now\n",
        scheme.name,
        beijing(agenda.cursor_s),
        length(now_s - agenda.cursor_s)
    );
    let windows = left(scheme);
    if windows > 0 {
        let open: Vec<&Period> = agenda.periods.iter().filter(|period| !period.is_over()).collect();
        let paused = open.iter().filter(|period| period.paused).count();
        let paused = if paused == 0 { String::new() } else { format!(", {paused} paused") };
        out.push_str(&format!(
            "{} of {}{paused} still to be cut: kingpost backfill list\n",
            counted(usize::try_from(windows).unwrap_or(usize::MAX), "window"),
            counted(open.len(), "period")
        ));
    }
    out.push_str(&books(&agenda.reconciled.open));
    out
}

/// The comparisons of both books that nothing has ended, and what does.
fn books(open: &[Reconciled]) -> String {
    let of = |open: &Reconciled| {
        let differs =
            open.documents.iter().filter(|(word, _)| Finding::of(word).is_none_or(Finding::differs));
        let found: Vec<String> = differs.map(|(word, count)| format!("{count} {word}")).collect();
        let [from, to] = [open.from_s, open.to_s].map(day);
        format!(
            "the books differed at {}: {}; mend it, then compare again:\n  kingpost reconcile --scheme {} --from {from} --to \
             {to}\n",
            beijing(open.finished_s),
            plain(&found.join(", ")),
            plain(&open.scheme)
        )
    };
    let left = open.len().saturating_sub(BOOKS);
    let mut out: String = open.iter().skip(left).map(of).collect();
    if left > 0 {
        out.push_str(&format!("and {} before these: --json shows all\n", counted(left, "comparison")));
    }
    out
}

fn day(second: i64) -> String {
    beijing(second).chars().take(10).collect()
}

fn stages(scheme: &OfScheme, width: u16) -> String {
    let mut table = terminal::table(width, false);
    table.set_header([
        "stage",
        "waiting",
        "in flight",
        "workers",
        "a minute",
        "drained in",
        "dead",
        "remark",
    ]);
    let number = |count: Option<u32>| {
        let text = count.map_or("-".to_owned(), |count| count.to_string());
        Cell::new(text).set_alignment(CellAlignment::Right)
    };
    for stage in &scheme.stages {
        table.add_row([
            Cell::new(stage.stage),
            number(stage.work.map(|depth| depth.ready)),
            Cell::new(stage.in_flight.map_or("?".to_owned(), |held| held.to_string()))
                .set_alignment(CellAlignment::Right),
            number(stage.work.map(|depth| depth.consumers)),
            number(stage.per_minute().map(|rate| u32::try_from(rate).unwrap_or(u32::MAX))),
            Cell::new(drained(stage)).set_alignment(CellAlignment::Right),
            number(stage.dead),
            Cell::new(remark(stage)),
        ]);
    }
    terminal::lines(&table)
}

/// How long until what waits is done at the present rate.
fn drained(stage: &OfStage) -> String {
    let minutes = stage.minutes_to_drain().and_then(|minutes| i64::try_from(minutes).ok());
    minutes.map_or("-".to_owned(), |minutes| length(minutes.saturating_mul(60)))
}

fn remark(stage: &OfStage) -> &'static str {
    match (stage.work, stage.stage) {
        (None, _) => "the queue is not there",
        (Some(depth), _) if depth.consumers > 0 => "",
        (Some(_), StageName::Extract) => "no extractor runs",
        (Some(_), StageName::Transform) => "no transformer runs",
        (Some(_), StageName::Load) => "no loader runs",
    }
}

fn causes(scheme: &OfScheme, width: u16) -> String {
    let dead: u32 = scheme.stages.iter().filter_map(|stage| stage.dead).sum();
    if dead == 0 {
        return String::new();
    }
    let mut out = String::new();
    for group in scheme.causes.iter().take(CAUSES) {
        let line =
            format!("{:>6} dead at {} ({}): {}", group.count, group.stage, group.kind, plain(&group.cause));
        out.push_str(&terminal::cut(&line.replace('\n', " "), width));
        out.push('\n');
    }
    let shown: usize = scheme.causes.iter().take(CAUSES).map(|group| group.count).sum();
    let rest = (dead as usize).saturating_sub(shown);
    if rest > 0 {
        out.push_str(&format!(
            "{rest:>6} dead of other causes: kingpost dead list --scheme {}\n",
            scheme.name
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use kingpost_broker::QueueDepth;
    use kingpost_model::{Agenda, PeriodKind};

    use super::*;
    use crate::schedule::{Cut, Looked};

    fn seen() -> Seen {
        let start_s = 1_767_196_800;
        let mut agenda = Agenda::new("s", start_s + 86_400);
        agenda.periods.push(Period {
            id: "history-20260102".to_owned(),
            kind: PeriodKind::History,
            from_s: start_s,
            to_s: start_s + 7_200,
            next_s: start_s,
            per_minute: None,
            paused: true,
            cancelled: false,
            by: String::new(),
            reason: String::new(),
            others: std::collections::BTreeMap::new(),
        });
        for n in 0..6 {
            let documents = [("matched", 40), ("missing", n), ("moon", 1)];
            agenda.reconciled.add(Reconciled {
                scheme: "s".to_owned(),
                from_s: start_s + n * 86_400,
                to_s: start_s + (n + 1) * 86_400,
                finished_s: start_s + 10 * 86_400,
                agrees: false,
                documents: documents.map(|(word, count)| (word.to_owned(), count.unsigned_abs())).into(),
            });
        }
        let stage = |stage, ready, consumers, dead| OfStage {
            stage,
            work: Some(QueueDepth { ready, consumers }),
            dead: Some(dead),
            in_flight: Some(20),
            ended: Some(100),
        };
        let stages = vec![
            stage(StageName::Extract, 2, 3, 0),
            stage(StageName::Transform, 40, 0, 0),
            OfStage { stage: StageName::Load, work: None, dead: Some(7), in_flight: None, ended: None },
        ];
        let cut = Cut { start_s, width_s: 3_600, lag_s: 300 };
        let scheme = OfScheme {
            name: "s".to_owned(),
            cut,
            looked: Looked::Agenda(Box::new(agenda)),
            stages,
            causes: Vec::new(),
        };
        let young = OfScheme { name: "t".to_owned(), looked: Looked::Nothing, ..scheme.clone() };
        let at_ms = (start_s + 86_400 + 365) * 1_000;
        Seen {
            at_ms,
            schemes: vec![scheme, young],
            tiers: vec![("5s", 0), ("2h", 3)],
            unroutable: 1,
            unseen: Some("set MANAGEMENT_URL".to_owned()),
        }
    }

    #[test]
    fn a_glance_tells_where_everything_is_and_what_is_wrong() {
        let text = tables(&seen(), 100);
        for part in [
            "s: cursor 2026-01-02 00:00:00, 6 min behind now",
            "2 windows of 1 period, 1 paused",
            "the books differed at 2026-01-11 00:00:00: 5 missing, 1 moon; mend it, then compare again:",
            "  kingpost reconcile --scheme s --from 2026-01-06 --to 2026-01-07",
            "and 1 comparison before these",
            "no transformer runs",
            "2 min",
            "the queue is not there",
            "     7 dead of other causes",
            "t: no window cut yet; it begins at 2026-01-01",
            "to be tried again, all schemes: 3 for 2h",
            "1 message came back to a queue that is gone",
            "? in flight is not known: set MANAGEMENT_URL",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_line_of_json_is_one_scheme_and_the_last_one_the_tiers() {
        let text = lines(&seen());
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&objects[0]["lag_seconds"], &objects[0]["backlog_windows"]), (&365.into(), &2.into()));
        assert_eq!(objects[0]["differing"][5]["from"], "2026-01-06T00:00:00+08:00");
        assert_eq!(objects[0]["differing"][5]["documents"]["missing"], 5);
        assert_eq!(objects[0]["stages"][2]["dead"], 7);
        assert_eq!(objects[0]["stages"][1]["minutes_to_drain"], 2);
        assert_eq!(objects[0]["stages"][0]["in_flight"], 20);
        assert!(objects[0]["stages"][2]["in_flight"].is_null());
        assert!(objects[1]["cursor"].is_null());
        assert_eq!(objects[2]["tiers"]["2h"], 3);
    }
}
