//! How the XDP program comes onto an interface: without XDP in the driver, and when the process is
//! stopped meanwhile.

use std::time::Duration;

use xtask::lab::{INTERFACE, Shape};

use crate::harness::{Site, alone};

const PROBES: &str = "--count 5 --interval 200ms --timeout 3s";

/// Probes through an interface, and expects this mode and every reply.
fn check(site: &Site, interface: &str, mode: &str, hosts: &str) {
    let ended = site.run(&format!(
        "run --store none --format plain -i {interface} {PROBES} {hosts}"
    ));
    assert!(ended.status.success(), "{}", ended.err);
    let first = ended.out.lines().next().unwrap_or_default();
    assert!(first.contains(&format!("{interface} ({mode})")), "{first}");
    let report = site.report(&format!("-i {interface} {PROBES} {hosts}"));
    report.assert_counts(&[("sent", 10), ("reply", 10), ("forged", 0)]);
    assert!(!site.has_xdp());
}

#[test]
fn a_veth_has_it_in_the_driver() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    check(&site, INTERFACE, "native XDP", "198.18.0.1 2001:2:0:1::1");
}

#[test]
fn packets_too_long_for_the_driver_take_the_generic_way() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let mtu = |interface| vec![format!("link set dev {interface} mtu 9000")];
    site.lab.prober().ip(&mtu(INTERFACE)).unwrap();
    site.lab.hosts().ip(&mtu("far")).unwrap();
    check(&site, INTERFACE, "generic XDP", "198.18.0.1 2001:2:0:1::1");
}

#[test]
fn an_interface_on_top_of_another_takes_the_generic_way() {
    let _turn = alone();
    let site = Site::new(Shape {
        direct: true,
        static_neighbours: false,
        ..Shape::default()
    });
    site.lab
        .prober()
        .ip(&[
            &format!("link add top link {INTERFACE} type macvlan mode bridge"),
            &format!("address del 198.19.1.1/24 dev {INTERFACE}"),
            &format!("address del 2001:2:0:2::1/64 dev {INTERFACE}"),
            "address add 198.19.1.1/24 dev top",
            "address add 2001:2:0:2::1/64 dev top nodad",
            "link set dev top up",
        ])
        .unwrap();
    check(&site, "top", "generic XDP", "198.19.1.2 2001:2:0:2::2");
}

#[test]
fn a_run_that_is_stopped_while_it_starts_goes_on() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    for _ in 0..3 {
        let running = site.start("run --store none --format json --count 1 198.18.0.1");
        // Again and again while the kernel looks at the program, which it gives up each time.
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(70));
            running.signal(libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(5));
            running.signal(libc::SIGCONT);
        }
        let report = running.end().report();
        report.assert_counts(&[("sent", 1), ("reply", 1)]);
    }
}
