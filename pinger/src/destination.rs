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
use std::num::NonZeroU8;
use std::sync::Arc;

use pinger_ebpf::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};
use siphasher::sip::SipHasher24;

pub(crate) use form::too_many;
pub use form::{Block, Form, Written, check_address};
pub use identifiers::{FLOWS_PER_ADDRESS_MAX, LocalPorts, PortsNeeded, identifiers, ports_needed};
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

/// A protocol as people name it; the address then tells which of IP's versions carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProtocolName {
    /// `icmp`: echo requests of ICMP or ICMPv6.
    #[default]
    Icmp,
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
}

impl ProtocolName {
    /// All of them, as they are written.
    pub const WORDS: [(&str, Self); 3] =
        [("icmp", Self::Icmp), ("udp", Self::Udp), ("tcp", Self::Tcp)];

    /// The protocol of this name, in whatever case.
    pub fn from_word(word: &str) -> Option<Self> {
        let named = |(name, _): &&(&str, Self)| name.eq_ignore_ascii_case(word);
        Self::WORDS.iter().find(named).map(|(_, name)| *name)
    }

    /// Whether its destinations have ports.
    pub fn has_port(self) -> bool {
        self != Self::Icmp
    }

    /// Whether its probes carry a payload: a SYN carries none.
    pub fn has_payload(self) -> bool {
        self != Self::Tcp
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// How a destination is probed. The numbers are those of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// ICMP echo over IPv4.
    Icmp = PROTOCOL_ICMP,
    /// TCP over IPv4: SYN, answered by SYN and ACK or by RST.
    Tcp = PROTOCOL_TCP,
    /// UDP over IPv4: to an echo service, or to a closed port.
    Udp = PROTOCOL_UDP,
    /// ICMPv6 echo.
    Icmp6 = PROTOCOL_ICMP6,
    /// TCP over IPv6; it has no number of its own.
    Tcp6 = PROTOCOL_TCP + OVER_IPV6,
    /// UDP over IPv6; it has no number of its own.
    Udp6 = PROTOCOL_UDP + OVER_IPV6,
}

/// Added to the numbers of TCP and UDP where they run over IPv6, in the schema.
const OVER_IPV6: u8 = 64;

impl Protocol {
    /// The protocol of this name, in the version that reaches an address.
    pub fn of(name: ProtocolName, address: IpAddr) -> Self {
        match (name, address.is_ipv4()) {
            (ProtocolName::Icmp, true) => Self::Icmp,
            (ProtocolName::Icmp, false) => Self::Icmp6,
            (ProtocolName::Tcp, true) => Self::Tcp,
            (ProtocolName::Tcp, false) => Self::Tcp6,
            (ProtocolName::Udp, true) => Self::Udp,
            (ProtocolName::Udp, false) => Self::Udp6,
        }
    }

    /// The echo protocol of an address's family.
    pub fn echo(address: IpAddr) -> Self {
        Self::of(ProtocolName::Icmp, address)
    }

    /// Whether IPv6 carries it.
    pub fn is_ipv6(self) -> bool {
        matches!(self, Self::Icmp6 | Self::Tcp6 | Self::Udp6)
    }

    /// IANA's number, which stands in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp => PROTOCOL_ICMP,
            Self::Icmp6 => PROTOCOL_ICMP6,
            Self::Tcp | Self::Tcp6 => PROTOCOL_TCP,
            Self::Udp | Self::Udp6 => PROTOCOL_UDP,
        }
    }

    /// Whether its destinations have ports.
    pub fn has_port(self) -> bool {
        matches!(self.number(), PROTOCOL_TCP | PROTOCOL_UDP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "ICMP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp6 => "ICMP6",
            Self::Tcp6 => "TCP6",
            Self::Udp6 => "UDP6",
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
    /// Payload bytes, with the room that `data` takes.
    pub size: u16,
    /// Time to live or hop limit of the probes.
    pub ttl: Ttl,
    /// Port of UDP and TCP; zero for ICMP.
    pub port: u16,
    /// What the payload repeats; `None` for the built-in pattern. Never empty.
    pub data: Option<Arc<[u8]>>,
    /// Type of service or traffic class of the probes.
    pub traffic_class: u8,
    /// Whether IPv4 routers may not fragment the probes.
    pub dont_fragment: bool,
    /// Where its probes come from, if not from where the route says.
    pub from: Option<From>,
    /// Name of the interface it leaves through, if not the run's or the route's.
    pub interface: Option<String>,
}

/// Time to live or hop limit of a destination's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The same for all.
    Fixed(u8),
    /// A trace: 1, 2, … up to this in turn, and then from 1 again.
    Trace(NonZeroU8),
}

impl Ttl {
    /// Up to which hop a trace goes; zero if it is none.
    pub fn hops(self) -> u8 {
        match self {
            Self::Fixed(_) => 0,
            Self::Trace(last) => last.get(),
        }
    }

    /// That of the probe with this sequence.
    pub fn of(self, sequence: u64) -> u8 {
        match self {
            Self::Fixed(ttl) => ttl,
            Self::Trace(last) => 1 + (sequence % u64::from(last.get())) as u8,
        }
    }
}

/// Where probes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// This address, which must be one of this host's.
    Address(IpAddr),
    /// The first address of the destination's family that this interface has.
    Interface(String),
}

impl Destination {
    /// An echo destination with default settings: every second, 56 bytes.
    pub fn echo(address: IpAddr) -> Self {
        let protocol = Protocol::echo(address);
        Self {
            id: Self::stable_id(protocol, address, 0),
            name: address.to_string(),
            address,
            protocol,
            interval_ns: 1_000_000_000,
            timeout_ns: 1_000_000_000,
            size: 56,
            ttl: Ttl::Fixed(64),
            port: 0,
            data: None,
            traffic_class: 0,
            dont_fragment: true,
            from: None,
            interface: None,
        }
    }

    /// The id of a destination to which nobody gave one.
    ///
    /// SipHash-2-4 under a fixed key over the 16 bytes of the address (IPv4 as `::ffff:a.b.c.d`)
    /// and the protocol's number, and, where there is one, the port's two bytes, big-endian; with
    /// the top bit set. Results of years hang on these ids, so this function never changes; the
    /// test vectors hold it to that.
    pub fn stable_id(protocol: Protocol, address: IpAddr, port: u16) -> u64 {
        const KEY: (u64, u64) = (0x7069_6e67_6572_2d69, 0x6473_2d76_3100_0000);
        let mut hasher = SipHasher24::new_with_keys(KEY.0, KEY.1);
        hasher.write(&wire_address(address));
        hasher.write(&[protocol as u8]);
        if port != 0 {
            hasher.write(&port.to_be_bytes());
        }
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
            let id = Destination::stable_id(Protocol::echo(address), address, 0);
            assert_eq!(id, expected, "{address}: {id:#018x}");
        }
    }

    #[test]
    fn stable_ids_depend_on_address_and_protocol_and_stay_above_given_ids() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let id = Destination::stable_id(Protocol::Icmp, address, 0);
        assert!(id > ID_GIVEN_MAX);
        assert_ne!(id, Destination::stable_id(Protocol::Icmp6, address, 0));
        assert_ne!(id, Destination::stable_id(Protocol::Icmp, other, 0));
        let port = |port| Destination::stable_id(Protocol::Tcp, address, port);
        assert_ne!(port(80), port(443));
    }
}
