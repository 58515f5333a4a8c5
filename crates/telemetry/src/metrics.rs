//! The registry, and the families that the handles take their children from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use kingpost_model::StageName;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
    core::Collector, proto::MetricFamily,
};

use crate::expiry::{self, Expiries};
use crate::hand::{Hand, now_ms};
use crate::names::{self, MetricInfo, MetricKind};
use crate::publishing::Blockage;
use crate::{
    AccountMetrics, ChangeMetrics, ErpMetrics, ExtractionMetrics, LaneMetrics, PublisherMetrics, PushMetrics,
    ReconciliationMetrics, SessionMetrics, logs, openmetrics,
};

/// Every metric of one program. Cheap to clone; clones share the numbers.
///
/// The handles it gives out hold their children ready, so counting a message is one atomic addition. Make a handle
/// once, not for every message.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    families: Families,
    /// Sessions that may be blocked just now, whose time is added up at every scrape.
    blockages: Mutex<Vec<Arc<Blockage>>>,
    /// By scheme and stage, what is in hand; the oldest is looked for at every scrape.
    hands: Mutex<BTreeMap<(String, StageName), Arc<Hand>>>,
    expiries: Expiries,
}

pub(crate) struct Families {
    pub(crate) works_received: IntCounterVec,
    pub(crate) works_inflight: GaugeVec,
    pub(crate) queue_wait: HistogramVec,
    oldest_unsettled: GaugeVec,
    pub(crate) verdicts: IntCounterVec,
    pub(crate) failures: IntCounterVec,
    pub(crate) retry_scheduled: IntCounterVec,
    pub(crate) dead_lettered: IntCounterVec,
    pub(crate) documents_dead: IntCounterVec,
    pub(crate) delivery_limit: IntCounterVec,
    pub(crate) stage_seconds: HistogramVec,
    pub(crate) batch_size: HistogramVec,
    pub(crate) last_progress: GaugeVec,
    pub(crate) document_age: HistogramVec,
    pub(crate) scheme_paused: GaugeVec,
    shard_active: GaugeVec,
    write_in_doubt: GaugeVec,
    pub(crate) published: IntCounterVec,
    pub(crate) publish_confirm: HistogramVec,
    pub(crate) publish_unroutable: IntCounterVec,
    pub(crate) publish_nacked: IntCounterVec,
    pub(crate) publish_retried: IntCounterVec,
    pub(crate) ack_lost: IntCounterVec,
    pub(crate) session_rebuilds: IntCounterVec,
    pub(crate) connection_blocked: GaugeVec,
    pub(crate) connection_blocked_seconds: CounterVec,
    pub(crate) erp_request: HistogramVec,
    pub(crate) erp_unclear: IntCounterVec,
    pub(crate) erp_duplicates_prevented: IntCounterVec,
    pub(crate) erp_duplicates_found: IntCounterVec,
    certificate_expiry: GaugeVec,
    secret_expiry: GaugeVec,
    pub(crate) changes: IntCounterVec,
    pub(crate) windows: IntCounterVec,
    pub(crate) window_size: HistogramVec,
    pub(crate) cursor_lag: GaugeVec,
    pub(crate) backlog_windows: GaugeVec,
    pub(crate) reconcile_last: GaugeVec,
    pub(crate) reconcile_period_end: GaugeVec,
    pub(crate) reconcile_agrees: GaugeVec,
    pub(crate) reconcile_documents: GaugeVec,
    pub(crate) push_requests: IntCounterVec,
    pub(crate) push_documents: IntCounterVec,
    pub(crate) push_seconds: HistogramVec,
    pub(crate) account_limits_met: IntCounterVec,
    pub(crate) account_calls_per_minute: GaugeVec,
    pub(crate) account_closed_until: GaugeVec,
    journal_dropped: IntCounterVec,
    spans_dropped: IntCounterVec,
    build_info: GaugeVec,
}

