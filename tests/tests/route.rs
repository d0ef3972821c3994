//! Routes, neighbours and interfaces as the real kernel tells them, in network namespaces.
//!
//! One namespace holds the prober, another the hosts: two gateways and a plain host, each with a
//! MAC of its own, behind one veth pair.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot ask the kernel has failed"
)]

mod netns;

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use netns::Namespace;
use pinger::destination::{FlowIndex, Protocol};
use pinger::route::{
    FlowRoute, Head, HopIndex, HopState, Link, LinkPlace, Mac, NeighbourState, NoRoute, RouteQuery,
    RouteTable, RouteUpdate,
};
use pinger::wire::netlink::{
    InterfaceAddress, InterfaceError, LinkChange, Netlink, RouteKeeper, RouteNotice,
};

/// Longer than the slowest path takes: a round of five seconds, three unanswered requests a
/// second apart, three more for the new MAC.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two gateways (.1 and .2) and a host (.10).
const HOSTS: [(&str, u8); 3] = [("gw1", 1), ("gw2", 2), ("host", 10)];

struct Net {
    prober: Namespace,
    hosts: Namespace,
}

impl Net {
    fn new() -> Self {
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

    fn link(&self) -> Link {
        self.ask(|netlink| netlink.link_by_name("p0").unwrap())
            .expect("p0 was made above")
    }

    fn ask<T: Send>(&self, question: impl FnOnce(&mut Netlink) -> T + Send) -> T {
        self.prober
            .enter(|| question(&mut Netlink::open().unwrap()))
    }

    fn watch(&self, addresses: &[&str]) -> Watch {
        let queries: Vec<RouteQuery> = addresses.iter().map(|text| ip(text).into()).collect();
        let link = self.link();
        self.watch_through(&queries, &[&link])
    }

    /// Keeps these routes, through these links; the first one's MAC is that of heads.
    fn watch_through(&self, queries: &[RouteQuery], links: &[&Link]) -> Watch {
        let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
        let table = RouteTable::new(queries, &indices);
        let (updates, notices, keeper) = self.prober.enter(|| RouteKeeper::spawn(table).unwrap());
        let (heads, flows, notes) = (HashMap::new(), HashMap::new(), Vec::new());
        Watch {
            updates,
            notices,
            keeper,
            source: links[0].mac.unwrap(),
            heads,
            flows,
            notes,
        }
    }
}

/// A keeper, and an engine's view of what it said.
struct Watch {
    updates: Receiver<RouteUpdate>,
    notices: Receiver<RouteNotice>,
    keeper: RouteKeeper,
    source: Mac,
    heads: HashMap<HopIndex, Option<Head>>,
    flows: HashMap<FlowIndex, Option<FlowRoute>>,
    notes: Vec<RouteNotice>,
}

impl Watch {
    /// Applies updates until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.notes.extend(self.notices.try_iter());
            if holds(self) {
                return;
            }
            // A short wait, as notices come on a channel of their own.
            match self.updates.recv_timeout(Duration::from_millis(20)) {
                Ok(RouteUpdate::Hop { hop, head }) => drop(self.heads.insert(hop, head)),
                Ok(RouteUpdate::Flow { flow, route }) => drop(self.flows.insert(flow, route)),
                Err(_) => assert!(
                    Instant::now() < deadline,
                    "never: {what}\nheads {:?}\nflows {:?}\nnotices {:?}",
                    self.heads,
                    self.flows,
                    self.notes
                ),
            }
        }
    }

    fn head(&self, flow: u32) -> Option<Head> {
        let route = self.flows.get(&FlowIndex(flow)).copied().flatten()?;
        self.heads[&route.hop]
    }

    /// Flow goes to this MAC, from ours, with the ethertype of its family.
    fn goes_to(&self, flow: u32, to: Mac) -> bool {
        self.head(flow).is_some_and(|head| {
            let ipv6 = self.flows[&FlowIndex(flow)].is_some_and(|route| route.source.is_ipv6());
            let ethertype = if ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            let head = head.bytes;
            head[..6] == to.0 && head[6..12] == self.source.0 && head[12..] == ethertype
        })
    }

    fn until_all_go_to(&mut self, to: &[Mac]) {
        let all = |watch: &Self| (0..).zip(to).all(|(flow, to)| watch.goes_to(flow, *to));
        self.until(&format!("flows go to {to:?}"), all);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(generation: u8, number: u8) -> Mac {
    Mac([2, 0, 0, 0, generation, number])
}

#[test]
fn the_kernel_names_routes_or_says_why_there_are_none() {
    let net = Net::new();
    for route in [
        "prohibit 203.0.113.0/28",
        "unreachable 203.0.113.16/28",
        "blackhole 203.0.113.32/28",
        "prohibit 2001:db8:2::/64",
        "unreachable 2001:db8:3::/64",
        "blackhole 2001:db8:4::/64",
        "10.0.0.0/8 via inet6 2001:db8::1 dev p0",
        "10.1.0.0/16 via 192.0.2.1 mtu 1200 src 192.0.2.99",
    ] {
        net.prober.ip(&format!("route add {route}"));
    }
    let link = net.link().index;
    net.ask(|netlink| {
        let mut check = |address: &str, next_hop: &str, source: &str, mtu: u32| {
            let route = netlink.route_to(ip(address).into()).unwrap().unwrap();
            let got = (route.link, route.next_hop, route.source, route.mtu);
            assert_eq!(got, (link, ip(next_hop), ip(source), mtu), "{address}");
        };
        check("192.0.2.10", "192.0.2.10", "192.0.2.99", 0);
        check("198.51.100.7", "192.0.2.1", "192.0.2.99", 0);
        check("10.9.9.9", "2001:db8::1", "192.0.2.99", 0);
        check("10.1.9.9", "192.0.2.1", "192.0.2.99", 1200);
        check("2001:db8::10", "2001:db8::10", "2001:db8::99", 0);
        check("2001:db8:1::7", "2001:db8::1", "2001:db8::99", 0);

        let forbidden = |address: &str, kind| NoRoute::Forbidden {
            address: ip(address),
            kind,
        };
        let mut check = |address: &str, why: NoRoute| {
            assert_eq!(
                netlink.route_to(ip(address).into()).unwrap(),
                Err(why),
                "{address}"
            );
        };
        for own in ["127.0.0.1", "192.0.2.99", "::1", "2001:db8::99"] {
            check(own, NoRoute::Local(ip(own)));
        }
        check("192.0.2.255", NoRoute::Broadcast(ip("192.0.2.255")));
        check("255.255.255.255", NoRoute::Broadcast(ip("255.255.255.255")));
        for none in ["0.0.0.0", "::"] {
            check(none, NoRoute::NotUnicast(ip(none)));
        }
        check("224.0.0.1", NoRoute::NotUnicast(ip("224.0.0.1")));
        check("ff02::1", NoRoute::NotUnicast(ip("ff02::1")));
        check("8.8.8.8", NoRoute::Missing(ip("8.8.8.8")));
        check("2001:db8:ffff::1", NoRoute::Missing(ip("2001:db8:ffff::1")));
        check("203.0.113.1", forbidden("203.0.113.1", "prohibit"));
        check("203.0.113.17", forbidden("203.0.113.17", "unreachable"));
        check("203.0.113.33", forbidden("203.0.113.33", "blackhole"));
        check("2001:db8:2::1", forbidden("2001:db8:2::1", "prohibit"));
        check("2001:db8:3::1", forbidden("2001:db8:3::1", "unreachable"));
        check("2001:db8:4::1", forbidden("2001:db8:4::1", "blackhole"));
    });
}

/// A second interface of the prober's, with a gateway of its own to 198.51.100.0/24 behind it.
fn second_interface(net: &Net) -> Link {
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

#[test]
fn an_interface_that_is_named_decides_the_route() {
    let net = Net::new();
    second_interface(&net);
    net.ask(|netlink| {
        for (name, next_hop, source) in [
            ("p0", "192.0.2.1", "192.0.2.99"),
            ("p1", "203.0.113.1", "203.0.113.99"),
        ] {
            let link = netlink.interface(name).unwrap().index;
            let query = RouteQuery {
                link: Some(link),
                ..ip("198.51.100.7").into()
            };
            let route = netlink.route_to(query).unwrap().unwrap();
            let got = (route.link, route.next_hop, route.source);
            assert_eq!(got, (link, ip(next_hop), ip(source)));
        }
    });
}

#[test]
fn a_source_that_is_named_is_kept_and_rules_see_all_of_the_packet() {
    let net = Net::new();
    let [first, second] = [net.link().index, second_interface(&net).index];
    let rules = [
        "rule add from 203.0.113.98 lookup 100",
        "rule add ipproto 6 dport 443 lookup 100", // by name it wants a file that a bare machine lacks
        "rule add tos 0x10 lookup 100",
        "route add 198.51.100.0/24 via 203.0.113.1 table 100",
        "-6 rule add from 2001:db8::98 lookup 100",
        "-6 route add 2001:db8:1::/64 via 2001:db8::2 table 100",
        // Deprecated, so that it is no route's own choice.
        "address add 2001:db8::98/64 dev p0 nodad preferred_lft 0",
    ];
    for rule in rules {
        net.prober.ip(rule);
    }
    let plain = RouteQuery::from(ip("198.51.100.7"));
    let plain6 = RouteQuery::from(ip("2001:db8:1::7"));
    let from = |source: &str, plain| RouteQuery {
        source: Some(ip(source)),
        ..plain
    };
    let tcp = |port| RouteQuery {
        protocol: Protocol::Tcp,
        port,
        ..plain
    };
    let marked = |traffic_class| RouteQuery {
        traffic_class,
        ..plain
    };
    net.ask(|netlink| {
        for (query, link, next_hop, source) in [
            (plain, first, "192.0.2.1", "192.0.2.99"),
            (from("192.0.2.99", plain), first, "192.0.2.1", "192.0.2.99"),
            // An address of another interface is ours, too.
            (
                from("203.0.113.99", plain),
                first,
                "192.0.2.1",
                "203.0.113.99",
            ),
            (
                from("203.0.113.98", plain),
                second,
                "203.0.113.1",
                "203.0.113.98",
            ),
            (tcp(443), second, "203.0.113.1", "203.0.113.99"),
            (tcp(80), first, "192.0.2.1", "192.0.2.99"),
            // With ECN bits, which rules do not see, nor does the kernel take them.
            (marked(0x13), second, "203.0.113.1", "203.0.113.99"),
            (marked(0xbb), first, "192.0.2.1", "192.0.2.99"),
            (plain6, first, "2001:db8::1", "2001:db8::99"),
            (
                from("2001:db8::98", plain6),
                first,
                "2001:db8::2",
                "2001:db8::98",
            ),
        ] {
            let route = netlink.route_to(query).unwrap();
            let got = route.map(|route| (route.link, route.next_hop, route.source));
            assert_eq!(got, Ok((link, ip(next_hop), ip(source))), "{query:?}");
        }
        let query = from("192.0.2.50", plain);
        let refused = NoRoute::From {
            address: query.to,
            source_address: ip("192.0.2.50"),
        };
        assert_eq!(netlink.route_to(query).unwrap(), Err(refused));
    });
}

#[test]
fn addresses_are_listed_in_the_kernel_s_order_with_their_interfaces() {
    let net = Net::new();
    let [first, second] = [net.link().index, second_interface(&net).index];
    let all = net.ask(|netlink| netlink.addresses().unwrap());
    let of = |link: u32, ipv4: bool| -> Vec<IpAddr> {
        let of_link = |own: &&InterfaceAddress| {
            own.link == link && own.address.is_ipv4() == ipv4 && !own.link_local
        };
        all.iter().filter(of_link).map(|own| own.address).collect()
    };
    assert_eq!(of(first, true), [ip("192.0.2.99")]);
    assert_eq!(of(first, false), [ip("2001:db8::99")]);
    assert_eq!(of(second, true), ["203.0.113.99", "203.0.113.98"].map(ip));
    assert!(of(second, false).is_empty());
    assert!(all.iter().any(|own| own.link_local && own.link == second));
    assert!(all.iter().any(|own| own.address == ip("127.0.0.1")));
}

#[test]
fn flows_through_two_interfaces_are_followed_each_on_its_own() {
    let net = Net::new();
    let (first, second) = (net.link(), second_interface(&net));
    let plain = RouteQuery::from(ip("198.51.100.7"));
    let queries = [
        plain,
        RouteQuery {
            link: Some(second.index),
            ..plain
        },
        ip("203.0.113.1").into(),
    ];
    let mut watch = net.watch_through(&queries, &[&first, &second]);
    let leaves = |watch: &Watch, flow: u32, to: Mac, place: u8| {
        let source = [&first, &second][usize::from(place)].mac.unwrap();
        watch.head(flow).is_some_and(|head| {
            let macs = (&head.bytes[..6], &head.bytes[6..12]);
            macs == (&to.0, &source.0) && head.link == LinkPlace(place)
        })
    };
    let both = |watch: &Watch| {
        leaves(watch, 0, mac(1, 1), 0)
            && leaves(watch, 1, mac(4, 1), 1)
            && leaves(watch, 2, mac(4, 1), 1)
    };
    watch.until("each leaves by its own interface", both);

    net.hosts.ip("link set h1 down");
    watch.until(
        "the second has no carrier, the first is as before",
        |watch| {
            leaves(watch, 0, mac(1, 1), 0) && watch.head(1).is_none() && watch.head(2).is_none()
        },
    );
    let told = |watch: &Watch| {
        watch.notes.iter().any(|note| {
            matches!(note, RouteNotice::Link { name, change: LinkChange::NoCarrier } if name == "p1")
        })
    };
    watch.until("and that is told by name", told);
    net.hosts.ip("link set h1 up");
    watch.until("it is back", both);

    // The plain route moves to the second interface; who asked for the second one stays there.
    net.prober.ip("route del 198.51.100.0/24 via 192.0.2.1");
    watch.until("the route's interface is followed", |watch| {
        (0..3).all(|flow| leaves(watch, flow, mac(4, 1), 1))
    });
}

#[test]
fn an_interface_that_cannot_be_probed_through_says_why() {
    let net = Net::new();
    net.prober.ip("tuntap add dev tun0 mode tun");
    net.prober.ip("link add down0 type veth peer name peer0");
    net.prober.ip("link add quiet0 type veth peer name peer1");
    net.prober.ip("link set quiet0 up");
    net.ask(|netlink| {
        assert_eq!(netlink.interface("p0").unwrap().name, "p0");
        let mut check = |name: &str, expected: fn(&InterfaceError) -> bool, text: &str| {
            let error = netlink.interface(name).unwrap_err();
            assert!(expected(&error), "{name}: {error:?}");
            assert!(error.to_string().contains(text), "{error}");
        };
        check(
            "nope0",
            |e| matches!(e, InterfaceError::NoSuch { .. }),
            "p0",
        );
        check(
            "lo",
            |e| matches!(e, InterfaceError::Loopback { .. }),
            "loopback",
        );
        check(
            "tun0",
            |e| matches!(e, InterfaceError::NotEthernet { .. }),
            "no Ethernet address",
        );
        check(
            "down0",
            |e| matches!(e, InterfaceError::Down { .. }),
            "ip link set down0 up",
        );
        check(
            "quiet0",
            |e| matches!(e, InterfaceError::NoCarrier { .. }),
            "no carrier",
        );
    });
}

#[test]
fn next_hops_are_resolved_before_the_start_and_the_silent_ones_are_named() {
    let net = Net::new();
    let mut watch = net.watch(&[
        "192.0.2.10",
        "198.51.100.7",
        "2001:db8::10",
        "2001:db8:1::7",
        "192.0.2.77",
        "2001:db8::77",
        "8.8.8.8",
    ]);
    let readiness = watch.keeper.wait_ready(PATIENCE);
    assert_eq!(readiness.ready, 4);
    let mut silent: Vec<_> = readiness
        .unresolved
        .iter()
        .map(|hop| (hop.key.next_hop, hop.state))
        .collect();
    silent.sort_unstable_by_key(|(next_hop, _)| *next_hop);
    let expected =
        [ip("192.0.2.77"), ip("2001:db8::77")].map(|next_hop| (next_hop, HopState::Unreachable));
    assert_eq!(silent, expected);
    let missing = NoRoute::Missing(ip("8.8.8.8"));
    assert_eq!(readiness.no_route, [(FlowIndex(6), missing)]);
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1), mac(1, 10), mac(1, 1)]);
    for flow in 4..7 {
        assert_eq!(watch.head(flow), None);
    }
}

