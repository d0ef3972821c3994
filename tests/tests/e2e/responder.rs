//! A network that misbehaves exactly as told: it answers probes of all protocols from a packet
//! socket, in the place of the hosts' kernel, which no longer holds their addresses; and it keeps
//! a log of what it did.

mod packet;
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use xtask::lab::{HOSTS_IPV4, HOSTS_IPV6, Lab};

use crate::host::set;
use packet::Seen;
pub(crate) use packet::{By, Forgery, IcmpError, Probe, Reset};

/// The name that labs give the hosts' interface.
const INTERFACE: &std::ffi::CStr = c"far";

/// How often the responder looks for delayed answers that are due, and for its end.
const PERIOD: Duration = Duration::from_millis(1);

/// One answer to a probe, and how long after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) what: What,
    pub(crate) after: Duration,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// What an open host sends: echo reply, datagram, SYN-ACK.
    Honest,
    /// What a host sends whose port is closed: RST, port unreachable.
    Closed,
    /// The honest answer with another payload byte at this offset.
    Corrupt(usize),
    /// An error of some router.
    Error(IcmpError),
    /// Something that is no answer.
    Forged(Forgery),
}

impl What {
    pub(crate) fn now(self) -> Act {
        self.after(Duration::ZERO)
    }

    pub(crate) fn after(self, after: Duration) -> Act {
        Act { what: self, after }
    }
}

/// One probe and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) probe: Probe,
    pub(crate) acts: Vec<Act>,
}

/// All that the responder saw and did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// In the order in which the probes came.
    pub(crate) probes: Vec<Entry>,
    pub(crate) resets: Vec<Reset>,
}

/// The responder's thread; it ends when this is dropped.
pub(crate) struct Responder {
    ending: Arc<AtomicBool>,
    log: Arc<Mutex<Log>>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers in the hosts' place; `manner` is told of each probe, and how many came before it
    /// of the same protocol to the same host.
    pub(crate) fn start(
        lab: &Lab,
        manner: impl FnMut(&Probe, u64) -> Vec<Act> + Send + 'static,
    ) -> Self {
        let quiet = [HOSTS_IPV4, HOSTS_IPV6].map(|prefix| {
            [
                format!("route delete local {prefix} dev lo table local"),
                format!("route replace blackhole {prefix}"),
            ]
        });
        lab.hosts().ip(&quiet.concat()).unwrap();
        let socket = lab.hosts().enter(open).unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Log::default()));
        let (seen, kept) = (Arc::clone(&ending), Arc::clone(&log));
        let thread = std::thread::spawn(move || answer(&socket, manner, &kept, &seen));
        Self {
            ending,
            log,
            thread: Some(thread),
        }
    }

    /// What it saw and did until now.
    pub(crate) fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// A packet socket on the hosts' interface that sees what comes in.
fn open() -> OwnedFd {
    // SAFETY: takes numbers only.
    let socket = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just opened, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let room: libc::c_int = 8 << 20;
    set(&socket, libc::SO_RCVBUFFORCE, &room);
    // SAFETY: a name that ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(INTERFACE.as_ptr()) };
    assert_ne!(index, 0, "the hosts' interface is there");
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: a whole packet socket address, which lives during the call.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    socket
}

fn answer(
    socket: &OwnedFd,
    mut manner: impl FnMut(&Probe, u64) -> Vec<Act>,
    log: &Mutex<Log>,
    ending: &AtomicBool,
) {
    let mut waiting: Vec<(Instant, Vec<u8>)> = Vec::new();
    let mut numbers: HashMap<(By, IpAddr, u16), u64> = HashMap::new();
    let mut buffer = [0; 4096];
    while !ending.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid `pollfd`.
        unsafe { libc::poll(&raw mut poll, 1, PERIOD.as_millis() as libc::c_int) };
        while let Some(frame) = receive(socket, &mut buffer) {
            let probe = match packet::read(frame) {
                Some(Seen::Probe(probe)) => probe,
                Some(Seen::Reset(reset)) => {
                    log.lock().unwrap().resets.push(reset);
                    continue;
                }
                None => continue,
            };
            let number = numbers
                .entry((probe.by, probe.host, probe.port))
                .or_default();
            let acts = manner(&probe, *number);
            *number += 1;
            let now = Instant::now();
            let due = |act: &Act| (now + act.after, bytes(&probe, act.what));
            waiting.extend(acts.iter().map(due));
            log.lock().unwrap().probes.push(Entry { probe, acts });
        }
        let now = Instant::now();
        waiting.retain(|(due, frame)| {
            let later = *due > now;
            if !later {
                send(socket, frame);
            }
            later
        });
    }
}

fn bytes(probe: &Probe, what: What) -> Vec<u8> {
    match what {
        What::Honest => probe.honest(),
        What::Closed => probe.closed(),
        What::Corrupt(offset) => probe.corrupt(offset),
        What::Error(error) => probe.error(error),
        What::Forged(forgery) => probe.forged(forgery),
    }
}

fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: the kernel writes at most the buffer's length.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    };
    usize::try_from(len).ok().map(|len| &buffer[..len])
}

fn send(socket: &OwnedFd, frame: &[u8]) {
    // SAFETY: the kernel reads the frame only.
    let len = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    assert_eq!(len, frame.len() as isize, "{}", io::Error::last_os_error());
}