impl Metrics {
    /// A registry of its own with every family of [`names::METRICS`] and the metrics of the process.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families::registered(&registry);
        register(&registry, logs::dropped_counter().clone());
        #[cfg(target_os = "linux")]
        valid(registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self())));
        let (blockages, hands, expiries) = (Mutex::default(), Mutex::default(), Expiries::default());
        Metrics { inner: Arc::new(Inner { registry, families, blockages, hands, expiries }) }
    }

    /// Says which program runs. `revision` is that of the source, or `unknown`.
    pub fn build_info(&self, version: &str, revision: &str) {
        self.families().build_info.with_label_values(&[version, revision]).set(1.0);
    }

    /// The handle of one scheme at one stage; its queues may have one each.
    pub fn lane(&self, scheme: &str, stage: StageName) -> LaneMetrics {
        let mut hands = self.inner.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = Arc::clone(hands.entry((scheme.to_owned(), stage)).or_default());
        drop(hands);
        LaneMetrics::new(self.clone(), scheme, stage, hand)
    }

    /// The server of a system showed this certificate (DER). `address` tells the servers of several accounts apart.
    pub fn peer_certificate(&self, system: &str, address: &str, der: &[u8]) {
        if let Some(unix_s) = expiry::of_der(der) {
            let gauge = &self.families().certificate_expiry;
            self.inner.expiries.set(gauge, &[system, "peer"], address, unix_s);
        }
    }

    /// The certificates of this PEM file are trusted for a system.
    pub fn trusted_certificates(&self, system: &str, file: &Path) {
        if let Some(unix_s) = expiry::of_file(file) {
            let gauge = &self.families().certificate_expiry;
            self.inner.expiries.set(gauge, &[system, "trusted"], &file.to_string_lossy(), unix_s);
        }
    }

    /// The application secret of an account of a system expires then, in seconds since the epoch.
    pub fn secret_expires(&self, system: &str, account: &str, unix_s: i64) {
        self.inner.expiries.set(&self.families().secret_expiry, &[system], account, unix_s);
    }

    /// Whether a delivery of a shard is kept because a write may still take effect.
    pub fn write_in_doubt(&self, scheme: &str, shard: u32, kept: bool) {
        let labels = [scheme, &shard.to_string()];
        self.families().write_in_doubt.with_label_values(&labels).set(if kept { 1.0 } else { 0.0 });
    }

    /// Whether this loader is the active one of a shard; a scheme without shards is shard 0.
    pub fn shard_active(&self, scheme: &str, shard: u32, active: bool) {
        let labels = [scheme, &shard.to_string()];
        self.families().shard_active.with_label_values(&labels).set(if active { 1.0 } else { 0.0 });
    }

    /// Events of the journal were given up; with 0 the number is there from the first scrape on.
    pub fn journal_dropped(&self, events: usize) {
        let none: &[&str] = &[];
        self.families().journal_dropped.with_label_values(none).inc_by(events as u64);
    }

    /// Spans were given up; with 0 the number is there from the first scrape on.
    pub fn spans_dropped(&self, spans: usize) {
        let none: &[&str] = &[];
        self.families().spans_dropped.with_label_values(none).inc_by(spans as u64);
    }

    /// The handle of the publisher.
    pub fn publisher(&self) -> PublisherMetrics {
        PublisherMetrics::new(self.families())
    }

    /// The handle of a broker session; `role` is `publish` or `consume`. One handle serves all rebuilt sessions of a role.
    pub fn session(&self, role: &'static str) -> SessionMetrics {
        let (session, blockage) = SessionMetrics::new(self.clone(), role);
        self.inner.blockages.lock().unwrap_or_else(PoisonError::into_inner).push(blockage);
        session
    }

    /// The handle of an ERP; `system` is `wdt` or `kingdee`.
    pub fn erp(&self, system: &str) -> ErpMetrics {
        ErpMetrics::new(self.clone(), system)
    }

    /// The handle of the changed documents of one scheme.
    pub fn changes(&self, scheme: &str) -> ChangeMetrics {
        ChangeMetrics::new(self.families(), scheme)
    }

    /// The handle of one scheme's extraction.
    pub fn extraction(&self, scheme: &str) -> ExtractionMetrics {
        ExtractionMetrics::new(self.clone(), scheme)
    }

    /// The handle of the comparisons of one scheme's books.
    pub fn reconciliation(&self, scheme: &str) -> ReconciliationMetrics {
        ReconciliationMetrics::new(self.clone(), scheme)
    }

    /// The handle of one account of an ERP.
    pub fn account(&self, system: &str, account: &str) -> AccountMetrics {
        AccountMetrics::new(self.families(), system, account)
    }

    /// The handle of documents that are pushed.
    pub fn push(&self) -> PushMetrics {
        PushMetrics::new(self.clone())
    }

    /// Everything in the Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// The encoder refuses a family; a bug of ours.
    pub fn render(&self) -> Result<String, RenderError> {
        TextEncoder::new().encode_to_string(&self.gather()).map_err(|error| RenderError(error.to_string()))
    }

    /// Everything in the OpenMetrics text format 1.0.
    pub fn render_openmetrics(&self) -> String {
        openmetrics::encode(&self.gather())
    }

    /// Every family, with what is reckoned at a scrape brought up to date.
    fn gather(&self) -> Vec<MetricFamily> {
        let blockages = self.inner.blockages.lock().unwrap_or_else(PoisonError::into_inner).clone();
        blockages.iter().for_each(|blockage| blockage.add_up());
        let now_ms = now_ms();
        let hands = self.inner.hands.lock().unwrap_or_else(PoisonError::into_inner);
        for ((scheme, stage), hand) in hands.iter() {
            let oldest = self.families().oldest_unsettled.with_label_values(&[scheme, stage.as_str()]);
            oldest.set(hand.oldest_seconds(now_ms));
        }
        drop(hands);
        self.inner.registry.gather()
    }

    pub(crate) fn families(&self) -> &Families {
        &self.inner.families
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The metrics could not be written as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError(String);

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the metrics can't be written as text: {}; report this as a bug", self.0)
    }
}

impl std::error::Error for RenderError {}

