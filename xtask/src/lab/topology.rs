//! What a lab consists of, as data: settings, links, addresses, routes and neighbours.
//!
//! ```text
//!   place 0                place 1                            last place
//!   prober  pinger0 ─ far  gateway  near ─ far  gateway  near ─ far  hosts: 198.18.0.0/16 …
//! ```
//! Without gateways the hosts' place is the prober's neighbour. `far` looks to the prober.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::namespace::{Namespace, ip_batch, ip_json, write_sysctls};

/// The prober's interface.
pub const INTERFACE: &str = "pinger0";
/// In every other place: the interface towards the prober.
pub(super) const FAR: &str = "far";
/// In a gateway: the interface towards the hosts.
const NEAR: &str = "near";

/// IPv4 hosts behind the gateway, from the range that RFC 2544 gives to measurements.
pub const HOSTS_IPV4: &str = "198.18.0.0/16";
/// IPv6 hosts behind the gateway, from the range that RFC 5180 gives to measurements.
pub const HOSTS_IPV6: &str = "2001:2:0:1::/64";
/// The directly connected IPv4 network, if the shape asks for it; the prober is its host 1.
pub const DIRECT_IPV4: &str = "198.19.1.0/24";
/// The directly connected IPv6 network, if the shape asks for it; the prober is its host 1.
pub const DIRECT_IPV6: &str = "2001:2:0:2::/64";
/// The directly connected hosts are numbered from 2 to this.
const LAST_DIRECT_HOST: u8 = 254;

/// What kind of lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Routing namespaces between the prober and the hosts, at most 100.
    pub gateways: usize,
    /// Neighbours are known beforehand, instead of being asked for by ARP and ND.
    pub static_neighbours: bool,
    /// A directly connected /24 and /64, whose hosts 2 to 254 answer ARP and ND for themselves.
    pub direct: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            gateways: 0,
            static_neighbours: true,
            direct: false,
        }
    }
}

/// A directly connected host's IPv4 address, by its number from 2 to 254.
pub fn direct_ipv4(host: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(198, 19, 1, host)
}

/// A directly connected host's IPv6 address, by its number from 2 to 254.
pub fn direct_ipv6(host: u8) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0x2001, 2, 0, 2, 0, 0, 0, host.into())
}

/// One place and all that is set in it once its links are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The namespace; none is the root namespace, which only the prober may be in.
    pub(super) namespace: Option<String>,
    /// Settings, before there is any interface but those that were there.
    pub(super) sysctls: Vec<(String, &'static str)>,
    /// Lines for `ip -batch`.
    pub(super) lines: Vec<String>,
}

/// A lab as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Lines that make the links, for the root namespace.
    pub(super) links: Vec<String>,
    pub(super) places: Vec<Place>,
}

/// A link by its number, counted from the prober; end 1 is the prober's side, end 2 the other.
///
/// Beside 198.18.0.0/16 and 198.19.1.0/24, the links use 198.19.0.0/30 and 198.19.129.0/30 on.
#[derive(Clone, Copy)]
struct Link(usize);

impl Link {
    /// IPv4 and IPv6 address of an end. The first link is the one people see.
    fn address(self, end: usize) -> (String, String) {
        match self.0 {
            0 => (format!("198.19.0.{end}"), format!("2001:2::{end}")),
            link => (
                format!("198.19.{}.{end}", 128 + link),
                format!("2001:2:0:{link:x}00::{end}"),
            ),
        }
    }

    /// Locally administered, and readable in a trace: `pin`, the link, the end.
    fn mac(self, end: usize) -> String {
        format!("02:70:69:6e:{:02x}:{end:02x}", self.0)
    }
}

impl Topology {
    /// The lab among these places, the prober's first and the hosts' last.
    pub(super) fn new(namespaces: Vec<Option<String>>, shape: Shape) -> Self {
        let last = namespaces.len() - 1;
        let links = (0..last).map(|link| link_line(&namespaces, link)).collect();
        let places = namespaces
            .into_iter()
            .enumerate()
            .map(|(number, namespace)| {
                let sysctls = match namespace {
                    None => prober_interface_settings(),
                    Some(_) => namespace_settings(number > 0 && number < last),
                };
                let mut lines = Vec::new();
                if number > 0 {
                    end_lines(&mut lines, FAR, Link(number - 1), 2, shape);
                }
                if number < last {
                    let interface = if number == 0 { INTERFACE } else { NEAR };
                    end_lines(&mut lines, interface, Link(number), 1, shape);
                    let (ipv4, ipv6) = Link(number).address(2);
                    lines.push(format!(
                        "route replace {HOSTS_IPV4} via {ipv4} dev {interface}"
                    ));
                    lines.push(format!(
                        "route replace {HOSTS_IPV6} via {ipv6} dev {interface}"
                    ));
                }
                if number > 1 {
                    // The way back to the prober, whichever of its addresses it sent from.
                    let (ipv4, ipv6) = Link(number - 1).address(1);
                    lines.push(format!("route replace 0.0.0.0/0 via {ipv4} dev {FAR}"));
                    lines.push(format!("route replace ::/0 via {ipv6} dev {FAR}"));
                }
                if number == last {
                    lines.push(format!("route replace local {HOSTS_IPV4} dev lo"));
                    lines.push(format!("route replace local {HOSTS_IPV6} dev lo"));
                }
                if shape.direct {
                    direct_lines(&mut lines, number);
                }
                Place {
                    namespace,
                    sysctls,
                    lines,
                }
            })
            .collect();
        Self { links, places }
    }

