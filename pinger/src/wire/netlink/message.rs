//! Requests as bytes, and answers from bytes. Touches no socket.
//!
//! Only the attributes that matter are read, one by one, so that neither an exotic interface nor
//! a newer kernel can spoil an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{Emitable, NetlinkHeader, NlasIterator};
use netlink_packet_route::address::{AddressHeader, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState as KernelState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, link::LinkMessage};

use crate::route::{Ask, AskHow, Fact, Link, Mac, NeighbourState, NoRoute, Route, RouteQuery};

/// `NDA_FLAGS_EXT` of `include/uapi/linux/neighbour.h`: each of its flags (managed by the kernel,
/// locked, validated by a control plane) says that someone keeps the neighbour.
const NDA_FLAGS_EXT: u16 = 15;
/// `IFA_FLAGS` of `include/uapi/linux/if_addr.h`.
const IFA_FLAGS: u16 = 8;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER_LEN: usize = 8;
/// The bits of a type of service that routing rules see; those of ECN are refused.
const DSCP_MASK: u8 = 0xfc;
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
    Address(AddressMessage),
}

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

impl Request {
    /// Appends the request as the kernel reads it.
    pub(super) fn append(&self, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
        let body: &dyn Emitable = match &self.body {
            Body::Link(message) => message,
            Body::Route(message) => message,
            Body::Neighbour(message) => message,
            Body::Address(message) => message,
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

/// Asks for the addresses of all interfaces.
pub(super) fn dump_addresses() -> Request {
    Request {
        kind: libc::RTM_GETADDR,
        body: Body::Address(AddressMessage::default()),
    }
}

/// Asks how the kernel would send this packet.
pub(super) fn get_route(query: &RouteQuery) -> Request {
    let prefix_len = if query.to.is_ipv6() { 128 } else { 32 };
    let mut message = RouteMessage::default();
    message.header.address_family = family(query.to.is_ipv6());
    message.header.tos = query.traffic_class & DSCP_MASK;
    message.header.destination_prefix_length = prefix_len;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(query.to.into()));
    if let Some(source) = query.source {
        message.header.source_prefix_length = prefix_len;
        attributes.push(RouteAttribute::Source(source.into()));
    }
    attributes.push(RouteAttribute::IpProto(query.protocol.number()));
    if query.protocol.has_port() {
        attributes.push(RouteAttribute::Dport(query.port));
    }
    attributes.extend(query.link.map(RouteAttribute::Oif));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Protocol;

    fn bytes(request: &Request, flags: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        request.append(flags, 7, &mut bytes);
        bytes
    }

    /// Attributes as the kernel lays them out: length, type, value, padding.
    fn attributes(list: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, value) in list {
            bytes.extend((value.len() as u16 + 4).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_these_bytes() {
        let query = RouteQuery {
            link: Some(3),
            ..IpAddr::from([192, 0, 2, 10]).into()
        };
        let expected = [
            [52, 0, 0, 0, 26, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0].as_slice(),
            &[2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 1, 0, 192, 0, 2, 10],
            &[5, 0, 27, 0, 1, 0, 0, 0],
            &[8, 0, 4, 0, 3, 0, 0, 0],
        ];
        assert_eq!(bytes(&get_route(&query), 1), expected.concat());

        let query = RouteQuery {
            protocol: Protocol::Tcp,
            port: 443,
            traffic_class: 0xbb,
            source: Some(IpAddr::from([192, 0, 2, 99])),
            link: None,
            ..query
        };
        let expected = [
            [60, 0, 0, 0, 26, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0].as_slice(),
            &[2, 32, 32, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 1, 0, 192, 0, 2, 10],
            &[8, 0, 2, 0, 192, 0, 2, 99],
            &[5, 0, 27, 0, 6, 0, 0, 0],
            // The port is in network byte order.
            &[6, 0, 29, 0, 1, 0xbb, 0, 0],
        ];
        assert_eq!(bytes(&get_route(&query), 1), expected.concat());

        let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        let header = [48, 0, 0, 0, 28, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let destination = [
            20, 0, 1, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ];
        for (how, neighbour) in [
            (AskHow::Create, [10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0]),
            (AskHow::Resolve, [10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0]),
            (AskHow::Verify, [10, 0, 0, 0, 9, 0, 0, 0, 0x10, 0, 0, 0]),
        ] {
            let expected = [header.as_slice(), &neighbour, &destination].concat();
            assert_eq!(
                bytes(
                    &solicit(&Ask {
                        link: 9,
                        address,
                        how
                    }),
                    1
                ),
                expected,
                "{how:?}"
            );
        }
    }

    #[test]
    fn routes_are_read_from_bytes_and_cut_ones_do_no_harm() {
        let address = IpAddr::from([198, 51, 100, 7]);
        let header = |kind| [2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        let metrics = attributes(&[(3, &[1, 0, 0, 0]), (RTAX_MTU, &1400_u32.to_ne_bytes())]);
        let list: [(u16, &[u8]); 5] = [
            (libc::RTA_DST, &[198, 51, 100, 7]),
            (libc::RTA_OIF, &3_u32.to_ne_bytes()),
            (libc::RTA_GATEWAY, &[192, 0, 2, 1]),
            (libc::RTA_PREFSRC, &[192, 0, 2, 99]),
            (libc::RTA_METRICS, &metrics),
        ];
        let body = [header(libc::RTN_UNICAST).to_vec(), attributes(&list)].concat();
        let next_hop = IpAddr::from([192, 0, 2, 1]);
        let expected = Route {
            link: 3,
            source: IpAddr::from([192, 0, 2, 99]),
            next_hop,
            mtu: 1400,
        };
        let query = RouteQuery::from(address);
        assert_eq!(route(&query, &body), Ok(expected));
        let source = IpAddr::from([192, 0, 2, 98]);
        let asked = RouteQuery {
            source: Some(source),
            ..query
        };
        assert_eq!(route(&asked, &body), Ok(Route { source, ..expected }));
        for end in 0..body.len() {
            let _ = route(&query, &body[..end]);
        }
        let on_link = [header(libc::RTN_UNICAST).to_vec(), attributes(&list[..2])].concat();
        assert_eq!(route(&query, &on_link), Err(NoRoute::NoSource(address)));
        assert_eq!(
            route(&query, &header(libc::RTN_LOCAL)),
            Err(NoRoute::Local(address))
        );
    }

    #[test]
    fn neighbours_are_usable_or_not_by_their_state() {
        let address = IpAddr::from([192, 0, 2, 10]);
        let mac = [2, 0, 0, 0, 0, 5];
        let state = |kind, state: u16, flags, extended: u32| {
            let mut body = vec![libc::AF_INET as u8, 0, 0, 0, 3, 0, 0, 0];
            body.extend(state.to_ne_bytes());
            body.extend([flags, libc::RTN_UNICAST]);
            let with_mac = state & (libc::NUD_INCOMPLETE | libc::NUD_FAILED) == 0;
            let mut list: Vec<(u16, &[u8])> = vec![(libc::NDA_DST, &[192, 0, 2, 10])];
            list.extend(with_mac.then_some((libc::NDA_LLADDR, mac.as_slice())));
            let extended = extended.to_ne_bytes();
            list.push((NDA_FLAGS_EXT, &extended));
            body.extend(attributes(&list));
            match neighbour(kind, &body)? {
                Fact::Neighbour {
                    link: 3,
                    address: of,
                    state,
                } if of == address => Some(state),
                other => panic!("{other:?}"),
            }
        };
        let usable = |fixed| {
            Some(NeighbourState::Usable {
                mac: Mac(mac),
                fixed,
            })
        };
        let new = libc::RTM_NEWNEIGH;
        for free in [
            libc::NUD_REACHABLE,
            libc::NUD_STALE,
            libc::NUD_DELAY,
            libc::NUD_PROBE,
        ] {
            assert_eq!(state(new, free, 0, 0), usable(false));
            assert_eq!(state(new, free, libc::NTF_ROUTER, 0), usable(false));
            assert_eq!(
                state(new, free, 0x10, 0),
                usable(true),
                "learnt from a control plane"
            );
            assert_eq!(state(new, free, 0, 1), usable(true), "managed");
        }
        for fixed in [libc::NUD_PERMANENT, libc::NUD_NOARP] {
            assert_eq!(state(new, fixed, 0, 0), usable(true));
        }
        assert_eq!(
            state(new, libc::NUD_INCOMPLETE, 0, 0),
            Some(NeighbourState::Resolving)
        );
        assert_eq!(
            state(new, libc::NUD_FAILED, 0, 0),
            Some(NeighbourState::Failed)
        );
        assert_eq!(
            state(libc::RTM_DELNEIGH, libc::NUD_STALE, 0, 0),
            Some(NeighbourState::Gone)
        );
        assert_eq!(state(new, libc::NUD_PERMANENT, libc::NTF_PROXY, 0), None);
    }

    #[test]
    fn what_cannot_be_sent_says_whether_its_source_may_be_why() {
        let address = IpAddr::from([198, 51, 100, 7]);
        let plain = RouteQuery::from(address);
        let source_address = IpAddr::from([192, 0, 2, 98]);
        let from = RouteQuery {
            source: Some(source_address),
            ..plain
        };
        let kind = "blackhole";
        let forbidden = NoRoute::Forbidden { address, kind };
        assert_eq!(no_route(&plain, libc::EINVAL), forbidden);
        let refused = NoRoute::From {
            address,
            source_address,
        };
        assert_eq!(no_route(&from, libc::EINVAL), refused);
        assert_eq!(no_route(&from, libc::ENETUNREACH), refused);
        let missing = NoRoute::Missing(address);
        assert_eq!(no_route(&plain, libc::ENETUNREACH), missing);
    }

    #[test]
    fn addresses_are_read_and_those_not_ready_are_left_out() {
        let read = |family: i32, scope: u8, list: &[(u16, &[u8])]| {
            let mut body = vec![family as u8, 24, 0, scope, 4, 0, 0, 0];
            body.extend(attributes(list));
            let found = address(libc::RTM_NEWADDR, &body);
            assert_eq!(address(libc::RTM_DELADDR, &body), None);
            found.map(|found| (found.link, found.address, found.link_local))
        };
        let (peer, own) = ([192, 0, 2, 1], [192, 0, 2, 99]);
        let v4 = [
            (libc::IFA_ADDRESS, peer.as_slice()),
            (libc::IFA_LOCAL, own.as_slice()),
        ];
        assert_eq!(read(libc::AF_INET, 0, &v4), Some((4, own.into(), false)));
        let local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        for (flags, ready) in [
            (libc::IFA_F_PERMANENT, true),
            (libc::IFA_F_TENTATIVE, false),
            (libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC, true),
            (libc::IFA_F_DADFAILED, false),
        ] {
            let flags = flags.to_ne_bytes();
            let v6 = [
                (libc::IFA_ADDRESS, local.as_slice()),
                (IFA_FLAGS, flags.as_slice()),
            ];
            let expected = ready.then(|| (4, local.into(), true));
            assert_eq!(read(libc::AF_INET6, 253, &v6), expected, "{flags:?}");
        }
    }

    #[test]
    fn links_are_read_and_only_ethernet_has_a_mac() {
        let body = |layer: u16, flags: u32| {
            let mut body = vec![0, 0];
            body.extend(layer.to_ne_bytes());
            body.extend(4_u32.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            body.extend([0; 4]);
            body.extend(attributes(&[
                (libc::IFLA_IFNAME, b"eth0\0"),
                (libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 5]),
                (libc::IFLA_MTU, &1500_u32.to_ne_bytes()),
                (9999, b"from a newer kernel"),
            ]));
            body
        };
        let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
        let read = |body: &[u8]| match link(libc::RTM_NEWLINK, body) {
            Some(Fact::Link(link)) => link,
            other => panic!("{other:?}"),
        };
        let expected = Link {
            index: 4,
            name: "eth0".into(),
            mac: Some(Mac([2, 0, 0, 0, 0, 5])),
            mtu: 1500,
            up: true,
            running: true,
            loopback: false,
        };
        assert_eq!(read(&body(libc::ARPHRD_ETHER, up)), expected);
        let tunnel = Link {
            mac: None,
            ..expected.clone()
        };
        assert_eq!(read(&body(libc::ARPHRD_NONE, up)), tunnel);
        let point_to_point = up | libc::IFF_POINTOPOINT as u32;
        assert_eq!(read(&body(libc::ARPHRD_ETHER, point_to_point)), tunnel);
        let down = Link {
            up: false,
            running: false,
            ..expected
        };
        assert_eq!(
            read(&body(libc::ARPHRD_ETHER, libc::IFF_RUNNING as u32)),
            down
        );
        let gone = link(libc::RTM_DELLINK, &body(libc::ARPHRD_ETHER, 0));
        assert_eq!(gone, Some(Fact::LinkGone { index: 4 }));
    }
}
