//! All six protocols in one run against a responder that does everything a network can do, by a
//! seed; and each row in ClickHouse as exactly what was done.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use pinger_tests::sim::rng::Rng;
use xtask::lab::Shape;

use crate::harness::{Site, alone};
use crate::responder::{Act, By, Entry, Forgery, IcmpError, Probe, Reset, Responder, What};
use crate::rows::{self, Row};

/// Plays the same faults again; any number will do.
const SEED: u64 = 3;
/// Probes to each destination.
const PROBES: u64 = 150;
/// Beyond the timeout of 400 ms, with the probe's slot still its own: a flow has 16 slots of
/// 50 ms each.
const LATE: Duration = Duration::from_millis(600);
/// Overtaken by the two answers behind it.
const OVERTAKEN: Duration = Duration::from_millis(130);
/// Where the corrupted byte is, well behind the cookie.
const CORRUPT_AT: usize = 20;
/// How a probe of UDP ends that the destination itself says is for a closed port.
pub(crate) const CLOSED_UDP: &str = "reply";

/// Six destinations; the last host keeps the run open, so that late answers find it.
const CONFIG: &str = r#"
interval = "50ms"
timeout = "400ms"
count = 150
interface = "pinger0"
destinations = [
    "icmp://198.18.0.1", "udp://198.18.0.1:7", "tcp://198.18.0.1:80",
    "icmp://[2001:2:0:1::1]", "udp://[2001:2:0:1::1]:7", "tcp://[2001:2:0:1::1]:443",
]
[[destination]]
host = "198.18.0.250"
timeout = "4s"
"#;

/// Who sends the errors that are not the host's own.
fn router(ipv4: bool) -> IpAddr {
    let address = if ipv4 {
        "198.18.77.1"
    } else {
        "2001:2:0:1::77"
    };
    address.parse().unwrap()
}

/// Types and codes: unreachable in several ways, too big, time exceeded, parameter problem.
fn errors(ipv4: bool) -> &'static [(u8, u8)] {
    if ipv4 {
        &[
            (3, 0),
            (3, 1),
            (3, 3),
            (3, 4),
            (3, 13),
            (11, 0),
            (11, 1),
            (12, 0),
        ]
    } else {
        &[
            (1, 0),
            (1, 1),
            (1, 3),
            (1, 4),
            (2, 0),
            (3, 0),
            (3, 1),
            (4, 1),
        ]
    }
}

fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len() as u64) as usize]
}

/// What is done with a probe, by the seed.
fn draw(rng: &mut Rng, probe: &Probe) -> Vec<Act> {
    let ipv4 = probe.host.is_ipv4();
    let mut error = || {
        let all = errors(ipv4);
        let (kind, code) = one_of(rng, all);
        let whole = rng.below(2) == 0;
        What::Error(IcmpError {
            from: router(ipv4),
            kind,
            code,
            whole,
        })
    };
    let error = error();
    match rng.below(12) {
        0 => Vec::new(),
        1 => vec![What::Honest.now(); 2 + rng.below(2) as usize],
        2 => vec![What::Honest.after(OVERTAKEN)],
        3 => vec![What::Honest.after(LATE)],
        4 => vec![error.now()],
        5 => vec![error.after(LATE)],
        6 => vec![error.now(), What::Honest.now()],
        7 => vec![What::Forged(one_of(rng, &Forgery::ALL)).now()],
        8 => {
            // Forged first, the truth later.
            let forged = What::Forged(one_of(rng, &Forgery::ALL));
            vec![forged.now(), What::Honest.after(OVERTAKEN)]
        }
        9 if probe.by != By::Tcp => vec![What::Corrupt(CORRUPT_AT).now()],
        10 if probe.by != By::Icmp => vec![What::Closed.now()],
        _ => vec![What::Honest.now()],
    }
}

/// The part of a row that tells what came back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    outcome: &'static str,
    answer: &'static str,
    address: Option<IpAddr>,
    icmp: (u8, u8),
    datamatch: Option<bool>,
    mismatch_at: Option<u16>,
}

