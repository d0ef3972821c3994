//! Which ICMP identifier each flow puts on the wire.

use std::collections::HashMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{Destination, wire_address};

/// The most flows that one address can have by one protocol: the identifiers that one source
/// leaves to chance.
pub const FLOWS_PER_ADDRESS_MAX: u16 = 1 << RANDOM_BITS;

/// Lower bits of an identifier, drawn anew in each run; the four above are the source's.
const RANDOM_BITS: u32 = 12;

/// One identifier a destination, in the list's order, constant for the whole run.
///
/// The upper four bits are the lower four of `source_id`, so that sources of neighbouring ids
/// that share an address behind a NAT do not meet. The rest follow `entropy`, which must be drawn
/// anew for each run, so that answers to an earlier run are not taken for ours. The flow key
/// holds the address, so destinations of different addresses may share an identifier; those of
/// one address and protocol never do, up to [`FLOWS_PER_ADDRESS_MAX`] of them.
pub fn identifiers(source_id: u32, entropy: u64, destinations: &[Destination]) -> Vec<u16> {
    let upper = ((source_id & 0xf) as u16) << RANDOM_BITS;
    let mut taken: HashMap<_, u16> = HashMap::with_capacity(destinations.len());
    destinations
        .iter()
        .map(|destination| {
            let address = wire_address(destination.address);
            let mut hasher = SipHasher13::new_with_keys(entropy, 0);
            hasher.write(&address);
            hasher.write(&[destination.protocol as u8]);
            // Counting on from one random start is unique without a search.
            let turn = taken.entry((address, destination.protocol)).or_default();
            let lower = (hasher.finish() as u16).wrapping_add(*turn) % FLOWS_PER_ADDRESS_MAX;
            *turn = turn.wrapping_add(1);
            upper | lower
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::Protocol;
    use super::*;

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
            let identifiers = identifiers(source_id, entropy, &destinations);
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
        let distinct: HashSet<_> = identifiers(3, 99, &destinations).into_iter().collect();
        assert_eq!(distinct, (0x3000..=0x3fff).collect());
    }

    #[test]
    fn another_run_draws_other_identifiers() {
        let destinations: Vec<_> = (0..=255)
            .map(|host| destination(IpAddr::from([192, 0, 2, host])))
            .collect();
        let first = identifiers(0, 1, &destinations);
        let second = identifiers(0, 2, &destinations);
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{same} of 256 identifiers did not change");
        assert_eq!(first, identifiers(0, 1, &destinations));
        let distinct: HashSet<_> = first.iter().collect();
        assert!(
            distinct.len() > 200,
            "only {} distinct identifiers",
            distinct.len()
        );
    }
}
