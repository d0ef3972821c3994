//! Several interfaces in one run, and where probes come from.

use std::collections::HashSet;
use std::net::IpAddr;

use xtask::lab::{INTERFACE, Namespace, SECOND_INTERFACE, Shape};

use crate::harness::{Site, alone, ip};
use crate::responder::{Responder, What};

const HOW: &str = "--count 5 --interval 200ms --timeout 2s";

fn two_links() -> Site {
    Site::new(Shape {
        second: true,
        ..Shape::default()
    })
}

fn has_xdp(prober: &Namespace, interface: &str) -> bool {
    ip(prober, &format!("link show dev {interface}")).contains("xdp")
}

/// Echo requests that came to a namespace's kernel, of both families.
fn echoes(namespace: &Namespace) -> u64 {
    let counted = namespace.counters(["IcmpInEchos", "Icmp6InEchos"]);
    counted.unwrap().iter().sum()
}

#[test]
fn each_destination_leaves_by_its_route() {
    let _turn = alone();
    let site = two_links();
    let prober = site.lab.prober();
    let mut running = site.start(
        "run --store none --format plain --interval 100ms --duration 1h --timeout 2s 198.18.0.1 \
         2001:2:0:1::1 198.19.32.7 2001:2:0:20::7 udp://198.19.32.7:7 tcp://198.18.0.1:80",
    );
    running.line("both interfaces are named", |line| {
        line.contains(INTERFACE) && line.contains(SECOND_INTERFACE)
    });
    crate::harness::until("XDP is on both interfaces", || {
        has_xdp(prober, INTERFACE) && has_xdp(prober, SECOND_INTERFACE)
    });
    running.signal(libc::SIGTERM);
    let ended = running.end();
    assert!(ended.status.success(), "{}", ended.err);
    assert!(!has_xdp(prober, INTERFACE) && !has_xdp(prober, SECOND_INTERFACE));

    let second = site.lab.second_hosts().unwrap();
    let before = (echoes(site.lab.hosts()), echoes(second));
    let report = site.report(&format!(
        "{HOW} 198.18.0.1 198.18.0.2 2001:2:0:1::1 198.19.32.7 2001:2:0:20::7"
    ));
    report.assert_counts(&[
        ("sent", 25),
        ("reply", 25),
        ("forged", 0),
        ("send_failed", 0),
    ]);
    let came = (
        echoes(site.lab.hosts()) - before.0,
        echoes(second) - before.1,
    );
    assert_eq!(came, (15, 10));
}

#[test]
fn a_destination_with_an_interface_of_its_own_leaves_by_that() {
    let _turn = alone();
    let site = two_links();
    let second = site.lab.second_hosts().unwrap();
    let config = site.folder.file(
        "pinger.toml",
        "count = 5\ninterval = \"200ms\"\ntimeout = \"2s\"\n\
         destinations = [\"198.18.0.1\", \"2001:2:0:1::1\"]\n\
         [[destination]]\nhost = \"198.18.0.2\"\ninterface = \"pinger1\"\n\
         [[destination]]\nhost = \"2001:2:0:1::2\"\ninterface = \"pinger1\"\n",
    );
    let before = (echoes(site.lab.hosts()), echoes(second));
    let report = site.report(&format!("--config {config}"));
    report.assert_counts(&[("sent", 20), ("reply", 20)]);
    let came = (
        echoes(site.lab.hosts()) - before.0,
        echoes(second) - before.1,
    );
    assert_eq!(came, (10, 10));
}

#[test]
fn probes_come_from_where_they_are_told_to() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    site.lab
        .prober()
        .ip(&[
            "address add 198.19.0.77/32 dev lo",
            "address add 2001:2::77/128 dev lo nodad",
            "link set dev lo up",
        ])
        .unwrap();
    let responder = Responder::start(&site.lab, |_, _| vec![What::Honest.now()]);
    let config = site.folder.file(
        "pinger.toml",
        "count = 3\ninterval = \"200ms\"\ntimeout = \"2s\"\ntos = 184\n\
         destinations = [\"198.18.0.1\", \"2001:2:0:1::1\"]\n\
         [[destination]]\nhost = \"198.18.0.2\"\nfrom = \"198.19.0.77\"\n\
         [[destination]]\nhost = \"2001:2:0:1::2\"\nfrom = \"2001:2::77\"\n\
         [[destination]]\nhost = \"198.18.0.3\"\nfrom = \"pinger0\"\n\
         [[destination]]\nhost = \"2001:2:0:1::3\"\nfrom = \"pinger0\"\n",
    );
    let report = site.report(&format!("--config {config}"));
    report.assert_counts(&[("sent", 18), ("reply", 18), ("forged", 0)]);
    let found: HashSet<(IpAddr, IpAddr, u8)> = responder
        .log()
        .probes
        .iter()
        .map(|entry| {
            (
                entry.probe.host,
                entry.probe.source,
                entry.probe.traffic_class,
            )
        })
        .collect();
    let expected = [
        ("198.18.0.1", "198.19.0.1"),
        ("198.18.0.2", "198.19.0.77"),
        ("198.18.0.3", "198.19.0.1"),
        ("2001:2:0:1::1", "2001:2::1"),
        ("2001:2:0:1::2", "2001:2::77"),
        ("2001:2:0:1::3", "2001:2::1"),
    ];
    let expected: HashSet<(IpAddr, IpAddr, u8)> = expected
        .iter()
        .map(|(host, source)| (host.parse().unwrap(), source.parse().unwrap(), 184))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_type_of_service_of_an_answer_is_kept() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let running = site.start_stored(&format!(
        "{HOW} --format json --tos 184 198.18.0.1 2001:2:0:1::1"
    ));
    running.end().report().assert_counts(&[("reply", 10)]);
    // An echo reply takes the request's, RFC 1122 section 3.2.2.6.
    let rows = crate::rows::all(&site);
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row.traffic_class == 184), "{rows:?}");
}

#[test]
fn an_address_that_is_not_ours_and_an_interface_without_one_are_refused_by_name() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    for from in ["203.0.113.9", "lo"] {
        let ended = site.run(&format!(
            "run --store none --format json -i {INTERFACE} --from {from} 198.18.0.1"
        ));
        ended.assert_refused(1, &[from]);
        site.assert_clean();
    }
}