impl Families {
    fn registered(r: &Registry) -> Self {
        Families {
            works_received: counter(r, &names::WORKS_RECEIVED),
            works_inflight: gauge(r, &names::WORKS_INFLIGHT),
            queue_wait: histogram(r, &names::QUEUE_WAIT),
            oldest_unsettled: gauge(r, &names::OLDEST_UNSETTLED),
            verdicts: counter(r, &names::VERDICTS),
            failures: counter(r, &names::FAILURES),
            retry_scheduled: counter(r, &names::RETRY_SCHEDULED),
            dead_lettered: counter(r, &names::DEAD_LETTERED),
            documents_dead: counter(r, &names::DOCUMENTS_DEAD),
            delivery_limit: counter(r, &names::DELIVERY_LIMIT),
            stage_seconds: histogram(r, &names::STAGE_SECONDS_SPENT),
            batch_size: histogram(r, &names::BATCH_SIZE),
            last_progress: gauge(r, &names::LAST_PROGRESS),
            document_age: histogram(r, &names::DOCUMENT_AGE),
            scheme_paused: gauge(r, &names::SCHEME_PAUSED),
            shard_active: gauge(r, &names::SHARD_ACTIVE),
            write_in_doubt: gauge(r, &names::WRITE_IN_DOUBT),
            published: counter(r, &names::PUBLISHED),
            publish_confirm: histogram(r, &names::PUBLISH_CONFIRM),
            publish_unroutable: counter(r, &names::PUBLISH_UNROUTABLE),
            publish_nacked: counter(r, &names::PUBLISH_NACKED),
            publish_retried: counter(r, &names::PUBLISH_RETRIED),
            ack_lost: counter(r, &names::ACK_LOST),
            session_rebuilds: counter(r, &names::SESSION_REBUILDS),
            connection_blocked: gauge(r, &names::CONNECTION_BLOCKED),
            connection_blocked_seconds: seconds_counter(r, &names::CONNECTION_BLOCKED_SECONDS),
            erp_request: histogram(r, &names::ERP_REQUEST),
            erp_unclear: counter(r, &names::ERP_UNCLEAR),
            erp_duplicates_prevented: counter(r, &names::ERP_DUPLICATES_PREVENTED),
            erp_duplicates_found: counter(r, &names::ERP_DUPLICATES_FOUND),
            certificate_expiry: gauge(r, &names::CERTIFICATE_EXPIRY),
            secret_expiry: gauge(r, &names::SECRET_EXPIRY),
            changes: counter(r, &names::CHANGES),
            windows: counter(r, &names::WINDOWS),
            window_size: histogram(r, &names::WINDOW_SIZE),
            cursor_lag: gauge(r, &names::CURSOR_LAG),
            backlog_windows: gauge(r, &names::BACKLOG_WINDOWS),
            reconcile_last: gauge(r, &names::RECONCILE_LAST),
            reconcile_period_end: gauge(r, &names::RECONCILE_PERIOD_END),
            reconcile_agrees: gauge(r, &names::RECONCILE_AGREES),
            reconcile_documents: gauge(r, &names::RECONCILE_DOCUMENTS),
            push_requests: counter(r, &names::PUSH_REQUESTS),
            push_documents: counter(r, &names::PUSH_DOCUMENTS),
            push_seconds: histogram(r, &names::PUSH_SECONDS),
            account_limits_met: counter(r, &names::ACCOUNT_LIMITS_MET),
            account_calls_per_minute: gauge(r, &names::ACCOUNT_CALLS_PER_MINUTE),
            account_closed_until: gauge(r, &names::ACCOUNT_CLOSED_UNTIL),
            journal_dropped: counter(r, &names::JOURNAL_DROPPED),
            spans_dropped: counter(r, &names::SPANS_DROPPED),
            build_info: gauge(r, &names::BUILD_INFO),
        }
    }
}

fn counter(registry: &Registry, info: &MetricInfo) -> IntCounterVec {
    register(registry, valid(IntCounterVec::new(Opts::new(info.name, info.help), info.labels)))
}

fn seconds_counter(registry: &Registry, info: &MetricInfo) -> CounterVec {
    register(registry, valid(CounterVec::new(Opts::new(info.name, info.help), info.labels)))
}

fn gauge(registry: &Registry, info: &MetricInfo) -> GaugeVec {
    register(registry, valid(GaugeVec::new(Opts::new(info.name, info.help), info.labels)))
}

fn histogram(registry: &Registry, info: &MetricInfo) -> HistogramVec {
    let buckets = match info.kind {
        MetricKind::Histogram(buckets) => buckets,
        MetricKind::Counter | MetricKind::Gauge => &[],
    };
    let opts = HistogramOpts::new(info.name, info.help).buckets(buckets.to_vec());
    register(registry, valid(HistogramVec::new(opts, info.labels)))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    valid(registry.register(Box::new(collector.clone())));
    collector
}

#[expect(clippy::expect_used, reason = "names are constants, and a test registers every one of them")]
pub(crate) fn valid<T>(made: prometheus::Result<T>) -> T {
    made.expect("the metrics of the table are valid and not registered twice")
}
