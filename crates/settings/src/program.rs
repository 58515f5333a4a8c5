//! What each program reads, whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::reader::{Reader, Wrong, one_of};
use crate::{
    AmqpUrl, Environment, KingdeeSettings, ManagementSettings, Problem, Problems, Program, PushSettings,
    TraceSettings, WdtSettings, both, kingdee, management::management, push, traces, wdt,
};

/// What every program reads.
#[derive(Debug, Clone)]
pub struct CommonSettings {
    /// `AMQP_URL`.
    pub amqp_url: AmqpUrl,
    /// `AMQP_CA_FILE`: certificates to trust besides those of the system; only ever there with `amqps`.
    pub amqp_ca_file: Option<PathBuf>,
    /// `SCHEMES_DIR`, not yet looked into.
    pub schemes_dir: PathBuf,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `RUST_LOG`, not yet parsed.
    pub rust_log: String,
    /// The journal.
    pub journal: JournalSettings,
}

/// Whether what happens to documents is written down, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSettings {
    /// `JOURNAL`.
    pub on: bool,
    /// `JOURNAL_MAX_AGE`.
    pub max_age: Duration,
    /// `JOURNAL_MAX_BYTES`.
    pub max_bytes: u64,
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// What the three workers read besides.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// `HTTP_ADDR`: where metrics and health are served; port 0 takes a free one.
    pub http_addr: SocketAddr,
    /// `DRAIN_SECONDS`: how long work in hand may take to finish after a stop signal.
    pub drain: Duration,
    /// Where spans are sent; nothing while they are not.
    pub traces: Option<TraceSettings>,
}

/// What `kingpost-extractor` reads.
#[derive(Debug, Clone)]
pub struct ExtractorSettings {
    /// For every program.
    pub common: CommonSettings,
    /// For every worker.
    pub worker: WorkerSettings,
    /// By account; `None` is the one without a name.
    pub wdt: BTreeMap<Option<String>, WdtSettings>,
    /// For documents that are pushed; nothing while it is off.
    pub push: Option<PushSettings>,
}

/// What `kingpost-transformer` reads. It calls no ERP, so it holds no ERP's keys.
#[derive(Debug, Clone)]
pub struct TransformerSettings {
    /// For every program.
    pub common: CommonSettings,
    /// For every worker.
    pub worker: WorkerSettings,
}

/// What `kingpost-loader` reads.
#[derive(Debug, Clone)]
pub struct LoaderSettings {
    /// For every program.
    pub common: CommonSettings,
    /// For every worker.
    pub worker: WorkerSettings,
    /// By account; `None` is the one without a name.
    pub kingdee: BTreeMap<Option<String>, KingdeeSettings>,
}

/// What `kingpost`, the operator's command, reads.
#[derive(Debug, Clone)]
pub struct OperatorSettings {
    /// For every program.
    pub common: CommonSettings,
    /// By account; empty for a command that never calls Kingdee.
    pub kingdee: BTreeMap<Option<String>, KingdeeSettings>,
    /// By account, for what is read from the source again; empty for a command that never calls WDT.
    pub wdt: BTreeMap<Option<String>, WdtSettings>,
    /// RabbitMQ's management API; nothing where it isn't given.
    pub management: Option<ManagementSettings>,
}

/// Reads the extractor's settings with those of each WDT account its schemes name.
///
/// # Errors
/// Everything that is missing or wrong, over all accounts.
pub fn extractor(
    environment: &Environment,
    accounts: &[Option<&str>],
) -> Result<ExtractorSettings, Problems> {
    let program = both(common(environment, Program::Extractor), worker(environment, Program::Extractor));
    let program = both(program, push::push(environment, Program::Extractor));
    let (((common, worker), push), wdt) = both(program, per_account(environment, accounts, wdt))?;
    Ok(ExtractorSettings { common, worker, wdt, push })
}

