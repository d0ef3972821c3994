//! The socket that listens: what the kernel announces of links, neighbours, addresses, routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::Socket;

use super::{NetlinkError, for_each_message, message, open_socket, receive};
use crate::route::Fact;

/// Holds some 8,000 announcements: a second of a storm. What is too much is noticed, and the
/// tables are then read again.
const RECEIVE_BUFFER: usize = 8 << 20;

/// What is listened to. The nexthop group came with Linux 5.3.
const GROUPS: [libc::c_uint; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// One announcement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A link or a neighbour is now like this.
    Fact(Fact),
    /// Routes to addresses in this prefix may have changed.
    Prefix(IpAddr, u8),
    /// Any route may have changed.
    Routes,
}

/// How a drain of the socket ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// All was read.
    Whole,
    /// Announcements were lost: everything must be asked for again.
    Overrun,
}

#[derive(Debug)]
pub(super) struct EventSocket {
    socket: Socket,
    buffer: Vec<u8>,
}

impl EventSocket {
    /// Opens the socket and subscribes: from here on nothing is missed.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let socket = open_socket(RECEIVE_BUFFER)?;
        for group in GROUPS {
            socket
                .add_membership(group)
                .map_err(|source| NetlinkError::Open {
                    operation: "subscribe",
                    source,
                })?;
        }
        Ok(Self {
            socket,
            buffer: Vec::new(),
        })
    }

    /// Reads all that waits, without blocking.
    pub(super) fn drain(&mut self, mut handle: impl FnMut(Event)) -> Result<Drained, NetlinkError> {
        loop {
            match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(()) => for_each_message(&self.buffer, |_, kind, body| {
                    if let Some(event) = event(kind, body) {
                        handle(event);
                    }
                })?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Drained::Whole);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Drained::Overrun);
                }
                Err(source) => {
                    return Err(NetlinkError::Talk {
                        operation: "listen to",
                        source,
                    });
                }
            }
        }
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns the descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

fn event(kind: u16, body: &[u8]) -> Option<Event> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => message::link(kind, body).map(Event::Fact),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => message::neighbour(kind, body).map(Event::Fact),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            message::changed_prefix(body).map(|(prefix, length)| Event::Prefix(prefix, length))
        }
        // Addresses, rules and nexthop objects: each may move any route or source address.
        _ => Some(Event::Routes),
    }
}
