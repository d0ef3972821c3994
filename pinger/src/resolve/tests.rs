//! Resolution with a made-up resolver; the system's own is asked for nothing but localhost.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::destination::ProtocolName;

fn spec(host: &str) -> DestinationSpec {
    DestinationSpec {
        host: host.into(),
        id: None,
        interval_ns: 1_000_000,
        timeout_ns: 2_000_000,
        size: 56,
        ttl: 64,
        protocol: ProtocolName::Icmp,
        port: 0,
        data: None,
        traffic_class: 0,
        dont_fragment: true,
        from: None,
        interface: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Knows three names; counts nothing, waits for nothing.
fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    match host {
        "both.example" => Ok(vec![ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.2")]),
        "four.example" => Ok(vec![ip("192.0.2.1")]),
        "local.example" => Ok(vec![ip("fe80::1")]),
        "empty.example" => Ok(vec![]),
        _ => Err(io::Error::other(
            "failed to lookup address information: Temporary failure in name resolution",
        )),
    }
}

fn run(hosts: &[&str], family: Option<Family>) -> Result<Resolved, ResolveError> {
    let specs: Vec<_> = hosts.iter().map(|host| spec(host)).collect();
    resolve_by(&lookup, &specs, family, &mut |_| {})
}

/// Names and addresses of what is probed, and what is said of the rest.
fn check(hosts: &[&str], family: Option<Family>, expected: &[(&str, &str)], problems: &[&str]) {
    let resolved = run(hosts, family).unwrap();
    let found: Vec<_> = resolved
        .destinations
        .iter()
        .map(|d| (d.name.as_str(), d.address))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, address)| (*name, ip(address)))
        .collect();
    assert_eq!(found, expected, "{hosts:?}");
    let found: Vec<_> = resolved.problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, problems, "{hosts:?}");
}

#[test]
fn a_name_becomes_its_first_address_of_the_wanted_family() {
    let hosts = ["both.example"];
    check(&hosts, None, &[("both.example", "2001:db8::1")], &[]);
    check(
        &hosts,
        Some(Family::Ipv4),
        &[("both.example", "192.0.2.1")],
        &[],
    );
    check(
        &hosts,
        Some(Family::Ipv6),
        &[("both.example", "2001:db8::1")],
        &[],
    );
}

#[test]
fn what_cannot_be_probed_is_told_and_the_rest_runs() {
    check(
        &[
            "gone.example",
            "empty.example",
            "192.0.2.9",
            "local.example",
        ],
        None,
        &[("192.0.2.9", "192.0.2.9")],
        &[
            "gone.example is not probed: Temporary failure in name resolution \
             (no name server answered: see /etc/resolv.conf)",
            "empty.example is not probed: the resolver knows the name, but no address",
            "local.example is not probed: fe80::1 is a link-local address, which is not \
             supported yet",
        ],
    );
    check(
        &["four.example", "10.0.0.0/30", "[2001:db8::7]"],
        Some(Family::Ipv6),
        &[("2001:db8::7", "2001:db8::7")],
        &[
            "four.example is not probed: it has no IPv6 address",
            "10.0.0.0/30 is not probed: it has no IPv6 address",
        ],
    );
}

#[test]
fn one_address_is_probed_once() {
    check(
        &[
            "four.example",
            "192.0.2.0/30",
            "192.0.2.1",
            "192.0.2.1-192.0.2.4",
        ],
        None,
        &[
            ("four.example", "192.0.2.1"),
            ("192.0.2.2", "192.0.2.2"),
            ("192.0.2.3", "192.0.2.3"),
            ("192.0.2.4", "192.0.2.4"),
        ],
        &[
            "192.0.2.0/30 is probed only once: its address is on the list already, the first as \
             four.example (192.0.2.1), whose settings hold",
            "192.0.2.1 is probed only once: its address is on the list already, the first as \
             four.example (192.0.2.1), whose settings hold",
            "192.0.2.1-192.0.2.4 is probed only once: 2 of its addresses are on the list already, \
             the first as four.example (192.0.2.1), whose settings hold",
        ],
    );
}

#[test]
fn ids_and_settings_are_those_of_the_spec() {
    let given = DestinationSpec {
        id: Some(7),
        ttl: 3,
        ..spec("four.example")
    };
    let taken = DestinationSpec {
        id: Some(7),
        ..spec("192.0.2.9")
    };
    let specs = [given, taken, spec("2001:db8::1")];
    let resolved = resolve_by(&lookup, &specs, None, &mut |_| {}).unwrap();
    let v6 = ip("2001:db8::1");
    let expected = [
        Destination {
            id: 7,
            name: "four.example".into(),
            address: ip("192.0.2.1"),
            protocol: Protocol::Icmp,
            interval_ns: 1_000_000,
            timeout_ns: 2_000_000,
            size: 56,
            ttl: Ttl::Fixed(3),
            ..Destination::echo(ip("192.0.2.1"))
        },
        Destination {
            id: Destination::stable_id(Protocol::Icmp6, v6, 0),
            name: "2001:db8::1".into(),
            address: v6,
            protocol: Protocol::Icmp6,
            interval_ns: 1_000_000,
            timeout_ns: 2_000_000,
            size: 56,
            ..Destination::echo(v6)
        },
    ];
    assert_eq!(resolved.destinations, expected);
    let problem = Problem::IdTaken {
        host: "192.0.2.9".into(),
        id: 7,
        first: "four.example".into(),
    };
    assert_eq!(resolved.problems, [problem]);
}

