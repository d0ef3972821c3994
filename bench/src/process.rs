//! Processes from outside: the CPU that they and their threads have used, our children, and
//! signals to one of them.

use std::fs;
use std::mem;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Clock ticks a second in `/proc`: `sysconf(_SC_CLK_TCK)` is this on every Linux that pinger runs
/// on.
const TICKS_PER_SECOND: f64 = 100.0;

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

/// Our child processes.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn children() -> Result<Vec<libc::pid_t>> {
    let mut all = Vec::new();
    let tasks = fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")?;
    for task in tasks.flatten() {
        // A thread that has ended since has no children any more.
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            all.push(pid.parse().context("/proc names no process id")?);
        }
    }
    Ok(all)
}

/// A child process that stands still; it goes on when this is dropped.
pub(crate) struct Stopped(libc::pid_t);

impl Stopped {
    /// Stops it, and waits until it stands.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn new(child: libc::pid_t) -> Result<Self> {
        // SAFETY: kill takes numbers only.
        let result = unsafe { libc::kill(child, libc::SIGSTOP) };
        ensure!(result == 0, "cannot stop process {child}: it has ended");
        let stopped = Self(child);
        let id = libc::id_t::try_from(child).context("a process id is never negative")?;
        let how = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: zeroes are a value of this struct, the kernel writes one, and WNOWAIT leaves the
        // child as it is for whoever waits for its end.
        let result = unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            libc::waitid(libc::P_PID, id, &raw mut info, how)
        };
        ensure!(
            result == 0,
            "cannot wait for process {child}: it is no child of ours"
        );
        Ok(stopped)
    }
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
        assert!(children().unwrap().contains(&pid));
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        let stopped = Stopped::new(pid).unwrap();
        assert_eq!(state(), 'T');
        drop(stopped);
        assert_ne!(state(), 'T');
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
