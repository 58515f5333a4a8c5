use clap::Args;
use comfy_table::{Cell, CellAlignment, Table};
use kingpost_broker::{AuditEvent, AuditPhase};

use crate::{
    clock,
    ending::{Report, Stop},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost audit list --since 7d
  kingpost audit list --json | jq -r 'select(.phase == \"ended\") | [.actor, .command, .reason] | @tsv'

One row is one action. Reading takes nothing out of the trail; `kingpost audit export` writes it whole, with the letters
that each action named.";

/// List what was done to messages: when, who, what, why, how many, and how it ended
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct List {
    /// Only from then on: a time such as 2026-11-23T08:00:00+08:00 or 2026-11-23, or an age such as 90m, 12h or 7d
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Print one JSON object per event
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let mut actions: Vec<Action> = Vec::new();
        let mut lines = String::new();
        super::read(session, self.since.as_deref(), |event| {
            if !self.json {
                add(&mut actions, event);
            } else if let Ok(line) = serde_json::to_string(&event) {
                lines.push_str(&line);
                lines.push('\n');
            }
        })
        .await?;
        if self.json {
            return Ok(Report::done(lines));
        }
        if actions.is_empty() {
            return Ok(Report::done("nothing in the audit trail\n"));
        }
        let table = plain(&terminal::lines(&table(&actions, session.width)));
        Ok(Report::done(format!("{table}\n{}\n", counted(actions.len(), "action"))))
    }
}

/// What the events of one action tell together.
struct Action {
    first: AuditEvent,
    ended: Option<AuditEvent>,
}

fn add(actions: &mut Vec<Action>, event: AuditEvent) {
    // The events of an action lie close together, its latest actions at the end.
    let known =
        actions.iter_mut().rev().find(|known| !event.action.is_empty() && known.first.action == event.action);
    match known {
        Some(known) if event.phase == AuditPhase::Ended => known.ended = Some(event),
        Some(_) => {}
        None => actions.push(Action { first: event, ended: None }),
    }
}

fn table(actions: &[Action], width: u16) -> Table {
    let mut table = terminal::table(width, true);
    table.set_header(["when, who", "command", "letters", "why, and how it ended"]);
    for action in actions {
        let first = &action.first;
        let when =
            if first.at_ms == i64::MAX { "time unknown".to_owned() } else { clock::beijing(first.at_ms) };
        let mut what = first.command.clone();
        for queue in &first.queues {
            what.push_str(&format!("\n{queue}"));
        }
        let ended = match &action.ended {
            Some(event) if event.outcomes.is_empty() => "done".to_owned(),
            Some(event) => {
                let outcomes = event.outcomes.iter().map(|(name, count)| format!("{name} {count}"));
                outcomes.collect::<Vec<_>>().join(", ")
            }
            None if first.phase == AuditPhase::Begun => "no end is recorded".to_owned(),
            None => String::new(),
        };
        let lines = [
            first.reason.clone(),
            first.plan.as_ref().map_or_else(String::new, |plan| format!("plan {plan}")),
            ended,
        ];
        let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        table.add_row([
            Cell::new(format!("{when}\n{}", first.actor)),
            Cell::new(what),
            Cell::new(first.count).set_alignment(CellAlignment::Right),
            Cell::new(lines.join("\n")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, phase: AuditPhase) -> AuditEvent {
        let mut event = AuditEvent::new(action, 1_767_200_400_000, "ops@demo-host", "dead replay", phase);
        event.reason = "materials created".into();
        event.queues = vec!["load.s.dead".into()];
        event.count = 4;
        event
    }

    #[test]
    fn an_action_is_one_row_with_its_end() {
        let mut actions = Vec::new();
        let mut ended = event("a", AuditPhase::Ended);
        ended.outcomes = [("posted".to_owned(), 3), ("failed again".to_owned(), 1)].into();
        for event in [
            event("a", AuditPhase::Begun),
            event("b", AuditPhase::Begun),
            event("a", AuditPhase::Begun),
            ended,
        ] {
            add(&mut actions, event);
        }
        let text = terminal::lines(&table(&actions, 100));
        assert_eq!(actions.len(), 2, "{text}");
        for part in [
            "ops@demo-host",
            "load.s.dead",
            "materials created",
            "failed again 1, posted 3",
            "no end is recorded",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
