//! The metrics, the server and the log lines, seen from outside.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a function of the tests may fail its test")]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use kingpost_model::{Comparisons, Failure, FailureKind, RETRY_TIERS, Reconciled, StageName, Verdict};
use kingpost_settings::LogFormat;
use kingpost_telemetry::names::{self, METRICS, MetricKind, PROCESS_METRICS, label};
use kingpost_telemetry::traces::Traces;
use kingpost_telemetry::{Health, Metrics, State, logs, serve};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longer than any answer takes, so that a hang fails instead of waiting for ever.
const DEADLINE: Duration = Duration::from_secs(20);

/// Touches every handle, so that every family has a child.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.build_info("0.1.0", "unknown");
    let lane = metrics.lane("purchase-stockin", StageName::Load);
    lane.received(false);
    lane.received(true);
    lane.settled();
    lane.progress();
    lane.verdict(&Verdict::Done);
    lane.verdict(&Verdict::Dead { failure: Failure::new(FailureKind::Unmappable, "no warehouse") });
    lane.retry_scheduled(FailureKind::Transient, "30s");
    lane.dead_lettered(FailureKind::Unmappable);
    lane.document_dead(FailureKind::Unmappable);
    lane.delivery_limit();
    drop(lane.taken(Some(1_767_196_800_000)));
    lane.batch(20, Duration::from_millis(700));
    lane.document_age(Duration::from_secs(800));
    lane.paused("configuration", true);
    metrics.shard_active("purchase-stockin", 3, true);
    metrics.write_in_doubt("purchase-stockin", 3, false);
    metrics.journal_dropped(2);
    metrics.spans_dropped(1);
    let publisher = metrics.publisher();
    publisher.confirmed(Duration::from_millis(3));
    publisher.unroutable();
    publisher.nacked();
    publisher.retried();
    publisher.ack_lost();
    let session = metrics.session("publish");
    session.rebuilt("heartbeat");
    session.blocked(true);
    let erp = metrics.erp("kingdee");
    erp.request("save", "ok", Duration::from_millis(400));
    erp.unclear();
    erp.duplicate_prevented("found_before_posting");
    erp.duplicate_found();
    metrics.peer_certificate("kingdee", "https://erp.example", &certificate(2_000_000_000));
    metrics.secret_expires("kingdee", "default", 1_900_000_000);
    let changes = metrics.changes("purchase-stockin");
    changes.ignored();
    changes.reported();
    changes.updated();
    changes.withdrawn();
    let extraction = metrics.extraction("purchase-stockin");
    extraction.window_read(120);
    extraction.window("split");
    extraction.cursor_lag(Duration::from_secs(300));
    extraction.backlog(12);
    metrics.reconciliation("purchase-stockin").show(Some(&kept([compared("matched", 40)])));
    let push = metrics.push();
    push.scheme("purchase-stockin");
    push.request("accepted", Duration::from_millis(20));
    push.documents("purchase-stockin", "accepted", 3);
    let account = metrics.account("wdt", "default");
    account.limit_met();
    account.pace(Some(42.0));
    account.closed_until(Some(1_767_196_800_000));
    metrics
}

/// A certificate (DER) that expires then.
fn certificate(unix_s: i64) -> Vec<u8> {
    pem_and_der(unix_s).1
}

fn pem_and_der(unix_s: i64) -> (String, Vec<u8>) {
    let mut params = CertificateParams::new(vec!["erp.example".to_owned()]).unwrap();
    params.not_after = SystemTime::UNIX_EPOCH.into();
    params.not_after += Duration::from_secs(u64::try_from(unix_s).unwrap());
    let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    (made.pem(), made.der().to_vec())
}

/// A comparison of both books in which a verdict was given that often.
fn compared(verdict: &str, count: u64) -> Reconciled {
    Reconciled {
        scheme: "purchase-stockin".to_owned(),
        from_s: 1_793_462_400,
        to_s: 1_796_054_400,
        finished_s: 1_796_100_000,
        agrees: verdict == "matched",
        documents: [(verdict.to_owned(), count)].into(),
    }
}

