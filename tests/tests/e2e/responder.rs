//! A network that misbehaves exactly as told: it answers echo requests from a packet socket, in
//! the place of the hosts' kernel, which is told to keep quiet.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use xtask::lab::Lab;

use crate::host::{checksum, set};

const ETHERNET_LEN: usize = 14;
const ICMP_LEN: usize = 8;

/// The name that labs give the hosts' interface.
const INTERFACE: &std::ffi::CStr = c"far";

/// How often the responder looks for delayed answers that are due, and for its end.
const PERIOD: Duration = Duration::from_millis(1);

/// What comes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// An answer as the kernel would give it.
    Honest,
    /// The answer differs in the payload byte at this offset.
    Corrupt(usize),
    /// So many answers.
    Copies(usize),
    /// The answer comes this much later.
    Delay(Duration),
    /// The answer comes from the next higher address.
    Stranger,
    /// The answer has another sequence.
    OtherSequence,
    /// No answer.
    Silent,
}

/// The responder's thread; it ends when this is dropped.
pub(crate) struct Responder {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers in the hosts' place of a lab without gateways; `manner` is told who is asked.
    pub(crate) fn start(lab: &Lab, manner: impl Fn(IpAddr) -> Manner + Send + 'static) -> Self {
        let quiet = [
            "net/ipv4/icmp_echo_ignore_all",
            "net/ipv6/icmp/echo_ignore_all",
        ];
        let quiet = quiet.map(|name| (name.to_owned(), "1"));
        lab.hosts().sysctl(&quiet).unwrap();
        let socket = lab.hosts().enter(open).unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ending);
        let thread = std::thread::spawn(move || answer(&socket, manner, &seen));
        Self {
            ending,
            thread: Some(thread),
        }
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

fn answer(socket: &OwnedFd, manner: impl Fn(IpAddr) -> Manner, ending: &AtomicBool) {
    let mut waiting: Vec<(Instant, Vec<u8>)> = Vec::new();
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
            let Some((host, frame)) = reply(frame) else {
                continue;
            };
            for (delay, frame) in twist(frame, manner(host)) {
                waiting.push((Instant::now() + delay, frame));
            }
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

/// The parts of a frame that an answer turns round.
struct Layout {
    /// Where the source address is, and how long it is; the destination's follows.
    addresses: usize,
    address_len: usize,
    icmp: usize,
    end: usize,
    ipv4: bool,
}

fn layout(frame: &[u8]) -> Option<Layout> {
    let ip = frame.get(ETHERNET_LEN..)?;
    match (frame.get(12..14)?, ip.len()) {
        ([0x08, 0x00], 28..) if ip[9] == 1 => Some(Layout {
            addresses: ETHERNET_LEN + 12,
            address_len: 4,
            icmp: ETHERNET_LEN + usize::from(ip[0] & 0xf) * 4,
            end: ETHERNET_LEN + usize::from(u16::from_be_bytes([ip[2], ip[3]])),
            ipv4: true,
        }),
        ([0x86, 0xdd], 48..) if ip[6] == 58 => Some(Layout {
            addresses: ETHERNET_LEN + 8,
            address_len: 16,
            icmp: ETHERNET_LEN + 40,
            end: ETHERNET_LEN + 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
            ipv4: false,
        }),
        _ => None,
    }
}

/// Who is asked, and the honest answer; none if this is no echo request.
fn reply(request: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
    let layout = layout(request)?;
    let wanted = if layout.ipv4 { 8 } else { 128 };
    if request[layout.icmp] != wanted {
        return None;
    }
    let mut frame = request[..layout.end].to_vec();
    let (mac_to, mac_from) = frame[..12].split_at_mut(6);
    mac_to.swap_with_slice(mac_from);
    let len = layout.address_len;
    let (from, to) = frame[layout.addresses..][..2 * len].split_at_mut(len);
    from.swap_with_slice(to);
    let host = match <[u8; 4]>::try_from(&*from) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&*from).ok()?),
    };
    frame[layout.icmp] = if layout.ipv4 { 0 } else { 129 };
    seal(&mut frame);
    Some((host, frame))
}

/// Makes the checksums right.
fn seal(frame: &mut [u8]) {
    let Some(layout) = layout(frame) else { return };
    let Layout {
        addresses, icmp, ..
    } = layout;
    let mut begun = 0;
    if layout.ipv4 {
        frame[ETHERNET_LEN + 10..][..2].fill(0);
        let sum = checksum(&frame[ETHERNET_LEN..icmp], 0);
        frame[ETHERNET_LEN + 10..][..2].copy_from_slice(&sum.to_be_bytes());
    } else {
        begun = u32::from(!checksum(&frame[addresses..icmp], 0)) + (frame.len() - icmp) as u32 + 58;
    }
    frame[icmp + 2..icmp + 4].fill(0);
    let sum = checksum(&frame[icmp..], begun);
    frame[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
}

/// What is sent instead of the honest answer, and when.
fn twist(mut frame: Vec<u8>, manner: Manner) -> Vec<(Duration, Vec<u8>)> {
    let Some(layout) = layout(&frame) else {
        return Vec::new();
    };
    let (mut copies, mut delay) = (1, Duration::ZERO);
    match manner {
        Manner::Honest => {}
        Manner::Corrupt(offset) => frame[layout.icmp + ICMP_LEN + offset] ^= 0xff,
        Manner::Copies(number) => copies = number,
        Manner::Delay(by) => delay = by,
        Manner::Stranger => frame[layout.addresses + layout.address_len - 1] += 1,
        Manner::OtherSequence => frame[layout.icmp + 7] ^= 1,
        Manner::Silent => copies = 0,
    }
    seal(&mut frame);
    vec![(delay, frame); copies]
}
