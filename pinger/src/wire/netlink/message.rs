//! What the kernel says, answers and announcements alike, from bytes. Touches no socket.
//!
//! Only the attributes that matter are read, one by one, so that neither an exotic interface nor
//! a newer kernel can spoil an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressHeader, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{
    NeighbourFlags, NeighbourHeader, NeighbourState as KernelState,
};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteType};

use crate::route::{Fact, Link, Mac, NeighbourState, NoRoute, Route, RouteQuery};

/// `NDA_FLAGS_EXT` of `include/uapi/linux/neighbour.h`: each of its flags (managed by the kernel,
/// locked, validated by a control plane) says that someone keeps the neighbour.
const NDA_FLAGS_EXT: u16 = 15;
/// `IFA_FLAGS` of `include/uapi/linux/if_addr.h`.
const IFA_FLAGS: u16 = 8;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER_LEN: usize = 8;
/// Bytes of `struct ifinfomsg`.
const LINK_HEADER_LEN: usize = 16;
/// Bytes of `struct rtmsg` and of `struct ndmsg`.
const ROUTE_HEADER_LEN: usize = 12;
/// `RTAX_MTU` of `include/uapi/linux/rtnetlink.h`.
const RTAX_MTU: u16 = 2;

/// An address of an interface, ready to send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// It is valid on that link only.
    pub link_local: bool,
}

/// Why no route needs to be asked for: the address is not one host's, wherever it leads.
pub(super) fn not_one_host(address: IpAddr) -> Option<NoRoute> {
    if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(NoRoute::Broadcast(address));
    }
    let many = address.is_multicast() || address.is_unspecified();
    many.then_some(NoRoute::NotUnicast(address))
}

/// The route in an answer to [`super::request::get_route`].
pub(super) fn route(query: &RouteQuery, body: &[u8]) -> Result<Route, NoRoute> {
    let address = query.to;
    let Ok(header) = RouteHeader::parse(body) else {
        return Err(NoRoute::Refused(libc::EBADMSG));
    };
    match header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast => return Err(NoRoute::Local(address)),
        RouteType::Broadcast => return Err(NoRoute::Broadcast(address)),
        RouteType::BlackHole => return Err(no_route(query, libc::EINVAL)),
        RouteType::Unreachable => return Err(no_route(query, libc::EHOSTUNREACH)),
        RouteType::Prohibit => return Err(no_route(query, libc::EACCES)),
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
    let source = source.filter(|source: &IpAddr| !source.is_unspecified());
    // Of an IPv6 route the kernel names the address that it would prefer, whatever was asked for.
    let source = query.source.or(source);
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
pub(super) fn no_route(query: &RouteQuery, errno: i32) -> NoRoute {
    let address = query.to;
    let forbidden = |kind| NoRoute::Forbidden { address, kind };
    match (errno, query.source) {
        // A source that is not this host's is refused in the same way, by the one number or the
        // other (`ip_route_output_key_hash_rcu` in `net/ipv4/route.c`, by version).
        (libc::EINVAL | libc::ENETUNREACH, Some(source_address)) => NoRoute::From {
            address,
            source_address,
        },
        (libc::ENETUNREACH, None) => NoRoute::Missing(address),
        (libc::EHOSTUNREACH, _) => forbidden("unreachable"),
        (libc::EACCES, _) => forbidden("prohibit"),
        (libc::EINVAL, None) => forbidden("blackhole"),
        (errno, _) => NoRoute::Refused(errno),
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

/// What an RTM_NEWADDR says of an IPv4 or IPv6 address that can be sent from.
pub(super) fn address(kind: u16, body: &[u8]) -> Option<InterfaceAddress> {
    const UNREADY: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;
    let header = AddressHeader::parse(body).ok()?;
    if kind != libc::RTM_NEWADDR {
        return None;
    }
    let (mut local, mut address, mut flags) = (None, None, 0);
    for_each_attribute(body, ADDRESS_HEADER_LEN, |kind, value| match kind {
        libc::IFA_LOCAL => local = ip(value),
        // Of a point-to-point interface it is the peer's, and IFA_LOCAL ours.
        libc::IFA_ADDRESS => address = ip(value),
        IFA_FLAGS => flags = number(value).unwrap_or(0),
        _ => {}
    });
    // Optimistic addresses are tentative, too, and may be used (RFC 4429).
    let ready = flags & UNREADY == 0 || flags & libc::IFA_F_OPTIMISTIC != 0;
    Some(InterfaceAddress {
        link: header.index,
        address: local.or(address).filter(|_| ready)?,
        link_local: header.scope == AddressScope::Link,
    })
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

#[cfg(test)]
mod tests;
