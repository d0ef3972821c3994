//! Processes from outside: the CPU that they and their threads have used, their children, and
//! signals to one of them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Clock ticks a second in `/proc`: `sysconf(_SC_CLK_TCK)` is this on every Linux that pinger runs
/// on.
const TICKS_PER_SECOND: f64 = 100.0;
/// The longest that a process may take to stand still.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Seconds of CPU that a process, or a thread by its path below `/proc`, has used.
///
/// # Errors
/// It is gone.
pub(crate) fn cpu_s(process: &str) -> Result<f64> {
    let path = Path::new("/proc").join(process).join("stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .with_context(|| format!("{path:?} is not as proc_pid_stat(5) says"))
}

/// User and system time, the 14th and 15th field; the second one is a name that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

/// Seconds of CPU that this process has used, but for the calling thread.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn other_threads_cpu_s() -> Result<f64> {
    Ok(cpu_s("self")? - cpu_s("thread-self")?)
}

/// The children of a process: `self`, or its id.
///
/// # Errors
/// It is gone.
pub(crate) fn children(process: &str) -> Result<Vec<libc::pid_t>> {
    let mut all = Vec::new();
    let path = Path::new("/proc").join(process).join("task");
    let tasks = fs::read_dir(&path).with_context(|| format!("cannot read {path:?}"))?;
    for task in tasks.flatten() {
        // A thread that has ended since has no children any more.
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            all.push(pid.parse().context("/proc names no process id")?);
        }
    }
    Ok(all)
}

/// A process that stands still; it goes on when this is dropped.
pub(crate) struct Stopped(libc::pid_t);

impl Stopped {
    /// Stops it, and waits until it stands.
    ///
    /// # Errors
    /// It is gone, or does not stop.
    pub(crate) fn new(pid: libc::pid_t) -> Result<Self> {
        // SAFETY: kill takes numbers only.
        let result = unsafe { libc::kill(pid, libc::SIGSTOP) };
        ensure!(result == 0, "cannot stop process {pid}: it has ended");
        let stopped = Self(pid);
        let deadline = Instant::now() + STOP_LIMIT;
        while state(pid)? != 'T' {
            ensure!(Instant::now() < deadline, "process {pid} does not stop");
            thread::sleep(LOOK);
        }
        Ok(stopped)
    }
}

/// The state of a process: a letter of proc_pid_stat(5).
fn state(pid: libc::pid_t) -> Result<char> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let rest = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    rest.with_context(|| format!("{path} is not as proc_pid_stat(5) says"))
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above. An error means that it is gone.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
        assert!(cpu_s("self").unwrap() >= cpu_s("thread-self").unwrap());
    }

    #[test]
    fn a_child_stands_still_until_dropped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        assert!(children("self").unwrap().contains(&pid));
        let stopped = Stopped::new(pid).unwrap();
        assert_eq!(state(pid).unwrap(), 'T');
        drop(stopped);
        assert_ne!(state(pid).unwrap(), 'T');
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
