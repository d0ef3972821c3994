//! The two namespaces: the prober's, and that of the hosts behind its veth pair.

use std::net::IpAddr;

use pinger::route::{Link, Mac, RouteQuery, RouteTable};
use pinger::wire::netlink::{Netlink, RouteKeeper};

use crate::netns::Namespace;
use crate::watch::Watch;

/// Two gateways (.1 and .2) and a host (.10).
const HOSTS: [(&str, u8); 3] = [("gw1", 1), ("gw2", 2), ("host", 10)];

pub(crate) struct Net {
    pub(crate) prober: Namespace,
    pub(crate) hosts: Namespace,
}

impl Net {
    pub(crate) fn new() -> Self {
        let net = Self {
            prober: Namespace::new("p"),
            hosts: Namespace::new("h"),
        };
        let Self { prober, hosts } = &net;
        for namespace in [prober, hosts] {
            namespace.sysctl("net.ipv6.conf.default.accept_dad", 0);
        }
        // Only the owner of an address answers for it, from its own MAC.
        hosts.sysctl("net.ipv4.conf.all.arp_ignore", 1);
        prober.ip(&format!(
            "link add p0 type veth peer name h0 netns {}",
            hosts.name
        ));
        hosts.ip("link set h0 up");
        for (name, number) in HOSTS {
            hosts.ip(&format!("link add {name} link h0 type macvlan mode bridge"));
            hosts.ip(&format!("link set {name} address {} up", mac(1, number)));
            hosts.ip(&format!("address add 192.0.2.{number}/24 dev {name}"));
            hosts.ip(&format!(
                "address add 2001:db8::{number}/64 dev {name} nodad"
            ));
        }
        prober.ip("link set p0 up");
        prober.ip("address add 192.0.2.99/24 dev p0");
        prober.ip("address add 2001:db8::99/64 dev p0 nodad");
        prober.ip("route add 198.51.100.0/24 via 192.0.2.1");
        prober.ip("route add 2001:db8:1::/64 via 2001:db8::1");
        net
    }

    pub(crate) fn link(&self) -> Link {
        self.ask(|netlink| netlink.link_by_name("p0").unwrap())
            .expect("p0 was made above")
    }

    pub(crate) fn ask<T: Send>(&self, question: impl FnOnce(&mut Netlink) -> T + Send) -> T {
        self.prober
            .enter(|| question(&mut Netlink::open().unwrap()))
    }

    pub(crate) fn watch(&self, addresses: &[&str]) -> Watch {
        let queries: Vec<RouteQuery> = addresses.iter().map(|text| ip(text).into()).collect();
        let link = self.link();
        self.watch_through(&queries, &[&link])
    }

    /// Keeps these routes, through these links; the first one's MAC is that of heads.
    pub(crate) fn watch_through(&self, queries: &[RouteQuery], links: &[&Link]) -> Watch {
        let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
        let table = RouteTable::new(queries, &indices);
        let (updates, notices, keeper) = self.prober.enter(|| RouteKeeper::spawn(table).unwrap());
        Watch::new(updates, notices, keeper, links[0].mac.unwrap())
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn mac(generation: u8, number: u8) -> Mac {
    Mac([2, 0, 0, 0, generation, number])
}

/// A second interface of the prober's, with a gateway of its own to 198.51.100.0/24 behind it.
pub(crate) fn second_interface(net: &Net) -> Link {
    let Net { prober, hosts } = net;
    prober.ip(&format!(
        "link add p1 type veth peer name h1 netns {}",
        hosts.name
    ));
    hosts.ip(&format!("link set h1 address {} up", mac(4, 1)));
    hosts.ip("address add 203.0.113.1/24 dev h1");
    prober.ip("link set p1 up");
    prober.ip("address add 203.0.113.99/24 dev p1");
    prober.ip("address add 203.0.113.98/24 dev p1");
    prober.ip("route add 198.51.100.0/24 via 203.0.113.1 metric 500");
    net.ask(|netlink| netlink.interface("p1").unwrap())
}
