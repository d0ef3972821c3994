//! Which identifier each flow puts on the wire: ICMP's, or a local port.

use std::collections::HashMap;
use std::hash::Hasher;
use std::net::IpAddr;

use pinger_ebpf::layout::{PROTOCOL_TCP, PROTOCOL_UDP};
use siphasher::sip::SipHasher13;

use super::{Destination, Protocol, wire_address};

/// The most ICMP flows that one address can have: the identifiers that one source leaves to
/// chance.
pub const FLOWS_PER_ADDRESS_MAX: u16 = 1 << RANDOM_BITS;

/// Lower bits of an ICMP identifier, drawn anew in each run; the four above are the source's.
const RANDOM_BITS: u32 = 12;

/// Local ports that are ours for the run: whoever made this list keeps them from being used by
/// anybody else on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalPorts {
    /// For UDP over IPv4 and IPv6, distinct.
    pub udp: Vec<u16>,
    /// For TCP over IPv4 and IPv6, distinct.
    pub tcp: Vec<u16>,
}

/// How many ports [`LocalPorts`] must hold for some destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortsNeeded {
    /// For UDP.
    pub udp: usize,
    /// For TCP.
    pub tcp: usize,
}

/// How many local ports tell the flows of these destinations apart: as many as there are flows
/// to one port of one address, which is one a protocol unless destinations are listed twice.
pub fn ports_needed(destinations: &[Destination]) -> PortsNeeded {
    let mut needed = PortsNeeded::default();
    let mut turns = Turns::default();
    for destination in destinations {
        let turn = turns.take(destination);
        let most = match destination.protocol.number() {
            PROTOCOL_UDP => &mut needed.udp,
            PROTOCOL_TCP => &mut needed.tcp,
            _ => continue,
        };
        *most = (*most).max(turn + 1);
    }
    needed
}

/// One identifier a destination, in the list's order, constant for the whole run.
///
/// UDP and TCP: a local port. Flows to different ports or addresses share one.
///
/// ICMP: the upper four bits are the lower four of `source_id`, so that sources of neighbouring
/// ids that share an address behind a NAT do not meet. The rest follow `entropy`, which must be
/// drawn anew for each run, so that answers to an earlier run are not taken for ours. The flow key
/// holds the address, so destinations of different addresses may share an identifier; those of
/// one address never do, up to [`FLOWS_PER_ADDRESS_MAX`] of them.
///
/// # Panics
///
/// If `ports` holds fewer than [`ports_needed`].
pub fn identifiers(
    source_id: u32,
    entropy: u64,
    ports: &LocalPorts,
    destinations: &[Destination],
) -> Vec<u16> {
    let upper = ((source_id & 0xf) as u16) << RANDOM_BITS;
    let mut turns = Turns::default();
    let identifier = |destination: &Destination| {
        let turn = turns.take(destination);
        match destination.protocol.number() {
            PROTOCOL_UDP => ports.udp[turn],
            PROTOCOL_TCP => ports.tcp[turn],
            _ => {
                let mut hasher = SipHasher13::new_with_keys(entropy, 0);
                hasher.write(&wire_address(destination.address));
                hasher.write(&[destination.protocol as u8]);
                // Counting on from one random start is unique without a search.
                let lower = (hasher.finish() as u16).wrapping_add(turn as u16);
                upper | (lower % FLOWS_PER_ADDRESS_MAX)
            }
        }
    };
    destinations.iter().map(identifier).collect()
}

/// Counts destinations that only an identifier can tell apart.
#[derive(Default)]
struct Turns(HashMap<(Protocol, IpAddr, u16), usize>);

