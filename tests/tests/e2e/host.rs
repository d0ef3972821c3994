//! The host's own ping: echo requests from a raw socket, and every echo reply that the host's
//! stack sees.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A raw ICMP socket in the namespace of the thread that opened it.
pub(crate) struct RawSocket {
    socket: OwnedFd,
    ipv4: bool,
}

/// An echo reply as the stack delivered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EchoReply {
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
}

impl RawSocket {
    pub(crate) fn open(ipv4: bool, wait: Duration) -> Self {
        let (family, protocol) = if ipv4 {
            (libc::AF_INET, libc::IPPROTO_ICMP)
        } else {
            (libc::AF_INET6, libc::IPPROTO_ICMPV6)
        };
        // SAFETY: takes numbers only.
        let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        // SAFETY: just opened, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let wait = libc::timeval {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_usec: wait.subsec_micros().into(),
        };
        let room: libc::c_int = 8 << 20;
        set(&socket, libc::SO_RCVTIMEO, &wait);
        set(&socket, libc::SO_RCVBUFFORCE, &room);
        Self { socket, ipv4 }
    }

    /// Sends one echo request.
    pub(crate) fn request(&self, host: IpAddr, identifier: u16, sequence: u16) {
        let mut packet = [0; 16];
        packet[0] = if self.ipv4 { 8 } else { 128 };
        packet[4..6].copy_from_slice(&identifier.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        if self.ipv4 {
            // For ICMPv6 the kernel does this itself, RFC 3542 section 3.1.
            let sum = checksum(&packet, 0).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        let sent = match host {
            IpAddr::V4(host) => {
                let address = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: 0,
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(host.octets()),
                    },
                    sin_zero: [0; 8],
                };
                self.send_to(&packet, &address)
            }
            IpAddr::V6(host) => {
                let address = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: host.octets(),
                    },
                    sin6_scope_id: 0,
                };
                self.send_to(&packet, &address)
            }
        };
        assert_eq!(
            sent,
            packet.len() as isize,
            "{}",
            io::Error::last_os_error()
        );
    }

    fn send_to<A>(&self, packet: &[u8], address: &A) -> isize {
        // SAFETY: both are valid for their whole length during the call.
        unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                std::ptr::from_ref(address).cast(),
                size_of::<A>() as libc::socklen_t,
            )
        }
    }

    /// The next echo reply that the stack saw, whoever asked for it; none within the wait.
    pub(crate) fn reply(&self) -> Option<EchoReply> {
        let mut packet = [0; 2048];
        loop {
            // SAFETY: the kernel writes at most the buffer's length.
            let len = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    packet.as_mut_ptr().cast(),
                    packet.len(),
                    0,
                )
            };
            let packet = &packet[..usize::try_from(len).ok()?];
            // An IPv4 raw socket shows the IP header, an IPv6 one does not.
            let icmp = if self.ipv4 {
                &packet[usize::from(packet[0] & 0xf) * 4..]
            } else {
                packet
            };
            let wanted = if self.ipv4 { 0 } else { 129 };
            if let [kind, _, _, _, id0, id1, seq0, seq1, ..] = *icmp
                && kind == wanted
            {
                return Some(EchoReply {
                    identifier: u16::from_be_bytes([id0, id1]),
                    sequence: u16::from_be_bytes([seq0, seq1]),
                });
            }
        }
    }
}

pub(crate) fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) {
    // SAFETY: the kernel reads the value's bytes, which live during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// The Internet checksum, RFC 1071, on top of a sum begun elsewhere.
pub(crate) fn checksum(bytes: &[u8], begun: u32) -> u16 {
    let mut sum = begun;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
