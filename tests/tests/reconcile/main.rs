//! `kingpost reconcile` against the sandbox and a real RabbitMQ: every planted difference is found and no other, and what
//! is missing arrives once.
#![forbid(unsafe_code)]

mod explained;
mod files;
mod metrics;
mod repair;

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{Process, Sandbox, SandboxOptions, shared_broker},
    pipeline::{Pipeline, Schemes, Tempo, Worker},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(150);
/// The last hours of a month in Beijing, and the first ones of the next.
const FROM: &str = "2026-07-31T20:00:00+08:00";
const MONTH: [&str; 4] = ["--from", "2026-07-01", "--to", "2026-09-01"];

/// Orders around the end of July, and a pipeline without workers.
async fn prepared(name: &str, orders: u32, unpostable: u32) -> Result<(Sandbox, Pipeline)> {
    let options = SandboxOptions {
        orders,
        unpostable,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("8h".into()),
        args: vec!["--repeated-numbers".to_owned()],
    };
    let sandbox = Sandbox::start(options).await?;
    let url = shared_broker().await?.vhost(name).await?;
    let tempo = Tempo { start: "2026-07-01T00:00:00+08:00".into(), width: "29d".into(), settle: "2s".into() };
    let pipeline = Pipeline::new(url, Schemes::at(&tempo)?, &sandbox)?;
    Ok((sandbox, pipeline))
}

/// The same, and everything went through the pipeline, whose workers have ended.
async fn moved(name: &str, orders: u32, unpostable: u32) -> Result<(Sandbox, Pipeline)> {
    let (sandbox, pipeline) = prepared(name, orders, unpostable).await?;
    let workers = workers(&pipeline)?;
    pipeline.wait_done(&sandbox, u64::from(orders - unpostable), unpostable, DEADLINE).await?;
    for worker in workers {
        worker.process.term()?;
        ensure!(worker.process.wait(SOON).await?.code() == Some(0), "{}", worker.process.log_tail());
    }
    Ok((sandbox, pipeline))
}

fn workers(pipeline: &Pipeline) -> Result<[Worker; 3]> {
    Ok([pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?])
}

/// Runs the comparison in a folder.
async fn reconcile(
    of: (&Sandbox, &Pipeline),
    folder: &Path,
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let arguments = [&["reconcile", "--rate", "0"], arguments].concat();
    kingpost(of, &of.1.amqp_url, folder, &arguments).await
}

/// Runs the operator's command in a folder, as the user of a URL.
async fn kingpost(
    (sandbox, pipeline): (&Sandbox, &Pipeline),
    url: &str,
    folder: &Path,
    arguments: &[&str],
) -> Result<(Option<i32>, String)> {
    let process = Process::of("kingpost")?
        .args(arguments.iter().copied())
        .envs(sandbox.settings().iter().cloned())
        .env("AMQP_URL", url)
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .dir(folder)
        .start()?;
    let status = process.wait(DEADLINE).await?;
    Ok((status.code(), process.output()))
}

/// The arguments of a comparison of both months.
fn both_months<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--scheme", "purchase-stockin"], &MONTH[..], more].concat()
}

/// Every number that doesn't match, with what was found, and the summary.
fn found(output: &str) -> Result<(BTreeMap<String, String>, Value)> {
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let text =
        |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let documents = lines.iter().filter(|line| text(line, "type") == "document");
    let found = documents
        .map(|line| (text(line, "number"), text(line, "result")))
        .filter(|(_, result)| result != "matched")
        .collect();
    let summary = lines.iter().rfind(|line| text(line, "type") == "summary").cloned();
    Ok((found, summary.with_context(|| format!("no summary in {output}"))?))
}

