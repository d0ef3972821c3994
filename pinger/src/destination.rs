//! What to probe: a list of destinations becomes flows, one a destination.
//!
//! In: addresses with their settings, as the edges resolved them. Out: [`Destination`]s with
//! stable ids. Never touches the network or a clock.

use std::fmt;
use std::net::IpAddr;

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
        if address.is_ipv4() { Self::Icmp } else { Self::Icmp6 }
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
