//! Records spans and sends them to a collector, by OTLP over HTTP, from a thread that nobody waits for.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kingpost_model::{Failure, TraceContext, Verdict, Work};
use kingpost_settings::{Problem, TraceSampler, TraceSettings};
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracer,
    SdkTracerProvider, ShouldSample, SpanData, SpanExporter, SpanProcessor,
};
use tracing::field::Empty;
use tracing::{Dispatch, Span, info, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::Place;
use crate::Metrics;

/// Whether spans can be exported at all.
pub(super) const IS_COMPILED: bool = true;

/// What tells our spans from those of libraries.
const TARGET: &str = "kingpost::span";
/// Spans that wait for the collector or are on their way; what comes on top is given up. About 4 MB.
const WAITING_MAX: usize = 4_096;
/// Spans of one request to the collector.
const REQUEST_MAX: usize = 512;
/// How long a span waits for others.
const EVERY: Duration = Duration::from_secs(2);
/// How long the collector may take for a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Links of a span: the works of the largest batch.
const LINKS_MAX: u32 = 512;
/// The attribute that tells a batch from a message.
const BATCH_WORKS: &str = "batch.works";

/// Whether spans are sent at the moment.
static SENDING: AtomicBool = AtomicBool::new(false);
/// What records calls while they are.
static TRACER: Mutex<Option<SdkTracer>> = Mutex::new(None);

/// Sends what is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    pub(super) fn start(settings: &TraceSettings, metrics: &Metrics) -> Result<Option<Self>, Problem> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", settings.endpoint))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| {
                Problem::new(
                    "OTEL_EXPORTER_OTLP_ENDPOINT",
                    format!("can't be used: {error}"),
                    "the address of an OpenTelemetry collector",
                    "for example OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.example:4318",
                )
            })?;
        let tally = Arc::new(Tally {
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            metrics: metrics.clone(),
        });
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(REQUEST_MAX)
            .with_scheduled_delay(EVERY)
            .build();
        let counted = Counted { exporter, tally: Arc::clone(&tally) };
        let batches = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampling(sampler(settings.sampler)))
            .with_max_links_per_span(LINKS_MAX)
            .with_span_processor(Bounded { batches, tally })
            .build();
        let tracer = provider.tracer("kingpost");
        *TRACER.lock().unwrap_or_else(PoisonError::into_inner) = Some(tracer.clone());
        SENDING.store(true, Ordering::Relaxed);
        Ok(Some(Exporter { provider, tracer }))
    }

    pub(super) fn end(self, within: Duration) {
        SENDING.store(false, Ordering::Relaxed);
        *TRACER.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.provider.shutdown_with_timeout(within) {
            warn!(%error, "the last spans could not be sent");
        }
    }
}

fn sampler(sampler: TraceSampler) -> Sampler {
    let or = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match sampler {
        TraceSampler::AlwaysOn => Sampler::AlwaysOn,
        TraceSampler::AlwaysOff => Sampler::AlwaysOff,
        TraceSampler::Ratio(share) => Sampler::TraceIdRatioBased(share),
        TraceSampler::ParentOrOn => or(Sampler::AlwaysOn),
        TraceSampler::ParentOrOff => or(Sampler::AlwaysOff),
        TraceSampler::ParentOrRatio(share) => or(Sampler::TraceIdRatioBased(share)),
    }
}

/// A batch is begun only for messages that are recorded, and recorded with them; all else is as the settings say.
#[derive(Clone, Debug)]
struct Sampling(Sampler);

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if attributes.iter().any(|attribute| attribute.key.as_str() == BATCH_WORKS) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// What is on its way to the collector.
#[derive(Debug)]
struct Tally {
    waiting: AtomicUsize,
    /// The last request failed, and it was said.
    failing: AtomicBool,
    metrics: Metrics,
}

