//! Books of a month, compared by the operator's command, whose memory is watched.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::{Peak, resident};
use crate::lab::{Process, Sandbox, SandboxOptions, wait_until};
use crate::pipeline::{SCHEME, Schemes, Tempo};

/// 2026-08-01 in Beijing, and how long the month is.
const FIRST_S: u64 = 1_785_513_600;
const MONTH_S: u64 = 31 * 86_400;
/// Orders that are put at once, and documents that are typed at a time.
const GROUP: usize = 500;
const TYPISTS: usize = 4;
/// The longest that a comparison may take.
const DEADLINE: Duration = Duration::from_secs(7_200);

/// Compares so many documents and prints how long that took and how much memory; true when all of them matched.
///
/// # Errors
/// Something could not be started, or takes too long.
pub async fn reconcile(documents: u32) -> Result<bool> {
    println!("· {documents} documents are put into both books");
    let sandbox = Sandbox::start(SandboxOptions::default()).await?;
    let numbers: Vec<u32> = (0..documents).collect();
    for group in numbers.chunks(GROUP) {
        let orders: Vec<Value> = group.iter().map(|n| order(*n, documents)).collect();
        sandbox.post("wdt/orders", &Value::Array(orders)).await?;
    }
    let typing = numbers.iter().map(|n| {
        let (sandbox, model) = (&sandbox, model(*n, documents));
        async move { sandbox.post("kingdee/documents", &model).await.map(drop) }
    });
    futures_util::stream::iter(typing).buffer_unordered(TYPISTS).try_collect::<Vec<()>>().await?;
    let schemes = Schemes::at(&Tempo::default())?;
    let file = schemes.path().join(format!("{SCHEME}.yaml"));
    // A typed document is saved, and no more.
    let yaml = std::fs::read_to_string(&file)?.replace("\n  finish: audit", "\n  finish: save");
    std::fs::write(&file, yaml)?;
    let folder = tempfile::Builder::new().prefix("kingpost-soak-").tempdir()?;
    println!("· they are compared");
    let began = Instant::now();
    let process = Process::of("kingpost")?
        .args(["reconcile", "--scheme", SCHEME, "--month", "2026-08", "--rate", "0", "--without-queues"])
        .args(["--out", "books.xlsx"])
        .envs(sandbox.settings().iter().cloned())
        .env("SCHEMES_DIR", schemes.path())
        .dir(folder.path())
        .start()?;
    let mut peak = Peak::default();
    wait_until(DEADLINE, "the comparison to end", async || {
        // It may end between the two looks.
        if let Ok(bytes) = resident(process.pid()) {
            peak.see(bytes);
        }
        !process.is_running()
    })
    .await
    .with_context(|| process.log_tail())?;
    let status = process.wait(Duration::from_secs(5)).await?;
    let output = process.output();
    let file = std::fs::metadata(folder.path().join("books.xlsx")).with_context(|| output.clone())?;
    let matched = output.contains("the books agree") && output.contains(&format!(" {documents} |"));
    println!(
        "soak reconcile: {documents} documents on each side, {}; {:.0} s, at most {peak}; a file of {:.1} MB",
        if matched { "all matched" } else { "not all matched" },
        began.elapsed().as_secs_f64(),
        file.len() as f64 / 1e6
    );
    if !matched {
        println!("{output}");
    }
    Ok(matched && status.success())
}

/// The second in which an order was approved.
fn checked_s(n: u32, of: u32) -> u64 {
    FIRST_S + u64::from(n) * (MONTH_S - 120) / u64::from(of.max(1))
}

/// An order of three lines, as WDT sends it.
fn order(n: u32, of: u32) -> Value {
    let line = |at: u32| {
        json!({"rec_id": n * 3 + at, "spec_no": format!("SP-{}", 1_001 + (n + at) % 240), "goods_no": "HP",
            "num": format!("{}.5000", 1 + n % 90), "tax_price": "13.5600", "tax": "0.1300", "defect": false})
    };
    let checked_s = checked_s(n, of);
    json!({"order_no": format!("RK{n:08}"), "status": "80", "warehouse_no": "SH01", "provider_no": "GYS0001",
        "check_time": (checked_s * 1_000).to_string(), "modified": ((checked_s + 60) * 1_000).to_string(),
        "purchase_no": "", "details_list": [line(0), line(1), line(2)]})
}

/// The document that becomes of it, as a person would type it.
fn model(n: u32, of: u32) -> Value {
    let line = |at: u32| {
        json!({"FMaterialId": {"FNumber": format!("SP-{}", 1_001 + (n + at) % 240)},
            "FRealQty": format!("{}.5", 1 + n % 90), "FTaxPrice": "13.56", "FEntryTaxRate": 13,
            "FStockId": {"FNumber": "SH01"}})
    };
    let day = 1 + (checked_s(n, of) - FIRST_S) / 86_400;
    json!({"FBillTypeID": {"FNUMBER": "RKD01_SYS"}, "FBillNo": format!("RK{n:08}"),
        "FDate": format!("2026-08-{day:02}"), "FStockOrgId": {"FNumber": "100"},
        "FSupplierId": {"FNumber": "GYS0001"},
        "FInStockFin": {"FSettleOrgId": {"FNumber": "100"}, "FSettleCurrId": {"FNumber": "PRE001"}},
        "FInStockEntry": [line(0), line(1), line(2)]})
}
