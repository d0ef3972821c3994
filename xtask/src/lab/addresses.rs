//! The lab's names and addresses: interfaces, hosts, links between places, and networks that cannot
//! be reached.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The prober's interface.
pub const INTERFACE: &str = "pinger0";
/// In every other place: the interface towards the prober.
pub(super) const FAR: &str = "far";
/// In a gateway: the interface towards the hosts.
pub(super) const NEAR: &str = "near";

/// IPv4 hosts behind the gateway, from the range that RFC 2544 gives to measurements.
pub const HOSTS_IPV4: &str = "198.18.0.0/16";
/// IPv6 hosts behind the gateway, from the range that RFC 5180 gives to measurements.
pub const HOSTS_IPV6: &str = "2001:2:0:1::/64";
/// The prober's second interface, if the shape asks for it.
pub const SECOND_INTERFACE: &str = "pinger1";
/// IPv4 hosts behind the second interface.
pub const SECOND_IPV4: &str = "198.19.32.0/24";
/// IPv6 hosts behind the second interface.
pub const SECOND_IPV6: &str = "2001:2:0:20::/64";

/// A network that the prober's neighbour routes to, and nobody can reach.
///
/// For IPv4 the kernel tells a host so five times and then once a second, in any namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadEnd {
    /// Its IPv4 addresses.
    pub ipv4: &'static str,
    /// Its IPv6 addresses.
    pub ipv6: &'static str,
    /// How it is routed, as `ip route` writes it; none if there is no route at all.
    pub(super) kind: Option<&'static str>,
    /// Type and code of the ICMP error that answers probes, by Linux's choice; none if nothing
    /// does.
    pub icmp: Option<(u8, u8)>,
    /// The same of ICMPv6.
    pub icmp6: Option<(u8, u8)>,
}

/// Hosts that cannot be reached: 3/1 host unreachable; for IPv6 the kernel says 1/0, no route.
pub const UNREACHABLE: DeadEnd = DeadEnd {
    ipv4: "198.19.16.0/24",
    ipv6: "2001:2:0:10::/64",
    kind: Some("unreachable"),
    icmp: Some((3, 1)),
    icmp6: Some((1, 0)),
};
/// A network that nobody may send to: 3/13 and 1/1, administratively prohibited.
pub const PROHIBITED: DeadEnd = DeadEnd {
    ipv4: "198.19.17.0/24",
    ipv6: "2001:2:0:11::/64",
    kind: Some("prohibit"),
    icmp: Some((3, 13)),
    icmp6: Some((1, 1)),
};
/// A network that the neighbour has no route to: 3/0 network unreachable, 1/0 no route.
pub const NOWHERE: DeadEnd = DeadEnd {
    ipv4: "198.19.18.0/24",
    ipv6: "2001:2:0:12::/64",
    kind: None,
    icmp: Some((3, 0)),
    icmp6: Some((1, 0)),
};
/// A network in which every packet is dropped without a word.
pub const BLACK_HOLE: DeadEnd = DeadEnd {
    ipv4: "198.19.19.0/24",
    ipv6: "2001:2:0:13::/64",
    kind: Some("blackhole"),
    icmp: None,
    icmp6: None,
};
/// All of them.
pub const DEAD_ENDS: [DeadEnd; 4] = [UNREACHABLE, PROHIBITED, NOWHERE, BLACK_HOLE];

/// The directly connected IPv4 network, if the shape asks for it; the prober is its host 1.
pub const DIRECT_IPV4: &str = "198.19.1.0/24";
/// The directly connected IPv6 network, if the shape asks for it; the prober is its host 1.
pub const DIRECT_IPV6: &str = "2001:2:0:2::/64";
/// The directly connected hosts are numbered from 2 to this.
pub(super) const LAST_DIRECT_HOST: u8 = 254;

/// A directly connected host's IPv4 address, by its number from 2 to 254.
pub fn direct_ipv4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 1, host)
}

/// A directly connected host's IPv6 address, by its number from 2 to 254.
pub fn direct_ipv6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 2, 0, 2, 0, 0, 0, host.into())
}

/// The IPv4 address that the router at a hop, from 1 on, sends errors to the prober from.
pub fn router_ipv4(hop: usize) -> Ipv4Addr {
    let (address, _) = Link(hop - 1).address(2);
    address.parse().expect("links have IPv4 addresses")
}

/// The IPv6 address that the router at a hop, from 1 on, sends errors to the prober from.
pub fn router_ipv6(hop: usize) -> Ipv6Addr {
    let (_, address) = Link(hop - 1).address(2);
    address.parse().expect("links have IPv6 addresses")
}

/// A link by its number, counted from the prober; end 1 is the prober's side, end 2 the other.
///
/// Beside 198.18.0.0/16 and 198.19.1.0/24, the links use 198.19.0.0/30 and 198.19.129.0/30 on.
/// The second link has the number behind the last possible gateway's.
#[derive(Clone, Copy)]
pub(super) struct Link(pub(super) usize);

/// The link of the prober's second interface.
pub(super) const SECOND_LINK: Link = Link(101);

impl Link {
    /// IPv4 and IPv6 address of an end. The first link is the one people see.
    pub(super) fn address(self, end: usize) -> (String, String) {
        match self.0 {
            0 => (format!("198.19.0.{end}"), format!("2001:2::{end}")),
            link => (
                format!("198.19.{}.{end}", 128 + link),
                format!("2001:2:0:{link:x}00::{end}"),
            ),
        }
    }

    /// Locally administered, and readable in a trace: `pin`, the link, the end.
    pub(super) fn mac(self, end: usize) -> String {
        format!("02:70:69:6e:{:02x}:{end:02x}", self.0)
    }
}