/// What a row must say of an answer.
fn told(probe: &Probe, what: What, outcome: &'static str) -> Told {
    let ipv4 = probe.host.is_ipv4();
    let echo = if ipv4 { (0, 0) } else { (129, 0) };
    let mut told = Told {
        outcome,
        answer: "syn_ack",
        address: Some(probe.host),
        icmp: (0, 0),
        datamatch: None,
        mismatch_at: None,
    };
    match (what, probe.by) {
        (What::Closed, By::Tcp) => told.answer = "reset",
        (What::Closed, _) => {
            told.answer = "icmp_error";
            told.icmp = if ipv4 { (3, 3) } else { (1, 4) };
        }
        (What::Error(error), _) => {
            told.answer = "icmp_error";
            told.address = Some(error.from);
            told.icmp = (error.kind, error.code);
        }
        (What::Honest | What::Corrupt(_), by) => {
            if let What::Corrupt(offset) = what {
                told.mismatch_at = Some(offset as u16);
            }
            match by {
                By::Icmp => (told.answer, told.icmp) = ("echo", echo),
                By::Udp => told.answer = "datagram",
                By::Tcp => return told,
            }
            told.datamatch = Some(told.mismatch_at.is_none());
        }
        (What::Forged(_), _) => unreachable!("forgeries have no rows"),
    }
    told
}

/// All rows that a probe must have, in order.
fn expected(entry: &Entry) -> Vec<Told> {
    let mut genuine: Vec<&Act> = entry
        .acts
        .iter()
        .filter(|act| !matches!(act.what, What::Forged(_)))
        .collect();
    genuine.sort_by_key(|act| act.after);
    let lost = Told {
        outcome: "lost",
        answer: "none",
        address: None,
        icmp: (0, 0),
        datamatch: None,
        mismatch_at: None,
    };
    let mut told_of = Vec::new();
    for (number, act) in genuine.iter().enumerate() {
        let outcome = match (number, act.what) {
            _ if act.after >= LATE => "late",
            (1.., _) => "duplicate",
            (_, What::Error(_)) => "error",
            (_, What::Closed) if entry.probe.by == By::Udp => CLOSED_UDP,
            _ => "reply",
        };
        told_of.push(told(&entry.probe, act.what, outcome));
    }
    if told_of.iter().all(|told| told.outcome == "late") {
        told_of.push(lost);
    }
    told_of.sort();
    told_of
}

/// What a row says.
fn said(row: &Row) -> Told {
    const OUTCOMES: [&str; 6] = ["reply", "error", "lost", "send_failed", "late", "duplicate"];
    const ANSWERS: [&str; 6] = ["none", "echo", "datagram", "syn_ack", "reset", "icmp_error"];
    let known = |all: [&'static str; 6], word: &str| {
        all.into_iter()
            .find(|known| *known == word)
            .unwrap_or_else(|| panic!("{row:?}"))
    };
    let address = row.address.to_canonical();
    Told {
        outcome: known(OUTCOMES, &row.outcome),
        answer: known(ANSWERS, &row.answer),
        address: (!address.is_unspecified()).then_some(address),
        icmp: (row.rtype, row.rcode),
        datamatch: row.datamatch,
        mismatch_at: row.mismatch_at,
    }
}

/// One destination: what the responder did, in order, and the rows.
fn check(entries: &[&Entry], rows: &[Row]) {
    let mut by_sequence: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match by_sequence.last_mut() {
            Some(same) if same[0].sequence == row.sequence => same.push(row),
            _ => by_sequence.push(vec![row]),
        }
    }
    assert_eq!(
        entries.len(),
        by_sequence.len(),
        "probes of {:?}",
        entries[0].probe
    );
    for (entry, rows) in entries.iter().zip(by_sequence) {
        let Entry { probe, acts } = entry;
        let mut found: Vec<Told> = rows.iter().map(|row| said(row)).collect();
        found.sort();
        assert_eq!(found, expected(entry), "{probe:?}\n{acts:?}\n{rows:?}");
        for row in rows {
            rows::assert_sound(row);
            assert_eq!(row.rid, probe.identifier, "{row:?}");
            assert_eq!((row.ttl, probe.ttl), (64, 64), "{row:?}");
            assert!(
                probe.sequence().is_none_or(|wire| wire == row.rseq),
                "{probe:?} {row:?}"
            );
            let back = row.outcome != "lost";
            assert_eq!(row.hop_limit, if back { 64 } else { 0 }, "{row:?}");
            assert_eq!(row.rtt.is_some(), back, "{row:?}");
            let delay = |act: &Act| act.after.as_nanos();
            let least = match &*row.outcome {
                "late" => LATE.as_nanos(),
                "reply" | "error" => acts
                    .iter()
                    .filter(|act| !matches!(act.what, What::Forged(_)))
                    .map(delay)
                    .min()
                    .unwrap_or(0),
                _ => 0,
            };
            assert!(
                !back || row.rtt.is_some_and(|rtt| u128::from(rtt) >= least),
                "{row:?}"
            );
        }
    }
}

