//! ICMP errors of real kernels: who sent them, their type and code, and how the probe ended.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xtask::lab::{DEAD_ENDS, DeadEnd, Shape, router_ipv4, router_ipv6};

use crate::harness::{Site, alone};
use crate::protocols::CLOSED_UDP;
use crate::rows;

const PROBES: usize = 3;
/// Of the last link: IPv6's least, so that packets longer than this do not pass.
const NARROW: usize = 1280;

/// A destination, and what its probes must come to.
struct Case {
    protocol: &'static str,
    host: IpAddr,
    port: u16,
    /// Settings of its own.
    settings: String,
    outcome: &'static str,
    /// Who answers, with which type and code; none if nobody does.
    from: Option<(IpAddr, u8, u8)>,
}

/// The host with this number, behind two routers.
fn host(ipv4: bool, number: u16) -> IpAddr {
    let address = if ipv4 {
        format!("198.18.0.{number}")
    } else {
        format!("2001:2:0:1::{number}")
    };
    address.parse().unwrap()
}

/// The router at a hop.
fn router(ipv4: bool, hop: usize) -> IpAddr {
    if ipv4 {
        router_ipv4(hop).into()
    } else {
        router_ipv6(hop).into()
    }
}

/// Protocols with the port to ask and whether they carry a payload.
const PROTOCOLS: [(&str, u16, bool); 3] = [("icmp", 0, true), ("udp", 7, true), ("tcp", 80, false)];

/// The ninth host of a network that cannot be reached.
fn host_at(end: &DeadEnd, ipv4: bool) -> IpAddr {
    let prefix = if ipv4 { end.ipv4 } else { end.ipv6 };
    let base: IpAddr = prefix.split('/').next().unwrap().parse().unwrap();
    match base {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() + 9).into(),
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + 9).into(),
    }
}

/// Whether an address is in such a network.
fn is_dead_end(host: IpAddr) -> bool {
    DEAD_ENDS
        .iter()
        .any(|end| host_at(end, host.is_ipv4()) == host)
}

/// Errors of routers and closed ports, or those of the networks that cannot be reached.
///
/// They are provoked in runs of their own: what a router's kernel told a host of one kind counts
/// against what it tells of the other.
fn cases(dead_ends: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for ipv4 in [true, false] {
        let mut case = |protocol, host, port, settings: String, outcome, from| {
            cases.push(Case {
                protocol,
                host,
                port,
                settings,
                outcome,
                from,
            });
        };
        let closed = if ipv4 { (3, 3) } else { (1, 4) };
        let target = host(ipv4, 1);
        let from = Some((target, closed.0, closed.1));
        case("udp", target, 9, String::new(), CLOSED_UDP, from);
        for (protocol, port, carries) in PROTOCOLS {
            let exceeded = if ipv4 { (11, 0) } else { (3, 0) };
            for hop in [1, 2] {
                let target = host(ipv4, 10 + hop);
                let from = Some((router(ipv4, hop.into()), exceeded.0, exceeded.1));
                case(
                    protocol,
                    target,
                    port,
                    format!("ttl = {hop}"),
                    "error",
                    from,
                );
            }
            if carries {
                let too_big = if ipv4 { (3, 4) } else { (2, 0) };
                let from = Some((router(ipv4, 2), too_big.0, too_big.1));
                let size = format!("size = {NARROW}");
                case(protocol, host(ipv4, 20), port, size, "error", from);
            }
            for (number, end) in DEAD_ENDS.iter().enumerate() {
                // One protocol an end: of such errors the kernel gives a host five, and then one
                // a second (`ip_error` of net/ipv4/route.c), which cannot be set in a namespace.
                if ipv4 && end.icmp.is_some() && PROTOCOLS[number % 3].0 != protocol {
                    continue;
                }
                let icmp = if ipv4 { end.icmp } else { end.icmp6 };
                let target = host_at(end, ipv4);
                let from = icmp.map(|(kind, code)| (router(ipv4, 1), kind, code));
                let outcome = if from.is_some() { "error" } else { "lost" };
                case(protocol, target, port, String::new(), outcome, from);
            }
        }
    }
    cases.retain(|case| is_dead_end(case.host) == dead_ends);
    cases
}