#[test]
fn a_neighbour_that_announces_its_new_mac_is_followed() {
    let net = Net::new();
    // Else the kernel ignores a second MAC within a second of the first.
    net.prober.sysctl("net.ipv4.neigh.p0.locktime", 0);
    net.hosts.sysctl("net.ipv4.conf.gw1.arp_notify", 1);
    net.hosts.sysctl("net.ipv6.conf.gw1.ndisc_notify", 1);
    let mut watch = net.watch(&["198.51.100.7", "2001:db8:1::7"]);
    watch.until_all_go_to(&[mac(1, 1); 2]);
    net.hosts.ip(&format!("link set gw1 address {}", mac(2, 1)));
    watch.until_all_go_to(&[mac(2, 1); 2]);
    let moved = |note: &RouteNotice| matches!(note, RouteNotice::Moved { from, to, .. } if *from == mac(1, 1) && *to == mac(2, 1));
    watch.until("both moves are told", |watch| {
        watch.notes.iter().filter(|note| moved(note)).count() == 2
    });
}

#[test]
fn a_neighbour_that_moves_without_a_word_is_found_and_what_others_keep_is_left_alone() {
    let net = Net::new();
    let fixed = mac(9, 77);
    for address in ["192.0.2.77", "2001:db8::77"] {
        net.prober.ip(&format!(
            "neigh add {address} lladdr {fixed} dev p0 nud permanent"
        ));
    }
    net.prober.ip(&format!(
        "neigh add 192.0.2.78 lladdr {fixed} dev p0 extern_learn"
    ));
    let mut watch = net.watch(&[
        "192.0.2.10",
        "2001:db8::10",
        "192.0.2.77",
        "2001:db8::77",
        "192.0.2.78",
    ]);
    watch.until_all_go_to(&[mac(1, 10), mac(1, 10), fixed, fixed, fixed]);
    net.hosts
        .ip(&format!("link set host address {}", mac(2, 10)));
    watch.until_all_go_to(&[mac(2, 10), mac(2, 10), fixed, fixed, fixed]);

    let neighbours = net.prober.ip("neigh show dev p0");
    let line = |address: &str| {
        let found = neighbours
            .lines()
            .find(|line| line.split(' ').next() == Some(address));
        found.unwrap_or_else(|| panic!("{address} is not in {neighbours}"))
    };
    assert!(line("192.0.2.77").contains("PERMANENT"), "{neighbours}");
    assert!(line("2001:db8::77").contains("PERMANENT"), "{neighbours}");
    assert!(line("192.0.2.78").contains("extern_learn"), "{neighbours}");
    let link = net.link().index;
    let known = net.ask(|netlink| netlink.neighbours(link).unwrap());
    let usable = NeighbourState::Usable {
        mac: fixed,
        fixed: true,
    };
    for address in ["192.0.2.77", "2001:db8::77", "192.0.2.78"] {
        assert!(
            known.contains(&(ip(address), usable)),
            "{address} in {known:?}"
        );
    }
}

