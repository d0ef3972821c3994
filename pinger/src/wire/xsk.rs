//! AF_XDP: frames go from our memory to the interface, past the kernel's network stack.
//!
//! One socket on one queue, for sending only; what comes back is read by the XDP program, so the
//! socket has no receive ring. Copy mode: a zero-copy socket would take the queue's receive
//! buffers away from the host. `Documentation/networking/af_xdp.rst` of the kernel is the
//! contract.

mod ring;
mod umem;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use thiserror::Error;

use self::ring::{Consumer, Producer};
use self::umem::{FrameAddress, Umem};
use super::syscall::{check, set_option, socket};
use crate::link::{Link, Refused};

/// Frames in the packet memory, and entries of each ring, so that a ring is never full while
/// there is a frame to put on it. At a million probes a second they last 4 ms.
const FRAMES: u32 = 4096;

/// How long a queue may still look taken after another socket on it was closed: the kernel frees
/// it in the background, 20 ms have been seen.
const BUSY_MAX: Duration = Duration::from_millis(200);

/// How often a flush asks again without any progress before it gives up.
const KICKS_MAX: u32 = 1000;

/// A descriptor that the kernel skips and counts: longer than any frame, and outside of the packet
/// memory (`xp_validate_desc` in `net/xdp/xsk_queue.h`).
const VOID: libc::xdp_desc = libc::xdp_desc {
    addr: u64::MAX,
    len: u32::MAX,
    options: 0,
};

