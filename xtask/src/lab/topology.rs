//! What a lab consists of, as data: settings, links, addresses, routes and neighbours.
//!
//! ```text
//!   place 0                place 1                            last place
//!   prober  pinger0 ─ far  gateway  near ─ far  gateway  near ─ far  hosts: 198.18.0.0/16 …
//! ```
//! Without gateways the hosts' place is the prober's neighbour. `far` looks to the prober.
//!
//! The prober's neighbour also routes to networks that cannot be reached, each in its own way
//! ([`DEAD_ENDS`]). A second link, if the shape asks for it, leads to hosts of its own:
//! ```text
//!   place 0                last place; the hosts above are then in the last but one
//!   prober  pinger1 ─ far  more hosts: 198.19.32.0/24 …, and 198.18.0.0/16 … once more
//! ```

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::addresses::{
    DEAD_ENDS, FAR, HOSTS_IPV4, HOSTS_IPV6, INTERFACE, LAST_DIRECT_HOST, Link, NEAR,
    SECOND_INTERFACE, SECOND_IPV4, SECOND_IPV6, SECOND_LINK, direct_ipv4, direct_ipv6,
};
use super::namespace::{Namespace, ip_batch, ip_json, write_sysctls};

/// What kind of lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Routing namespaces between the prober and the hosts, at most 100.
    pub gateways: usize,
    /// Neighbours are known beforehand, instead of being asked for by ARP and ND.
    pub static_neighbours: bool,
    /// A directly connected /24 and /64, whose hosts 2 to 254 answer ARP and ND for themselves.
    pub direct: bool,
    /// A second interface of the prober, [`SECOND_INTERFACE`], to a namespace with more hosts.
    pub second: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            gateways: 0,
            static_neighbours: true,
            direct: false,
            second: false,
        }
    }
}

impl Shape {
    /// How many places it has.
    pub(super) fn places(self) -> usize {
        self.gateways + 2 + usize::from(self.second)
    }
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

impl Topology {
    /// The lab among these places: the prober's first and the hosts' last, or, if there is a
    /// second interface, the hosts' last but one and those behind that interface last.
    pub(super) fn new(mut namespaces: Vec<Option<String>>, shape: Shape) -> Self {
        let beside = if shape.second { namespaces.pop() } else { None };
        let last = namespaces.len() - 1;
        let mut links: Vec<String> = (0..last).map(|link| link_line(&namespaces, link)).collect();
        if let Some(beside) = &beside {
            links.push(second_link_line(&namespaces[0], beside));
        }
        let mut places: Vec<Place> = namespaces
            .into_iter()
            .enumerate()
            .map(|(number, namespace)| {
                let sysctls = match namespace {
                    None => prober_interface_settings(),
                    Some(_) => namespace_settings(number > 0),
                };
                Place {
                    namespace,
                    sysctls,
                    lines: place_lines(number, last, shape),
                }
            })
            .collect();
        if let Some(namespace) = beside {
            second_lines(&mut places[0].lines, shape);
            places.push(beside_place(namespace, shape));
        }
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
        &[FAR, NEAR, INTERFACE, SECOND_INTERFACE]
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

/// What is set in a place on the way from the prober, which is place 0, to the hosts, in the last.
fn place_lines(number: usize, last: usize, shape: Shape) -> Vec<String> {
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
    dead_end_lines(&mut lines, number);
    if shape.direct {
        direct_lines(&mut lines, number);
    }
    lines
}

/// The second link, from the prober's place.
fn second_link_line(prober: &Option<String>, beside: &Option<String>) -> String {
    let netns = |place: &Option<String>| {
        place
            .as_ref()
            .map_or(String::new(), |name| format!(" netns {name}"))
    };
    format!(
        "link add {SECOND_INTERFACE}{} address {} type veth peer name {FAR}{} address {}",
        netns(prober),
        SECOND_LINK.mac(1),
        netns(beside),
        SECOND_LINK.mac(2),
    )
}

/// The prober's end of the second link, and what it leads to; for the hosts that the first link
/// leads to as well it is the worse way.
fn second_lines(lines: &mut Vec<String>, shape: Shape) {
    /// Worse than the routes without a metric, IPv6's being 1,024.
    const WORSE: u32 = 2000;
    end_lines(lines, SECOND_INTERFACE, SECOND_LINK, 1, shape);
    let (ipv4, ipv6) = SECOND_LINK.address(2);
    for (prefix, via) in [(SECOND_IPV4, &ipv4), (SECOND_IPV6, &ipv6)] {
        lines.push(format!(
            "route replace {prefix} via {via} dev {SECOND_INTERFACE}"
        ));
    }
    for (prefix, via) in [(HOSTS_IPV4, &ipv4), (HOSTS_IPV6, &ipv6)] {
        lines.push(format!(
            "route replace {prefix} via {via} dev {SECOND_INTERFACE} metric {WORSE}"
        ));
    }
}

/// The place behind the second link.
fn beside_place(namespace: Option<String>, shape: Shape) -> Place {
    let mut lines = Vec::new();
    end_lines(&mut lines, FAR, SECOND_LINK, 2, shape);
    let (ipv4, ipv6) = SECOND_LINK.address(1);
    lines.push(format!("route replace 0.0.0.0/0 via {ipv4} dev {FAR}"));
    lines.push(format!("route replace ::/0 via {ipv6} dev {FAR}"));
    for prefix in [SECOND_IPV4, SECOND_IPV6, HOSTS_IPV4, HOSTS_IPV6] {
        lines.push(format!("route replace local {prefix} dev lo"));
    }
    Place {
        namespace,
        sysctls: namespace_settings(true),
        lines,
    }
}

/// The prober routes what cannot be reached to its neighbour, who knows better.
fn dead_end_lines(lines: &mut Vec<String>, place: usize) {
    let (ipv4, ipv6) = Link(0).address(2);
    for dead_end in DEAD_ENDS {
        for (prefix, via) in [(dead_end.ipv4, &ipv4), (dead_end.ipv6, &ipv6)] {
            match (place, dead_end.kind) {
                (0, _) => lines.push(format!("route replace {prefix} via {via} dev {INTERFACE}")),
                (1, Some(kind)) => lines.push(format!("route replace {kind} {prefix}")),
                _ => {}
            }
        }
    }
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
///
/// All but the prober route: only a router tells of what cannot be reached.
fn namespace_settings(routes: bool) -> Vec<(String, &'static str)> {
    let mut settings = [
        ("net/ipv4/icmp_ratelimit", "0"),
        ("net/ipv4/icmp_ratemask", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
        // Per namespace only in newer kernels; echo replies are not counted by these anyway.
        ("?net/ipv4/icmp_msgs_per_sec", "1000000"),
        ("?net/ipv4/icmp_msgs_burst", "1000000"),
        // The services' sockets are for both families.
        ("net/ipv6/bindv6only", "0"),
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
    if routes {
        settings.push(("net/ipv4/ip_forward".into(), "1"));
        settings.push(("net/ipv6/conf/all/forwarding".into(), "1"));
    }
    settings
}

#[cfg(test)]
mod tests;
