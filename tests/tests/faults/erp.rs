//! Kingdee answers late, wrongly, partly or not at all.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    account::{Account, Letter, day, letters},
    lab::{Welcome, wait_until},
    pipeline::{SCHEME, Worker},
};
use serde_json::{Value, json};

use crate::{LOAD, Run, SOON, TRANSFORM, always, kingdee, stop};

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Run {
    /// A run of so many orders, all in calls of so many rows, with faults armed before its loader starts.
    async fn with_faults(name: &str, orders: u32, dead: u32, rows: u32, faults: &[Value]) -> Result<Run> {
        let run = Run::shared(name, orders, dead).await?;
        run.calls_of(rows, 1)?;
        for fault in faults {
            run.arm(fault.clone()).await?;
        }
        Ok(run)
    }

    /// Every order is saved exactly once, says the ledger; gives back the account.
    async fn saved_once(&self, workers: Vec<Worker>) -> Result<Account> {
        let account = self.sound(workers).await?;
        let ledger = self.sandbox.ledger().await?;
        let commits = ledger.as_array().context("the ledger is no list")?;
        let saves = commits.iter().filter(|commit| text(commit, "step") == "saved").count();
        ensure!(saves == (self.orders - self.dead) as usize, "{saves} saves");
        Ok(account)
    }
}

#[tokio::test]
async fn when_kingdee_can_not_be_connected_to_then_orders_wait_and_none_is_blamed() -> Result<()> {
    let run = Run::shared("erp-32", 20, 0).await?;
    // A listener that accepts nothing: once its queue is full, further connections are not answered.
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let _full = fill(address)?;
    let url = format!("http://{address}/k3cloud/");
    let mut workers = vec![run.start("extractor")?, run.start("transformer")?];
    let loader = run.pipeline.start_with("loader", &[("KINGDEE_URL", &url)])?;
    run.until_paused(&loader, "unavailable").await?;
    none_is_blamed(&run).await?;
    stop(loader).await?;
    workers.push(run.start("loader")?);
    run.saved_once(workers).await?;
    Ok(())
}

/// Connects until a connection isn't answered any more.
fn fill(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        streams.push(stream);
        ensure!(streams.len() < 10_000, "the queue of {address} is never full");
    }
    Ok(streams)
}

/// What waits for Kingdee is still on its first attempt, and nothing is dead.
async fn none_is_blamed(run: &Run) -> Result<()> {
    for letter in waiting(run).await? {
        let (attempt, why) = (letter.attempt(), letter.header("kingpost-last-failure"));
        ensure!(attempt == 1, "{} waits on attempt {attempt}: {why}", letter.id);
    }
    for queue in [LOAD, TRANSFORM] {
        ensure!(run.depth(&format!("{queue}.dead")).await? == 0, "{queue} has dead letters");
    }
    Ok(())
}

/// What waits for its next try.
async fn waiting(run: &Run) -> Result<Vec<Letter>> {
    let mut waiting = Vec::new();
    for queue in ["wait.5s", "wait.30s", "wait.3m"] {
        waiting.extend(letters(&run.pipeline.amqp_url, queue, 1_000).await?);
    }
    Ok(waiting)
}

#[tokio::test]
async fn when_kingdee_times_out_after_the_commit_then_the_document_is_found() -> Result<()> {
    // Two at once, so that their 35 seconds are waited for only once: one never answers, one answers byte by byte.
    let run = Run::shared("erp-33", 2, 0).await?;
    run.calls_of(1, 2)?;
    run.arm(kingdee("BatchSave", json!({"kind": "hang", "when": "after"}))).await?;
    run.arm(kingdee("BatchSave", json!({"kind": "slow_answer", "ms": 120_000}))).await?;
    let workers = run.start_all()?;
    run.until_struck(2).await?;
    let loader = workers.last().context("no loader")?;
    run.until_metric(loader, "kingpost_erp_unclear_total", &[], 2.0).await?;
    run.saved_once(workers).await?;
    ensure!(run.requests("BatchSave", 0).await?.len() == 2, "a document was posted again");
    Ok(())
}

