//! What the lab's hosts offer beside what their kernel answers by itself: UDP echo on port 7, and
//! TCP on ports 80 and 443. Every other port is closed.
//!
//! One thread serves all of it, at every address that the namespace holds. A test's lab has the
//! thread in the test's process; the machine's lab has a process of its own (`xtask lab serve`),
//! which nobody needs to end: it ends when the lab's link goes.

use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail, ensure};

use super::addresses::FAR;
use super::namespace::Namespace;

/// The hosts send back whatever comes to this UDP port (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// The hosts accept connections to these TCP ports, and close them at once.
pub const TCP_PORTS: [u16; 2] = [80, 443];

/// Datagrams that one call takes: enough to make calls cheap, few enough to stay in the cache.
const BATCH: usize = 64;
/// The longest datagram, which is more than any prober of ours sends.
const DATAGRAM_MAX: usize = 9000;
/// Room for what comes while the thread does not run: half a second at 100,000 small ones a second.
const RECEIVE_ROOM: libc::c_int = 32 << 20;
/// What the process says when everything is served.
const READY: &str = "ready";

/// The services of one namespace in a thread of this process; they end on drop.
#[derive(Debug)]
pub(super) struct Services {
    /// Closing it ends the thread.
    ending: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Serves in a namespace.
    ///
    /// # Errors
    /// A port there is taken, or the kernel refuses a socket.
    pub(super) fn start(namespace: &Namespace) -> Result<Self> {
        let sockets = namespace.enter(Sockets::open)??;
        let (ended, ending) = io::pipe().context("cannot make a pipe")?;
        let work = move || sockets.serve(&ended, |_: &PipeReader| true);
        let thread = thread::Builder::new()
            .name("lab-services".into())
            .spawn(work)
            .context("cannot start a thread for the lab's services")?;
        Ok(Self {
            ending: Some(ending),
            thread: Some(thread),
        })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.ending.take());
        // A guard cannot fail; the thread has no way to.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Serves in a namespace by a process that ends with the link [`FAR`] there.
///
/// # Errors
/// The process cannot be started, or could not serve: with its reason.
pub(super) fn start_process(namespace: &str) -> Result<()> {
    // By this name the program is found even if it was built anew meanwhile.
    let mut process = Command::new("/proc/self/exe")
        .arg0("xtask")
        .args(["lab", "serve", namespace])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Ctrl-C at our terminal is not meant for it.
        .process_group(0)
        .spawn()
        .context("cannot start the process of the lab's services")?;
    let mut said = String::new();
    if let Some(output) = process.stdout.take() {
        BufReader::new(output)
            .read_line(&mut said)
            .context("cannot read what the lab's services say")?;
    }
    ensure!(
        said.trim() == READY,
        "the lab's services do not start: {}",
        said.trim()
    );
    Ok(())
}

/// The work of that process, which has no other thread: moves into the namespace and serves.
///
/// # Errors
/// As `Services::start`; told on stdout as well, for whoever started the process.
pub fn serve(namespace: &str) -> Result<()> {
    let place = Namespace::adopt(namespace.to_owned());
    let outcome = place.settle().and_then(|()| {
        let watch = watch_links().context("cannot watch the lab's link")?;
        Ok((Sockets::open()?, watch))
    });
    place.keep();
    let said = match &outcome {
        Ok(_) => READY.to_owned(),
        Err(error) => format!("{error:#}").replace('\n', " "),
    };
    let mut stdout = io::stdout();
    // Whoever started us may have gone; the lab is there all the same.
    drop(writeln!(stdout, "{said}").and_then(|()| stdout.flush()));
    let (sockets, watch) = outcome?;
    sockets.serve(&watch, is_over);
    Ok(())
}

/// Which of the services are missing in a namespace, in words; empty if all are there.
///
/// # Errors
/// Not root, or the namespace is gone.
pub(super) fn missing(namespace: &str) -> Result<Vec<String>> {
    /// The state of a listening socket, `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTENING: &str = "0A";
    let place = Namespace::adopt(namespace.to_owned());
    // Each process, and each thread, sees the sockets of its own namespace.
    let tables = place.enter(|| {
        ["udp6", "tcp6"].map(|table| {
            fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default()
        })
    });
    place.keep();
    let [udp, tcp] = tables?;
    let mut missing = Vec::new();
    if !has_socket(&udp, ECHO_PORT, None) {
        missing.push(format!("nothing echoes at UDP port {ECHO_PORT}"));
    }
    for port in TCP_PORTS {
        if !has_socket(&tcp, port, Some(LISTENING)) {
            missing.push(format!("nothing listens at TCP port {port}"));
        }
    }
    Ok(missing)
}

/// Whether a table of the kernel's (proc(5), `/proc/net/tcp`) holds a socket for any address.
fn has_socket(table: &str, port: u16, state: Option<&str>) -> bool {
    let local = format!("{:032X}:{port:04X}", 0);
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&local)
            && state.is_none_or(|state| fields.nth(1).is_some_and(|found| found == state))
    })
}

/// All sockets, each for IPv4 and IPv6.
struct Sockets {
    echo: UdpSocket,
    listeners: Vec<TcpListener>,
}

