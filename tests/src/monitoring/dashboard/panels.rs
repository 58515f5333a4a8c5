//! What each panel shows.

use super::Look::{Flag, Lines, Number, Stack};
use super::{Panel, Row};

/// Every row.
pub(super) const ROWS: &[Row] = &[
    Row { title: "At a glance", panels: GLANCE },
    Row {
        title: "The way of the documents: WDT → extract → transform → load → Kingdee", panels: FLOW
    },
    Row { title: "What was tried again, and what was given up", panels: FAILURES },
    Row { title: "WDT and Kingdee", panels: ERPS },
    Row { title: "RabbitMQ", panels: BROKER },
    Row { title: "Both books, and the workers", panels: BOOKS },
];

const GLANCE: &[Panel] = &[
    Panel {
        title: "Late documents, 1 h",
        look: Number(Some(14)),
        unit: "percentunit",
        about: "Share of live documents that took longer than 15 minutes, or died after long tries. The objective is 0.1 %.",
        queries: &[("max(kingpost:documents_late:ratio_rate1h{scheme=~\"$scheme\"})", "")],
        alerts: &["KingpostDeliveryBudgetBurnsFast", "KingpostDeliveryBudgetBurnsSlowly"],
    },
    Panel {
        title: "Done in Kingdee, 1 h",
        look: Number(None),
        unit: "short",
        about: "Documents that the loaders have settled within the last hour.",
        queries: &[(
            "round(sum(increase(kingpost_verdicts_total{scheme=~\"$scheme\", stage=\"load\", verdict=\"done\"}[1h])))",
            "",
        )],
        alerts: &["KingpostWorkerSilent"],
    },
    Panel {
        title: "Reading is behind",
        look: Number(Some(1_800_000)),
        unit: "s",
        about: "How far the cursor is behind the clock; the scheme's lag is its floor.",
        queries: &[("max(kingpost_cursor_lag_seconds{scheme=~\"$scheme\"})", "")],
        alerts: &["KingpostCursorStuck"],
    },
    Panel {
        title: "Dead letters",
        look: Number(Some(1_000)),
        unit: "short",
        about: "What waits for a person: kingpost dead list.",
        queries: &[("sum(kingpost:dead_letters:sum{scheme=~\"$scheme\", stage=~\"$stage\"})", "")],
        alerts: &["KingpostDeadLetters", "KingpostWindowDead"],
    },
    Panel {
        title: "Paused stages",
        look: Number(Some(1_000)),
        unit: "short",
        about: "Stages that hold a scheme back: an outage, a limit, credentials, or twenty dead letters of one cause.",
        queries: &[(
            "count(max by (scheme, stage) (kingpost_scheme_paused{scheme=~\"$scheme\", stage=~\"$stage\"}) == 1) or vector(0)",
            "",
        )],
        alerts: &["KingpostSchemePaused", "KingpostErpDown", "KingpostErpThrottled"],
    },
    Panel {
        title: "Both books agree",
        look: Flag,
        unit: "bool_yes_no",
        about: "What the last kingpost reconcile found; empty before the first.",
        queries: &[("min(kingpost_reconcile_agrees{scheme=~\"$scheme\"})", "")],
        alerts: &["KingpostReconcileDiffers", "KingpostDocumentMissing"],
    },
];

