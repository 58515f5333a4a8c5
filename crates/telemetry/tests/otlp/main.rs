//! Spans as a collector gets them, over OTLP.

#![expect(clippy::unwrap_used, reason = "a function of the tests may fail its test")]

mod receiver;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kingpost_model::{Failure, FailureKind, Item, RecordKey, StageName, Verdict, Work, WorkId};
use kingpost_settings::{LogFormat, TraceSampler, TraceSettings};
use kingpost_telemetry::traces::{Traces, WorkSpan, within};
use kingpost_telemetry::{Metrics, logs};
use receiver::{Receiver, Span};
use tracing::Dispatch;

/// A process has one exporter; where tests share a process, they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn item(stage: StageName, number: &str) -> Item {
    let key = RecordKey::new("STK_InStock", number);
    let work = Work::new(WorkId::new(format!("id-{number}")), stage, "purchase-stockin", key, "{}");
    Item { work, redelivered: false }
}

fn sending(endpoint: String, sampler: TraceSampler, metrics: &Metrics) -> (Traces, Dispatch) {
    let settings = TraceSettings { endpoint, service_name: "kingpost-test".into(), sampler };
    let traces = Traces::start(Some(&settings), metrics).unwrap();
    // Spans are no lines: what RUST_LOG says doesn't hold for them.
    let lines = logs::dispatch(LogFormat::Json, "off", false, std::io::sink, &traces).unwrap();
    (traces, lines)
}

/// What is made of a document at the next stage.
fn next(stage: StageName, number: &str, span: &WorkSpan) -> Item {
    let mut item = item(stage, number);
    item.work.set_trace(span.context());
    item
}

fn named<'a>(spans: &'a [Span], name: &str, number: &str) -> &'a Span {
    let is_it = |span: &&Span| {
        span.name == name && span.attributes.get("record.key").is_some_and(|key| key.ends_with(number))
    };
    spans.iter().find(is_it).unwrap_or_else(|| panic!("no span {name} of {number} in {spans:#?}"))
}

#[test]
fn a_document_is_one_trace_from_its_window_to_the_target() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (collector, metrics) = (Receiver::start(true), Metrics::new());
    let (traces, lines) = sending(collector.endpoint(), TraceSampler::ParentOrOn, &metrics);
    let trace_id = tracing::dispatcher::with_default(&lines, || {
        let window = WorkSpan::of_item(&item(StageName::Extract, "w"), "extract.purchase-stockin");
        let orders = ["RK1", "RK2"].map(|number| {
            let item = next(StageName::Transform, number, &window);
            WorkSpan::of_item(&item, "transform.purchase-stockin")
        });
        let [one, two] = orders.each_ref().map(|order| order);
        let models = [next(StageName::Load, "RK1", one), next(StageName::Load, "RK2", two)];
        let loads = models.each_ref().map(|item| WorkSpan::of_item(item, "load.purchase-stockin"));
        now(within(&loads, "load.purchase-stockin", async {
            metrics.erp("kingdee").request("save", "ok", Duration::from_millis(30));
        }));
        let failure = Failure::new(FailureKind::BaseData, "a text that may quote the document");
        let verdicts = [Verdict::Done, Verdict::Dead { failure }];
        for (load, verdict) in loads.into_iter().zip(&verdicts) {
            load.end(Some(verdict));
        }
        let trace_id = format!("{:032x}", window.context().trace_id());
        orders.into_iter().chain([window]).for_each(|span| span.end(Some(&Verdict::Done)));
        trace_id
    });
    traces.end(Duration::from_secs(10));
    let spans = collector.spans();
    let window = named(&spans, "extract purchase-stockin", "w");
    assert_eq!((window.trace_id.as_str(), window.parent_id.as_str()), (trace_id.as_str(), ""));
    for number in ["RK1", "RK2"] {
        let order = named(&spans, "transform purchase-stockin", number);
        let model = named(&spans, "load purchase-stockin", number);
        assert_eq!((&order.trace_id, &order.parent_id), (&trace_id, &window.span_id));
        assert_eq!((&model.trace_id, &model.parent_id), (&trace_id, &order.span_id));
        assert_eq!(model.attributes["messaging.message.id"], format!("id-{number}"));
        assert_eq!(model.attributes["service.name"], "kingpost-test");
        assert_eq!((model.attributes["stage"].as_str(), model.attributes["attempt"].as_str()), ("load", "1"));
    }
    // The batch is a trace of its own, linked with its documents and they with it; a call belongs to it.
    let batch = spans.iter().find(|span| span.name == "batch load.purchase-stockin").unwrap();
    assert_ne!(batch.trace_id, trace_id);
    let models = ["RK1", "RK2"].map(|number| named(&spans, "load purchase-stockin", number));
    for model in models {
        assert_eq!(model.links, [batch.span_id.as_str()]);
        assert!(batch.links.contains(&model.span_id));
    }
    let call = spans.iter().find(|span| span.name == "kingdee save").unwrap();
    assert_eq!((&call.trace_id, &call.parent_id), (&batch.trace_id, &batch.span_id));
    let [done, dead] = models.map(|model| (model.attributes["verdict"].as_str(), model.status));
    assert_eq!((done, dead), (("done", 0), ("dead", 2)));
    assert_eq!(models[1].attributes["kind"], "base-data");
    assert!(!format!("{spans:?}").contains("quote"), "a failure's text may hold what the document holds");
    assert!(metrics.render().unwrap().contains("kingpost_spans_dropped_total 0"));
}

