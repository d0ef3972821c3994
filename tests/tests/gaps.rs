//! Gaps: what is missing is told in a table, also when that table is the trouble. Against the real
//! ClickHouse, embedded.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::time::Duration;

use pinger::config::SpoolPlace;
use pinger::stats::{Counts, RowCounts};
use pinger::store::{QUEUE_ROWS, Store};
use store_kit::{Home, PATIENCE, await_notice, await_that, chunk, open, wall_ns};

const GAPS: &str = "SELECT run, reason, sum(probes), sum(rows) FROM gaps GROUP BY run, reason \
     ORDER BY run, reason FORMAT TSV";

/// Breaks the table of gaps, and makes a gap that it should have: ten rows are refused.
fn refuse_gaps(home: &Home, store: &Store, run: u64) {
    home.sql("ALTER TABLE results ADD CONSTRAINT IF NOT EXISTS test CHECK rhost != 99");
    home.sql("RENAME TABLE gaps TO away");
    let mut wrong = chunk(run, 0, 10);
    wrong.rows[3].rhost = 99;
    store.sender().offer(wrong);
    await_that("they are put aside", || {
        store.sender().counts().dropped == 10
    });
    await_gaps_refused(store);
}

fn await_gaps_refused(store: &Store) {
    await_that("the store refuses gaps", || {
        store
            .trouble()
            .is_some_and(|trouble| trouble.contains("UNKNOWN_TABLE"))
    });
}

#[test]
fn gaps_that_are_not_taken_while_results_flow_are_told_once_and_arrive() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let sender = store.sender();
    refuse_gaps(&home, &store, run);
    let refusals = || {
        let sql = "SELECT value FROM system.errors WHERE name = 'UNKNOWN_TABLE' FORMAT TSV";
        home.sql(sql).trim().parse::<u64>().expect("a number")
    };
    let flow = |number| {
        let (written, refused) = (sender.counts().written, refusals());
        sender.offer(chunk(run, number, 10));
        await_that("results flow", || sender.counts().written == written + 10);
        let trouble = store.trouble().unwrap_or_default();
        assert!(trouble.contains("UNKNOWN_TABLE"), "it goes on: {trouble}");
        await_that("the gap is tried again", || refusals() > refused);
    };
    let mut told: Vec<String> = Vec::new();
    for number in 1..=6 {
        flow(number);
        told.extend(store.notices().try_iter());
    }
    let count = |told: &[String], words: &str| {
        let found = told.iter().filter(|notice| notice.contains(words));
        found.count()
    };
    assert_eq!(count(&told, "does not take rows"), 1, "{told:?}");
    assert_eq!(count(&told, "UNKNOWN_TABLE"), 1, "{told:?}");
    assert_eq!(count(&told, "takes rows again"), 0, "{told:?}");
    home.sql("RENAME TABLE away TO gaps");
    told = await_notice(&store, "the store takes rows again");
    assert_eq!(home.sql(GAPS), format!("{run}\trefused\t10\t10\n"));
    store.notices().try_iter().for_each(|more| told.push(more));
    assert_eq!(told.len(), 1, "{told:?}");
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn gaps_that_a_run_could_not_send_are_told_at_its_end() {
    let home = Home::new();
    let mut options = home.embedded();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&options, run).expect("the engine starts");
    refuse_gaps(&home, &store, run);
    let notices = store.notices().clone();
    store.close(&Counts::default(), PATIENCE);
    let last = notices.try_iter().last().expect("it is said");
    assert!(last.starts_with("1 gap waits in"), "{last}");

    let found = |run| {
        home.sql(&format!(
            "SELECT sum(rows) FROM gaps WHERE run = {run} FORMAT TSV"
        ))
    };
    home.sql("RENAME TABLE away TO gaps");
    let store = open(&options, run + 1).expect("the engine starts");
    await_that("the next run sends it", || found(run) == "10\n");
    store.close(&Counts::default(), PATIENCE);

    // In memory nothing waits for the next one.
    options.spool.place = SpoolPlace::Memory;
    let store = open(&options, run + 2).expect("the engine starts");
    refuse_gaps(&home, &store, run + 2);
    let notices = store.notices().clone();
    store.close(&Counts::default(), Duration::from_secs(1));
    let last = notices.try_iter().last().expect("it is said");
    assert!(last.contains("kept in memory is lost (1 gap)"), "{last}");
}

#[test]
fn what_does_not_fit_into_the_queue_is_a_gap() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let sender = store.sender();
    let rows = QUEUE_ROWS + 1;
    sender.offer(chunk(run, 0, rows));
    let dropped = RowCounts {
        dropped: rows,
        ..RowCounts::default()
    };
    assert_eq!(sender.counts(), dropped);
    let reason = sender.last_loss().expect("rows were dropped");
    assert!(reason.contains("more results came"), "{reason}");
    await_notice(&store, "more results came");
    sender.offer(chunk(run, 1, 10));
    let counts = store.close(&Counts::default(), PATIENCE);
    assert_eq!((counts.written, counts.dropped), (10, rows));
    assert_eq!(
        home.sql(GAPS),
        format!("{run}\tqueue_full\t{rows}\t{rows}\n")
    );
}