const FLOW: &[Panel] = &[
    Panel {
        title: "Done, by stage",
        look: Lines,
        unit: "ops",
        about: "extract counts windows of time; transform and load count documents.",
        queries: &[(
            "sum by (stage) (rate(kingpost_verdicts_total{scheme=~\"$scheme\", stage=~\"$stage\", verdict=\"done\"}[$__rate_interval]))",
            "{{stage}}",
        )],
        alerts: &["KingpostWorkerSilent", "KingpostStageAbsent"],
    },
    Panel {
        title: "Waiting, by stage",
        look: Stack,
        unit: "short",
        about: "Messages that no worker has in hand yet, as RabbitMQ counts them. The highest names the slow stage.",
        queries: &[(
            "kingpost:queue_ready:sum{scheme=~\"$scheme\", stage=~\"$stage\"}",
            "{{stage}} {{scheme}}",
        )],
        alerts: &["KingpostQueueUnread"],
    },
    Panel {
        title: "Age at the end: from WDT to Kingdee",
        look: Lines,
        unit: "s",
        about: "Time from a live document's change in WDT to its settlement in Kingdee.",
        queries: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(kingpost_document_age_seconds_bucket{scheme=~\"$scheme\"}[$__rate_interval])))",
                "half",
            ),
            (
                "histogram_quantile(0.95, sum by (le) (rate(kingpost_document_age_seconds_bucket{scheme=~\"$scheme\"}[$__rate_interval])))",
                "95 %",
            ),
        ],
        alerts: &["KingpostDeliveryBudgetBurnsFast"],
    },
    Panel {
        title: "Time in the queue, 95 %",
        look: Lines,
        unit: "s",
        about: "From the publish of a message, or its return from a tier, until a stage took it.",
        queries: &[(
            "histogram_quantile(0.95, sum by (le, stage) (rate(kingpost_queue_wait_seconds_bucket{scheme=~\"$scheme\", stage=~\"$stage\"}[$__rate_interval])))",
            "{{stage}}",
        )],
        alerts: &["KingpostDocumentsLate", "KingpostDocumentsStuck"],
    },
    Panel {
        title: "Oldest message in hand",
        look: Lines,
        unit: "s",
        about: "Age of the oldest message that a worker has taken and not settled.",
        queries: &[(
            "max by (stage) (kingpost_oldest_unsettled_seconds{scheme=~\"$scheme\", stage=~\"$stage\"})",
            "{{stage}}",
        )],
        alerts: &["KingpostDocumentsLate", "KingpostDocumentsStuck"],
    },
    Panel {
        title: "Late documents",
        look: Lines,
        unit: "percentunit",
        about: "Share of late documents over several ranges. A page at 1.44 % for an hour or 0.6 % for six.",
        queries: &[
            ("kingpost:documents_late:ratio_rate5m{scheme=~\"$scheme\"}", "5 m"),
            ("kingpost:documents_late:ratio_rate1h{scheme=~\"$scheme\"}", "1 h"),
            ("kingpost:documents_late:ratio_rate6h{scheme=~\"$scheme\"}", "6 h"),
        ],
        alerts: &["KingpostDeliveryBudgetBurnsFast", "KingpostDeliveryBudgetBurnsSlowly"],
    },
];

const FAILURES: &[Panel] = &[
    Panel {
        title: "Dead letters, by cause",
        look: Stack,
        unit: "short",
        about: "New dead letters by stage and kind. Data kinds need a person at the source or at Kingdee.",
        queries: &[(
            "sum by (stage, kind) (increase(kingpost_dead_lettered_total{scheme=~\"$scheme\", stage=~\"$stage\"}[$__rate_interval])) > 0",
            "{{stage}} {{kind}}",
        )],
        alerts: &["KingpostDeadLettersGrow", "KingpostBaseDataMissing", "KingpostUnclearParked"],
    },
    Panel {
        title: "Dead letters that wait",
        look: Stack,
        unit: "short",
        about: "What lies in the dead-letter queues until it is replayed or discarded.",
        queries: &[(
            "kingpost:dead_letters:sum{scheme=~\"$scheme\", stage=~\"$stage\"}",
            "{{stage}} {{scheme}}",
        )],
        alerts: &["KingpostDeadLetters", "KingpostWindowDead"],
    },
    Panel {
        title: "Tried again, by kind",
        look: Stack,
        unit: "ops",
        about: "Works that were put into a retry tier.",
        queries: &[(
            "sum by (stage, kind) (rate(kingpost_retry_scheduled_total{scheme=~\"$scheme\", stage=~\"$stage\"}[$__rate_interval]))",
            "{{stage}} {{kind}}",
        )],
        alerts: &["KingpostErpDown"],
    },
    Panel {
        title: "In the retry tiers",
        look: Stack,
        unit: "short",
        about: "Messages that wait for their next try, of all schemes.",
        queries: &[("kingpost:wait_messages:max", "{{queue}}")],
        alerts: &["KingpostWaitTierStuck"],
    },
    Panel {
        title: "Unclear posts and duplicates",
        look: Lines,
        unit: "short",
        about: "Posts without an answer; documents that were found before a second post; numbers with two documents, which must never be.",
        queries: &[
            ("sum(increase(kingpost_erp_unclear_total[$__rate_interval]))", "unclear"),
            ("sum(increase(kingpost_erp_duplicates_prevented_total[$__rate_interval]))", "prevented"),
            ("sum(increase(kingpost_erp_duplicates_found_total[$__rate_interval]))", "found"),
        ],
        alerts: &["KingpostDuplicateFound", "KingpostUnclearParked"],
    },
    Panel {
        title: "Paused",
        look: Stack,
        unit: "short",
        about: "1 while a stage holds a scheme back, by reason.",
        queries: &[(
            "max by (scheme, stage, reason) (kingpost_scheme_paused{scheme=~\"$scheme\", stage=~\"$stage\"})",
            "{{scheme}} {{stage}} {{reason}}",
        )],
        alerts: &["KingpostSchemePaused", "KingpostErpDown", "KingpostErpThrottled"],
    },
];