/// A document as a person would type it, like one that is there.
fn typed(number: &str, date: &str, fid: Option<&Value>) -> Value {
    let mut model = json!({
        "FBillTypeID": {"FNUMBER": "RKD01_SYS"}, "FBillNo": number, "FDate": date,
        "FStockOrgId": {"FNumber": "100"}, "FSupplierId": {"FNumber": "GYS0001"},
        "FInStockFin": {"FSettleOrgId": {"FNumber": "100"}, "FSettleCurrId": {"FNumber": "PRE001"}},
        "FInStockEntry": [{"FMaterialId": {"FNumber": "SP-1001"}, "FRealQty": "1", "FTaxPrice": "5",
            "FEntryTaxRate": 13, "FStockId": {"FNumber": "SH01"}}],
    });
    if let (Some(members), Some(fid)) = (model.as_object_mut(), fid) {
        members.insert("FID".to_owned(), fid.clone());
    }
    model
}

/// Numbers of documents in Kingdee, with id and date, in the order in which they were posted.
async fn posted(sandbox: &Sandbox) -> Result<Vec<(String, Value, String)>> {
    let documents = sandbox.documents().await?;
    let documents = documents.as_array().context("no documents")?;
    let one = |document: &Value| {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("FBillNo"), document.get("FID").cloned().unwrap_or_default(), text("date"))
    };
    Ok(documents.iter().map(one).collect())
}

#[tokio::test]
async fn every_planted_difference_is_found_and_no_other() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-planted", 80, 12).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    let orders = sandbox.orders().await?;
    for order in orders.as_array().context("no orders")? {
        let text = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default();
        let result = match text("fate") {
            "refused" => "dead",
            "unmappable" => "unmappable",
            _ => continue,
        };
        expected.insert(text("order_no").to_owned(), result.to_owned());
    }
    let (code, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    assert_eq!(code, Some(1), "dead letters are a difference: {output}");
    assert_eq!(found(&output)?.0, expected, "before anything is planted: {output}");

    let documents = posted(&sandbox).await?;
    let mut plant = |at: usize, result: &str| -> Result<(String, Value, String)> {
        let document = documents.get(at).cloned().context("too few documents")?;
        expected.insert(document.0.clone(), result.to_owned());
        Ok(document)
    };
    let (missing, ..) = plant(0, "missing")?;
    sandbox.delete(&format!("kingdee/documents/{missing}")).await?;
    let (edited, fid, date) = plant(1, "different")?;
    sandbox.post("kingdee/documents", &typed(&edited, &date, Some(&fid))).await?;
    let (twice, _, date) = plant(2, "twice")?;
    sandbox.post("kingdee/documents", &typed(&twice, &date, None)).await?;
    let (ahead, fid, _) = plant(3, "other-period")?;
    sandbox.post("kingdee/documents", &typed(&ahead, "2026-09-01", Some(&fid))).await?;
    let (cancelled, ..) = plant(4, "extra")?;
    sandbox.post(&format!("wdt/orders/{cancelled}/cancel"), &json!({})).await?;
    let (deleted, ..) = plant(5, "extra")?;
    sandbox.delete(&format!("wdt/orders/{deleted}")).await?;
    // Changed in the source after the months, back and forth: found by its number.
    let (late, ..) = documents.get(6).cloned().context("too few documents")?;
    sandbox.post("wdt/orders", &json!({"order_no": late, "remark": "later"})).await?;
    for (number, result) in [("RK26HAND'1", "extra"), ("CGRK00000001", "foreign"), ("CG-手工/7", "foreign")]
    {
        sandbox.post("kingdee/documents", &typed(number, "2026-08-02", None)).await?;
        expected.insert(number.to_owned(), result.to_owned());
    }
    let (code, output) = reconcile(of, folder.path(), &both_months(&["--json"])).await?;
    let (results, summary) = found(&output)?;
    assert_eq!(results, expected, "{output}");
    assert_eq!((code, summary.get("agrees")), (Some(1), Some(&Value::Bool(false))));
    let line = output.lines().find(|line| line.contains(&edited)).context("no line")?;
    assert!(line.contains("partner GYS0001 there") || line.contains("material SP-1001"), "{line}");
    assert!(output.contains("its order was cancelled in the source"), "{output}");

    let (_, output) =
        reconcile(of, folder.path(), &both_months(&["--json", "--only-prefix", "CGRK,RK"])).await?;
    expected.insert("CGRK00000001".to_owned(), "extra".to_owned());
    assert_eq!(found(&output)?.0, expected, "{output}");
    Ok(())
}