/// Every SYN-ACK that was ours was answered with a RST behind the initial sequence number. One
/// more for each probe is allowed: the one ahead of the next SYN, if that came first.
fn connections_were_closed(entries: &[Entry], resets: &[Reset]) {
    // A forged SYN-ACK passes to the host, whose kernel resets a connection that it knows nothing
    // of: from another port, to another host or with another number.
    let mut found: HashMap<Reset, usize> = HashMap::new();
    for reset in resets {
        *found.entry(*reset).or_default() += 1;
    }
    for Entry { probe, acts } in entries.iter().filter(|entry| entry.probe.by == By::Tcp) {
        let open = acts.iter().filter(|act| act.what == What::Honest).count();
        let reset = Reset {
            host: probe.host,
            port: probe.port,
            identifier: probe.identifier,
            number: probe.tcp_number().wrapping_add(1),
        };
        let found = found.get(&reset).copied().unwrap_or(0);
        assert!(
            (open..=open + 1).contains(&found),
            "{found} of {open}: {reset:?}"
        );
    }
}

#[test]
fn all_six_protocols_at_once_with_every_outcome_and_each_row_as_it_was_provoked() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let mut rng = Rng::new(SEED);
    let last: IpAddr = "198.18.0.250".parse().unwrap();
    let responder = Responder::start(&site.lab, move |probe, _| {
        if probe.host == last {
            return Vec::new();
        }
        draw(&mut rng, probe)
    });
    let config = site.folder.file("pinger.toml", CONFIG);
    let report = site
        .start_stored(&format!("--config {config} --format json"))
        .end()
        .report();
    let log = responder.log();
    println!("seed {SEED}: {}", report.0);
    assert_eq!(report.count("sent") + report.count("skipped"), 7 * PROBES);
    assert_eq!(report.count("sent"), log.probes.len() as u64);

    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    rows::assert_whole(&rows, report.count("skipped"));
    let keys = rows::ported_keys(&site);
    assert_eq!(keys.len(), 7);
    let mut by_destination: HashMap<u64, Vec<Row>> = HashMap::new();
    for row in rows {
        by_destination.entry(row.destination).or_default().push(row);
    }
    let mut protocols = HashSet::new();
    for ((protocol, host, port), key) in keys {
        let rows = by_destination.remove(&key).unwrap_or_default();
        let by = match &*protocol {
            "ICMP" | "ICMP6" => By::Icmp,
            "UDP" | "UDP6" => By::Udp,
            _ => By::Tcp,
        };
        let entries: Vec<&Entry> = log
            .probes
            .iter()
            .filter(|Entry { probe, .. }| (probe.by, probe.host, probe.port) == (by, host, port))
            .collect();
        check(&entries, &rows);
        if host != last {
            let outcomes: HashSet<&str> = rows.iter().map(|row| &*row.outcome).collect();
            let all = ["reply", "error", "lost", "late", "duplicate"];
            assert!(
                all.iter().all(|one| outcomes.contains(one)),
                "{protocol}: {outcomes:?}"
            );
            protocols.insert(protocol);
        }
    }
    assert_eq!(protocols.len(), 6, "{protocols:?}");
    assert!(by_destination.is_empty(), "rows of unknown destinations");

    let forged = log
        .probes
        .iter()
        .flat_map(|entry| &entry.acts)
        .filter(|act| matches!(act.what, What::Forged(forgery) if forgery.is_counted()));
    assert_eq!(report.count("forged"), forged.count() as u64);
    connections_were_closed(&log.probes, &log.resets);
    site.assert_clean();
}
