//! `pinger trace` through a chain of real routers: each hop once, in order, for every protocol.

use std::net::IpAddr;

use serde_json::Value;
use xtask::lab::{Shape, router_ipv4, router_ipv6};

use crate::harness::{Site, alone, ip};

const ROUTERS: usize = 15;
/// The destination is one hop behind the last router.
const HOPS: usize = ROUTERS + 1;
const DESTINATIONS: [&str; 6] = [
    "icmp://198.18.0.1",
    "udp://198.18.0.2:7",
    "tcp://198.18.0.3:80",
    "icmp://[2001:2:0:1::1]",
    "udp://[2001:2:0:1::2]:7",
    "tcp://[2001:2:0:1::3]:443",
];

fn chain() -> Site {
    Site::new(Shape {
        gateways: ROUTERS,
        ..Shape::default()
    })
}

/// Who must be at a hop of the way to a destination.
fn at(hop: usize, destination: IpAddr) -> IpAddr {
    match destination {
        _ if hop == HOPS => destination,
        IpAddr::V4(_) => router_ipv4(hop).into(),
        IpAddr::V6(_) => router_ipv6(hop).into(),
    }
}

fn check_path(path: &Value, passes: u64) {
    let destination: IpAddr = path["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(path["reached"], true, "{path}");
    assert_eq!(path["passes"], passes, "{path}");
    let hops = path["hops"].as_array().unwrap();
    assert_eq!(hops.len(), HOPS, "{path}");
    for (hop, number) in hops.iter().zip(1..) {
        assert_eq!(hop["ttl"], number, "{path}");
        let address: IpAddr = hop["address"].as_str().unwrap().parse().unwrap();
        assert_eq!(address, at(number, destination), "hop {number} of {path}");
        assert_eq!(hop["addresses"].as_array().unwrap().len(), 1, "{hop}");
        assert_eq!(
            (&hop["sent"], &hop["replies"]),
            (&passes.into(), &passes.into()),
            "{hop}"
        );
        assert!(
            hop["rtt_ns"]["min"].as_u64().is_some_and(|rtt| rtt > 0),
            "{hop}"
        );
    }
}

#[test]
fn a_chain_of_sixteen_hops_is_found_by_every_protocol() {
    const PASSES: u64 = 3;
    let _turn = alone();
    let site = chain();
    let ended = site.run(&format!(
        "trace --format json --count {PASSES} --interval 300ms --timeout 2s --hops 20 {}",
        DESTINATIONS.join(" ")
    ));
    assert!(ended.status.success(), "{}", ended.err);
    let paths: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(paths.len(), DESTINATIONS.len(), "{}", ended.out);
    paths.iter().for_each(|path| check_path(path, PASSES));
    assert!(!site.has_xdp());
}

#[test]
fn a_router_that_does_not_answer_is_a_silent_hop() {
    let _turn = alone();
    let site = chain();
    // The fifth router cannot tell the prober anything: what it says itself is dropped, and what
    // it forwards is not.
    let silent = &site.lab.gateways()[4];
    ip(
        silent,
        "rule add iif lo to 198.19.0.1 priority 10 blackhole",
    );
    ip(
        silent,
        "-6 rule add iif lo to 2001:2::1 priority 10 blackhole",
    );
    let ended = site.run("trace --format json --timeout 500ms --hops 20 198.18.0.1 2001:2:0:1::1");
    assert!(ended.status.success(), "{}", ended.err);
    for line in ended.out.lines() {
        let path: Value = serde_json::from_str(line).unwrap();
        let hops = path["hops"].as_array().unwrap();
        assert_eq!(hops.len(), HOPS, "{path}");
        let replies: Vec<bool> = hops.iter().map(|hop| hop["replies"] == 1).collect();
        let expected: Vec<bool> = (1..=HOPS).map(|hop| hop != 5).collect();
        assert_eq!(replies, expected, "{path}");
    }
}

#[test]
fn a_trace_into_a_network_that_nobody_reaches_ends_where_it_is_refused() {
    let _turn = alone();
    let site = chain();
    let ended = site.run("trace --format json --timeout 500ms --hops 20 198.19.16.9");
    assert!(ended.status.success(), "{}", ended.err);
    let path: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(path["reached"], false, "{path}");
    let first = &path["hops"][0];
    assert_eq!(first["address"], router_ipv4(1).to_string(), "{path}");
    assert!(
        first["said"].as_str().is_some_and(|said| !said.is_empty()),
        "{path}"
    );
}

#[test]
fn each_probe_of_a_trace_is_a_row_with_its_hop_limit() {
    let _turn = alone();
    let site = chain();
    let ended = site.run(&format!(
        "trace --store embedded --data-dir {} --format json --hops 16 --timeout 2s 198.18.0.1",
        site.data_dir()
    ));
    assert!(ended.status.success(), "{}", ended.err);
    let rows = site.sql(
        "SELECT ttl, outcome, answer, rtype, replaceOne(toString(address), '::ffff:', '') \
         FROM results ORDER BY ttl",
    );
    let expected: String = (1..=HOPS)
        .map(|hop| {
            let (outcome, answer, kind) = if hop == HOPS {
                ("reply", "echo", 0)
            } else {
                ("error", "icmp_error", 11)
            };
            let address = at(hop, "198.18.0.1".parse().unwrap());
            format!("{hop}\t{outcome}\t{answer}\t{kind}\t{address}\n")
        })
        .collect();
    assert_eq!(rows.trim_end(), expected.trim_end());
    let hops = site.sql("SELECT length FROM paths");
    assert_eq!(hops.trim_end(), HOPS.to_string());
    site.assert_clean();
}

#[test]
fn a_thousand_destinations_are_traced_at_once() {
    let _turn = alone();
    let site = chain();
    let started = std::time::Instant::now();
    let ended = site.run("trace --format json --hops 16 --timeout 1s 198.18.0.1-198.18.3.232");
    let took = started.elapsed();
    assert!(ended.status.success(), "{}", ended.err);
    let paths = ended.out.lines().count();
    let whole = ended
        .out
        .lines()
        .filter(|line| {
            let path: Value = serde_json::from_str(line).unwrap();
            path["reached"] == true
        })
        .count();
    // A path is whole without the answer of its last hop only if that was not sent.
    let unanswered = site.unanswered();
    println!("{whole} of {paths} whole in {took:?}, {unanswered} answers not sent");
    assert_eq!(paths, 1000);
    assert!(1000 - whole as u64 <= unanswered, "{whole} are whole");
    // The figure of two seconds is the bench's, on a quiet machine; this only tells far from near.
    assert!(took.as_secs() < 20, "{took:?}");
}
