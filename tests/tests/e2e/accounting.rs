//! Every probe is accounted for: sent when it was due, answered, and in ClickHouse as it was.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use xtask::lab::Shape;

use crate::harness::{Site, alone, until};
use crate::responder::{Responder, What};
use crate::rows::{self, Row};

const INTERVAL_NS: i64 = 100_000_000;
const ROUNDS: u64 = 30;
/// Wall clock and schedule drift apart by what NTP corrects, which is at most 500 ppm.
const DRIFT_MAX_NS: i64 = 10_000_000;

/// 1,000 IPv4 and 1,000 IPv6 hosts in the order in which the program is told of them.
fn hosts() -> Vec<IpAddr> {
    let ipv4 = (1..=1000).map(|host| Ipv4Addr::from_bits(0xc612_0000 + host).into());
    let base: Ipv6Addr = "2001:2:0:1::".parse().unwrap();
    let ipv6 = (1..=1000_u128).map(|host| Ipv6Addr::from_bits(base.to_bits() + host).into());
    ipv4.chain(ipv6).collect()
}

#[test]
fn two_thousand_hosts_behind_a_gateway_and_every_row_as_it_was_sent() {
    let _turn = alone();
    let site = Site::new(Shape {
        gateways: 1,
        ..Shape::default()
    });
    let running = site.start_stored(
        "-i pinger0 --interval 100ms --duration 3s --timeout 5s --format json \
         --source-id 37 --source-location 371 --source-host 372 \
         198.18.0.1-198.18.3.232 2001:2:0:1::1-2001:2:0:1::3e8",
    );
    let ended = running.end();
    let report = ended.report();
    let hosts = hosts();
    let due = ROUNDS * hosts.len() as u64;
    // A machine busy with other things may keep the sender from a whole round: then it says so.
    assert_eq!(
        report.count("sent") + report.count("skipped"),
        due,
        "{}",
        report.0
    );
    let (sent, lost) = (report.count("sent"), report.count("lost"));
    report.assert_counts(&[("reply", sent - lost), ("rows.written", sent)]);
    assert_eq!(lost, site.unanswered(), "{}", report.0);
    report.assert_counts(&["late", "duplicate", "mismatch", "forged"].map(|name| (name, 0)));
    site.assert_clean();

    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    let keys = rows::keys(&site);
    assert_eq!(keys.len(), hosts.len());
    let places: HashMap<u64, usize> = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| (keys[host], place))
        .collect();
    assert_eq!(places.len(), hosts.len(), "keys are unique");
    let by_name = |place| hosts[place];
    each_row_is_as_it_was_sent(&rows, &places, by_name);
    on_the_grid(&rows, &places);
    rows::assert_whole(&rows, report.count("skipped"));
    totals_agree(&site, [sent, lost], hosts.len());
    let found = site.sql("SELECT count() FROM outages");
    assert_eq!(found.trim_end(), outages(&rows).to_string());
}

fn each_row_is_as_it_was_sent(
    rows: &[Row],
    places: &HashMap<u64, usize>,
    host: impl Fn(usize) -> IpAddr,
) {
    let mut identifiers = HashMap::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        rows::assert_sound(row);
        let host = host(places[&row.destination]);
        assert!(
            seen.insert((row.destination, row.sequence)),
            "twice: {row:?}"
        );
        assert!(row.sequence < ROUNDS, "{row:?}");
        assert_eq!((row.source, row.rsite, row.rhost), (37, 371, 372));
        // The upper four bits are the source's, the rest never changes within a run.
        assert_eq!(row.rid >> 12, 37 & 0xf, "{row:?}");
        let rid = *identifiers.entry(row.destination).or_insert(row.rid);
        assert_eq!(row.rid, rid, "{row:?}");
        assert_eq!(row.run, rows[0].run);
        if row.outcome != "lost" {
            is_the_reply_of(host, row);
        }
    }
}

