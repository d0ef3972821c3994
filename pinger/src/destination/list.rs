//! The list under construction: one entry an address, protocol and port, each id once.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Destination, MAX_DESTINATIONS, Protocol};

/// Why a destination did not get onto the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<'a> {
    /// This one has the same protocol, address and port, and came first: its settings hold.
    Merged(&'a Destination),
    /// This one has the same id.
    IdTaken(&'a Destination),
    /// The list holds [`MAX_DESTINATIONS`] entries.
    Full,
}

/// Destinations in the order in which they came, without duplicates.
#[derive(Debug, Default)]
pub struct DestinationList {
    destinations: Vec<Destination>,
    by_address: HashMap<(Protocol, IpAddr, u16), usize>,
    by_id: HashMap<u64, usize>,
}

impl DestinationList {
    /// Appends a destination.
    ///
    /// # Errors
    ///
    /// Says why it was left out; the list is as before then.
    pub fn push(&mut self, destination: Destination) -> Result<(), Refused<'_>> {
        let key = (destination.protocol, destination.address, destination.port);
        if let Some(&first) = self.by_address.get(&key) {
            return Err(Refused::Merged(&self.destinations[first]));
        }
        if let Some(&first) = self.by_id.get(&destination.id) {
            return Err(Refused::IdTaken(&self.destinations[first]));
        }
        if self.destinations.len() == MAX_DESTINATIONS {
            return Err(Refused::Full);
        }
        let index = self.destinations.len();
        self.by_address.insert(key, index);
        self.by_id.insert(destination.id, index);
        self.destinations.push(destination);
        Ok(())
    }

    /// The finished list.
    pub fn into_vec(self) -> Vec<Destination> {
        self.destinations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(id: u64, name: &str, address: &str) -> Destination {
        let address = address.parse().unwrap();
        Destination {
            id,
            name: name.to_owned(),
            address,
            protocol: Protocol::echo(address),
            interval_ns: 1_000_000,
            timeout_ns: 1_000_000,
            size: 56,
            ..Destination::echo(address)
        }
    }

    #[test]
    fn the_first_of_two_equal_destinations_stays() {
        let first = destination(1, "a", "192.0.2.1");
        let mut list = DestinationList::default();
        assert_eq!(list.push(first.clone()), Ok(()));
        assert_eq!(
            list.push(destination(2, "b", "192.0.2.1")),
            Err(Refused::Merged(&first))
        );
        assert_eq!(
            list.push(destination(1, "c", "192.0.2.2")),
            Err(Refused::IdTaken(&first))
        );
        let third = destination(2, "d", "2001:db8::1");
        assert_eq!(list.push(third.clone()), Ok(()));
        assert_eq!(list.into_vec(), [first, third]);
    }

    #[test]
    fn another_port_or_protocol_is_another_destination() {
        let mut list = DestinationList::default();
        let mut id = 0;
        let mut push = |protocol, port| {
            id += 1;
            let destination = Destination {
                protocol,
                port,
                ..destination(id, "a", "192.0.2.1")
            };
            list.push(destination).is_ok()
        };
        for (protocol, port) in [
            (Protocol::Icmp, 0),
            (Protocol::Tcp, 80),
            (Protocol::Tcp, 443),
            (Protocol::Udp, 443),
        ] {
            assert!(push(protocol, port), "{protocol} {port}");
            assert!(!push(protocol, port), "{protocol} {port}");
        }
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let first = destination(1, "x", "192.0.2.1");
        let mut list = DestinationList {
            destinations: vec![first; MAX_DESTINATIONS],
            ..DestinationList::default()
        };
        let one_more = destination(2, "y", "192.0.2.2");
        assert_eq!(list.push(one_more.clone()), Err(Refused::Full));
        list.destinations.pop();
        assert_eq!(list.push(one_more), Ok(()));
        assert_eq!(list.into_vec().len(), MAX_DESTINATIONS);
    }
}
