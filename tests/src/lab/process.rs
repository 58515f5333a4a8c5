//! The workspace's own programs, run as real processes.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::leash::{Held, Start, hold_dir};
use super::node::tail;

/// The path of a program of this workspace, built into the same target directory as the running one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("can't find the running program")?;
    let mut dir = own.parent().context("the running program has no directory")?;
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir = dir.parent().context("no directory above `deps`")?;
    }
    let path = dir.join(name);
    if !path.is_file() {
        bail!(
            "{} does not exist; build it with `cargo build --bins`, or run `make test`, which does",
            path.display()
        );
    }
    Ok(path)
}

/// A program about to be started.
#[derive(Clone, Debug)]
pub struct ProcessBuilder {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
}

impl ProcessBuilder {
    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable; nothing but `PATH`, `HOME`, `TMPDIR` and `KINGPOST_BUG` is inherited. The last value of a name counts.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets variables.
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        mut self,
        env: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Runs it in another directory than its own temporary one.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Starts the program; its output, standard and error, goes to one file.
    pub fn start(self) -> Result<Process> {
        let temp =
            tempfile::Builder::new().prefix("kingpost-lab-").tempdir().context("no temporary directory")?;
        hold_dir(temp.path())?;
        let log = temp.path().join("output.log");
        std::fs::write(&log, "").context("can't make the output file")?;
        let kept = File::open(&log).context("can't keep the output file open")?;
        let held = Held::start(&Start {
            program: &self.program,
            args: &self.args,
            env: &self.env,
            dir: self.dir.as_deref().unwrap_or(temp.path()),
            log: &log,
        })?;
        let trace = Trace { log: Arc::new(kept), over: Arc::default() };
        Ok(Process { name: self.name, held, log, trace, _temp: temp })
    }
}

/// What outlives a process and its directory.
#[derive(Clone)]
pub struct Trace {
    log: Arc<File>,
    over: Arc<AtomicBool>,
}

impl Trace {
    /// Everything that the process wrote, or has written so far.
    pub fn output(&self) -> String {
        let (mut bytes, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(read @ 1..) = self.log.read_at(&mut part, bytes.len() as u64) {
            bytes.extend_from_slice(part.get(..read).unwrap_or_default());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it was killed, waited for to its end, or dropped.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A running program; killed when dropped, and when we are killed.
pub struct Process {
    name: String,
    held: Held,
    log: PathBuf,
    trace: Trace,
    _temp: TempDir,
}

impl Process {
    /// A program of this workspace by its name, such as `kingpost-loader`.
    pub fn of(name: &str) -> Result<ProcessBuilder> {
        Ok(Self::program(&binary(name)?))
    }

    /// Any program by its path.
    pub fn program(program: &Path) -> ProcessBuilder {
        let inherited = ["PATH", "HOME", "TMPDIR", "KINGPOST_BUG"];
        ProcessBuilder {
            name: program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: inherited
                .iter()
                .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
                .collect(),
            dir: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.held.pid()
    }

    /// What outlives it.
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.held.ended().is_none()
    }

    /// Asks it to end (SIGTERM).
    pub fn term(&self) -> Result<()> {
        self.held.signal(Signal::TERM)
    }

    /// Ends it without warning (SIGKILL) and collects it.
    pub fn kill(&self) {
        self.trace.over.store(true, Ordering::Relaxed);
        self.held.kill();
    }

    /// Stops its time (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.held.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) -> Result<()> {
        self.held.signal(Signal::CONT)
    }

    /// Waits for its end; past the deadline it fails with the end of its output.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let status = self.held.wait(deadline).await.with_context(|| self.log_tail())?;
        self.trace.over.store(true, Ordering::Relaxed);
        Ok(status)
    }

    /// Everything it has written, standard output and error in one.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines it has written, under its name.
    pub fn log_tail(&self) -> String {
        format!("--- {} ({})\n{}", self.name, self.pid(), tail(&self.log, 60))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.trace.over.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}
