//! Which CPU the sender gets, and who keeps off it.

use std::fs::File;
use std::io;
use std::mem;

use super::check;

/// CPUs that a set can name; the kernel's own limit is 8192.
const CPUS_MAX: usize = 8192;

/// Where the files stand whose locks say which CPU has a sender already.
const CLAIMS: &str = "/run/lock";

/// The CPU for the sender: the one asked for, or the last that this process may use and that is
/// not another pinger's. None if there is only one: a thread that spins there would shut out all
/// others, our own among them.
pub fn choose_cpu(wanted: Option<usize>) -> Option<usize> {
    let allowed: Vec<usize> = CpuSet::of_this_thread().ok()?.iter().collect();
    let free = || {
        let (_, candidates) = allowed.split_first()?;
        candidates.iter().rev().copied().find(|cpu| claim(*cpu))
    };
    match wanted {
        Some(cpu) => {
            claim(cpu);
            Some(cpu)
        }
        None => free(),
    }
}

/// Whether the CPU is ours from now on, as far as other pingers are concerned: a lock that goes
/// with the process, however it ends. Where no lock can be had, nobody is asked.
fn claim(cpu: usize) -> bool {
    let Ok(file) = File::create(format!("{CLAIMS}/pinger-cpu-{cpu}")) else {
        return true;
    };
    let free = !matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    if free {
        // Never closed before the process ends.
        mem::forget(file);
    }
    free
}

/// Keeps the calling thread, and those it starts from now on, off a CPU.
///
/// # Errors
/// If it is the only CPU there is, or the kernel refuses.
pub fn keep_off(cpu: usize) -> io::Result<()> {
    let mut allowed = CpuSet::of_this_thread()?;
    allowed.remove(cpu);
    if allowed.iter().next().is_none() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "there is no other CPU",
        ));
    }
    allowed.apply()
}

/// A set of CPUs, as the scheduler's calls take it: a bit each.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CpuSet([u64; CPUS_MAX / 64]);

impl CpuSet {
    pub(super) fn of_this_thread() -> io::Result<Self> {
        let mut set = Self([0; CPUS_MAX / 64]);
        let place = set.0.as_mut_ptr().cast::<libc::cpu_set_t>();
        // SAFETY: the kernel writes at most the given number of bytes, which `set` has; a set of
        // words is what it takes `cpu_set_t` for. 0 is the calling thread.
        check(unsafe { libc::sched_getaffinity(0, size_of_val(&set.0), place) })?;
        Ok(set)
    }

    pub(super) fn only(cpu: usize) -> io::Result<Self> {
        if cpu >= CPUS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut set = Self([0; CPUS_MAX / 64]);
        set.insert(cpu);
        Ok(set)
    }

    pub(super) fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    pub(super) fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word &= !(1 << (cpu % 64));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..CPUS_MAX).filter(|cpu| self.0[cpu / 64] >> (cpu % 64) & 1 == 1)
    }

    pub(super) fn apply(&self) -> io::Result<()> {
        let place = self.0.as_ptr().cast::<libc::cpu_set_t>();
        // SAFETY: the kernel reads the given number of bytes, which the set has; 0 is the calling
        // thread.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), place) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_claimed_once() {
        let unheard_of = CPUS_MAX + std::process::id() as usize;
        assert!(claim(unheard_of));
        let may_lock = File::create(format!("{CLAIMS}/pinger-cpu-{unheard_of}")).is_ok();
        assert_eq!(claim(unheard_of), !may_lock);
        if may_lock {
            std::fs::remove_file(format!("{CLAIMS}/pinger-cpu-{unheard_of}")).unwrap();
        }
    }
}