const ERPS: &[Panel] = &[
    Panel {
        title: "Calls of an ERP",
        look: Lines,
        unit: "reqps",
        about: "Requests per second, by operation.",
        queries: &[(
            "sum by (system, operation) (rate(kingpost_erp_request_seconds_count[$__rate_interval]))",
            "{{system}} {{operation}}",
        )],
        alerts: &["KingpostErpDown"],
    },
    Panel {
        title: "Time of a call, 95 %",
        look: Lines,
        unit: "s",
        about: "A batch of twenty documents is one call of save, submit or audit.",
        queries: &[(
            "histogram_quantile(0.95, sum by (le, system, operation) (rate(kingpost_erp_request_seconds_bucket[$__rate_interval])))",
            "{{system}} {{operation}}",
        )],
        alerts: &["KingpostDocumentsLate"],
    },
    Panel {
        title: "Calls that did not end well",
        look: Stack,
        unit: "reqps",
        about: "By outcome; `refused` also stands for a batch in which one document was refused.",
        queries: &[(
            "sum by (system, outcome) (rate(kingpost_erp_request_seconds_count{outcome!=\"ok\"}[$__rate_interval]))",
            "{{system}} {{outcome}}",
        )],
        alerts: &["KingpostErpDown"],
    },
    Panel {
        title: "Reading WDT",
        look: Lines,
        unit: "s",
        about: "How far the cursor is behind the clock.",
        queries: &[("max by (scheme) (kingpost_cursor_lag_seconds{scheme=~\"$scheme\"})", "{{scheme}}")],
        alerts: &["KingpostCursorStuck"],
    },
    Panel {
        title: "Windows",
        look: Stack,
        unit: "ops",
        about: "Windows of time read whole, handed on as halves, or failed.",
        queries: &[(
            "sum by (outcome) (rate(kingpost_windows_total{scheme=~\"$scheme\"}[$__rate_interval]))",
            "{{outcome}}",
        )],
        alerts: &["KingpostCursorStuck", "KingpostWindowDead"],
    },
    Panel {
        title: "Limits of the WDT account",
        look: Lines,
        unit: "short",
        about: "Calls a minute that all extractors allow themselves together, 0 while no limit is known; limits that were met.",
        queries: &[
            ("sum by (account) (kingpost_account_calls_per_minute)", "{{account}}: calls a minute"),
            (
                "sum by (account) (increase(kingpost_account_limits_met_total[$__rate_interval]))",
                "{{account}}: limits met",
            ),
        ],
        alerts: &["KingpostAccountClosed"],
    },
];