/// Runs a future that never waits.
fn now<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[test]
fn what_the_one_before_has_decided_holds_and_its_state_goes_on() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = |flags: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    for (sampler, flags, sent) in [
        (TraceSampler::ParentOrOn, Some("00"), false),
        (TraceSampler::ParentOrOff, Some("01"), true),
        (TraceSampler::ParentOrOff, None, false),
        (TraceSampler::ParentOrRatio(0.0), Some("01"), true),
        (TraceSampler::Ratio(0.0), Some("01"), false),
        (TraceSampler::AlwaysOn, Some("00"), true),
        (TraceSampler::AlwaysOff, Some("01"), false),
    ] {
        let (collector, metrics) = (Receiver::start(true), Metrics::new());
        let (traces, lines) = sending(collector.endpoint(), sampler, &metrics);
        tracing::dispatcher::with_default(&lines, || {
            let mut item = item(StageName::Load, "RK1");
            item.work.traceparent = flags.map(parent);
            item.work.tracestate = Some("vendor=1".into());
            let span = WorkSpan::of_item(&item, "load.s");
            assert_eq!(span.context().is_sampled(), sent, "{sampler:?} {flags:?}");
            if flags.is_some() {
                assert_eq!(span.context().trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
                assert_eq!(span.context().state(), Some("vendor=1"));
                assert_ne!(span.context().span_id(), 0x00f0_67aa_0ba9_02b7);
            }
            span.end(Some(&Verdict::Done));
        });
        traces.end(Duration::from_secs(10));
        let spans = collector.spans();
        assert_eq!(spans.len(), usize::from(sent), "{sampler:?} {flags:?}: {spans:?}");
        if let Some(span) = spans.first() {
            assert_eq!((span.parent_id.as_str(), span.state.as_str()), ("00f067aa0ba902b7", "vendor=1"));
        }
    }
}

#[test]
fn when_a_collector_is_silent_or_away_then_nothing_waits_and_what_is_lost_is_counted() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let silent = Receiver::start(false);
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [silent.endpoint(), format!("http://{away}")] {
        let metrics = Metrics::new();
        let (traces, lines) = sending(endpoint.clone(), TraceSampler::AlwaysOn, &metrics);
        let began = Instant::now();
        tracing::dispatcher::with_default(&lines, || {
            for _ in 0..20_000 {
                WorkSpan::of_item(&item(StageName::Load, "RK1"), "load.s").end(Some(&Verdict::Done));
            }
        });
        traces.end(Duration::from_millis(500));
        assert!(began.elapsed() < Duration::from_secs(8), "{endpoint}: {:?}", began.elapsed());
        let text = metrics.render().unwrap();
        let lost = text.lines().find_map(|line| line.strip_prefix("kingpost_spans_dropped_total "));
        assert!(lost.unwrap().parse::<f64>().unwrap() > 10_000.0, "{endpoint}: {lost:?}");
    }
}
