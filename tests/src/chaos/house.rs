//! Everything that a run consists of, and how each fault is done to it.

use std::ops::Deref as _;
use std::sync::{Mutex as Plain, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::blow::{Blow, BrokerBlow, ErpBlow, Place, Post, Trouble};
use super::schedule::{Event, Schedule};
use super::{DRAIN, HEARTBEAT_S, LIVELINESS, ORDERS_PER_SECOND, SETTLE, TIER, UNPOSTABLE, WARM_UP};
use crate::lab::{BrokerOptions, PrivateBroker, Proxy, Sandbox, SandboxOptions, Way, Welcome};
use crate::pipeline::{Pipeline, SCHEME, Schemes, Tempo, Worker};

/// Milliseconds that the sandbox's Kingdee takes for an answer: slow enough that faults meet requests on their way.
const KINGDEE_LATENCY: &str = "40";
/// For a worker to end after it was told to, beyond its drain time.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// A worker, and those who held its post before.
struct Held {
    post: Post,
    worker: Worker,
    past: Vec<Worker>,
}

/// A broker, both ERPs, the ways between, and the workers.
pub(super) struct House {
    pub(super) broker: PrivateBroker,
    pub(super) sandbox: Sandbox,
    pub(super) pipeline: Pipeline,
    pub(super) orders: u64,
    pub(super) shards: u32,
    to_broker: Proxy,
    to_wdt: Proxy,
    to_kingdee: Proxy,
    posts: Vec<Mutex<Held>>,
    /// What the nemesis did not do and that should not have happened.
    surprises: Plain<Vec<String>>,
    began: Plain<Option<Instant>>,
}

impl House {
    /// Starts everything and waits until every worker is ready.
    pub(super) async fn start(schedule: &Schedule) -> Result<Self> {
        let broker = PrivateBroker::start(BrokerOptions::default()).await?;
        // The longer tiers would outlast the run; a policy and an argument on one queue are the smaller of both.
        let ttl = format!("{{\"message-ttl\":{}}}", TIER.as_millis());
        broker.ctl(&["set_policy", "--apply-to", "queues", "tempo", r"^wait\.", &ttl]).await?;
        let (sandbox, orders, from) = sandbox(schedule).await?;
        let to_broker = Proxy::start(format!("127.0.0.1:{}", broker.amqp_port())).await?;
        let (to_wdt, to_kingdee) =
            (Proxy::start(sandbox.address()).await?, Proxy::start(sandbox.address()).await?);
        let amqp_url = format!("amqp://guest:guest@{}/%2f?heartbeat={HEARTBEAT_S}", to_broker.address());
        let pipeline = Pipeline::new(amqp_url, schemes(schedule, from)?, &sandbox)?;
        let mut house = House {
            broker,
            sandbox,
            pipeline,
            orders,
            shards: schedule.shards,
            to_broker,
            to_wdt,
            to_kingdee,
            posts: Vec::new(),
            surprises: Plain::default(),
            began: Plain::default(),
        };
        for post in Post::ALL {
            let held = Held { post, worker: house.worker(post)?, past: Vec::new() };
            house.posts.push(Mutex::new(held));
        }
        for held in &house.posts {
            house.pipeline.ready(&held.lock().await.worker, Duration::from_secs(60)).await?;
        }
        // A node that is killed within a second of a declaration may lose a queue's leader (seen on 3.10.8).
        house.broker.save_queues().await?;
        Ok(house)
    }

    /// Carries out the events of one track, one after the other.
    pub(super) async fn track(&self, events: &[Event], start: Instant) {
        *lock(&self.began) = Some(start);
        for event in events {
            until(start + event.at).await;
            if let Err(error) = self.strike(event).await {
                self.surprise(format!("the nemesis could not do `{}`: {error:#}", event.blow));
            }
        }
    }

    /// Fills the post of a worker that ended by itself, which none should do.
    pub(super) async fn watch(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            for held in &self.posts {
                // The nemesis holds the lock of a post that it is busy with.
                let Ok(mut held) = held.try_lock() else { continue };
                if !held.worker.process.is_running() {
                    let code = held.worker.process.wait(Duration::ZERO).await.ok().and_then(|s| s.code());
                    // Another process took the port between its choice and its use.
                    if !(code == Some(64) && held.worker.process.output().contains("taken")) {
                        let tail = held.worker.process.log_tail();
                        let last: Vec<&str> = tail.lines().rev().take(3).collect();
                        self.surprise(format!(
                            "{} ended by itself with {code:?}: {}",
                            held.post,
                            last.into_iter().rev().collect::<Vec<_>>().join(" ⏎ ")
                        ));
                    }
                    if let Err(error) = self.refill(&mut held) {
                        self.surprise(format!("{error:#}"));
                    }
                }
            }
        }
    }

    /// Lets people work in WDT from now on.
    pub(super) async fn live(&self, seed: u64) -> Result<()> {
        let share = |share: f64| share * LIVELINESS;
        let rates = json!({"modify": LIVELINESS, "cancel": share(0.1), "add": share(0.1), "complete": LIVELINESS,
            "seed": seed});
        self.sandbox.post("wdt/live", &rates).await.map(drop)
    }

    /// Sends them home; what they did, in words.
    pub(super) async fn rest(&self) -> Result<String> {
        let ended = self.sandbox.delete("wdt/live").await?;
        let done = ended.pointer("/ended/done").and_then(Value::as_object).cloned().unwrap_or_default();
        let done = done.iter().filter(|(_, count)| count.as_u64() > Some(0));
        Ok(done.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", "))
    }

    /// Ends every trouble that is not undone by the end of its event.
    pub(super) async fn heal(&self) -> Result<()> {
        for proxy in [&self.to_broker, &self.to_wdt, &self.to_kingdee] {
            proxy.heal();
        }
        self.sandbox.process().thaw()?;
        self.sandbox.delete("faults").await?;
        for held in &self.posts {
            held.lock().await.worker.process.thaw()?;
        }
        if self.broker.pid().is_none() {
            self.broker.restart().await?;
        }
        Ok(())
    }

    /// Tells every worker to stop; each has to end well and in time, and to leave no connection behind.
    pub(super) async fn stop(&self) -> Result<()> {
        for held in &self.posts {
            held.lock().await.worker.process.term()?;
        }
        for held in &self.posts {
            let held = held.lock().await;
            match held.worker.process.wait(DRAIN + END_DEADLINE).await {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    self.surprise(format!("{} was told to stop and ended with {status}", held.post))
                }
                Err(_) => self.surprise(format!("{} was told to stop and did not end", held.post)),
            }
        }
        for (proxy, place) in
            [(&self.to_broker, "broker"), (&self.to_wdt, "WDT"), (&self.to_kingdee, "Kingdee")]
        {
            let closed = crate::lab::wait_until(END_DEADLINE, "the last connection to end", async || {
                proxy.traffic().open == 0
            });
            if closed.await.is_err() {
                let open = proxy.traffic().open;
                self.surprise(format!("{open} connections to {place} are open although no worker runs"));
            }
        }
        Ok(())
    }

    /// All workers that ever ran, by the post they held.
    pub(super) async fn with_workers<T>(&self, look: impl AsyncFnOnce(Vec<(Post, &Worker)>) -> T) -> T {
        let mut guards = Vec::new();
        for held in &self.posts {
            guards.push(held.lock().await);
        }
        let workers = guards.iter().flat_map(|held| {
            let held = held.deref();
            held.past.iter().chain([&held.worker]).map(move |worker| (held.post, worker))
        });
        look(workers.collect()).await
    }

    /// What should not have happened so far.
    pub(super) fn surprises(&self) -> Vec<String> {
        lock(&self.surprises).clone()
    }

    fn surprise(&self, text: String) {
        let at = lock(&self.began).map_or(0.0, |began| began.elapsed().as_secs_f64());
        println!("{at:>6.1} s  ! {text}");
        lock(&self.surprises).push(format!("after {at:.1} s: {text}"));
    }

    fn worker(&self, post: Post) -> Result<Worker> {
        let wdt = format!("http://{}/router/qm", self.to_wdt.address());
        let kingdee = format!("http://{}/k3cloud/", self.to_kingdee.address());
        let drain = DRAIN.as_secs().to_string();
        let mut settings = vec![
            ("WDT_URL", wdt.as_str()),
            ("KINGDEE_URL", kingdee.as_str()),
            ("DRAIN_SECONDS", drain.as_str()),
        ];
        if post == Post::Loader(1) {
            settings.push(("KINGDEE_AUTH", "login-by-sign"));
        }
        self.pipeline.start_with(post.stage(), &settings)
    }

    fn refill(&self, held: &mut Held) -> Result<()> {
        let fresh = self.worker(held.post)?;
        held.past.push(std::mem::replace(&mut held.worker, fresh));
        Ok(())
    }

    async fn held(&self, post: Post) -> Result<tokio::sync::MutexGuard<'_, Held>> {
        let index = Post::ALL.iter().position(|known| *known == post).context("no such post")?;
        Ok(self.posts.get(index).context("no such post")?.lock().await)
    }

    async fn strike(&self, event: &Event) -> Result<()> {
        let lasts = event.lasts;
        match event.blow {
            Blow::Kill(post) => {
                let mut held = self.held(post).await?;
                held.worker.process.kill();
                pause(lasts).await;
                self.refill(&mut held)
            }
            Blow::Terminate(post) => {
                let mut held = self.held(post).await?;
                // A process that has not begun can't hear a signal: the kernel ends it.
                let process = &held.worker.process;
                let begun = async || !process.output().is_empty();
                crate::lab::wait_until(END_DEADLINE, "a worker to begin", begun).await?;
                process.term()?;
                match held.worker.process.wait(DRAIN + END_DEADLINE).await {
                    Ok(status) if status.success() => {}
                    Ok(status) => {
                        self.surprise(format!("{post} was told to stop and ended with {status}"));
                    }
                    Err(_) => {
                        self.surprise(format!("{post} was told to stop and did not end"));
                        held.worker.process.kill();
                    }
                }
                pause(lasts).await;
                self.refill(&mut held)
            }
            Blow::Freeze(post) => {
                let held = self.held(post).await?;
                held.worker.process.freeze()?;
                pause(lasts).await;
                held.worker.process.thaw()
            }
            Blow::Broker(blow) => self.strike_broker(blow, lasts).await,
            Blow::Way(place, trouble) => {
                self.trouble(place, trouble, lasts).await;
                Ok(())
            }
            Blow::Erp(ErpBlow::Freeze, _) => {
                self.sandbox.process().freeze()?;
                pause(lasts).await;
                self.sandbox.process().thaw()
            }
            Blow::Erp(erp, _) => {
                let rule = event.blow.rule().context("not a rule")?;
                let armed = self.sandbox.fault(&rule).await?;
                pause(lasts).await;
                if let ErpBlow::Hang { system, .. } = erp {
                    // Cleared first: who met it later would hang until its own deadline of minutes.
                    let id = armed.pointer("/ids/0").context("the sandbox gave the rule no id")?;
                    self.sandbox.delete(&format!("faults/{id}")).await?;
                    let way = if system == "wdt" { &self.to_wdt } else { &self.to_kingdee };
                    way.reset();
                }
                Ok(())
            }
        }
    }

    async fn strike_broker(&self, blow: BrokerBlow, lasts: Duration) -> Result<()> {
        match blow {
            BrokerBlow::Kill => {
                self.broker.kill();
                pause(lasts).await;
                self.broker.restart().await?;
            }
            BrokerBlow::Freeze => {
                self.broker.freeze()?;
                pause(lasts).await;
                self.broker.thaw()?;
            }
            BrokerBlow::StopApp => {
                self.broker.ctl(&["stop_app"]).await?;
                pause(lasts).await;
                self.broker.ctl(&["start_app"]).await?;
            }
            BrokerBlow::CloseConnections => {
                self.broker.ctl(&["close_all_connections", "chaos"]).await?;
            }
            BrokerBlow::MemoryAlarm => {
                self.broker.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
                pause(lasts).await;
                self.broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await?;
            }
            BrokerBlow::SuspendListeners => {
                self.broker.ctl(&["eval", "rabbit_maintenance:suspend_all_client_listeners()."]).await?;
                pause(lasts).await;
                self.broker.ctl(&["eval", "rabbit_maintenance:resume_all_client_listeners()."]).await?;
            }
        }
        Ok(())
    }

    async fn trouble(&self, place: Place, trouble: Trouble, lasts: Duration) {
        let proxy = match place {
            Place::Broker => &self.to_broker,
            Place::Wdt => &self.to_wdt,
            Place::Kingdee => &self.to_kingdee,
        };
        match trouble {
            Trouble::Latency(latency) => {
                Way::BOTH.map(|way| proxy.delay(way, latency, latency / 2)).into_iter().collect()
            }
            Trouble::Stall(way) => proxy.stall(way),
            Trouble::StallBoth => Way::BOTH.map(|way| proxy.stall(way)).into_iter().collect(),
            Trouble::Hole => proxy.welcome(Welcome::Hole),
            Trouble::Refuse => proxy.welcome(Welcome::Reset),
            Trouble::Reset => proxy.reset(),
            Trouble::Cut(way, bytes) => proxy.cut_after(way, bytes),
            Trouble::Slice(most) => Way::BOTH.map(|way| proxy.slice(way, most)).into_iter().collect(),
            Trouble::Narrow(rate) => Way::BOTH.map(|way| proxy.narrow(way, rate)).into_iter().collect(),
        }
        pause(lasts).await;
        proxy.heal();
    }
}