const BROKER: &[Panel] = &[
    Panel {
        title: "Published",
        look: Lines,
        unit: "ops",
        about: "Messages that RabbitMQ confirmed; returned, refused or published again are the exception.",
        queries: &[
            ("sum(rate(kingpost_published_total[$__rate_interval]))", "confirmed"),
            ("sum(rate(kingpost_publish_unroutable_total[$__rate_interval]))", "without a queue"),
            ("sum(rate(kingpost_publish_nacked_total[$__rate_interval]))", "refused"),
            ("sum(rate(kingpost_publish_retried_total[$__rate_interval]))", "again"),
        ],
        alerts: &["KingpostUnroutable", "KingpostPublishRefused"],
    },
    Panel {
        title: "Time to a confirm",
        look: Lines,
        unit: "s",
        about: "From a publish to RabbitMQ's word that it is on disk.",
        queries: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(kingpost_publish_confirm_seconds_bucket[$__rate_interval])))",
                "half",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(kingpost_publish_confirm_seconds_bucket[$__rate_interval])))",
                "99 %",
            ),
        ],
        alerts: &["KingpostBrokerAlarm"],
    },
    Panel {
        title: "Consumers, by stage",
        look: Lines,
        unit: "short",
        about: "Consumers of the work queues. A loader that stands by behind the active one doesn't count.",
        queries: &[(
            "kingpost:queue_consumers:sum{scheme=~\"$scheme\", stage=~\"$stage\"}",
            "{{stage}} {{scheme}}",
        )],
        alerts: &["KingpostQueueUnread", "KingpostStageAbsent"],
    },
    Panel {
        title: "Sessions built anew, settlements lost",
        look: Stack,
        unit: "short",
        about: "A lost session is an everyday matter; many of them are not.",
        queries: &[
            (
                "sum by (reason) (increase(kingpost_session_rebuilds_total[$__rate_interval]))",
                "session: {{reason}}",
            ),
            ("sum(increase(kingpost_ack_lost_total[$__rate_interval]))", "settlements lost"),
        ],
        alerts: &["KingpostAckLost"],
    },
    Panel {
        title: "Alarms",
        look: Stack,
        unit: "short",
        about: "1 while RabbitMQ has an alarm, or blocks a connection of a worker.",
        queries: &[
            ("max(rabbitmq_alarms_memory_used_watermark)", "memory"),
            ("max(rabbitmq_alarms_free_disk_space_watermark)", "disk"),
            ("max(rabbitmq_alarms_file_descriptor_limit)", "file descriptors"),
            ("max(kingpost_connection_blocked)", "blocked connection"),
        ],
        alerts: &["KingpostBrokerAlarm"],
    },
    Panel {
        title: "Memory of a node",
        look: Lines,
        unit: "bytes",
        about: "Resident memory of each RabbitMQ node.",
        queries: &[("max by (instance) (rabbitmq_process_resident_memory_bytes)", "{{instance}}")],
        alerts: &["KingpostBrokerAlarm", "KingpostBrokerDown", "KingpostBrokerNodeDown"],
    },
];

const BOOKS: &[Panel] = &[
    Panel {
        title: "The last reconciliation",
        look: Stack,
        unit: "short",
        about: "Numbers of both books by what was found, without those that agree.",
        queries: &[(
            "max by (scheme, verdict) (kingpost_reconcile_documents{scheme=~\"$scheme\", verdict!=\"matched\"})",
            "{{scheme}} {{verdict}}",
        )],
        alerts: &["KingpostDocumentMissing", "KingpostDuplicateFound", "KingpostReconcileDiffers"],
    },
    Panel {
        title: "Since the last reconciliation",
        look: Lines,
        unit: "s",
        about: "Eight days are too long.",
        queries: &[(
            "time() - max by (scheme) (kingpost_reconcile_last_timestamp_seconds{scheme=~\"$scheme\"})",
            "{{scheme}}",
        )],
        alerts: &["KingpostReconcileOverdue", "KingpostNeverReconciled"],
    },
    Panel {
        title: "History and backfills",
        look: Lines,
        unit: "short",
        about: "Windows that are still to be cut behind the live ones.",
        queries: &[("max by (scheme) (kingpost_backlog_windows{scheme=~\"$scheme\"})", "{{scheme}}")],
        alerts: &["KingpostCursorStuck"],
    },
    Panel {
        title: "Pushed documents",
        look: Stack,
        unit: "ops",
        about: "Documents that a sender pushed, by what became of them.",
        queries: &[(
            "sum by (outcome) (rate(kingpost_push_documents_total{scheme=~\"$scheme\"}[$__rate_interval]))",
            "{{outcome}}",
        )],
        alerts: &["KingpostPushUnavailable"],
    },
    Panel {
        title: "Memory of a worker",
        look: Lines,
        unit: "bytes",
        about: "Resident memory of each worker.",
        queries: &[(
            "process_resident_memory_bytes and on (job, instance) kingpost_build_info",
            "{{job}} {{instance}}",
        )],
        alerts: &["KingpostWorkerDown"],
    },
    Panel {
        title: "Processor time of a worker",
        look: Lines,
        unit: "percentunit",
        about: "Share of one processor.",
        queries: &[(
            "rate(process_cpu_seconds_total[$__rate_interval]) and on (job, instance) kingpost_build_info",
            "{{job}} {{instance}}",
        )],
        alerts: &["KingpostWorkerDown", "KingpostDeliveryLimitReached"],
    },
];
