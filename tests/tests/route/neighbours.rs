//! Neighbours: who is resolved, who is silent, and who moves to another MAC.

use pinger::destination::FlowIndex;
use pinger::route::{HopState, NeighbourState, NoRoute};
use pinger::wire::netlink::RouteNotice;

use crate::net::{Net, ip, mac};
use crate::watch::PATIENCE;

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
    let moved = |note: &RouteNotice| match note {
        RouteNotice::Moved { from, to, .. } => (*from, *to) == (mac(1, 1), mac(2, 1)),
        _ => false,
    };
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
