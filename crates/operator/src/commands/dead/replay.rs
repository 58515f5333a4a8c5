use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use kingpost_broker::{BrokerConfig, Letter, Posting};
use kingpost_model::BoxFuture;

use super::{
    filter::{Filter, some},
    plan::{Selection, shards, step, summary},
    results,
    source::Sources,
};
use crate::{
    act::Actor,
    clock,
    ending::{Report, Stop, both},
    replay::{Order, Plan, Remake, Rules, Unmade, run},
    sealed::Sealed as _,
    session::Session,
    terminal::{counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead replay RK2407190003 --reason 'material created'
  kingpost dead replay --cause 3f9a1c07 --reason 'materials created, ticket 4711'
  kingpost dead replay --plan materials.json --reason 'reviewed by the warehouse' --yes

Of each cause one letter is sent, then ten, then a hundred, then the rest, each step once the one before has ended well; a
cause that fails again is stopped and its letters stay. A letter leaves its queue only after its copy is confirmed, and
each copy is looked up before it is posted, so that a run that was cut off, by whatever, is taken up again with --plan.
What becomes of each letter is remembered in the queue replay.<plan> for a week after it was last asked for.";

/// Send dead letters again, a few at first, and tell what became of each
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Replay {
    /// The document's number in the target or in the source, or the id of the message
    #[arg(value_name = "NUMBER", conflicts_with = "plan", value_parser = some)]
    number: Option<String>,
    /// Carry out this plan, or take it up where it was left
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "from_source", "out", "scheme", "stage", "kind", "cause", "keys",
        "text", "older_than", "newer_than"])]
    plan: Option<PathBuf>,
    /// Every dead letter, where no other condition is given
    #[arg(long)]
    all: bool,
    /// Why, for the audit trail; needed unless the plan says it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Read the orders from their source again instead of sending the letters as they are
    #[arg(long)]
    from_source: bool,
    /// Messages per second after the first steps, which go at 10 per second at most; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 50)]
    rate: u32,
    /// How many letters of each cause are sent at first, and then [default: 1,10,100, or what the plan says]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = step)]
    steps: Vec<usize>,
    /// How many per cent of a step may fail again without stopping its cause
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    tolerance: u8,
    /// How long to wait for a result when none comes; a letter in a retry tier comes back after up to two hours
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = clock::span)]
    wait: Duration,
    /// Keep the plan that is made in this file [default: replay-<plan>.json here]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Don't ask; needed where there is no terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    actor: Actor,
    /// Print what became of every letter, not only of every cause
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object per letter, and one per cause at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Replay {
    pub(super) async fn run(mut self, session: &Session) -> Result<Report, Stop> {
        if !self.yes && !std::io::stdin().is_terminal() {
            return Err(Stop::usage("there is no terminal to ask at; add --yes to send the letters unasked"));
        }
        let (plan, path, mut notes) = self.plan(session).await?;
        let (settings, shards) = both(session.settings(), shards(session))?;
        let reason = self.reason.clone().or_else(|| plan.reason.clone()).unwrap_or_default();
        if reason.trim().is_empty() {
            return Err(Stop::usage("say why with --reason; it is kept in the audit trail"));
        }
        let broker = session.broker(&settings);
        at_home(&plan, &broker)?;
        let source = self.source(session, &plan)?;
        if !self.yes {
            confirm(&plan, session.width)?;
        }
        let steps = if self.steps.is_empty() { plan.steps.clone() } else { self.steps.clone() };
        let rules = Rules { steps, tolerance: usize::from(self.tolerance), ..Rules::default() };
        let order = Order {
            plan,
            broker: broker.clone(),
            journal: Session::journal(&settings),
            shards,
            rules,
            rate: self.rate,
            wait: self.wait,
            source,
            actor: self.actor.clone(),
            reason,
        };
        let ended = run(order).await?;
        notes.push_str(&results::notes(&ended, &path, &broker, self.wait).await);
        notes.push_str(&ended.trail);
        let out = if self.json {
            results::lines(&ended)?
        } else {
            plain(&results::page(&ended, self.verbose, session.width))
        };
        Ok(Report { out, notes: plain(&notes), exit: results::exit(&ended) })
    }

    /// The plan that was given, or one that is made and kept, so that it can be taken up again.
    async fn plan(&mut self, session: &Session) -> Result<(Plan, PathBuf, String), Stop> {
        if let Some(path) = &self.plan {
            return Ok((Plan::read(path)?, path.clone(), String::new()));
        }
        if self.reason.is_none() {
            return Err(Stop::usage("say why with --reason; it is kept in the audit trail"));
        }
        self.filter.keys.extend(self.number.take());
        let selection = Selection { filter: &self.filter, all: self.all, from_source: self.from_source };
        let (mut plan, notes) = selection.plan(session, &self.actor).await?;
        plan.reason.clone_from(&self.reason);
        if !self.steps.is_empty() {
            plan.steps.clone_from(&self.steps);
        }
        let path = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("replay-{}.json", plan.plan)));
        plan.write(&path).map_err(|stop| stop.hint("--out FILE keeps it elsewhere"))?;
        // Said at once: whoever kills this needs to know where to go on.
        let said = writeln!(std::io::stderr(), "the plan is kept in {}", path.display());
        drop(said);
        Ok((plan, path, notes))
    }

    fn source(&self, session: &Session, plan: &Plan) -> Result<Option<Box<dyn Remake>>, Stop> {
        if !plan.from_source {
            return Ok(None);
        }
        let schemes = plan.causes.iter().map(|cause| cause.scheme.as_str());
        Ok(Some(Box::new(Sources::open(session, schemes)?)))
    }
}

impl Remake for Sources {
    fn remake<'a>(&'a self, letter: &'a Letter, reply_to: &'a str) -> BoxFuture<'a, Result<Posting, Unmade>> {
        Box::pin(self.posting(letter, Some(reply_to)))
    }
}

/// Refuses a plan that was made elsewhere: all its letters would be told as gone.
fn at_home(plan: &Plan, broker: &BrokerConfig) -> Result<(), Stop> {
    let here = broker.place()?;
    if plan.broker == here {
        return Ok(());
    }
    Err(Stop::failed(format!(
        "the plan is for the letters of {}, and AMQP_URL leads to {here}; nothing was sent. Correct AMQP_URL, or make a \
         new plan here",
        plan.broker
    )))
}

/// Shows what would happen and has the number of letters typed, so that nobody sends more than they mean.
fn confirm(plan: &Plan, width: u16) -> Result<(), Stop> {
    let failed = |error: std::io::Error| Stop::failed(format!("the terminal can't be asked: {error}"));
    let count = plan.letters.len();
    let mut terminal = std::io::stderr();
    let question = format!("type {count} to send {} again: ", counted(count, "letter"));
    write!(terminal, "{}\n{question}", plain(&summary(plan, width))).map_err(failed)?;
    terminal.flush().map_err(failed)?;
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed).map_err(failed)?;
    if typed.trim() == count.to_string() {
        return Ok(());
    }
    Err(Stop::failed("not confirmed; nothing was sent"))
}
