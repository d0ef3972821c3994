//! How the sender's thread runs: on a CPU of its own, before everyone else, never paged out.
//!
//! Nothing here is fatal: what the host does not allow is said in one line each, and the
//! lateness it costs shows in every result.
//!
//! Measured on Linux 6.18 (two CPUs, one of them contended), what a spinning thread lost:
//!
//! | how it runs | lost |
//! |---|---|
//! | SCHED_FIFO, never sleeping | 50 ms in one piece, once a second: the kernel's fair server |
//! | SCHED_FIFO, asleep 10 % of the time by [`Rest`] | nothing over 0.5 ms |
//! | nice −20 | 4 ms pieces, 19 % of the time |
//! | normal priority | 4 to 37 ms pieces, 66 % of the time |
//!
//! With a probe due every 10 µs that is a lateness (p99) of 43 µs against 45,000 µs.
//!
//! So a sender with SCHED_FIFO must sleep a tenth of the time, of its own accord, and [`Rest`]
//! keeps count. The limit that the kernel enforces is one twentieth
//! (`/sys/kernel/debug/sched/fair_server`, `kernel.sched_rt_runtime_us`), but what a nap spends in
//! interrupts and in switching tasks does not count for it.

use std::fmt;
use std::io;

use super::privilege::{Capabilities, Capability, memlock_limit};

/// Below the priority 50 of threaded interrupt handlers, so that the network card is served.
const FIFO_PRIORITY: libc::c_int = 40;
/// CPUs that a set can name; the kernel's own limit is 8192.
const CPUS_MAX: usize = 8192;
/// Bytes of stack that the sender touches beforehand.
const STACK_TOUCHED: usize = 64 << 10;

/// What became of a thread that asked to run ahead of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealtimeReport {
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// It has SCHED_FIFO, and so must sleep by [`Rest`].
    pub fifo: bool,
    /// Its memory stays in RAM.
    pub locked: bool,
    /// What could not be had, a line each: what, why, and what it costs.
    pub refused: Vec<String>,
}

impl fmt::Display for RealtimeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu {
            Some(cpu) => write!(f, "sender on CPU {cpu}")?,
            None => f.write_str("sender on any CPU")?,
        }
        f.write_str(if self.fifo {
            ", real-time priority"
        } else {
            ", normal priority"
        })?;
        f.write_str(if self.locked {
            ", memory locked"
        } else {
            ", memory not locked"
        })
    }
}

/// The CPU for the sender: the one asked for, or the last that this process may use. None if
/// there is only one: a thread that spins there would shut out all others, our own among them.
pub fn choose_cpu(wanted: Option<usize>) -> Option<usize> {
    let allowed = CpuSet::of_this_thread().ok()?;
    wanted.or_else(|| allowed.iter().last().filter(|_| allowed.iter().count() > 1))
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

/// Makes the calling thread the sender: pinned to `cpu` (as [`choose_cpu`] chose it), with
/// SCHED_FIFO, memory locked, and timers that are not rounded. Call it in that thread, after
/// [`keep_off`] in the others.
pub fn prepare_sender(cpu: Option<usize>) -> RealtimeReport {
    let mut report = RealtimeReport::default();
    match cpu.map(|cpu| (cpu, CpuSet::only(cpu).and_then(|set| set.apply()))) {
        Some((cpu, Ok(()))) => report.cpu = Some(cpu),
        Some((cpu, Err(error))) => report.refused.push(format!(
            "the sender is not pinned to CPU {cpu} ({error}): it may be moved, which delays probes"
        )),
        None => report.refused.push(
            "the sender has no CPU of its own, as there is only one: probes may leave late".into(),
        ),
    }
    // Without a CPU to itself, a real-time thread could shut out the rest of pinger.
    if report.cpu.is_some() {
        match set_fifo() {
            Ok(()) => report.fifo = true,
            Err(error) => report.refused.push(format!(
                "the sender has no real-time priority ({error}; it takes CAP_SYS_NICE): where \
                 other programs are busy, probes may leave some milliseconds late"
            )),
        }
    }
    match lock_memory() {
        Ok(()) => report.locked = true,
        Err(error) => report.refused.push(format!(
            "memory is not locked ({error}; it takes CAP_IPC_LOCK): where memory is short, \
             probes may leave late"
        )),
    }
    touch_stack();
    // SAFETY: sets one number of the calling thread; the other arguments are ignored.
    if unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0, 0, 0) } != 0 {
        let error = io::Error::last_os_error();
        report.refused.push(format!(
            "timers stay rounded to 50 µs ({error}): so late may probes be"
        ));
    }
    report
}

