//! A RabbitMQ node that belongs to one test.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::leash::{Held, Start, hold_dir};
use super::node::Node;
use super::wait_for;

/// From the start of the node to its first answer: about ten seconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A port that was free when it was chosen may be taken when the node binds it.
const ATTEMPTS: u32 = 3;

/// What a private node should have beyond AMQP.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// The management plugin with its HTTP API; adds seconds to the start.
    pub management: bool,
    /// The broker's own metrics.
    pub prometheus: bool,
    /// More lines for `rabbitmq.conf`, such as `consumer_timeout = 5000`.
    pub config: Vec<String>,
}

/// A RabbitMQ node on ports of its own, with its own epmd, users, data and temporary directory.
///
/// Dropping it kills node and epmd by their process ids and removes the directory. It works as root and as an ordinary
/// user, beside any other RabbitMQ.
pub struct PrivateBroker {
    node: Node,
    server: Mutex<Option<Held>>,
    _epmd: Held,
    // Dropped last: the files must outlive the processes.
    _dir: TempDir,
}

impl PrivateBroker {
    /// Starts a node and waits until it answers.
    pub async fn start(options: BrokerOptions) -> Result<Self> {
        let mut failures = Vec::new();
        for _ in 0..ATTEMPTS {
            let broker = Self::attempt(&options)?;
            match broker.await_answer().await {
                Ok(()) => return Ok(broker),
                Err(error) => failures.push(format!("{error:#}\n{}", broker.node.log_tail())),
            }
            if !failures
                .last()
                .is_some_and(|text| text.contains("eaddrinuse") || text.contains("ddress already in use"))
            {
                break;
            }
        }
        bail!("a private RabbitMQ node did not start:\n{}", failures.join("\n"))
    }

    /// The process id of the node, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().filter(|held| held.ended().is_none()).map(Held::pid)
    }

    /// The process id of the node's own port mapper.
    pub fn epmd_pid(&self) -> u32 {
        self._epmd.pid()
    }

    /// The directory that holds everything the node writes.
    pub fn dir(&self) -> &Path {
        &self.node.dir
    }

    /// Kills the node without warning; its data stay for [`Self::restart`].
    pub fn kill(&self) {
        self.server().take();
    }

    /// Stops the node in good order.
    pub async fn stop(&self) -> Result<()> {
        let Some(held) = self.server().take() else { return Ok(()) };
        held.signal(Signal::TERM)?;
        held.wait(STOP_DEADLINE).await.with_context(|| self.node.log_tail())?;
        Ok(())
    }

    /// Starts the node again on the same ports with the same data, ending it first where it still runs.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        *self.server() = Some(start_server(&self.node)?);
        self.await_answer().await.with_context(|| self.node.log_tail())
    }

    /// Stops the node's time: connections stay open and nothing answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn attempt(options: &BrokerOptions) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("kingpost-lab-").tempdir().context("no temporary directory")?;
        hold_dir(dir.path())?;
        let node = Node::prepare(dir.path(), options)?;
        let epmd = start_epmd(&node)?;
        let server = start_server(&node)?;
        Ok(Self { node, server: Mutex::new(Some(server)), _epmd: epmd, _dir: dir })
    }

    async fn await_answer(&self) -> Result<()> {
        wait_for(START_DEADLINE, "an answer of the RabbitMQ node", async || {
            if self.pid().is_none() {
                return Some(Err(anyhow::anyhow!("the node ended while it started")));
            }
            self.node.answers().then_some(Ok(()))
        })
        .await?
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.server().as_ref().context("the node does not run")?.signal(signal)
    }

    fn server(&self) -> MutexGuard<'_, Option<Held>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for PrivateBroker {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.node.log_tail());
        }
        self.kill();
    }
}

fn start_epmd(node: &Node) -> Result<Held> {
    let args = ["-address", "127.0.0.1", "-port", &node.epmd.to_string()].map(OsString::from);
    start(node, PathBuf::from("epmd"), &args, "epmd.log")
}

fn start_server(node: &Node) -> Result<Held> {
    start(node, node.server(), &[], "console.log")
}

fn start(node: &Node, program: PathBuf, args: &[OsString], log: &str) -> Result<Held> {
    let launched = [node.launcher().into_os_string(), program.into_os_string()];
    let args: Vec<OsString> = launched.into_iter().chain(args.iter().cloned()).collect();
    Held::start(&Start {
        program: Path::new("/bin/sh"),
        args: &args,
        env: &node.env(),
        dir: &node.dir,
        log: &node.dir.join(log),
    })
}
