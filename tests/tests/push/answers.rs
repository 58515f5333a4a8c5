//! What a sender is told while RabbitMQ is away, slow or full, and while the extractor stops; and what people are told of
//! what came this way.

use std::time::Instant;

use e2e::lab::{BrokerOptions, PrivateBroker, Process, Proxy, Way};
use kingpost_broker::{BrokerConfig, JournalReader};
use kingpost_model::JournalEvent;
use tokio::{task::JoinHandle, time::timeout};

use super::*;

const TRANSFORM: &str = "transform.purchase-stockin";

/// The answer of a request that is answered at once.
async fn at_once(sender: &Sender, documents: &Value) -> Option<Answer> {
    timeout(Duration::from_secs(2), sender.push(documents)).await.ok()?.ok()
}

/// Waits until `/readyz` says this of a part: nothing when it is ready, else a piece of the reason.
pub(crate) async fn until_readyz(extractor: &Worker, part: &str, reason: Option<&str>) -> Result<()> {
    let url = format!("http://{}/readyz", extractor.http);
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build()?;
    let told = wait_until(SOON, "/readyz to tell how a part is", async || {
        let Ok(answer) = client.get(&url).send().await else { return false };
        let whole: Value = serde_json::from_str(&answer.text().await.unwrap_or_default()).unwrap_or_default();
        let told = &whole["components"][part];
        match reason {
            None => told["ready"] == true,
            Some(word) => told["reason"].as_str().is_some_and(|reason| reason.contains(word)),
        }
    });
    told.await.with_context(|| format!("expected {reason:?} of {part}"))
}

#[tokio::test]
async fn when_no_broker_was_ever_reached_then_a_sender_is_told_at_once() -> Result<()> {
    let node = PrivateBroker::start(BrokerOptions::default()).await?;
    node.kill();
    let sandbox = sandbox(5).await?;
    let pipeline = Pipeline::new(node.amqp_url(), Schemes::at(&from_now()?)?, &sandbox)?;
    let sender = Sender::new()?;
    let extractor = pipeline.start_with("extractor", &sender.settings())?;
    let documents = Value::from(documents(&sandbox).await?);
    wait_until(SOON, "a request to be answered before there is a broker", async || {
        at_once(&sender, &documents)
            .await
            .is_some_and(|answer| answer.status == 503 && answer.retry_after.as_deref() == Some("5"))
    })
    .await?;
    until_readyz(&extractor, "push", Some("no connection to RabbitMQ")).await?;
    node.restart().await?;
    sender.until_accepted(&documents).await?;
    until_readyz(&extractor, "push", None).await?;
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 5).await
}

#[tokio::test]
async fn when_an_extractor_stops_before_it_reached_a_broker_then_it_takes_no_documents_and_ends() -> Result<()>
{
    let sandbox = sandbox(1).await?;
    let nobody = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port()?);
    let pipeline = Pipeline::new(nobody, Schemes::at(&from_now()?)?, &sandbox)?;
    let sender = Sender::new()?;
    let extractor = pipeline.start_with("extractor", &sender.settings())?;
    let document = documents(&sandbox).await?.remove(0);
    wait_until(SOON, "a request to be answered", async || at_once(&sender, &document).await.is_some())
        .await?;
    let begun = Instant::now();
    extractor.process.term()?;
    let status = extractor.process.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", extractor.process.log_tail());
    ensure!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    ensure!(sender.push(&document).await.is_err(), "somebody still answers");
    Ok(())
}

/// A pipeline on the shared broker, and a proxy before that broker with the URL through it.
async fn through_a_proxy(name: &str, sandbox: &Sandbox) -> Result<(Pipeline, Proxy, String)> {
    let direct = shared_broker().await?.vhost(name).await?;
    let (before, after) = direct.split_once('@').context("no user in the URL")?;
    let (place, vhost) = after.split_once('/').context("no vhost in the URL")?;
    let proxy = Proxy::start(place).await?;
    let through = format!("{before}@{}/{vhost}", proxy.address());
    Ok((Pipeline::new(direct, Schemes::at(&from_now()?)?, sandbox)?, proxy, through))
}