    /// Makes all of it in namespaces that exist and are empty.
    ///
    /// # Errors
    /// The kernel refuses a part; the caller removes the namespaces.
    pub(super) fn apply(&self) -> Result<()> {
        for place in &self.places {
            if let Some(name) = &place.namespace {
                borrowed(name, |namespace| namespace.sysctl(&place.sysctls))?;
            }
        }
        ip_batch(None, &self.links)?;
        for place in &self.places {
            if place.namespace.is_none() {
                write_sysctls(&place.sysctls)?;
            }
            ip_batch(place.namespace.as_deref(), &place.lines)?;
        }
        self.places
            .iter()
            .try_for_each(|place| carry(place.namespace.as_deref()))
    }
}

/// Waits until every link of a place carries packets.
///
/// The kernel starts a link's queue when it learns of the carrier, at times up to a second after
/// both ends are up; until then it drops what is sent, without a word.
fn carry(namespace: Option<&str>) -> Result<()> {
    /// Several times what the kernel may take.
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(5);
    let started = Instant::now();
    let interfaces: &[&str] = if namespace.is_none() {
        &[INTERFACE]
    } else {
        &[FAR, NEAR, INTERFACE]
    };
    loop {
        let links = ip_json(namespace, "link show")?;
        let idle = links.as_array().into_iter().flatten().find(|link| {
            interfaces.iter().any(|name| link["ifname"] == *name)
                && (link["operstate"] != "UP" || link["qdisc"] == "noop")
        });
        let Some(link) = idle else { return Ok(()) };
        ensure!(
            started.elapsed() < PATIENCE,
            "the lab's link does not come up: {link} in {}",
            namespace.unwrap_or("the root namespace")
        );
        thread::sleep(PAUSE);
    }
}

/// Uses a namespace that somebody else guards.
fn borrowed<T>(name: &str, work: impl FnOnce(&Namespace) -> T) -> T {
    let namespace = Namespace::adopt(name.to_owned());
    let result = work(&namespace);
    namespace.keep();
    result
}

fn link_line(namespaces: &[Option<String>], link: usize) -> String {
    // Two ends with one index would be taken for no pair, and their carrier be noticed late.
    let end = |number: usize, index: usize| {
        let place = &namespaces[number];
        place
            .as_ref()
            .map_or(String::new(), |name| format!(" index {index} netns {name}"))
    };
    let interface = if link == 0 { INTERFACE } else { NEAR };
    format!(
        "link add {interface}{} address {} type veth peer name {FAR}{} address {}",
        end(link, 10 + 2 * link),
        Link(link).mac(1),
        end(link + 1, 11 + 2 * link),
        Link(link).mac(2),
    )
}

/// Addresses and neighbour of one end of a link.
fn end_lines(lines: &mut Vec<String>, interface: &str, link: Link, end: usize, shape: Shape) {
    let (ipv4, ipv6) = link.address(end);
    lines.push("link set dev lo up".into());
    lines.push(format!("address replace {ipv4}/30 dev {interface}"));
    lines.push(format!("address replace {ipv6}/126 dev {interface} nodad"));
    lines.push(format!("link set dev {interface} up"));
    if shape.static_neighbours {
        let other = 3 - end;
        let mac = link.mac(other);
        let (ipv4, ipv6) = link.address(other);
        for address in [ipv4, ipv6] {
            lines.push(format!(
                "neighbour replace {address} lladdr {mac} dev {interface} nud permanent"
            ));
        }
    }
}

