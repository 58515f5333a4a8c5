//! The metrics that rules and panels may rest on, each with its labels.

use std::collections::BTreeSet;

use kingpost_telemetry::names::{METRICS, MetricKind, PROCESS_METRICS};

use super::expressions::Selector;
use super::rules::RulesFile;

/// What RabbitMQ's own exporter has, the same on every release that Kingpost runs on; `tests/tests/alerts/exporter.rs` asks a
/// node. The first are from `/metrics/detailed` with the families [`DETAILED`], the rest from `/metrics`.
pub const RABBITMQ: &[(&str, &[&str])] = &[
    ("rabbitmq_detailed_queue_messages_ready", &["vhost", "queue"]),
    ("rabbitmq_detailed_queue_messages_unacked", &["vhost", "queue"]),
    ("rabbitmq_detailed_queue_messages", &["vhost", "queue"]),
    ("rabbitmq_detailed_queue_consumers", &["vhost", "queue"]),
    ("rabbitmq_identity_info", &["rabbitmq_node", "rabbitmq_cluster"]),
    ("rabbitmq_build_info", &["rabbitmq_version"]),
    ("rabbitmq_alarms_memory_used_watermark", &[]),
    ("rabbitmq_alarms_free_disk_space_watermark", &[]),
    ("rabbitmq_alarms_file_descriptor_limit", &[]),
    ("rabbitmq_process_resident_memory_bytes", &[]),
    ("rabbitmq_disk_space_available_bytes", &[]),
    ("rabbitmq_connections", &[]),
];

/// What the rules need of `/metrics/detailed`.
pub const DETAILED: &str = "family=queue_coarse_metrics&family=queue_consumer_count";

/// The labels that Prometheus itself puts on every sample.
const TARGET: &[&str] = &["job", "instance"];

/// Why a selector can't find anything, if it can't.
pub fn unknown(selector: &Selector, rules: &RulesFile) -> Option<String> {
    let metric = selector.metric.as_str();
    let Some(labels) = labels(metric, rules) else {
        return Some(format!("nothing exports `{metric}`"));
    };
    let strange = selector.labels.iter().find(|label| !labels.contains(label.as_str()));
    strange.map(|label| format!("`{metric}` has no label `{label}`"))
}

/// The labels of a metric, as far as it is known.
fn labels<'a>(metric: &str, rules: &'a RulesFile) -> Option<BTreeSet<&'a str>> {
    let with = |own: &[&'a str]| TARGET.iter().chain(own).copied().collect();
    if metric == "up" || PROCESS_METRICS.contains(&metric) {
        return Some(with(&[]));
    }
    if let Some((_, own)) = RABBITMQ.iter().find(|(name, _)| *name == metric) {
        return Some(with(own));
    }
    if rules.rules().any(|rule| rule.record.as_deref() == Some(metric)) {
        return Some(["scheme", "stage", "vhost", "queue"].into());
    }
    METRICS.iter().find_map(|info| {
        let histogram = matches!(info.kind, MetricKind::Histogram(_));
        match metric.strip_prefix(info.name)? {
            "" if !histogram => Some(with(info.labels)),
            "_count" | "_sum" if histogram => Some(with(info.labels)),
            "_bucket" if histogram => {
                let mut labels: BTreeSet<&str> = with(info.labels);
                labels.insert("le");
                Some(labels)
            }
            _ => None,
        }
    })
}

/// Every label that a result may be grouped or matched by.
pub fn is_label(label: &str) -> bool {
    let ours = METRICS.iter().flat_map(|info| info.labels);
    let theirs = RABBITMQ.iter().flat_map(|(_, labels)| *labels);
    TARGET.iter().chain(ours).chain(theirs).any(|own| *own == label) || label == "le"
}
