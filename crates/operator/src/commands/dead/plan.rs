use std::{
    fmt::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::Args;
use comfy_table::{Cell, CellAlignment, Table};

use super::{filter::Filter, read::Places};
use crate::{
    act::{self, Actor},
    ending::{Report, Stop},
    replay::{Cause, Plan, Planner, Shards},
    sealed::Sealed as _,
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead plan --kind base-data --out materials.json
  kingpost dead plan --cause 3f9a1c07 --reason 'materials created, ticket 4711' --out materials.json
  kingpost dead replay --plan materials.json

A plan freezes which letters are meant, by message id and body; what dies later isn't part of it. Nothing is moved:
letters are read and put back. The file has a line per letter and can be reviewed. A changed one is refused, which guards
against mistakes; the digest in the audit trail tells which plan was carried out.";

/// Freeze a selection of dead letters in a file: which, how many, and what would happen to them
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PlanLetters {
    #[command(flatten)]
    filter: Filter,
    /// Every dead letter, where no other condition is given
    #[arg(long)]
    all: bool,
    /// Write the plan to this file, which must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Why, kept in the plan
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Read the orders from their source again instead of sending the letters as they are
    #[arg(long)]
    from_source: bool,
    /// How many letters of each cause are sent at first, and then, as long as none fail again; the rest follows
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = step)]
    steps: Vec<usize>,
    #[command(flatten)]
    actor: Actor,
    /// Print the plan's causes as one JSON object each
    #[arg(long)]
    json: bool,
}

/// The size of a canary step.
pub(super) fn step(text: &str) -> Result<usize, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("`{text}` is no number of letters"))
}

impl PlanLetters {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let selection = Selection { filter: &self.filter, all: self.all, from_source: self.from_source };
        let (mut plan, notes) = selection.plan(session, &self.actor).await?;
        plan.reason = self.reason;
        if !self.steps.is_empty() {
            plan.steps = self.steps;
        }
        plan.write(&self.out)?;
        let out = if self.json { lines(&plan)? } else { page(&plan, &self.out, session.width) };
        Ok(Report::done(out).with_notes(notes))
    }
}

/// What to plan for.
pub(super) struct Selection<'a> {
    pub(super) filter: &'a Filter,
    pub(super) all: bool,
    pub(super) from_source: bool,
}

impl Selection<'_> {
    /// Reads the letters and makes the plan; what should be known besides comes with it.
    pub(super) async fn plan(&self, session: &Session, actor: &Actor) -> Result<(Plan, String), Stop> {
        if self.filter.is_wide() && !self.all {
            return Err(Stop::usage("say which letters: a number, a condition, or --all for every one"));
        }
        let places = Places::of(session, self.filter)?;
        let mut planner = Planner::new(shards(session)?, self.from_source);
        let reading = places
            .scan(self.filter, session.now_ms, usize::MAX, |letter| {
                planner.add(&letter);
                ControlFlow::Continue(())
            })
            .await?;
        let notes = reading.notes()?;
        if planner.count() == 0 {
            let looked = counted(reading.looked, "dead letter");
            let text =
                format!("none of {looked} is meant by {}; `kingpost dead list` lists them", self.words());
            return Err(Stop::failed(format!("{text}\n{notes}")));
        }
        let id = act::new_id(session.now_ms, &self.words());
        let mut plan = planner.finish(id, session.now_ms, actor.name(), self.words())?;
        plan.broker = places.broker.place()?;
        Ok((plan, notes))
    }

    fn words(&self) -> String {
        self.filter.describe()
    }
}

/// Over how many queues each scheme spreads its loading.
pub(super) fn shards(session: &Session) -> Result<Shards, Stop> {
    Ok(session.schemes()?.into_iter().map(|scheme| (scheme.name, scheme.target.shards)).collect())
}

fn lines(plan: &Plan) -> Result<String, Stop> {
    let mut out = String::new();
    for cause in &plan.causes {
        let mut line = serde_json::to_value(cause).map_err(|error| Stop::bug(error.to_string()))?;
        if let Some(members) = line.as_object_mut() {
            members.insert("plan".to_owned(), plan.plan.as_str().into());
        }
        let _ = writeln!(out, "{line}");
    }
    Ok(out)
}

/// The plan for a person, and what to type next.
fn page(plan: &Plan, path: &Path, width: u16) -> String {
    let mut out = summary(plan, width);
    let _ = writeln!(out, "Nothing was moved. To carry it out, once the causes are mended:");
    let reason = if plan.reason.is_some() { "" } else { " --reason '…'" };
    let _ = writeln!(out, "  kingpost dead replay --plan {}{reason}", path.display());
    plain(&out)
}

/// What a plan is about.
pub(super) fn summary(plan: &Plan, width: u16) -> String {
    let letters = counted(plan.letters.len(), "letter");
    let causes = counted(plan.causes.len(), "cause");
    let mut out = format!("plan {}: {letters}, {causes} ({})\n\n", plan.plan, plan.selected_by);
    out.push_str(&terminal::lines(&table(&plan.causes, width)));
    let steps: Vec<String> = plan.steps.iter().map(usize::to_string).collect();
    let how =
        if plan.from_source { "its order is read from the source again" } else { "it is sent as it is" };
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "\nOf each cause {}, then the rest would be sent: {how}. A cause that fails again is stopped.",
        steps.join(", then ")
    );
    out
}

fn table(causes: &[Cause], width: u16) -> Table {
    let mut table = terminal::table(width, true);
    table.set_header(["count", "from, to", "cause, and what has to be done first"]);
    for cause in causes {
        let way = format!("{}\n-> {}", cause.queue, cause.goes_to.join(", "));
        let more = if cause.count > cause.samples.len() { ", …" } else { "" };
        let text = format!(
            "{}: {}\n-> {}\n{}{more}",
            cause.kind,
            cause.cause,
            cause.first,
            cause.samples.join(", ")
        );
        table.add_row([
            Cell::new(cause.count).set_alignment(CellAlignment::Right),
            Cell::new(plain(&way)),
            Cell::new(plain(&text)),
        ]);
    }
    table
}
