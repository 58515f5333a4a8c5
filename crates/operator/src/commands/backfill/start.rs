use clap::Args;
use kingpost_model::{Act, windows};
use serde_json::json;

use crate::{
    act::Actor,
    clock,
    ending::{Report, Stop},
    schedule::{Cut, NOBODY, Telling, Told, beijing, length, point_s, scheme, tell},
    session::Session,
    terminal::counted,
};

#[derive(Debug, Args)]
pub(super) struct Start {
    /// The scheme [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// From when on: a time such as 2026-11-23T08:00:00+08:00 or 2026-11-23, or an age such as 90m, 12h or 7d
    #[arg(long, value_name = "WHEN", required = true)]
    from: Option<String>,
    /// Until when, itself not included
    #[arg(long, value_name = "WHEN", required = true)]
    to: Option<String>,
    /// Windows per minute at most [default: as fast as the pipeline takes them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=6_000))]
    rate: Option<u32>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Print one JSON object of what was asked for
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
}

/// A period that can be read, and how long it is.
fn period(cut: Cut, from_s: i64, to_s: i64, now_s: i64) -> Result<(i64, i64), Stop> {
    let end_s = now_s - cut.lag_s;
    if from_s < cut.start_s {
        return Err(Stop::usage(format!(
            "--from: nothing before the scheme's `start` ({}) is read; set an earlier `start` in the scheme to have it read",
            beijing(cut.start_s)
        )));
    }
    // The present moves on while this is typed.
    let to_s = if to_s > end_s && to_s <= now_s { end_s } else { to_s };
    if to_s > end_s {
        return Err(Stop::usage(format!("--to: windows end `lag` in the past, at {} now", beijing(end_s))));
    }
    if from_s >= to_s {
        let text = format!("the period ends ({}) before it begins ({})", beijing(to_s), beijing(from_s));
        return Err(Stop::usage(format!("--to: {text}")));
    }
    Ok((from_s, to_s))
}

impl Start {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let scheme = scheme(session, self.scheme.as_deref())?;
        let cut = Cut::of(&scheme.source.window);
        let from_s = point_s("--from", self.from.as_deref().unwrap_or_default(), session.now_ms)?;
        let to_s = point_s("--to", self.to.as_deref().unwrap_or_default(), session.now_ms)?;
        let (from_s, to_s) = period(cut, from_s, to_s, session.now_ms.div_euclid(1_000))?;
        let act = Act::Backfill { from_s, to_s, per_minute: self.rate };
        let telling = Telling { command: "backfill", actor: &self.actor, reason: &self.reason, act };
        let (id, told, notes) = tell(session, &scheme.name, telling).await?;
        let count = windows(from_s, to_s, cut.width_s);
        if self.json {
            let time = |second: i64| clock::rfc3339(second.saturating_mul(1_000));
            let object = json!({
                "scheme": scheme.name,
                "period": id,
                "from": time(from_s),
                "to": time(to_s),
                "windows": count,
                "per_minute": self.rate,
                "outcome": match told { Told::Done => "begun", Told::Waiting => "waiting" },
            });
            return Ok(Report::done(format!("{object}\n")).with_notes(notes));
        }
        let windows = counted(usize::try_from(count).unwrap_or(usize::MAX), "window");
        let mut out = format!(
            "{}: {} from {} to {}, {windows}, are read again as {id}\n",
            scheme.name,
            length(to_s - from_s),
            beijing(from_s),
            beijing(to_s)
        );
        match told {
            Told::Waiting => out.push_str(NOBODY),
            Told::Done => {
                out.push_str("progress: kingpost backfill list --watch\n");
                out.push_str(&format!("to hold it:  kingpost backfill pause {id}\n"));
            }
        }
        Ok(Report::done(out).with_notes(notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_lies_between_the_start_and_the_present() {
        let start_s = 1_767_196_800;
        let now_s = start_s + 86_400;
        let cut = Cut { start_s, width_s: 3_600, lag_s: 300 };
        let read = |from_s, to_s| period(cut, from_s, to_s, now_s).map_err(|stop| stop.text);
        assert_eq!(read(start_s, start_s + 60), Ok((start_s, start_s + 60)));
        assert_eq!(read(start_s, now_s), Ok((start_s, now_s - 300)), "until now is until windows end");
        assert!(read(start_s - 1, now_s).is_err_and(|text| text.contains("`start`")));
        assert!(read(start_s, now_s + 1).is_err_and(|text| text.contains("`lag`")));
        assert!(read(start_s + 60, start_s + 60).is_err_and(|text| text.contains("before it begins")));
    }
}
