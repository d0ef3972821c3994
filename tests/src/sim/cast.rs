//! Who takes part in a run: the destinations of a scenario, how they are reached, and what of that
//! the engine and the stats keeper are told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use pinger::destination::{Destination, Protocol, Ttl};
use pinger::engine::Heads;
use pinger::packet::ETHERNET_LEN;
use pinger::route::{Head, LinkPlace};
use pinger::stats::FlowFacts;

use super::answer::Way;
use super::scenario::{Group, Transport};

/// Our ports of UDP and TCP, and those that are probed.
pub(super) const PORTS_UDP: [u16; 2] = [40_000, 7];
pub(super) const PORTS_TCP: [u16; 2] = [40_001, 443];

/// The MAC address of a next hop.
pub(super) fn mac(hop: u32) -> [u8; 6] {
    let [a, b, c, d] = hop.to_be_bytes();
    [2, 1, a, b, c, d]
}

/// The destinations of all groups, and the next hop of each and the way to it.
pub(super) fn destinations(groups: &[Group]) -> (Vec<Destination>, Vec<u32>, Vec<Way>) {
    let mut destinations = Vec::new();
    let mut hops = Vec::new();
    let mut ways = Vec::new();
    for group in groups {
        for _ in 0..group.count {
            destinations.push(destination(group, destinations.len() as u32));
            hops.push(group.hop);
            ways.push(Way {
                routers: group.routers,
                is_closed: group.closed,
            });
        }
    }
    (destinations, hops, ways)
}

fn destination(group: &Group, number: u32) -> Destination {
    let address = if group.v6 {
        IpAddr::from(Ipv6Addr::from_bits((0xfd << 120) | u128::from(number)))
    } else {
        IpAddr::from(Ipv4Addr::from_bits((10 << 24) | number))
    };
    let protocol = Protocol::of(group.protocol.into(), address);
    let is_tcp = group.protocol == Transport::Tcp;
    let data = group.data.as_deref().filter(|_| !is_tcp);
    let data_len = data.map_or(0, str::len) as u16;
    Destination {
        id: u64::from(number),
        name: address.to_string(),
        address,
        protocol,
        interval_ns: group.interval_us * 1000,
        timeout_ns: group.timeout_us * 1000,
        size: if is_tcp { 0 } else { group.size.max(data_len) },
        data: data.map(|data| data.as_bytes().into()),
        port: match group.protocol {
            Transport::Icmp => 0,
            Transport::Udp => PORTS_UDP[1],
            Transport::Tcp => PORTS_TCP[1],
        },
        ttl: NonZeroU8::new(group.trace).map_or(Ttl::Fixed(64), Ttl::Trace),
        ..Destination::echo(address)
    }
}

pub(super) fn facts(destinations: &[Destination], identifiers: &[u16]) -> Vec<FlowFacts> {
    let facts = |(destination, identifier): (&Destination, &u16)| FlowFacts {
        identifier: *identifier,
        source: source(destination.address),
    };
    destinations.iter().zip(identifiers).map(facts).collect()
}

/// For each destination its position among those of its interval, timeout and hops, and their
/// number.
pub(super) fn places(destinations: &[Destination]) -> Vec<(u64, u64)> {
    let key = |d: &Destination| (d.interval_ns, d.timeout_ns, d.ttl.hops().max(1));
    let mut cycles: HashMap<_, u64> = HashMap::new();
    let mut positions = Vec::with_capacity(destinations.len());
    for destination in destinations {
        let len = cycles.entry(key(destination)).or_default();
        positions.push(*len);
        *len += 1;
    }
    let placed = destinations.iter().zip(positions);
    placed
        .map(|(d, position)| (position, cycles[&key(d)]))
        .collect()
}

/// The head of frames to a next hop.
pub(super) fn head(hop: u32, v6: bool) -> Head {
    let mut bytes = [0; ETHERNET_LEN];
    bytes[..6].copy_from_slice(&mac(hop));
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[12..].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    Head {
        bytes,
        link: LinkPlace(0),
    }
}

/// Each hop has two headers, one a family.
pub(super) fn head_index(hop: u32, v6: bool) -> u32 {
    hop * 2 + u32::from(v6)
}

pub(super) fn heads(destinations: &[Destination], hops: &[u32]) -> Heads {
    let count = hops.iter().max().map_or(0, |hop| hop + 1);
    Heads {
        hops: (0..count)
            .flat_map(|h| [Some(head(h, false)), Some(head(h, true))])
            .collect(),
        flows: destinations
            .iter()
            .zip(hops)
            .map(|(d, hop)| Some(head_index(*hop, d.address.is_ipv6())))
            .collect(),
    }
}

pub(super) fn source(to: IpAddr) -> IpAddr {
    if to.is_ipv4() {
        IpAddr::from([192, 0, 2, 1])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
    }
}