/// An extractor behind a slow line to its broker, and a request that it has published and that isn't confirmed.
struct InHand {
    pipeline: Pipeline,
    sandbox: Sandbox,
    sender: Sender,
    extractor: Worker,
    proxy: Proxy,
    answer: JoinHandle<Result<Answer>>,
}

impl InHand {
    async fn start(name: &str, more: &[(&str, &str)]) -> Result<Self> {
        let sandbox = sandbox(5).await?;
        let (pipeline, proxy, slow) = through_a_proxy(name, &sandbox).await?;
        let sender = Sender::new()?;
        let slow = [("AMQP_URL", slow.as_str())];
        let settings = [sender.settings().as_slice(), &slow, more].concat();
        let extractor = pipeline.start_with("extractor", &settings)?;
        pipeline.ready(&extractor, SOON).await?;
        let (all, sent) = (Value::from(documents(&sandbox).await?), sender.clone());
        proxy.stall(Way::ToClient);
        let answer = tokio::spawn(async move { sent.push(&all).await });
        let inspector = pipeline.inspector().await?;
        wait_until(SOON, "the documents to lie in their queue", async || {
            inspector.depth(TRANSFORM).await.is_ok_and(|depth| depth.is_some_and(|depth| depth.ready == 5))
        })
        .await?;
        inspector.close().await;
        Ok(InHand { pipeline, sandbox, sender, extractor, proxy, answer })
    }

    /// Tells the extractor to stop, and waits until it takes nothing more.
    async fn stop(&self) -> Result<()> {
        self.extractor.process.term()?;
        let document = documents(&self.sandbox).await?.remove(0);
        wait_until(SOON, "a new request to be turned away", async || {
            match self.sender.push(&document).await {
                Err(_) => true,
                Ok(answer) => answer.status == 503 && answer.headers["connection"] == "close",
            }
        })
        .await
    }

    /// The answer, after which the extractor ends in order.
    async fn answer(&mut self) -> Result<Answer> {
        let answer = timeout(SOON, &mut self.answer).await???;
        let status = self.extractor.process.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{status}\n{}", self.extractor.process.log_tail());
        Ok(answer)
    }

    async fn sound(self) -> Result<()> {
        let _others = [self.pipeline.start("transformer")?, self.pipeline.start("loader")?];
        sound(&self.pipeline, &self.sandbox, 5).await
    }
}

#[tokio::test]
async fn when_an_extractor_stops_then_it_answers_the_requests_in_hand() -> Result<()> {
    let mut held = InHand::start("push-stop-late", &[]).await?;
    let begun = Instant::now();
    held.stop().await?;
    let late = Duration::from_millis(5_500);
    wait_until(SOON, "the confirm to be late", async || begun.elapsed() > late).await?;
    held.proxy.flow(Way::ToClient);
    let answer = held.answer().await?;
    ensure!(answer.status == 202 && answer.body["accepted"] == 5, "{} {}", answer.status, answer.body);
    held.sound().await
}

#[tokio::test]
async fn when_the_grace_of_a_stopping_extractor_ends_then_what_is_in_hand_is_told_to_be_in_doubt()
-> Result<()> {
    let mut held = InHand::start("push-stop-never", &[("DRAIN_SECONDS", "5")]).await?;
    held.stop().await?;
    let answer = held.answer().await?;
    ensure!(answer.status == 503 && answer.body["unconfirmed"] == 5, "{} {}", answer.status, answer.body);
    ensure!(answer.retry_after.as_deref() == Some("5"), "{:?}", answer.retry_after);
    ensure!(answer.headers["connection"] == "close", "{:?}", answer.headers);
    held.sound().await
}