#[test]
fn a_forgotten_neighbour_keeps_its_head_and_a_new_one_is_learnt() {
    let net = Net::new();
    let mut watch = net.watch(&["192.0.2.10"]);
    watch.until_all_go_to(&[mac(1, 10)]);
    net.prober.ip("neigh flush dev p0");
    net.hosts
        .ip(&format!("link set host address {}", mac(2, 10)));
    watch.until("it is found again", |watch| {
        watch.goes_to(0, mac(2, 10)) || {
            assert!(
                watch.goes_to(0, mac(1, 10)),
                "the last MAC stays until then"
            );
            false
        }
    });
}

#[test]
fn a_route_that_moves_to_another_gateway_is_followed() {
    let net = Net::new();
    let mut watch = net.watch(&["198.51.100.7", "2001:db8:1::7", "192.0.2.10"]);
    watch.until_all_go_to(&[mac(1, 1), mac(1, 1), mac(1, 10)]);
    net.prober.ip("route replace 198.51.100.0/24 via 192.0.2.2");
    net.prober
        .ip("route replace 2001:db8:1::/64 via 2001:db8::2");
    watch.until_all_go_to(&[mac(1, 2), mac(1, 2), mac(1, 10)]);

    // A longer prefix, a policy rule, another source address: each decides anew.
    net.prober
        .ip("route add 198.51.100.7/32 via 192.0.2.1 src 192.0.2.99");
    watch.until_all_go_to(&[mac(1, 1), mac(1, 2), mac(1, 10)]);
    net.prober
        .ip("route add 198.51.100.0/24 via 192.0.2.2 table 100");
    net.prober.ip("rule add to 198.51.100.0/24 lookup 100");
    watch.until_all_go_to(&[mac(1, 2), mac(1, 2), mac(1, 10)]);
    net.prober.ip("address add 192.0.2.98/24 dev p0");
    net.prober
        .ip("route replace 198.51.100.0/24 via 192.0.2.2 src 192.0.2.98 table 100");
    watch.until("the source moves", |watch| {
        watch.flows[&FlowIndex(0)].is_some_and(|route| route.source == ip("192.0.2.98"))
    });

    net.prober.ip("rule del to 198.51.100.0/24 lookup 100");
    net.prober.ip("route del 198.51.100.7/32");
    net.prober.ip("route del 198.51.100.0/24");
    watch.until("the route is gone", |watch| {
        watch.flows[&FlowIndex(0)].is_none()
    });
    watch.until("and that is told", |watch| {
        watch
            .notes
            .iter()
            .any(|note| matches!(note, RouteNotice::Routes { lost: 1, .. }))
    });
    net.prober.ip("route add 198.51.100.0/24 via 192.0.2.1");
    watch.until_all_go_to(&[mac(1, 1), mac(1, 2), mac(1, 10)]);
}

