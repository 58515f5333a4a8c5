mod read;
mod render;

use std::time::Duration;

use clap::Args;

use crate::{
    ending::{Report, Stop},
    schedule::schemes,
    session::Session,
    watch::{self, Glance},
};

const AFTER_HELP: &str = "\
`waiting` counts messages that no worker has in hand, `in flight` those that one has, as RabbitMQ's management API saw them up to
five seconds ago; without MANAGEMENT_URL it isn't known. `workers` are the consumers of a stage's queues; `a minute` is what a
stage has done in the last five minutes, by the journal, and `drained in` how long what waits takes at that rate. Retry tiers are
shared by all schemes. Dead letters are grouped by cause up to 2,000 of a queue; `kingpost dead list` groups them all.
Where `kingpost reconcile` found the books to differ, that is told until its whole period is compared again.
--json prints one object per scheme, and one for the tiers.";

/// Show at a glance where everything is: the cursor, what waits at each stage, what is tried again, what is dead and why
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Status {
    /// Only this scheme
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Print one JSON object per scheme
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds, until stopped
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let schemes = schemes(session, self.scheme.as_deref())?;
        let settings = session.settings()?;
        let broker = session.broker(&settings);
        let vhost = settings.amqp_url.vhost().map_err(|problem| Stop::settings(&problem))?;
        let management = session.management()?.map(|management| (management, vhost));
        let inspector = session.inspector(settings).await?;
        let mut reader = read::Reader::new(&inspector, broker, management, &schemes);
        let look = async || -> Result<Glance, Stop> {
            let seen = reader.look().await?;
            let out = if self.json { render::lines(&seen) } else { render::tables(&seen, session.width) };
            Ok(Glance { out, over: false })
        };
        let every = self.watch.then_some(Duration::from_secs(2));
        let report = watch::run(every, look).await;
        inspector.close().await;
        report
    }
}
