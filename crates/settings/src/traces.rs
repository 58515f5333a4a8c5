//! Where spans are sent, and which.

use serde::Deserialize;

use crate::address::Address;
use crate::reader::{Reader, Wrong, one_of};
use crate::{Environment, Problems, Program};

/// A collector of OpenTelemetry, and what it gets. Effective in builds with the cargo feature `otlp`.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, without `/v1/traces` and without a slash at its end.
    pub endpoint: String,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: String,
    /// `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`.
    pub sampler: TraceSampler,
}

/// Which spans are recorded, as OpenTelemetry names it. A share lies between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TraceSampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Those of a share of the traces.
    Ratio(f64),
    /// As the one before has decided; all of a trace that begins here.
    ParentOrOn,
    /// As the one before has decided; none of a trace that begins here.
    ParentOrOff,
    /// As the one before has decided; those of a share of the traces that begin here.
    ParentOrRatio(f64),
}

#[derive(Deserialize, Default)]
struct Variables {
    otel_exporter_otlp_endpoint: Option<String>,
    otel_service_name: Option<String>,
    otel_traces_sampler: Option<String>,
    otel_traces_sampler_arg: Option<String>,
}

/// Nothing without an endpoint; the other variables are then not looked at, as a whole machine may share them.
pub(crate) fn traces(environment: &Environment, program: Program) -> Result<Option<TraceSettings>, Problems> {
    let given = |name: &str| environment.get(name).is_some();
    if !given("OTEL_EXPORTER_OTLP_ENDPOINT") && !given("OTEL_EXPORTER_OTLP_ENDPOINT_FILE") {
        return Ok(None);
    }
    let mut reader = Reader::new(environment, program);
    let found: Variables = reader.variables(&["OTEL"]);
    let endpoint = reader.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", found.otel_exporter_otlp_endpoint, |text| {
        let trimmed = text.trim_end_matches('/');
        Address::web(trimmed).map(|_| trimmed.to_owned()).map_err(Wrong::because)
    });
    let share = reader.parsed("OTEL_TRACES_SAMPLER_ARG", found.otel_traces_sampler_arg, |text| {
        text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or(Wrong::SHAPE)
    });
    let sampler = reader.parsed("OTEL_TRACES_SAMPLER", found.otel_traces_sampler, |text| {
        let share = share.unwrap_or(1.0);
        let words = [
            ("always_on", TraceSampler::AlwaysOn),
            ("always_off", TraceSampler::AlwaysOff),
            ("traceidratio", TraceSampler::Ratio(share)),
            ("parentbased_always_on", TraceSampler::ParentOrOn),
            ("parentbased_always_off", TraceSampler::ParentOrOff),
            ("parentbased_traceidratio", TraceSampler::ParentOrRatio(share)),
        ];
        one_of(text, &words)
    });
    match (endpoint, found.otel_service_name, sampler) {
        (Some(endpoint), Some(service_name), Some(sampler)) => {
            reader.problems.or(Some(TraceSettings { endpoint, service_name, sampler }))
        }
        _ => Err(reader.problems),
    }
}
