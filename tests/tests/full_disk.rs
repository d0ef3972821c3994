//! The schema of an embedded store whose disk is full: a change fails, and nothing is broken by it.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use pinger::stats::Counts;
use store_kit::{Home, PATIENCE, all_written, await_that, chunk, open, wall_ns};

/// Room for an engine's own files, and filled in no time.
const SMALL: &str = "size=96m,mode=0700";

const ROWS: u64 = 10;

/// A home on a small disk.
struct Small {
    home: Home,
}

impl Small {
    fn new() -> Self {
        let small = Self { home: Home::new() };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SMALL, "pinger-test"])
            .arg(&small.home.0)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "these tests mount a small disk: run `cargo xtask test` as root"
        );
        small
    }

    fn filler(&self) -> PathBuf {
        self.home.0.join("filler")
    }

    fn fill(&self) {
        let mut file = File::create(self.filler()).expect("an entry of a directory fits");
        // The end of it is an error: no space left.
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    /// Makes the tables, while the disk is full from a moment on that `begun` names.
    fn apply_while_full(&self, begun: &str, after: Duration) {
        let mut apply = self.home.command(&["schema", "apply"]);
        let mut apply = apply
            .stderr(Stdio::null())
            .spawn()
            .expect("PINGER_BIN runs");
        let definition = self.home.0.join("data/engine/metadata/pinger").join(begun);
        await_that(begun, || definition.exists());
        thread::sleep(after);
        self.fill();
        await_that("it ends", || {
            apply.try_wait().expect("it is ours").is_some()
        });
        self.free();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What stays is in the temporary directory.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.home.0)
            .status();
    }
}

fn write_rows(home: &Home) {
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    store.sender().offer(chunk(run, 0, ROWS));
    assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(ROWS));
}

fn is_torn(definition: &Path) -> bool {
    fs::read(definition).is_ok_and(|bytes| bytes.last() != Some(&b'\n'))
}

#[test]
fn a_schema_that_met_a_full_disk_is_made_by_the_next_try() {
    // Each view is written in some milliseconds: a table of each migration, and some time on.
    let moments = [
        ("sources.sql", 0),
        ("per_minute.sql", 5),
        ("incoming.sql", 0),
        ("results_hour.sql", 20),
    ];
    for (begun, ms) in moments {
        let small = Small::new();
        small.apply_while_full(begun, Duration::from_millis(ms));
        let again = small.home.pinger(&["schema", "apply"]);
        let words = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.success(), "{begun}: {words}");
        write_rows(&small.home);
        let answer = small.home.sql(
            "SELECT (SELECT count() FROM results_readable), (SELECT sum(reply) FROM per_hour), \
             (SELECT count() FROM worst_now), (SELECT count() FROM outages) FORMAT TSV",
        );
        assert_eq!(answer, "10\t10\t1\t0\n", "{begun}");
    }
}

#[test]
fn a_retention_that_met_a_full_disk_costs_no_table() {
    let small = Small::new();
    let home = &small.home;
    write_rows(home);
    let run = wall_ns(Duration::from_secs(50));
    let store = open(&home.embedded(), run).expect("the engine starts");
    small.fill();
    let change = home.pinger(&["schema", "retention", "--raw", "3d", "--hour", "90d"]);
    let words = String::from_utf8_lossy(&change.stderr);
    assert_eq!(change.status.code(), Some(1), "{words}");
    assert!(words.contains(".sql: no storage space"), "{words}");
    assert!(words.contains("free some space"), "{words}");
    // Whoever changes a table by hand is told nothing.
    let definition = home.0.join("data/engine/metadata/pinger/results.sql");
    await_that("a definition is torn", || {
        small.fill();
        home.pinger(&["sql", "ALTER TABLE results MODIFY COMMENT 'changed'"]);
        is_torn(&definition)
    });
    small.free();
    store.close(&Counts::default(), PATIENCE);

    assert_eq!(home.sql("SELECT count() FROM results FORMAT TSV"), "10\n");
    let kept = home.pinger(&["schema", "retention"]);
    assert!(String::from_utf8_lossy(&kept.stdout).contains("7 days"));
    let change = home.pinger(&["schema", "retention", "--raw", "3d"]);
    assert!(String::from_utf8_lossy(&change.stdout).contains("3 days"));
    assert_eq!(home.sql("SELECT count() FROM results FORMAT TSV"), "10\n");
}