#[test]
fn an_interface_that_goes_down_and_comes_back_is_followed() {
    let net = Net::new();
    let mut watch = net.watch(&["192.0.2.10", "198.51.100.7"]);
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);
    let told = |change: LinkChange| {
        move |watch: &Watch| {
            let same = |note: &RouteNotice| matches!(note, RouteNotice::Link { change: c, .. } if *c == change);
            watch.notes.iter().any(same)
        }
    };

    net.hosts.ip("link set h0 down");
    watch.until("no carrier, no head", |watch| {
        watch.head(0).is_none() && watch.head(1).is_none()
    });
    watch.until("the lost carrier is told", told(LinkChange::NoCarrier));
    net.hosts.ip("link set h0 up");
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    net.prober.ip("link set p0 down");
    watch.until("no routes", |watch| {
        watch.flows.values().all(Option::is_none)
    });
    watch.until("the interface is told", told(LinkChange::Down));
    net.prober.ip("link set p0 up");
    net.prober.ip("route add 198.51.100.0/24 via 192.0.2.1");
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    watch.source = mac(3, 99);
    net.prober
        .ip(&format!("link set p0 address {}", mac(3, 99)));
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    net.prober.ip("link del p0");
    watch.until("nothing is left", |watch| {
        watch.flows.values().all(Option::is_none)
    });
    watch.until("the interface is told", told(LinkChange::Gone));
}

