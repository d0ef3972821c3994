//! Local ports for UDP and TCP probes, kept from the rest of the host.
//!
//! A socket bound to a port, and neither connected nor listening, is all that it takes: while it
//! is open, no other socket can be bound to that port, and the kernel gives it to no outgoing
//! connection. What arrives there and is not ours ends in a UDP socket that nobody reads, or is
//! refused by the kernel's TCP, as on any port where nobody listens.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use thiserror::Error;

use super::syscall::{check, set_option, socket};
use crate::destination::LocalPorts;

/// Bytes that a UDP socket of ours may hold: nobody reads them. The kernel rounds up to its
/// minimum.
const RECEIVE_BUFFER: libc::c_int = 1;

/// A port could not be had.
#[derive(Debug, Error)]
#[error(
    "cannot reserve {protocol} port number {number} of {needed} to probe from: {source}; use fewer \
     {protocol} destinations of one address and port, or raise the limit of open files (ulimit -n) \
     or the range of ports (net.ipv4.ip_local_port_range)"
)]
pub struct PortsError {
    /// UDP or TCP.
    protocol: &'static str,
    /// The how manieth, from 1.
    number: usize,
    needed: usize,
    source: io::Error,
}

/// Ports that are reserved while this lives.
#[derive(Debug, Default)]
pub struct ReservedPorts {
    ports: LocalPorts,
    /// Never read or written.
    sockets: Vec<OwnedFd>,
}

impl ReservedPorts {
    /// Reserves so many free ports of each protocol, for both address families, in the calling
    /// thread's network namespace. They are of the range from which the kernel itself takes ports
    /// for outgoing connections.
    ///
    /// # Errors
    ///
    /// If the host has no more free ports, or the process no more descriptors.
    pub fn reserve(udp: usize, tcp: usize) -> Result<Self, PortsError> {
        let mut reserved = Self::default();
        reserved.ports.udp = reserved.add("UDP", libc::SOCK_DGRAM, udp)?;
        reserved.ports.tcp = reserved.add("TCP", libc::SOCK_STREAM, tcp)?;
        Ok(reserved)
    }

    /// The ports.
    pub fn ports(&self) -> &LocalPorts {
        &self.ports
    }

    fn add(
        &mut self,
        protocol: &'static str,
        kind: libc::c_int,
        needed: usize,
    ) -> Result<Vec<u16>, PortsError> {
        let one = |number| {
            let bound = match bound(kind, libc::AF_INET6) {
                // This host has no IPv6, or has it switched off.
                Err(error) if is_without_ipv6(&error) => bound(kind, libc::AF_INET),
                bound => bound,
            };
            let (socket, port) = bound.map_err(|source| PortsError {
                protocol,
                number,
                needed,
                source,
            })?;
            self.sockets.push(socket);
            Ok(port)
        };
        (1..=needed).map(one).collect()
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// A socket bound to any address of a family, and the port it got.
fn bound(kind: libc::c_int, family: libc::c_int) -> io::Result<(OwnedFd, u16)> {
    let socket = socket(family, kind, 0)?;
    if family == libc::AF_INET6 {
        // Both families at once, whatever net.ipv6.bindv6only says.
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    bind_any(&socket, family)?;
    let port = port_of(&socket)?;
    Ok((socket, port))
}

/// Binds to any address of the family, and any free port.
fn bind_any(socket: &OwnedFd, family: libc::c_int) -> io::Result<()> {
    // SAFETY: all zero is a valid `sockaddr_storage`: any address, any port.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    address.ss_family = family as libc::sa_family_t;
    let len = if family == libc::AF_INET6 {
        size_of::<libc::sockaddr_in6>()
    } else {
        size_of::<libc::sockaddr_in>()
    };
    // SAFETY: `address` is a valid socket address of the given length.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len as libc::socklen_t,
        )
    })
}

fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    // SAFETY: all zero is a valid `sockaddr_in6`, which is the longest address of ours.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `address`.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
    })?;
    // It stands in the same place in `sockaddr_in`.
    Ok(u16::from_be(address.sin6_port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn what_is_reserved_nobody_else_is_given() {
        let reserved = ReservedPorts::reserve(2, 2).unwrap();
        let LocalPorts { udp, tcp } = reserved.ports();
        assert_eq!((udp.len(), tcp.len()), (2, 2));
        assert!(udp[0] != udp[1] && tcp[0] != tcp[1]);
        let addresses = ["0.0.0.0", "127.0.0.1", "::", "::1"];
        for address in addresses.map(|text| text.parse::<IpAddr>().unwrap()) {
            for port in udp {
                let taken = UdpSocket::bind((address, *port)).unwrap_err();
                assert_eq!(
                    taken.raw_os_error(),
                    Some(libc::EADDRINUSE),
                    "{address} {port}"
                );
            }
            for port in tcp {
                let taken = TcpListener::bind((address, *port)).unwrap_err();
                assert_eq!(
                    taken.raw_os_error(),
                    Some(libc::EADDRINUSE),
                    "{address} {port}"
                );
            }
        }
    }

    #[test]
    fn ports_are_free_again_afterwards() {
        // Someone else may be given one or the other of them at once, but not all.
        let reserved = ReservedPorts::reserve(20, 20).unwrap();
        let LocalPorts { udp, tcp } = reserved.ports().clone();
        drop(reserved);
        let free = |port: &&u16| UdpSocket::bind((Ipv4Addr::LOCALHOST, **port)).is_ok();
        assert!(udp.iter().filter(free).count() > 0);
        let free = |port: &&u16| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_ok();
        assert!(tcp.iter().filter(free).count() > 0);
    }

    #[test]
    fn without_ipv6_ports_of_ipv4_are_reserved() {
        for errno in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            assert!(is_without_ipv6(&io::Error::from_raw_os_error(errno)));
        }
        assert!(!is_without_ipv6(&io::Error::from_raw_os_error(
            libc::EMFILE
        )));
        let (_socket, port) = bound(libc::SOCK_DGRAM, libc::AF_INET).unwrap();
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn an_error_says_how_far_it_came_and_what_to_do() {
        let error = PortsError {
            protocol: "TCP",
            number: 3,
            needed: 9,
            source: io::Error::from_raw_os_error(libc::EMFILE),
        };
        let text = error.to_string();
        for part in ["TCP port number 3 of 9", "Too many open files", "ulimit -n"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn many_ports_are_distinct() {
        let reserved = ReservedPorts::reserve(100, 100).unwrap();
        let LocalPorts { udp, tcp } = reserved.ports();
        for ports in [udp, tcp] {
            let distinct: HashSet<_> = ports.iter().collect();
            assert_eq!(distinct.len(), 100);
        }
    }
}
