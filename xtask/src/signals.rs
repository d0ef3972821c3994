//! Standing behind a program in the foreground: its signals reach it, its exit code is ours, and
//! whatever happens we live on to clean up.
//!
//! Signals are blocked and taken one by one by `sigwaitinfo`; there is no signal handler, so
//! nothing runs at a moment when it must not.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::{mem, ptr};

use anyhow::{Context, Result};

use crate::process::shown;

/// What ends a program politely, and what tells that the program has ended.
const TAKEN: [libc::c_int; 5] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGCHLD,
];

/// From its making on, no signal ends this process; undone on drop.
///
/// Belongs to the main thread, made while there is no other: a second thread with other blocked
/// signals would be ended by what is held back here.
#[derive(Debug)]
pub struct Held {
    taken: libc::sigset_t,
    before: libc::sigset_t,
}

impl Held {
    /// Holds signals back.
    ///
    /// # Errors
    /// The kernel refuses to change the mask.
    pub fn new() -> Result<Self> {
        // SAFETY: the sets are plain memory that sigemptyset and pthread_sigmask fill before
        // anything reads them, and the pointers live for the calls. SIG_DFL installs no code.
        let (result, held) = unsafe {
            let mut taken: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut taken);
            for signal in TAKEN {
                libc::sigaddset(&raw mut taken, signal);
            }
            // If our parent ignored SIGCHLD, so would we, and the child's end would go unseen.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let mut before: libc::sigset_t = mem::zeroed();
            let result = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const taken, &raw mut before);
            (result, Self { taken, before })
        };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result)).context("cannot hold signals back");
        }
        Ok(held)
    }

    /// The signal that has asked us to end since, if any.
    pub fn asked_to_end(&self) -> Option<libc::c_int> {
        loop {
            let at_once = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: both pointers are to live values of the right type; a null info is allowed.
            let signal = unsafe {
                libc::sigtimedwait(&raw const self.taken, ptr::null_mut(), &raw const at_once)
            };
            match signal {
                libc::SIGCHLD => {}
                signal if signal > 0 => return Some(signal),
                _ => return None,
            }
        }
    }

    /// Runs the program to its end and gives its exit code, as a shell would.
    ///
    /// Each signal reaches the program once:
    /// 1. In the foreground of a terminal the program shares our process group, so Ctrl-C and
    ///    hang-up reach it by themselves; only what somebody sends to us is passed on.
    /// 2. Elsewhere (CI, a service, `timeout`) it has a group of its own, for a signal to our
    ///    whole group would otherwise reach it twice; everything is passed on.
    ///
    /// Should we die, the program gets SIGTERM.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn supervise(&self, command: &mut Command) -> Result<i32> {
        let line = shown(command);
        let shared = in_foreground();
        let mut child = self
            .spawn(command, shared)
            .with_context(|| format!("cannot start `{line}`"))?;
        let pid = libc::pid_t::try_from(child.id()).context("a process id beyond the kernel's")?;
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for the program")? {
                return Ok(exit_code(status));
            }
            if let Some(signal) = self.next_to_pass_on(shared) {
                // SAFETY: kill takes numbers only. The child is not reaped yet, so the id is its.
                unsafe { libc::kill(pid, signal) };
            }
        }
    }

    fn spawn(&self, command: &mut Command, shared: bool) -> io::Result<std::process::Child> {
        let before = self.before;
        // SAFETY: getpid takes nothing and cannot fail.
        let parent = unsafe { libc::getpid() };
        let prepare = move || {
            // SAFETY: between fork and exec only async-signal-safe calls are made, on copies of
            // values that were set before the fork.
            unsafe {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the line above: then nobody would tell us.
                if libc::getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                if !shared && libc::setpgid(0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
                match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) {
                    0 => Ok(()),
                    error => Err(io::Error::from_raw_os_error(error)),
                }
            }
        };
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) }.spawn()
    }

    /// Waits for a signal; gives it if the child has not got it already.
    fn next_to_pass_on(&self, shared: bool) -> Option<libc::c_int> {
        // SAFETY: siginfo_t is plain memory, for which all zeroes is a value; the pointers live
        // for the call.
        let (signal, info) = unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            (
                libc::sigwaitinfo(&raw const self.taken, &raw mut info),
                info,
            )
        };
        let from_terminal = shared && info.si_code == libc::SI_KERNEL;
        (signal > 0 && signal != libc::SIGCHLD && !from_terminal).then_some(signal)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What the program has got is not for us as well.
        while self.asked_to_end().is_some() {}
        // SAFETY: `before` was filled by the call that changed the mask.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

/// Whether a terminal sends its signals to our process group.
fn in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    // SAFETY: both take numbers only; the descriptor is open for the whole call.
    unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) == libc::getpgrp() }
}

/// A program's end as one number: its exit code, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_signal_is_told_as_a_shell_tells_it() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGKILL)), 137);
    }

    #[test]
    fn a_program_gives_its_exit_code_and_gets_the_mask_from_before() {
        let held = Held::new().unwrap();
        // SIGINT is bit 1 of the mask: the shell must not have it blocked.
        let script = "grep SigBlk /proc/self/status | grep -q '[014589cd]$' || exit 9; exit 4";
        assert_eq!(
            held.supervise(Command::new("sh").args(["-c", script]))
                .unwrap(),
            4
        );
        assert!(
            held.supervise(&mut Command::new("/no/such/program"))
                .is_err()
        );
    }
}
