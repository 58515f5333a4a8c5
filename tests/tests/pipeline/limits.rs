//! Several extractors on one account of a WDT that counts their calls.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    lab::{Sandbox, SandboxOptions, shared_broker, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use jiff::Timestamp;
use kingpost_broker::{BrokerConfig, Inspector, Topology};
use serde_json::json;

use crate::{SOON, sound};

/// Long enough to believe that nobody calls.
const QUIET: Duration = Duration::from_secs(4);

/// One call of WDT, as the sandbox has seen it.
#[derive(Debug)]
struct Call {
    begun_ms: i64,
    ended_ms: i64,
    outcome: String,
}

/// Every call of WDT that has ended, in the order in which they began.
async fn calls(sandbox: &Sandbox) -> Result<Vec<Call>> {
    let requests = sandbox.get("requests?system=wdt").await?;
    let requests = requests.as_array().context("no list of requests")?;
    let ended = requests.iter().filter(|request| !request["duration_ms"].is_null());
    ended
        .map(|request| {
            let at: Timestamp = request["at"].as_str().context("no time")?.parse()?;
            let took = request["duration_ms"].as_f64().context("no duration")?;
            let begun_ms = at.as_millisecond();
            let outcome = request["outcome"].as_str().unwrap_or_default().to_owned();
            Ok(Call { begun_ms, ended_ms: begun_ms + took as i64, outcome })
        })
        .collect()
}

/// Orders of the last two hours, so that many windows hold some.
async fn orders(count: u32, more: &[&str]) -> Result<(Sandbox, Tempo)> {
    let from = Timestamp::from_second(Timestamp::now().as_second() - 2 * 3_600 - 600)?;
    let options = SandboxOptions {
        orders: count,
        seed: 11,
        from: Some(from.to_string()),
        spread: Some("2h".into()),
        args: ["--repeated-numbers"].iter().chain(more).map(|arg| (*arg).to_owned()).collect(),
        ..SandboxOptions::default()
    };
    let tempo = Tempo { start: from.to_string(), width: "2m".into(), settle: "5s".into() };
    Ok((Sandbox::start(options).await?, tempo))
}

/// A number of an account's metric on one extractor.
async fn of_account(pipeline: &Pipeline, worker: &Worker, name: &str) -> f64 {
    let text = pipeline.metrics(worker).await.unwrap_or_default();
    metric(&text, name, &["account=\"default\"", "system=\"wdt\""])
}

#[tokio::test]
async fn three_extractors_share_the_limit_of_one_account_and_one_of_them_probes() -> Result<()> {
    // Thirty calls in three seconds; the next one closes the account for six.
    let limit = ["--wdt-per-minute", "30", "--wdt-minute", "3s", "--wdt-ban", "6s", "--wdt-latency", "100"];
    let (sandbox, tempo) = orders(150, &limit).await?;
    let url = shared_broker().await?.vhost("limits-shared").await?;
    let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
    let extractors =
        [pipeline.start("extractor")?, pipeline.start("extractor")?, pipeline.start("extractor")?];
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 150, 0).await?;
    let calls = calls(&sandbox).await?;
    let refused: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].outcome != "ok").collect();
    assert!(!refused.is_empty(), "the limit was never met, nothing is shown: {} calls", calls.len());
    // One that meets it, and those that are under way just then.
    assert!(refused.len() <= 9, "{} of {} calls were refused", refused.len(), calls.len());
    for at in &refused {
        let closed = calls[*at].ended_ms;
        let after = |call: &&Call| call.begun_ms > closed + 3_000;
        let Some(probe) = calls.iter().find(after) else { continue };
        assert!(probe.begun_ms >= calls[*at].begun_ms + 5_900, "called during the ban: {calls:#?}");
        let beside = calls.iter().filter(after).skip(1).find(|call| call.begun_ms < probe.ended_ms - 5);
        assert!(beside.is_none(), "two probed at once: {probe:?} {beside:?}");
    }
    let (mut answered, mut met) = (Vec::new(), 0.0);
    for extractor in &extractors {
        let text = pipeline.metrics(extractor).await?;
        answered.push(metric(
            &text,
            "kingpost_erp_request_seconds_count",
            &["outcome=\"ok\"", "system=\"wdt\""],
        ));
        met += metric(&text, "kingpost_account_limits_met_total", &[]);
        let pace = of_account(&pipeline, extractor, "kingpost_account_calls_per_minute").await;
        assert!(pace > 0.0, "an extractor has not heard of the limit\n{}", extractor.process.log_tail());
    }
    assert!((met - refused.len() as f64).abs() < 0.5, "{met} limits were counted, {} met", refused.len());
    let all: f64 = answered.iter().sum();
    assert!(answered.iter().all(|calls| *calls > all / 10.0), "the shares are {answered:?}");
    Ok(())
}

