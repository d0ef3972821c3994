//! The socket that asks the kernel: links, routes, neighbours.
//!
//! In: questions. Out: the kernel's answers as the types of [`crate::route`]. One thread asks at
//! a time, and waits for the answers; [`keeper`] holds the socket that listens.

mod dirty;
mod events;
mod interface;
pub mod keeper;
mod message;
mod notice;
mod request;
mod wake;
mod worker;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use thiserror::Error;

use super::syscall::set_option;
use crate::route::{Ask, AskHow, Fact, Link, NeighbourState, NoRoute, Route, RouteQuery};

pub use interface::{InterfaceError, interface_named};
pub use keeper::{Readiness, RouteKeeper};
pub use message::InterfaceAddress;
pub use notice::{LinkChange, RouteNotice};

/// Requests sent in one go. Their answers must fit the receive buffer: about 1 KiB each.
const BATCH: usize = 64;
/// Receive buffer of the asking socket: eight times what a batch of answers takes.
const RECEIVE_BUFFER: usize = 512 << 10;
/// The longest datagram read: twice the kernel's limit for dumps.
const DATAGRAM_MAX: usize = 64 << 10;
/// How long the kernel may take to answer. It answers at once, so this only guards against a
/// wait without end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump is begun again because the table changed under it.
const DUMPS_MAX: usize = 8;

