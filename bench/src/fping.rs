//! fping at its fastest, and its figures.
//!
//! fping 5.1 numbers its probes with 16 bits and gives a number free only after 10 s. So at full
//! speed it can send one burst of 65,535 probes, and we measure that burst by fping's own clock,
//! which starts when it sends: a sustained flood would be a tenth as fast or less.

use anyhow::{Context, Result, ensure};

use crate::bench::Bench;
use crate::measure::{Figure, Unit};

/// The most probes of one burst.
const BURST: usize = 65_535;

/// Sends one burst to these hosts, each probed as often as the burst allows.
///
/// # Errors
/// fping is missing, fails, or prints something else than expected.
pub(crate) fn burst(bench: &Bench, hosts: &[String]) -> Result<Vec<Figure>> {
    let each = (BURST / hosts.len()).to_string();
    // No pause between probes nor between rounds, one try a probe, and silence until the end.
    // The default timeout here would be the period: 1 ms, and then late replies would be lost.
    let mut arguments = vec![
        "-q", "-s", "-i", "0", "-p", "1", "-r", "0", "-t", "1000", "-C", &each,
    ];
    arguments.extend(hosts.iter().map(String::as_str));
    let output = bench.other("fping", &arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let burst = Burst::parse(&said)?;
    ensure!(
        !burst.rtts_ns.is_empty(),
        "fping got no reply at all: {said}"
    );
    Ok(vec![
        Unit::PerSecond.of("replies", burst.replies as f64 / burst.elapsed_s),
        Unit::Nanoseconds.count("RTT p50", burst.quantile_ns(50)),
        Unit::Nanoseconds.count("RTT p99", burst.quantile_ns(99)),
        Unit::Probes.count("lost", burst.sent.saturating_sub(burst.replies)),
    ])
}

/// fping's version, such as `fping 5.1`.
pub(crate) fn version() -> Result<String> {
    let path = xtask::process::find("fping").context("fping is missing")?;
    let said = xtask::process::capture(std::process::Command::new(path).arg("--version"))?;
    let version = said
        .split_whitespace()
        .last()
        .unwrap_or("of unknown version");
    Ok(format!("fping {version}"))
}

/// What fping says at the end of `-q -s -C`.
#[derive(Debug, PartialEq)]
struct Burst {
    sent: u64,
    replies: u64,
    elapsed_s: f64,
    /// Sorted.
    rtts_ns: Vec<u64>,
}

impl Burst {
    /// Reads a line a host, `HOST : MS MS - …`, and the statistics behind them.
    fn parse(said: &str) -> Result<Self> {
        let number = |words: &str| {
            let line = said.lines().find(|line| line.contains(words));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
                .with_context(|| format!("fping's statistics have no line `{words}`: {said}"))
        };
        let mut rtts_ns: Vec<u64> = said
            .lines()
            .filter_map(|line| line.split_once(" : "))
            .flat_map(|(_, times)| times.split_whitespace())
            .filter_map(|time| time.parse::<f64>().ok())
            .map(|ms| (ms * 1e6).round() as u64)
            .collect();
        rtts_ns.sort_unstable();
        Ok(Self {
            sent: number("ICMP Echos sent")? as u64,
            replies: number("ICMP Echo Replies received")? as u64,
            elapsed_s: number("sec (elapsed real time)")?,
            rtts_ns,
        })
    }

    /// The least value that this part of all round trips, in percent, does not exceed.
    fn quantile_ns(&self, percent: usize) -> u64 {
        let rank = (self.rtts_ns.len() * percent).div_ceil(100).max(1);
        self.rtts_ns[rank - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_burst_is_read() {
        let said = "198.18.0.1   : 0.036 0.006 -\n2001:2:0:1::2 : 0.005 1.35 0.004\n\n\
            \x20      2 targets\n       1 timeouts (waiting for response)\n       \
            6 ICMP Echos sent\n       5 ICMP Echo Replies received\n       0 other ICMP received\n\
            \n 0.004 ms (min round trip time)\n        0.125 sec (elapsed real time)\n";
        let burst = Burst::parse(said).unwrap();
        let expected = Burst {
            sent: 6,
            replies: 5,
            elapsed_s: 0.125,
            rtts_ns: vec![4_000, 5_000, 6_000, 36_000, 1_350_000],
        };
        assert_eq!(burst, expected);
        assert_eq!(burst.quantile_ns(50), 6_000);
        assert_eq!(burst.quantile_ns(99), 1_350_000);
    }

    #[test]
    fn other_words_are_an_error() {
        let error = Burst::parse("fping: no such host").unwrap_err().to_string();
        assert!(error.contains("ICMP Echos sent"), "{error}");
    }
}
