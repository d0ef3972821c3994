//! How the tests ask: pings, datagrams and raw sockets of the calling thread's namespace.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use xtask::lab::Lab;

/// Longer than any answer in a lab takes, also on a machine that is busy otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Where no answer is expected this much is waited for it in vain.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// One echo request from the calling thread's namespace; whether its answer came.
fn ping(host: IpAddr, ttl: u32, wait: Duration) -> bool {
    let (family, protocol, option) = match host {
        IpAddr::V4(_) => (
            libc::AF_INET,
            libc::IPPROTO_ICMP,
            (libc::IPPROTO_IP, libc::IP_TTL),
        ),
        IpAddr::V6(_) => (
            libc::AF_INET6,
            libc::IPPROTO_ICMPV6,
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        ),
    };
    // SAFETY: socket takes numbers only; setsockopt reads four bytes of a live number.
    let (socket, set) = unsafe {
        let socket = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol);
        let set = libc::setsockopt(socket, option.0, option.1, (&raw const ttl).cast(), 4);
        (socket, set)
    };
    assert!(
        socket >= 0 && set == 0,
        "no ICMP socket: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the descriptor is open and ours alone; a ping socket is used as UDP's is.
    let socket = unsafe { UdpSocket::from_raw_fd(socket) };
    socket.set_read_timeout(Some(wait)).unwrap();
    let request = if host.is_ipv4() { 8 } else { 128 };
    let reply = if host.is_ipv4() { 0 } else { 129 };
    if socket
        .connect((host, 0))
        .and_then(|()| socket.send(&[request, 0, 0, 0, 0, 0, 0, 7]))
        .is_err()
    {
        return false;
    }
    let mut answer = [0; 64];
    matches!(socket.recv(&mut answer), Ok(8..) if answer[0] == reply && answer[7] == 7)
}

/// Pings from the prober of a lab.
pub(crate) fn ping_from(lab: &Lab, host: impl Into<IpAddr>, ttl: u32, wait: Duration) -> bool {
    let host = host.into();
    // Who may open ping sockets is set for each namespace, and is nobody at first.
    let allowed = [("net/ipv4/ping_group_range".to_owned(), "0 0")];
    lab.prober().sysctl(&allowed).unwrap();
    lab.prober().enter(|| ping(host, ttl, wait)).unwrap()
}

#[track_caller]
pub(crate) fn answers(lab: &Lab, host: &str) {
    let host: IpAddr = host.parse().unwrap();
    assert!(ping_from(lab, host, 64, PATIENCE), "{host} does not answer");
}

/// What `ip` says in the prober's namespace.
pub(crate) fn ip(lab: &Lab, arguments: &str) -> String {
    let mut command = lab.prober().command("ip");
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Hosts at both ends of both prefixes.
pub(crate) const HOSTS: [&str; 4] = [
    "198.18.0.1",
    "198.18.255.254",
    "2001:2:0:1::1",
    "2001:2:0:1:ffff:ffff:ffff:ffff",
];

/// An unbound datagram socket of the address's family, in the calling thread's namespace.
pub(crate) fn datagrams(host: IpAddr) -> UdpSocket {
    let any = if host.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A raw socket that sees all ICMP messages to the calling thread's namespace.
pub(crate) fn icmp_socket(ipv4: bool) -> UdpSocket {
    let (family, protocol) = if ipv4 {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    } else {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    };
    // SAFETY: takes numbers only; the descriptor is then ours alone, and used to receive.
    let socket = unsafe {
        let socket = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        UdpSocket::from_raw_fd(socket)
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next ICMP error: who sent it, its type and its code.
pub(crate) fn icmp_error(socket: &UdpSocket, ipv4: bool) -> Option<(IpAddr, u8, u8)> {
    let mut packet = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut packet).ok()?;
        // An IPv4 raw socket shows the IP header, an IPv6 one does not.
        let at = if ipv4 {
            usize::from(packet[0] & 0xf) * 4
        } else {
            0
        };
        let (kind, code) = (packet[at], packet[at + 1]);
        let error = if ipv4 {
            matches!(kind, 3 | 11 | 12)
        } else {
            kind < 128
        };
        if len > at + 8 && error {
            return Some((from.ip(), kind, code));
        }
    }
}

pub(crate) fn set_ttl(socket: &UdpSocket, ipv4: bool, ttl: u32) {
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_TTL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
    };
    // SAFETY: reads four bytes of a live number.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const ttl).cast(),
            4,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

pub(crate) fn bind_to_device(socket: &UdpSocket, interface: &str) {
    // SAFETY: reads the name's bytes, which live during the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            interface.len() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