#[tokio::test]
async fn when_a_commit_comes_after_the_look_up_and_within_the_settle_window_then_nothing_is_posted_again()
-> Result<()> {
    let run = Run::with_faults("erp-34a", 10, 0, 10, &[]).await?;
    run.scheme("settle: 2s", "settle: 5s")?;
    run.until_models_wait().await?;
    // Kingdee works on the call of a loader that is gone.
    let zombie = run.arm(always(kingdee("BatchSave", json!({"kind": "hold", "when": "before"})))).await?;
    let gone = run.start("loader")?;
    run.until_struck(1).await?;
    gone.process.kill();
    let before = run.last_request().await?;
    let heir = run.start("loader")?;
    wait_until(SOON, "a look-up of the heir", async || {
        let asked = run.requests("ExecuteBillQuery", before).await.unwrap_or_default();
        asked.iter().any(|request| request.get("duration_ms").is_some_and(|spent| !spent.is_null()))
    })
    .await?;
    ensure!(run.documents().await == 0, "the look-up came too late: nothing is shown");
    run.clear(zombie).await?;
    run.saved_once(vec![heir]).await?;
    ensure!(run.requests("BatchSave", 0).await?.len() == 1, "posted again within the settle window");
    Ok(())
}

#[tokio::test]
async fn when_a_commit_comes_after_the_settle_window_then_the_second_post_is_refused_and_the_first_is_found()
-> Result<()> {
    let run = Run::unique("erp-34b", 10, 0).await?;
    run.calls_of(10, 1)?;
    run.until_models_wait().await?;
    let zombie = run.arm(kingdee("BatchSave", json!({"kind": "zombie"}))).await?;
    let second = run.arm(kingdee("BatchSave", json!({"kind": "hold", "when": "before"}))).await?;
    let workers = vec![run.start("loader")?];
    // The second post is on its way, since nothing was found for the whole window; now the first one commits.
    run.until_struck(2).await?;
    ensure!(run.documents().await == 0, "the second post came too late: nothing is shown");
    run.clear(zombie).await?;
    run.until_documents(10).await?;
    run.clear(second).await?;
    run.saved_once(workers).await?;
    let posts = run.requests("BatchSave", 0).await?;
    ensure!(posts.len() == 2 && text(&posts[1], "outcome").contains("编码唯一"), "{posts:?}");
    Ok(())
}

/// The limit of what can be promised: an account set without the rule 编码唯一 that commits later than the settle window.
#[tokio::test]
async fn when_numbers_are_not_unique_and_a_commit_comes_after_the_settle_window_then_the_key_is_stopped_with_both_ids()
-> Result<()> {
    let run = Run::shared("erp-34c", 1, 0).await?;
    let zombie = run.arm(kingdee("BatchSave", json!({"kind": "zombie"}))).await?;
    // The second post commits too; its submit waits until the first one has.
    let held = run.arm(kingdee("BatchSave", json!({"kind": "drop", "when": "after"}))).await?;
    let workers = run.start_all()?;
    run.until_struck(2).await?;
    run.clear(zombie).await?;
    run.until_documents(2).await?;
    run.clear(held).await?;
    run.until_depth(&format!("{LOAD}.dead"), 1).await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    ensure!(account.duplicated.len() == 1, "{}", account.report());
    let group = account.dead.first().context("no dead letter")?;
    ensure!(group.kind == "conflict" && group.cause.contains("documents hold this number"), "{group:?}");
    let dead = letters(&run.pipeline.amqp_url, &format!("{LOAD}.dead"), 2).await?;
    let named = dead.first().context("no dead letter")?.header("kingpost-last-failure");
    let documents = run.sandbox.documents().await?;
    for document in documents.as_array().context("no list of documents")? {
        let id = document.get("FID").context("a document without an id")?.to_string();
        ensure!(named.contains(&id), "the letter does not name the document {id}: {named}");
    }
    let steps = run.requests("Submit", 0).await?;
    ensure!(steps.is_empty(), "a key with two documents is worked on: {steps:?}");
    for worker in workers {
        stop(worker).await?;
    }
    Ok(())
}

#[tokio::test]
async fn when_kingdee_answers_5xx_after_or_before_the_commit_then_each_document_is_saved_once() -> Result<()>
{
    let status =
        |code: u16, when: &str| kingdee("BatchSave", json!({"kind": "status", "code": code, "when": when}));
    let faults = [
        status(500, "after"),
        status(502, "after"),
        status(504, "after"),
        status(500, "before"),
        status(503, "before"),
    ];
    let run = Run::with_faults("erp-35", 60, 0, 10, &faults).await?;
    let workers = run.start_all()?;
    run.saved_once(workers).await?;
    ensure!(run.struck().await? == 5, "not every fault has struck");
    Ok(())
}

