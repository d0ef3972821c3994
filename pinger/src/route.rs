//! Where probes leave: from what the kernel says of routes, neighbours and links to the Ethernet
//! head of each next hop.
//!
//! In: [`Fact`]s. Out: [`RouteUpdate`]s for the engine and [`Ask`]s for the edge that speaks
//! netlink. Never asks the kernel itself, and never decides where a packet goes: the kernel is
//! the authority on routes, this is only its answers in order.

mod hop;
mod table;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::destination::{FlowIndex, Protocol};

pub use hop::HopView;
pub use table::RouteTable;

/// `ETH_P_IP` of `include/uapi/linux/if_ether.h`.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The first 14 bytes of a frame: destination MAC, source MAC, ethertype.
pub type EthernetHead = [u8; 14];

/// The most interfaces that one run sends through. Each has a socket with 8 MiB of packet memory,
/// and the engine keeps one bit for each; a host with more can run a second prober.
pub const LINKS_MAX: usize = 32;

/// Position of an interface among those that a run sends through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkPlace(pub u8);

/// What frames to a next hop begin with, and where they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Their first 14 bytes.
    pub bytes: EthernetHead,
    /// The interface that they leave through.
    pub link: LinkPlace,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address in these bytes, if they are one: six, and not all zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mac: [u8; 6] = bytes.try_into().ok()?;
        (mac != [0; 6]).then_some(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, as `ip link` shows it.
    pub name: String,
    /// Its Ethernet address; `None` where it is no Ethernet interface.
    pub mac: Option<Mac>,
    /// The longest packet it carries, bytes without the Ethernet head.
    pub mtu: u32,
    /// Someone set it up.
    pub up: bool,
    /// It is up, and it has a carrier.
    pub running: bool,
    /// It is the loopback interface.
    pub loopback: bool,
}

/// The packet whose way the kernel is asked for. Its policy rules may look at any of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteQuery {
    /// Where it goes.
    pub to: IpAddr,
    /// What it is.
    pub protocol: Protocol,
    /// Destination port of UDP and TCP; zero for ICMP.
    pub port: u16,
    /// Its type of service or traffic class.
    pub traffic_class: u8,
    /// Where it comes from, if not from where the route says.
    pub source: Option<IpAddr>,
    /// Index of the interface that it must leave through, if not the route's.
    pub link: Option<u32>,
}

impl From<IpAddr> for RouteQuery {
    /// An echo request for which nothing special is wanted.
    fn from(to: IpAddr) -> Self {
        Self {
            to,
            protocol: Protocol::echo(to),
            port: 0,
            traffic_class: 0,
            source: None,
            link: None,
        }
    }
}

/// How the kernel would send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Index of the interface it leaves through.
    pub link: u32,
    /// The address it comes from.
    pub source: IpAddr,
    /// Who gets the frame: a gateway, or the destination itself.
    pub next_hop: IpAddr,
    /// The longest packet on this way, bytes without the Ethernet head; zero if only the
    /// interface limits it.
    pub mtu: u32,
}

/// Why a destination cannot be probed. Written to stand behind the destination's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum NoRoute {
    /// No route matches.
    #[error("this host has no route to it; look at `ip route get {0}`")]
    Missing(IpAddr),
    /// The address is one of this host's own.
    #[error("it is this host itself; pinger probes other hosts through an interface")]
    Local(IpAddr),
    /// A broadcast address.
    #[error("{0} is a broadcast address, and many may answer one probe; name one host")]
    Broadcast(IpAddr),
    /// A multicast or unspecified address.
    #[error("{0} is not the address of one host; name one")]
    NotUnicast(IpAddr),
    /// A `prohibit`, `unreachable` or `blackhole` route.
    #[error("a route of this host forbids it ({kind}); look at `ip route get {address}`")]
    Forbidden {
        /// The destination.
        address: IpAddr,
        /// The kind of the route, as `ip route` names it.
        kind: &'static str,
    },
    /// The source address that was asked for does not work.
    #[error(
        "the kernel does not send to it from {source_address}: there is no route, or the address \
         is not this host's any more; look at `ip route get {address} from {source_address}`"
    )]
    From {
        /// The destination.
        address: IpAddr,
        /// Where its probes were to come from.
        source_address: IpAddr,
    },
    /// The way out has no address of the destination's family.
    #[error("the interface towards {0} has no address to send from; give it one by `ip address`")]
    NoSource(IpAddr),
    /// The route leaves through an interface that this run does not send through.
    #[error(
        "its route leaves through {name}, which this run does not send through; start pinger \
         again to take it in"
    )]
    OtherLink {
        /// Name of that interface.
        name: String,
    },
    /// The kernel refused for another reason.
    #[error("the kernel refused to name a route ({})", std::io::Error::from_raw_os_error(*.0))]
    Refused(i32),
}

/// Position of a next hop in the table; many flows share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopIndex(pub u32);

/// What distinguishes next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopKey {
    /// Index of the interface.
    pub link: u32,
    /// The neighbour that gets the frames.
    pub next_hop: IpAddr,
    /// The probes are IPv6. An IPv4 route may have an IPv6 next hop (RFC 5549), so the address
    /// does not tell.
    pub ipv6: bool,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// It has a MAC: REACHABLE, STALE, DELAY, PROBE, PERMANENT or NOARP.
    Usable {
        /// The MAC.
        mac: Mac,
        /// Someone else keeps it (PERMANENT, NOARP, learnt from a control plane, or managed), so
        /// it must not be asked for: asking by netlink would strip it of that state.
        fixed: bool,
    },
    /// The kernel is asking for it: INCOMPLETE or NONE.
    Resolving,
    /// It did not answer the kernel: FAILED.
    Failed,
    /// The kernel has forgotten it.
    Gone,
}

/// One thing the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// How a destination is reached.
    Route {
        /// The destination.
        flow: FlowIndex,
        /// Its route, or why there is none.
        route: Result<Route, NoRoute>,
    },
    /// The state of a neighbour.
    Neighbour {
        /// Index of the interface it stands on.
        link: u32,
        /// Its address.
        address: IpAddr,
        /// What is known of it.
        state: NeighbourState,
    },
    /// An interface is there, and like this.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// Its index.
        index: u32,
    },
}

/// Where a flow's frames go, and from which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowRoute {
    /// The next hop, whose head the frames get.
    pub hop: HopIndex,
    /// The source address that the packets get.
    pub source: IpAddr,
}

/// A change that the engine applies, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteUpdate {
    /// The head of all frames through a hop; `None` while it has none.
    Hop {
        /// The hop.
        hop: HopIndex,
        /// Its head.
        head: Option<Head>,
    },
    /// The way of a flow; `None` while it has none.
    Flow {
        /// The flow.
        flow: FlowIndex,
        /// Its way.
        route: Option<FlowRoute>,
    },
}

/// Something to ask the kernel for: let it (re)learn a neighbour's MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Index of the interface.
    pub link: u32,
    /// The neighbour.
    pub address: IpAddr,
    /// What is known already, which decides how to ask.
    pub how: AskHow,
}

/// How to ask for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AskHow {
    /// The kernel does not know it: make an entry, unless there is one by now.
    Create,
    /// The kernel has an entry without a MAC: resolve it again.
    Resolve,
    /// The kernel has a MAC: check that it still holds.
    Verify,
}

/// Why frames through a hop can leave or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HopState {
    /// Its MAC is not known yet.
    Pending,
    /// Its MAC is known.
    Ready(Mac),
    /// It never answered the kernel's requests for its MAC.
    Unreachable,
}
