//! What it costs a busy transformer to be scraped.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kingpost_model::Work;
use reqwest::Client;

use super::hop::Yard;
use super::report::{Aim, median, result};
use super::usage::cpu_seconds;
use super::{Extent, orders};
use crate::lab::{PrivateBroker, Process, free_port, wait_until};
use crate::pipeline::shipped_schemes;

const DEADLINE: Duration = Duration::from_secs(60);
/// What Prometheus sends.
const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
/// The frequencies that take turns: none, the usual one or more, and one that shows above the noise.
const PER_SECOND: [u32; 3] = [0, 1, 50];

/// Measures rounds with and without scrapes, and the CPU of a scrape by itself.
pub(super) async fn measure(broker: &PrivateBroker, extent: Extent) -> Result<()> {
    let (count, rounds, alone) = (extent.of(25_000, 500), extent.of(9, 2), extent.of(2_000, 100));
    let yard = Yard::prepare(broker.vhost("scraped").await?).await?;
    let port = free_port()?;
    let process = Process::of("kingpost-transformer")?
        .env("SCHEMES_DIR", shipped_schemes())
        .env("JOURNAL", "off")
        .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
        .env("AMQP_URL", &yard.url)
        .start()?;
    let scraper = Scraper { client: Client::new(), url: format!("http://127.0.0.1:{port}/metrics") };
    let works = orders::works(count, 5);
    wait_until(DEADLINE, "the transformer", async || scraper.scrape().await.is_ok()).await?;
    let mut measured: [Vec<Round>; 3] = Default::default();
    // The first round warms up and isn't kept.
    for round in 0..=rounds {
        for turn in 0..PER_SECOND.len() {
            let which = (round + turn) % PER_SECOND.len();
            let (Some(per_second), Some(kept)) = (PER_SECOND.get(which), measured.get_mut(which)) else {
                continue;
            };
            let round_of = hop(&yard, &process, &scraper, &works, *per_second).await;
            kept.extend((round > 0).then_some(round_of.with_context(|| process.log_tail())?));
        }
    }
    let text = scraper.scrape().await?;
    let before = cpu_seconds(process.pid())?;
    for _ in 0..alone {
        scraper.scrape().await?;
    }
    let seconds = (cpu_seconds(process.pid())? - before) / f64::from(alone);
    println!("\nscrapes of a busy transformer, {rounds} interleaved rounds of {count} messages");
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("  {:<44} {lines} lines, {} bytes", "a scrape", text.len());
    let [none, usual, many] = measured;
    let speed = median(none.iter().map(|round| round.messages_per_second).collect());
    result("messages a second without scrapes", speed, "", Aim::None);
    for (per_second, with) in [(1, &usual), (50, &many)] {
        let ratios =
            with.iter().zip(&none).map(|(with, none)| with.messages_per_second / none.messages_per_second);
        result(&format!("throughput, {per_second} a second / none"), median(ratios.collect()), "", Aim::None);
        // The kernel counts CPU time in steps of 10 ms, so all rounds are taken together.
        let cpu = |rounds: &[Round]| rounds.iter().map(|round| round.cpu_seconds).sum::<f64>();
        result(
            &format!("CPU per message, {per_second} a second / none"),
            cpu(with) / cpu(&none),
            "",
            Aim::None,
        );
    }
    result("CPU of a scrape", seconds * 1e6, "µs", Aim::None);
    result("share of the worker's thread, 1 a second", seconds * 100.0, "%", Aim::AtMost(1.0));
    Ok(())
}

struct Round {
    messages_per_second: f64,
    /// Of the worker.
    cpu_seconds: f64,
}

struct Scraper {
    client: Client,
    url: String,
}

impl Scraper {
    async fn scrape(&self) -> Result<String> {
        let answer = self.client.get(&self.url).header("accept", ACCEPT).send().await?;
        let text = answer.error_for_status()?.text().await?;
        ensure!(text.ends_with("# EOF\n"), "half a scrape");
        Ok(text)
    }

    /// Scrapes until it is dropped.
    async fn go_on(&self, per_second: u32) -> Result<()> {
        let Some(every) = Duration::from_secs(1).checked_div(per_second) else {
            return std::future::pending().await;
        };
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            self.scrape().await?;
        }
    }
}

/// One round at so many scrapes a second.
async fn hop(
    yard: &Yard,
    process: &Process,
    scraper: &Scraper,
    works: &[Work],
    per_second: u32,
) -> Result<Round> {
    process.freeze()?;
    yard.fill(works).await?;
    let before = cpu_seconds(process.pid())?;
    let start = Instant::now();
    process.thaw()?;
    tokio::select! {
        arrived = yard.arrived(works.len()) => arrived?,
        scraped = scraper.go_on(per_second) => scraped?,
    }
    let messages_per_second = works.len() as f64 / start.elapsed().as_secs_f64();
    let round = Round { messages_per_second, cpu_seconds: cpu_seconds(process.pid())? - before };
    yard.purge().await?;
    Ok(round)
}