#[test]
fn urls_become_destinations_of_their_protocol_and_family() {
    let shaped = |host: &str, protocol, port| DestinationSpec {
        protocol,
        port,
        size: 9,
        data: Some(b"abc"[..].into()),
        traffic_class: 0xb8,
        dont_fragment: false,
        from: Some(destination::From::Interface("eth1".into())),
        interface: Some("eth2".into()),
        ..spec(host)
    };
    let specs = [
        shaped("tcp://both.example:443", ProtocolName::Tcp, 443),
        shaped("udp://192.0.2.0/30:7", ProtocolName::Udp, 7),
        shaped("udp://192.0.2.1:9", ProtocolName::Udp, 9),
        shaped("udp://192.0.2.2", ProtocolName::Udp, 9),
        shaped("tcp://both.example", ProtocolName::Tcp, 443),
    ];
    let resolved = resolve_by(&lookup, &specs, None, &mut |_| {}).unwrap();
    let found: Vec<_> = resolved
        .destinations
        .iter()
        .map(|d| (d.name.as_str(), d.protocol, d.address.to_string(), d.port))
        .collect();
    let expected = [
        ("both.example", Protocol::Tcp6, "2001:db8::1", 443),
        ("192.0.2.1", Protocol::Udp, "192.0.2.1", 7),
        ("192.0.2.2", Protocol::Udp, "192.0.2.2", 7),
        ("192.0.2.1", Protocol::Udp, "192.0.2.1", 9),
        ("192.0.2.2", Protocol::Udp, "192.0.2.2", 9),
    ]
    .map(|(name, protocol, address, port)| (name, protocol, address.to_owned(), port));
    assert_eq!(found, expected);
    assert_eq!(resolved.problems.len(), 1, "{:?}", resolved.problems);
    assert!(matches!(&resolved.problems[0], Problem::Merged { .. }));
    for destination in &resolved.destinations {
        let Destination {
            protocol,
            address,
            port,
            ..
        } = *destination;
        let expected = Destination {
            id: Destination::stable_id(protocol, address, port),
            name: destination.name.clone(),
            protocol,
            port,
            interval_ns: 1_000_000,
            timeout_ns: 2_000_000,
            size: 9,
            data: Some(b"abc"[..].into()),
            traffic_class: 0xb8,
            dont_fragment: false,
            from: Some(destination::From::Interface("eth1".into())),
            interface: Some("eth2".into()),
            ..Destination::echo(address)
        };
        assert_eq!(*destination, expected);
    }
}

#[test]
fn the_address_to_come_from_decides_on_the_family() {
    let from = |host: &str| DestinationSpec {
        from: Some(destination::From::Address(ip("192.0.2.9"))),
        ..spec(host)
    };
    let specs = ["both.example", "2001:db8::/126", "192.0.2.7"].map(from);
    let resolved = resolve_by(&lookup, &specs, None, &mut |_| {}).unwrap();
    let found: Vec<_> = resolved.destinations.iter().map(|d| d.address).collect();
    assert_eq!(found, [ip("192.0.2.1"), ip("192.0.2.7")]);
    let told: Vec<_> = resolved.problems.iter().map(ToString::to_string).collect();
    let expected = "2001:db8::/126 is not probed: it has no IPv4 address, and its probes are to \
                    come from 192.0.2.9";
    assert_eq!(told, [expected]);
}

#[test]
fn nothing_left_is_an_error_that_repeats_the_first_reasons() {
    let hosts: Vec<_> = (0..7).map(|n| format!("gone{n}.example")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let error = run(&hosts, None).unwrap_err().to_string();
    assert!(
        error.contains("gone0.example is not probed: Temporary failure"),
        "{error}"
    );
    assert!(error.ends_with("… and 2 more"), "{error}");
}

#[test]
fn each_name_is_looked_up_once_and_not_too_many_at_a_time() {
    let asked = Mutex::new(Vec::new());
    let now = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let counting = |host: &str| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        asked.lock().unwrap().push(host.to_owned());
        thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        let number: u8 = host.strip_prefix('h').unwrap().parse().unwrap();
        Ok(vec![IpAddr::from([192, 0, 2, number])])
    };
    let specs: Vec<_> = (0..400).map(|n| spec(&format!("h{}", n % 200))).collect();
    let resolved = resolve_by(&counting, &specs, None, &mut |_| {}).unwrap();
    let addresses: Vec<_> = resolved.destinations.iter().map(|d| d.address).collect();
    assert_eq!(
        addresses,
        (0..200)
            .map(|n| IpAddr::from([192, 0, 2, n]))
            .collect::<Vec<_>>()
    );
    assert_eq!(resolved.problems.len(), 200);
    let mut asked = asked.into_inner().unwrap();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 200);
    assert!((1..=LOOKUPS_MAX).contains(&most.into_inner()));
}

/// The lookup ends only when progress was told, so nothing here depends on how fast it is.
#[test]
fn a_slow_lookup_is_told_of() {
    let told = AtomicBool::new(false);
    let slow = |_: &str| {
        while !told.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(1));
        }
        Ok(vec![ip("192.0.2.1")])
    };
    let mut heard = Vec::new();
    let resolved = resolve_by(&slow, &[spec("slow.example")], None, &mut |progress| {
        heard.push(progress);
        told.store(true, Ordering::SeqCst);
    });
    assert_eq!(resolved.unwrap().destinations.len(), 1);
    assert_eq!(heard[0], Progress { done: 0, total: 1 });
}

#[test]
fn the_system_knows_localhost() {
    let resolved = resolve(&[spec("localhost")], Some(Family::Ipv4), &mut |_| {}).unwrap();
    assert_eq!(resolved.destinations[0].address, ip("127.0.0.1"));
    assert_eq!(resolved.destinations[0].name, "localhost");
}
