use clap::Args;
use kingpost_model::Act as Told;

use crate::{
    act::Actor,
    ending::{Report, Stop},
    schedule::{self, NOBODY, Telling, scheme, tell},
    session::Session,
};

/// What every instruction about a period needs.
#[derive(Debug, Args)]
pub(super) struct Act {
    /// The period's name, as `kingpost backfill list` shows it
    #[arg(value_name = "PERIOD")]
    period: String,
    /// The scheme [default: the only one there is]
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    actor: Actor,
}

impl Act {
    pub(super) async fn run(
        self,
        session: &Session,
        command: &str,
        act: impl FnOnce(String) -> Told,
    ) -> Result<Report, Stop> {
        let scheme = scheme(session, self.scheme.as_deref())?;
        let act = act(self.period.clone());
        let telling = Telling { command, actor: &self.actor, reason: &self.reason, act };
        let (_, told, notes) = tell(session, &scheme.name, telling).await?;
        let done = match told {
            schedule::Told::Done => format!("{}: {command} is carried out\n", self.period),
            schedule::Told::Waiting => format!("{}: {NOBODY}", self.period),
        };
        Ok(Report::done(done).with_notes(notes))
    }
}

/// Give a period up; what is cut of it is still read
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Also history that was never read: what is left of it never arrives, unless a backfill reads it
    #[arg(long)]
    skip: bool,
    #[command(flatten)]
    act: Act,
}

impl Cancel {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let skip = self.skip;
        self.act.run(session, "backfill cancel", |period| Told::Cancel { period, skip }).await
    }
}

/// Change how fast a period is cut
#[derive(Debug, Args)]
pub(super) struct Rate {
    /// Windows per minute at most; 0 is as fast as the pipeline takes them
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=6_000))]
    per_minute: u32,
    #[command(flatten)]
    act: Act,
}

impl Rate {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let per_minute = Some(self.per_minute).filter(|rate| *rate > 0);
        self.act.run(session, "backfill rate", |period| Told::Rate { period, per_minute }).await
    }
}
