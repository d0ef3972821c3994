//! The tables `protocols` and `floor`: every protocol at full speed, and the shortest round trip
//! of one probe at a time.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::measure::{Case, Figure, Row, Table, Unit};

/// A flood is steady within a few milliseconds.
const FLOOD: Duration = Duration::from_secs(3);
/// A thousand probes, one by one.
const FLOOR: Duration = Duration::from_secs(1);

/// The lab's first thousand hosts of each family, and the first alone.
const HOSTS: [(&str, &str, &str); 2] = [
    ("IPv4", "198.18.0.1-198.18.3.232", "198.18.0.1"),
    ("IPv6", "2001:2:0:1::1-2001:2:0:1::3e8", "2001:2:0:1::1"),
];

/// What is asked, and how: the lab's hosts answer echo requests in their kernel, as they do SYNs
/// and datagrams to closed ports; datagrams to port 7 are answered by a program.
const KINDS: [(&str, &[&str]); 5] = [
    (ICMP, &[]),
    (UDP, &["--protocol", "udp", "--port", "9"]),
    ("UDP, echo service", &["--protocol", "udp", "--port", "7"]),
    ("TCP, closed port", &["--protocol", "tcp", "--port", "9"]),
    (TCP, &["--protocol", "tcp", "--port", "80"]),
];
const ICMP: &str = "ICMP";
const UDP: &str = "UDP, closed port";
const TCP: &str = "TCP, open port";

pub(crate) fn table() -> Table {
    Table {
        name: "protocols",
        about: "How many round trips a second are sent, answered and matched to 1,000 hosts, by \
            each protocol, as in the table `rate`. Each probe to an open TCP port costs a third \
            packet, the RST that closes the connection; the echo service is a program that \
            shares the CPUs. A payload is 56 bytes where none is named; \
            TCP probes have none.",
        cases: rates().chain(payloads()).collect(),
        findings,
        page: None,
    }
}

pub(crate) fn floor() -> Table {
    let case = |(family, _, host): (&str, &'static str, &'static str), (kind, more)| {
        let run = move |bench: &Bench| floor_of(bench, host, more);
        one(format!("{kind}, {family}"), FLOOR, run)
    };
    // The lab's IPv6 hosts have their addresses by a route only, so their kernel says that a port
    // is closed from another address: that is an error, not a reply, and has no quantiles.
    let is_told = |family: &str, kind: &str| family == "IPv4" || kind != UDP;
    let cases = HOSTS
        .into_iter()
        .flat_map(|hosts| {
            let told = KINDS
                .into_iter()
                .filter(move |(kind, _)| is_told(hosts.0, kind));
            told.map(move |kind| case(hosts, kind))
        })
        .collect();
    Table {
        name: "floor",
        about: "Round trips of one probe at a time, each millisecond, to one host of the lab: \
            what the measuring itself adds to a way that is as short as it can be.",
        cases,
        findings: |_| Vec::new(),
        page: None,
    }
}

fn rates() -> impl Iterator<Item = Case> {
    HOSTS.into_iter().flat_map(|(family, range, _)| {
        KINDS.into_iter().map(move |(kind, more)| {
            one(format!("{kind}, {family}"), FLOOD, move |bench| {
                flood(bench, range, more)
            })
        })
    })
}

/// Short and long payloads, compared with what was sent and not.
fn payloads() -> impl Iterator<Item = Case> {
    let sizes = [("56", "56 bytes"), ("1400", "1,400 bytes")];
    sizes.into_iter().flat_map(|(size, name)| {
        [(true, "compared"), (false, "not compared")].map(|(verify, how)| {
            one(
                format!("{ICMP}, IPv4, {name}, {how}"),
                FLOOD,
                move |bench| {
                    let mut more = vec!["--size", size];
                    more.extend((!verify).then_some("--no-verify"));
                    flood(bench, HOSTS[0].1, &more)
                },
            )
        })
    })
}

fn one(
    name: String,
    time: Duration,
    run: impl Fn(&Bench) -> Result<Vec<Figure>> + 'static,
) -> Case {
    Case {
        name,
        tool: "pinger",
        time,
        runs_max: u32::MAX,
        run: Box::new(run),
    }
}

fn flood(bench: &Bench, hosts: &str, more: &[&str]) -> Result<Vec<Figure>> {
    let mut arguments = vec![hosts, "--flood", "--store", "none"];
    arguments.extend(more);
    let report = bench.pinger(bench.time(FLOOD), &arguments)?;
    let answered = report.reply + report.error;
    Ok(vec![
        Unit::PerSecond.of("answers", answered as f64 / report.elapsed_s),
        Unit::Nanoseconds.count("RTT p50", report.rtt_ns.p50),
        Unit::Probes.count("lost", report.sent.saturating_sub(answered)),
    ])
}

fn floor_of(bench: &Bench, host: &str, more: &[&str]) -> Result<Vec<Figure>> {
    let mut arguments = vec![host, "--interval", "1ms", "--store", "none"];
    arguments.extend(more);
    let report = bench.pinger(bench.time(FLOOR), &arguments)?;
    let answered = report.reply + report.error;
    Ok(vec![
        Unit::Nanoseconds.count("RTT min", report.rtt_ns.min),
        Unit::Nanoseconds.count("RTT p50", report.rtt_ns.p50),
        Unit::Nanoseconds.count("RTT p99", report.rtt_ns.p99),
        Unit::Probes.count("lost", report.sent.saturating_sub(answered)),
    ])
}

/// How UDP and TCP compare with ICMP.
fn findings(rows: &[Row]) -> Vec<String> {
    let answers = |case: String| {
        rows.iter()
            .find(|row| row.case == case && row.metric == "answers")
            .map(|row| row.median)
    };
    let finding = |family: &str, kind: &str| {
        let share = answers(format!("{kind}, {family}"))? / answers(format!("{ICMP}, {family}"))?;
        Some(format!(
            "{kind}, {family}: {:.0} % of ICMP's rate.",
            100.0 * share
        ))
    };
    HOSTS
        .into_iter()
        .flat_map(|(family, _, _)| {
            [UDP, TCP]
                .into_iter()
                .filter_map(move |kind| finding(family, kind))
        })
        .collect()
}
