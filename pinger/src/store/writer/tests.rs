//! The writer's threads on a real disk, with a server that is away.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::destination::FlowIndex;
use crate::result::{Outcome, ProbeResult};
use crate::rows::RowKeys;
use crate::store::clickhouse::Address;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

const LOOK: Duration = Duration::from_millis(20);

/// A data directory, gone when dropped.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let name = format!("pinger-writer-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn setup(&self, run: u64) -> Setup<'_> {
        Setup {
            options: SpoolOptions::default(),
            data_dir: &self.0,
            store: "http://127.0.0.1:1/pinger".to_owned(),
            key: RunKey { run, source: 7 },
            registration: Vec::new(),
            away: None,
            is_embedded: false,
            look: LOOK,
            timeouts: Timeouts::default(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A directory left in the temporary one is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chunk(rows: usize) -> RowChunk {
    let keys = RowKeys {
        run: 1,
        source: 7,
        rsite: 1,
        rhost: 1,
        wall_offset_ns: 0,
    };
    let result = ProbeResult {
        flow: FlowIndex(0),
        sequence: 1,
        identifier: 1,
        ttl: 64,
        hops: 0,
        due_ns: 0,
        tx_ns: 0,
        outcome: Outcome::Lost,
        answer: None,
        jitter_ns: 0,
        hop_limit_changed: false,
    };
    RowChunk {
        rows: vec![keys.row(121, &result); rows],
        probes: rows as u64,
        from_ns: 1,
        until_ns: 2,
    }
}

#[test]
fn what_a_killed_pinger_left_is_taken_over_by_one_that_lives() {
    let home = Home::new("left");
    let now = spooler::now();
    let (line, mut filler) = Line::create(&mut home.setup(1), now).expect("a new folder");
    filler.put(now, crate::spool::Chunk::of(&chunk(5)));
    assert_eq!(filler.waiting_rows(), 0);

    let address = Address::from_url("http://127.0.0.1:1/pinger", None).expect("a URL");
    let connection = Connection::new(address);
    let (mut writer, notices) = Writer::start(&connection, home.setup(2)).expect("a new folder");
    let hear = |limit, words: &str| {
        let deadline = Instant::now() + limit;
        std::iter::from_fn(|| notices.recv_deadline(deadline).ok())
            .any(|notice| notice.contains(words))
    };
    // It lives, so it keeps its folder, however often somebody looks.
    assert!(!hear(10 * LOOK, "5 results of earlier runs (1)"));
    // As a kill leaves it: the lock is free, and nothing is told.
    drop((line, filler));
    assert!(hear(PATIENCE, "run 1 of source 7 ended without warning"));
    assert!(hear(PATIENCE, "5 results of earlier runs (1)"));
    writer.close(None, Duration::ZERO);
    assert!(home.0.join("spool/7-1/ended").exists(), "its gap is told");
}
