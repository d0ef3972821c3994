//! Reserved ports beside a host's own connections, in a network namespace with few ports.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot open a socket has failed"
)]

mod netns;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

use netns::Namespace;
use pinger::wire::ports::ReservedPorts;

/// All ports that the kernel may give away there.
const RANGE: [u16; 8] = [
    40_000, 40_001, 40_002, 40_003, 40_004, 40_005, 40_006, 40_007,
];

fn narrow() -> Namespace {
    let namespace = Namespace::new("ports");
    namespace.enter(|| {
        let range = format!("{} {}", RANGE[0], RANGE[RANGE.len() - 1]);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
    });
    namespace
}

#[test]
fn no_outgoing_connection_and_no_other_socket_is_given_a_reserved_port() {
    let namespace = narrow();
    namespace.enter(|| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap();
        let server6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 80)).unwrap();
        let reserved = ReservedPorts::reserve(3, 3).unwrap();
        let ports = reserved.ports();
        for ours in [&ports.udp, &ports.tcp] {
            assert!(ours.iter().all(|port| RANGE.contains(port)), "{ours:?}");
        }
        let left = |ours: &[u16]| -> BTreeSet<u16> {
            RANGE
                .into_iter()
                .filter(|port| !ours.contains(port))
                .collect()
        };

        for server in [server, server6] {
            let to = server.local_addr().unwrap();
            let mut streams = Vec::new();
            let full = loop {
                match TcpStream::connect(to) {
                    Ok(stream) => streams.push(stream),
                    Err(error) => break error,
                }
            };
            assert_eq!(full.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{full}");
            let given: BTreeSet<_> = streams
                .iter()
                .map(|stream| stream.local_addr().unwrap().port())
                .collect();
            assert_eq!(given, left(&ports.tcp), "to {to}");
        }

        let mut sockets = Vec::new();
        let full = loop {
            match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) {
                Ok(socket) => sockets.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::EADDRINUSE), "{full}");
        let given: BTreeSet<_> = sockets
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        assert_eq!(given, left(&ports.udp));
    });
}

#[test]
fn a_host_without_free_ports_says_so() {
    let namespace = narrow();
    namespace.enter(|| {
        let text = ReservedPorts::reserve(0, RANGE.len() + 1)
            .unwrap_err()
            .to_string();
        for part in ["TCP port number 9 of 9", "ip_local_port_range"] {
            assert!(text.contains(part), "{text}");
        }
    });
}

#[test]
fn a_host_without_ipv6_reserves_ports_of_ipv4() {
    let namespace = narrow();
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1);
    namespace.sysctl("net.ipv6.conf.lo.disable_ipv6", 1);
    namespace.enter(|| {
        let reserved = ReservedPorts::reserve(1, 1).unwrap();
        let port = reserved.ports().udp[0];
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(libc::EADDRINUSE), "{taken}");
    });
}
