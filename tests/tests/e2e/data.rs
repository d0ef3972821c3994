//! What probes carry: patterns of any length in payloads of any size, and where a changed byte is.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use pinger_ebpf::identity::Prefix;
use xtask::lab::Shape;

use crate::harness::{Site, alone};
use crate::responder::{By, Responder, What};
use crate::rows;

/// The payload by the rule: the pattern repeats to fill the size, what is left over stays zero, and
/// a pattern longer than the size is sent as it is.
fn payload(data: Option<&[u8]>, size: usize) -> Vec<u8> {
    let Some(data) = data else {
        return (0..size).map(|byte| byte as u8).collect();
    };
    let size = size.max(data.len());
    let mut payload = data.repeat(size / data.len());
    payload.resize(size, 0);
    payload
}

/// Sizes around each change of what a probe carries of its own, and the most that fits 1,500
/// bytes with the longest headers.
const SIZES: [usize; 14] = [0, 1, 3, 4, 7, 8, 9, 10, 11, 12, 13, 56, 1400, 1452];
const PATTERNS: [Option<&str>; 5] = [
    None,
    Some("x"),
    Some("abc"),
    Some("sixteen bytes!! "),
    Some("a pattern that is rather long"),
];

struct Case {
    by: By,
    host: IpAddr,
    size: usize,
    data: Option<&'static str>,
}

/// One host a case, so that each is a destination of its own.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for by in [By::Icmp, By::Udp] {
        for ipv4 in [true, false] {
            for size in SIZES {
                for data in PATTERNS {
                    let number = cases.len() + 1;
                    let host = if ipv4 {
                        IpAddr::from([198, 18, (number / 250) as u8, (number % 250 + 1) as u8])
                    } else {
                        format!("2001:2:0:1::{number:x}").parse().unwrap()
                    };
                    cases.push(Case {
                        by,
                        host,
                        size,
                        data,
                    });
                }
            }
        }
    }
    cases
}

fn config(cases: &[Case]) -> String {
    // UDP without a sequence has one probe in flight at a time.
    let mut text = "count = 2\ninterval = \"1s\"\ntimeout = \"1s\"\n".to_owned();
    for Case {
        by,
        host,
        size,
        data,
    } in cases
    {
        let (protocol, port) = match by {
            By::Icmp => ("icmp", ""),
            _ => ("udp", "port = 7\n"),
        };
        write!(
            text,
            "[[destination]]\nhost = \"{host}\"\nprotocol = \"{protocol}\"\n{port}"
        )
        .unwrap();
        writeln!(text, "size = {size}").unwrap();
        if let Some(data) = data {
            writeln!(text, "data = \"{data}\"").unwrap();
        }
    }
    text
}

#[test]
fn every_payload_is_sent_by_the_rule_and_known_when_it_comes_back() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let responder = Responder::start(&site.lab, |_, _| vec![What::Honest.now()]);
    let cases = cases();
    let config = site.folder.file("pinger.toml", &config(&cases));
    let report = site.report(&format!("--config {config}"));
    let sent = 2 * cases.len() as u64;
    report.assert_counts(&[
        ("sent", sent),
        ("reply", sent),
        ("mismatch", 0),
        ("forged", 0),
    ]);
    let log = responder.log();
    for Case {
        by,
        host,
        size,
        data,
    } in &cases
    {
        let wanted = payload(data.map(str::as_bytes), *size);
        let protocol = match (by, host.is_ipv4()) {
            (By::Icmp, true) => 1,
            (By::Icmp, false) => 58,
            _ => 17,
        };
        let own = Prefix::of(protocol, wanted.len()).len;
        let of_case =
            |entry: &&crate::responder::Entry| (entry.probe.by, entry.probe.host) == (*by, *host);
        let entries: Vec<_> = log.probes.iter().filter(of_case).collect();
        assert_eq!(entries.len(), 2, "{by:?} {host}");
        for entry in entries {
            let found = entry.probe.payload();
            assert_eq!(found.len(), wanted.len(), "{by:?} {host} {size} {data:?}");
            assert_eq!(found[own..], wanted[own..], "{by:?} {host} {size} {data:?}");
        }
    }
}

#[test]
fn the_first_changed_byte_is_where_it_was_changed() {
    /// Behind what is the probe's own, at the edges of words, and the last.
    const OFFSETS: [usize; 10] = [12, 13, 15, 16, 17, 31, 55, 64, 1000, 1399];
    let _turn = alone();
    let site = Site::new(Shape::default());
    let host = |ipv4: bool, number: usize| -> IpAddr {
        let number = number + 1;
        if ipv4 {
            IpAddr::from([198, 18, 0, number as u8])
        } else {
            format!("2001:2:0:1::{number}").parse().unwrap()
        }
    };
    let corrupt = move |address: IpAddr| {
        let number =
            (0..OFFSETS.len()).find(|n| [true, false].map(|v4| host(v4, *n)).contains(&address));
        OFFSETS[number.expect("one of the hosts")]
    };
    let _responder = Responder::start(&site.lab, move |probe, _| {
        // A second, whole answer shows that only the first is called changed.
        let offset = corrupt(probe.host);
        vec![
            What::Corrupt(offset).now(),
            What::Honest.after(Duration::from_millis(20)),
        ]
    });
    let mut words = String::new();
    for number in 0..OFFSETS.len() {
        let (v4, v6) = (host(true, number), host(false, number));
        write!(
            words,
            " icmp://{v4} udp://{v4}:7 icmp://[{v6}] udp://[{v6}]:7"
        )
        .unwrap();
    }
    let running = site.start_stored(&format!(
        "--format json --count 2 --interval 500ms --timeout 2s --size 1400 {words}"
    ));
    let report = running.end().report();
    let sent = 2 * 4 * OFFSETS.len() as u64;
    report.assert_counts(&[("reply", sent), ("duplicate", sent), ("mismatch", sent)]);
    let keys = rows::ported_keys(&site);
    let hosts: std::collections::HashMap<u64, IpAddr> = keys
        .into_iter()
        .map(|((_, host, _), key)| (key, host))
        .collect();
    for row in rows::all(&site) {
        let offset = corrupt(hosts[&row.destination]) as u16;
        let expected = if row.outcome == "reply" {
            (Some(false), Some(offset))
        } else {
            (Some(true), None)
        };
        assert_eq!((row.datamatch, row.mismatch_at), expected, "{row:?}");
    }
}
