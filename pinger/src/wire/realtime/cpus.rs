//! Which CPU the sender gets, and who keeps off it.

use std::fs::{File, TryLockError};
use std::io;
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::wire::run_dir;
use crate::wire::syscall::check;

/// CPUs that a set can name; the kernel's own limit is 8192.
const CPUS_MAX: usize = 8192;

/// How long a claimed CPU is waited for: a pinger that was killed holds its lock until the kernel
/// has taken its memory apart.
const CLAIM_WAIT: Duration = Duration::from_millis(500);

/// Between two tries to claim a CPU.
const CLAIM_LOOK: Duration = Duration::from_millis(10);

/// The CPU that was asked for cannot be had.
#[derive(Debug, Error)]
#[error("cannot send on CPU {wanted}: the CPUs that this process may use are {allowed}")]
pub struct NoSuchCpu {
    wanted: usize,
    /// As ranges.
    allowed: String,
}

/// The sender's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderCpu {
    /// This one, which no other pinger sends on.
    Own(usize),
    /// This one was asked for, and another pinger sends on it.
    Shared(usize),
    /// There is none to spare.
    Any,
}

impl SenderCpu {
    /// Its number, if the sender is to have one.
    pub fn number(self) -> Option<usize> {
        match self {
            Self::Own(cpu) | Self::Shared(cpu) => Some(cpu),
            Self::Any => None,
        }
    }
}

/// The CPU for the sender: the one asked for, or the last that this process may use and that is
/// not another pinger's. None if there is only one: a thread that spins there would shut out all
/// others, our own among them.
///
/// # Errors
/// If this process may not use the CPU that was asked for.
pub fn choose_cpu(wanted: Option<usize>) -> Result<SenderCpu, NoSuchCpu> {
    // Where the kernel does not say, none can be told apart from the others.
    let Ok(set) = CpuSet::of_this_thread() else {
        return Ok(wanted.map_or(SenderCpu::Any, SenderCpu::Own));
    };
    let allowed: Vec<usize> = set.iter().collect();
    let candidates = match wanted {
        Some(cpu) if !allowed.contains(&cpu) => {
            return Err(NoSuchCpu {
                wanted: cpu,
                allowed: ranges(&allowed),
            });
        }
        Some(cpu) => vec![cpu],
        None => allowed.iter().skip(1).rev().copied().collect(),
    };
    let claimed = claim_one(Path::new(run_dir::DIRECTORY), &candidates, CLAIM_WAIT);
    let shared = wanted.map_or(SenderCpu::Any, SenderCpu::Shared);
    Ok(claimed.map_or(shared, SenderCpu::Own))
}

/// The first of these CPUs that can be claimed, waiting if there is none.
fn claim_one(claims: &Path, candidates: &[usize], patience: Duration) -> Option<usize> {
    let deadline = Instant::now() + patience;
    loop {
        let claimed = candidates.iter().copied().find(|cpu| claim(claims, *cpu));
        if claimed.is_some() || candidates.is_empty() || Instant::now() >= deadline {
            return claimed;
        }
        thread::sleep(CLAIM_LOOK);
    }
}

/// Whether the CPU is ours from now on, as far as other pingers are concerned: a file's lock, that
/// goes with the process, however it ends. Where no lock can be had, nobody is asked.
fn claim(claims: &Path, cpu: usize) -> bool {
    let Ok(file) = open_claim(claims, cpu) else {
        return true;
    };
    let free = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if free {
        // Never closed before the process ends.
        mem::forget(file);
    }
    free
}

fn open_claim(claims: &Path, cpu: usize) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o644);
    run_dir::open(claims, &format!("cpu-{cpu}"), &mut options)
}

/// Numbers in ascending order as `0-3, 6`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let texts: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            one => format!("{}", one[0]),
        })
        .collect();
    texts.join(", ")
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
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A directory of a test's own, which is not there yet.
    fn claims(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pinger-claims-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_cpu_is_claimed_once() {
        let claims = claims("once");
        assert!(claim(&claims, 7) && !claim(&claims, 7));
        assert_eq!(claim_one(&claims, &[7, 3], Duration::ZERO), Some(3));
        assert_eq!(claim_one(&claims, &[7, 3], Duration::ZERO), None);
        assert_eq!(claim_one(&claims, &[], CLAIM_WAIT * 1000), None);
        fs::remove_dir_all(&claims).unwrap();
    }

    #[test]
    fn a_cpu_is_waited_for_while_its_last_sender_dies() {
        let claims = claims("dying");
        let held = open_claim(&claims, 7).unwrap();
        held.lock().unwrap();
        let claimed = thread::scope(|scope| {
            let waiting = scope.spawn(|| claim_one(&claims, &[7], Duration::from_secs(60)));
            drop(held);
            waiting.join().unwrap()
        });
        assert_eq!(claimed, Some(7));
        fs::remove_dir_all(&claims).unwrap();
    }

    #[test]
    fn a_claim_follows_no_link_and_empties_no_file() {
        let claims = claims("link");
        fs::create_dir(&claims).unwrap();
        fs::write(claims.join("cpu-1"), "mine").unwrap();
        symlink(claims.join("cpu-1"), claims.join("cpu-2")).unwrap();
        assert!(open_claim(&claims, 2).is_err());
        open_claim(&claims, 1).unwrap();
        assert_eq!(fs::read_to_string(claims.join("cpu-1")).unwrap(), "mine");
        fs::remove_dir_all(&claims).unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_with_those_that_are() {
        let error = choose_cpu(Some(CPUS_MAX - 1)).unwrap_err().to_string();
        let allowed: Vec<usize> = CpuSet::of_this_thread().unwrap().iter().collect();
        assert!(
            error.ends_with(&format!("may use are {}", ranges(&allowed))),
            "{error}"
        );
        for (numbers, text) in [
            (vec![0], "0"),
            (vec![0, 1], "0-1"),
            (vec![1, 4, 5, 6, 9], "1, 4-6, 9"),
        ] {
            assert_eq!(ranges(&numbers), text);
        }
    }
}
