//! What to probe: a list of destinations becomes flows, one a destination.
//!
//! In: addresses with their settings, as the edges resolved them. Out: [`Destination`]s with
//! stable ids. Never touches the network or a clock.

mod form;
mod identifiers;
mod list;

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

pub(crate) use form::too_many;
pub use form::{Block, Form, check_address};
pub use identifiers::{FLOWS_PER_ADDRESS_MAX, identifiers};
pub use list::{DestinationList, Refused};

/// The most destinations one run can have.
///
/// Flow indices, flight table and stats are sized by it: at 2^20 they stay within a few hundred
/// megabytes, and whoever needs more runs a second prober.
pub const MAX_DESTINATIONS: usize = 1 << 20;

/// The largest id a person may give to a destination.
///
/// Ids made by [`Destination::stable_id`] have the bit above it set, so the two never meet.
pub const ID_GIVEN_MAX: u64 = (1 << 63) - 1;

/// Position of a destination in this run's list; its flow has the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowIndex(pub u32);

/// How a destination is probed. The numbers are IANA's protocol numbers, as in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// ICMP echo over IPv4.
    Icmp = pinger_ebpf::layout::PROTOCOL_ICMP,
    /// ICMPv6 echo.
    Icmp6 = pinger_ebpf::layout::PROTOCOL_ICMP6,
}

impl Protocol {
    /// The echo protocol of an address's family.
    pub fn echo(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::Icmp
        } else {
            Self::Icmp6
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "ICMP",
            Self::Icmp6 => "ICMP6",
        })
    }
}

/// One destination with everything that shapes its probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Key in the `destinations` table: given, or [`Destination::stable_id`].
    pub id: u64,
    /// What the user wrote: a host name or an address.
    pub name: String,
    /// Where the probes go.
    pub address: IpAddr,
    /// How it is probed.
    pub protocol: Protocol,
    /// Time between two probes, nanoseconds.
    pub interval_ns: u64,
    /// How long an answer is awaited, nanoseconds.
    pub timeout_ns: u64,
    /// Payload bytes.
    pub size: u16,
    /// Time to live or hop limit of the probes.
    pub ttl: u8,
}

impl Destination {
    /// The id of a destination to which nobody gave one.
    ///
    /// SipHash-2-4 under a fixed key over the 16 bytes of the address (IPv4 as `::ffff:a.b.c.d`)
    /// and the protocol's number, with the top bit set. Results of years hang on these ids, so
    /// this function never changes; the test vectors hold it to that.
    pub fn stable_id(protocol: Protocol, address: IpAddr) -> u64 {
        const KEY: (u64, u64) = (0x7069_6e67_6572_2d69, 0x6473_2d76_3100_0000);
        let mut hasher = SipHasher24::new_with_keys(KEY.0, KEY.1);
        hasher.write(&wire_address(address));
        hasher.write(&[protocol as u8]);
        hasher.finish() | (ID_GIVEN_MAX + 1)
    }
}

/// The address as the kernel program's keys hold it: 16 bytes, IPv4 as `::ffff:a.b.c.d`.
pub fn wire_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a second implementation, checked against the SipHash paper's vector. A change here
    /// would orphan every result ever stored.
    #[test]
    fn stable_ids_never_change() {
        for (address, expected) in [
            ("192.0.2.1", 0xc885_00af_8206_0072),
            ("255.255.255.254", 0xe953_4e1d_708b_ccb9),
            ("2001:db8::1", 0xafe4_f835_7f1b_6b62),
            ("::1", 0xd2d9_9dde_69c7_2ec7),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let id = Destination::stable_id(Protocol::echo(address), address);
            assert_eq!(id, expected, "{address}: {id:#018x}");
        }
    }

    #[test]
    fn stable_ids_depend_on_address_and_protocol_and_stay_above_given_ids() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let id = Destination::stable_id(Protocol::Icmp, address);
        assert!(id > ID_GIVEN_MAX);
        assert_ne!(id, Destination::stable_id(Protocol::Icmp6, address));
        assert_ne!(id, Destination::stable_id(Protocol::Icmp, other));
    }
}
