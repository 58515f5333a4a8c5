//! Every metric, label and log field by name, once. Dashboards, alerts and log searches are built on them.

/// A metric of Kingpost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// `kingpost_<noun>_<unit>[_total]`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The names of its labels, in the order their values are given.
    pub labels: &'static [&'static str],
    /// What one is: seconds, works, publishes, …
    pub unit: &'static str,
    /// One sentence for the scrape and for the documentation.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

impl MetricKind {
    /// The word of the text format: `counter`, `gauge`, `histogram`.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        }
    }
}

/// Label names. Their values come from small closed sets, never from a document.
pub mod label {
    /// A scheme (集成方案), from its file.
    pub const SCHEME: &str = "scheme";
    /// `extract`, `transform` or `load`.
    pub const STAGE: &str = "stage";
    /// Kind of a failure.
    pub const KIND: &str = "kind";
    /// Whose fault a failure is.
    pub const FAULT: &str = "fault";
    /// `done`, `retry` or `dead`; of a comparison of both books, what was found under a number, such as `missing`.
    pub const VERDICT: &str = "verdict";
    /// How something ended, such as `ok`.
    pub const OUTCOME: &str = "outcome";
    /// A call of an ERP's interface, such as `save`.
    pub const OPERATION: &str = "operation";
    /// An ERP: `wdt` or `kingdee`.
    pub const SYSTEM: &str = "system";
    /// An account of an ERP by the name that schemes give it; `default` for the one without a name.
    pub const ACCOUNT: &str = "account";
    /// A retry tier, such as `30s`.
    pub const TIER: &str = "tier";
    /// The number of a shard of a scheme, `0` to `63`.
    pub const SHARD: &str = "shard";
    /// Why, in one word of a closed set.
    pub const REASON: &str = "reason";
    /// What a broker session is for: `publish` or `consume`.
    pub const ROLE: &str = "role";
    /// `true` when the broker says that it may have delivered the message before.
    pub const REDELIVERED: &str = "redelivered";
    /// How a second document was prevented, such as `found_before_posting`.
    pub const HOW: &str = "how";
    /// Whose certificate it is: `peer` or `trusted`.
    pub const WHICH: &str = "which";
    /// Version of the program.
    pub const VERSION: &str = "version";
    /// Source revision of the program.
    pub const REVISION: &str = "revision";

    /// All of them.
    pub const ALL: &[&str] = &[
        SCHEME,
        STAGE,
        KIND,
        FAULT,
        VERDICT,
        OUTCOME,
        OPERATION,
        SYSTEM,
        ACCOUNT,
        TIER,
        SHARD,
        REASON,
        ROLE,
        REDELIVERED,
        HOW,
        WHICH,
        VERSION,
        REVISION,
    ];
}

/// Fields of log lines and spans. A body is never one of them.
pub mod field {
    /// Id of a message.
    pub const MESSAGE_ID: &str = "message.id";
    /// A scheme.
    pub const SCHEME: &str = "scheme";
    /// A stage.
    pub const STAGE: &str = "stage";
    /// Document type and number.
    pub const RECORD_KEY: &str = "record.key";
    /// The how manieth counted try.
    pub const ATTEMPT: &str = "attempt";
    /// `live`, `backfill`, `remedy` or `replay`.
    pub const ORIGIN: &str = "origin";
    /// Kind of a failure.
    pub const KIND: &str = "kind";
    /// Whose fault a failure is.
    pub const FAULT: &str = "fault";
    /// `done`, `retry` or `dead`.
    pub const VERDICT: &str = "verdict";
    /// A queue.
    pub const QUEUE: &str = "queue";
    /// A retry tier.
    pub const TIER: &str = "tier";
    /// Why something happened.
    pub const REASON: &str = "reason";
    /// An error with its causes.
    pub const ERROR: &str = "error";
    /// An ERP's own error code.
    pub const CODE: &str = "code";
    /// A call of an ERP's interface.
    pub const OPERATION: &str = "operation";
    /// A number of things.
    pub const COUNT: &str = "count";
    /// A duration in seconds.
    pub const SECONDS: &str = "seconds";
    /// An address listened on or connected to, without credentials.
    pub const ADDRESS: &str = "address";
    /// Version of the program.
    pub const VERSION: &str = "version";
    /// Source revision of the program.
    pub const REVISION: &str = "revision";
    /// The trace that a document belongs to: 32 hexadecimal digits.
    pub const TRACE_ID: &str = "trace_id";
    /// The span of the stage's try: 16 hexadecimal digits.
    pub const SPAN_ID: &str = "span_id";

