//! What the kernel says when it is asked: routes, addresses, interfaces, and why not.

use std::net::IpAddr;
use std::time::Instant;

use pinger::destination::Protocol;
use pinger::route::{NoRoute, RouteQuery, RouteUpdate};
use pinger::wire::netlink::{InterfaceAddress, InterfaceError};

use crate::net::{Net, ip, second_interface};
use crate::watch::PATIENCE;

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

/// Rules that look at more of a packet than where it goes: its source, protocol, port and type of
/// service. Whom they choose takes another way.
fn add_rules(net: &Net) {
    for rule in [
        "rule add from 203.0.113.98 lookup 100",
        // By its name a protocol wants a file that a bare machine lacks.
        "rule add ipproto 6 dport 443 lookup 100",
        "rule add tos 0x10 lookup 100",
        "route add 198.51.100.0/24 via 203.0.113.1 table 100",
        "-6 rule add from 2001:db8::98 lookup 100",
        "-6 route add 2001:db8:1::/64 via 2001:db8::2 table 100",
        // Deprecated, so that it is no route's own choice.
        "address add 2001:db8::98/64 dev p0 nodad preferred_lft 0",
    ] {
        net.prober.ip(rule);
    }
}

#[test]
fn a_source_that_is_named_is_kept_and_rules_see_all_of_the_packet() {
    let net = Net::new();
    let [first, second] = [net.link().index, second_interface(&net).index];
    add_rules(&net);
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
