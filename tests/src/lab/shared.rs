//! One RabbitMQ node for all tests that only need a vhost of their own.
//!
//! A test runner may give every test a process of its own, so the node belongs to none of them: a shell keeps it and
//! ends it some seconds after the last process that holds the lock is gone.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::OnceCell;

use super::node::{Installation, Node, tail};
use super::{BrokerOptions, wait_for};

const START_DEADLINE: Duration = Duration::from_secs(90);
const ATTEMPTS: u32 = 3;

/// Runs node and epmd as its own children; `flock` fails as long as a test process shares the lock.
const KEEPER: &str = r#"
trap '' HUP INT TERM
cd "$DIR" || exit 1
/bin/sh "$LAUNCHER" epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >epmd.log 2>&1 9<&- & epmd=$!
/bin/sh "$LAUNCHER" "$SERVER" >console.log 2>&1 9<&- & node=$!
idle=0
while kill -0 "$node" 2>/dev/null; do
    if flock -n -x 9; then
        idle=$((idle + 1))
        [ "$idle" -ge 20 ] && break
        flock -u 9
    else
        idle=0
    fi
    sleep 0.25
done
rm -f -- "$STATE"
tail -n 40 console.log >"$STATE.log"
kill -s KILL "$node" "$epmd" 2>/dev/null
wait
cd / && rm -rf -- "$DIR"
"#;

static SHARED: OnceCell<SharedBroker> = OnceCell::const_new();

/// The shared node, started by whoever comes first; make a vhost of your own with [`Node::vhost`] and never stop it.
pub async fn shared_broker() -> Result<&'static SharedBroker> {
    SHARED.get_or_try_init(SharedBroker::attach).await
}

/// A node that other test processes use too.
pub struct SharedBroker {
    node: Node,
    // Holds the lock until this process ends.
    _users: File,
}

impl Deref for SharedBroker {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl SharedBroker {
    async fn attach() -> Result<Self> {
        let place = Place::of(&Installation::chosen()?)?;
        let users = blocking(place.users.clone(), |file| file.lock_shared()).await?;
        let _starting = blocking(place.starting.clone(), |file| file.lock()).await?;
        if let Some(node) = place.running_node() {
            return Ok(Self { node, _users: users });
        }
        let mut failures = Vec::new();
        for _ in 0..ATTEMPTS {
            match place.start_node().await {
                Ok(node) => return Ok(Self { node, _users: users }),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        bail!("the shared RabbitMQ node did not start:\n{}", failures.join("\n"))
    }
}

/// Where the processes of one user and one checkout find each other, for each RabbitMQ they run.
struct Place {
    users: PathBuf,
    starting: PathBuf,
    state: PathBuf,
}

impl Place {
    fn of(installation: &Installation) -> Result<Self> {
        let mut hash = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hash);
        installation.hash(&mut hash);
        let user = rustix::process::getuid().as_raw();
        let dir = std::env::temp_dir().join(format!("kingpost-shared-{user}-{:08x}", hash.finish() as u32));
        std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        Ok(Self {
            users: dir.join("users.lock"),
            starting: dir.join("starting.lock"),
            state: dir.join("node.json"),
        })
    }

    /// The node that runs already, if it still answers.
    fn running_node(&self) -> Option<Node> {
        let node: Node = serde_json::from_slice(&std::fs::read(&self.state).ok()?).ok()?;
        node.answers().then_some(node)
    }

    async fn start_node(&self) -> Result<Node> {
        let dir =
            tempfile::Builder::new().prefix("kingpost-lab-").tempdir().context("no temporary directory")?;
        let node = Node::prepare(dir.path(), &BrokerOptions::default())?;
        let mut keeper = self.start_keeper(&node, dir.path())?;
        // From here on the keeper removes it.
        let dir = dir.keep();
        wait_for(START_DEADLINE, "an answer of the shared RabbitMQ node", async || {
            if let Ok(Some(_)) = keeper.try_wait() {
                return Some(Err(anyhow!("the shared node ended while it started")));
            }
            node.answers().then_some(Ok(()))
        })
        .await
        .and_then(|started| started)
        .with_context(|| {
            format!(
                "{}\n{}",
                tail(&self.state.with_extension("json.log"), 40),
                tail(&dir.join("console.log"), 40)
            )
        })?;
        std::fs::write(&self.state, serde_json::to_vec(&node)?)
            .context("can't write where the shared node is")?;
        Ok(node)
    }

    fn start_keeper(&self, node: &Node, dir: &Path) -> Result<Child> {
        Command::new("/bin/sh")
            .args(["-c", &format!("exec 9<\"$USERS\"\n{KEEPER}")])
            .env_clear()
            .envs(node.env())
            .env("DIR", dir)
            .env("LAUNCHER", node.launcher())
            .env("SERVER", node.server())
            .env("STATE", &self.state)
            .env("USERS", &self.users)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("can't start /bin/sh to keep the shared node")
    }
}

/// Opens a lock file and waits for its lock on a thread that may wait.
async fn blocking(path: PathBuf, lock: fn(&File) -> std::io::Result<()>) -> Result<File> {
    tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).read(true).open(&path)?;
        lock(&file)?;
        std::io::Result::Ok(file)
    })
    .await?
    .context("can't lock the shared node")
}
