//! What operators do while the pipeline works; the rest of it is in the target `dead`.

use anyhow::{Context, Result, ensure};
use e2e::{account::Account, lab::Process, pipeline::SCHEME};
use serde_json::json;

use crate::{LOAD, Run, SOON, kingdee};

impl Run {
    /// Runs the operator's command and gives back its exit code and output.
    async fn kingpost(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        self.replayed.set(true);
        let process = Process::of("kingpost")?
            .args(args.iter().copied())
            .envs(self.sandbox.settings().iter().cloned())
            .env("AMQP_URL", self.pipeline.amqp_url.as_str())
            .env("SCHEMES_DIR", self.pipeline.schemes.path())
            .start()?;
        let status = process.wait(SOON).await?;
        Ok((status.code(), process.output()))
    }
}

#[tokio::test]
async fn when_an_order_has_arrived_by_another_way_then_its_replay_finds_it_and_posts_nothing() -> Result<()> {
    let run = Run::shared("operator-54", 1, 0).await?;
    let refusal = json!({"kind": "refuse", "msg_code": 11, "message": "字段“供应商”是必填项"});
    run.arm(kingdee("BatchSave", refusal)).await?;
    let workers = run.start_all()?;
    run.until_depth(&format!("{LOAD}.dead"), 1).await?;
    let account = Account::take(&run.sandbox, &run.pipeline.amqp_url, SCHEME).await?;
    let number = account.dead.first().and_then(|group| group.numbers.first()).context("no dead letter")?;
    // Its order is changed in WDT, extracted again, and posted.
    run.sandbox.post("wdt/orders", &json!({"order_no": number, "remark": "example of a change"})).await?;
    run.pipeline.wait_done(&run.sandbox, 1, 1, SOON).await?;
    let posted = run.last_request().await?;

    let (code, output) = run
        .kingpost(&["dead", "replay", number, "--reason", "an example", "--yes", "--out", "plan.json"])
        .await?;
    ensure!(code == Some(0), "{output}");
    run.sound(workers).await?;
    let again = run.requests("BatchSave", posted).await?;
    ensure!(again.is_empty(), "it was posted again: {again:?}\n{output}");
    Ok(())
}

#[tokio::test]
async fn when_the_broker_has_given_up_on_a_message_then_a_replay_brings_it_to_kingdee() -> Result<()> {
    let run = Run::shared("operator-22", 3, 0).await?;
    let extractor = run.ready("extractor").await?;
    run.give_up_on_one().await?;
    let workers = vec![extractor, run.ready("transformer").await?, run.ready("loader").await?];
    run.pipeline.wait_done(&run.sandbox, 2, 1, SOON).await?;
    let (code, output) = run
        .kingpost(&["dead", "replay", "--all", "--reason", "an example", "--yes", "--out", "plan.json"])
        .await?;
    ensure!(code == Some(0), "{output}");
    run.sound(workers).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_dead_letter_is_replayed_while_its_cause_persists_then_it_is_dead_again_and_said_so()
-> Result<()> {
    let run = Run::shared("operator-52", 24, 12).await?;
    let workers = run.start_all()?;
    run.drained().await?;
    let before = run.last_request().await?;
    let replay =
        ["dead", "replay", "--cause", "物料", "--reason", "an example", "--yes", "--out", "plan.json"];
    let (code, output) = run.kingpost(&replay).await?;
    ensure!(code == Some(1), "exit code {code:?}\n{output}");
    // The canary dies of it again, and the others of that cause are not even tried.
    ensure!(output.contains("1 failed again") && output.contains("3 left"), "{output}");
    let posts = run.requests("BatchSave", before).await?;
    ensure!(posts.len() == 1, "{} calls for one canary: {posts:?}", posts.len());
    let account = run.sound(workers).await?;
    ensure!(account.dead_letters() == 12, "{}", account.report());
    Ok(())
}
