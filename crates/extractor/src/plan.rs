//! What this worker consumes, and how.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kingpost_broker::Topology;
use kingpost_connectors::{Calls, source};
use kingpost_model::{Comparisons, Route, Source, StageName};
use kingpost_scheme::{Scheme, load_dir};
use kingpost_settings::{Problems, WdtSettings, extractor, schemes_dir};
use kingpost_telemetry::{AccountMetrics, ErpMetrics, ExtractionMetrics, Metrics, ReconciliationMetrics};
use kingpost_worker::{Background, BackgroundContext, BatchPolicy, Context, LanePlan, Plan, Refusal, now_ms};
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Account, AccountObserver},
    agenda::Remedy,
    cursor::Cutting,
    hearsay,
    push::{self, Intake},
    schedule::{self, CursorObserver, Schedule},
    stage::{ExtractStage, WindowObserver},
};

/// One window at a time, its pages strictly one after another; the next window at hand.
const BATCH: BatchPolicy = BatchPolicy { rows: 1, wait: Duration::ZERO, concurrency: 1, prefetch: 2 };

/// Plans an extractor for all schemes.
///
/// # Errors
/// [`Refusal`] with every problem of settings and schemes.
pub fn plan(context: &Context) -> Result<Plan, Refusal> {
    let schemes =
        load_dir(&schemes_dir(&context.environment)?).map_err(|p| Refusal::Schemes(p.to_string()))?;
    let accounts: BTreeSet<Option<&str>> = schemes.iter().map(|s| s.account.as_deref()).collect();
    let accounts: Vec<Option<&str>> = accounts.into_iter().collect();
    let settings = extractor(&context.environment, &accounts)?;
    let (mut lanes, mut background) = (Vec::new(), Vec::new());
    let mut problems = Problems::new();
    let mut limited = BTreeMap::new();
    let mut intakes = Vec::new();
    for scheme in &schemes {
        let Some(account) = settings.wdt.get(&scheme.account) else { continue };
        expiries(&context.metrics, scheme, account);
        let ending = CancellationToken::new();
        let shared = shared(scheme, account, &context.metrics);
        let shared = Arc::clone(limited.entry(shared.key()).or_insert(shared));
        match source(scheme, account, Arc::new(Erp(context.metrics.erp("wdt")))) {
            Ok(source) => {
                intakes.push(intake(scheme, &source));
                lanes.push(lane(scheme, source, shared, &context.metrics, ending.clone()));
            }
            Err(wrong) => problems = problems.merge(wrong),
        }
        background.push(scheduler(scheme, ending));
    }
    problems.or(())?;
    background.push(hearing(limited.into_values().collect()));
    let mut receptions = Vec::new();
    if let Some(settings) = settings.push {
        let listener = push::listen(settings.addr).map_err(Problems::from)?;
        receptions.push(push::receiving(listener, settings, intakes));
    }
    let topology = Topology::new(schemes.iter().map(|s| (s.name.as_str(), s.target.shards)));
    let accounts = schemes.iter().map(|s| s.account.clone()).collect();
    Ok(Plan {
        common: settings.common,
        worker: settings.worker,
        accounts,
        topology,
        lanes,
        background,
        receptions,
    })
}

/// Tells when what an account is reached with expires.
fn expiries(metrics: &Metrics, scheme: &Scheme, settings: &WdtSettings) {
    let erp = metrics.erp("wdt");
    if let Some(file) = &settings.ca_file {
        erp.trusted_certificates(file);
    }
    if let Some(unix_s) = settings.app_secret_expires {
        erp.secret_expires(scheme.account.as_deref().unwrap_or("default"), unix_s);
    }
}

/// The account that a scheme's calls are counted by.
fn shared(scheme: &Scheme, settings: &WdtSettings, metrics: &Metrics) -> Arc<Account> {
    let name = scheme.account.as_deref().unwrap_or("default");
    let observer = Arc::new(Limits(metrics.account("wdt", name)));
    Account::new("wdt", name, [&settings.url, &settings.sid], observer)
}

