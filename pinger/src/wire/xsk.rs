//! AF_XDP: frames go from our memory to the interface, past the kernel's network stack.
//!
//! One socket on one queue, for sending only; what comes back is read by the XDP program, so the
//! socket has no receive ring. Copy mode: a zero-copy socket would take the queue's receive
//! buffers away from the host. `Documentation/networking/af_xdp.rst` of the kernel is the
//! contract.

mod ring;
mod umem;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use thiserror::Error;

use self::ring::{Consumer, Producer};
use self::umem::{FrameAddress, Umem};
use crate::link::{Link, Refused};

/// Frames in the packet memory, and entries of each ring, so that a ring is never full while
/// there is a frame to put on it. At a million probes a second they last 4 ms.
const FRAMES: u32 = 4096;

/// How long a queue may still look taken after another socket on it was closed: the kernel frees
/// it in the background, 20 ms have been seen.
const BUSY_MAX: Duration = Duration::from_millis(200);

/// How often a flush asks again without any progress before it gives up.
const KICKS_MAX: u32 = 1000;

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
        let socket = new_socket().map_err(step("open a socket"))?;
        let umem = Umem::new(FRAMES, frame_len).map_err(step("map packet memory"))?;
        umem.register(&socket)
            .map_err(step("register packet memory"))?;
        for (option, entries) in [
            (libc::XDP_UMEM_FILL_RING, FRAMES),
            (libc::XDP_UMEM_COMPLETION_RING, FRAMES),
            (libc::XDP_TX_RING, FRAMES),
        ] {
            set_option(&socket, option, &entries).map_err(step("size the rings"))?;
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
            let result = unsafe {
                libc::bind(
                    self.socket.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as libc::socklen_t,
                )
            };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
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
        completion.drain(|address| free.push(umem.reclaim(address)));
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
            let result = self.kick();
            let now_left = self.tx.pending();
            idle = if now_left < left { 0 } else { idle + 1 };
            left = now_left;
            let Err(error) = result else { continue };
            let errno = error.raw_os_error().unwrap_or(0);
            let transient = matches!(
                errno,
                libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR
            );
            if !transient || idle > KICKS_MAX {
                return Err(Refused { errno });
            }
            self.reclaim();
        }
        Ok(())
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is readable for its size, and each option used here takes such a value.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
