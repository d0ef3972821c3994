//! Next hops and routes as they are: hosts on the link, routers, and ways that lead nowhere.

use xtask::lab::{Shape, direct_ipv4, direct_ipv6};

use crate::harness::{Site, alone};
use crate::rows;

/// Hosts on the link that answer ARP and ND for themselves.
const DIRECT: Shape = Shape {
    gateways: 0,
    static_neighbours: false,
    direct: true,
    second: false,
};

#[test]
fn five_hundred_hosts_on_the_link_are_found_by_arp_and_nd() {
    let _turn = alone();
    let site = Site::new(DIRECT);
    let report = site.report(
        "--count 5 --interval 200ms --timeout 3s 198.19.1.2-198.19.1.254 \
         2001:2:0:2::2-2001:2:0:2::fe",
    );
    let sent = 5 * 2 * 253;
    report.assert_counts(&[("sent", sent), ("reply", sent), ("skipped", 0)]);
}

/// Changes the neighbour's address behind the program's back, and waits for replies again.
fn new_mac(host: &str) {
    let site = Site::new(DIRECT);
    let mut running = site.start(&format!(
        "ping -c 100000 --interval 50ms --timeout 500ms {host}"
    ));
    running.line("a reply", |line| line.contains("bytes from"));
    site.lab.set_neighbour_mac("02:70:69:6e:77:77").unwrap();
    // Frames to the old address are nobody's, and nobody says so.
    running.line("a loss", |line| line.contains("no answer from"));
    running.line("a reply from the new address", |line| {
        line.contains("bytes from")
    });
    running.signal(libc::SIGINT);
    let ended = running.end();
    assert!(ended.status.success(), "{}", ended.err);
    for word in ["error", "not sent", "duplicate", "changed"] {
        assert!(!ended.out.contains(word), "{word} in:\n{}", ended.out);
    }
}

#[test]
fn an_ipv4_neighbour_with_a_new_mac_is_found_again() {
    let _turn = alone();
    new_mac("198.19.1.7");
}

#[test]
fn an_ipv6_neighbour_with_a_new_mac_is_found_again() {
    let _turn = alone();
    new_mac("2001:2:0:2::7");
}

#[test]
fn each_router_takes_one_of_the_hop_limit() {
    let _turn = alone();
    let site = Site::new(Shape {
        gateways: 3,
        ..Shape::default()
    });
    let ended = site.run("ping -c 2 --interval 200ms --timeout 3s 198.18.0.1 2001:2:0:1::1");
    assert!(ended.status.success(), "{}", ended.err);
    assert_eq!(ended.out.matches(" ttl=61 ").count(), 4, "{}", ended.out);
    // With too small a limit nothing comes back from the hosts.
    let report =
        site.report("--ttl 3 --count 2 --interval 200ms --timeout 500ms 198.18.0.1 2001:2:0:1::1");
    assert_eq!(report.count("reply"), 0, "{}", report.0);
    let report =
        site.report("--ttl 4 --count 2 --interval 200ms --timeout 3s 198.18.0.1 2001:2:0:1::1");
    report.assert_counts(&[("sent", 4), ("reply", 4)]);
}

#[test]
fn a_silent_neighbour_is_unreachable_and_a_silent_network_is_loss() {
    let _turn = alone();
    let site = Site::new(DIRECT);
    let (ipv4, ipv6) = (direct_ipv4(77), direct_ipv6(77));
    site.lab
        .neighbour()
        .ip(&[
            format!("address del {ipv4}/24 dev far"),
            format!("address del {ipv6}/64 dev far"),
            "route add blackhole 198.18.9.0/24".to_owned(),
        ])
        .unwrap();
    let running = site.start_stored(&format!(
        "--format json --count 5 --interval 100ms --timeout 500ms {ipv4} {ipv6} 198.18.9.1 {}",
        direct_ipv4(5)
    ));
    let ended = running.end();
    let report = ended.report();
    report.assert_counts(&[("sent", 20), ("reply", 5), ("lost", 5), ("error", 10)]);
    for silent in [ipv4.to_string(), ipv6.to_string()] {
        assert!(
            ended.err.contains(&format!("{silent} on pinger0")),
            "{silent} is not named in:\n{}",
            ended.err
        );
    }
    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    rows::assert_whole(&rows, report.count("skipped"));
    for row in rows.iter().filter(|row| row.outcome == "error") {
        // Host unreachable (RFC 792), address unreachable (RFC 4443), said by this host.
        let own = row.address.to_canonical();
        let expected = if own.is_ipv4() { (3, 1) } else { (1, 3) };
        assert_eq!((row.rtype, row.rcode), expected, "{row:?}");
        let own = own.to_string();
        assert!(own == "198.19.1.1" || own == "2001:2:0:2::1", "{row:?}");
        assert_eq!((row.rtt, row.datamatch), (None, None), "{row:?}");
    }
}

#[test]
fn bad_destinations_are_named_and_the_good_ones_probed() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    site.lab
        .prober()
        .ip(&["route add prohibit 203.0.113.0/24"])
        .unwrap();
    let ended = site.run(
        "run --store none --format json --count 3 --interval 200ms --timeout 3s 198.18.0.1 \
         192.0.2.1 203.0.113.1 198.19.0.1 198.19.0.3 no-such-host.invalid 198.18.0.1",
    );
    let report = ended.report();
    report.assert_counts(&[("sent", 3), ("reply", 3)]);
    for told in [
        "192.0.2.1 is not probed: this host has no route to it",
        "203.0.113.1 is not probed: a route of this host forbids it (prohibit)",
        "198.19.0.1 is not probed: it is this host itself",
        "198.19.0.3 is not probed: 198.19.0.3 is a broadcast address",
        "no-such-host.invalid is not probed: ",
        "198.18.0.1 is probed only once",
    ] {
        assert!(
            ended.err.contains(told),
            "`{told}` is missing in:\n{}",
            ended.err
        );
    }
}