fn config(cases: &[Case]) -> String {
    let mut text =
        format!("count = {PROBES}\ninterval = \"2s\"\ntimeout = \"2s\"\ninterface = \"pinger0\"\n");
    for Case {
        protocol,
        host,
        port,
        settings,
        ..
    } in cases
    {
        write!(
            text,
            "[[destination]]\nhost = \"{host}\"\nprotocol = \"{protocol}\"\n"
        )
        .unwrap();
        if *port != 0 {
            writeln!(text, "port = {port}").unwrap();
        }
        writeln!(text, "{settings}").unwrap();
    }
    text
}

#[test]
fn every_error_of_a_real_router_is_kept_with_sender_type_and_code() {
    check(&cases(false));
}

#[test]
fn every_network_that_cannot_be_reached_says_so_in_its_own_way() {
    check(&cases(true));
}

fn check(cases: &[Case]) {
    let _turn = alone();
    let site = Site::new(Shape {
        gateways: 2,
        ..Shape::default()
    });
    let narrow = |interface| vec![format!("link set dev {interface} mtu {NARROW}")];
    site.lab.gateways()[1].ip(&narrow("near")).unwrap();
    site.lab.hosts().ip(&narrow("far")).unwrap();
    // For IPv6 the kernel sends errors from the address that was asked only if an interface has
    // it; of the others, which the route alone makes its own, it says so from the link's address.
    let own = format!("address add {}/128 dev lo nodad", host(false, 1));
    site.lab.hosts().ip(&[own]).unwrap();
    let config = site.folder.file("pinger.toml", &config(cases));
    let report = site
        .start_stored(&format!("--config {config} --format json"))
        .end()
        .report();
    report.assert_counts(&[
        ("sent", (cases.len() * PROBES) as u64),
        ("forged", 0),
        ("late", 0),
    ]);
    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    let keys = rows::ported_keys(&site);
    let mut by_destination: HashMap<u64, Vec<rows::Row>> = HashMap::new();
    for row in rows {
        by_destination.entry(row.destination).or_default().push(row);
    }
    for case in cases {
        let v6 = if case.host.is_ipv4() { "" } else { "6" };
        let protocol = case.protocol.to_uppercase() + v6;
        let key = keys[&(protocol.clone(), case.host, case.port)];
        let rows = &by_destination[&key];
        assert_eq!(
            rows.len(),
            PROBES,
            "{protocol} {} {}",
            case.host,
            case.settings
        );
        for row in rows {
            rows::assert_sound(row);
            assert_eq!(
                row.outcome, case.outcome,
                "{protocol} {}: {row:?}",
                case.host
            );
            let address = row.address.to_canonical();
            let from = (!address.is_unspecified()).then_some((address, row.rtype, row.rcode));
            assert_eq!(from, case.from, "{protocol} {}: {row:?}", case.host);
            let answer = if from.is_some() { "icmp_error" } else { "none" };
            assert_eq!(row.answer, answer, "{row:?}");
            assert_eq!(row.rtt.is_some(), from.is_some(), "{row:?}");
            assert_eq!(row.datamatch, None, "an error quotes too little: {row:?}");
        }
    }
}

#[test]
fn the_hosts_kernel_sees_no_error_about_our_probes() {
    let _turn = alone();
    let site = Site::new(Shape {
        gateways: 1,
        ..Shape::default()
    });
    let seen = || {
        let names = ["IcmpInDestUnreachs", "IcmpInTimeExcds"];
        site.lab.prober().counters(names).unwrap()
    };
    let before = seen();
    let report = site.report(
        "--count 5 --interval 200ms --timeout 2s --ttl 1 198.18.0.1 udp://198.18.0.1:9 \
         tcp://198.18.0.1:80",
    );
    report.assert_counts(&[("sent", 15), ("error", 15)]);
    assert_eq!(seen(), before);
}
