//! Requests to the kernel, as bytes. Touches no socket.

use netlink_packet_core::{Emitable, NetlinkHeader};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as KernelState,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use crate::route::{Ask, AskHow, RouteQuery};

/// The bits of a type of service that routing rules see; those of ECN are refused.
const DSCP_MASK: u8 = 0xfc;
/// Bytes of `struct nlmsghdr`.
const NETLINK_HEADER_LEN: usize = 16;

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

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use crate::destination::Protocol;

    fn bytes(request: &Request, flags: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        request.append(flags, 7, &mut bytes);
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
}
