//! Waiting for a socket, for a time, or to be woken.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An eventfd that, once written to, ends every wait at once.
#[derive(Debug)]
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes two integers; makes a descriptor or fails.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Ends the wait that goes on, and all further ones.
    pub(super) fn wake(&self) {
        let one = 1_u64;
        // SAFETY: eight readable bytes. It can only fail when the counter is full: woken anyway.
        unsafe {
            libc::write(
                self.0.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
    }

    /// Waits until there is something to read, until woken, or until the time is over.
    pub(super) fn wait(&self, readable: Option<BorrowedFd<'_>>, timeout: Duration) {
        let poll = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // poll(2) ignores negative descriptors.
        let other = readable.map_or(-1, |readable| readable.as_raw_fd());
        let mut fds = [poll(self.0.as_raw_fd()), poll(other)];
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: `fds` and `timeout` are valid for the call; no signal mask is given. An error
        // or a signal ends the wait early, which every caller bears.
        unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
    }
}