#[tokio::test]
async fn a_ban_of_hours_is_met_once_and_no_window_is_begun_or_held() -> Result<()> {
    let (sandbox, tempo) = orders(20, &["--wdt-latency", "100"]).await?;
    let ban =
        json!({"system": "wdt", "count": null, "action": {"kind": "ban", "seconds": 20_000, "hold": true}});
    sandbox.fault(&ban).await?;
    let url = shared_broker().await?.vhost("limits-ban").await?;
    let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
    let mut extractors = vec![pipeline.start("extractor")?, pipeline.start("extractor")?];
    let closed = "kingpost_account_closed_until_timestamp_seconds";
    for extractor in &extractors {
        wait_until(SOON, "an extractor to hear of the ban", async || {
            of_account(&pipeline, extractor, closed).await > 0.0
        })
        .await?;
    }
    // Who starts now asks the others first.
    extractors.push(pipeline.start("extractor")?);
    wait_until(SOON, "the third to be told", async || {
        of_account(&pipeline, &extractors[2], closed).await > 0.0
    })
    .await?;
    let until = of_account(&pipeline, &extractors[2], closed).await - Timestamp::now().as_second() as f64;
    assert!((19_900.0..=20_003.0).contains(&until), "{until} s are left");
    let inspector = pipeline.inspector().await?;
    wait_until(SOON, "each to give its window back", async || {
        let waiting = inspector.depth("wait.2h").await.ok().flatten();
        waiting.is_some_and(|depth| depth.ready >= 3)
    })
    .await?;
    for extractor in &extractors {
        let text = pipeline.metrics(extractor).await?;
        let paused = metric(&text, "kingpost_scheme_paused", &["reason=\"throttled\"", "stage=\"extract\""]);
        assert!(paused > 0.5, "its windows go on\n{}", extractor.process.log_tail());
        let limits = metric(&text, "kingpost_failures_total", &["kind=\"throttled\"", "stage=\"extract\""]);
        assert!(limits < 1.5, "{limits} windows were begun");
    }
    let calls = calls(&sandbox).await?.len();
    assert!(calls <= 2, "{calls} calls during the ban");
    // Over at last; a person has lifted it, and starts the extractors anew.
    sandbox.delete("faults").await?;
    for extractor in extractors {
        crate::stop(extractor).await?;
    }
    let _extractor = pipeline.start("extractor")?;
    wait_until(Duration::from_secs(30), "documents", async || {
        let depth = inspector.depth("transform.purchase-stockin").await.ok().flatten();
        depth.is_some_and(|depth| depth.ready > 10)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn when_the_one_that_probes_is_killed_then_another_one_probes() -> Result<()> {
    let (sandbox, tempo) = orders(20, &[]).await?;
    // The first call is banned; the one that probes afterwards is never answered.
    sandbox
        .fault(&json!([
            {"system": "wdt", "action": {"kind": "ban", "seconds": 6, "hold": true}},
            {"system": "wdt", "action": {"kind": "hang", "when": "before"}},
        ]))
        .await?;
    let url = shared_broker().await?.vhost("limits-kill").await?;
    let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
    let mut extractors = vec![pipeline.start("extractor")?, pipeline.start("extractor")?];
    let hanging = async || {
        let rules = sandbox.get("faults").await.unwrap_or_default();
        rules.pointer("/1/struck").and_then(serde_json::Value::as_u64) == Some(1)
    };
    wait_until(SOON, "a probe", hanging).await?;
    let before = sandbox.get("requests?system=wdt").await?.as_array().map_or(0, Vec::len);
    let called = async || {
        let requests = sandbox.get("requests?system=wdt").await.unwrap_or_default();
        requests.as_array().is_some_and(|requests| requests.len() > before)
    };
    assert!(wait_until(QUIET, "nobody", called).await.is_err(), "the other one called beside the probe");
    // Whichever of them probes: with the first gone, or then with the second, somebody else does.
    for _ in 0..2 {
        extractors.remove(0).process.kill();
        extractors.push(pipeline.start("extractor")?);
        if wait_until(QUIET, "another probe", called).await.is_ok() {
            break;
        }
    }
    wait_until(SOON, "the account to be open again", async || {
        calls(&sandbox).await.is_ok_and(|calls| calls.iter().filter(|call| call.outcome == "ok").count() > 2)
    })
    .await
}

#[tokio::test]
async fn an_extractor_that_may_not_tell_others_reads_all_the_same_and_says_so_once() -> Result<()> {
    let (sandbox, tempo) = orders(20, &[]).await?;
    let node = shared_broker().await?;
    let admin = node.vhost("limits-deaf").await?;
    Topology::new([(SCHEME, 1)]).apply(&BrokerConfig::for_url(&*admin, "kingpost-test"), false).await?;
    let (user, vhost) =
        (format!("deaf-{}", std::process::id()), admin.rsplit('/').next().context("no vhost")?);
    node.ctl(&["add_user", &user, "no-secret"]).await?;
    // What an extractor needed before there were notices.
    let (configure, write, read) =
        (r"^scheduler\..+$", r"^(kingpost\.(work|dead|replies)|wait\..+)$", r"^(extract|cursor)\..+$");
    node.ctl(&["set_permissions", "--vhost", vhost, &user, configure, write, read]).await?;
    let url = admin.replace("guest:guest", &format!("{user}:no-secret"));
    let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
    let ban = json!({"system": "wdt", "count": 2, "every": 5, "action": {"kind": "ban", "seconds": 1}});
    sandbox.fault(&ban).await?;
    let extractor = pipeline.start("extractor")?;
    let inspector = Inspector::open(&BrokerConfig::for_url(&*admin, "kingpost-test")).await?;
    wait_until(SOON, "documents and both bans", async || {
        let depth = inspector.depth("transform.purchase-stockin").await.ok().flatten();
        let text = pipeline.metrics(&extractor).await.unwrap_or_default();
        let limits = metric(&text, "kingpost_account_limits_met_total", &[]);
        limits > 1.5 && depth.is_some_and(|depth| depth.ready >= 20)
    })
    .await?;
    let output = crate::stop(extractor).await?;
    for words in ["extractors can't tell each other of limits", "who may make the first call after a limit"] {
        assert_eq!(output.matches(words).count(), 1, "{words}: {output}");
    }
    Ok(())
}
