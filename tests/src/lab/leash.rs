//! Child processes that can't outlive us.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};

use super::wait_for;

/// Remembers process groups and directories until its input ends, which happens when we exit however we exit.
const KEEPER: &str = r#"
trap '' HUP INT TERM
groups=' ' dirs=''
while read -r word rest; do
    case $word in
        hold) groups="$groups$rest " ;;
        free) case $groups in *" $rest "*) groups="${groups%%" $rest "*} ${groups#*" $rest "}" ;; esac ;;
        dir) dirs="$dirs$rest
" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
printf %s "$dirs" | while read -r dir; do
    rm -rf -- "$dir" 2>/dev/null || { sleep 0.2; rm -rf -- "$dir"; }
done
"#;

/// Registers itself with the keeper before it becomes the program, so there is no moment at which it isn't held.
const REGISTER: &str = r#"log=$1; shift; echo "hold $$"; exec "$@" >>"$log" 2>&1"#;

static LEASH: OnceLock<Mutex<Leash>> = OnceLock::new();

/// Whether a process runs; one that has ended but has not been collected by its parent does not.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| !rest.starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

struct Leash {
    _keeper: Child,
    pipe: ChildStdin,
}

impl Leash {
    fn start() -> Result<Self> {
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("can't start /bin/sh to keep watch over the processes of a test")?;
        let pipe = keeper.stdin.take().ok_or_else(|| anyhow!("the keeper has no input"))?;
        Ok(Self { _keeper: keeper, pipe })
    }
}

fn leash() -> Result<MutexGuard<'static, Leash>> {
    let leash = match LEASH.get() {
        Some(leash) => leash,
        None => {
            let started = Mutex::new(Leash::start()?);
            LEASH.get_or_init(|| started)
        }
    };
    Ok(leash.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Has `dir` removed when this process ends, however it ends.
pub(super) fn hold_dir(dir: &Path) -> Result<()> {
    writeln!(leash()?.pipe, "dir {}", dir.display()).context("the keeper is gone")
}

/// What to start, and where its output goes.
pub(super) struct Start<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [OsString],
    /// The whole environment; nothing is inherited.
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) dir: &'a Path,
    pub(super) log: &'a Path,
}

/// A child process in its own process group, killed on drop and when we die.
pub(super) struct Held {
    child: Mutex<Child>,
    pid: u32,
}

impl Held {
    pub(super) fn start(start: &Start<'_>) -> Result<Self> {
        let pipe: OwnedFd = leash()?.pipe.as_fd().try_clone_to_owned()?;
        let child = Command::new("/bin/sh")
            .args([OsStr::new("-c"), OsStr::new(REGISTER), OsStr::new("sh"), start.log.as_os_str()])
            .arg(start.program)
            .args(start.args)
            .env_clear()
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .current_dir(start.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::from(pipe))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {}", start.program.display()))?;
        let pid = child.id();
        Ok(Self { child: Mutex::new(child), pid })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit status, once the process has ended.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.lock().try_wait().ok().flatten()
    }

    /// Sends a signal to the process and what it started; an ended process is left alone, its number may be another's.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("not a process id")?;
        kill_process_group(group, signal).with_context(|| format!("can't send {signal:?} to {}", self.pid))
    }

    pub(super) async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        wait_for(deadline, &format!("the end of process {}", self.pid), async || self.ended()).await
    }

    /// Kills the process and collects it.
    pub(super) fn kill(&self) {
        if self.ended().is_none() {
            let _ = self.signal(Signal::KILL);
            let _ = self.lock().wait();
        }
        if let Ok(mut leash) = leash() {
            let _ = writeln!(leash.pipe, "free {}", self.pid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kill();
    }
}
