//! The table `rate`: matched round trips per second at full speed, with and without a store, and
//! fping beside; and whether a steady rate loses any result on its way into the store.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;
use pinger::view::Report;

use crate::bench::{Bench, DataDir};
use crate::fping;
use crate::measure::{Case, Figure, Row, Run, Table, Unit};

/// How many hosts are probed.
const HOSTS: u32 = 1000;
/// A flood is steady within a few milliseconds.
const FLOOD: Duration = Duration::from_secs(5);
/// Long enough that whatever fills up by and by, does.
const STEADY: Duration = Duration::from_secs(60);
/// A minute's run counts three million probes; more runs would add little.
const STEADY_RUNS: u32 = 3;
/// 1,000 hosts each 20 ms.
const STEADY_INTERVAL: &str = "20ms";

/// The table's title for its main case, which the findings compare.
const IPV4: &str = "flood, 1,000 IPv4 hosts";
const IPV6: &str = "flood, 1,000 IPv6 hosts";

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// The hosts as one argument of pinger's.
    fn range(self) -> String {
        let hosts = self.hosts();
        format!("{}-{}", hosts[0], hosts[hosts.len() - 1])
    }

    /// The first hosts of the lab, one by one.
    fn hosts(self) -> Vec<String> {
        let host = |number: u32| match self {
            Self::V4 => Ipv4Addr::from_bits(0xc612_0000 + number).to_string(),
            Self::V6 => {
                let prefix = u128::from(0x2001_0002_0000_0001_u64) << 64;
                Ipv6Addr::from_bits(prefix + u128::from(number)).to_string()
            }
        };
        (1..=HOSTS).map(host).collect()
    }
}

pub(crate) fn table() -> Table {
    Table {
        name: "rate",
        about: "How many round trips a second are sent, answered by the lab's kernel and matched, \
            to 1,000 hosts. pinger's floods keep at most 512 probes in flight; a batch is what it \
            sends in one go, and its probes wait for each other, which the round trip shows. \
            fping is measured at its fastest, a burst of 65,000 probes by its own clock: it has \
            no more sequence numbers for the next 10 s. In the steady case, `rows missing` is \
            `sent` minus what SQL counts in the store afterwards.",
        cases: vec![
            flood(IPV4, Family::V4, &[]),
            case(IPV4, "fping", FLOOD, burst(Family::V4)),
            flood("flood, batch 32", Family::V4, &["--batch", "32"]),
            flood("flood, batch 1", Family::V4, &["--batch", "1"]),
            case(
                "flood, embedded store",
                "pinger",
                FLOOD,
                Box::new(stored_flood),
            ),
            flood(IPV6, Family::V6, &[]),
            case(IPV6, "fping", FLOOD, burst(Family::V6)),
            Case {
                runs_max: STEADY_RUNS,
                ..case(
                    "steady 50,000/s, embedded store",
                    "pinger",
                    STEADY,
                    Box::new(steady),
                )
            },
        ],
        findings,
        page: None,
    }
}

fn case(name: &str, tool: &'static str, time: Duration, run: Run) -> Case {
    Case {
        name: name.into(),
        tool,
        time,
        runs_max: u32::MAX,
        run,
    }
}

fn flood(name: &str, family: Family, more: &'static [&'static str]) -> Case {
    let run = move |bench: &Bench| {
        let range = family.range();
        let mut arguments = vec![range.as_str(), "--flood", "--store", "none"];
        arguments.extend(more);
        let report = bench.pinger(bench.time(FLOOD), &arguments)?;
        Ok(figures(&report).to_vec())
    };
    case(name, "pinger", FLOOD, Box::new(run))
}

fn burst(family: Family) -> Run {
    Box::new(move |bench| fping::burst(bench, &family.hosts()))
}

fn stored_flood(bench: &Bench) -> Result<Vec<Figure>> {
    let store = DataDir::new()?;
    let range = Family::V4.range();
    let arguments = [range.as_str(), "--flood", "--data-dir", &store.argument()];
    let report = bench.pinger(bench.time(FLOOD), &arguments)?;
    let mut all = figures(&report).to_vec();
    all.push(Unit::Rows.count("rows dropped", report.rows.dropped));
    Ok(all)
}

fn steady(bench: &Bench) -> Result<Vec<Figure>> {
    let store = DataDir::new()?;
    let range = Family::V4.range();
    let directory = store.argument();
    let arguments = [
        &range,
        "--interval",
        STEADY_INTERVAL,
        "--data-dir",
        &directory,
    ];
    let report = bench.pinger(bench.time(STEADY), &arguments)?;
    let counted = bench.ask(
        &store,
        "SELECT count() FROM results WHERE outcome NOT IN ('late', 'duplicate')",
    )?;
    let mut all = figures(&report).to_vec();
    all.extend([
        Unit::Rows.count("rows dropped", report.rows.dropped),
        Unit::Probes.count("sent", report.sent),
        Unit::Probes.count("reply", report.reply),
        Unit::Rows.count("rows written", report.rows.written),
        Unit::Rows.of("rows missing", report.sent as f64 - counted as f64),
    ]);
    Ok(all)
}

/// What every run of pinger shows.
fn figures(report: &Report) -> [Figure; 4] {
    [
        Unit::PerSecond.of("replies", report.reply as f64 / report.elapsed_s),
        Unit::Nanoseconds.count("RTT p50", report.rtt_ns.p50),
        Unit::Nanoseconds.count("RTT p99", report.rtt_ns.p99),
        Unit::Probes.count("lost", report.sent.saturating_sub(report.reply)),
    ]
}

/// How many times as fast pinger is.
fn findings(rows: &[Row]) -> Vec<String> {
    let replies = |case: &str, tool: &str| {
        rows.iter()
            .find(|row| row.case == case && row.tool == tool && row.metric == "replies")
            .map(|row| row.median)
    };
    [IPV4, IPV6]
        .into_iter()
        .filter_map(|case| {
            let times = replies(case, "pinger")? / replies(case, "fping")?;
            Some(format!(
                "{case}: pinger matches {times:.1} times as many as fping."
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_the_labs_first_thousand() {
        let ends = |family: Family| {
            let hosts = family.hosts();
            assert_eq!(hosts.len(), 1000);
            family.range()
        };
        assert_eq!(ends(Family::V4), "198.18.0.1-198.18.3.232");
        assert_eq!(ends(Family::V6), "2001:2:0:1::1-2001:2:0:1::3e8");
    }
}
