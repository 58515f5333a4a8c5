use clap::Args;
use comfy_table::{Cell, CellAlignment};
use kingpost_model::Agenda;
use kingpost_settings::Exit;
use serde_json::json;

use crate::{
    clock,
    ending::{Report, Stop},
    schedule::{Cut, Looked, beijing, length, look, schemes},
    session::Session,
    terminal::{self, plain},
};

const AFTER_HELP: &str = "\
Everything that was changed in the source before the cursor has been cut into windows, or belongs to a period that
`kingpost backfill list` shows. Whether the windows have been read, the queues tell: `kingpost status`.";

/// Show how far the windows of each scheme have been cut
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Show {
    /// Only this scheme
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Print one JSON object per scheme
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let schemes = schemes(session, self.scheme.as_deref())?;
        let inspector = session.inspector(session.settings()?).await?;
        let mut rows = Vec::new();
        for scheme in schemes {
            let looked = look(&inspector, &scheme.name).await?;
            rows.push((scheme.name, Cut::of(&scheme.source.window), looked));
        }
        inspector.close().await;
        let now_s = session.now_ms.div_euclid(1_000);
        let out = if self.json { lines(&rows, now_s) } else { table(&rows, now_s, session.width) };
        let why = |(scheme, _, looked): &Row| Some(plain(&format!("{scheme}: {}\n", looked.why()?)));
        let notes: String = rows.iter().filter_map(why).collect();
        let exit = if notes.is_empty() { Exit::Done } else { Exit::Failed };
        Ok(Report { out, notes, exit })
    }
}

type Row = (String, Cut, Looked);

fn left(cut: Cut, agenda: &Agenda) -> u64 {
    agenda.periods.iter().map(|period| period.windows_left(cut.width_s)).sum()
}

fn lines(rows: &[Row], now_s: i64) -> String {
    let time = |second: i64| clock::rfc3339(second.saturating_mul(1_000));
    let object = |(scheme, cut, looked): &Row| {
        let agenda = looked.agenda();
        json!({
            "scheme": scheme,
            "start": time(cut.start_s),
            "cursor": agenda.and_then(|agenda| time(agenda.cursor_s)),
            "lag_seconds": agenda.map(|agenda| now_s - agenda.cursor_s),
            "reached": agenda.and_then(|agenda| time(agenda.reached_s())),
            "remedied": agenda.and_then(|agenda| agenda.remedied_s).and_then(time),
            "backlog_windows": agenda.map(|agenda| left(*cut, agenda)),
            "unreadable": looked.why(),
        })
    };
    rows.iter().map(|row| format!("{}\n", object(row))).collect()
}

fn table(rows: &[Row], now_s: i64, width: u16) -> String {
    let mut table = terminal::table(width, false);
    table.set_header(["scheme", "cursor", "behind now", "second look to", "beside it"]);
    for (scheme, cut, looked) in rows {
        if looked.why().is_some() {
            table.add_row([scheme.as_str(), "can't be read", "-", "-", "-"]);
            continue;
        }
        let Some(agenda) = looked.agenda() else {
            let starts = format!("begins at {}", beijing(cut.start_s));
            table.add_row([scheme.as_str(), "none yet", "-", "-", &starts]);
            continue;
        };
        let beside = match left(*cut, agenda) {
            0 => "-".to_owned(),
            1 => "1 window".to_owned(),
            n => format!("{n} windows"),
        };
        table.add_row([
            Cell::new(scheme),
            Cell::new(beijing(agenda.cursor_s)),
            Cell::new(length(now_s - agenda.cursor_s)).set_alignment(CellAlignment::Right),
            Cell::new(agenda.remedied_s.map_or_else(|| "-".to_owned(), beijing)),
            Cell::new(beside),
        ]);
    }
    terminal::lines(&table)
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Period, PeriodKind};

    use super::*;
    use crate::schedule::Unreadable;

    fn rows() -> Vec<Row> {
        let start_s = 1_767_196_800;
        let cut = Cut { start_s, width_s: 3_600, lag_s: 300 };
        let mut agenda = Agenda::new("a", start_s + 86_400);
        agenda.remedied_s = Some(start_s + 3_600);
        agenda.periods.push(Period {
            id: "history-20260102".to_owned(),
            kind: PeriodKind::History,
            from_s: start_s,
            to_s: start_s + 7_200,
            next_s: start_s + 3_600,
            per_minute: None,
            paused: false,
            cancelled: false,
            by: String::new(),
            reason: String::new(),
            others: std::collections::BTreeMap::new(),
        });
        let unreadable = Unreadable { why: "it is newer".to_owned(), cursor_s: None };
        vec![
            ("a".to_owned(), cut, Looked::Agenda(Box::new(agenda))),
            ("b".to_owned(), cut, Looked::Nothing),
            ("c".to_owned(), cut, Looked::Unreadable(unreadable)),
        ]
    }

    #[test]
    fn a_scheme_is_a_row_also_before_its_first_window() {
        let text = table(&rows(), 1_767_196_800 + 86_400 + 365, 100);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2].split('|').map(str::trim).collect::<Vec<_>>(),
            ["a", "2026-01-02 00:00:00", "6 min", "2026-01-01 01:00:00", "1 window"]
        );
        assert!(lines[3].contains('b') && lines[3].contains("begins at 2026-01-01"), "{text}");
        assert!(lines[4].contains('c') && lines[4].contains("can't be read"), "{text}");
    }

    #[test]
    fn a_line_of_json_is_one_scheme() {
        let text = lines(&rows(), 1_767_196_800 + 86_400 + 365);
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (objects[0]["lag_seconds"].as_i64(), objects[0]["backlog_windows"].as_u64()),
            (Some(365), Some(1))
        );
        assert_eq!(objects[0]["cursor"], "2026-01-02T00:00:00+08:00");
        assert!(objects[1]["cursor"].is_null() && objects[1]["unreadable"].is_null());
        assert_eq!(objects[2]["unreadable"], "it is newer");
    }
}
