//! The table `trace`: how long all hops to a thousand destinations take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use xtask::lab::{Lab, Shape};

use crate::bench::Bench;
use crate::measure::{Case, Figure, Table, Unit};

/// Between the prober and the hosts, so that these are the sixteenth hop.
const ROUTERS: usize = 15;
const HOPS: &str = "16";

/// Who is traced.
const HOSTS: [(&str, &str); 2] = [
    ("1,000 IPv4 hosts, 16 hops", "198.18.0.1-198.18.3.232"),
    ("1,000 IPv6 hosts, 16 hops", "2001:2:0:1::1-2001:2:0:1::3e8"),
];

/// What of `pinger trace --format json` is looked at.
#[derive(Deserialize)]
struct Path {
    reached: bool,
    hops: Vec<Hop>,
}

#[derive(Deserialize)]
struct Hop {
    sent: u64,
    replies: u64,
}

pub(crate) fn table() -> Table {
    let case = |(name, hosts): (&str, &'static str)| Case {
        name: name.into(),
        tool: "pinger",
        time: Duration::from_secs(2),
        runs_max: u32::MAX,
        run: Box::new(move |bench| run(bench, hosts)),
    };
    Table {
        name: "trace",
        about: "How long one `pinger trace` of a thousand hosts behind fifteen routers takes, from \
            the start of the program to its end. The routers are network namespaces of this \
            machine; each answers by its own kernel.",
        cases: HOSTS.into_iter().map(case).collect(),
        findings: |_| Vec::new(),
        page: None,
    }
}

fn run(bench: &Bench, hosts: &str) -> Result<Vec<Figure>> {
    let lab = Lab::new(Shape {
        gateways: ROUTERS,
        ..Shape::default()
    })?;
    let started = Instant::now();
    let said = bench.command(&lab, &["trace", "--hops", HOPS, "--format", "json", hosts])?;
    let elapsed = started.elapsed();
    let paths: Vec<Path> = String::from_utf8(said)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("pinger printed no paths")?;
    ensure!(!paths.is_empty(), "pinger printed no paths");
    let hops = || paths.iter().flat_map(|path| &path.hops);
    let sent: u64 = hops().map(|hop| hop.sent).sum();
    let replies: u64 = hops().map(|hop| hop.replies).sum();
    let reached = paths.iter().filter(|path| path.reached).count();
    Ok(vec![
        Unit::Nanoseconds.of("time", elapsed.as_nanos() as f64),
        Unit::Probes.count("reached", reached as u64),
        Unit::Probes.count("hops asked", sent),
        Unit::Probes.count("lost", sent.saturating_sub(replies)),
    ])
}
