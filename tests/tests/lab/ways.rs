//! The ways to the hosts: gateways, routers that tell of themselves, dead ends, a second interface.

use std::net::{IpAddr, UdpSocket};

use xtask::lab::{
    BLACK_HOLE, DEAD_ENDS, DeadEnd, ECHO_PORT, INTERFACE, Lab, Namespace, SECOND_INTERFACE, Shape,
};

use crate::ask::{
    PATIENCE, SILENCE, answers, bind_to_device, datagrams, icmp_error, icmp_socket, ip, ping_from,
    set_ttl,
};

#[test]
fn a_chain_of_gateways_takes_its_hops() {
    let lab = Lab::new(Shape {
        gateways: 2,
        ..Shape::default()
    })
    .unwrap();
    for host in ["198.18.0.1", "2001:2:0:1::1"] {
        let host: IpAddr = host.parse().unwrap();
        assert!(
            ping_from(&lab, host, 3, PATIENCE),
            "{host} is two gateways and a hop away"
        );
        assert!(
            !ping_from(&lab, host, 2, SILENCE),
            "{host} is nearer than it should be"
        );
    }
}

#[test]
fn dead_ends_answer_as_they_say_or_not_at_all() {
    for gateways in [0, 2] {
        let lab = Lab::new(Shape {
            gateways,
            ..Shape::default()
        })
        .unwrap();
        let check = |prefix: &str, expected: Option<(u8, u8)>| {
            let host: IpAddr = prefix.split('/').next().unwrap().parse().unwrap();
            let host = match host {
                IpAddr::V4(host) => IpAddr::from((host.to_bits() + 9).to_be_bytes()),
                IpAddr::V6(host) => IpAddr::from((host.to_bits() + 9).to_be_bytes()),
            };
            let errors = icmp_socket(host.is_ipv4());
            if expected.is_none() {
                errors.set_read_timeout(Some(SILENCE)).unwrap();
            }
            datagrams(host).send_to(&[0; 16], (host, 7)).unwrap();
            let neighbour: IpAddr = if host.is_ipv4() {
                "198.19.0.2".parse().unwrap()
            } else {
                "2001:2::2".parse().unwrap()
            };
            let expected = expected.map(|(kind, code)| (neighbour, kind, code));
            assert_eq!(icmp_error(&errors, host.is_ipv4()), expected, "{prefix}");
        };
        let work = || {
            for DeadEnd {
                ipv4,
                ipv6,
                icmp,
                icmp6,
                ..
            } in DEAD_ENDS
            {
                check(ipv4, icmp);
                check(ipv6, icmp6);
            }
        };
        lab.prober().enter(work).unwrap();
    }
    assert_eq!((BLACK_HOLE.icmp, BLACK_HOLE.icmp6), (None, None));
}

#[test]
fn a_chain_of_sixteen_hops_names_each_of_its_routers() {
    const ROUTERS: usize = 15;
    let lab = Lab::new(Shape {
        gateways: ROUTERS,
        ..Shape::default()
    })
    .unwrap();
    let check = |host: &str, router: &dyn Fn(usize) -> IpAddr, exceeded: (u8, u8)| {
        let host: IpAddr = host.parse().unwrap();
        let errors = icmp_socket(host.is_ipv4());
        let socket = datagrams(host);
        for hop in 1..=ROUTERS {
            set_ttl(&socket, host.is_ipv4(), hop as u32);
            socket.send_to(&[0; 16], (host, ECHO_PORT)).unwrap();
            let expected = (router(hop), exceeded.0, exceeded.1);
            assert_eq!(
                icmp_error(&errors, host.is_ipv4()),
                Some(expected),
                "hop {hop}"
            );
        }
        set_ttl(&socket, host.is_ipv4(), ROUTERS as u32 + 1);
        socket.send_to(b"here", (host, ECHO_PORT)).unwrap();
        let mut got = [0; 8];
        let (len, from) = socket.recv_from(&mut got).unwrap();
        assert_eq!((from.ip(), &got[..len]), (host, &b"here"[..]));
    };
    let work = || {
        check(
            "198.18.0.1",
            &|hop| xtask::lab::router_ipv4(hop).into(),
            (11, 0),
        );
        check(
            "2001:2:0:1::1",
            &|hop| xtask::lab::router_ipv6(hop).into(),
            (3, 0),
        );
    };
    lab.prober().enter(work).unwrap();
    assert_eq!(lab.gateways().len(), ROUTERS);
}

#[test]
fn the_second_interface_leads_to_hosts_of_its_own() {
    let lab = Lab::new(Shape {
        second: true,
        ..Shape::default()
    })
    .unwrap();
    for host in [
        "198.18.0.1",
        "2001:2:0:1::1",
        "198.19.32.7",
        "2001:2:0:20::7",
    ] {
        answers(&lab, host);
    }
    for (host, interface) in [
        ("198.18.0.1", INTERFACE),
        ("2001:2:0:1::1", INTERFACE),
        ("198.19.32.7", SECOND_INTERFACE),
        ("2001:2:0:20::7", SECOND_INTERFACE),
    ] {
        let route = ip(&lab, &format!("route get {host}"));
        assert!(route.contains(&format!("dev {interface} ")), "{route}");
    }
    // Whoever asks for the second interface reaches the first one's hosts there as well.
    for host in ["198.18.0.1", "2001:2:0:1::1"] {
        let route = ip(&lab, &format!("route get {host} oif {SECOND_INTERFACE}"));
        assert!(
            route.contains(" via ") && route.contains("dev pinger1 "),
            "{route}"
        );
    }
    let second = lab.second_hosts().unwrap();
    assert!(ping_reaches(&lab, second, "198.18.0.1"));
}

/// Whether a datagram to a host by the second interface is echoed; its namespace is looked at.
fn ping_reaches(lab: &Lab, second: &Namespace, host: &str) -> bool {
    let host: IpAddr = host.parse().unwrap();
    let before = echoed(second);
    let work = || {
        let socket = UdpSocket::bind("198.19.229.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        bind_to_device(&socket, SECOND_INTERFACE);
        socket.send_to(&[7], (host, ECHO_PORT)).unwrap();
        socket.recv(&mut [0; 8]).is_ok()
    };
    lab.prober().enter(work).unwrap() && echoed(second) == before + 1
}

/// UDP datagrams that programs in a namespace have received (`InDatagrams` of RFC 4113).
fn echoed(namespace: &Namespace) -> u64 {
    namespace.counters(["UdpInDatagrams"]).unwrap()[0]
}