impl Sockets {
    fn open() -> Result<Self> {
        let any = Ipv6Addr::UNSPECIFIED;
        let echo = UdpSocket::bind((any, ECHO_PORT))
            .with_context(|| format!("cannot serve UDP port {ECHO_PORT}"))?;
        set(&echo, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_ROOM)?;
        // An answer must come from the address that was asked, which the wildcard does not tell.
        set(&echo, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        let listeners = TCP_PORTS.map(|port| {
            let listener = TcpListener::bind((any, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listeners = listeners
            .into_iter()
            .collect::<io::Result<_>>()
            .context("cannot serve the TCP ports")?;
        Ok(Self { echo, listeners })
    }

    /// Serves until something comes from `ending` and `is_over` then says so.
    fn serve<E: AsRawFd>(&self, ending: &E, is_over: impl Fn(&E) -> bool) {
        let mut batch = Batch::new();
        let mut polled: Vec<libc::pollfd> = [ending.as_raw_fd(), self.echo.as_raw_fd()]
            .into_iter()
            .chain(self.listeners.iter().map(AsRawFd::as_raw_fd))
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        loop {
            // SAFETY: the pointer and the length are those of a live vector.
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
            if polled[0].revents != 0 && is_over(ending) {
                return;
            }
            if polled[1].revents != 0 {
                batch.echo(&self.echo);
            }
            for (listener, polled) in self.listeners.iter().zip(&polled[2..]) {
                if polled.revents != 0 {
                    // A connection that is gone again is none of our business.
                    drop(listener.accept());
                }
            }
        }
    }
}

/// A control message that holds the address a datagram came to: 16 bytes of header and 20 of
/// `in6_pktinfo`, rounded up.
type Control = [u64; 5];

/// Where in it the kernel tells the interface, behind header and address (RFC 3542 section 6.1).
const INTERFACE_AT: usize = 32;

/// Memory for datagrams that are taken and given back together.
struct Batch {
    data: Vec<Vec<u8>>,
    controls: Vec<Control>,
    peers: Vec<libc::sockaddr_in6>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Batch {
    fn new() -> Self {
        // SAFETY: these are plain integers and pointers, for which all zeroes is a value.
        let (peer, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut batch = Self {
            data: vec![vec![0; DATAGRAM_MAX]; BATCH],
            controls: vec![[0; 5]; BATCH],
            peers: vec![peer; BATCH],
            parts: Vec::with_capacity(BATCH),
            headers: vec![header; BATCH],
        };
        for data in &mut batch.data {
            batch.parts.push(libc::iovec {
                iov_base: data.as_mut_ptr().cast(),
                iov_len: data.len(),
            });
        }
        batch
    }

    /// Sends back what has come, up to a batch of it.
    fn echo(&mut self, socket: &UdpSocket) {
        for (index, header) in self.headers.iter_mut().enumerate() {
            self.parts[index].iov_len = DATAGRAM_MAX;
            header.msg_hdr.msg_name = (&raw mut self.peers[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut self.parts[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        // SAFETY: every header points to memory of `self` of the lengths that it tells, and
        // nothing of it moves during the call.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let taken = usize::try_from(taken).unwrap_or(0);
        for index in 0..taken {
            self.parts[index].iov_len = self.headers[index].msg_len as usize;
            // Back by whatever way the routes say, as any host does.
            self.controls[index][INTERFACE_AT / 8] = 0;
        }
        self.send(socket, taken);
    }

    fn send(&mut self, socket: &UdpSocket, taken: usize) {
        let mut rest = &mut self.headers[..taken];
        while !rest.is_empty() {
            // SAFETY: as in `echo`.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    0,
                )
            };
            // One that cannot be sent is lost, as datagrams are.
            let done = usize::try_from(sent).unwrap_or(0).max(1);
            rest = &mut rest[done..];
        }
    }
}

fn set(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<()> {
    // SAFETY: the kernel reads the four bytes of the value, which lives during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        bail!("cannot set an option of the echo service: {error}");
    }
    Ok(())
}

/// A socket that tells of every change to an interface of this namespace (rtnetlink(7)).
fn watch_links() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else has it. An address of all zeroes is a value.
    let (socket, mut address) = unsafe {
        let address: libc::sockaddr_nl = std::mem::zeroed();
        (OwnedFd::from_raw_fd(socket), address)
    };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = libc::RTMGRP_LINK as u32;
    // SAFETY: a whole netlink address, which lives during the call.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(socket)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the lab's link has gone, now that some link has changed.
fn is_over(watch: &OwnedFd) -> bool {
    let mut news = [0_u8; 8192];
    loop {
        // SAFETY: the kernel writes at most the buffer's length.
        let len = unsafe {
            libc::recv(
                watch.as_raw_fd(),
                news.as_mut_ptr().cast(),
                news.len(),
                libc::MSG_DONTWAIT,
            )
        };
        // What was lost for want of room is news all the same; the end of it is EAGAIN.
        let lost = io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
        if len <= 0 && !lost {
            break;
        }
    }
    let name = std::ffi::CString::new(FAR).unwrap_or_default();
    // SAFETY: a name that ends with a zero byte.
    unsafe { libc::if_nametoindex(name.as_ptr()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_port_and_state() {
        let any = "00000000000000000000000000000000";
        let table = format!(
            "  sl  local_address                         remote_address                        st\n   \
             0: {any}:0050 {any}:0000 0A 00000000:00000000\n   \
             1: 00000000000000000000000001000000:01BB {any}:0000 0A 00000000:00000000\n   \
             2: {any}:0007 {any}:0000 07 00000000:00000000\n"
        );
        assert!(has_socket(&table, 80, Some("0A")));
        assert!(!has_socket(&table, 80, Some("01")));
        assert!(
            !has_socket(&table, 443, Some("0A")),
            "listens at one address only"
        );
        assert!(has_socket(&table, 7, None));
        assert!(!has_socket(&table, 8, None));
    }
}
