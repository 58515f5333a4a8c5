//! What the kernel says about a process.

use std::fs::read_to_string;

use anyhow::{Context, Result};

/// Ticks per second of the times in `/proc/<pid>/stat`; `USER_HZ` is 100 on x86-64 and on arm64.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, that a process has used so far.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .with_context(|| format!("can't understand {path}"))
}

/// The sum of `utime` and `stime`; the name before them may hold blanks and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

/// Resident memory of a process in MB: now, and the most it ever was.
pub(super) fn memory_mb(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let status = read_to_string(&path).with_context(|| format!("can't read {path}"))?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb * 1_024.0 / 1e6)
    };
    field("VmRSS:").zip(field("VmHWM:")).with_context(|| format!("{path} names no memory"))
}

/// One line about this machine.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, m)| m);
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let gb = total.and_then(|kb| kb.parse::<f64>().ok()).map_or(0.0, |kb| kb * 1_024.0 / 1e9);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores ({}), {gb:.0} GB, Linux {}", model.unwrap_or("unnamed"), kernel.trim())
}

/// How many processes wanted to run over the last minute, on average.
pub(super) fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn a_process_has_memory_and_its_peak_is_no_less() {
        let (now, peak) = memory_mb(std::process::id()).unwrap();
        assert!(now > 0.5 && peak >= now, "{now} {peak}");
    }
}