#[tokio::test]
async fn when_answers_are_broken_endless_or_bombs_then_memory_is_bounded_and_each_document_is_saved_once()
-> Result<()> {
    let shape = |action: Value| kingdee("BatchSave", action);
    let faults = [
        shape(json!({"kind": "half_body"})),
        shape(json!({"kind": "half_body", "reset": true})),
        shape(json!({"kind": "wrong_length"})),
        shape(json!({"kind": "invalid_json"})),
        shape(json!({"kind": "login_page"})),
        shape(json!({"kind": "gzip_bomb", "mib": 256})),
        shape(json!({"kind": "endless_head"})),
        shape(json!({"kind": "drop", "when": "after", "reset": true})),
        shape(json!({"kind": "response_error", "when": "after"})),
    ];
    let run = Run::with_faults("erp-36", 100, 0, 10, &faults).await?;
    let workers = run.start_all()?;
    run.until_struck(faults.len() as u64).await?;
    run.drained().await?;
    let loader = workers.last().context("no loader")?;
    let peak = peak_mib(loader.process.pid())?;
    ensure!(peak < 192, "the loader took {peak} MiB");
    run.saved_once(workers).await?;
    Ok(())
}

/// The most memory that a process has had, in MiB.
fn peak_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}

#[tokio::test]
async fn when_http_200_says_partly_failed_under_wrong_indexes_then_each_document_is_judged_by_its_number()
-> Result<()> {
    // 12 of 40 are refused or can't be mapped; neither of the shifts may let a good one die or a bad one pass.
    for (name, add) in [("erp-38a", 1), ("erp-38b", -1)] {
        let faults = [always(kingdee("BatchSave", json!({"kind": "wrong_index", "add": add})))];
        let run = Run::with_faults(name, 40, 12, 20, &faults).await?;
        let workers = run.start_all()?;
        run.saved_once(workers).await?;
        ensure!(run.struck().await? > 0, "the fault has not struck");
    }
    Ok(())
}

#[tokio::test]
async fn when_http_200_says_failed_without_a_document_then_each_document_is_saved_once() -> Result<()> {
    let refuse = |code: i64, message: &str| {
        kingdee("BatchSave", json!({"kind": "refuse", "msg_code": code, "message": message}))
    };
    let faults = [
        refuse(13, "业务操作冲突，请稍候再使用"),
        refuse(1, "会话信息已丢失，请重新登录"),
        refuse(
            0,
            "事务(进程 ID 73)与另一个进程被死锁在 锁 资源上，并且已被选作死锁牺牲品。请重新运行该事务。",
        ),
    ];
    let run = Run::with_faults("erp-38c", 40, 0, 10, &faults).await?;
    let workers = run.start_all()?;
    run.saved_once(workers).await?;
    ensure!(run.struck().await? == 3, "not every fault has struck");
    Ok(())
}

