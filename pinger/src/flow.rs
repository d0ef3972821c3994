//! Destinations as flows: what is constant on the wire, and how the kernel program finds it.
//!
//! In: destinations, their identifiers, the run's secret. Out: the keys and values of the kernel
//! program's flow table, the runs of slots, and the prepared frames. Pure.

use std::net::IpAddr;

use pinger_ebpf::identity::flow_check;
use pinger_ebpf::layout::{Flow, FlowKey, PROTOCOL_UDP, Payload};

use crate::destination::{Destination, FlowIndex, wire_address};
use crate::flight::{RUN_MAX, Runs, run_len};
use crate::packet::{Frames, Payloads};
use crate::schedule::Schedule;

/// In a flood, the slots of all flows together: as many probes as may be sent within a second's
/// timeout before the oldest lost one holds the others up.
const FLOOD_SLOTS: u64 = 1 << 20;

/// All flows of a run, one a destination, in the same order.
pub struct Flows {
    destinations: Vec<Destination>,
    identifiers: Vec<u16>,
    secret: [u64; 2],
    payloads: Payloads,
}

/// The shortest payload of UDP that holds a sequence, see
/// [`Prefix`](pinger_ebpf::identity::Prefix). With a shorter one, only one probe may be in flight.
pub const UDP_SEQUENCE_SIZE: u16 = 4;

impl Flows {
    /// Flows for destinations with an identifier each; `secret` is that of the run.
    ///
    /// # Panics
    ///
    /// If the two lists differ in length, or if there are more different payloads than
    /// [`PAYLOADS_MAX`](crate::packet::PAYLOADS_MAX), which `config` refuses.
    pub fn new(destinations: Vec<Destination>, identifiers: Vec<u16>, secret: [u64; 2]) -> Self {
        assert_eq!(
            destinations.len(),
            identifiers.len(),
            "an identifier for each destination"
        );
        let payloads = Payloads::of(&destinations);
        Self {
            destinations,
            identifiers,
            secret,
            payloads,
        }
    }

    /// The destinations, by flow index.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The identifiers on the wire, by flow index.
    pub fn identifiers(&self) -> &[u16] {
        &self.identifiers
    }

    /// What probes carry behind their own bytes; each [`Flow`] says which is its.
    pub fn payloads(&self) -> &[Payload] {
        self.payloads.arrays()
    }

    /// A run of slots for each flow, as long as its interval and timeout ask for.
    pub fn runs(&self, schedule: &Schedule) -> Runs {
        let mut runs = Runs::default();
        for probes in self.in_flight_max(schedule) {
            runs.push(probes);
        }
        runs
    }

    /// How many slots all runs take together.
    pub fn slots(&self, schedule: &Schedule) -> u64 {
        self.in_flight_max(schedule).map(run_len).sum()
    }

    fn in_flight_max(&self, schedule: &Schedule) -> impl Iterator<Item = u64> {
        let flood = (FLOOD_SLOTS / self.destinations.len().max(1) as u64).clamp(2, RUN_MAX);
        (0_u32..)
            .zip(&self.destinations)
            .map(move |(index, destination)| {
                let cycle = schedule.cycle_of(FlowIndex(index));
                if destination.protocol.number() == PROTOCOL_UDP
                    && destination.size < UDP_SEQUENCE_SIZE
                {
                    1
                } else if cycle.interval_ns == 0 {
                    flood
                } else {
                    cycle.in_flight_max()
                }
            })
    }

    /// The kernel program's flow table.
    pub fn table(&self, runs: &Runs) -> Vec<(FlowKey, Flow)> {
        let flow = |(index, (destination, identifier)): (usize, (&Destination, &u16))| {
            let key = FlowKey {
                address: wire_address(destination.address),
                identifier: *identifier,
                port: destination.port,
                protocol: destination.protocol.number(),
                reserved: 0,
            };
            let index = index as u32;
            let run = runs.of(FlowIndex(index));
            let flow = Flow {
                index,
                slot_base: run.base,
                slot_mask: run.mask,
                payload_len: destination.size,
                payload: self.payloads.index(index as usize),
                check: flow_check(self.secret, index),
                reserved: 0,
            };
            (key, flow)
        };
        self.destinations
            .iter()
            .zip(&self.identifiers)
            .enumerate()
            .map(flow)
            .collect()
    }

    /// The prepared frames; `source` gives the address each flow is probed from.
    pub fn frames(&self, source: impl Fn(FlowIndex) -> IpAddr) -> Frames {
        Frames::prepare(&self.destinations, &self.identifiers, self.secret, source)
    }

    /// Prepares one flow's frame anew, for another source address.
    pub fn readdress(&self, frames: &mut Frames, flow: FlowIndex, source: IpAddr) {
        let index = flow.0 as usize;
        let destination = &self.destinations[index];
        frames.readdress(flow, destination, source, self.identifiers[index]);
    }
}

#[cfg(test)]
mod tests {
    use pinger_ebpf::layout::PROTOCOL_ICMP6;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::destination::Protocol;

    const SECRET: [u64; 2] = [3, 4];
    const SECOND_NS: u64 = 1_000_000_000;

    fn destination(address: &str, protocol: Protocol, size: u16, data: &[u8]) -> Destination {
        let address = address.parse().unwrap();
        Destination {
            protocol,
            port: if protocol.has_port() { 7 } else { 0 },
            size,
            timeout_ns: SECOND_NS,
            data: (!data.is_empty()).then(|| data.into()),
            ..Destination::echo(address)
        }
    }

    fn flows() -> (Flows, Schedule) {
        let destinations = vec![
            destination("2001:db8::1", Protocol::Icmp6, 56, b""),
            destination("192.0.2.1", Protocol::Udp, 3, b"abc"),
            destination("192.0.2.1", Protocol::Udp, 4, b"abc"),
            destination("192.0.2.1", Protocol::Tcp, 0, b""),
        ];
        let schedule = Schedule::new(&destinations, 0, false);
        let identifiers = vec![0x1234, 50_001, 50_002, 50_003];
        (Flows::new(destinations, identifiers, SECRET), schedule)
    }

    #[test]
    fn the_table_says_what_is_on_the_wire() {
        let (flows, schedule) = flows();
        let table = flows.table(&flows.runs(&schedule));
        let found: Vec<_> = table
            .iter()
            .map(|(key, flow)| {
                let own = (key.protocol, key.identifier, key.port);
                (own, flow.payload_len, flow.payload)
            })
            .collect();
        let expected = [
            ((PROTOCOL_ICMP6, 0x1234, 0), 56, 0),
            ((PROTOCOL_UDP, 50_001, 7), 3, 1),
            ((PROTOCOL_UDP, 50_002, 7), 4, 1),
            ((6, 50_003, 7), 0, 0),
        ];
        assert_eq!(found, expected);
        for (index, (_, flow)) in (0..).zip(&table) {
            assert_eq!(flow.index, index);
            assert_eq!(flow.check, flow_check(SECRET, index));
        }
        let data: Vec<_> = flows
            .payloads()
            .iter()
            .map(|p| &p.as_bytes()[..5])
            .collect();
        assert_eq!(data, [&[0, 1, 2, 3, 4][..], b"abc\0\0"]);
    }

    #[test]
    fn datagrams_without_a_number_are_in_flight_one_by_one() {
        let (flows, schedule) = flows();
        let runs = flows.runs(&schedule);
        let masks: Vec<_> = (0..4).map(|flow| runs.of(FlowIndex(flow)).mask).collect();
        assert_eq!(masks, [3, 0, 3, 3]);
        assert_eq!(flows.slots(&schedule), 13);
    }
}
