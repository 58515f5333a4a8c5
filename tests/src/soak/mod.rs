//! `make soak`: a million messages through the two queue hops, a hundred thousand dead letters replayed, and a history read
//! while it is worked on, while what carries them is killed again and again.

mod hop;
mod living;
mod replay;
mod sink;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

pub use hop::hop;
pub use living::living;
pub use replay::replay;

/// The most that something was, in bytes, and what it is now.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    now: u64,
    most: u64,
}

impl Peak {
    fn see(&mut self, bytes: u64) {
        self.now = bytes;
        self.most = self.most.max(bytes);
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MB", self.most as f64 / 1e6)
    }
}

/// Resident memory of a process in bytes.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.map(|kb| kb * 1_024).with_context(|| format!("{path} names no memory"))
}

/// Bytes of all files below a directory; what vanishes meanwhile counts nothing.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_up_through_directories() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("a"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("below/b"), [0; 5]).unwrap();
        assert_eq!(size_of(dir.path()), 15);
        assert!(resident(std::process::id()).unwrap() > 100_000);
    }
}