impl Turns {
    /// How many equal ones came before.
    fn take(&mut self, destination: &Destination) -> usize {
        let key = (destination.protocol, destination.address, destination.port);
        let next = self.0.entry(key).or_default();
        *next += 1;
        *next - 1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::Protocol;
    use super::*;

    const NONE: LocalPorts = LocalPorts {
        udp: Vec::new(),
        tcp: Vec::new(),
    };

    fn destination(address: IpAddr) -> Destination {
        Destination {
            id: 1,
            name: address.to_string(),
            address,
            protocol: Protocol::echo(address),
            interval_ns: 1,
            timeout_ns: 1,
            size: 56,
            ..Destination::echo(address)
        }
    }

    proptest! {
        /// Few distinct addresses, so that many destinations share one.
        #[test]
        fn flows_of_one_address_never_share_an_identifier(
            source_id in any::<u32>(),
            entropy in any::<u64>(),
            hosts in prop::collection::vec((0..4_u8, any::<bool>()), 0..300),
        ) {
            let destinations: Vec<_> = hosts
                .iter()
                .map(|&(host, v6)| destination(if v6 {
                    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)])
                } else {
                    IpAddr::from([192, 0, 2, host])
                }))
                .collect();
            let identifiers = identifiers(source_id, entropy, &NONE, &destinations);
            prop_assert_eq!(identifiers.len(), destinations.len());
            let mut flows = HashSet::new();
            for (destination, identifier) in destinations.iter().zip(&identifiers) {
                prop_assert_eq!(u32::from(identifier >> 12), source_id & 0xf);
                prop_assert!(flows.insert((destination.address, *identifier)));
            }
        }
    }

    #[test]
    fn every_identifier_of_a_source_can_be_used_by_one_address() {
        let address = "192.0.2.1".parse().unwrap();
        let destinations = vec![destination(address); usize::from(FLOWS_PER_ADDRESS_MAX)];
        let distinct: HashSet<_> = identifiers(3, 99, &NONE, &destinations)
            .into_iter()
            .collect();
        assert_eq!(distinct, (0x3000..=0x3fff).collect());
    }

    #[test]
    fn another_run_draws_other_identifiers() {
        let destinations: Vec<_> = (0..=255)
            .map(|host| destination(IpAddr::from([192, 0, 2, host])))
            .collect();
        let first = identifiers(0, 1, &NONE, &destinations);
        let second = identifiers(0, 2, &NONE, &destinations);
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{same} of 256 identifiers did not change");
        assert_eq!(first, identifiers(0, 1, &NONE, &destinations));
        let distinct: HashSet<_> = first.iter().collect();
        assert!(
            distinct.len() > 200,
            "only {} distinct identifiers",
            distinct.len()
        );
    }

    /// Protocols, hosts and ports, few of each, so that flows often differ in one of them only.
    fn ports_are_shared_only_by_flows_that_differ(
        flows: &[(Protocol, u8, u16)],
    ) -> Result<(), TestCaseError> {
        let destinations: Vec<_> = flows
            .iter()
            .map(|&(protocol, host, port)| Destination {
                protocol,
                port,
                ..destination(IpAddr::from([192, 0, 2, host]))
            })
            .collect();
        let needed = ports_needed(&destinations);
        let ports = LocalPorts {
            udp: (40_000..).take(needed.udp).collect(),
            tcp: (50_000..).take(needed.tcp).collect(),
        };
        let identifiers = identifiers(0, 0, &ports, &destinations);
        let mut seen = HashSet::new();
        let mut used = HashSet::new();
        for (flow, identifier) in flows.iter().zip(&identifiers) {
            let of_protocol = if flow.0 == Protocol::Udp {
                &ports.udp
            } else {
                &ports.tcp
            };
            prop_assert!(of_protocol.contains(identifier));
            prop_assert!(seen.insert((flow, *identifier)));
            used.insert(*identifier);
        }
        // None is asked for that is not needed.
        prop_assert_eq!(used.len(), needed.udp + needed.tcp);
        Ok(())
    }

    proptest! {
        #[test]
        fn local_ports_tell_equal_flows_apart(
            flows in prop::collection::vec(
                (prop_oneof![Just(Protocol::Udp), Just(Protocol::Tcp)], 0..3_u8, 1..3_u16),
                0..40,
            ),
        ) {
            ports_are_shared_only_by_flows_that_differ(&flows)?;
        }
    }

    #[test]
    fn one_port_a_protocol_serves_distinct_destinations() {
        let each = |(protocol, host)| Destination {
            protocol,
            port: 7,
            ..destination(IpAddr::from([192, 0, 2, host]))
        };
        let all = [Protocol::Udp, Protocol::Tcp];
        let destinations: Vec<_> = (0..100)
            .flat_map(|host| all.map(|protocol| each((protocol, host))))
            .collect();
        let one_each = PortsNeeded { udp: 1, tcp: 1 };
        assert_eq!(ports_needed(&destinations), one_each);
        assert_eq!(
            ports_needed(&[destination(IpAddr::from([192, 0, 2, 1]))]),
            PortsNeeded::default()
        );
    }
}
