//! Load on purpose: a busy loop of normal priority on each CPU, for as long as this lives.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// The loops; they end on drop, and with this process however it ends.
pub(crate) struct Busy {
    enough: Arc<AtomicBool>,
    loops: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts a loop on each CPU that this process may use.
    ///
    /// # Errors
    /// The kernel does not tell the CPUs, or refuses to pin a loop to one.
    pub(crate) fn on_each_cpu() -> Result<Self> {
        let mut busy = Self {
            enough: Arc::new(AtomicBool::new(false)),
            loops: Vec::new(),
        };
        for cpu in cpus().context("cannot ask which CPUs may be used")? {
            let enough = Arc::clone(&busy.enough);
            let (ready, told) = std::sync::mpsc::channel();
            busy.loops.push(thread::spawn(move || {
                let pinned = pin(cpu);
                let failed = pinned.is_err();
                // The other side waits for exactly this.
                drop(ready.send(pinned));
                while !failed && !enough.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }));
            told.recv()
                .context("a busy loop did not start")?
                .with_context(|| format!("cannot keep CPU {cpu} busy"))?;
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        for thread in self.loops.drain(..) {
            // A loop cannot panic.
            drop(thread.join());
        }
    }
}

fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a set of CPUs is an array of integers, for which zeroes are a value; the kernel
    // writes at most the given size. 0 is the calling thread.
    let (result, set) = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        let size = size_of_val(&set);
        (libc::sched_getaffinity(0, size, &raw mut set), set)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: each number is below the size of the set.
    Ok((0..count)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Keeps the calling thread on a CPU.
fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: as above; the number came out of such a set, and the kernel reads the given size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_runs_on_each_cpu_until_dropped() {
        let busy = Busy::on_each_cpu().unwrap();
        assert_eq!(busy.loops.len(), cpus().unwrap().len());
        assert!(busy.loops.iter().all(|thread| !thread.is_finished()));
        drop(busy);
    }
}
