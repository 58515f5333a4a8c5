use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use kingpost_broker::{BrokerConfig, Topology, UserRights};
use kingpost_model::StageName;
use kingpost_scheme::Scheme;
use kingpost_settings::{
    CommonSettings, Environment, Exit, KingdeeSettings, Problems, SecretString, WdtSettings, extractor,
    loader, transformer,
};

use crate::{
    doctor::{BrokerPlan, Examined, Finding, Sheet, Systems, Verdict, lines, tables},
    ending::{Report, Stop},
    session::Session,
};

const LONG_ABOUT: &str = "\
Ask RabbitMQ, WDT and Kingdee whether the workers would work with these settings.

Each stage's settings are read as its worker reads them, and each system is asked as the worker asks it: whether it
is reached, lets the user in, has what the schemes need, and keeps the same time. Nothing is published, consumed or
posted; to try rights, queues of its own are declared that are gone with its connection.";

const AFTER_HELP: &str = "\
A check is ok, a warning, failed with what to do, or skipped with the reason; one that fails stops none but those that rest
on it. Every stage is examined whose settings are given; in a deployment with a user per stage, run it with each worker's
settings, or let --secrets-dir give the URLs. What AMQP doesn't tell is read from MANAGEMENT_URL.

  rabbitmq   reachable, permissions, tls, version, topology, arguments, journal, policies, limits, alarms, clock
  extractor  signature, clock
  loader     login, clock, form, metadata, base data, numbers

--json prints one object per check. The exit code is 0 when no check failed, 1 when one did, 64 when settings are wrong.

Examples:
  kingpost doctor
  kingpost doctor --stage loader --json
  kingpost doctor --secrets-dir secrets";

/// Ask RabbitMQ, WDT and Kingdee whether the workers would work with these settings
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Doctor {
    /// Only this stage; may be repeated [default: each whose settings are given]
    #[arg(long, value_name = "STAGE", value_enum)]
    stage: Vec<Stage>,
    /// Take each stage's AMQP URL from DIR/kingpost-STAGE.amqp-url, as `kingpost topology users` makes them
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// How long one check may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Print one JSON object per check
    #[arg(long)]
    json: bool,
}

/// A stage by its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    Extractor,
    Transformer,
    Loader,
}

impl Stage {
    const fn name(self) -> StageName {
        match self {
            Stage::Extractor => StageName::Extract,
            Stage::Transformer => StageName::Transform,
            Stage::Loader => StageName::Load,
        }
    }
}

impl Doctor {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let schemes = session.schemes()?;
        let (stages, notes) = self.stages(&session.environment);
        let settings = Settings::read(&session.environment, &schemes, &stages)
            .map_err(|problems| Stop::settings(&problems))?;
        let management = session.management()?;
        let topology =
            Topology::new(schemes.iter().map(|scheme| (scheme.name.as_str(), scheme.target.shards)));
        let plan = BrokerPlan {
            topology: &topology,
            journal: Session::journal(&settings.common),
            management: management.as_ref(),
        };
        let patience = Duration::from_secs(self.timeout);
        let mut examined = Examined::new();
        let mut sheets = Vec::new();
        for stage in &stages {
            let mut sheet = Sheet::new(*stage, patience);
            let config = self.broker(session, &settings.common, *stage);
            plan.examine(&mut sheet, &config, &mut examined).await;
            sheets.push(sheet);
        }
        let systems = Systems { schemes: &schemes, wdt: &settings.wdt, kingdee: &settings.kingdee };
        for sheet in &mut sheets {
            Box::pin(systems.examine(sheet)).await;
        }
        let findings: Vec<Finding> = sheets.into_iter().flat_map(Sheet::into_findings).collect();
        let failed = findings.iter().any(|finding| finding.judgement.verdict == Verdict::Failed);
        let out = if self.json { lines(&findings) } else { tables(&findings, session.width) };
        let exit = if failed { Exit::Failed } else { Exit::Done };
        Ok(Report { exit, ..Report::done(out).with_notes(notes) })
    }

    /// The stages that are examined, and why others aren't.
    fn stages(&self, environment: &Environment) -> (Vec<StageName>, String) {
        if !self.stage.is_empty() {
            let wanted = |stage: &StageName| self.stage.iter().any(|own| own.name() == *stage);
            return (StageName::ALL.into_iter().filter(wanted).collect(), String::new());
        }
        let (mut stages, mut notes) = (Vec::new(), String::new());
        for (stage, prefix, word) in [
            (StageName::Extract, Some("WDT_"), "extractor"),
            (StageName::Transform, None, "transformer"),
            (StageName::Load, Some("KINGDEE_"), "loader"),
        ] {
            if prefix.is_none_or(|prefix| environment.has_any(prefix)) {
                stages.push(stage);
            } else {
                let prefix = prefix.unwrap_or_default();
                notes.push_str(&format!(
                    "the {word} is not examined, since no {prefix}* is set; --stage {word} says which are missing\n"
                ));
            }
        }
        (stages, notes)
    }

    /// How a stage reaches the broker.
    fn broker(&self, session: &Session, common: &CommonSettings, stage: StageName) -> BrokerConfig {
        let mut config = session.broker(common);
        let Some(dir) = &self.secrets_dir else { return config };
        let file = dir.join(format!("{}.amqp-url", UserRights::of(stage).name));
        config.url = Arc::new(move || url(&file));
        config
    }
}

fn url(file: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("{} can't be read: {error}; `kingpost topology users --secrets-dir` makes it", file.display())
    })?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// What the stages read.
struct Settings {
    common: CommonSettings,
    wdt: BTreeMap<Option<String>, WdtSettings>,
    kingdee: BTreeMap<Option<String>, KingdeeSettings>,
}

impl Settings {
    /// Reads them as the workers do; every problem of every stage together.
    fn read(environment: &Environment, schemes: &[Scheme], stages: &[StageName]) -> Result<Self, Problems> {
        let accounts: BTreeSet<Option<&str>> =
            schemes.iter().map(|scheme| scheme.account.as_deref()).collect();
        let accounts: Vec<Option<&str>> = accounts.into_iter().collect();
        let (mut common, mut wdt, mut kingdee) = (None, BTreeMap::new(), BTreeMap::new());
        let mut problems = Problems::new();
        for stage in stages {
            let read = match stage {
                StageName::Extract => extractor(environment, &accounts).map(|settings| {
                    wdt = settings.wdt;
                    settings.common
                }),
                StageName::Transform => transformer(environment).map(|settings| settings.common),
                StageName::Load => loader(environment, &accounts).map(|settings| {
                    kingdee = settings.kingdee;
                    settings.common
                }),
            };
            match read {
                Ok(found) => common = Some(found),
                Err(wrong) => problems = problems.merge(wrong),
            }
        }
        match common {
            Some(common) => problems.or(Settings { common, wdt, kingdee }),
            None => Err(problems),
        }
    }
}
