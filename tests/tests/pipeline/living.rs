//! Orders that people work on while they are read.

use std::collections::BTreeSet;

use e2e::account::{Pending, waiting};
use e2e::lab::wait_for;
use kingpost_wdt::{Client, Query, Transport, WdtConfig};

use super::*;

const METHOD: &str = "wms.stockin.Purchase.queryWithDetail";

/// Right before every answer one or two of the orders of the window are modified or cancelled, for so many answers.
fn edits(answers: u32) -> Value {
    let edit = |every: u32, what: &str, pick: u32| json!({"system": "wdt", "every": every, "count": answers, "action": {"kind": "edit", "what": what, "pick": pick}});
    json!([edit(4, "cancel", 1), edit(1, "modify", 2)])
}

async fn settled(pipeline: &Pipeline, sandbox: &Sandbox) -> Result<Account> {
    let inspector = pipeline.inspector().await?;
    wait_for(DEADLINE, "every order to have arrived", async || {
        let left = Pending::of(sandbox).await.ok()?.left(waiting(&inspector, SCHEME, 1).await.ok()?);
        left.is_none().then_some(())
    })
    .await?;
    inspector.close().await;
    Account::take(sandbox, &pipeline.amqp_url, SCHEME).await
}

/// The numbers that WDT has in August, and that are completed still.
async fn in_august(sandbox: &Sandbox) -> Result<BTreeSet<String>> {
    let orders = sandbox.orders().await?;
    let text =
        |order: &Value, name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let orders = orders.as_array().into_iter().flatten();
    let there = orders
        .filter(|order| text(order, "status") == "80" && text(order, "modified").starts_with("2026-08"));
    Ok(there.map(|order| text(order, "order_no")).collect())
}

/// What everybody writes first: page after page until one is short.
async fn forward(sandbox: &Sandbox) -> Result<BTreeSet<String>> {
    let client = Client::new(WdtConfig {
        url: format!("http://{}/openapi", sandbox.address()),
        transport: Transport::Direct,
        sid: sandbox.setting("WDT_SID")?.to_owned(),
        app_key: sandbox.setting("WDT_APP_KEY")?.to_owned(),
        app_secret: sandbox.setting("WDT_APP_SECRET")?.into(),
        qimen: None,
        ca_file: None,
    })?;
    let mut numbers = BTreeSet::new();
    for page in 0.. {
        let criteria =
            [("start_time", "2026-08-01 00:00:00"), ("end_time", "2026-08-01 03:00:00"), ("status", "80")];
        let params = criteria.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let query = Query { method: METHOD.to_owned(), params, page, page_size: 50, want_total: true };
        let rows = client.query(&query).await?.rows;
        let short = rows.len() < 50;
        numbers.extend(rows.into_iter().filter_map(|row| row.key));
        if short {
            break;
        }
    }
    Ok(numbers)
}

#[tokio::test]
async fn when_orders_change_between_two_pages_then_all_arrive_once_whatever_order_wdt_answers_in()
-> Result<()> {
    for (order, shuffle) in [("modified", true), ("modified-desc", false), ("id", false)] {
        let mut more = vec!["--order", order];
        more.extend(shuffle.then_some("--shuffle-ties"));
        // Windows of one page more or less would show nothing: 400 orders are eight pages.
        let naive = sandbox(400, 0, &more).await?;
        naive.fault(&edits(40)).await?;
        let (seen, there) = (forward(&naive).await?, in_august(&naive).await?);
        assert!(!there.is_subset(&seen), "the test can't tell: a forward reader lost nothing by {order}");

        let sandbox = sandbox(400, 0, &more).await?;
        sandbox.fault(&edits(40)).await?;
        let pipeline = pipeline(&format!("living-{order}"), &sandbox).await?;
        let _workers =
            [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
        let account = settled(&pipeline, &sandbox).await?;
        assert!(account.is_sound(), "{order}\n{}\n{}", account.line("unsound"), account.report());
        let counters = account.counters();
        assert!(counters.withdrawn > 0 && counters.ok == counters.attempted, "{order} {counters}");
    }
    Ok(())
}

#[tokio::test]
async fn when_a_quantity_changes_after_the_posting_then_it_is_a_conflict_and_another_note_is_nothing()
-> Result<()> {
    let sandbox = sandbox(20, 0, &[]).await?;
    let pipeline = pipeline("living-content", &sandbox).await?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    settled(&pipeline, &sandbox).await?;
    let numbers: Vec<String> = in_august(&sandbox).await?.into_iter().collect();
    let rule = |what: &str, numbers: &[String]| json!({"system": "wdt", "action": {"kind": "edit", "what": what, "numbers": numbers}});
    sandbox.fault(&json!([rule("content", &numbers[..2]), rule("modify", &numbers[2..8])])).await?;
    let inspector = pipeline.inspector().await?;
    wait_until(DEADLINE, "both conflicts", async || {
        waiting(&inspector, SCHEME, 1).await.is_ok_and(|waiting| waiting.dead >= 2)
    })
    .await?;
    inspector.close().await;
    let account = settled(&pipeline, &sandbox).await?;
    assert!(account.is_sound(), "{}", account.report());
    assert_eq!((account.counters().ok, account.counters().reported), (18, 2), "{}", account.report());
    Ok(())
}

#[tokio::test]
async fn when_the_page_base_is_wrong_then_the_count_finds_it_through_both_gateways() -> Result<()> {
    for gateway in ["qimen", "direct"] {
        let sandbox = sandbox(3, 0, &[]).await?;
        let shift = json!({"system": "wdt", "count": null, "action": {"kind": "page_shift", "add": 1}});
        sandbox.fault(&shift).await?;
        let pipeline = pipeline(&format!("living-base-{gateway}"), &sandbox).await?;
        let url = format!("http://{}/openapi", sandbox.address());
        let direct = [("WDT_TRANSPORT", "direct"), ("WDT_URL", url.as_str())];
        let settings = if gateway == "direct" { &direct[..] } else { &[] };
        let extractor = pipeline.start_with("extractor", settings)?;
        let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
        wait_until(DEADLINE, "a window that can't be read whole", async || {
            extractor.process.output().contains("gave fewer documents than the source counts (0 of")
        })
        .await?;
        assert_eq!(sandbox.documents().await?, json!([]), "{gateway}");
        sandbox.delete("faults").await?;
        let account = settled(&pipeline, &sandbox).await?;
        assert!(account.is_sound() && account.orders == 3, "{gateway} {}", account.report());
    }
    Ok(())
}
