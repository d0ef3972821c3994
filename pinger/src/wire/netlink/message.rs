//! Requests as bytes, and answers from bytes. Touches no socket.
//!
//! Only the attributes that matter are read, one by one, so that neither an exotic interface nor
//! a newer kernel can spoil an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{Emitable, NetlinkHeader, NlasIterator};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState as KernelState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, link::LinkMessage};

use crate::destination::Protocol;
use crate::route::{Ask, AskHow, Fact, Link, Mac, NeighbourState, NoRoute, Route};

/// `NDA_FLAGS_EXT` of `include/uapi/linux/neighbour.h`: each of its flags (managed by the kernel,
/// locked, validated by a control plane) says that someone keeps the neighbour.
const NDA_FLAGS_EXT: u16 = 15;
/// Bytes of `struct ifinfomsg`.
const LINK_HEADER_LEN: usize = 16;
/// Bytes of `struct rtmsg` and of `struct ndmsg`.
const ROUTE_HEADER_LEN: usize = 12;
/// Bytes of `struct nlmsghdr`.
const NETLINK_HEADER_LEN: usize = 16;
/// `RTAX_MTU` of `include/uapi/linux/rtnetlink.h`.
const RTAX_MTU: u16 = 2;

/// A request without its netlink header.
pub(super) struct Request {
    kind: u16,
    body: Body,
}

enum Body {
    Link(LinkMessage),
    Route(RouteMessage),
    Neighbour(NeighbourMessage),
}

impl Request {
    /// Appends the request as the kernel reads it.
    pub(super) fn append(&self, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
        let body: &dyn Emitable = match &self.body {
            Body::Link(message) => message,
            Body::Route(message) => message,
            Body::Neighbour(message) => message,
        };
        let length = NETLINK_HEADER_LEN + body.buffer_len();
        let mut header = NetlinkHeader::default();
        header.length = length as u32;
        header.message_type = self.kind;
        header.flags = flags;
        header.sequence_number = sequence;
        let start = bytes.len();
        bytes.resize(start + length.next_multiple_of(4), 0);
        let (head, rest) = bytes[start..].split_at_mut(NETLINK_HEADER_LEN);
        header.emit(head);
        body.emit(&mut rest[..length - NETLINK_HEADER_LEN]);
    }
}

/// Asks for all interfaces.
pub(super) fn dump_links() -> Request {
    Request {
        kind: libc::RTM_GETLINK,
        body: Body::Link(LinkMessage::default()),
    }
}

/// Asks for the neighbours on an interface.
pub(super) fn dump_neighbours(link: u32, ipv6: bool) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ipv6);
    message.attributes.push(NeighbourAttribute::IfIndex(link));
    Request {
        kind: libc::RTM_GETNEIGH,
        body: Body::Neighbour(message),
    }
}

/// Asks how the kernel would send an echo request to `address`.
pub(super) fn get_route(address: IpAddr, oif: Option<u32>) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address.is_ipv6());
    message.header.destination_prefix_length = if address.is_ipv6() { 128 } else { 32 };
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    // Policy rules may look at the protocol.
    message
        .attributes
        .push(RouteAttribute::IpProto(Protocol::echo(address) as u8));
    message.attributes.extend(oif.map(RouteAttribute::Oif));
    Request {
        kind: libc::RTM_GETROUTE,
        body: Body::Route(message),
    }
}

/// Lets the kernel learn a neighbour's MAC, or check it.
pub(super) fn solicit(ask: &Ask) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ask.address.is_ipv6());
    message.header.ifindex = ask.link;
    match ask.how {
        AskHow::Create | AskHow::Resolve => message.header.flags = NeighbourFlags::Use,
        // From PROBE the kernel asks the old MAC three times, a second apart, then gives it up.
        AskHow::Verify => message.header.state = KernelState::Probe,
    }
    message
        .attributes
        .push(NeighbourAttribute::Destination(ask.address.into()));
    Request {
        kind: libc::RTM_NEWNEIGH,
        body: Body::Neighbour(message),
    }
}

/// Why no route needs to be asked for: the address is not one host's, wherever it leads.
pub(super) fn not_one_host(address: IpAddr) -> Option<NoRoute> {
    if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(NoRoute::Broadcast(address));
    }
    let many = address.is_multicast() || address.is_unspecified();
    many.then_some(NoRoute::NotUnicast(address))
}

/// The route in an answer to [`get_route`].
pub(super) fn route(address: IpAddr, body: &[u8]) -> Result<Route, NoRoute> {
    let Ok(header) = RouteHeader::parse(body) else {
        return Err(NoRoute::Refused(libc::EBADMSG));
    };
    match header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast => return Err(NoRoute::Local(address)),
        RouteType::Broadcast => return Err(NoRoute::Broadcast(address)),
        RouteType::BlackHole => return Err(no_route(address, libc::EINVAL)),
        RouteType::Unreachable => return Err(no_route(address, libc::EHOSTUNREACH)),
        RouteType::Prohibit => return Err(no_route(address, libc::EACCES)),
        _ => return Err(NoRoute::Missing(address)),
    }
    let (mut link, mut source, mut next_hop, mut mtu) = (None, None, address, 0);
    for_each_attribute(body, ROUTE_HEADER_LEN, |kind, value| match kind {
        libc::RTA_OIF => link = number(value),
        libc::RTA_PREFSRC => source = ip(value),
        libc::RTA_GATEWAY => next_hop = ip(value).unwrap_or(address),
        // struct rtvia: two bytes of family, then the address.
        libc::RTA_VIA => next_hop = value.get(2..).and_then(ip).unwrap_or(address),
        libc::RTA_METRICS => mtu = route_mtu(value),
        _ => {}
    });
    let link = link.ok_or(NoRoute::Missing(address))?;
    let source = source.filter(|source| !source.is_unspecified());
    let source = source.ok_or(NoRoute::NoSource(address))?;
    Ok(Route {
        link,
        source,
        next_hop,
        mtu,
    })
}

