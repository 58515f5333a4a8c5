//! Documents that a sender pushes to the extractor: what was accepted arrives, once, whatever ends meanwhile.
#![forbid(unsafe_code)]

mod answers;
mod endings;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::{
    account::Account,
    lab::{Sandbox, SandboxOptions, free_port, shared_broker, wait_until},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker, metric},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(150);
const FROM: &str = "2026-08-01T00:00:00+08:00";
const TOKEN: &str = "an-example-of-a-token";

/// What one request was answered.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

/// Somebody who pushes documents.
#[derive(Clone)]
struct Sender {
    address: String,
    client: reqwest::Client,
}

impl Sender {
    fn new() -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(SOON).build()?;
        Ok(Sender { address: format!("127.0.0.1:{}", free_port()?), client })
    }

    /// The settings of an extractor that takes what this one sends.
    fn settings(&self) -> [(&str, &str); 2] {
        [("PUSH_ADDR", self.address.as_str()), ("PUSH_TOKEN", TOKEN)]
    }

    fn request(&self, scheme: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/v1/schemes/{scheme}/documents", self.address);
        self.client.post(url).header("content-type", "application/json").bearer_auth(TOKEN)
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = serde_json::from_str(&response.text().await?).context("the answer is no JSON")?;
        Ok(Answer { status, retry_after, headers, body })
    }

    async fn push(&self, documents: &Value) -> Result<Answer> {
        Self::answer(self.request(SCHEME).body(documents.to_string())).await
    }

    /// Sends until it is told that everything is accepted, as a sender should.
    async fn until_accepted(&self, documents: &Value) -> Result<()> {
        wait_until(DEADLINE, "a push to be accepted", async || {
            self.push(documents).await.is_ok_and(|answer| answer.status == 202)
        })
        .await
    }
}

async fn sandbox(orders: u32) -> Result<Sandbox> {
    let options = SandboxOptions {
        orders,
        unpostable: 0,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("2h".into()),
        args: vec!["--repeated-numbers".to_owned()],
    };
    Sandbox::start(options).await
}

/// A schedule that begins now, so that it reads none of the sandbox's orders: what arrives was pushed.
fn from_now() -> Result<Tempo> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let start = jiff::Timestamp::from_second(i64::try_from(now)?)?.to_string();
    Ok(Tempo { start, width: "1h".into(), settle: "2s".into() })
}

/// The sandbox's completed orders as documents with all that the shipped scheme maps.
async fn documents(sandbox: &Sandbox) -> Result<Vec<Value>> {
    let orders = sandbox.orders().await?;
    let orders = orders.as_array().context("no list of orders")?.iter();
    Ok(orders
        .filter(|order| order["status"] == "80")
        .map(|order| {
            let names = [
                "order_no",
                "warehouse_no",
                "status",
                "modified",
                "check_time",
                "purchase_no",
                "provider_no",
            ];
            let mut document: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), order[*name].clone())).collect();
            document.insert("details_list".to_owned(), order["lines"].clone());
            Value::Object(document)
        })
        .collect())
}

async fn sound(pipeline: &Pipeline, sandbox: &Sandbox, orders: usize) -> Result<()> {
    pipeline.wait_done(sandbox, orders as u64, 0, DEADLINE).await?;
    let account = Account::take(sandbox, &pipeline.amqp_url, SCHEME).await?;
    ensure!(account.is_sound(), "{}\n{}", account.line("unsound"), account.report());
    ensure!(account.orders == orders, "{} orders", account.orders);
    Ok(())
}

/// The broker that is shared, an extractor that takes documents, and the other two workers.
async fn running(
    name: &str,
    sandbox: &Sandbox,
    tempo: &Tempo,
    more: &[(&str, &str)],
) -> Result<(Pipeline, Sender, Vec<Worker>)> {
    let url = shared_broker().await?.vhost(name).await?;
    let pipeline = Pipeline::new(url, Schemes::at(tempo)?, sandbox)?;
    let sender = Sender::new()?;
    let settings = [sender.settings().as_slice(), more].concat();
    let workers = vec![
        pipeline.start_with("extractor", &settings)?,
        pipeline.start("transformer")?,
        pipeline.start("loader")?,
    ];
    pipeline.ready(&workers[0], SOON).await?;
    Ok((pipeline, sender, workers))
}