fn is_the_reply_of(host: IpAddr, row: &Row) {
    let rtype = if host.is_ipv4() { 0 } else { 129 };
    assert_eq!((row.rtype, row.rcode), (rtype, 0), "{row:?}");
    assert_eq!(row.address.to_canonical(), host, "{row:?}");
    assert_eq!(row.hop_limit, 63, "one router on the way back: {row:?}");
    assert_eq!(row.datamatch, Some(true), "{row:?}");
    assert!(row.rtt.is_some_and(|rtt| rtt > 0), "{row:?}");
}

/// Probes are due where the cycle says, evenly spread, to the nanosecond.
///
/// Rows tell wall clock time, and its distance to the schedule's clock is read once a second: so
/// all rows are off by one of a few distances.
fn on_the_grid(rows: &[Row], places: &HashMap<u64, usize>) {
    let len = places.len() as i64;
    let grid = |row: &Row| {
        let turn = row.sequence as i64 * len + places[&row.destination] as i64;
        turn * INTERVAL_NS / len
    };
    let first = rows.iter().min_by_key(|row| row.due).unwrap();
    let start = first.due - grid(first);
    let distances: BTreeSet<i64> = rows.iter().map(|row| row.due - grid(row) - start).collect();
    assert!(distances.len() <= 6, "off the grid: {distances:?}");
    assert!(
        distances.iter().all(|d| d.abs() < DRIFT_MAX_NS),
        "{distances:?}"
    );
}

/// How often three probes in a row or more were lost.
fn outages(rows: &[Row]) -> usize {
    let of_hosts = rows.chunk_by(|a, b| a.destination == b.destination);
    let spells = of_hosts.flat_map(|rows| rows.chunk_by(|a, b| a.outcome == b.outcome));
    spells
        .filter(|spell| spell[0].outcome == "lost" && spell.len() >= 3)
        .count()
}

/// Runs, sources and views say the same as the JSON object.
fn totals_agree(site: &Site, [sent, lost]: [u64; 2], destinations: usize) {
    let reply = sent - lost;
    let run = site.sql(
        "SELECT source, destinations, sent, reply, lost, rows_dropped, interface, \
         ended > started FROM runs FINAL",
    );
    let expected = format!("37\t{destinations}\t{sent}\t{reply}\t{lost}\t0\tpinger0\t1");
    assert_eq!(run.trim_end(), expected);
    let sources = site.sql("SELECT id, location, host FROM sources FINAL");
    assert_eq!(sources.trim_end(), "37\t371\t372");
    let minutes = site.sql(
        "SELECT sum(sent), sum(reply), sum(error), sum(lost), sum(mismatch), \
         uniqExact(destination), max(loss_percent) > 0 FROM per_minute \
         WHERE minute >= now() - 3600",
    );
    assert_eq!(
        minutes.trim_end(),
        format!(
            "{sent}\t{reply}\t0\t{lost}\t0\t{destinations}\t{}",
            u8::from(lost > 0)
        )
    );
    let orphans = site.sql(
        "SELECT count() FROM results WHERE destination NOT IN (SELECT id FROM destinations) \
         OR source NOT IN (SELECT id FROM sources) OR run NOT IN (SELECT run FROM runs)",
    );
    assert_eq!(orphans.trim_end(), "0");
}

#[test]
fn a_run_that_stands_still_when_its_time_is_over_sends_what_was_due() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let responder = Responder::start(&site.lab, |_, _| vec![What::Honest.now()]);
    // A probe each 30 ms. None is left out as late: that takes a whole interval.
    let running = site.start(
        "run --store none --format json --interval 30s --duration 3s --timeout 1s \
         198.18.0.1-198.18.3.232",
    );
    until("it probes", || !responder.log().probes.is_empty());
    running.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(3));
    running.signal(libc::SIGCONT);
    let report = running.end().report();
    report.assert_counts(&[("sent", 100), ("skipped", 0)]);
    let lag_ns = report.count("lag_ns.max");
    assert!(lag_ns > 500_000_000, "it never stood still: {}", report.0);
}
