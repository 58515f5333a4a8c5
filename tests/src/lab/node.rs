//! One RabbitMQ node of our own: its ports, its files, its command line tools.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{BrokerOptions, free_port};

mod installation;

pub(super) use installation::Installation;

/// How long a command line tool may take; the Erlang VM alone needs up to a few seconds on a busy machine.
const TOOL_DEADLINE: Duration = Duration::from_secs(60);

/// A greeting has some hundred bytes; a length beyond this is no greeting.
const GREETING_BYTES_MAX: usize = 65_536;

/// The counts that `rabbitmqctl list_queues` shows of a quorum queue are those of its last tick, 5 s apart by default.
/// `rabbitmq.conf` has no name for it.
const ADVANCED: &str = "[{rabbit, [{quorum_tick_interval, 1000}]}].\n";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The address of a RabbitMQ node, and the means to look into it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Node {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) installation: Installation,
    pub(super) amqp: u16,
    pub(super) dist: u16,
    pub(super) epmd: u16,
    pub(super) management: Option<u16>,
    pub(super) prometheus: Option<u16>,
}

impl Node {
    /// Chooses ports and writes the node's files below `dir`; starts nothing.
    pub(super) fn prepare(dir: &Path, options: &BrokerOptions) -> Result<Self> {
        let node = Self {
            name: format!(
                "kingpost-{}-{}@localhost",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            ),
            dir: dir.to_owned(),
            installation: Installation::chosen()?,
            amqp: free_port()?,
            dist: free_port()?,
            epmd: free_port()?,
            management: options.management.then(free_port).transpose()?,
            prometheus: options.prometheus.then(free_port).transpose()?,
        };
        node.write_files(options)
            .with_context(|| format!("can't write the node's files below {}", dir.display()))?;
        Ok(node)
    }

    /// The URL of the default vhost `/`.
    pub fn amqp_url(&self) -> String {
        self.vhost_url("/")
    }

