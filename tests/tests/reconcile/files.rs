//! Files for a person and for Prometheus.

use std::path::Path;

use anyhow::{Context, Result};
use calamine::{Data, Reader as _, Xlsx, open_workbook};
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
        "kingpost_reconcile_documents{scheme=\"purchase-stockin\",verdict=\"matched\"} 40",
        "kingpost_reconcile_documents{scheme=\"purchase-stockin\",verdict=\"extra\"} 2",
        "kingpost_reconcile_agrees{scheme=\"purchase-stockin\"} 0",
        "kingpost_reconcile_last_timestamp_seconds{scheme=\"purchase-stockin\"} ",
        // 2026-09-01T00:00:00+08:00
        "kingpost_reconcile_period_end_timestamp_seconds{scheme=\"purchase-stockin\"} 1788192000",
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
    assert!(folder.path().join("a.xlsx").is_file(), "{output}");
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

/// The cells of a sheet, row by row.
fn sheet(path: &Path, name: &str) -> Result<Vec<Vec<Data>>> {
    let mut workbook: Xlsx<_> =
        open_workbook(path).with_context(|| format!("{} is no XLSX", path.display()))?;
    assert_eq!(workbook.sheet_names(), ["summary", "documents"]);
    let formulas = workbook.worksheet_formula(name)?;
    assert!(formulas.used_cells().all(|(_, _, formula)| formula.is_empty()), "a cell is a formula");
    let rows = workbook.worksheet_range(name)?;
    Ok(rows.rows().map(<[Data]>::to_vec).collect())
}

#[tokio::test]
async fn cells_of_a_workbook_are_numbers_where_these_are_exact_and_text_where_they_name_something()
-> Result<()> {
    let (sandbox, pipeline) = moved("rec-sheets", 12, 0).await?;
    let folder = tempfile::tempdir()?;
    let mut long = typed("RK-LONG", "2026-08-02", None);
    // Eighteen digits, of which Excel would keep fifteen.
    *long.pointer_mut("/FInStockEntry/0/FRealQty").context("no quantity")? = json!("1234567890123.45678");
    for document in [typed("00012345", "2026-08-02", None), typed("=1+1", "2026-08-02", None), long] {
        sandbox.post("kingdee/documents", &document).await?;
    }
    let arguments = both_months(&["--all-numbers", "--out", "a.xlsx"]);
    let (code, output) = reconcile((&sandbox, &pipeline), folder.path(), &arguments).await?;
    assert_eq!(code, Some(1), "{output}");
    let path = folder.path().join("a.xlsx");
    let rows = sheet(&path, "documents")?;
    let (heading, rows) = rows.split_first().context("no rows")?;
    let column = |name: &str| {
        heading.iter().position(|cell| *cell == *name).with_context(|| format!("no column {name}"))
    };
    assert_eq!(rows.len(), 12 + 3);
    let texts = ["number", "result", "date_kingdee", "partner_kingdee", "stock_kingdee", "fid_kingdee"];
    for row in rows {
        for name in texts {
            let cell = row.get(column(name)?).context("no cell")?;
            assert!(matches!(cell, Data::String(text) if !text.is_empty()), "{name}: {cell:?}");
        }
        let lines = row.get(column("lines_kingdee")?);
        assert!(matches!(lines, Some(Data::Float(count)) if *count >= 1.0), "{lines:?}");
    }
    let of = |number: &str| rows.iter().find(|row| row.first() == Some(&Data::String(number.to_owned())));
    let cell = |number: &str, name: &str| -> Result<Data> {
        let row = of(number).with_context(|| format!("no row of {number}"))?;
        row.get(column(name)?).cloned().context("no cell")
    };
    assert_eq!(cell("00012345", "result")?, Data::String("extra".to_owned()), "zeros in front are kept");
    assert_eq!(cell("00012345", "quantity_kingdee")?, Data::Float(1.0));
    assert_eq!(cell("00012345", "amount_kingdee")?, Data::Float(5.0));
    assert_eq!(cell("00012345", "quantity_source")?, Data::Empty, "what a side doesn't have is no zero");
    assert_eq!(cell("=1+1", "result")?, Data::String("extra".to_owned()));
    assert_eq!(cell("RK-LONG", "quantity_kingdee")?, Data::String("1234567890123.45678".to_owned()));

    let sums = sheet(&path, "summary")?;
    let at = |name: &str| sums.iter().find(|row| row.first() == Some(&Data::String(name.to_owned())));
    assert_eq!(at("from").and_then(|row| row.get(1)), Some(&Data::String("2026-07-01".to_owned())));
    let matched = sums.iter().find(|row| row.get(1) == Some(&Data::String("matched".to_owned())));
    let matched = matched.context("no sum of what matched")?;
    assert!(
        matches!(matched.get(2..5), Some([Data::Float(a), Data::Float(b), Data::Float(c)])
        if [a, b, c].iter().all(|count| **count == 12.0)),
        "{matched:?}"
    );
    let quantities = rows.iter().filter_map(|row| match row.get(column("quantity_source").ok()?) {
        Some(Data::Float(quantity)) => Some(*quantity),
        _ => None,
    });
    let sum: f64 = quantities.sum();
    assert!(
        matches!(matched.get(5), Some(Data::Float(all)) if (all - sum).abs() < 1e-6),
        "{matched:?} {sum}"
    );
    Ok(())
}