#[tokio::test]
async fn when_a_document_is_pushed_twice_and_read_as_well_then_it_is_in_kingdee_once() -> Result<()> {
    let sandbox = sandbox(40).await?;
    let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: "2s".into() };
    let (pipeline, sender, workers) = running("push-twice", &sandbox, &tempo, &[]).await?;
    let documents = documents(&sandbox).await?;
    for _ in 0..2 {
        sender.until_accepted(&Value::from(documents.clone())).await?;
    }
    let one = sender.push(&documents[0]).await?;
    ensure!(
        one.status == 202 && one.body["documents"][0]["number"] == documents[0]["order_no"],
        "{}",
        one.body
    );
    sound(&pipeline, &sandbox, 40).await?;
    let text = pipeline.metrics(&workers[0]).await?;
    let accepted = metric(&text, "kingpost_push_documents_total", &["outcome=\"accepted\""]);
    ensure!(accepted >= 81.0, "{accepted} documents were counted");
    ensure!(metric(&text, "kingpost_push_requests_total", &["outcome=\"accepted\""]) >= 3.0, "{text}");
    ensure!(metric(&text, "kingpost_push_seconds_count", &[]) >= 3.0, "{text}");
    Ok(())
}

#[tokio::test]
async fn when_three_of_a_hundred_pushed_documents_are_bad_then_each_is_told_why() -> Result<()> {
    let sandbox = sandbox(100).await?;
    let (pipeline, sender, _workers) = running("push-bad", &sandbox, &from_now()?, &[]).await?;
    let whole = documents(&sandbox).await?;
    let mut documents = whole.clone();
    documents[3] = json!("RK1");
    documents[50]["order_no"] = json!(" ");
    documents[99]["status"] = json!(40);
    let answer = sender.push(&Value::from(documents)).await?;
    ensure!(answer.status == 202, "{}", answer.body);
    ensure!(answer.body["accepted"] == 97 && answer.body["refused"] == 3, "{}", answer.body);
    for (index, word) in [(3, "JSON object"), (50, "order_no"), (99, "its status is 40")] {
        let told = &answer.body["documents"][index];
        ensure!(told["index"] == index && told["status"] == "refused", "{told}");
        ensure!(told["error"].as_str().is_some_and(|error| error.contains(word)), "{told}");
    }
    pipeline.wait_done(&sandbox, 97, 0, DEADLINE).await?;
    let mended: Vec<Value> = [3, 50, 99].map(|index| whole[index].clone()).into();
    sender.until_accepted(&Value::from(mended)).await?;
    sound(&pipeline, &sandbox, 100).await
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_no_secret_is_logged() -> Result<()> {
    let sandbox = sandbox(5).await?;
    let (pipeline, sender, workers) =
        running("push-wrong", &sandbox, &from_now()?, &[("PUSH_MAX_BYTES", "4096"), ("RUST_LOG", "debug")])
            .await?;
    let send = Sender::answer;
    let body = || json!({"order_no": "RK-planted"}).to_string();
    let url = format!("http://{}", sender.address);
    let json = |request: reqwest::RequestBuilder| request.header("content-type", "application/json");
    let path = format!("{url}/v1/schemes/{SCHEME}/documents");
    let client = &sender.client;

    let missing = send(json(client.post(&path)).body(body())).await?;
    ensure!(missing.status == 401 && missing.headers["www-authenticate"] == "Bearer", "{}", missing.body);
    let wrong = "planted-wrong-token";
    for (request, status, word) in [
        (json(client.post(&path)).bearer_auth(wrong).body(body()), 401, "token"),
        (client.post(format!("{url}/nothing")), 401, "token"),
        (client.post(format!("{url}/nothing")).bearer_auth(TOKEN), 404, "nothing is here"),
        (sender.request("another").body(body()), 404, "nothing is here"),
        (sender.request("%ff").body(body()), 404, "nothing is here"),
        (client.get(&path).bearer_auth(TOKEN), 405, "POST"),
        (client.post(&path).bearer_auth(TOKEN).body(body()), 415, "Content-Type"),
        (sender.request(SCHEME).body(" ".repeat(4_097)), 413, "4096"),
        (sender.request(SCHEME).body("{\"order_no\": \"RK-planted\""), 400, "line 1"),
        (sender.request(SCHEME).body("[]"), 400, "no document"),
        (sender.request(SCHEME).body(body()), 422, "status"),
    ] {
        let answer = send(request).await?;
        ensure!(answer.status == status, "{} {}", answer.status, answer.body);
        ensure!(answer.body.to_string().contains(word), "{}", answer.body);
    }
    let text = pipeline.metrics(&workers[0]).await?;
    for (outcome, least) in [("unauthorized", 3.0), ("invalid", 7.0), ("refused", 1.0)] {
        let label = format!("outcome=\"{outcome}\"");
        ensure!(metric(&text, "kingpost_push_requests_total", &[&label]) >= least, "{outcome}\n{text}");
    }
    let output = workers[0].process.output();
    for secret in [TOKEN, wrong, "RK-planted"] {
        ensure!(!output.contains(secret), "{secret} is in the log");
    }
    Ok(())
}

#[tokio::test]
async fn a_rotated_token_holds_from_the_next_request_on() -> Result<()> {
    let sandbox = sandbox(1).await?;
    let pipeline = Pipeline::new(
        shared_broker().await?.vhost("push-token").await?,
        Schemes::at(&from_now()?)?,
        &sandbox,
    )?;
    let sender = Sender::new()?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a path that is no text")?;
    std::fs::write(path, "the-token-of-yesterday\n")?;
    let settings = [("PUSH_ADDR", sender.address.as_str()), ("PUSH_TOKEN_FILE", path)];
    let extractor = pipeline.start_with("extractor", &settings)?;
    pipeline.ready(&extractor, SOON).await?;
    let document = documents(&sandbox).await?.remove(0);
    wait_until(SOON, "the old token to be asked for", async || {
        sender.push(&document).await.is_ok_and(|answer| answer.status == 401)
    })
    .await?;
    std::fs::write(path, TOKEN)?;
    sender.until_accepted(&document).await?;
    std::fs::write(path, "")?;
    let answer = sender.push(&document).await?;
    ensure!(answer.status == 503 && answer.retry_after.as_deref() == Some("5"), "{}", answer.body);
    ensure!(extractor.process.output().contains("PUSH_TOKEN_FILE"), "{}", extractor.process.log_tail());
    answers::until_readyz(&extractor, "push", Some("token")).await?;
    Ok(())
}

#[tokio::test]
async fn when_a_sender_stops_in_the_middle_of_a_head_then_it_is_cut_off() -> Result<()> {
    let sandbox = sandbox(1).await?;
    let (_pipeline, sender, _workers) = running("push-slow", &sandbox, &from_now()?, &[]).await?;
    let mut half = TcpStream::connect(&sender.address).await?;
    half.write_all(b"POST /v1/schemes/purchase-stockin/documents HTTP/1.1\r\nHost: example\r\nAuth").await?;
    let mut idle = TcpStream::connect(&sender.address).await?;
    for stream in [&mut half, &mut idle] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut rest)).await;
        ensure!(ended.is_ok(), "the connection is still there");
        ensure!(!rest.starts_with(b"HTTP/1.1 2"), "half a head was answered");
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_ends_the_extractor_as_a_wrong_setting() -> Result<()> {
    let sandbox = sandbox(1).await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let url = shared_broker().await?.vhost("push-taken").await?;
    let pipeline = Pipeline::new(url, Schemes::at(&from_now()?)?, &sandbox)?;
    let settings = [("PUSH_ADDR", address.as_str()), ("PUSH_TOKEN", TOKEN)];
    let extractor = pipeline.start_with("extractor", &settings)?;
    let status = extractor.process.wait(SOON).await?;
    let output = extractor.process.output();
    ensure!(status.code() == Some(64), "{status}\n{output}");
    ensure!(output.contains("PUSH_ADDR") && output.contains("taken by another process"), "{output}");
    Ok(())
}