    /// The URL of a vhost that exists already.
    pub fn vhost_url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{}", self.amqp, vhost.replace('/', "%2f"))
    }

    /// The port of AMQP on 127.0.0.1, for a proxy in between.
    pub fn amqp_port(&self) -> u16 {
        self.amqp
    }

    /// The base URL of the management API, where the plugin was asked for; user and password are `guest`.
    pub fn management_url(&self) -> Option<String> {
        self.management.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// The base URL of the broker's own metrics, where the plugin was asked for.
    pub fn prometheus_url(&self) -> Option<String> {
        self.prometheus.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Makes a vhost that only the caller knows, named after the test, and returns its URL.
    pub async fn vhost(&self, name: &str) -> Result<String> {
        let mut urls = self.vhosts(&[name]).await?;
        urls.pop().context("no vhost was made")
    }

    /// Makes several vhosts with one call of `rabbitmqctl`, whose start costs far more than its work.
    pub async fn vhosts(&self, names: &[&str]) -> Result<Vec<String>> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let names: Vec<String> = names
            .iter()
            .map(|name| {
                let plain: String = name
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
                    .collect();
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                // A process id alone comes again, in another run that shares the node.
                format!("{plain}-{}-{:x}-{count}", std::process::id(), since_epoch.as_micros())
            })
            .collect();
        let list = names.iter().map(|name| format!("<<\"{name}\">>")).collect::<Vec<_>>().join(", ");
        let made = self
            .ctl(&[
                "eval",
                &format!(
                    "lists:foreach(fun(Vhost) -> ok = rabbit_vhost:add(Vhost, <<\"lab\">>), \
                     ok = rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, Vhost, \
                     <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"lab\">>) end, [{list}])."
                ),
            ])
            .await?;
        if made.trim() != "ok" {
            bail!("can't make vhosts {names:?}: {made}");
        }
        Ok(names.iter().map(|name| self.vhost_url(name)).collect())
    }

    /// The version that the node reports to every client: major and minor.
    pub fn version(&self) -> Result<(u32, u32)> {
        let greeting = greeting(self.amqp).context("the node does not answer")?;
        version_in(&greeting).context("the node reports no version")
    }

    /// Runs `rabbitmqctl` on this node and returns what it printed.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        self.tool("rabbitmqctl", args).await
    }

    /// Runs `rabbitmq-queues` on this node and returns what it printed.
    pub async fn queues(&self, args: &[&str]) -> Result<String> {
        self.tool("rabbitmq-queues", args).await
    }

    /// A shell script that is `rabbitmqctl` of this node, for programs that call it themselves.
    pub fn ctl_script(&self) -> String {
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
        let mut script = String::from("#!/bin/sh\n");
        for (name, value) in self.env() {
            script.push_str(&format!("export {}={}\n", name.to_string_lossy(), quoted(&value)));
        }
        let program = self.installation.script("rabbitmqctl");
        script.push_str(&format!(
            "cd {} && exec /bin/sh {} {} \"$@\"\n",
            quoted(self.dir.as_os_str()),
            quoted(self.launcher().as_os_str()),
            quoted(program.as_os_str())
        ));
        script
    }

    /// Has the node write the list of its quorum queues to disk.
    ///
    /// By itself it does so up to a second after a queue was declared; one that is killed sooner comes back with a queue
    /// that never finds a leader (seen on 3.10.8).
    pub async fn save_queues(&self) -> Result<()> {
        self.ctl(&["eval", "[ok = dets:sync(Table) || Table <- dets:all()], ok."]).await?;
        Ok(())
    }

    /// The last lines of the node's log.
    pub fn log_tail(&self) -> String {
        ["console.log", "epmd.log"]
            .map(|name| format!("--- {name}\n{}", tail(&self.dir.join(name), 40)))
            .join("\n")
    }

    /// Whether the node speaks AMQP, and HTTP where it was asked to.
    pub(super) fn answers(&self) -> bool {
        greeting(self.amqp).is_some()
            && [self.management, self.prometheus].into_iter().flatten().all(|port| connect(port).is_some())
    }

    /// The whole environment of the server and of its tools; it separates this node from every other.
    pub(super) fn env(&self) -> Vec<(OsString, OsString)> {
        let dir = self.installation.sees(&self.dir);
        let file = |name: &str| dir.join(name).into_os_string();
        let loopback = OsString::from("-kernel inet_dist_use_interface {127,0,0,1}");
        let own = [
            ("HOME", file("home")),
            ("RABBITMQ_NODENAME", OsString::from(&self.name)),
            ("RABBITMQ_MNESIA_BASE", file("data")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_LOGS", OsString::from("-")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", file("env.conf")),
            ("RABBITMQ_SCHEMA_DIR", file("schema")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_PID_FILE", file("node.pid")),
            ("RABBITMQ_NODE_IP_ADDRESS", OsString::from("127.0.0.1")),
            ("RABBITMQ_NODE_PORT", self.amqp.to_string().into()),
            ("RABBITMQ_DIST_PORT", self.dist.to_string().into()),
            ("RABBITMQ_CTL_DIST_PORT_MIN", OsString::from("20000")),
            ("RABBITMQ_CTL_DIST_PORT_MAX", OsString::from("29999")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.clone()),
            ("RABBITMQ_CTL_ERL_ARGS", loopback),
            ("ERL_EPMD_PORT", self.epmd.to_string().into()),
            ("ERL_EPMD_ADDRESS", OsString::from("127.0.0.1")),
            // epmd is ours to start and to end; a daemon started on the way would outlive the node.
            ("ERL_FLAGS", OsString::from("-start_epmd false")),
            // The start script then becomes the Erlang VM, so that the process we hold is the node itself.
            ("detached", OsString::from("true")),
            ("LANG", OsString::from("C.UTF-8")),
            ("PATH", OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
        ];
        own.into_iter().map(|(name, value)| (OsString::from(name), value)).collect()
    }

    /// The script of the server, for the launcher.
    pub(super) fn server(&self) -> PathBuf {
        self.installation.script("rabbitmq-server")
    }

    /// A shell script that becomes the program given to it, where this node can see it.
    pub(super) fn launcher(&self) -> PathBuf {
        self.dir.join("launch.sh")
    }

    async fn tool(&self, tool: &str, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new("/bin/sh");
        command
            .arg(self.launcher())
            .arg(self.installation.script(tool))
            .args(["-q", "-n", &self.name])
            .args(args)
            .env_clear()
            .envs(self.env())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(TOOL_DEADLINE, command.output())
            .await
            .with_context(|| format!("{tool} {args:?} took longer than {TOOL_DEADLINE:?}"))?
            .with_context(|| format!("can't run {tool}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{tool} {args:?}: {}: {printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(printed)
    }

    fn write_files(&self, options: &BrokerOptions) -> Result<()> {
        for sub in ["home", "data", "log", "schema", "generated"] {
            std::fs::create_dir_all(self.dir.join(sub))?;
        }
        let cookie = self.dir.join("home/.erlang.cookie");
        std::fs::write(&cookie, format!("LAB{}X{}", std::process::id(), self.dist))?;
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400))?;
        std::fs::write(self.dir.join("env.conf"), "")?;
        std::fs::write(self.launcher(), self.installation.launcher(&self.dir)?)?;
        let mut plugins = Vec::new();
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 1MB\n\
             vm_memory_high_watermark.absolute = 1GB\n\
             log.console = true\n\
             log.console.level = info\n\
             log.file = false\n",
            self.amqp
        );
        if let Some(port) = self.management {
            plugins.push("rabbitmq_management");
            config += &format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
        }
        if let Some(port) = self.prometheus {
            plugins.push("rabbitmq_prometheus");
            config += &format!("prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port}\n");
        }
        for line in &options.config {
            config += line;
            config.push('\n');
        }
        std::fs::write(self.dir.join("rabbitmq.conf"), config)?;
        std::fs::write(self.dir.join("advanced.config"), ADVANCED)?;
        std::fs::write(self.dir.join("enabled_plugins"), format!("[{}].\n", plugins.join(",")))?;
        Ok(())
    }
}

/// The last `lines` lines of a file, or why it can't be read.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
}

/// Sends the AMQP 0-9-1 protocol header and returns the payload of the first frame, `connection.start`: a node that is up
/// answers with a method frame, whose first octet is 1.
fn greeting(port: u16) -> Option<Vec<u8>> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).ok()?;
    let [1, _, _, size @ ..] = head else { return None };
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes(size)).ok()?.min(GREETING_BYTES_MAX)];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// The `version` among the server properties of a greeting: a short string as the name, then `S` and a long string.
fn version_in(greeting: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"\x07versionS";
    let at = greeting.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let rest = greeting.get(at..)?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let text = std::str::from_utf8(rest.get(..usize::try_from(u32::from_be_bytes(*size)).ok()?)?).ok()?;
    let mut numbers = text.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
