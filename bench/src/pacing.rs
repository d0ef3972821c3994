//! The table `pacing`: how late pinger sends, with the machine idle and with every CPU busy.

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::busy::Busy;
use crate::measure::{Case, Figure, Table, Unit};

/// Long enough for half a million probes at the highest rate here.
const TIME: Duration = Duration::from_secs(5);

/// The first thousand hosts of the lab, and the first alone.
const THOUSAND: &str = "198.18.0.1-198.18.3.232";
const ONE: &str = "198.18.0.1";

/// Who is probed how often.
const PACES: [(&str, &str, &str); 4] = [
    ("1,000 hosts each 10 ms (100,000/s)", THOUSAND, "10ms"),
    ("1,000 hosts each 100 ms (10,000/s)", THOUSAND, "100ms"),
    ("1 host each 1 ms", ONE, "1ms"),
    ("1 host each 100 µs", ONE, "100us"),
];

pub(crate) fn table() -> Table {
    let case = |(name, hosts, interval), busy: bool| Case {
        name: format!("{name}, {}", if busy { "CPUs busy" } else { "CPUs idle" }),
        tool: "pinger",
        time: TIME,
        runs_max: u32::MAX,
        run: Box::new(move |bench| run(bench, hosts, interval, busy)),
    };
    let cases = PACES
        .into_iter()
        .flat_map(|pace| [case(pace, false), case(pace, true)])
        .collect();
    Table {
        name: "pacing",
        about: "How late probes leave: the lag is the time from when a probe was due to its send \
            stamp. Each probe's is kept with its result and is no part of the round trip, which \
            begins with the stamp. `CPUs busy` means a loop of normal priority on each CPU that \
            never rests. `skipped` are probes left out because their turn was a whole interval \
            past. Other probers do not tell how late they are, so pinger stands here alone.",
        cases,
        findings: |_| Vec::new(),
        page: None,
    }
}

fn run(bench: &Bench, hosts: &str, interval: &str, busy: bool) -> Result<Vec<Figure>> {
    let _busy = busy.then(Busy::on_each_cpu).transpose()?;
    let arguments = [hosts, "--interval", interval, "--store", "none"];
    let report = bench.pinger(bench.time(TIME), &arguments)?;
    Ok(vec![
        Unit::Nanoseconds.count("lag p50", report.lag_ns.p50),
        Unit::Nanoseconds.count("lag p99", report.lag_ns.p99),
        Unit::Nanoseconds.count("lag max", report.lag_ns.max),
        Unit::Nanoseconds.count("RTT p50", report.rtt_ns.p50),
        Unit::Nanoseconds.count("RTT p99", report.rtt_ns.p99),
        Unit::PerSecond.of("sent", report.rate_pps),
        Unit::Probes.count("lost", report.sent.saturating_sub(report.reply)),
        Unit::Probes.count("skipped", report.skipped),
    ])
}
