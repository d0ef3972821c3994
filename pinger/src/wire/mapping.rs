//! A piece of memory mapped from the kernel, unmapped when dropped.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Mapped memory, readable and writable, shared with whoever else maps it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; what may be done with it
// concurrently is up to those who read and write it.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives out a pointer only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file descriptor, from `offset`.
    ///
    /// # Errors
    ///
    /// As `mmap(2)`.
    pub(super) fn of(fd: BorrowedFd<'_>, len: usize, offset: u64) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len, flags, fd.as_raw_fd(), offset)
    }

    /// Maps `len` bytes of fresh zeros.
    ///
    /// # Errors
    ///
    /// As `mmap(2)`.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(
            len,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    }

    fn map(len: usize, flags: libc::c_int, fd: libc::c_int, offset: u64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// The first byte; valid while the mapping lives.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Where a `T` lies, `offset` bytes from the start.
    ///
    /// # Panics
    ///
    /// If it is not aligned or not within the mapping.
    pub(super) fn at<T>(&self, offset: usize) -> *mut T {
        let address = self.start().wrapping_add(offset).cast::<T>();
        assert!(
            address.is_aligned() && offset + size_of::<T>() <= self.len,
            "within the mapping"
        );
        address
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and nobody can refer to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