#[test]
fn lost_announcements_are_noticed_and_everything_is_read_again() {
    let net = Net::new();
    let mut watch = net.watch(&["198.51.100.7"]);
    watch.until_all_go_to(&[mac(1, 1)]);
    // While we hold the table, the keeper cannot listen, and a storm fills its buffer.
    watch.keeper.with_table(|_| {
        let mut batch = tempfile(&net);
        for number in 0..60_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            writeln!(batch.1, "route add 10.{b}.{c}.{d}/32 via 192.0.2.2").unwrap();
        }
        writeln!(batch.1, "route replace 198.51.100.0/24 via 192.0.2.2").unwrap();
        batch.1.flush().unwrap();
        net.prober.ip(&format!("-batch {}", batch.0.display()));
        std::fs::remove_file(&batch.0).unwrap();
    });
    watch.until_all_go_to(&[mac(1, 2)]);
    watch.until("the overrun is told", |watch| {
        watch
            .notes
            .iter()
            .any(|note| matches!(note, RouteNotice::Overrun))
    });
}

fn tempfile(net: &Net) -> (std::path::PathBuf, std::io::BufWriter<std::fs::File>) {
    let path = std::env::temp_dir().join(&net.prober.name);
    let file = std::fs::File::create(&path).unwrap();
    (path, std::io::BufWriter::new(file))
}

