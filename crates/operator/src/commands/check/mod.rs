mod case;
mod configured;

use std::path::PathBuf;

use clap::Args;
use kingpost_model::{Route, StageName};
use kingpost_scheme::{Finish, Scheme, SourceSystem, TargetSystem, load_dir};
use kingpost_settings::Program;

use crate::{
    ending::{Report, Stop},
    session::Session,
    terminal::counted,
};

const AFTER_HELP: &str = "\
Examples:
  kingpost check
  kingpost check --schemes schemes --settings extractor --settings loader
  kingpost check --case order.json --scheme purchase-stockin

Nothing is connected to and nothing is changed. Exit code 64 says that a scheme or a setting is wrong,
1 that the order of --case can't be mapped.";

const LONG_ABOUT: &str = "\
Check schemes and settings as the workers would, or map one order.

Loads every scheme and lists every problem, or what each scheme moves and what should be known of it.
With --case, maps one order document and prints the model that would be posted, or every field that has
no value.";

/// Check schemes and settings as the workers would, or map one order
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Check {
    /// Folder of the scheme files [default: that of SCHEMES_DIR]
    #[arg(long, value_name = "DIR")]
    schemes: Option<PathBuf>,
    /// Also read the settings of a program, with those of the accounts that the schemes name; may be repeated
    #[arg(long, value_name = "PROGRAM", value_parser = super::program())]
    settings: Vec<Program>,
    /// Map this order, one JSON document as the source sends it; - reads standard input
    #[arg(long, value_name = "ORDER.json", conflicts_with = "settings")]
    case: Option<PathBuf>,
    /// The scheme that --case is mapped by, where there are several
    #[arg(long, value_name = "NAME", requires = "case")]
    scheme: Option<String>,
}

impl Check {
    pub(crate) fn run(self, session: &Session) -> Result<Report, Stop> {
        let folder = session.schemes_dir(self.schemes.as_deref())?;
        if let Some(order) = &self.case {
            return case::run(&folder, self.scheme.as_deref(), order);
        }
        match load_dir(&folder) {
            Ok(schemes) => {
                let (notes, settings) = configured::read(&self.settings, &session.environment, &schemes);
                match settings {
                    Ok(()) => Ok(Report::done(listing(&schemes, &self.settings)).with_notes(notes)),
                    Err(problems) => Err(Stop::settings(&problems).hint(&notes)),
                }
            }
            Err(problems) => {
                let stop = Stop::settings(&problems);
                if self.settings.is_empty() {
                    return Err(stop);
                }
                let partly =
                    "the settings of accounts are read once every scheme is right, as the schemes name them";
                Err(match configured::read(&self.settings, &session.environment, &[]).1 {
                    Ok(()) => stop.hint(&format!("\n{partly}")),
                    Err(wrong) => stop.and(Stop::settings(&wrong)).hint(partly),
                })
            }
        }
    }
}

fn listing(schemes: &[Scheme], programs: &[Program]) -> String {
    let mut out: String = schemes.iter().map(entry).collect();
    out.push_str(&format!("{} right\n", plural_is(schemes.len(), "scheme")));
    let words: Vec<&str> = programs.iter().map(|program| program.as_str()).collect();
    if !words.is_empty() {
        out.push_str(&format!("the settings of {} are right\n", words.join(", ")));
    }
    out
}

fn plural_is(count: usize, noun: &str) -> String {
    format!("{} {}", counted(count, noun), if count == 1 { "is" } else { "are" })
}

/// Name and title, from where to where, the queues, and what should be known.
fn entry(scheme: &Scheme) -> String {
    let Scheme { name, title, source, target, .. } = scheme;
    let from = match source.system {
        SourceSystem::Wdt => "wdt",
    };
    let to = match target.system {
        TargetSystem::Kingdee => "kingdee",
    };
    let finish = match target.finish {
        Finish::Save => "saved",
        Finish::Submit => "saved and submitted",
        Finish::Audit => "saved, submitted and audited",
    };
    let account = scheme.account.as_deref().map_or(String::new(), |account| format!(", account {account}"));
    let routes = StageName::ALL.into_iter().flat_map(|stage| Route::all(stage, name, target.shards));
    let queues: Vec<String> = routes.map(|route| route.queue()).collect();
    let mut text = format!(
        "{name}  {title}\n  {from} {} → {to} {} ({finish}){account}\n  queues: {}\n",
        source.method,
        target.form,
        queues.join(", ")
    );
    for note in &scheme.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text.push('\n');
    text
}