/// Keeps count of how much a thread sleeps, and says when it must nap to keep its real-time
/// priority from being taken away for 50 ms at a time.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The share of time to be slept: one part in so many.
    share: i64,
    /// What may be spent awake before the next nap.
    credit_ns: i64,
    woke_ns: u64,
}

impl Rest {
    /// The share of time to be slept for probes to leave on time: one part in so many.
    pub const PUNCTUAL: i64 = 10;
    /// The share in a flood, where nothing is due and so nothing late. 50 ms in one piece are
    /// lost then where others wait for the CPU, but that is half of what the other share costs
    /// always; these naps only let in what the kernel does in threads of its own.
    pub const FLOOD: i64 = 50;
    /// How long a nap is meant to last: short, as a probe may come due in it; but of naps below
    /// 30 µs nothing is left for those who wait.
    pub const NAP_NS: u64 = 30_000;
    /// What sleep can be saved for: a tenth of the second in which the kernel wants its share.
    const CREDIT_MAX_NS: i64 = 100_000_000;

    /// Starts counting, with credit for one nap; one part in `share` is to be slept.
    pub fn new(share: i64, now_ns: u64) -> Self {
        Self {
            share,
            credit_ns: Self::NAP_NS.cast_signed() * share,
            woke_ns: now_ns,
        }
    }

    /// The time until which the thread must sleep now, if it must.
    pub fn nap_until(&self, now_ns: u64) -> Option<u64> {
        let awake = now_ns.saturating_sub(self.woke_ns).cast_signed();
        (awake >= self.credit_ns).then_some(now_ns + Self::NAP_NS)
    }

    /// Notes a sleep, for whatever reason, from `slept_ns` to `woke_ns`.
    pub fn slept(&mut self, slept_ns: u64, woke_ns: u64) {
        let awake = slept_ns.saturating_sub(self.woke_ns).cast_signed();
        let asleep = woke_ns.saturating_sub(slept_ns).cast_signed();
        let earned = asleep.saturating_mul(self.share - 1);
        self.credit_ns = (self.credit_ns - awake + earned).min(Self::CREDIT_MAX_NS);
        self.woke_ns = woke_ns;
    }
}

