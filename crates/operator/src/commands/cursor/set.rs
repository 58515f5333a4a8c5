use clap::Args;
use kingpost_model::{Act, windows};
use serde_json::json;

use crate::{
    act::Actor,
    clock,
    ending::{Report, Stop},
    schedule::{Cut, Looked, NOBODY, Telling, Told, beijing, length, look, point_s, scheme, tell},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost cursor set --scheme purchase-stockin --to 6h
  kingpost cursor set --scheme purchase-stockin --to 2026-11-01 --reason 'clock was wrong, KD-1042' --yes

Without --yes and without a terminal only the plan is printed. What is read again is looked up in the target before
anything is posted. To read a longer period again, `kingpost backfill` is kinder: it waits its turn behind live documents.
A cursor that can't be read is set anew; the plan says what is lost with it.";

/// Live documents wait while windows of so many seconds are read again in their order.
const LONG_S: i64 = 86_400;

/// Move the cursor, after showing what would be read again, or not at all
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Set {
    /// The scheme [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Where to: a time such as 2026-11-23T08:00:00+08:00 or 2026-11-23, or an age such as 90m, 12h or 7d
    #[arg(long, value_name = "WHEN")]
    to: String,
    /// What lies between the cursor and a later time is not to be read
    #[arg(long)]
    skip: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object of the plan, and of what was done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
}

/// What moving a cursor would do.
struct Plan {
    scheme: String,
    now_s: i64,
    cut: Cut,
    /// Where it stands; nothing where that can't be told.
    from_s: Option<i64>,
    to_s: i64,
    /// Why the cursor can't be read, where it can't.
    unreadable: Option<String>,
}

impl Plan {
    fn of(scheme: &str, cut: Cut, looked: &Looked, to_s: i64, now_s: i64) -> Result<Self, Stop> {
        let end_s = now_s - cut.lag_s;
        if to_s < cut.start_s || to_s > end_s {
            return Err(Stop::usage(format!(
                "--to: the cursor can stand between the scheme's `start` ({}) and `lag` before now ({})",
                beijing(cut.start_s),
                beijing(end_s)
            )));
        }
        let (from_s, unreadable) = match looked {
            Looked::Nothing => {
                return Err(Stop::failed(
                    "no extractor has cut a window of this scheme yet: set its `start`, and start an extractor",
                ));
            }
            Looked::Agenda(agenda) => (Some(agenda.cursor_s), None),
            Looked::Unreadable(unreadable) => (unreadable.cursor_s, Some(unreadable.why.clone())),
        };
        Ok(Plan { scheme: scheme.to_owned(), now_s, cut, from_s, to_s, unreadable })
    }

    /// Seconds that are read again; negative where they are left out. Where nobody knows, all up to now.
    fn back_s(&self) -> i64 {
        // A cursor ahead of the clock has read nothing of the future.
        self.from_s.map_or(self.now_s, |from_s| from_s.min(self.now_s)) - self.to_s
    }

    /// What is lost with a cursor that can't be read.
    fn lost(&self) -> String {
        let Some(why) = &self.unreadable else { return String::new() };
        let mut text = format!(
            "{why}\nit is replaced, and lost with it are: history and backfills that are not read to their end, what was \
             left out on purpose (second looks bring it back), how far second looks have come, and which comparisons of \
             both books differed (compare those periods again)\n"
        );
        if self.from_s.is_none() {
            text.push_str(
                "nobody can tell how far it was: what was changed before the new one and never read is left out; choose a time \
                 before the last document that arrived\n",
            );
        }
        text
    }

    fn text(&self) -> String {
        let from = self.from_s.map_or_else(|| "?".to_owned(), beijing);
        let mut text = format!("{}: cursor {from} -> {}\n{}", self.scheme, beijing(self.to_s), self.lost());
        if self.from_s.is_some_and(|from_s| from_s > self.now_s) {
            text.push_str(
                "it is ahead of the clock, so a clock was wrong: what was changed meanwhile was read too early; choose a time \
                 before that, or read it again with `kingpost backfill`\n",
            );
        }
        let windows = |from_s, to_s| {
            let count = usize::try_from(windows(from_s, to_s, self.cut.width_s)).unwrap_or(usize::MAX);
            counted(count, "window")
        };
        match self.back_s() {
            0 => text.push_str("nothing is read again, and nothing left out\n"),
            back if back > 0 => {
                text.push_str(&format!(
                    "{} are read again, in {}; every document is looked up before it is posted\n",
                    length(back),
                    windows(self.to_s, self.to_s + back)
                ));
                if back > LONG_S {
                    text.push_str("live documents wait until then; `kingpost backfill` reads a period behind them\n");
                }
            }
            ahead => text.push_str(&format!(
                "{} are left out: what was changed in the source from {} to {} and not again later never arrives, nor by a \
                 second look, unless a backfill reads it\n",
                length(-ahead),
                beijing(self.to_s + ahead),
                beijing(self.to_s)
            )),
        }
        text
    }

    fn object(&self, done: &str) -> String {
        let time = |second: i64| clock::rfc3339(second.saturating_mul(1_000));
        let object = json!({
            "scheme": self.scheme,
            "from": self.from_s.and_then(time),
            "unreadable": self.unreadable,
            "to": time(self.to_s),
            "read_again_seconds": self.back_s().max(0),
            "left_out_seconds": (-self.back_s()).max(0),
            "windows": windows(self.to_s, self.to_s + self.back_s().max(0), self.cut.width_s),
            "outcome": done,
        });
        format!("{object}\n")
    }
}

impl Set {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let scheme = scheme(session, self.scheme.as_deref())?;
        let to_s = point_s("--to", &self.to, session.now_ms)?;
        let inspector = session.inspector(session.settings()?).await?;
        let looked = look(&inspector, &scheme.name).await;
        inspector.close().await;
        let cut = Cut::of(&scheme.source.window);
        let now_s = session.now_ms.div_euclid(1_000);
        let plan = Plan::of(&scheme.name, cut, &looked?, to_s, now_s)?;
        if plan.back_s() < 0 && !self.skip {
            let text = "add --skip if that is meant; nothing was changed";
            return Err(Stop::usage(format!("{}{text}", plan.text())));
        }
        let said = if self.json { String::new() } else { plan.text() };
        if !self.yes {
            eprint!("{}", plain(&plan.text()));
            let answer = terminal::ask("type yes to move the cursor: ");
            match answer.as_deref() {
                Some("yes") => {}
                Some(_) => return Err(Stop::failed("nothing was changed")),
                None if self.json => return Ok(Report::done(plan.object("planned"))),
                None => {
                    let note =
                        "this was the plan; nothing was changed: nobody can be asked here, add --yes\n";
                    return Ok(Report::done(said).with_notes(note));
                }
            }
        }
        // Without a place to move from, whoever leads may replace what can't be read.
        let from_s = plan.from_s.filter(|_| plan.unreadable.is_none());
        let act = Act::Move { to_s, from_s, skip: plan.back_s() < 0 };
        let telling = Telling { command: "cursor set", actor: &self.actor, reason: &self.reason, act };
        let (_, told, notes) = tell(session, &scheme.name, telling).await?;
        let (word, done) = match told {
            Told::Done => ("moved", "the cursor is moved\n"),
            Told::Waiting => ("waiting", NOBODY),
        };
        if self.json {
            return Ok(Report::done(plan.object(word)).with_notes(notes));
        }
        if !self.yes {
            return Ok(Report::done(done).with_notes(notes));
        }
        Ok(Report::done(format!("{said}{done}")).with_notes(notes))
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::Agenda;

    use super::*;
    use crate::schedule::Unreadable;

    const START: i64 = 1_767_196_800;
    const NOW: i64 = START + 10 * 86_400;

    fn plan(from_s: Option<i64>, to_s: i64) -> Result<Plan, Stop> {
        let cut = Cut { start_s: START, width_s: 3_600, lag_s: 300 };
        let agenda = from_s.map(|from_s| Agenda::new("s", from_s));
        Plan::of(
            "s",
            cut,
            &agenda.map_or(Looked::Nothing, |agenda| Looked::Agenda(Box::new(agenda))),
            to_s,
            NOW,
        )
    }

    #[test]
    fn a_plan_for_a_cursor_that_can_not_be_read_says_what_is_lost() {
        let cut = Cut { start_s: START, width_s: 3_600, lag_s: 300 };
        let of = |cursor_s| {
            let looked = Looked::Unreadable(Unreadable { why: "it is newer".to_owned(), cursor_s });
            Plan::of("s", cut, &looked, NOW - 6 * 3_600, NOW).unwrap()
        };
        let blind = of(None);
        for part in [
            "cursor ? -> ",
            "it is newer",
            "comparisons of both books",
            "6 h are read again",
            "nobody can tell",
        ] {
            assert!(blind.text().contains(part), "{part}:\n{}", blind.text());
        }
        assert!(blind.object("planned").contains("\"from\":null"), "{}", blind.object("planned"));
        let seen = of(Some(NOW - 7_200));
        assert!(seen.text().contains("4 h are read again") && !seen.text().contains("nobody can tell"));
        assert!(of(Some(START)).back_s() < 0, "more is left out than a person knows without --skip");
    }

    fn text(from_s: i64, to_s: i64) -> String {
        plan(Some(from_s), to_s).map(|plan| plan.text()).unwrap_or_default()
    }

    #[test]
    fn a_plan_says_what_is_read_again_and_what_is_left_out() {
        let back = text(NOW - 300, NOW - 300 - 6 * 3_600);
        assert!(back.contains("6 h are read again, in 6 windows"), "{back}");
        assert!(!back.contains("live documents wait"), "{back}");
        assert!(text(NOW - 300, START).contains("live documents wait"));
        let ahead = text(START, START + 3_600);
        assert!(ahead.contains("1 h are left out") && ahead.contains("from 2026-01-01 00:00:00"), "{ahead}");
        assert!(text(NOW - 400, NOW - 400).contains("nothing is read again"));
        // A clock that was wrong had put it into the future: going back to the present leaves nothing out.
        let wrong = text(NOW + 30 * 86_400, NOW - 3_600);
        assert!(wrong.contains("1 h are read again") && wrong.contains("a clock was wrong"), "{wrong}");
    }

    #[test]
    fn a_cursor_stays_between_the_start_and_the_present() {
        for to_s in [START - 1, NOW] {
            let Err(stop) = plan(Some(NOW - 300), to_s) else { panic!("{to_s}") };
            assert!(stop.text.contains("between"), "{}", stop.text);
        }
        let Err(stop) = plan(None, START) else { panic!("there is no cursor to be moved") };
        assert!(stop.text.contains("no extractor has cut"), "{}", stop.text);
    }
}