fn kept(comparisons: impl IntoIterator<Item = Reconciled>) -> Comparisons {
    let mut kept = Comparisons::default();
    comparisons.into_iter().for_each(|comparison| assert_eq!(kept.add(comparison), None));
    kept
}

/// The samples of a scrape as `(name, labels, value)`; every line that isn't a comment must be one.
fn samples(text: &str) -> Vec<(String, String, f64)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            (name.to_owned(), labels.trim_end_matches('}').to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn value(text: &str, name: &str, labels: &str) -> f64 {
    let found = samples(text).into_iter().find(|sample| sample.0 == name && sample.1 == labels);
    found.unwrap_or_else(|| panic!("{name}{{{labels}}} is not in\n{text}")).2
}

async fn ask(address: SocketAddr, path: &str) -> (u16, String, String) {
    ask_for(address, path, "*/*").await
}

async fn ask_for(address: SocketAddr, path: &str, accept: &str) -> (u16, String, String) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: test\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(DEADLINE, asked).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

async fn served(metrics: Metrics, health: Health, extra: Option<Router>) -> (SocketAddr, CancellationToken) {
    let stop = CancellationToken::new();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let (address, _) = serve(anywhere, metrics, health, extra, stop.clone()).await.unwrap();
    (address, stop)
}

#[test]
fn a_metric_stands_in_the_table_once_and_is_named_by_the_rule() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        assert!(metric.name.starts_with("kingpost_"), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
        assert!(metric.labels.iter().all(|name| label::ALL.contains(name)), "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.unit.is_empty(), "{}", metric.name);
        if let MetricKind::Histogram(buckets) = metric.kind {
            assert!(buckets.len() > 1 && buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
        }
    }
}

#[test]
fn every_label_and_every_metric_of_the_table_is_in_use() {
    let used: BTreeSet<_> = METRICS.iter().flat_map(|metric| metric.labels).collect();
    assert_eq!(used, label::ALL.iter().collect());
    let fields: BTreeSet<_> = names::field::ALL.iter().collect();
    assert_eq!(fields.len(), names::field::ALL.len());
    let constants = include_str!("../src/names.rs").matches("pub const").count();
    // The tables themselves: PROCESS_METRICS, METRICS, label::ALL, field::ALL, the macro's constant and MetricKind::as_str.
    assert_eq!(
        constants,
        label::ALL.len() + names::field::ALL.len() + 6,
        "a constant is missing in its table"
    );
}

#[test]
fn a_scrape_holds_every_metric_of_the_table_and_no_other() {
    let text = touched().render().unwrap();
    let described: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').expect("a name and a kind"))
        .collect();
    let mut expected: BTreeSet<_> =
        METRICS.iter().map(|metric| (metric.name, metric.kind.as_str())).collect();
    let of_the_process: BTreeSet<_> =
        described.iter().copied().filter(|(name, _)| name.starts_with("process_")).collect();
    if cfg!(target_os = "linux") {
        assert_eq!(of_the_process.iter().map(|(name, _)| *name).collect::<Vec<_>>(), PROCESS_METRICS);
    }
    expected.extend(of_the_process);
    assert_eq!(described, expected);
    assert!(samples(&text).len() > METRICS.len());
}

#[test]
fn the_handles_count_what_they_are_told() {
    let metrics = touched();
    let text = metrics.render().unwrap();
    let lane = r#"scheme="purchase-stockin",stage="load""#;
    let of_lane = |name: &str| value(&text, name, lane);
    let received = |flag: &str| {
        value(&text, "kingpost_works_received_total", &format!(r#"redelivered="{flag}",{lane}"#))
    };
    assert_eq!((received("false"), received("true")), (1.0, 1.0));
    assert_eq!(of_lane("kingpost_inflight_works"), 1.0);
    let failure = format!(r#"fault="data",kind="unmappable",{lane}"#);
    assert_eq!(value(&text, "kingpost_failures_total", &failure), 1.0);
    let verdict =
        |word: &str| value(&text, "kingpost_verdicts_total", &format!(r#"{lane},verdict="{word}""#));
    assert_eq!((verdict("done"), verdict("retry"), verdict("dead")), (1.0, 0.0, 1.0));
    assert_eq!(of_lane("kingpost_batch_works_sum"), 20.0);
    assert!(of_lane("kingpost_last_progress_timestamp_seconds") > 1_700_000_000.0);
    let in_time = r#"scheme="purchase-stockin",le="900""#;
    assert_eq!(value(&text, "kingpost_document_age_seconds_bucket", in_time), 1.0);
    let paused = format!(r#"reason="configuration",{lane}"#);
    assert_eq!(value(&text, "kingpost_scheme_paused", &paused), 1.0);
    metrics.lane("purchase-stockin", StageName::Load).paused("configuration", false);
    assert_eq!(value(&metrics.render().unwrap(), "kingpost_scheme_paused", &paused), 0.0);
}

#[test]
fn the_oldest_message_in_hand_and_its_wait_are_told_by_the_time_it_came_into_its_queue() {
    let metrics = Metrics::new();
    let lane = metrics.lane("purchase-stockin", StageName::Load);
    let labels = r#"scheme="purchase-stockin",stage="load""#;
    let read = |name: &str| value(&metrics.render().unwrap(), name, labels);
    let oldest = || read("kingpost_oldest_unsettled_seconds");
    assert_eq!(oldest(), 0.0, "nothing is in hand");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let now = i64::try_from(now).unwrap();
    let old = lane.taken(Some(now - 100_000));
    let unknown = metrics.lane("purchase-stockin", StageName::Load).taken(None);
    assert!((100.0..120.0).contains(&oldest()), "{}", oldest());
    drop(old);
    assert!(oldest() < 20.0, "counted from when it was taken");
    drop(unknown);
    assert_eq!(oldest(), 0.0);
    assert_eq!(read("kingpost_queue_wait_seconds_count"), 1.0, "one had no time");
    assert!(read("kingpost_queue_wait_seconds_sum") >= 100.0);
}

#[test]
fn the_earliest_end_of_a_systems_certificates_and_secrets_is_told() {
    let metrics = Metrics::new();
    let certificate_of = |which: &str| {
        let name = "kingpost_certificate_expiry_timestamp_seconds";
        value(&metrics.render().unwrap(), name, &format!(r#"system="kingdee",which="{which}""#))
    };
    metrics.peer_certificate("kingdee", "https://a.example", b"no certificate");
    assert!(!metrics.render().unwrap().contains("kingpost_certificate_expiry"), "nothing is known");
    metrics.peer_certificate("kingdee", "https://a.example", &certificate(1_900_000_000));
    metrics.peer_certificate("kingdee", "https://b.example", &certificate(1_950_000_000));
    assert_eq!(certificate_of("peer"), 1_900_000_000.0);
    metrics.peer_certificate("kingdee", "https://a.example", &certificate(2_000_000_000));
    assert_eq!(certificate_of("peer"), 1_950_000_000.0, "a renewed one counts no more");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for unix_s in [1_980_000_000, 1_970_000_000] {
        io::Write::write_all(&mut file, pem_and_der(unix_s).0.as_bytes()).unwrap();
    }
    metrics.trusted_certificates("kingdee", file.path());
    assert_eq!(certificate_of("trusted"), 1_970_000_000.0);
    metrics.secret_expires("wdt", "north", 1_900_000_000);
    metrics.secret_expires("wdt", "default", 1_950_000_000);
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "kingpost_secret_expiry_timestamp_seconds", r#"system="wdt""#), 1_900_000_000.0);
}

#[test]
fn the_numbers_of_a_lane_are_there_before_its_first_message() {
    let metrics = Metrics::new();
    let _lane = metrics.lane("purchase-stockin", StageName::Transform);
    let text = metrics.render().unwrap();
    let labels = r#"scheme="purchase-stockin",stage="transform",verdict="dead""#;
    assert_eq!(value(&text, "kingpost_verdicts_total", labels), 0.0);
    for kind in FailureKind::ALL {
        let labels = format!(r#"kind="{kind}",scheme="purchase-stockin",stage="transform""#);
        assert_eq!(value(&text, "kingpost_dead_lettered_total", &labels), 0.0);
        assert_eq!(value(&text, "kingpost_documents_dead_total", &labels), 0.0);
        let fault = kind.usual_fault().as_str();
        let labels = format!(r#"fault="{fault}",kind="{kind}",scheme="purchase-stockin",stage="transform""#);
        assert_eq!(value(&text, "kingpost_failures_total", &labels), 0.0);
        for tier in RETRY_TIERS {
            let tier = tier.name();
            let labels =
                format!(r#"kind="{kind}",scheme="purchase-stockin",stage="transform",tier="{tier}""#);
            assert_eq!(value(&text, "kingpost_retry_scheduled_total", &labels), 0.0);
        }
    }
}

#[test]
fn what_may_happen_rarely_is_there_before_it_happens() {
    let metrics = Metrics::new();
    let _handles = (metrics.session("consume"), metrics.erp("kingdee"));
    metrics.push().scheme("purchase-stockin");
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "kingpost_session_rebuilds_total", r#"reason="settle",role="consume""#), 0.0);
    let prevented = "kingpost_erp_duplicates_prevented_total";
    assert_eq!(value(&text, prevented, r#"how="look-up",system="kingdee""#), 0.0);
    let pushed = r#"outcome="unconfirmed",scheme="purchase-stockin""#;
    assert_eq!(value(&text, "kingpost_push_documents_total", pushed), 0.0);
}

#[test]
fn comparisons_are_shown_until_their_period_is_compared_again_and_go_with_the_lead() {
    let metrics = Metrics::new();
    let reconciliation = metrics.reconciliation("purchase-stockin");
    let of = |verdict: &str| format!(r#"scheme="purchase-stockin",verdict="{verdict}""#);
    reconciliation.show(Some(&Comparisons::default()));
    assert!(!metrics.render().unwrap().contains("kingpost_reconcile"), "nothing before the first");
    let (noon, month) = (compared("missing", 2), compared("matched", 40));
    let night = Reconciled { from_s: month.to_s - 86_400, finished_s: 1_796_200_000, ..month.clone() };
    reconciliation.show(Some(&kept([noon.clone(), night])));
    let text = metrics.render().unwrap();
    assert_eq!(value(&text, "kingpost_reconcile_documents", &of("missing")), 2.0);
    assert_eq!(value(&text, "kingpost_reconcile_documents", &of("matched")), 40.0);
    let scheme = r#"scheme="purchase-stockin""#;
    assert_eq!(value(&text, "kingpost_reconcile_agrees", scheme), 0.0, "the night's period is another");
    assert_eq!(value(&text, "kingpost_reconcile_last_timestamp_seconds", scheme), 1_796_200_000.0);
    assert_eq!(value(&text, "kingpost_reconcile_period_end_timestamp_seconds", scheme), 1_796_054_400.0);
    reconciliation.show(Some(&kept([noon, month])));
    let text = metrics.render().unwrap();
    assert!(!text.contains("missing\""), "{text}");
    assert_eq!(value(&text, "kingpost_reconcile_agrees", scheme), 1.0);
    reconciliation.show(None);
    assert!(!metrics.render().unwrap().contains("kingpost_reconcile"), "another one leads");
}

#[test]
fn the_cursor_of_a_leader_goes_with_the_lead() {
    let metrics = Metrics::new();
    let extraction = metrics.extraction("purchase-stockin");
    let shown = || {
        let text = metrics.render().unwrap();
        ["kingpost_cursor_lag_seconds{", "kingpost_backlog_windows{"].map(|name| text.contains(name))
    };
    assert_eq!(shown(), [false; 2], "nobody has led yet");
    for _ in 0..2 {
        extraction.cursor_lag(Duration::from_secs(320));
        extraction.backlog(12);
        assert_eq!(shown(), [true; 2]);
        extraction.resigned();
        assert_eq!(shown(), [false; 2]);
    }
}

#[test]
fn the_reference_has_a_row_for_every_metric() {
    let table = names::markdown_table();
    assert_eq!(table.lines().count(), METRICS.len() + 2);
    let row = "| `kingpost_retry_scheduled_total` | counter | `scheme`, `stage`, `kind`, `tier` | works | Works put into a retry tier, by kind of failure. |";
    assert!(table.lines().any(|line| line == row), "{table}");
}

#[tokio::test]
async fn metrics_are_served_in_the_text_format() {
    let (address, _stop) = served(touched(), Health::new(), None).await;
    let (status, head, body) = ask(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(value(&body, "kingpost_build_info", r#"revision="unknown",version="0.1.0""#), 1.0);
}

#[tokio::test]
async fn openmetrics_is_served_to_who_asks_for_it_and_says_the_same() {
    let (address, _stop) = served(touched(), Health::new(), None).await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let (status, head, open) = ask_for(address, "/metrics", accept).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(open.ends_with("# EOF\n"));
    let (_, _, text) = ask(address, "/metrics").await;
    let ours = |text: &str| -> BTreeSet<(String, String)> {
        let found = samples(text).into_iter().filter(|sample| sample.0.starts_with("kingpost_"));
        found.map(|(name, labels, _)| (name, labels.replace(".0\"", "\""))).collect()
    };
    assert_eq!(ours(&open), ours(&text));
    for metric in METRICS {
        let family = metric.name.trim_end_matches("_total");
        assert!(open.contains(&format!("# TYPE {family} {}\n", metric.kind.as_str())), "{family}");
    }
    assert!(open.contains("# UNIT kingpost_erp_request_seconds seconds\n"));
    assert!(open.contains("# UNIT process_resident_memory_bytes bytes\n"));
}

#[tokio::test]
async fn readiness_needs_every_component_and_at_least_one() {
    let health = Health::new();
    let (address, _stop) = served(Metrics::new(), health.clone(), None).await;
    let readiness = || async {
        let (status, _, body) = ask(address, "/readyz").await;
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    assert_eq!(readiness().await, (503, serde_json::json!({ "ready": false, "components": {} })));
    health.set("broker", State::Ready);
    assert_eq!(readiness().await.0, 200);
    health.set("schemes", State::NotReady("purchase-stockin is paused".to_owned()));
    let components = serde_json::json!({
        "broker": { "ready": true },
        "schemes": { "ready": false, "reason": "purchase-stockin is paused" },
    });
    assert_eq!(readiness().await, (503, serde_json::json!({ "ready": false, "components": components })));
    assert_eq!(ask(address, "/healthz").await.0, 200, "an unready worker is not to be restarted");
    health.remove("schemes");
    assert_eq!(readiness().await.0, 200);
}

#[tokio::test]
async fn a_stuck_worker_is_not_alive_and_says_at_what() {
    let health = Health::new();
    let (address, _stop) = served(Metrics::new(), health.clone(), None).await;
    let watchdog = health.watchdog("load.purchase-stockin", Duration::ZERO);
    assert_eq!(ask(address, "/healthz").await.0, 200);
    watchdog.held(2);
    let (status, _, body) = ask(address, "/healthz").await;
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["alive"]), (503, &serde_json::json!(false)));
    assert_eq!(answer["stalled"][0]["what"], "load.purchase-stockin");
    assert_eq!(answer["stalled"][0]["held"], 2);
    watchdog.held(0);
    assert_eq!(ask(address, "/healthz").await.0, 200);
}

#[tokio::test]
async fn other_paths_are_not_found_and_more_can_be_added() {
    let (address, _stop) = served(Metrics::new(), Health::new(), None).await;
    let (status, _, body) = ask(address, "/").await;
    assert_eq!(status, 404);
    assert!(body.contains("/metrics"), "{body}");
    let extra = Router::new()
        .route("/schemes", get(|| async { "purchase-stockin" }))
        .route("/metrics", get(|| async { "" }));
    let (address, _stop) = served(touched(), Health::new(), Some(extra)).await;
    assert_eq!(ask(address, "/schemes").await.2, "purchase-stockin");
    assert!(ask(address, "/metrics").await.2.contains("kingpost_build_info"), "ours can't be replaced");
    assert_eq!(ask(address, "/nowhere").await.0, 404);
}

#[tokio::test]
async fn a_taken_port_names_the_setting_the_address_and_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let stop = CancellationToken::new();
    let error = serve(address, Metrics::new(), Health::new(), None, stop).await.unwrap_err();
    assert_eq!(error.problem().variable, "HTTP_ADDR");
    let text = error.to_string();
    assert!(text.starts_with(&format!("HTTP_ADDR: {address} is taken by another process")), "{text}");
    assert!(text.contains("another port"), "{text}");
}

#[tokio::test]
async fn the_server_stops_when_told_even_with_an_idle_visitor() {
    let stop = CancellationToken::new();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let (address, task) = serve(anywhere, Metrics::new(), Health::new(), None, stop.clone()).await.unwrap();
    assert_eq!(ask(address, "/healthz").await.0, 200);
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    stop.cancel();
    tokio::time::timeout(DEADLINE, task).await.expect("it stops in time").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Keeps what is written, or fails every write.
#[derive(Clone, Default)]
struct Lines {
    text: Arc<Mutex<Vec<u8>>>,
    broken: bool,
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, filter: &str, lines: Lines) -> String {
    let writer = lines.clone();
    let dispatch = logs::dispatch(format, filter, false, move || writer.clone(), &Traces::default()).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        let _span = tracing::info_span!("work", { names::field::RECORD_KEY } = "STK_InStock/CG1").entered();
        tracing::info!({ names::field::ATTEMPT } = 2, "posted");
        tracing::debug!("unwanted");
    });
    let bytes = lines.text.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_json_line_holds_its_fields_flat_and_a_timestamp_in_rfc_3339() {
    let text = logged(LogFormat::Json, "info", Lines::default());
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["message"], &line["attempt"]), (&serde_json::json!("posted"), &serde_json::json!(2)));
    assert_eq!((&line["level"], &line["span"]["record.key"]), (&"INFO".into(), &"STK_InStock/CG1".into()));
    let time = line["timestamp"].as_str().unwrap();
    assert!(time.len() > 20 && &time[4..5] == "-" && &time[10..11] == "T" && time.ends_with('Z'), "{time}");
}

#[test]
fn a_text_line_is_for_people() {
    let text = logged(LogFormat::Text, "info", Lines::default());
    assert!(text.contains("posted") && text.contains("attempt=2") && text.contains("INFO"), "{text}");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{text}");
}

#[test]
fn a_line_that_cannot_be_written_is_counted_and_stops_nothing() {
    let before = logs::dropped_lines();
    assert_eq!(logged(LogFormat::Json, "info", Lines { broken: true, ..Lines::default() }), "");
    assert_eq!(logs::dropped_lines(), before + 1);
    assert_eq!(
        value(&Metrics::new().render().unwrap(), "kingpost_log_lines_dropped_total", ""),
        (before + 1) as f64
    );
}

#[test]
fn a_filter_that_would_silence_everything_is_a_problem_of_rust_log() {
    for filter in ["infoo", "info,verbose", "kingpost_loader=loud", "warning"] {
        let problem =
            logs::dispatch(LogFormat::Json, filter, false, io::sink, &Traces::default()).unwrap_err();
        assert_eq!(problem.variable, "RUST_LOG", "{filter}");
        assert!(problem.to_string().contains("RUST_LOG=info,kingpost_loader=debug"), "{problem}");
    }
    for filter in ["info", "WARN,lapin=error", "kingpost_loader", "off", "info,kingpost_worker[work]=trace"] {
        assert!(
            logs::dispatch(LogFormat::Json, filter, false, io::sink, &Traces::default()).is_ok(),
            "{filter}"
        );
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_sends_no_spans_says_so_to_whoever_wants_them() {
    use kingpost_settings::{TraceSampler, TraceSettings};
    let settings = TraceSettings {
        endpoint: "http://collector.example:4318".into(),
        service_name: "kingpost-test".into(),
        sampler: TraceSampler::AlwaysOn,
    };
    assert!(Traces::warning(Some(&settings)).is_some_and(|text| text.contains("--features otlp")));
    assert_eq!(Traces::warning(None), None);
    let metrics = Metrics::new();
    assert!(Traces::start(Some(&settings), &metrics).is_ok(), "it is a warning and no error");
    assert!(metrics.render().is_ok_and(|text| text.contains("kingpost_spans_dropped_total 0")));
}
