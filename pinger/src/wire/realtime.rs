//! How the sender's thread runs: on a CPU of its own, before everyone else, never paged out.
//!
//! Nothing here is fatal but a CPU asked for that is not there: what the host does not allow is
//! said in one line each, and the lateness it costs shows in every result.
//!
//! A thread that spins before each probe must go ahead of the others, and the kernel has two ways
//! to let it. With SCHED_FIFO it loses 50 ms of each second in one piece, as soon as it has run for
//! 950 ms (`kernel.sched_rt_runtime_us`, whether or not somebody waits, where the kernel is built
//! with `CONFIG_RT_GROUP_SCHED`; elsewhere since Linux 6.12 only to those who wait). SCHED_DEADLINE
//! with a runtime as long as its period knows no such limit, so it is tried first; the kernel
//! refuses it to a thread that may not use all CPUs, and where their time is promised to others.
//!
//! Measured on Linux 6.18 with `CONFIG_RT_GROUP_SCHED` and two CPUs, what a spinning thread lost;
//! contended means that a loop of normal priority wants the same CPU and no other:
//!
//! | how it runs | lost |
//! |---|---|
//! | SCHED_DEADLINE | nothing over 0.2 ms |
//! | SCHED_DEADLINE, contended | 48 ms in one piece, once in 5 s: the kernel's fair server |
//! | SCHED_FIFO, never sleeping | 50 ms in one piece, once a second |
//! | SCHED_FIFO, contended, asleep 10 % of the time by [`Rest`] | nothing over 0.5 ms |
//! | nice −20, contended | 4 ms pieces, 19 % of the time |
//! | normal priority, contended | 4 to 37 ms pieces, 66 % of the time |
//!
//! Either way it rests now and then, so that the kernel's own threads on that CPU get their turn:
//! [`Rest`] keeps count.

mod cpus;
mod rest;

use std::fmt;
use std::io;

use self::cpus::CpuSet;
pub use self::cpus::{NoSuchCpu, SenderCpu, choose_cpu, keep_off};
pub use self::rest::Rest;
use super::privilege::{Capabilities, Capability, memlock_limit};
use super::syscall::check;

/// Below the priority 50 of threaded interrupt handlers, so that the network card is served.
const FIFO_PRIORITY: libc::c_int = 40;
/// Runtime, deadline and period of the sender under SCHED_DEADLINE: all of the time.
const DEADLINE_NS: u64 = 1_000_000;
/// `SCHED_DEADLINE` of `include/uapi/linux/sched.h`.
const SCHED_DEADLINE: u32 = 6;
/// Bytes of stack that the sender touches beforehand.
const STACK_TOUCHED: usize = 64 << 10;

/// How the scheduler treats a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Like all others.
    #[default]
    Normal,
    /// SCHED_FIFO.
    Fifo,
    /// SCHED_DEADLINE.
    Deadline,
}

impl Policy {
    /// How a thread with this policy must rest, if it must; `punctual` where something is due at
    /// a time.
    pub fn rest(self, punctual: bool, now_ns: u64) -> Option<Rest> {
        let share = match (self, punctual) {
            (Self::Normal, _) => return None,
            (Self::Fifo, true) => Rest::FIFO,
            (Self::Fifo, false) => Rest::FIFO_FLOOD,
            (Self::Deadline, _) => Rest::DEADLINE,
        };
        Some(Rest::new(share, now_ns))
    }
}

/// What became of a thread that asked to run ahead of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealtimeReport {
    /// The CPU it runs on alone.
    pub cpu: Option<usize>,
    /// How it is scheduled, and so must rest.
    pub policy: Policy,
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
        f.write_str(match self.policy {
            Policy::Normal => ", normal priority",
            Policy::Fifo => ", real-time priority",
            Policy::Deadline => ", deadline priority",
        })?;
        f.write_str(if self.locked {
            ", memory locked"
        } else {
            ", memory not locked"
        })
    }
}

/// Makes the calling thread the sender: on `cpu` (as [`choose_cpu`] chose it), ahead of all
/// others, memory locked, and timers that are not rounded. Call it in that thread, after
/// [`keep_off`] in the others.
pub fn prepare_sender(cpu: Option<usize>) -> RealtimeReport {
    let mut report = RealtimeReport::default();
    let inherited = CpuSet::of_this_thread();
    match cpu.map(|cpu| (cpu, CpuSet::only(cpu).and_then(|set| set.apply()))) {
        Some((cpu, Ok(()))) => report.cpu = Some(cpu),
        Some((cpu, Err(error))) => report.refused.push(format!(
            "the sender is not pinned to CPU {cpu} ({error}): it may be moved, which delays probes"
        )),
        None => report.refused.push(
            "the sender has no CPU of its own, as there is none to spare (each pinger takes one): \
             probes may leave late"
                .into(),
        ),
    }
    // Without a CPU to itself, a real-time thread could shut out the rest of pinger.
    if report.cpu.is_some() {
        match set_deadline(cpu, inherited).or_else(|_| set_fifo().map(|()| Policy::Fifo)) {
            Ok(policy) => report.policy = policy,
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

/// A thread with SCHED_DEADLINE may not be pinned, but stays on the CPU where it is for as long as
/// there is no other such thread: `find_later_rq` in `kernel/sched/deadline.c`.
fn set_deadline(cpu: Option<usize>, inherited: io::Result<CpuSet>) -> io::Result<Policy> {
    let pinned = CpuSet::of_this_thread()?;
    let mut all = inherited?;
    cpu.into_iter().for_each(|cpu| all.insert(cpu));
    all.apply()?;
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: SCHED_DEADLINE,
        sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: DEADLINE_NS,
        sched_deadline: DEADLINE_NS,
        sched_period: DEADLINE_NS,
    };
    // SAFETY: `attributes` is valid for the call and says its own size; 0 is the calling thread.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } == 0 {
        return Ok(Policy::Deadline);
    }
    let error = io::Error::last_os_error();
    pinned.apply()?;
    Err(error)
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
            let [_, .., cpu] = before[..] else {
                assert!(keep_off(before[0]).is_err());
                assert_eq!(choose_cpu(None).unwrap(), SenderCpu::Any);
                return;
            };
            // Its own or, where a pinger runs meanwhile, shared with it.
            assert_eq!(choose_cpu(Some(cpu)).unwrap().number(), Some(cpu));
            keep_off(cpu).unwrap();
            assert!(!cpus().contains(&cpu));
            assert_eq!(cpus().len(), before.len() - 1);
            // Threads started from there inherit that, and the sender still gets its CPU.
            let report = std::thread::spawn(move || (prepare_sender(Some(cpu)), cpus()));
            let (report, after) = report.join().unwrap();
            assert_eq!(report.cpu, Some(cpu), "{report}: {:?}", report.refused);
            let pinned = report.policy != Policy::Deadline;
            assert_eq!(after, if pinned { vec![cpu] } else { before });
            assert_eq!(
                report.refused.len(),
                usize::from(report.policy == Policy::Normal) + usize::from(!report.locked)
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_said_and_not_fatal() {
        let report = std::thread::spawn(|| prepare_sender(Some(8193)))
            .join()
            .unwrap();
        assert_eq!(report.cpu, None);
        assert_eq!(
            report.policy,
            Policy::Normal,
            "never without a CPU of its own"
        );
        assert!(
            report.refused[0].contains("not pinned to CPU 8193"),
            "{:?}",
            report.refused
        );
    }
}