/// Keeps the accounts in touch with those of other extractors.
fn hearing(accounts: Vec<Arc<Account>>) -> Background {
    Box::new(move |context: BackgroundContext| {
        Box::pin(async move { hearsay::run(&context.broker, accounts, context.stop).await })
    })
}

fn lane(
    scheme: &Scheme,
    source: Arc<dyn Source>,
    account: Arc<Account>,
    metrics: &Metrics,
    ending: CancellationToken,
) -> LanePlan {
    let stage = ExtractStage {
        scheme: scheme.name.clone(),
        document: scheme.target.form.clone(),
        source,
        account,
        observer: Arc::new(Extraction(metrics.extraction(&scheme.name))),
        ending,
    };
    let route = Route::new(StageName::Extract, &*scheme.name);
    LanePlan { route, stage: Arc::new(stage), batch: BATCH }
}

/// What takes the scheme's documents when they are pushed.
fn intake(scheme: &Scheme, source: &Arc<dyn Source>) -> Intake {
    Intake { scheme: scheme.name.clone(), document: scheme.target.form.clone(), source: Arc::clone(source) }
}

fn scheduler(scheme: &Scheme, ending: CancellationToken) -> Background {
    let window = scheme.source.window;
    let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    let schedule = Schedule {
        scheme: scheme.name.clone(),
        cutting: Cutting {
            width_s: seconds(window.width),
            overlap_s: seconds(window.overlap),
            start_s: window.start.as_second(),
            lag_s: seconds(window.lag),
        },
        every: window.every,
        remedy: window.remedy.map(|remedy| Remedy {
            every_s: seconds(remedy.every),
            from_s: seconds(remedy.from),
            to_s: seconds(remedy.to),
        }),
        shards: scheme.target.shards,
    };
    Box::new(move |context: BackgroundContext| {
        Box::pin(async move {
            let observer = Schedules {
                extraction: context.metrics.extraction(&schedule.scheme),
                reconciliation: context.metrics.reconciliation(&schedule.scheme),
            };
            // A stage isn't told that its worker stops, but what runs beside it is.
            let tell = async {
                context.stop.cancelled().await;
                ending.cancel();
            };
            tokio::join!(schedule::run(&*context.broker, &schedule, &observer, &context.stop), tell);
        })
    })
}

struct Erp(ErpMetrics);

impl Calls for Erp {
    fn call(&self, _: &'static str, operation: &'static str, outcome: &'static str, took: Duration) {
        self.0.request(operation, outcome, took);
    }

    fn peer_certificate(&self, _: &'static str, address: &str, der: &[u8]) {
        self.0.peer_certificate(address, der);
    }
}

struct Limits(AccountMetrics);

impl AccountObserver for Limits {
    fn limit_met(&self) {
        self.0.limit_met();
    }

    fn changed(&self, calls_per_minute: Option<f64>, closed_for: Option<Duration>) {
        self.0.pace(calls_per_minute);
        let length = |closed: Duration| i64::try_from(closed.as_millis()).unwrap_or(i64::MAX);
        self.0.closed_until(closed_for.map(|closed| now_ms().saturating_add(length(closed))));
    }
}

struct Extraction(ExtractionMetrics);

impl WindowObserver for Extraction {
    fn read(&self, documents: usize) {
        self.0.window_read(documents as u64);
    }

    fn split(&self) {
        self.0.window("split");
    }

    fn failed(&self) {
        self.0.window("failed");
    }
}

struct Schedules {
    extraction: ExtractionMetrics,
    reconciliation: ReconciliationMetrics,
}

impl CursorObserver for Schedules {
    fn lag(&self, seconds: i64) {
        self.extraction.cursor_lag(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }

    fn backlog(&self, windows: u64) {
        self.extraction.backlog(windows);
    }

    fn reconciled(&self, comparisons: &Comparisons) {
        self.reconciliation.show(Some(comparisons));
    }

    fn resigned(&self) {
        self.extraction.resigned();
        self.reconciliation.show(None);
    }
}