/// What went wrong, with which interface.
#[derive(Debug, Error)]
pub enum XskError {
    /// A socket of another program, or another pinger, has the queue.
    #[error(
        "queue {queue} of {interface} is in use by another AF_XDP socket, perhaps of another \
         pinger: stop that one, or use another interface"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The kernel refused a step.
    #[error("cannot {step} for the AF_XDP socket on {interface}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The interface.
        interface: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// An AF_XDP socket that sends.
pub struct Xsk {
    // Fields drop in this order: rings and memory are unmapped before the socket closes.
    tx: Producer<libc::xdp_desc>,
    completion: Consumer<u64>,
    _fill: Consumer<u64>,
    umem: Umem,
    socket: OwnedFd,
    free: Vec<FrameAddress>,
    open: Option<FrameAddress>,
    /// The addresses on the ring when a flush was refused, oldest first: of frames that the kernel
    /// has not sent, and before them of some that it has but not told of. See [`Xsk::settle`].
    withdrawn: Vec<u64>,
    /// How many descriptors the kernel has skipped so far.
    skipped: u64,
}

impl Xsk {
    /// Opens a socket on a queue of an interface, for frames up to `frame_len` bytes.
    ///
    /// # Errors
    ///
    /// If the queue is in use, or the interface or the kernel does not support AF_XDP.
    pub fn open(
        interface: &str,
        index: u32,
        queue: u32,
        frame_len: usize,
    ) -> Result<Self, XskError> {
        let step = |step: &'static str| {
            move |source| XskError::Step {
                step,
                interface: interface.to_owned(),
                source,
            }
        };
        let socket = socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(step("open a socket"))?;
        let umem = Umem::new(FRAMES, frame_len).map_err(step("map packet memory"))?;
        umem.register(&socket)
            .map_err(step("register packet memory"))?;
        for (option, entries) in [
            (libc::XDP_UMEM_FILL_RING, FRAMES),
            (libc::XDP_UMEM_COMPLETION_RING, FRAMES),
            (libc::XDP_TX_RING, FRAMES),
        ] {
            set_option(&socket, libc::SOL_XDP, option, entries).map_err(step("size the rings"))?;
        }
        let offsets = ring::offsets(&socket).map_err(step("read the rings' layout"))?;
        let rings = step("map the rings");
        let tx = ring::map(&socket, &offsets.tx, libc::XDP_PGOFF_TX_RING as u64, FRAMES);
        let completion = ring::map(
            &socket,
            &offsets.cr,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
            FRAMES,
        );
        // Never used, but the kernel binds no socket without one.
        let fill = ring::map(&socket, &offsets.fr, libc::XDP_UMEM_PGOFF_FILL_RING, FRAMES);
        let xsk = Self {
            tx: Producer::new(tx.map_err(&rings)?),
            completion: Consumer::new(completion.map_err(&rings)?),
            _fill: Consumer::new(fill.map_err(&rings)?),
            free: umem.frames(),
            umem,
            socket,
            open: None,
            withdrawn: Vec::with_capacity(FRAMES as usize),
            skipped: 0,
        };
        xsk.bind(index, queue)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EBUSY) => XskError::Busy {
                    interface: interface.to_owned(),
                    queue,
                },
                _ => step("bind")(source),
            })?;
        Ok(xsk)
    }

    fn bind(&self, index: u32, queue: u32) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            // SAFETY: `address` is a valid `sockaddr_xdp` of the given length.
            let bound = check(unsafe {
                libc::bind(
                    self.socket.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                )
            });
            let Err(error) = bound else { return Ok(()) };
            if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes back the frames that the kernel is done with.
    fn reclaim(&mut self) {
        let Self {
            completion,
            free,
            umem,
            ..
        } = self;
        // Some kernels also return what they skip: a void descriptor is no frame.
        completion.drain(|address| free.extend(umem.reclaim(address)));
    }

    /// Takes back what the kernel refuses, so that it cannot leave later. Returns how many of the
    /// frames will not be sent; `dropped` of them it has taken and thrown away.
    ///
    /// Which of them it has taken it does not say at once: the consumer count in shared memory
    /// lags behind its own (before Linux 6.17 until it has read all it knows of). So all that may
    /// be on the ring is made void, and [`Xsk::settle`] finds out.
    fn withdraw(&mut self, dropped: usize) -> usize {
        let withdrawn = &mut self.withdrawn;
        self.tx.replace(VOID, |entry| withdrawn.push(entry.addr));
        let all = self.withdrawn.len();
        match self.settle() {
            Some(returned) => returned + dropped,
            // As long as the kernel does not look at the ring, it was probably so before.
            None => all,
        }
    }

    /// Makes the kernel skip the void descriptors, after which the frames that it had not taken
    /// before are free again: as many as it skips, and the last ones, as it goes in order. Returns
    /// their number, or `None` while it does not get that far, as when the interface is down.
    fn settle(&mut self) -> Option<usize> {
        // It skips one a call, and tells when it finds none (`__xsk_generic_xmit`).
        for _ in 0..=self.tx.pending() {
            if self.tx.pending() == 0 || self.kick().is_err() {
                break;
            }
        }
        if self.tx.pending() > 0 {
            return None;
        }
        let skipped = skipped_descriptors(&self.socket).ok()?;
        let returned = (skipped - self.skipped) as usize;
        self.skipped = skipped;
        let taken = self.withdrawn.len().saturating_sub(returned);
        let umem = &self.umem;
        let unsent = self.withdrawn.drain(..).skip(taken);
        self.free
            .extend(unsent.filter_map(|address| umem.reclaim(address)));
        Some(returned)
    }

    /// Makes the kernel send what is on the ring.
    fn kick(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address are passed.
        let result = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl Link for Xsk {
    fn frame(&mut self) -> Option<&mut [u8]> {
        if !self.withdrawn.is_empty() {
            self.settle()?;
        }
        // Each time, so that the frames used last, which are in the cache, are used next.
        self.reclaim();
        if self.open.is_none() {
            self.open = self.free.pop();
        }
        self.open.as_mut().map(|address| self.umem.bytes(address))
    }

    fn submit(&mut self, len: usize) {
        if let Some(address) = self.open.take() {
            let descriptor = libc::xdp_desc {
                addr: address.into_kernel(),
                len: len as u32,
                options: 0,
            };
            self.tx.push(descriptor);
        }
    }

    fn flush(&mut self) -> Result<(), Refused> {
        self.tx.publish();
        let mut left = self.tx.pending();
        let mut idle = 0;
        while left > 0 {
            // One call handles 32 frames at the most (TX_BATCH_SIZE, net/xdp/xsk.c).
            let error = self.kick().err();
            let now_left = self.tx.pending();
            idle = if now_left < left { 0 } else { idle + 1 };
            left = now_left;
            let errno = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
            let again = matches!(errno, 0 | libc::EAGAIN | libc::ENOBUFS | libc::EINTR);
            if !again || idle > KICKS_MAX {
                // EBUSY: the driver has dropped the frame that the call came to last.
                let unsent = self.withdraw(usize::from(errno == libc::EBUSY));
                return Err(Refused { errno, unsent });
            }
            if errno != 0 {
                self.reclaim();
            }
        }
        Ok(())
    }
}

/// How many descriptors of the TX ring the kernel has skipped since the socket was opened.
fn skipped_descriptors(socket: &OwnedFd) -> io::Result<u64> {
    let mut statistics = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    let mut len = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `statistics`, all of whose fields are
    // integers.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    })?;
    Ok(statistics.tx_invalid_descs)
}
