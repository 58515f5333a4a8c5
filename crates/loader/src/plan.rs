//! What this worker consumes, and how.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kingpost_broker::Topology;
use kingpost_connectors::{Calls, longest_write, target};
use kingpost_model::{Loaded, LoadedHow, Route, StageName};
use kingpost_scheme::{Scheme, load_dir};
use kingpost_settings::{KingdeeSettings, Problems, loader, schemes_dir};
use kingpost_telemetry::{ChangeMetrics, ErpMetrics, Metrics};
use kingpost_worker::{Background, BatchPolicy, Context, LanePlan, Plan, Refusal};
use tracing::warn;

use crate::{
    cancelled::Cancelled,
    claims::Claims,
    stage::{LoadObserver, LoadStage, PATIENCE},
    standing::Unproven,
};

/// How long a write may take to show after it was sent, where the scheme doesn't say: longer than the longest
/// BatchSave time-out of a proxy and of the server behind it.
const SETTLE: Duration = Duration::from_secs(240);

/// Plans a loader for all schemes.
///
/// # Errors
/// [`Refusal`] with every problem of settings and schemes.
pub fn plan(context: &Context) -> Result<Plan, Refusal> {
    let schemes =
        load_dir(&schemes_dir(&context.environment)?).map_err(|p| Refusal::Schemes(p.to_string()))?;
    let accounts: BTreeSet<Option<&str>> = schemes.iter().map(|s| s.account.as_deref()).collect();
    let accounts: Vec<Option<&str>> = accounts.into_iter().collect();
    let settings = loader(&context.environment, &accounts)?;
    let mut lanes = Vec::new();
    let mut problems = Problems::new();
    for scheme in &schemes {
        let Some(account) = settings.kingdee.get(&scheme.account) else { continue };
        expiries(&context.metrics, scheme, account);
        match scheme_lanes(scheme, account, &context.metrics) {
            Ok(of_scheme) => lanes.extend(of_scheme),
            Err(wrong) => problems = problems.merge(wrong),
        }
    }
    problems.or(())?;
    let topology = Topology::new(schemes.iter().map(|s| (s.name.as_str(), s.target.shards)));
    let background = vec![say(schemes.iter().filter_map(hasty).collect())];
    let accounts = schemes.iter().map(|s| s.account.clone()).collect();
    Ok(Plan {
        common: settings.common,
        worker: settings.worker,
        accounts,
        topology,
        lanes,
        background,
        receptions: Vec::new(),
    })
}

/// Tells when what an account is reached with expires.
fn expiries(metrics: &Metrics, scheme: &Scheme, settings: &KingdeeSettings) {
    let erp = metrics.erp("kingdee");
    if let Some(file) = &settings.ca_file {
        erp.trusted_certificates(file);
    }
    if let Some(unix_s) = settings.app_secret_expires {
        erp.secret_expires(scheme.account.as_deref().unwrap_or("default"), unix_s);
    }
}

/// What is wrong with a settle window that ends before a write does: the loader would look a document up, find nothing
/// and post it again while the first write is still running.
fn hasty(scheme: &Scheme) -> Option<String> {
    let (settle, longest) = (scheme.target.settle?, longest_write(scheme));
    (settle < longest).then(|| {
        format!(
            "{}: `target.settle` is {} s, but a save of {} documents may run for {} s: after an unclear outcome a \
             document could be posted twice; leave `target.settle` out or raise it, or lower `target.batch.rows`",
            scheme.name,
            settle.as_secs(),
            scheme.target.batch.rows,
            longest.as_secs()
        )
    })
}

/// Logs warnings once the worker runs: while it is planned there is no log yet.
fn say(warnings: Vec<String>) -> Background {
    Box::new(|_| {
        Box::pin(async move {
            for warning in warnings {
                warn!("{warning}");
            }
        })
    })
}

fn scheme_lanes(
    scheme: &Scheme,
    account: &KingdeeSettings,
    metrics: &Metrics,
) -> Result<Vec<LanePlan>, Problems> {
    let erp = Arc::new(Erp(metrics.erp("kingdee"), metrics.changes(&scheme.name)));
    let target = target(scheme, account, Arc::clone(&erp) as Arc<dyn Calls>)?;
    let claims = Arc::new(Claims::default());
    let settle = scheme.target.settle.unwrap_or(SETTLE);
    let batch = &scheme.target.batch;
    let rows = batch.rows.max(1) as usize;
    let concurrency = batch.concurrency.max(1) as usize;
    // One batch more than can be in flight, so that the next one is at hand.
    let prefetch = u16::try_from(rows * (concurrency + 1)).unwrap_or(u16::MAX);
    let policy = BatchPolicy { rows, wait: batch.wait, concurrency, prefetch };
    let routes = Route::all(StageName::Load, &scheme.name, scheme.target.shards);
    let lanes = routes.into_iter().map(|route| {
        let stage = LoadStage {
            target: Arc::clone(&target),
            claims: Arc::clone(&claims),
            unproven: Unproven::default(),
            cancelled: Cancelled::default(),
            settle,
            patience: PATIENCE,
            observer: Arc::clone(&erp) as Arc<dyn LoadObserver>,
        };
        LanePlan { route, stage: Arc::new(stage), batch: policy }
    });
    Ok(lanes.collect())
}

struct Erp(ErpMetrics, ChangeMetrics);

impl Calls for Erp {
    fn call(&self, _: &'static str, operation: &'static str, outcome: &'static str, took: Duration) {
        self.0.request(operation, outcome, took);
    }

    fn peer_certificate(&self, _: &'static str, address: &str, der: &[u8]) {
        self.0.peer_certificate(address, der);
    }
}

impl LoadObserver for Erp {
    fn loaded(&self, loaded: &Loaded) {
        match loaded.how {
            LoadedHow::Posted => {}
            LoadedHow::Resumed | LoadedHow::AlreadyThere => self.0.duplicate_prevented("look-up"),
            LoadedHow::Updated => self.1.updated(),
            LoadedHow::Ignored => self.1.ignored(),
            LoadedHow::Withdrawn => self.1.withdrawn(),
        }
    }

    fn unclear(&self) {
        self.0.unclear();
    }

    fn duplicated(&self) {
        self.0.duplicate_found();
    }

    fn reported(&self) {
        self.1.reported();
    }
}

#[cfg(test)]
mod tests {
    use kingpost_scheme::load_file;

    use super::*;

    /// The shipped scheme with a settle window and a batch size of one's own.
    fn scheme(settle: &str, rows: u32) -> Scheme {
        let mut scheme = load_file(std::path::Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../schemes/purchase-stockin.yaml"
        )))
        .unwrap();
        scheme.target.batch.rows = rows;
        scheme.target.settle = (!settle.is_empty()).then(|| Duration::from_secs(settle.parse().unwrap()));
        scheme
    }

    #[test]
    fn a_window_that_ends_before_a_write_does_is_warned_of() {
        let text = hasty(&scheme("5", 20)).unwrap();
        assert!(text.contains("`target.settle` is 5 s") && text.contains("190 s"), "{text}");
        assert!(hasty(&scheme("189", 20)).is_some());
        assert_eq!(hasty(&scheme("190", 20)), None);
        assert!(hasty(&scheme("239", 50)).is_some());
        assert_eq!(hasty(&scheme("240", 50)), None);
    }

    #[test]
    fn the_window_of_a_scheme_that_names_none_is_never_too_short() {
        assert_eq!(hasty(&scheme("", 50)), None);
        assert!(SETTLE >= longest_write(&scheme("", 50)));
    }
}
