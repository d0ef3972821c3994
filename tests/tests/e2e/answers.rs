//! What a network may do to probes, each thing told as exactly what it is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use xtask::lab::Shape;

use crate::harness::{Report, Site, alone};
use crate::responder::{Act, Forgery, Probe, Responder, What};
use crate::rows::{self, Row};

const PROBES: u64 = 5;
/// Slots of a flow whose timeout is as long as its interval: three probes, rounded up.
const SLOTS: u64 = 4;
/// Beyond the timeout, with the probe's slot still its own.
const LATE: Duration = Duration::from_millis(800);
/// So late that the slot serves a younger probe.
const STALE: Duration = Duration::from_millis(2100);
/// Where the corrupted byte is, well behind the cookie.
const CORRUPT_AT: usize = 20;

/// The last host keeps the run open, so that late answers find it.
const CONFIG: &str = r#"
interval = "400ms"
timeout = "400ms"
count = 5
interface = "pinger0"
destinations = ["198.18.0.1-198.18.0.9", "2001:2:0:1::1-2001:2:0:1::9"]
[[destination]]
host = "198.18.0.250"
timeout = "4s"
"#;

/// What comes of a request.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// An answer as the kernel would give it.
    Honest,
    /// The answer differs in the payload byte at this offset.
    Corrupt(usize),
    /// So many answers.
    Copies(usize),
    /// The answer comes this much later.
    Delay(Duration),
    /// The answer comes from the next higher address.
    Stranger,
    /// The answer has another sequence.
    OtherSequence,
    /// No answer.
    Silent,
}

impl Manner {
    fn acts(self) -> Vec<Act> {
        match self {
            Self::Honest => vec![What::Honest.now()],
            Self::Corrupt(offset) => vec![What::Corrupt(offset).now()],
            Self::Copies(copies) => vec![What::Honest.now(); copies],
            Self::Delay(delay) => vec![What::Honest.after(delay)],
            Self::Stranger => vec![What::Forged(Forgery::Address).now()],
            Self::OtherSequence => vec![What::Forged(Forgery::Sequence).now()],
            Self::Silent => Vec::new(),
        }
    }
}

fn acts(probe: &Probe, _: u64) -> Vec<Act> {
    manner(probe.host).acts()
}

/// What the host with this number does.
fn manner(host: IpAddr) -> Manner {
    let number = match host {
        IpAddr::V4(host) => host.octets()[3],
        IpAddr::V6(host) => host.octets()[15],
    };
    match number {
        2 => Manner::Corrupt(CORRUPT_AT),
        3 => Manner::Copies(3),
        4 => Manner::Delay(LATE),
        5 => Manner::Delay(STALE),
        6 => Manner::Corrupt(3),
        7 => Manner::Stranger,
        8 => Manner::OtherSequence,
        9 | 250 => Manner::Silent,
        _ => Manner::Honest,
    }
}

/// The rows of one host.
struct Host {
    address: IpAddr,
    rows: Vec<Row>,
}

impl Host {
    /// It has these outcomes and no others, each once a probe or as often as said.
    #[track_caller]
    fn assert_outcomes(&self, expected: &[(&str, u64)]) {
        for (outcome, count) in expected {
            let found = rows::count(&self.rows, outcome);
            assert_eq!(found, *count, "{outcome} of {}", self.address);
        }
        let all: u64 = expected.iter().map(|(_, count)| count).sum();
        assert_eq!(
            self.rows.len() as u64,
            all,
            "{}: {:?}",
            self.address,
            self.rows
        );
    }

    fn with<'a>(&'a self, outcome: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.outcome == outcome)
    }

    fn check(&self) {
        const ALL: u64 = PROBES;
        match manner(self.address) {
            Manner::Honest => {
                self.assert_outcomes(&[("reply", ALL)]);
                assert!(self.rows.iter().all(|row| row.datamatch == Some(true)));
            }
            Manner::Corrupt(CORRUPT_AT) => {
                self.assert_outcomes(&[("reply", ALL)]);
                assert!(self.rows.iter().all(|row| row.datamatch == Some(false)));
            }
            Manner::Copies(copies) => {
                let further = (copies as u64 - 1) * ALL;
                self.assert_outcomes(&[("reply", ALL), ("duplicate", further)]);
                assert!(self.rows.iter().all(|row| row.datamatch == Some(true)));
            }
            Manner::Delay(delay) => {
                self.assert_outcomes(&[("lost", ALL), ("late", ALL)]);
                for row in self.with("late") {
                    assert_eq!(row.address.to_canonical(), self.address, "{row:?}");
                    // When a slot serves another probe, its old send time is not known any more.
                    let reused = delay == STALE && row.sequence + SLOTS < PROBES;
                    let known = row.rtt.map(|rtt| u128::from(rtt) >= delay.as_nanos());
                    let expected = (!reused).then_some(true);
                    assert_eq!(known, expected, "{row:?}");
                }
            }
            Manner::Corrupt(_) | Manner::Stranger | Manner::OtherSequence | Manner::Silent => {
                self.assert_outcomes(&[("lost", ALL)]);
            }
        }
    }
}

fn totals(report: &Report) {
    // Of each family: three hosts that answer, seven that do not in time; and the last one.
    report.assert_counts(&[
        ("sent", 19 * PROBES),
        ("reply", 2 * 3 * PROBES),
        ("lost", (2 * 6 + 1) * PROBES),
        ("late", 2 * 2 * PROBES),
        ("duplicate", 2 * 2 * PROBES),
        ("mismatch", 2 * PROBES),
        // A wrong cookie, and a right one with the sequence of another probe.
        ("forged", 2 * 2 * PROBES),
        ("error", 0),
        ("send_failed", 0),
        ("in_flight", 0),
        ("ring_dropped", 0),
    ]);
}

#[test]
fn corrupted_copied_delayed_forged_and_missing_answers_are_told_apart() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let _responder = Responder::start(&site.lab, acts);
    let config = site.folder.file("pinger.toml", CONFIG);
    let running = site.start_stored(&format!("--config {config} --format json"));
    let report = running.end().report();
    totals(&report);

    let rows = rows::all(&site);
    rows::assert_agree(&rows, &report);
    rows::assert_whole(&rows, report.count("skipped"));
    rows.iter()
        .filter(|row| row.outcome != "late")
        .for_each(rows::assert_sound);
    let mut by_key: HashMap<u64, Vec<Row>> = HashMap::new();
    for row in rows {
        by_key.entry(row.destination).or_default().push(row);
    }
    for (address, key) in rows::keys(&site) {
        let rows = by_key.remove(&key).unwrap_or_default();
        Host { address, rows }.check();
    }
    assert!(by_key.is_empty(), "rows of unknown destinations");
}

#[test]
fn an_unverified_payload_is_not_called_changed() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let _responder = Responder::start(&site.lab, acts);
    let report = site.report("--no-verify --count 5 --interval 200ms --timeout 2s 198.18.0.2");
    report.assert_counts(&[("reply", 5), ("mismatch", 0)]);
}
