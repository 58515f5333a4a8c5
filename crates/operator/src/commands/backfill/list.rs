use std::time::Duration;

use clap::Args;
use comfy_table::{Cell, CellAlignment};
use kingpost_broker::{Inspector, QueueDepth};
use kingpost_model::{Agenda, Period, PeriodKind, Route, StageName, windows};
use serde_json::json;

use crate::{
    clock,
    ending::{Report, Stop},
    schedule::{Cut, agenda, beijing, schemes},
    session::Session,
    terminal::{self, counted, plain},
    watch::{self, Glance},
};

const AFTER_HELP: &str = "\
A window that is cut waits in the queue extract.SCHEME until an extractor reads it; one that can't be read is tried again,
and in the end a dead letter that `kingpost dead list --stage extract` shows. `history` lies between the scheme's start and
its first run, `remedy` is a second look, `backfill` was asked for.";

/// Show what is read beside the live windows, how far it is, and what has been lately
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct List {
    /// Only this scheme
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Print one JSON object per period
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds, until nothing is left to be cut
    #[arg(long)]
    watch: bool,
}

/// A scheme and its periods.
struct Row {
    scheme: String,
    cut: Cut,
    agenda: Option<Agenda>,
    /// Its windows in the queue.
    extract: Option<QueueDepth>,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let schemes: Vec<(String, Cut)> = schemes(session, self.scheme.as_deref())?
            .into_iter()
            .map(|scheme| (scheme.name, Cut::of(&scheme.source.window)))
            .collect();
        let inspector = session.inspector(session.settings()?).await?;
        let look = async || -> Result<Glance, Stop> {
            let rows = read(&inspector, &schemes).await?;
            let over = !rows.iter().any(|row| row.periods().any(|period| !period.is_over()));
            let out = if self.json { lines(&rows) } else { table(&rows, session.width) };
            Ok(Glance { out, over })
        };
        let every = self.watch.then_some(Duration::from_secs(2));
        let report = watch::run(every, look).await;
        inspector.close().await;
        report
    }
}

async fn read(inspector: &Inspector, schemes: &[(String, Cut)]) -> Result<Vec<Row>, Stop> {
    let mut rows = Vec::new();
    for (scheme, cut) in schemes {
        let extract = inspector.depth(&Route::new(StageName::Extract, scheme.as_str()).queue()).await?;
        let agenda = agenda(inspector, scheme).await?;
        rows.push(Row { scheme: scheme.clone(), cut: *cut, agenda, extract });
    }
    Ok(rows)
}

impl Row {
    fn periods(&self) -> impl Iterator<Item = &Period> {
        self.agenda.iter().flat_map(|agenda| &agenda.periods)
    }
}

fn state(period: &Period) -> &'static str {
    match period {
        Period { cancelled: true, .. } => "cancelled",
        period if period.is_over() => "cut",
        Period { paused: true, .. } => "paused",
        _ => "running",
    }
}

/// Windows that are cut, and all of them.
fn progress(period: &Period, width_s: i64) -> (u64, u64) {
    let all = windows(period.from_s, period.to_s, width_s);
    let left = windows(period.next_s, period.to_s, width_s);
    (all.saturating_sub(left), all)
}

fn lines(rows: &[Row]) -> String {
    let time = |second: i64| clock::rfc3339(second.saturating_mul(1_000));
    let mut out = String::new();
    for row in rows {
        for period in row.periods() {
            let (cut, all) = progress(period, row.cut.width_s);
            let object = json!({
                "scheme": row.scheme,
                "period": period.id,
                "kind": period.kind.as_str(),
                "state": state(period),
                "from": time(period.from_s),
                "to": time(period.to_s),
                "next": time(period.next_s),
                "windows": all,
                "windows_cut": cut,
                "per_minute": period.per_minute,
                "by": period.by,
                "reason": period.reason,
            });
            out.push_str(&format!("{object}\n"));
        }
    }
    out
}

fn table(rows: &[Row], width: u16) -> String {
    let mut table = terminal::table(width, true);
    table.set_header(["period", "from, to", "windows cut", "state", "who, why"]);
    let mut waiting = String::new();
    let mut count = 0;
    for row in rows {
        for period in row.periods() {
            count += 1;
            let (cut, all) = progress(period, row.cut.width_s);
            let percent = (cut * 100).checked_div(all).unwrap_or(100);
            let rate = period.per_minute.map_or_else(String::new, |rate| format!("\n{rate} a minute"));
            let why = match period.kind {
                PeriodKind::Remedy => "second look".to_owned(),
                PeriodKind::History => "from the scheme's start".to_owned(),
                PeriodKind::Backfill => format!("{}\n{}", period.by, period.reason).trim_end().to_owned(),
            };
            table.add_row([
                Cell::new(format!("{}\n{}", period.id, row.scheme)),
                Cell::new(format!("{}\n{}", beijing(period.from_s), beijing(period.to_s))),
                Cell::new(format!("{cut} of {all}\n{percent} %")).set_alignment(CellAlignment::Right),
                Cell::new(format!("{}{rate}", state(period))),
                Cell::new(why),
            ]);
        }
        let ready = row.extract.map_or(0, |depth| depth.ready as usize);
        waiting.push_str(&format!("{}: {} waiting to be read\n", row.scheme, counted(ready, "window")));
    }
    if count == 0 {
        return format!("nothing is read beside the live windows\n{waiting}");
    }
    format!("{}\n{waiting}", plain(&terminal::lines(&table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let start_s = 1_767_196_800;
        let mut agenda = Agenda::new("s", start_s + 864_000);
        let period = |id: &str, kind, hours: i64| Period {
            id: id.to_owned(),
            kind,
            from_s: start_s,
            to_s: start_s + 4 * 3_600,
            next_s: start_s + hours * 3_600,
            per_minute: Some(6),
            paused: hours == 1,
            cancelled: false,
            by: "ops@demo-host".to_owned(),
            reason: "books\u{1b}[2J of January".to_owned(),
            others: std::collections::BTreeMap::new(),
        };
        agenda.periods = vec![
            period("20260105-093000-3f9a1c", PeriodKind::Backfill, 1),
            period("remedy-20260104", PeriodKind::Remedy, 4),
        ];
        let cut = Cut { start_s, width_s: 3_600, lag_s: 300 };
        vec![Row { scheme: "s".to_owned(), cut, agenda: Some(agenda), extract: None }]
    }

    #[test]
    fn progress_pause_and_reason_are_seen_at_a_glance() {
        let text = table(&rows(), 100);
        for part in
            ["1 of 4", "25 %", "paused", "6 a minute", "4 of 4", "cut", "second look", "0 windows waiting"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_line_of_json_is_one_period() {
        let text = lines(&rows());
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["windows_cut"], &first["windows"], &first["state"]),
            (&1.into(), &4.into(), &"paused".into())
        );
        assert_eq!(text.lines().count(), 2);
    }
}
