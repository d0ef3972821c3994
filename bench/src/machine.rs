//! What a table was measured on and with: looked up, never typed by hand.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xtask::{paths, process};

use crate::fping;

/// How long the machine is watched before a table is measured.
const WATCH: Duration = Duration::from_secs(1);

/// The facts of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// When, UTC.
    pub(crate) measured: String,
    /// `git describe`, with `-dirty` where sources were changed since.
    pub(crate) pinger: String,
    pub(crate) fping: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// How much of the CPUs others used just before, percent.
    pub(crate) busy_percent: u64,
    /// The most runs of a case.
    pub(crate) runs: u32,
}

impl Facts {
    /// Looks around; takes a second.
    ///
    /// # Errors
    /// `/proc` cannot be read, or fping or git is missing.
    pub(crate) fn look(runs: u32) -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        Ok(Self {
            measured: ask(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?,
            pinger: sources()?,
            fping: fping::version()?,
            cpu: cpu.into(),
            cores: cores(&cpuinfo),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().into(),
            busy_percent: busy_percent()?,
            runs,
        })
    }
}

fn cores(cpuinfo: &str) -> usize {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count()
}

/// The commit, and whether anything but our own results differs from it.
fn sources() -> Result<String> {
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(paths::root());
        git
    };
    let commit = ask(git().args(["describe", "--always", "--tags"]))?;
    let changed = ask(git().args([
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":!bench/RESULTS.md",
        ":!bench/*.json",
    ]))?;
    let dirty = if changed.is_empty() { "" } else { "-dirty" };
    Ok(format!("{commit}{dirty}"))
}

/// The share of CPU time that was not idle while we slept.
fn busy_percent() -> Result<u64> {
    let before = cpu_times(&read("/proc/stat")?)?;
    thread::sleep(WATCH);
    let after = cpu_times(&read("/proc/stat")?)?;
    let all = after.all.saturating_sub(before.all).max(1);
    let idle = after.idle.saturating_sub(before.idle);
    Ok(100 - (100 * idle / all).min(100))
}

/// Clock ticks of all CPUs since boot, proc_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    all: u64,
    /// Idle, or waiting for a disk.
    idle: u64,
}

fn cpu_times(stat: &str) -> Result<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks: Vec<u64> = line
        .context("/proc/stat has no line `cpu`")?
        .split_whitespace()
        // The last two, guests, are part of the first two.
        .take(8)
        .map(|ticks| ticks.parse().context("/proc/stat holds no numbers"))
        .collect::<Result<_>>()?;
    Ok(CpuTimes {
        all: ticks.iter().sum(),
        idle: ticks.iter().skip(3).take(2).sum(),
    })
}

fn ask(command: &mut Command) -> Result<String> {
    Ok(process::capture(command)?.trim().to_owned())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_idle_and_waiting_for_disks() {
        let stat = "cpu  10 20 30 400 50 6 7 8 900 1000\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(
            cpu_times(stat).unwrap(),
            CpuTimes {
                all: 531,
                idle: 450
            }
        );
        assert!(cpu_times("intr 5").is_err());
    }

    #[test]
    fn cores_are_counted_as_the_kernel_does() {
        assert_eq!(
            cores("processor\t: 0\nmodel name\t: A\n\nprocessor\t: 1\n"),
            2
        );
    }
}
