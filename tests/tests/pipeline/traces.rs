//! One trace from the window to Kingdee or a dead letter: in the messages, in the log lines, and as spans at a collector.

#[path = "../../../crates/telemetry/tests/otlp/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Sandbox, wait_until},
    pipeline::{Pipeline, metric},
};
use kingpost_model::TraceContext;
use serde_json::{Value, json};

use self::receiver::Receiver;
use crate::{SOON, kingpost, pipeline, sandbox, sound, stop};

/// The dead letters of a pipeline, as the operator's command shows them.
async fn letters(pipeline: &Pipeline, numbers: impl IntoIterator<Item = &String>) -> Result<Vec<Value>> {
    let mut letters = Vec::new();
    for number in numbers {
        let (code, output) = kingpost(pipeline, &["dead", "show", number, "--json"]).await?;
        ensure!(code == Some(0), "{output}");
        let shown = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        letters.extend(shown.filter(|value| value.get("traceparent").is_some()));
    }
    Ok(letters)
}

fn trace_of(letter: &Value) -> Result<TraceContext> {
    let parent = letter.get("traceparent").and_then(Value::as_str).context("no traceparent")?;
    TraceContext::parse(parent, None).with_context(|| format!("{parent} is malformed"))
}

/// The lines of a worker about its documents.
fn lines(output: &str) -> Vec<Value> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("record.key").is_some()).collect()
}

/// Three orders of one window, of which two end as dead letters of different stages or causes; one post meets a lock first.
async fn troubled(more: &[&str]) -> Result<Sandbox> {
    let sandbox = sandbox(3, 2, more).await?;
    let locked = json!([
        {"system": "kingdee", "operation": "BatchSave", "count": 1, "action": {"kind": "conflict"}},
    ]);
    sandbox.fault(&locked).await?;
    Ok(sandbox)
}

#[tokio::test]
async fn orders_of_a_window_keep_its_trace_through_retries_dead_letters_and_replays() -> Result<()> {
    let sandbox = troubled(&[]).await?;
    let pipeline = pipeline("pipe-traces", &sandbox).await?;
    let [extractor, transformer, loader] =
        [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    let account = sound(&pipeline, &sandbox, 3, 2).await?;
    let numbers: BTreeSet<String> = account.dead.iter().flat_map(|group| group.numbers.clone()).collect();
    let first = letters(&pipeline, &numbers).await?;
    assert_eq!(first.len(), 2, "{first:?}");
    let traces = first.iter().map(trace_of).collect::<Result<Vec<_>>>()?;
    assert_eq!(traces[0].trace_id(), traces[1].trace_id(), "they came in one window");

    // Nothing was mended, so each dies again, where it did before and with what it came with.
    let died = async || {
        let mut died = 0.0;
        for worker in [&transformer, &loader] {
            let text = pipeline.metrics(worker).await.unwrap_or_default();
            died += metric(&text, "kingpost_dead_lettered_total", &[]);
        }
        died
    };
    let before = died().await;
    let replay = ["dead", "replay", "--all", "--reason", "drill", "--yes"];
    let (code, output) = kingpost(&pipeline, &replay).await?;
    assert!(code.is_some(), "{output}");
    wait_until(SOON, "a replayed letter to die again", async || died().await > before).await?;
    sound(&pipeline, &sandbox, 3, 2).await?;
    for letter in letters(&pipeline, &numbers).await? {
        let old = first.iter().find(|old| old.get("number") == letter.get("number"));
        assert_eq!(letter.get("traceparent"), old.and_then(|old| old.get("traceparent")), "{output}");
    }

    let mut told = Vec::new();
    for worker in [extractor, transformer, loader] {
        told.extend(lines(&stop(worker).await?));
    }
    let trace_id = format!("{:032x}", traces[0].trace_id());
    assert!(told.len() > 3, "{told:?}");
    for line in &told {
        assert_eq!(line.get("trace_id").and_then(Value::as_str), Some(trace_id.as_str()), "{line}");
        let span = line.get("span_id").and_then(Value::as_str).unwrap_or_default();
        assert!(span.len() == 16 && !span.bytes().all(|byte| byte == b'0'), "{line}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs programs that are built with `--features otlp`: make test-otlp"]
async fn spans_of_all_stages_reach_a_collector() -> Result<()> {
    let sandbox = troubled(&[]).await?;
    let pipeline = pipeline("pipe-spans", &sandbox).await?;
    let collector = Receiver::start(true);
    let endpoint = collector.endpoint();
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut workers = Vec::new();
    for stage in ["extractor", "transformer", "loader"] {
        workers.push(pipeline.start_with(stage, &settings)?);
    }
    let account = sound(&pipeline, &sandbox, 3, 2).await?;
    let numbers: BTreeSet<String> = account.dead.iter().flat_map(|group| group.numbers.clone()).collect();
    let letter = letters(&pipeline, &numbers).await?.into_iter().next().context("no letter")?;
    let trace = trace_of(&letter)?;
    assert!(trace.is_sampled());
    for worker in workers {
        let output = stop(worker).await?;
        assert!(!output.contains("this build sends no spans"), "build with `--features otlp`: {output}");
        assert!(!output.contains("spans could not be sent"), "{output}");
    }
    let trace_id = format!("{:032x}", trace.trace_id());
    let all = collector.spans();
    let spans: Vec<_> = all.iter().filter(|span| span.trace_id == trace_id).collect();
    let of = |stage: &str| -> Vec<_> {
        let name = format!("{stage} purchase-stockin");
        spans.iter().filter(|span| span.name == name).collect()
    };
    let windows = of("extract");
    let window =
        windows.iter().find(|span| span.parent_id.is_empty()).context("no window begins the trace")?;
    assert_eq!(window.attributes.get("service.name").map(String::as_str), Some("kingpost-extractor"));
    let (orders, loads) = (of("transform"), of("load"));
    assert_eq!(orders.len(), 3, "{all:#?}");
    for order in &orders {
        assert!(windows.iter().any(|window| window.span_id == order.parent_id), "{order:?}");
    }
    assert!(!loads.is_empty());
    for load in &loads {
        assert!(orders.iter().any(|order| order.span_id == load.parent_id), "{load:?}");
    }
    assert!(window.state.is_empty(), "nobody has given a state: {window:?}");
    for load in loads.iter().filter(|load| load.attributes.get("verdict").is_some_and(|word| word == "dead"))
    {
        assert_eq!(load.status, 2, "{load:?}");
    }
    for linked in all.iter().flat_map(|span| &span.links) {
        assert!(all.iter().any(|span| span.span_id == *linked), "{linked} in {all:#?}");
    }
    // The letter's header names the span that the collector has.
    let span_id = format!("{:016x}", trace.span_id());
    assert!(spans.iter().any(|span| span.span_id == span_id), "{span_id} of {letter} in {spans:#?}");
    let verdicts: BTreeSet<_> = spans.iter().filter_map(|span| span.attributes.get("verdict")).collect();
    assert!(["done", "retry", "dead"].iter().all(|word| verdicts.iter().any(|v| v == word)), "{verdicts:?}");
    for call in ["wdt query", "kingdee save", "kingdee audit"] {
        let within = all.iter().filter(|span| span.name == call);
        let mut parents = within.map(|call| all.iter().any(|span| span.span_id == call.parent_id));
        assert!(parents.next().is_some_and(|known| known) && parents.all(|known| known), "{call}: {all:#?}");
    }
    Ok(())
}
