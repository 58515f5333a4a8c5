//! `kingpost trace`: one document's whole way.

mod ask;
mod conclude;
mod gather;
mod render;
mod story;

use clap::Args;
use kingpost_settings::Exit;

use crate::{
    clock,
    ending::{Report, Stop, both},
    session::Session,
    terminal::plain,
};

use super::dead::some;

const AFTER_HELP: &str = "\
Examples:
  kingpost trace RK2026112300370
  kingpost trace CG2404210003 --since 7d --source

KEY is a number in the source or in the target, a purchase order number, or the id of a message. What is shown comes from
the journal, which the workers write; from the dead letters that lie in queues now; from the audit trail; from Kingdee,
where KINGDEE_* settings are given; and from the source with --source, where WDT_* settings are given. What could not be
asked is said. Nothing is taken out of a queue, and nothing is written.

The exit code is 0 when the document is in Kingdee as far as its scheme wants it, and 1 when it is dead, waits, was left
out, is only half way, or was found nowhere. With --json the events carry who wrote them, on which host.";

/// Show the whole way of a document: what happened to it, where it is now, what to do next
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Trace {
    /// The number in the source or in the target, a purchase order number, or a message id
    #[arg(value_name = "KEY", value_parser = some)]
    key: String,
    /// Only this scheme
    #[arg(long, value_name = "NAME", value_parser = some)]
    scheme: Option<String>,
    /// Only what happened from then on: a time such as 2026-11-23T08:00:00+08:00 or 2026-11-23, or an age such as 12h or 7d
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Ask the source too what it has under the number now
    #[arg(long)]
    source: bool,
    /// Print one JSON object per event, letter, action and finding
    #[arg(long)]
    json: bool,
}

impl Trace {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let since_ms = match &self.since {
            Some(text) => {
                clock::point(text, session.now_ms).map_err(|text| Stop::usage(format!("--since: {text}")))?
            }
            None => 0,
        };
        let (mut schemes, settings) = both(session.schemes(), session.settings())?;
        if let Some(name) = &self.scheme {
            schemes.retain(|scheme| scheme.name == *name);
            if schemes.is_empty() {
                return Err(Stop::failed(format!("there is no scheme `{name}` in SCHEMES_DIR")));
            }
        }
        let broker = session.broker(&settings);
        let mut findings = gather::gather(&broker, &schemes, &self.key, since_ms).await?;
        ask::target(session, &schemes, &mut findings).await;
        if self.source {
            ask::source(session, &schemes, &mut findings).await;
        } else {
            findings.unasked.push("the source: add --source".to_owned());
        }
        findings.forget_the_empty();
        let stories = findings.stories.iter();
        let exit = stories.fold(Exit::Done, |exit, story| {
            if conclude::of(story, session.now_ms).state.is_there() { exit } else { Exit::Failed }
        });
        let out = if self.json {
            render::lines(&findings, session.now_ms)
        } else {
            plain(&render::text(&findings, session.now_ms))
        };
        Ok(Report { exit, ..Report::done(out) })
    }
}