    /// All of them.
    pub const ALL: &[&str] = &[
        MESSAGE_ID, SCHEME, STAGE, RECORD_KEY, ATTEMPT, ORIGIN, KIND, FAULT, VERDICT, QUEUE, TIER, REASON,
        ERROR, CODE, OPERATION, COUNT, SECONDS, ADDRESS, VERSION, REVISION, TRACE_ID, SPAN_ID,
    ];
}

/// What the process reports of itself on Linux, under the names every exporter uses.
pub const PROCESS_METRICS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// From a confirm on the same machine to the longest call of an ERP: requests, stages, confirms.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0,
    300.0,
];
/// AMQP's timestamps are whole seconds; 900 s is a bound for the sake of the delivery objective.
const QUEUE_SECONDS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0];
const BATCH_WORKS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
/// 900 s is a bound of its own, because the delivery objective is 15 minutes.
const AGE_SECONDS: &[f64] = &[
    10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0,
    259_200.0,
];
const WINDOW_DOCUMENTS: &[f64] =
    &[0.0, 1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

/// Writes one constant and one row of [`METRICS`] from one line, so that neither can be without the other.
macro_rules! metrics {
    ($($id:ident $name:literal $kind:expr, [$($label:ident),*], $unit:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: MetricInfo = MetricInfo {
                name: $name,
                kind: $kind,
                labels: &[$(label::$label),*],
                unit: $unit,
                help: $help,
            };
        )*
        /// Every metric of Kingpost, in the order of the documentation.
        pub const METRICS: &[MetricInfo] = &[$($id),*];
    };
}

use MetricKind::{Counter, Gauge, Histogram};

metrics! {
    WORKS_RECEIVED "kingpost_works_received_total" Counter, [SCHEME, STAGE, REDELIVERED], "works",
        "Messages the broker delivered to a stage.";
    WORKS_INFLIGHT "kingpost_inflight_works" Gauge, [SCHEME, STAGE], "works",
        "Messages of the batches that a stage is processing.";
    QUEUE_WAIT "kingpost_queue_wait_seconds" Histogram(QUEUE_SECONDS), [SCHEME, STAGE], "seconds",
        "Time a message waited in its queue: from its publish, or its return from a retry tier, until a stage took it; to the second.";
    OLDEST_UNSETTLED "kingpost_oldest_unsettled_seconds" Gauge, [SCHEME, STAGE], "seconds",
        "Age of the oldest message that a stage has taken and not settled, since its publish or its return from a retry tier; 0 while it has none.";
    VERDICTS "kingpost_verdicts_total" Counter, [SCHEME, STAGE, VERDICT], "works",
        "Works a stage has judged: done, retry or dead.";
    FAILURES "kingpost_failures_total" Counter, [SCHEME, STAGE, KIND, FAULT], "works",
        "Works judged retry or dead, by kind of failure and by whose fault it is.";
    RETRY_SCHEDULED "kingpost_retry_scheduled_total" Counter, [SCHEME, STAGE, KIND, TIER], "works",
        "Works put into a retry tier, by kind of failure.";
    DEAD_LETTERED "kingpost_dead_lettered_total" Counter, [SCHEME, STAGE, KIND], "works",
        "Works whose dead letter the broker has confirmed, by kind of failure.";
    DOCUMENTS_DEAD "kingpost_documents_dead_total" Counter, [SCHEME, STAGE, KIND], "documents",
        "Live documents that became dead letters, by kind of failure; not of backfills, second looks and replays.";
    DELIVERY_LIMIT "kingpost_delivery_limit_total" Counter, [SCHEME, STAGE], "works",
        "Works judged without being processed, because 20 deliveries of them had ended without a settlement.";
    STAGE_SECONDS_SPENT "kingpost_stage_seconds" Histogram(SECONDS), [SCHEME, STAGE], "seconds",
        "Time a stage took for one batch.";
    BATCH_SIZE "kingpost_batch_works" Histogram(BATCH_WORKS), [SCHEME, STAGE], "works",
        "Works in one batch.";
    LAST_PROGRESS "kingpost_last_progress_timestamp_seconds" Gauge, [SCHEME, STAGE], "seconds",
        "Unix time at which a stage last settled a work; 0 before the first.";
    DOCUMENT_AGE "kingpost_document_age_seconds" Histogram(AGE_SECONDS), [SCHEME], "seconds",
        "Time from a live document's change in the source to its settlement in the target; not of backfills, second looks and replays.";
    SCHEME_PAUSED "kingpost_scheme_paused" Gauge, [SCHEME, STAGE, REASON], "flag",
        "1 while a stage holds a scheme back, 0 after it has gone on.";
    SHARD_ACTIVE "kingpost_shard_active" Gauge, [SCHEME, SHARD], "flag",
        "1 while this loader is the active one of a shard, as its deliveries show; a scheme without shards is shard 0.";
    WRITE_IN_DOUBT "kingpost_write_in_doubt" Gauge, [SCHEME, SHARD], "flag",
        "1 while this loader keeps a delivery of a shard unsettled, because a write may still take effect.";
    PUBLISHED "kingpost_published_total" Counter, [], "publishes",
        "Messages published and confirmed by the broker.";
    PUBLISH_CONFIRM "kingpost_publish_confirm_seconds" Histogram(SECONDS), [], "seconds",
        "Time from a publish to the broker's confirm.";
    PUBLISH_UNROUTABLE "kingpost_publish_unroutable_total" Counter, [], "publishes",
        "Messages the broker returned because no queue would take them.";
    PUBLISH_NACKED "kingpost_publish_nacked_total" Counter, [], "publishes",
        "Messages the broker refused, such as by a full queue.";
    PUBLISH_RETRIED "kingpost_publish_retried_total" Counter, [], "publishes",
        "Messages published again under their id because the first confirm never came.";
    ACK_LOST "kingpost_ack_lost_total" Counter, [], "works",
        "Settlements that did not reach the broker because the session of the delivery was gone.";
    SESSION_REBUILDS "kingpost_session_rebuilds_total" Counter, [ROLE, REASON], "sessions",
        "Broker sessions built anew after the first.";
    CONNECTION_BLOCKED "kingpost_connection_blocked" Gauge, [ROLE], "flag",
        "1 while the broker blocks a connection by a memory or disk alarm.";
    CONNECTION_BLOCKED_SECONDS "kingpost_connection_blocked_seconds_total" Counter, [ROLE], "seconds",
        "Time a connection has been blocked by the broker.";
    ERP_REQUEST "kingpost_erp_request_seconds" Histogram(SECONDS), [SYSTEM, OPERATION, OUTCOME], "seconds",
        "Time a request to an ERP took.";
    ERP_UNCLEAR "kingpost_erp_unclear_total" Counter, [SYSTEM], "documents",
        "Posts whose outcome was unknown and had to be looked up.";
    ERP_DUPLICATES_PREVENTED "kingpost_erp_duplicates_prevented_total" Counter, [SYSTEM, HOW], "documents",
        "Documents found in the ERP that would otherwise have been posted a second time.";
    ERP_DUPLICATES_FOUND "kingpost_erp_duplicates_found_total" Counter, [SYSTEM], "documents",
        "Numbers that more than one document of the ERP was found to have: what must never happen.";
    CERTIFICATE_EXPIRY "kingpost_certificate_expiry_timestamp_seconds" Gauge, [SYSTEM, WHICH], "seconds",
        "Unix time at which the first certificate of a system expires: of its server (peer), or of the file of authorities that is trusted for it (trusted).";
    SECRET_EXPIRY "kingpost_secret_expiry_timestamp_seconds" Gauge, [SYSTEM], "seconds",
        "Unix time at which the first application secret of a system expires, as its settings say.";
    CHANGES "kingpost_changes_total" Counter, [SCHEME, OUTCOME], "documents",
        "Documents that differ from what stands in the target, or were cancelled in the source: ignored, reported, updated or withdrawn.";
    WINDOWS "kingpost_windows_total" Counter, [SCHEME, OUTCOME], "windows",
        "Windows of time read from the source.";
    WINDOW_SIZE "kingpost_window_documents" Histogram(WINDOW_DOCUMENTS), [SCHEME], "documents",
        "Distinct documents in a window that was read whole.";
    CURSOR_LAG "kingpost_cursor_lag_seconds" Gauge, [SCHEME], "seconds",
        "How far the confirmed cursor of a scheme is behind now; absent where another extractor leads.";
    BACKLOG_WINDOWS "kingpost_backlog_windows" Gauge, [SCHEME], "windows",
        "Windows of history, second looks and backfills that are still to be cut, behind the live ones; absent where another extractor leads.";
    RECONCILE_LAST "kingpost_reconcile_last_timestamp_seconds" Gauge, [SCHEME], "seconds",
        "Unix time at which the last comparison of both books ended; absent before the first, and where another extractor leads.";
    RECONCILE_PERIOD_END "kingpost_reconcile_period_end_timestamp_seconds" Gauge, [SCHEME], "seconds",
        "Unix time of the end of the period that was compared last.";
    RECONCILE_AGREES "kingpost_reconcile_agrees" Gauge, [SCHEME], "flag",
        "1 when both books agreed at the last comparison and nothing is left of those before, 0 when they differed, or did in a period that wasn't compared again.";
    RECONCILE_DOCUMENTS "kingpost_reconcile_documents" Gauge, [SCHEME, VERDICT], "documents",
        "Numbers by what comparisons of both books found (matched, missing, different and so on): the last one, and each before it in which they differed, until its whole period is compared again.";
    PUSH_REQUESTS "kingpost_push_requests_total" Counter, [OUTCOME], "requests",
        "Requests with pushed documents: accepted, refused (every document), unauthorized, invalid or unavailable.";
    PUSH_DOCUMENTS "kingpost_push_documents_total" Counter, [SCHEME, OUTCOME], "documents",
        "Pushed documents: accepted, refused, duplicate (twice in one request) or unconfirmed by the broker in time.";
    PUSH_SECONDS "kingpost_push_seconds" Histogram(SECONDS), [], "seconds",
        "Time from the head of a request with pushed documents to its answer.";
    ACCOUNT_LIMITS_MET "kingpost_account_limits_met_total" Counter, [SYSTEM, ACCOUNT], "limits",
        "Limits of an account that a call of this extractor has met.";
    ACCOUNT_CALLS_PER_MINUTE "kingpost_account_calls_per_minute" Gauge, [SYSTEM, ACCOUNT], "calls",
        "Calls a minute that this extractor allows itself for an account; 0 while no limit is known.";
    ACCOUNT_CLOSED_UNTIL "kingpost_account_closed_until_timestamp_seconds" Gauge, [SYSTEM, ACCOUNT], "seconds",
        "Unix time until which an account is left alone, in the past while its end is probed; 0 while it is open.";
    LOG_LINES_DROPPED "kingpost_log_lines_dropped_total" Counter, [], "lines",
        "Log lines lost because the standard error output would not take them.";
    JOURNAL_DROPPED "kingpost_journal_dropped_total" Counter, [], "events",
        "Events of the journal given up because RabbitMQ did not take them in time.";
    SPANS_DROPPED "kingpost_spans_dropped_total" Counter, [], "spans",
        "Spans given up because the collector did not take them, or not fast enough.";
    BUILD_INFO "kingpost_build_info" Gauge, [VERSION, REVISION], "flag",
        "Always 1; the labels say which program runs.";
}

/// [`METRICS`] as a Markdown table, for the documentation between its markers.
pub fn markdown_table() -> String {
    let mut table = String::from("| metric | kind | labels | unit | meaning |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let cells = [&format!("`{}`", metric.name), metric.kind.as_str(), &labels, metric.unit, metric.help];
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
}
