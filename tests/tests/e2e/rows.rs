//! The rows of a run, read back through `pinger sql`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;

use crate::harness::{Report, Site};

/// A row of `results`, times as nanoseconds since 1970.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) run: u64,
    pub(crate) source: u32,
    pub(crate) destination: u64,
    pub(crate) sequence: u64,
    pub(crate) due: i64,
    pub(crate) sent: i64,
    pub(crate) lag: u64,
    pub(crate) rtt: Option<u64>,
    pub(crate) received: Option<i64>,
    pub(crate) outcome: String,
    pub(crate) address: Ipv6Addr,
    pub(crate) rsite: u32,
    pub(crate) rhost: u32,
    pub(crate) rtype: u8,
    pub(crate) rcode: u8,
    pub(crate) rid: u16,
    pub(crate) rseq: u16,
    pub(crate) hop_limit: u8,
    pub(crate) datamatch: Option<bool>,
    pub(crate) ttl: u8,
    pub(crate) answer: String,
    pub(crate) traffic_class: u8,
    pub(crate) mismatch_at: Option<u16>,
}

const QUERY: &str = "SELECT run, source, destination, sequence, \
    toUnixTimestamp64Nano(time_due) AS due, toUnixTimestamp64Nano(time_sent) AS sent, lag, rtt, \
    toUnixTimestamp64Nano(rtime) AS received, outcome, address, rsite, rhost, rtype, rcode, rid, \
    rseq, hop_limit, datamatch, ttl, answer, traffic_class, mismatch_at FROM results \
    ORDER BY run, destination, sequence, time_due, outcome \
    SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow";

/// All rows in the site's store, in the order of run, destination and sequence.
pub(crate) fn all(site: &Site) -> Vec<Row> {
    let text = site.sql(QUERY);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The keys of the destinations in the store, by address.
pub(crate) fn keys(site: &Site) -> HashMap<IpAddr, u64> {
    let text = site.sql("SELECT address, id FROM destinations FINAL WHERE active");
    text.lines()
        .map(|line| {
            let (address, id) = line.split_once('\t').unwrap();
            let address: Ipv6Addr = address.parse().unwrap();
            (address.to_canonical(), id.parse().unwrap())
        })
        .collect()
}

/// The keys of the destinations in the store, by protocol as the schema names it, address, port.
pub(crate) fn ported_keys(site: &Site) -> HashMap<(String, IpAddr, u16), u64> {
    let text = site.sql("SELECT protocol, address, port, id FROM destinations FINAL WHERE active");
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [protocol, address, port, id] = fields[..] else {
                panic!("not four fields: {line}")
            };
            let address: Ipv6Addr = address.parse().unwrap();
            let key = (
                protocol.to_owned(),
                address.to_canonical(),
                port.parse().unwrap(),
            );
            (key, id.parse().unwrap())
        })
        .collect()
}

/// How many rows have this outcome.
pub(crate) fn count(rows: &[Row], outcome: &str) -> u64 {
    rows.iter().filter(|row| row.outcome == outcome).count() as u64
}

/// The rows are what the report counted: all written, none twice, and each outcome as often.
#[track_caller]
pub(crate) fn assert_agree(rows: &[Row], report: &Report) {
    let outcomes = ["reply", "error", "lost", "send_failed", "late", "duplicate"];
    let mut sum = 0;
    for outcome in outcomes {
        let counted = report.count(outcome);
        assert_eq!(count(rows, outcome), counted, "{outcome} in {}", report.0);
        sum += counted;
    }
    assert_eq!(rows.len() as u64, sum);
    report.assert_counts(&[
        ("rows.written", sum),
        ("rows.spooled", 0),
        ("rows.dropped", 0),
    ]);
}

/// Every probe has one end: no sequence of a destination is there twice, and none is missing but
/// those that the program says it skipped.
#[track_caller]
pub(crate) fn assert_whole(rows: &[Row], skipped: u64) {
    let mut missing = 0;
    let ends = ["reply", "error", "lost", "send_failed"];
    let mut next: HashMap<(u64, u64), u64> = HashMap::new();
    for row in rows.iter().filter(|row| ends.contains(&&*row.outcome)) {
        let next = next.entry((row.run, row.destination)).or_default();
        assert!(row.sequence >= *next, "twice: {row:?}");
        missing += row.sequence - *next;
        *next = row.sequence + 1;
    }
    assert!(missing <= skipped, "{missing} missing, {skipped} skipped");
}

/// What holds for every row, whatever came of its probe.
#[track_caller]
pub(crate) fn assert_sound(row: &Row) {
    assert!(row.sent >= row.due, "{row:?}");
    assert_eq!(row.sent, row.due + row.lag as i64, "{row:?}");
    assert_eq!(
        row.received,
        row.rtt.map(|rtt| row.sent + rtt as i64),
        "{row:?}"
    );
    assert_eq!(row.rseq, row.sequence as u16, "{row:?}");
    if matches!(&*row.outcome, "lost" | "send_failed") {
        let nothing = (row.rtt, row.address, row.hop_limit, row.datamatch);
        assert_eq!(nothing, (None, Ipv6Addr::UNSPECIFIED, 0, None), "{row:?}");
    }
}