fn set_fifo() -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: FIFO_PRIORITY,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` is valid for the call; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) })
}

fn lock_memory() -> io::Result<()> {
    // Within a limit, a lock on all future memory would make allocations fail later.
    let free = Capabilities::of_this_thread().is_ok_and(|set| set.has(Capability::IpcLock));
    if !free && memlock_limit().is_some() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // On fault: what is never touched, such as most of each stack, takes no memory.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes one integer, and changes no memory.
    check(unsafe { libc::mlockall(flags) })
}

/// Makes the pages of the stack that the sender will use present.
#[inline(never)]
fn touch_stack() {
    let mut pages = [0_u8; STACK_TOUCHED];
    for byte in pages.iter_mut().step_by(4096) {
        *byte = 1;
    }
    std::hint::black_box(&pages);
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A set of CPUs, as the scheduler's calls take it: a bit each.
#[derive(Clone, PartialEq, Eq)]
struct CpuSet([u64; CPUS_MAX / 64]);

impl CpuSet {
    fn of_this_thread() -> io::Result<Self> {
        let mut set = Self([0; CPUS_MAX / 64]);
        let place = set.0.as_mut_ptr().cast::<libc::cpu_set_t>();
        // SAFETY: the kernel writes at most the given number of bytes, which `set` has; a set of
        // words is what it takes `cpu_set_t` for. 0 is the calling thread.
        check(unsafe { libc::sched_getaffinity(0, size_of_val(&set.0), place) })?;
        Ok(set)
    }

    fn only(cpu: usize) -> io::Result<Self> {
        let mut set = Self([0; CPUS_MAX / 64]);
        match set.0.get_mut(cpu / 64) {
            Some(word) => *word |= 1 << (cpu % 64),
            None => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
        Ok(set)
    }

    fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word &= !(1 << (cpu % 64));
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..CPUS_MAX).filter(|cpu| self.0[cpu / 64] >> (cpu % 64) & 1 == 1)
    }

    fn apply(&self) -> io::Result<()> {
        let place = self.0.as_ptr().cast::<libc::cpu_set_t>();
        // SAFETY: the kernel reads the given number of bytes, which the set has; 0 is the calling
        // thread.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), place) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus() -> Vec<usize> {
        CpuSet::of_this_thread().unwrap().iter().collect()
    }

    #[test]
    fn a_thread_can_be_kept_off_a_cpu_and_the_sender_pinned_to_it() {
        // On a thread of its own: the harness's threads stay as they are.
        std::thread::spawn(|| {
            let before = cpus();
            let Some(cpu) = choose_cpu(None) else {
                assert_eq!(
                    before.len(),
                    1,
                    "only where there is one CPU is none chosen"
                );
                assert!(keep_off(before[0]).is_err());
                return;
            };
            assert_eq!(Some(&cpu), before.last());
            keep_off(cpu).unwrap();
            assert!(!cpus().contains(&cpu));
            assert_eq!(cpus().len(), before.len() - 1);
            // Threads started from there inherit that, and the sender still gets its CPU.
            let report = std::thread::spawn(move || (prepare_sender(Some(cpu)), cpus()));
            let (report, after) = report.join().unwrap();
            assert_eq!(report.cpu, Some(cpu), "{report}: {:?}", report.refused);
            assert_eq!(after, [cpu]);
            assert_eq!(
                report.refused.len(),
                2 - usize::from(report.fifo) - usize::from(report.locked)
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_said_and_not_fatal() {
        let report = std::thread::spawn(|| prepare_sender(Some(CPUS_MAX + 1)))
            .join()
            .unwrap();
        assert_eq!(report.cpu, None);
        assert!(!report.fifo, "never without a CPU of its own");
        assert!(
            report.refused[0].contains("not pinned to CPU 8193"),
            "{:?}",
            report.refused
        );
    }

    #[test]
    fn a_thread_that_never_sleeps_by_itself_naps_its_share_of_the_time() {
        let check = |parts: i64| {
            let mut rest = Rest::new(parts, 0);
            let (mut now, mut asleep) = (0, 0);
            while now < 1_000_000_000 {
                now += 1_000;
                if let Some(until) = rest.nap_until(now) {
                    // It wakes a little late, as it does on a real machine.
                    let woke = until + 15_000;
                    rest.slept(now, woke);
                    asleep += woke - now;
                    now = woke;
                }
            }
            let share = asleep as f64 / now as f64 * parts as f64;
            assert!((0.95..1.05).contains(&share), "{share} of one in {parts}");
        };
        check(Rest::PUNCTUAL);
        check(Rest::FLOOD);
    }

    #[test]
    fn a_thread_that_sleeps_anyway_needs_no_naps() {
        let mut rest = Rest::new(Rest::PUNCTUAL, 0);
        for period in 1..100_000_u64 {
            let now = period * 100_000;
            // Awake for 60 µs of each 100.
            rest.slept(now - 100_000, now - 60_000);
            assert_eq!(rest.nap_until(now), None);
        }
    }

    #[test]
    fn long_sleep_is_not_saved_for_ever() {
        let mut rest = Rest::new(Rest::PUNCTUAL, 0);
        rest.slept(0, 3_600_000_000_000);
        let now = 3_600_000_000_000 + 100_000_000;
        assert!(rest.nap_until(now).is_some());
    }
}