/// Reads the transformer's settings.
///
/// # Errors
/// Everything that is missing or wrong.
pub fn transformer(environment: &Environment) -> Result<TransformerSettings, Problems> {
    let (common, worker) =
        both(common(environment, Program::Transformer), worker(environment, Program::Transformer))?;
    Ok(TransformerSettings { common, worker })
}

/// Reads the loader's settings with those of each Kingdee account its schemes name.
///
/// # Errors
/// Everything that is missing or wrong, over all accounts.
pub fn loader(environment: &Environment, accounts: &[Option<&str>]) -> Result<LoaderSettings, Problems> {
    let program = both(common(environment, Program::Loader), worker(environment, Program::Loader));
    let ((common, worker), kingdee) = both(program, per_account(environment, accounts, kingdee))?;
    Ok(LoaderSettings { common, worker, kingdee })
}

/// Reads the operator's settings; with no account for a command that calls no ERP.
///
/// # Errors
/// Everything that is missing or wrong, over all accounts.
pub fn operator(environment: &Environment, accounts: &[Option<&str>]) -> Result<OperatorSettings, Problems> {
    let common = common(environment, Program::Operator).and_then(|common| {
        let management = management(environment, &common.amqp_url)?;
        Ok((common, management))
    });
    let systems = both(per_account(environment, accounts, kingdee), per_account(environment, accounts, wdt));
    let ((common, management), (kingdee, wdt)) = both(common, systems)?;
    Ok(OperatorSettings { common, kingdee, wdt, management })
}

/// `SCHEMES_DIR` alone: the schemes have to be loaded before their accounts are known, and with them every other setting
/// can be read, and complained about, in one go.
///
/// # Errors
/// `SCHEMES_DIR_FILE` can't be read, or both are given.
pub fn schemes_dir(environment: &Environment) -> Result<PathBuf, Problems> {
    let mut reader = Reader::new(environment, Program::Operator);
    let found: CommonVariables = reader.variables(&["SCHEMES"]);
    match found.schemes_dir {
        Some(directory) => reader.problems.or(PathBuf::from(directory)),
        None => Err(reader.problems),
    }
}

/// `HTTP_ADDR` alone, for whoever asks the worker that reads it; nothing when it isn't set, as the defaults differ.
///
/// # Errors
/// It is no address, `HTTP_ADDR_FILE` can't be read, or both are given.
pub fn http_addr(environment: &Environment) -> Result<Option<SocketAddr>, Problems> {
    let mut reader = Reader::new(environment, Program::Operator);
    let found: WorkerVariables = reader.variables(&["HTTP"]);
    let addr = reader.parsed("HTTP_ADDR", found.http_addr, |text| text.parse().map_err(|_| Wrong::SHAPE));
    reader.problems.or(addr)
}

#[derive(Deserialize, Default)]
struct CommonVariables {
    amqp_ca_file: Option<String>,
    schemes_dir: Option<String>,
    log_format: Option<String>,
    rust_log: Option<String>,
}

#[derive(Deserialize, Default)]
struct WorkerVariables {
    http_addr: Option<String>,
    drain_seconds: Option<String>,
}

#[derive(Deserialize, Default)]
struct JournalVariables {
    journal: Option<String>,
    journal_max_age: Option<String>,
    journal_max_bytes: Option<String>,
}