/// Gives up what would make the queue too long, and counts it; the library behind only drops it.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    tally: Arc<Tally>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.tally.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
            self.tally.metrics.spans_dropped(1);
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(within)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what the collector took and what it did not.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    tally: Arc<Tally>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.tally.waiting.fetch_sub(spans, Ordering::Relaxed);
        let was_failing = self.tally.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) if was_failing => info!("spans are sent again"),
            Ok(()) => {}
            Err(error) => {
                self.tally.metrics.spans_dropped(spans);
                if !was_failing {
                    warn!(%error, spans, "spans could not be sent to the collector and are given up; the work goes on");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(within)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

type Spans = Option<Box<dyn Layer<Registry> + Send + Sync>>;

/// A subscriber of log lines, and of spans where they are exported. Each has a filter of its own: `RUST_LOG` is about
/// lines.
pub(crate) fn dispatch<L>(filter: EnvFilter, lines: L, exporter: Option<&Exporter>) -> Dispatch
where
    L: Layer<Layered<Spans, Registry>> + Send + Sync + 'static,
{
    let spans = exporter.map(|exporter| {
        tracing_opentelemetry::layer()
            .with_tracer(exporter.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET))
            .boxed()
    });
    let lines = lines.with_filter(filter);
    Dispatch::new(tracing_subscriber::registry().with(spans).with(lines))
}

fn is_sending() -> Option<()> {
    SENDING.load(Ordering::Relaxed).then_some(())
}

/// Begins the span of a message; nothing while no spans are sent.
pub(super) fn work(
    parent: Option<&TraceContext>,
    work: &Work,
    queue: &str,
    redelivered: bool,
) -> Option<(Span, Place)> {
    is_sending()?;
    let (stage, key) = (work.stage.as_str(), work.key.to_string());
    let span = info_span!(
        target: TARGET,
        parent: None,
        "work",
        "otel.name" = format!("{stage} {}", work.scheme),
        "otel.kind" = "consumer",
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
        "messaging.system" = "rabbitmq",
        "messaging.operation.type" = "process",
        "messaging.destination.name" = queue,
        "messaging.message.id" = work.id.as_str(),
        "scheme" = work.scheme,
        "stage" = stage,
        "record.key" = key,
        "attempt" = work.attempt,
        "origin" = work.origin.as_str(),
        "redelivered" = redelivered,
        "verdict" = Empty,
        "kind" = Empty,
        "fault" = Empty,
    );
    begun(parent, span)
}

/// Begins the span of a request with documents.
pub(super) fn push(parent: Option<&TraceContext>, scheme: &str) -> Option<(Span, Place)> {
    is_sending()?;
    let span = info_span!(
        target: TARGET,
        parent: None,
        "push",
        "otel.name" = format!("push {scheme}"),
        "otel.kind" = "server",
        "scheme" = scheme,
    );
    begun(parent, span)
}

/// The place that the library has given a span.
fn begun(parent: Option<&TraceContext>, span: Span) -> Option<(Span, Place)> {
    if let Some(parent) = parent {
        // It fails for a span that nobody records, and that has no place below.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote(parent)));
    }
    let place = place_of(&span)?;
    let trace_id = u128::from_be_bytes(place.trace_id().to_bytes());
    let span_id = u64::from_be_bytes(place.span_id().to_bytes());
    Some((span, Place { trace_id, span_id, sampled: place.is_sampled() }))
}

fn place_of(span: &Span) -> Option<SpanContext> {
    let place = span.context().span().span_context().clone();
    place.is_valid().then_some(place)
}

fn remote(parent: &TraceContext) -> SpanContext {
    let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = parent.state().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace_id, span_id) = (TraceId::from(parent.trace_id()), SpanId::from(parent.span_id()));
    SpanContext::new(trace_id, span_id, flags, true, state)
}

/// Begins the span of a batch with links to the messages and back; nothing when none of them is recorded.
pub(super) fn batch<'a>(spans: impl Iterator<Item = &'a Span>, queue: &str) -> Option<Span> {
    is_sending()?;
    let works: Vec<(&Span, SpanContext)> = spans
        .filter_map(|span| Some((span, place_of(span)?)))
        .filter(|(_, place)| place.is_sampled())
        .collect();
    if works.is_empty() {
        return None;
    }
    let batch = info_span!(
        target: TARGET,
        parent: None,
        "batch",
        "otel.name" = format!("batch {queue}"),
        "otel.kind" = "internal",
        "messaging.system" = "rabbitmq",
        "messaging.destination.name" = queue,
        "batch.works" = works.len(),
    );
    works.iter().for_each(|(_, place)| batch.add_link(place.clone()));
    let own = place_of(&batch)?;
    works.iter().for_each(|(span, _)| span.add_link(own.clone()));
    Some(batch)
}

/// Notes what was judged.
pub(super) fn judged(span: &Span, verdict: &Verdict) {
    let failed = |word: &str, failure: &Failure| {
        span.record("verdict", word);
        span.record("kind", failure.kind.as_str());
        span.record("fault", failure.fault.as_str());
        span.record("otel.status_code", "ERROR");
        // The kind alone: a text may quote the document.
        span.record("otel.status_description", failure.kind.as_str());
    };
    match verdict {
        Verdict::Done => {
            span.record("verdict", "done");
        }
        Verdict::Retry { failure, .. } => failed("retry", failure),
        Verdict::Dead { failure } => failed("dead", failure),
    }
}

/// Records a call that has just ended, within the span that the work is in.
pub(crate) fn call(system: &str, operation: &'static str, outcome: &'static str, took: Duration) {
    if is_sending().is_none() {
        return;
    }
    let within = Span::current().context();
    if !within.span().span_context().is_sampled() {
        return;
    }
    let Some(tracer) = TRACER.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
    let ended = SystemTime::now();
    let attributes = [("erp.system", system.to_owned()), ("erp.operation", operation.to_owned())];
    let mut attributes: Vec<KeyValue> = attributes.map(|(key, value)| KeyValue::new(key, value)).into();
    attributes.push(KeyValue::new("outcome", outcome));
    let builder = SpanBuilder::from_name(format!("{system} {operation}"))
        .with_kind(SpanKind::Client)
        .with_start_time(ended.checked_sub(took).unwrap_or(ended))
        .with_attributes(attributes);
    drop(tracer.build_with_context(builder, &within));
}