#[test]
fn sixty_five_thousand_destinations_are_routed_at_once() {
    let net = Net::new();
    net.prober.ip("route add 10.0.0.0/8 via 192.0.2.1");
    let addresses: Vec<IpAddr> = (0..65_536_u32)
        .map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
        .collect();
    let queries: Vec<RouteQuery> = addresses.iter().map(|address| (*address).into()).collect();
    let routes = net.ask(|netlink| {
        let begin = Instant::now();
        let routes = netlink.routes_to(&queries).unwrap();
        println!("65,536 routes in {:?}", begin.elapsed());
        routes
    });
    assert_eq!(routes.len(), addresses.len());
    assert!(
        routes
            .iter()
            .all(|r| r.as_ref().is_ok_and(|r| r.next_hop == ip("192.0.2.1")))
    );

    let begin = Instant::now();
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let watch = net.watch(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let readiness = watch.keeper.wait_ready(PATIENCE);
    println!("65,536 flows ready in {:?}", begin.elapsed());
    assert_eq!((readiness.ready, readiness.unresolved.len()), (1, 0));
    assert_eq!(
        watch.updates.try_iter().filter(is_routed).count(),
        addresses.len()
    );
    let begin = Instant::now();
    drop(watch);
    println!("keeper ended in {:?}", begin.elapsed());
}

fn is_routed(update: &RouteUpdate) -> bool {
    matches!(update, RouteUpdate::Flow { route: Some(_), .. })
}