#[tokio::test]
async fn when_one_bad_document_fails_its_whole_batch_then_only_that_one_is_dead() -> Result<()> {
    let faults = [always(kingdee("BatchSave", json!({"kind": "all_or_nothing"})))];
    let run = Run::with_faults("erp-39", 48, 12, 20, &faults).await?;
    let workers = run.start_all()?;
    run.saved_once(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_kingdee_asks_to_wait_then_no_attempt_is_counted_and_everything_arrives() -> Result<()> {
    let page = |code: u16| {
        kingdee("BatchSave", json!({"kind": "status", "code": code, "when": "before", "retry_after": 2}))
    };
    let run = Run::with_faults("erp-40", 30, 0, 10, &[page(429), page(503)]).await?;
    let workers = run.start_all()?;
    run.until_struck(2).await?;
    none_is_blamed(&run).await?;
    run.saved_once(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_proxy_turns_away_a_save_that_kingdee_goes_on_with_then_nothing_is_posted_again() -> Result<()>
{
    let run = Run::with_faults("erp-40p", 10, 0, 10, &[]).await?;
    run.scheme("settle: 2s", "settle: 15s")?;
    run.until_models_wait().await?;
    // A proxy has given the save to a server that is slow, has tried another one, and tells what that one says.
    let busy = json!({"kind": "zombie", "code": 503, "retry_after": 1});
    let running = run.arm(kingdee("BatchSave", busy)).await?;
    let loader = run.start("loader")?;
    run.until_struck(1).await?;
    let before = run.last_request().await?;
    wait_until(SOON, "a look-up of what was turned away", async || {
        let asked = run.requests("ExecuteBillQuery", before).await.unwrap_or_default();
        asked.iter().any(|request| request.get("duration_ms").is_some_and(|spent| !spent.is_null()))
    })
    .await?;
    none_is_blamed(&run).await?;
    run.clear(running).await?;
    run.saved_once(vec![loader]).await?;
    ensure!(run.requests("BatchSave", 0).await?.len() == 1, "posted again while a save of it was running");
    Ok(())
}

#[tokio::test]
async fn when_sessions_end_in_mid_batch_then_one_login_follows_each_and_nothing_is_lost() -> Result<()> {
    let run = Run::shared("erp-41", 40, 0).await?;
    run.calls_of(10, 4)?;
    run.until_models_wait().await?;
    let hold = |operation: &str| always(kingdee(operation, json!({"kind": "hold", "when": "before"})));
    let mut held = run.arm(hold("BatchSave")).await?;
    let loader = run.pipeline.start_with("loader", &[("KINGDEE_AUTH", "login-by-sign")])?;
    // Four batches at once are on their way in one session when it ends; after that one alone tries whether Kingdee works.
    for (next, on_their_way) in [("Audit", 4), ("", 1)] {
        run.until_struck(on_their_way).await?;
        run.sandbox.delete("kingdee/sessions").await?;
        let free = held;
        if !next.is_empty() {
            held = run.arm(hold(next)).await?;
        }
        run.clear(free).await?;
    }
    run.saved_once(vec![loader]).await?;
    none_is_blamed(&run).await?;
    let logins = run.requests("LoginBySign", 0).await?.len();
    ensure!(
        logins == 3,
        "{logins} logins: one to begin with and one after each of two lost sessions are due"
    );
    Ok(())
}

/// A document as a person would have typed it from the order: same number, supplier, date, lines and quantities.
fn typed(order: &Value) -> Value {
    let lines = order.get("lines").and_then(Value::as_array).cloned().unwrap_or_default();
    let line = |line: &Value| {
        json!({"FMaterialId": {"FNumber": text(line, "spec_no")}, "FRealQty": text(line, "num"),
               "FTaxPrice": text(line, "tax_price"), "FEntryTaxRate": percent(text(line, "tax"))})
    };
    json!({"FBillNo": text(order, "order_no"), "FDate": day(text(order, "check_time")),
           "FSupplierId": {"FNumber": text(order, "provider_no")}, "FInStockEntry": lines.iter().map(line).collect::<Vec<_>>()})
}

fn percent(fraction: &str) -> String {
    let rate = rust_decimal::Decimal::from_str_exact(fraction).unwrap_or_default();
    (rate * rust_decimal::Decimal::ONE_HUNDRED).normalize().to_string()
}

#[tokio::test]
async fn when_a_number_is_taken_then_the_same_content_counts_as_done_and_another_is_a_conflict() -> Result<()>
{
    let run = Run::unique("erp-42", 6, 0).await?;
    run.calls_of(6, 1)?;
    run.until_models_wait().await?;
    let orders = run.sandbox.orders().await?;
    let orders: Vec<&Value> = orders
        .as_array()
        .context("no list of orders")?
        .iter()
        .filter(|order| text(order, "status") == "80")
        .collect();
    // A person types two of them while the loader's call is on its way, so that no look-up can have found them.
    let held = run.arm(kingdee("BatchSave", json!({"kind": "hold", "when": "before"}))).await?;
    let loader = run.start("loader")?;
    run.until_struck(1).await?;
    let (same, other) = (typed(orders[0]), {
        let mut other = typed(orders[1]);
        other["FSupplierId"]["FNumber"] = json!("GYS0023");
        other["FInStockEntry"][0]["FRealQty"] = json!("987654");
        other
    });
    for document in [&same, &other] {
        run.sandbox.post("kingdee/documents", document).await?;
    }
    run.clear(held).await?;
    run.until_depth(&format!("{LOAD}.dead"), 1).await?;
    wait_until(SOON, "five audited documents", async || {
        run.sandbox.summary().await.is_ok_and(|now| now.pointer("/by_status/C") == Some(&json!(5)))
    })
    .await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    let group = account.dead.first().context("no dead letter")?;
    ensure!(
        group.kind == "conflict" && group.numbers == [text(orders[1], "order_no")],
        "{}",
        account.report()
    );
    ensure!(account.duplicated.is_empty() && account.lost.is_empty(), "{}", account.report());
    stop(loader).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_look_up_lags_behind_then_nothing_is_posted_twice() -> Result<()> {
    // Its own check is the last to see it, where the look-up lies for longer than the settle window.
    let run = Run::unique("erp-43", 5, 0).await?;
    run.calls_of(5, 1)?;
    run.until_models_wait().await?;
    run.arm(kingdee("BatchSave", json!({"kind": "drop", "when": "after"}))).await?;
    let blind = run.arm(always(kingdee("ExecuteBillQuery", json!({"kind": "blind"})))).await?;
    let loader = run.start("loader")?;
    // Nothing is found for the whole settle window, so it is posted again, and refused: it is there after all. The
    // look-up that follows the refusal doesn't see it either.
    wait_until(SOON, "a look-up after the second post", async || {
        let posts = run.requests("BatchSave", 0).await.unwrap_or_default();
        let Some(second) = posts.get(1).and_then(|post| post.get("id")).and_then(Value::as_u64) else {
            return false;
        };
        let asked = run.requests("ExecuteBillQuery", second).await.unwrap_or_default();
        asked.iter().any(|request| request.get("duration_ms").is_some_and(|spent| !spent.is_null()))
    })
    .await?;
    run.clear(blind).await?;
    let dead = format!("{LOAD}.dead");
    wait_until(SOON, "the documents", async || {
        let audited = run.sandbox.summary().await.ok().and_then(|now| now.pointer("/by_status/C").cloned());
        audited == Some(json!(5)) || run.depth(&dead).await.is_ok_and(|letters| letters > 0)
    })
    .await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    ensure!(
        account.dead_letters() == 0,
        "our own documents are taken for somebody else's\n{}",
        account.report()
    );
    run.saved_once(vec![loader]).await?;
    Ok(())
}

#[tokio::test]
async fn when_kingdee_goes_down_while_orders_wait_then_no_attempt_is_counted_and_it_drains_afterwards()
-> Result<()> {
    let run = Run::shared_with("erp-44", 200, 0, &["--kingdee-latency", "30"]).await?;
    run.calls_of(4, 1)?;
    let (proxy, url) = run.kingdee_proxy().await?;
    let mut workers = vec![run.start("extractor")?, run.start("transformer")?];
    let loader = run.pipeline.start_with("loader", &[("KINGDEE_URL", &url)])?;
    run.until_documents(20).await?;
    proxy.welcome(Welcome::Reset);
    proxy.reset();
    run.until_paused(&loader, "unavailable").await?;
    wait_until(SOON, "orders to wait", async || waiting(&run).await.is_ok_and(|letters| letters.len() > 4))
        .await?;
    for letter in waiting(&run).await? {
        // Of the one call that was cut, nobody knows whether it took effect: that was a try.
        let why = letter.header("kingpost-last-failure");
        ensure!(
            letter.attempt() == 1 || why.contains("sent, but no whole answer"),
            "{} waits on attempt {}: {why}",
            letter.id,
            letter.attempt()
        );
    }
    for queue in [LOAD, TRANSFORM] {
        ensure!(run.depth(&format!("{queue}.dead")).await? == 0, "{queue} has dead letters");
    }
    let cut = waiting(&run).await?.iter().filter(|letter| letter.attempt() > 1).count();
    ensure!(cut <= 4, "one call of four documents was cut, and {cut} were tried");
    proxy.heal();
    workers.push(loader);
    run.saved_once(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_kingdee_redirects_then_nothing_follows_it_and_nothing_is_lost() -> Result<()> {
    let run = Run::with_faults("erp-45", 20, 0, 10, &[]).await?;
    let elsewhere = TcpListener::bind(("127.0.0.1", 0))?;
    elsewhere.set_nonblocking(true)?;
    for (code, host) in [(302, elsewhere.local_addr()?.to_string()), (307, "169.254.169.254".to_owned())] {
        let location = format!("http://{host}/k3cloud/");
        let action = json!({"kind": "status", "code": code, "when": "before", "location": location});
        run.arm(kingdee("BatchSave", action)).await?;
    }
    let workers = run.start_all()?;
    run.saved_once(workers).await?;
    ensure!(run.struck().await? == 2, "not every fault has struck");
    ensure!(elsewhere.accept().is_err(), "a redirect was followed");
    Ok(())
}
