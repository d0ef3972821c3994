//! What the tests of the view share: an invented run, and texts kept in files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Pace, RunHeader, Suggestion, Summary};
use crate::stats::Snapshot;

use crate as lib;

#[path = "../../examples/view_demo/generator.rs"]
mod generator;

/// The facts of the invented run.
pub(super) fn header(destinations: usize) -> RunHeader {
    RunHeader {
        version: "0.1.0".to_owned(),
        interface: "eth0".to_owned(),
        mode: "native XDP".to_owned(),
        store: "embedded ClickHouse".to_owned(),
        destinations,
        pace: Pace::Every {
            min_ns: 100_000_000,
            max_ns: 100_000_000,
        },
    }
}

/// The state of an invented run after some intervals.
pub(super) fn snapshots(destinations: usize, seed: u64, intervals: usize) -> Snapshot {
    let mut generator = generator::Generator::new(destinations, seed);
    for _ in 0..intervals {
        generator.step();
    }
    let snapshot = generator.snapshot();
    let totals = &snapshot.totals;
    assert_eq!(
        totals.sent,
        totals.reply + totals.error + totals.lost + totals.send_failed + totals.in_flight,
        "the invented run lost count of its probes"
    );
    snapshot
}

/// The end of an invented run in which a little of everything went wrong.
pub(super) fn summary(destinations: usize, intervals: usize) -> Summary {
    let mut snapshot = snapshots(destinations, 7, intervals);
    let totals = &mut snapshot.totals;
    totals.reply += totals.in_flight;
    totals.in_flight = 0;
    totals.sent += 2;
    totals.send_failed = 2;
    totals.skipped = 1;
    totals.late = 3;
    totals.duplicate = 1;
    snapshot.ring_dropped = 4;
    snapshot.forged = 1;
    snapshot.rows.dropped = 5;
    Summary {
        rows_lost: Some("no space left on device".to_owned()),
        sending: snapshot.elapsed,
        snapshot: Arc::new(snapshot),
        command: "pinger sql".to_owned(),
        suggestions: vec![
            Suggestion {
                title: "loss per destination".to_owned(),
                sql: "SELECT * FROM loss_now LIMIT 10".to_owned(),
            },
            Suggestion {
                title: "how many results".to_owned(),
                sql: "SELECT count() FROM results".to_owned(),
            },
            Suggestion {
                title: "one".to_owned(),
                sql: "SELECT 'a $b'".to_owned(),
            },
        ],
    }
}

/// Compares a text with the file that keeps it; `PINGER_BLESS=1` writes the file anew.
pub(super) fn check_text(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/view/expected");
    let path = path.join(name).with_extension("txt");
    if std::env::var_os("PINGER_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; PINGER_BLESS=1 writes it", path.display()));
    assert!(
        text == expected,
        "{name} differs from {} (PINGER_BLESS=1 accepts it). Now:\n{text}",
        path.display()
    );
}

#[test]
fn the_same_seed_invents_the_same_run() {
    let (a, b) = (snapshots(50, 3, 5), snapshots(50, 3, 5));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
    assert_eq!(a.elapsed, Duration::from_millis(500));
    assert_ne!(format!("{a:?}"), format!("{:?}", snapshots(50, 4, 5)));
}