#[tokio::test]
async fn limits_and_trouble_of_both_systems_are_waited_out() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-limits", 60, 0).await?;
    let folder = tempfile::tempdir()?;
    let status = |operation: &str| {
        json!({"system": "kingdee", "operation": operation, "skip": 0, "count": 2,
            "action": {"kind": "status", "code": 429, "when": "before", "retry_after": 1}})
    };
    let faults = json!([
        {"system": "wdt", "count": 2, "action": {"kind": "ban", "seconds": 1}},
        {"system": "wdt", "count": 1, "action": {"kind": "drop", "when": "after"}},
        status("ExecuteBillQuery"),
        {"system": "kingdee", "operation": "ExecuteBillQuery", "count": 1, "action": {"kind": "half_body"}},
    ]);
    sandbox.fault(&faults).await?;
    let (code, output) = reconcile((&sandbox, &pipeline), folder.path(), &both_months(&["--json"])).await?;
    let (results, summary) = found(&output)?;
    assert_eq!((code, results), (Some(0), BTreeMap::new()), "{output}");
    assert_eq!(summary.pointer("/results/matched"), Some(&json!(60)), "{output}");
    assert!(output.contains("waiting 1 s"), "a wait is told: {output}");
    Ok(())
}

#[tokio::test]
async fn each_side_of_a_month_boundary_holds_its_own() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-months", 60, 0).await?;
    let folder = tempfile::tempdir()?;
    let mut matched = 0;
    for month in ["2026-06", "2026-07", "2026-08"] {
        let arguments = ["--scheme", "purchase-stockin", "--month", month, "--json"];
        let (code, output) = reconcile((&sandbox, &pipeline), folder.path(), &arguments).await?;
        let (results, summary) = found(&output)?;
        assert_eq!((code, results), (Some(0), BTreeMap::new()), "{month}: {output}");
        let count = summary.pointer("/results/matched").and_then(Value::as_u64).context("no count")?;
        assert!((count > 0) == (month != "2026-06"), "{month}: {output}");
        matched += count;
    }
    assert_eq!(matched, 60, "each in one month");
    Ok(())
}

#[tokio::test]
async fn wrong_names_and_days_and_missing_rights_are_told_with_a_remedy() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-wrong", 2, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    for (arguments, code, text) in [
        (&["--scheme", "purchase", "--month", "2026-08"][..], 2, "there are: purchase-stockin"),
        (
            &["--scheme", "purchase-stockin", "--from", "2026-08-02", "--to", "2026-08-01"],
            2,
            "--to is the first day after it",
        ),
        (&["--scheme", "purchase-stockin", "--month", "2999-01"], 2, "in the future"),
        (&["--scheme", "purchase-stockin", "--month", "August"], 2, "write one such as 2026-11"),
        (&["--scheme", "purchase-stockin"], 2, "--month"),
        (
            &["--scheme", "purchase-stockin", "--month", "2026-08", "--out", "a.doc"],
            2,
            ".csv, .xlsx or .json",
        ),
    ] {
        let (found, output) = reconcile(of, folder.path(), arguments).await?;
        assert!(found == Some(code) && output.contains(text), "{arguments:?}: {output}");
    }
    let refusal = json!({"system": "kingdee", "operation": "ExecuteBillQuery", "count": null,
        "action": {"kind": "refuse", "msg_code": 2, "message": "您没有采购入库单的查看权限，请联系系统管理员"}});
    sandbox.fault(&refusal).await?;
    let (code, output) = reconcile(of, folder.path(), &both_months(&[])).await?;
    assert_eq!(code, Some(69), "{output}");
    assert!(output.contains("Kingdee can't be read") && output.contains("remedy:"), "{output}");
    Ok(())
}