/// What an errno in place of a route means: `fib_props` in `net/ipv4/fib_semantics.c` and
/// `ip6_rt_init_dst_reject` in `net/ipv6/route.c` give each kind of route its own.
pub(super) fn no_route(address: IpAddr, errno: i32) -> NoRoute {
    let forbidden = |kind| NoRoute::Forbidden { address, kind };
    match errno {
        libc::ENETUNREACH => NoRoute::Missing(address),
        libc::EHOSTUNREACH => forbidden("unreachable"),
        libc::EACCES => forbidden("prohibit"),
        libc::EINVAL => forbidden("blackhole"),
        errno => NoRoute::Refused(errno),
    }
}

/// The destination prefix of a route that was announced, if it says one.
pub(super) fn changed_prefix(body: &[u8]) -> Option<(IpAddr, u8)> {
    let header = RouteHeader::parse(body).ok()?;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut prefix = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    for_each_attribute(body, ROUTE_HEADER_LEN, |kind, value| {
        if kind == libc::RTA_DST {
            prefix = ip(value).unwrap_or(prefix);
        }
    });
    Some((prefix, header.destination_prefix_length))
}

/// What an RTM_NEWLINK or RTM_DELLINK says.
pub(super) fn link(kind: u16, body: &[u8]) -> Option<Fact> {
    let header = LinkHeader::parse(body).ok()?;
    // Bridges announce their ports' settings in the same kind of message.
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let index = header.index;
    if kind == libc::RTM_DELLINK {
        return Some(Fact::LinkGone { index });
    }
    let (mut name, mut mac, mut mtu) = (None, None, 0);
    for_each_attribute(body, LINK_HEADER_LEN, |kind, value| match kind {
        libc::IFLA_IFNAME => name = text(value),
        libc::IFLA_ADDRESS => mac = Mac::from_bytes(value),
        libc::IFLA_MTU => mtu = number(value).unwrap_or(0),
        _ => {}
    });
    let ethernet = header.link_layer_type == LinkLayerType::Ether
        && !header
            .flags
            .intersects(LinkFlags::Noarp | LinkFlags::Pointopoint);
    let up = header.flags.contains(LinkFlags::Up);
    Some(Fact::Link(Link {
        index,
        name: name?,
        mac: mac.filter(|_| ethernet),
        mtu,
        up,
        running: up && header.flags.contains(LinkFlags::Running),
        loopback: header.flags.contains(LinkFlags::Loopback),
    }))
}

/// What an RTM_NEWNEIGH or RTM_DELNEIGH says of an IPv4 or IPv6 neighbour.
pub(super) fn neighbour(kind: u16, body: &[u8]) -> Option<Fact> {
    let header = NeighbourHeader::parse(body).ok()?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        || header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let (mut address, mut mac, mut extended) = (None, None, 0);
    for_each_attribute(body, ROUTE_HEADER_LEN, |kind, value| match kind {
        libc::NDA_DST => address = ip(value),
        libc::NDA_LLADDR => mac = Mac::from_bytes(value),
        NDA_FLAGS_EXT => extended = number(value).unwrap_or(0),
        _ => {}
    });
    let kept = header.flags.contains(NeighbourFlags::ExtLearned) || extended != 0;
    let state = match (header.state, mac) {
        _ if kind == libc::RTM_DELNEIGH => NeighbourState::Gone,
        (KernelState::Permanent | KernelState::Noarp, Some(mac)) => {
            NeighbourState::Usable { mac, fixed: true }
        }
        (
            KernelState::Reachable | KernelState::Stale | KernelState::Delay | KernelState::Probe,
            Some(mac),
        ) => NeighbourState::Usable { mac, fixed: kept },
        (KernelState::Failed, _) => NeighbourState::Failed,
        _ => NeighbourState::Resolving,
    };
    Some(Fact::Neighbour {
        link: header.ifindex,
        address: address?,
        state,
    })
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

/// Hands out the attributes behind a header; stops at the first that is cut short.
fn for_each_attribute(body: &[u8], header_len: usize, mut handle: impl FnMut(u16, &[u8])) {
    let attributes = body.get(header_len..).unwrap_or_default();
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        handle(attribute.kind(), attribute.value());
    }
}

fn route_mtu(metrics: &[u8]) -> u32 {
    let mut mtu = 0;
    for_each_attribute(metrics, 0, |kind, value| {
        if kind == RTAX_MTU {
            mtu = number(value).unwrap_or(0);
        }
    });
    mtu
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn text(value: &[u8]) -> Option<String> {
    let text = value.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .ok()
}
