//! Files for a person and for Prometheus.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{both_months, found, moved, reconcile, typed};

fn read(folder: &Path, name: &str) -> Result<String> {
    std::fs::read_to_string(folder.join(name)).with_context(|| format!("no {name}"))
}

#[tokio::test]
async fn files_hold_every_document_exactly_and_nothing_that_a_spreadsheet_would_run() -> Result<()> {
    let (sandbox, pipeline) = moved("rec-files", 40, 0).await?;
    let folder = tempfile::tempdir()?;
    let of = (&sandbox, &pipeline);
    for number in ["=1+1", "RK库'存"] {
        sandbox.post("kingdee/documents", &typed(number, "2026-08-02", None)).await?;
    }
    let arguments = ["--all-numbers", "--by", "material", "--metrics-file", "kingpost.prom"];
    let (code, output) =
        reconcile(of, folder.path(), &both_months(&[&arguments[..], &["--out", "a.csv"]].concat())).await?;
    assert_eq!(code, Some(1), "{output}");
    let csv = read(folder.path(), "a.csv")?;
    assert!(csv.starts_with("\u{feff}number,source_number,result,"), "{csv}");
    assert_eq!(csv.lines().filter(|line| line.contains(",matched,")).count(), 41, "40 and their sum: {csv}");
    assert!(csv.contains("\r\n'=1+1,") && csv.contains("RK库'存,"), "{csv}");
    let metrics = read(folder.path(), "kingpost.prom")?;
    for line in [
        "kingpost_reconcile_documents{scheme=\"purchase-stockin\",result=\"matched\"} 40",
        "kingpost_reconcile_documents{scheme=\"purchase-stockin\",result=\"extra\"} 2",
        "kingpost_reconcile_agrees{scheme=\"purchase-stockin\"} 0",
        "kingpost_reconcile_last_timestamp_seconds{scheme=\"purchase-stockin\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let (_, output) =
        reconcile(of, folder.path(), &both_months(&["--all-numbers", "--json", "--out", "a.json"])).await?;
    let printed: Vec<&str> = output.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(printed, read(folder.path(), "a.json")?.lines().collect::<Vec<_>>(), "both say the same");
    let (_, summary) = found(&output)?;
    assert_eq!(summary.pointer("/results/extra"), Some(&json!(2)));
    sums_are_exact(&sandbox.orders().await?, &printed)?;

    let (_, output) =
        reconcile(of, folder.path(), &both_months(&["--all-numbers", "--out", "a.xlsx"])).await?;
    let xlsx = std::fs::read(folder.path().join("a.xlsx")).with_context(|| output.clone())?;
    assert!(xlsx.starts_with(b"PK"), "an XLSX file is a zip");
    let left = std::fs::read_dir(folder.path())?.count();
    assert_eq!(left, 4, "no temporary file stays: a.csv, a.json, a.xlsx, kingpost.prom");
    Ok(())
}

/// The sum of all quantities as the source tells it, against that of the file.
fn sums_are_exact(orders: &Value, printed: &[&str]) -> Result<()> {
    let completed = |order: &&Value| order.get("status").and_then(Value::as_str) == Some("80");
    let quantities = orders
        .as_array()
        .context("no orders")?
        .iter()
        .filter(completed)
        .filter_map(|order| order.get("goods_count"));
    let mut expected = rust_decimal::Decimal::ZERO;
    for quantity in quantities {
        expected += quantity.as_str().unwrap_or_default().parse::<rust_decimal::Decimal>()?;
    }
    let lines = printed.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut all = lines.filter(|line| line.get("what").and_then(Value::as_str) == Some("all"));
    let all = all.next().context("no sum")?;
    let sum = all.get("quantity_source").and_then(Value::as_str).context("no quantity")?;
    assert_eq!(sum, expected.normalize().to_string());
    Ok(())
}
