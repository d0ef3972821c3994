//! Ways of a host that exists only here; the kernel's part is tested in `tests/tests/route/`.

use super::*;
use crate::destination::Protocol;
use crate::route::Mac;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32) -> Link {
    Link {
        index,
        name: format!("eth{index}"),
        mac: Some(Mac([2, 0, 0, 0, 0, index as u8])),
        mtu: 1500,
        up: true,
        running: true,
        loopback: false,
    }
}

/// Three interfaces: eth1 has addresses of both families, eth2 of IPv4 only, and eth3 is down.
fn host(named: Option<u32>) -> Host {
    let down = Link {
        up: false,
        running: false,
        ..link(3)
    };
    let own = |link, address| InterfaceAddress {
        link,
        address: ip(address),
        link_local: address.starts_with("fe80"),
    };
    let addresses = vec![
        own(1, "192.0.2.9"),
        own(1, "192.0.2.10"),
        own(1, "fe80::9"),
        own(1, "2001:db8::9"),
        own(2, "198.51.100.9"),
    ];
    Host::new(vec![down, link(2), link(1)], addresses, named)
}

fn to(address: &str) -> Destination {
    Destination::echo(ip(address))
}

fn through(link: u32, mtu: u32) -> Route {
    Route {
        link,
        source: ip("192.0.2.9"),
        next_hop: ip("192.0.2.1"),
        mtu,
    }
}

#[test]
fn a_destination_s_own_interface_comes_before_that_of_the_run() {
    let own = |name: &str| Destination {
        interface: Some(name.into()),
        ..to("203.0.113.1")
    };
    for (named, destination, expected) in [
        (None, to("203.0.113.1"), None),
        (Some(1), to("203.0.113.1"), Some(1)),
        (None, own("eth2"), Some(2)),
        (Some(1), own("eth2"), Some(2)),
    ] {
        let query = host(named).query(&destination).unwrap();
        assert_eq!(query.link, expected, "{named:?} {destination:?}");
    }
    for (name, expected) in [
        ("eth3", "eth3 is down"),
        ("eth7", "no interface eth7; this host has: eth1, eth2, eth3"),
    ] {
        let why = host(None).query(&own(name)).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn the_kernel_is_asked_for_the_packet_that_is_sent() {
    let destination = Destination {
        protocol: Protocol::Tcp,
        port: 443,
        traffic_class: 0xb8,
        ..to("203.0.113.1")
    };
    let expected = RouteQuery {
        protocol: Protocol::Tcp,
        port: 443,
        traffic_class: 0xb8,
        ..ip("203.0.113.1").into()
    };
    assert_eq!(host(None).query(&destination).unwrap(), expected);
}

#[test]
fn a_source_is_an_address_of_this_host_or_the_first_of_an_interface() {
    use destination::From::{Address, Interface};
    let source = |address: &str, from: destination::From| {
        let destination = Destination {
            from: Some(from),
            ..to(address)
        };
        let query = host(None).query(&destination);
        query
            .map(|query| query.source.unwrap())
            .map_err(|why| why.to_string())
    };
    for (address, from, expected) in [
        ("203.0.113.1", Address(ip("198.51.100.9")), "198.51.100.9"),
        ("203.0.113.1", Interface("eth1".into()), "192.0.2.9"),
        ("203.0.113.1", Interface("eth2".into()), "198.51.100.9"),
        ("2001:db8:1::1", Interface("eth1".into()), "2001:db8::9"),
    ] {
        assert_eq!(source(address, from), Ok(ip(expected)));
    }
    for (address, from, named) in [
        ("203.0.113.1", Address(ip("203.0.113.9")), "203.0.113.9"),
        ("203.0.113.1", Address(ip("2001:db8::9")), "other address"),
        ("2001:db8:1::1", Interface("eth2".into()), "eth2"),
        ("203.0.113.1", Interface("eth3".into()), "no IPv4 address"),
        ("203.0.113.1", Interface("eth9".into()), "no interface eth9"),
    ] {
        let why = source(address, from).unwrap_err();
        assert!(why.contains(named), "{why}");
    }
}

#[test]
fn each_interface_in_use_gets_one_place() {
    let host = host(None);
    let mut way = Way::default();
    let destination = to("203.0.113.1");
    let query = RouteQuery::from(destination.address);
    for index in [2, 1, 2, 1] {
        let source = way.accept(&host, &destination, &query, Ok(through(index, 0)));
        assert_eq!(source.unwrap(), ip("192.0.2.9"));
    }
    assert_eq!(way.interfaces(), "eth2, eth1");
    assert_eq!(way.interface(1), "eth1");
    for index in 10..10 + LINKS_MAX as u32 - 2 {
        way.take(&link(index)).unwrap();
    }
    let why = way.take(&link(9)).unwrap_err().to_string();
    assert!(why.contains("eth9") && why.contains("32"), "{why}");
}

#[test]
fn a_way_that_does_not_do_is_refused_by_name() {
    let host = host(None);
    let wide = Destination {
        size: 1400,
        ..to("203.0.113.1")
    };
    let plain = RouteQuery::from(wide.address);
    let by_eth1 = RouteQuery {
        link: Some(1),
        ..plain
    };
    for (query, route, expected) in [
        (by_eth1, through(2, 0), "leaves through eth2"),
        (plain, through(3, 0), "eth3 is down"),
        (plain, through(8, 0), "just come or gone"),
        (plain, through(1, 1280), "MTU of 1280; ask for 1252 or less"),
    ] {
        let mut way = Way::default();
        let why = way.accept(&host, &wide, &query, Ok(route)).unwrap_err();
        assert!(why.to_string().contains(expected), "{why}");
        assert!(way.links.is_empty(), "nothing leaves there");
    }
}