fn common(environment: &Environment, program: Program) -> Result<CommonSettings, Problems> {
    let mut reader = Reader::new(environment, program);
    let found: CommonVariables = reader.variables(&["AMQP", "SCHEMES", "LOG", "RUST"]);
    let amqp_url = reader.source("AMQP_URL").and_then(|(setting, source)| {
        AmqpUrl::new(setting, source).map_err(|problem| reader.problems.push(problem)).ok()
    });
    let amqp_ca_file = reader.certificates("AMQP_CA_FILE", found.amqp_ca_file);
    if let (Some(_), Some(false)) = (&amqp_ca_file, amqp_url.as_ref().map(AmqpUrl::is_tls)) {
        reader.problems.push(Problem::new(
            "AMQP_CA_FILE",
            "given, while AMQP_URL says amqp: the connection wouldn't be encrypted",
            "an AMQP_URL that starts with amqps://",
            "change the scheme of AMQP_URL, or remove AMQP_CA_FILE",
        ));
    }
    let words = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let log_format = reader.parsed("LOG_FORMAT", found.log_format, |text| one_of(text, &words));
    let journal = journal(&mut reader);
    match (amqp_url, found.schemes_dir, log_format, found.rust_log, journal) {
        (Some(amqp_url), Some(schemes_dir), Some(log_format), Some(rust_log), Some(journal)) => {
            let schemes_dir = PathBuf::from(schemes_dir);
            let settings =
                CommonSettings { amqp_url, amqp_ca_file, schemes_dir, log_format, rust_log, journal };
            reader.problems.or(settings)
        }
        _ => Err(reader.problems),
    }
}

fn journal(reader: &mut Reader<'_>) -> Option<JournalSettings> {
    let found: JournalVariables = reader.variables(&["JOURNAL"]);
    let words = [("on", true), ("off", false)];
    let on = reader.parsed("JOURNAL", found.journal, |text| one_of(text, &words));
    let age = |text: &str| counted(text, &[("m", 60), ("h", 3_600), ("d", 86_400)], 60, 3_650 * 86_400);
    let max_age = reader.parsed("JOURNAL_MAX_AGE", found.journal_max_age, age);
    let units = [("", 1), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let bytes = |text: &str| counted(text, &units, 10_000_000, 10_000_000_000_000);
    let max_bytes = reader.parsed("JOURNAL_MAX_BYTES", found.journal_max_bytes, bytes);
    Some(JournalSettings { on: on?, max_age: Duration::from_secs(max_age?), max_bytes: max_bytes? })
}

/// A whole number with one of these units, within bounds.
fn counted(text: &str, units: &[(&str, u64)], least: u64, most: u64) -> Result<u64, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = units.iter().find(|(word, _)| word.eq_ignore_ascii_case(unit.trim()));
    let value = unit.and_then(|(_, size)| number.parse::<u64>().ok()?.checked_mul(*size));
    value.filter(|value| (least..=most).contains(value)).ok_or(Wrong::SHAPE)
}

fn worker(environment: &Environment, program: Program) -> Result<WorkerSettings, Problems> {
    let mut reader = Reader::new(environment, program);
    let found: WorkerVariables = reader.variables(&["HTTP", "DRAIN"]);
    let http_addr =
        reader.parsed("HTTP_ADDR", found.http_addr, |text| text.parse().map_err(|_| Wrong::SHAPE));
    let drain = reader.parsed("DRAIN_SECONDS", found.drain_seconds, |text| match text.parse() {
        Ok(seconds) if (1..=3600).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(Wrong::SHAPE),
    });
    let read = match (http_addr, drain) {
        (Some(http_addr), Some(drain)) => reader.problems.or((http_addr, drain)),
        _ => Err(reader.problems),
    };
    let ((http_addr, drain), traces) = both(read, traces::traces(environment, program))?;
    Ok(WorkerSettings { http_addr, drain, traces })
}

fn per_account<T>(
    environment: &Environment,
    accounts: &[Option<&str>],
    read: impl Fn(&Environment, Option<&str>) -> Result<T, Problems>,
) -> Result<BTreeMap<Option<String>, T>, Problems> {
    let mut problems = Problems::new();
    let mut settings = BTreeMap::new();
    for account in accounts {
        match read(environment, *account) {
            Ok(found) => {
                settings.insert(account.map(str::to_owned), found);
            }
            Err(wrong) => problems = problems.merge(wrong),
        }
    }
    problems.or(settings)
}
