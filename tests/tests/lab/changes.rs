//! What may change in a lab while it is used, and that nothing is left of it.

use std::net::IpAddr;
use std::process::Command;

use xtask::lab::{INTERFACE, Lab, Namespace, Shape, direct_ipv4, direct_ipv6};

use crate::ask::{PATIENCE, answers, ip, ping_from};

#[test]
fn direct_hosts_answer_for_themselves_and_may_change_their_mac() {
    let shape = Shape {
        static_neighbours: false,
        direct: true,
        ..Shape::default()
    };
    let lab = Lab::new(shape).unwrap();
    let hosts: [IpAddr; 4] = [
        direct_ipv4(2).into(),
        direct_ipv4(254).into(),
        direct_ipv6(2).into(),
        direct_ipv6(254).into(),
    ];
    let all_answer = |mac: &str| {
        for host in hosts {
            assert!(
                ping_from(&lab, host, 1, PATIENCE),
                "{host} does not answer directly"
            );
            let known = ip(&lab, &format!("neighbour show {host} dev {INTERFACE}"));
            assert!(known.contains(mac), "{host} was not learnt: {known}");
        }
    };
    all_answer("02:70:69:6e:00:02");
    let new = "02:70:69:6e:aa:aa";
    lab.set_neighbour_mac(new).unwrap();
    ip(&lab, &format!("neighbour flush dev {INTERFACE}"));
    all_answer(new);
    answers(&lab, "198.18.0.1");
}

#[test]
fn the_interface_and_its_carrier_go_down_and_up() {
    let lab = Lab::new(Shape::default()).unwrap();
    let state = || ip(&lab, &format!("-brief link show dev {INTERFACE}"));
    assert!(state().contains(" UP "), "{}", state());
    lab.set_carrier(false).unwrap();
    assert!(state().contains("NO-CARRIER"), "{}", state());
    lab.set_carrier(true).unwrap();
    assert!(state().contains(" UP "), "{}", state());
    lab.set_interface(false).unwrap();
    assert!(state().contains("DOWN"), "{}", state());
}

#[test]
fn nothing_is_left_of_a_lab_nor_of_one_whose_owner_was_killed() {
    let mut gone = Command::new("true").spawn().unwrap();
    let abandoned = format!("pinger-test-{}-0-0", gone.id());
    gone.wait().unwrap();
    Namespace::new(abandoned.clone()).unwrap().keep();

    let lab = Lab::new(Shape {
        gateways: 1,
        ..Shape::default()
    })
    .unwrap();
    assert!(
        !Namespace::exists(&abandoned),
        "{abandoned} has outlived its owner"
    );
    let names: Vec<String> = [lab.prober(), lab.neighbour(), lab.hosts()]
        .map(|place| place.name().to_owned())
        .into();
    assert!(
        names.iter().all(|name| Namespace::exists(name)),
        "{names:?}"
    );
    drop(lab);
    assert!(
        !names.iter().any(|name| Namespace::exists(name)),
        "{names:?}"
    );
}