#[tokio::test]
async fn when_some_documents_of_a_request_are_confirmed_in_time_then_each_is_told_its_own_fate() -> Result<()>
{
    let sandbox = sandbox(12).await?;
    let (pipeline, proxy, slow) = through_a_proxy("push-some", &sandbox).await?;
    let sender = Sender::new()?;
    let settings = [sender.settings().as_slice(), &[("AMQP_URL", slow.as_str())]].concat();
    let extractor = pipeline.start_with("extractor", &settings)?;
    pipeline.ready(&extractor, SOON).await?;
    // Large documents on a narrow line: it takes half a minute to pass all of them on, and a sender is answered before.
    let blanks = " ".repeat(500_000);
    let large: Vec<String> = documents(&sandbox)
        .await?
        .iter()
        .map(|document| document.to_string().replacen('{', &format!("{{{blanks}"), 1))
        .collect();
    proxy.narrow(Way::ToServer, 200_000);
    let push = |documents: &[String]| sender.request(SCHEME).body(format!("[{}]", documents.join(",")));
    let answer = Sender::answer(push(&large)).await?;
    let body = &answer.body;
    ensure!(answer.status == 503 && answer.retry_after.as_deref() == Some("5"), "{body}");
    let fates = body["documents"].as_array().context("no documents")?;
    let left: Vec<String> = large
        .iter()
        .zip(fates)
        .filter(|(_, fate)| fate["status"] == "unconfirmed")
        .map(|(d, _)| d.clone())
        .collect();
    let accepted = fates.iter().filter(|fate| fate["status"] == "accepted").count();
    ensure!(accepted > 0 && !left.is_empty() && accepted + left.len() == 12, "{body}");
    ensure!(body["accepted"] == accepted && body["unconfirmed"] == left.len(), "{body}");
    proxy.heal();
    wait_until(DEADLINE, "the rest to be accepted", async || {
        Sender::answer(push(&left)).await.is_ok_and(|answer| answer.status == 202)
    })
    .await?;
    let _others = [pipeline.start("transformer")?, pipeline.start("loader")?];
    sound(&pipeline, &sandbox, 12).await
}

#[tokio::test]
async fn a_document_that_was_pushed_is_traced_to_its_push() -> Result<()> {
    let sandbox = sandbox(3).await?;
    let (pipeline, sender, _workers) = running("push-trace", &sandbox, &from_now()?, &[]).await?;
    let documents = documents(&sandbox).await?;
    sender.until_accepted(&Value::from(documents.clone())).await?;
    sound(&pipeline, &sandbox, 3).await?;
    let number = documents[1]["order_no"].as_str().context("no number")?;
    let config = BrokerConfig::for_url(&*pipeline.amqp_url, "kingpost-test/1");
    let reader = JournalReader::open(&config).await?.context("there is no journal")?;
    let mut events = Vec::new();
    wait_until(SOON, "the whole way in the journal", async || {
        events.clear();
        let read = reader.scan(0, &[number], |event| events.push(event)).await;
        events.sort_by_key(|event: &JournalEvent| event.at_ms);
        let steps: Vec<_> = events.iter().map(|event| event.step.as_str()).collect();
        read.is_ok() && steps == ["pushed", "mapped", "loaded"]
    })
    .await
    .with_context(|| format!("{events:?}"))?;
    reader.close().await;
    ensure!(events[0].stage == "extract" && events[0].work_id == events[1].work_id, "{events:?}");
    let trace = Process::of("kingpost")?
        .args(["trace", number])
        .envs(sandbox.settings().iter().cloned())
        .env("AMQP_URL", pipeline.amqp_url.as_str())
        .env("SCHEMES_DIR", pipeline.schemes.path())
        .start()?;
    let status = trace.wait(SOON).await?;
    let told = trace.output();
    ensure!(status.code() == Some(0) && told.contains("pushed by a sender, changed in the source"), "{told}");
    Ok(())
}
