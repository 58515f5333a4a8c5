//! What this worker consumes, and how.

use std::{sync::Arc, time::Duration};

use kingpost_broker::Topology;
use kingpost_model::{Route, StageName};
use kingpost_scheme::{Scheme, load_dir};
use kingpost_settings::{schemes_dir, transformer};
use kingpost_worker::{BatchPolicy, Context, LanePlan, Plan, Refusal};

use crate::TransformStage;

/// A batch is what has arrived already; nothing waits for company.
const BATCH: BatchPolicy = BatchPolicy { rows: 64, wait: Duration::ZERO, concurrency: 8, prefetch: 512 };

/// Plans a transformer for all schemes.
///
/// # Errors
/// [`Refusal`] with every problem of settings and schemes.
pub fn plan(context: &Context) -> Result<Plan, Refusal> {
    let schemes =
        load_dir(&schemes_dir(&context.environment)?).map_err(|p| Refusal::Schemes(p.to_string()))?;
    let settings = transformer(&context.environment)?;
    let lanes = schemes.iter().map(lane).collect();
    let topology = Topology::new(schemes.iter().map(|s| (s.name.as_str(), s.target.shards)));
    let accounts = schemes.iter().map(|s| s.account.clone()).collect();
    Ok(Plan {
        common: settings.common,
        worker: settings.worker,
        accounts,
        topology,
        lanes,
        background: Vec::new(),
        receptions: Vec::new(),
    })
}

fn lane(scheme: &Scheme) -> LanePlan {
    let stage = TransformStage::new(
        &*scheme.name,
        &*scheme.target.form,
        scheme.target.shards,
        Arc::clone(&scheme.mapping),
    );
    LanePlan { route: Route::new(StageName::Transform, &*scheme.name), stage: Arc::new(stage), batch: BATCH }
}