/// The sandbox, how many orders have to arrive, and the time of the first. Orders of the coming time are there already;
/// the windows reach them when they lie in the past.
async fn sandbox(schedule: &Schedule) -> Result<(Sandbox, u64, String)> {
    let seconds = (schedule.duration + WARM_UP).as_secs();
    let orders = u32::try_from(seconds).unwrap_or(u32::MAX / 100) * ORDERS_PER_SECOND;
    let from = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?.to_string();
    let args = ["--kingdee-latency", KINGDEE_LATENCY, "--order", schedule.order];
    let mut args = args.map(str::to_owned).to_vec();
    if !schedule.unique_numbers {
        args.push("--repeated-numbers".to_owned());
    }
    let options = SandboxOptions {
        orders,
        unpostable: UNPOSTABLE,
        seed: schedule.seed,
        from: Some(from.clone()),
        spread: Some(format!("{seconds}s")),
        args,
    };
    Ok((Sandbox::start(options).await?, u64::from(orders), from))
}

/// The shipped scheme at the tempo of the run.
fn schemes(schedule: &Schedule, from: String) -> Result<Schemes> {
    let settle = format!("{}s", SETTLE.as_secs());
    let schemes = Schemes::at(&Tempo { start: from, width: "1h".into(), settle })?;
    let file = schemes.path().join(format!("{SCHEME}.yaml"));
    let yaml = std::fs::read_to_string(&file)?;
    // Every order is read some five times, not sixty times.
    let yaml = yaml.replace("overlap: 1m", "overlap: 5s");
    let shards = format!("\n  shards: {}\n  key: FBillNo", schedule.shards);
    std::fs::write(&file, yaml.replacen("\n  key: FBillNo", &shards, 1))?;
    Ok(schemes)
}

/// Waits for a moment of the schedule.
pub(super) async fn until(moment: Instant) {
    let _ = tokio::time::timeout_at(moment, std::future::pending::<()>()).await;
}

async fn pause(lasts: Duration) {
    until(Instant::now() + lasts).await;
}

fn lock<T>(mutex: &Plain<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