/// The directly connected networks: the prober is host 1, its neighbour all others.
fn direct_lines(lines: &mut Vec<String>, place: usize) {
    let (interface, hosts) = match place {
        0 => (INTERFACE, 1..=1),
        1 => (FAR, 2..=LAST_DIRECT_HOST),
        _ => return,
    };
    for host in hosts {
        lines.push(format!(
            "address replace {}/24 dev {interface}",
            direct_ipv4(host)
        ));
        lines.push(format!(
            "address replace {}/64 dev {interface} nodad",
            direct_ipv6(host)
        ));
    }
}

/// No word on the link but what is asked for: no router solicitation, no duplicate detection.
fn quiet_ipv6(scope: &str) -> Vec<(String, &'static str)> {
    [
        // Containers often switch IPv6 off by default.
        ("disable_ipv6", "0"),
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
    ]
    .into_iter()
    .map(|(name, value)| (format!("net/ipv6/conf/{scope}/{name}"), value))
    .collect()
}

fn prober_interface_settings() -> Vec<(String, &'static str)> {
    quiet_ipv6(INTERFACE)
}

/// A kernel that answers everything, as fast as it is asked.
fn namespace_settings(gateway: bool) -> Vec<(String, &'static str)> {
    let mut settings = [
        ("net/ipv4/icmp_ratelimit", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
        // Per namespace only in newer kernels; echo replies are not counted by these anyway.
        ("?net/ipv4/icmp_msgs_per_sec", "1000000"),
        ("?net/ipv4/icmp_msgs_burst", "1000000"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        // Programs inside may listen on any of the hosts' addresses.
        ("net/ipv4/ip_nonlocal_bind", "1"),
        ("net/ipv6/ip_nonlocal_bind", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    for scope in ["all", "default", "lo"] {
        settings.extend(quiet_ipv6(scope));
    }
    if gateway {
        settings.push(("net/ipv4/ip_forward".into(), "1"));
        settings.push(("net/ipv6/conf/all/forwarding".into(), "1"));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: usize) -> Vec<Option<String>> {
        (0..count)
            .map(|number| Some(format!("n{number}")))
            .collect()
    }

    #[test]
    fn the_machines_lab_is_what_status_and_readme_say() {
        let topology = Topology::new(vec![None, Some("pinger-lab".into())], Shape::default());
        assert_eq!(
            topology.links,
            [
                "link add pinger0 address 02:70:69:6e:00:01 type veth peer name far index 11 netns \
              pinger-lab \
              address 02:70:69:6e:00:02"
            ]
        );
        let prober = &topology.places[0].lines;
        for line in [
            "address replace 198.19.0.1/30 dev pinger0",
            "address replace 2001:2::1/126 dev pinger0 nodad",
            "route replace 198.18.0.0/16 via 198.19.0.2 dev pinger0",
            "route replace 2001:2:0:1::/64 via 2001:2::2 dev pinger0",
            "neighbour replace 198.19.0.2 lladdr 02:70:69:6e:00:02 dev pinger0 nud permanent",
        ] {
            assert!(
                prober.iter().any(|found| found == line),
                "{line} is missing in {prober:#?}"
            );
        }
        let hosts = &topology.places[1].lines;
        assert!(
            hosts.contains(&"route replace local 198.18.0.0/16 dev lo".into()),
            "{hosts:#?}"
        );
        assert!(
            !hosts.iter().any(|line| line.contains("/0 via")),
            "{hosts:#?}"
        );
    }

    #[test]
    fn each_gateway_routes_to_the_next_and_back() {
        let topology = Topology::new(
            places(4),
            Shape {
                gateways: 2,
                ..Shape::default()
            },
        );
        assert_eq!(topology.links.len(), 3);
        let middle = topology.places[2].lines.join("\n");
        assert!(
            middle.contains("route replace 198.18.0.0/16 via 198.19.130.2 dev near"),
            "{middle}"
        );
        assert!(
            middle.contains("route replace 0.0.0.0/0 via 198.19.129.1 dev far"),
            "{middle}"
        );
        let forwards = |place: &Place| {
            place
                .sysctls
                .iter()
                .any(|(name, _)| name.contains("forward"))
        };
        let forwarding: Vec<bool> = topology.places.iter().map(forwards).collect();
        assert_eq!(forwarding, [false, true, true, false]);
    }

    #[test]
    fn neighbours_are_asked_for_unless_they_are_static() {
        let shape = Shape {
            static_neighbours: false,
            direct: true,
            gateways: 0,
        };
        let topology = Topology::new(places(2), shape);
        let all: Vec<&String> = topology
            .places
            .iter()
            .flat_map(|place| &place.lines)
            .collect();
        assert!(!all.iter().any(|line| line.starts_with("neighbour")));
        let direct = |line: &&&String| line.contains("/24") || line.contains("/64 dev far");
        assert_eq!(all.iter().filter(direct).count(), 1 + 2 * 253);
    }
}