/// Talking to the kernel failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket ({operation}); a sandbox may forbid AF_NETLINK")]
    Open {
        /// The call that failed.
        operation: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// Sending or receiving failed.
    #[error("cannot {operation} the kernel by netlink")]
    Talk {
        /// What was tried: "ask", "hear from".
        operation: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The kernel does not want to tell.
    #[error("the kernel refuses to list its {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot read the kernel's answer about {what}: {reason}; please report this")]
    Malformed {
        /// What was asked for.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A table changed so fast that it was never seen whole.
    #[error("the kernel's {what} change faster than they can be read; try again in a minute")]
    Restless {
        /// What was asked for.
        what: &'static str,
    },
}

/// A socket to ask the kernel with.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One answer to one request.
enum Answer<'a> {
    /// Done, or refused with this errno.
    Status(i32),
    /// What stands behind a message's netlink header.
    Message(&'a [u8]),
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] if the process may not have one.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = open_socket(RECEIVE_BUFFER)?;
        let open = |operation| move |source| NetlinkError::Open { operation, source };
        socket
            .set_netlink_get_strict_chk(true)
            .map_err(open("NETLINK_GET_STRICT_CHK"))?;
        socket.set_cap_ack(true).map_err(open("NETLINK_CAP_ACK"))?;
        set_receive_timeout(&socket, ANSWER_TIMEOUT).map_err(open("SO_RCVTIMEO"))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM_MAX),
        })
    }

    /// All interfaces of this network namespace.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel cannot be asked.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.dump("interfaces", &request::dump_links(), |kind, body| {
            if let Some(Fact::Link(link)) = message::link(kind, body) {
                links.push(link);
            }
        })?;
        Ok(links)
    }

    /// The interface of this name, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel cannot be asked.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// How the kernel would send this.
    ///
    /// # Errors
    /// The outer one if the kernel cannot be asked, the inner one if it has no usable route.
    pub fn route_to(&mut self, query: RouteQuery) -> Result<Result<Route, NoRoute>, NetlinkError> {
        let mut routes = self.routes_to(&[query])?;
        routes.pop().ok_or(NetlinkError::Malformed {
            what: "routes",
            reason: "none came".into(),
        })
    }

    /// [`Netlink::route_to`] for many packets, in their order: about 4 µs each.
    ///
    /// # Errors
    /// The outer one if the kernel cannot be asked, the inner ones if it has no usable route.
    pub fn routes_to(
        &mut self,
        queries: &[RouteQuery],
    ) -> Result<Vec<Result<Route, NoRoute>>, NetlinkError> {
        let mut routes = Vec::with_capacity(queries.len());
        let requests = queries.iter().map(request::get_route);
        self.exchange(requests, NLM_F_REQUEST, |position, answer| {
            let query = &queries[position];
            debug_assert_eq!(position, routes.len(), "the kernel answers in order");
            routes.push(match (message::not_one_host(query.to), answer) {
                (Some(why), _) => Err(why),
                (None, Answer::Message(body)) => message::route(query, body),
                (None, Answer::Status(errno)) => Err(message::no_route(query, errno)),
            });
        })?;
        Ok(routes)
    }

    /// The addresses of this network namespace's interfaces, in the kernel's order, which is that
    /// of `ip address`.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel cannot be asked.
    pub fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, NetlinkError> {
        let mut addresses = Vec::new();
        self.dump("addresses", &request::dump_addresses(), |kind, body| {
            addresses.extend(message::address(kind, body));
        })?;
        Ok(addresses)
    }

    /// What the kernel knows of the IPv4 and IPv6 neighbours on an interface.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel cannot be asked.
    pub fn neighbours(&mut self, link: u32) -> Result<Vec<(IpAddr, NeighbourState)>, NetlinkError> {
        let mut neighbours = Vec::new();
        for ipv6 in [false, true] {
            self.dump(
                "neighbours",
                &request::dump_neighbours(link, ipv6),
                |kind, body| {
                    // Asked again here, as kernels before 5.0 ignore the filter.
                    match message::neighbour(kind, body) {
                        Some(Fact::Neighbour {
                            link: of,
                            address,
                            state,
                        }) if of == link => {
                            neighbours.push((address, state));
                        }
                        _ => {}
                    }
                },
            )?;
        }
        Ok(neighbours)
    }

    /// Lets the kernel (re)learn neighbours. What comes of it is announced to those who listen.
    /// Gives each request's errno, zero if it was taken, grouped by [`Ask::how`].
    ///
    /// A neighbour that someone else keeps ([`NeighbourState::Usable`] with `fixed`) must not be
    /// asked for by [`AskHow::Resolve`] or [`AskHow::Verify`]: the kernel would take away its
    /// permanence.
    ///
    /// # Errors
    /// [`NetlinkError`] if the kernel cannot be asked.
    pub fn solicit(&mut self, asks: &[Ask]) -> Result<Vec<(Ask, i32)>, NetlinkError> {
        let mut results = Vec::with_capacity(asks.len());
        for how in [AskHow::Create, AskHow::Resolve, AskHow::Verify] {
            let flags = NLM_F_REQUEST
                | NLM_F_ACK
                | if how == AskHow::Create {
                    NLM_F_CREATE | NLM_F_EXCL
                } else {
                    0
                };
            let asks: Vec<_> = asks.iter().copied().filter(|ask| ask.how == how).collect();
            self.exchange(
                asks.iter().map(request::solicit),
                flags,
                |position, answer| {
                    if let Answer::Status(errno) = answer {
                        results.push((asks[position], errno));
                    }
                },
            )?;
        }
        Ok(results)
    }

    /// Sends requests that get exactly one answer each, a batch at a time, and hands the answers
    /// out with the positions of their requests.
    fn exchange(
        &mut self,
        requests: impl Iterator<Item = request::Request>,
        flags: u16,
        mut handle: impl FnMut(usize, Answer<'_>),
    ) -> Result<(), NetlinkError> {
        let mut requests = requests.peekable();
        let mut position = 0;
        let mut batch = Vec::new();
        while requests.peek().is_some() {
            batch.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            for request in requests.by_ref().take(BATCH) {
                self.sequence = self.sequence.wrapping_add(1);
                request.append(flags, self.sequence, &mut batch);
                count += 1;
            }
            self.send(&batch)?;
            let mut open = count;
            while open > 0 {
                for_each_message(self.receive()?, |header, kind, body| {
                    let offset = header.sequence_number().wrapping_sub(first);
                    // Anything else belongs to a request that was given up before.
                    if (offset as usize) < count && open > 0 {
                        open -= 1;
                        handle(position + offset as usize, answer(kind, body));
                    }
                })?;
            }
            position += count;
        }
        Ok(())
    }

    /// Asks for a whole table. Hands its messages out twice if the table changed meanwhile.
    fn dump(
        &mut self,
        what: &'static str,
        request: &request::Request,
        mut handle: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        for _ in 0..DUMPS_MAX {
            self.sequence = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            request.append(NLM_F_REQUEST | NLM_F_DUMP, self.sequence, &mut bytes);
            self.send(&bytes)?;
            if self.dump_once(what, &mut handle)? {
                return Ok(());
            }
        }
        Err(NetlinkError::Restless { what })
    }

    /// Reads one dump to its end; false if the kernel says that it is inconsistent.
    fn dump_once(
        &mut self,
        what: &'static str,
        handle: &mut impl FnMut(u16, &[u8]),
    ) -> Result<bool, NetlinkError> {
        let sequence = self.sequence;
        let mut consistent = true;
        let mut end = None;
        while end.is_none() {
            for_each_message(self.receive()?, |header, kind, body| {
                if header.sequence_number() != sequence {
                    return;
                }
                consistent &= header.flags() & NLM_F_DUMP_INTR == 0;
                match kind {
                    NLMSG_DONE | NLMSG_ERROR => end = Some(status(body)),
                    _ => handle(kind, body),
                }
            })?;
        }
        match end {
            Some(errno) if errno != 0 => Err(NetlinkError::Refused {
                what,
                source: io::Error::from_raw_os_error(errno),
            }),
            _ => Ok(consistent),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let talk = |source| NetlinkError::Talk {
            operation: "ask",
            source,
        };
        self.socket
            .send_to(bytes, &SocketAddr::new(0, 0), 0)
            .map(drop)
            .map_err(talk)
    }

    fn receive(&mut self) -> Result<&[u8], NetlinkError> {
        let talk = |source| NetlinkError::Talk {
            operation: "hear from",
            source,
        };
        receive(&self.socket, &mut self.buffer, 0).map_err(talk)?;
        Ok(&self.buffer)
    }
}

fn open_socket(receive_buffer: usize) -> Result<Socket, NetlinkError> {
    let open = |operation| move |source| NetlinkError::Open { operation, source };
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(open("socket"))?;
    socket.bind_auto().map_err(open("bind"))?;
    set_receive_buffer(&socket, receive_buffer).map_err(open("SO_RCVBUF"))?;
    Ok(socket)
}

/// Reads one datagram; retries when a signal came between.
fn receive(socket: &Socket, buffer: &mut Vec<u8>, flags: i32) -> io::Result<()> {
    loop {
        buffer.clear();
        // A vector offers 64 bytes at least, and grows: so its capacity stands for the limit.
        buffer.reserve(DATAGRAM_MAX);
        match socket.recv(buffer, flags | libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "datagram too long",
                ));
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Walks the netlink messages of a datagram.
fn for_each_message(
    mut datagram: &[u8],
    mut handle: impl FnMut(&NetlinkBuffer<&[u8]>, u16, &[u8]),
) -> Result<(), NetlinkError> {
    while !datagram.is_empty() {
        let header =
            NetlinkBuffer::new_checked(datagram).map_err(|error| NetlinkError::Malformed {
                what: "anything",
                reason: error.to_string(),
            })?;
        handle(&header, header.message_type(), header.payload());
        let length = (header.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn answer(kind: u16, body: &[u8]) -> Answer<'_> {
    if kind == NLMSG_ERROR {
        Answer::Status(status(body))
    } else {
        Answer::Message(body)
    }
}

/// The errno in an NLMSG_ERROR or NLMSG_DONE: there it is negative, or absent for success.
fn status(body: &[u8]) -> i32 {
    body.first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code).wrapping_neg())
}

fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    // The first goes beyond net.core.rmem_max and takes CAP_NET_ADMIN; the second is the plain
    // way, and whatever it gives is enough for small tables.
    let bytes = bytes as libc::c_int;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

fn set_receive_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_usec: 0,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, timeout)
}
