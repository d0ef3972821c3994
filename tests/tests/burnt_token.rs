//! An engine that was killed between noting a token and putting the rows in their place.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pinger::stats::Counts;
use store_kit::{Home, PATIENCE, all_written, chunk, open, wall_ns};

const ROWS: u64 = 10;

/// The same run again, with the same rows: its segments have the same tokens.
fn write(home: &Home, run: u64) {
    let store = open(&home.embedded(), run).expect("the engine starts");
    store.sender().offer(chunk(run, 0, ROWS));
    assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(ROWS));
}

/// Rows, those in the minutes, those in the hours.
fn counts(home: &Home) -> String {
    home.sql(
        "SELECT (SELECT count() FROM results), (SELECT sum(reply) FROM results_minute), \
         (SELECT sum(reply) FROM results_hour) FORMAT TSV",
    )
}

#[test]
fn rows_whose_token_was_burnt_are_taken_when_sent_again() {
    for table in ["results", "results_minute", "results_hour"] {
        let home = Home::new();
        let run = wall_ns(Duration::from_secs(100));
        write(&home, run);
        write(&home, run);
        assert_eq!(counts(&home), "10\t10\t10\n", "a token counts once");
        let parts = home.sql(&format!(
            "SELECT path FROM system.parts WHERE active AND table = '{table}' FORMAT TSV"
        ));
        // As a kill just before the last rename leaves it.
        for part in parts.lines().map(PathBuf::from) {
            let name = part.file_name().expect("a part has a name");
            let unfinished = format!("tmp_insert_{}", name.to_string_lossy());
            fs::rename(&part, part.with_file_name(unfinished)).expect("it is ours");
        }
        write(&home, run);
        assert_eq!(counts(&home), "10\t10\t10\n", "{table}");
    }
}
