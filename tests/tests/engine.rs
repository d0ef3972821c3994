//! The embedded engine when it ends without being told to: it comes back, at the same place.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pinger::config::StoreOptions;
use pinger::stats::Counts;
use store_kit::{
    Home, PATIENCE, await_notice, await_that, chunk, engines, open, required, wall_ns,
};

/// Rows in each batch.
const ROWS: u64 = 1_000;

/// Kills the one engine of a store.
fn kill(options: &StoreOptions) -> i32 {
    let pids = engines(&options.data_dir);
    let [pid] = pids[..] else {
        panic!("one engine, but {pids:?}");
    };
    // SAFETY: plain system call; the process is a child of this test's own store.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    pid
}

/// Waits until another engine runs than that one.
fn await_another(options: &StoreOptions, pid: i32) {
    await_that("another engine runs", || {
        let pids = engines(&options.data_dir);
        !pids.is_empty() && !pids.contains(&pid)
    });
}

#[test]
fn a_killed_engine_comes_back_and_rows_flow_again() {
    let home = Home::new();
    let options = home.embedded();
    let run = wall_ns(Duration::from_secs(10_000));
    let store = open(&options, run).expect("the engine starts");
    let endpoint = options.data_dir.join("endpoint.json");
    let shared = fs::read_to_string(&endpoint).expect("it is shared");
    let sender = store.sender();
    let mut number = 0;
    // Keeps a few batches under way: an engine is killed in the middle of an insert or not.
    let mut feed_until = |written: u64| {
        await_that("rows flow", || {
            let counts = sender.counts();
            assert_eq!(counts.dropped, 0, "{counts:?}");
            if counts.spooled < 4 * ROWS {
                sender.offer(chunk(run, number, ROWS));
                number += 1;
            }
            counts.written >= written
        });
        sender.counts().written
    };
    let mut written = feed_until(10 * ROWS);
    for _ in 0..3 {
        let killed = kill(&options);
        written = feed_until(written + 20 * ROWS);
        await_another(&options, killed);
    }
    await_that("all is written", || sender.counts().spooled == 0);
    assert_eq!(
        fs::read_to_string(&endpoint).ok(),
        Some(shared),
        "where the engine is does not change"
    );
    let doubled = home.sql("SELECT count() - uniqExact(sequence) FROM results FORMAT TSV");
    assert_eq!(doubled, "0\n", "asked of the engine that runs now");
    let told = await_notice(&store, "the ClickHouse engine runs again");
    let count = |text: &str| told.iter().filter(|notice| notice.contains(text)).count();
    assert_eq!(
        count("ended unexpectedly (signal: 9 (SIGKILL))"),
        1,
        "{told:?}"
    );
    assert_eq!(count("cannot be started again"), 0, "{told:?}");
    store.close(&Counts::default(), PATIENCE);
    assert!(engines(&options.data_dir).is_empty() && !endpoint.exists());
}

/// Where the test that runs as a process of its own finds its directory.
const ALONE: &str = "PINGER_TEST_ENGINE_HOME";

/// In a process of its own, since the variable that names the library is the process's.
#[test]
fn an_engine_that_cannot_start_is_told_once_and_tried_again() {
    if let Some(directory) = std::env::var_os(ALONE) {
        return without_library(Path::new(&directory));
    }
    let home = Home::new();
    let library = home.0.join("libchdb.so");
    symlink(required("PINGER_LIBCHDB"), &library).expect("our own directory");
    let name = "an_engine_that_cannot_start_is_told_once_and_tried_again";
    let output = Command::new(std::env::current_exe().expect("a test is a file"))
        .args(["--exact", name])
        .env(ALONE, &home.0)
        .env("PINGER_LIBCHDB", &library)
        .output()
        .expect("a test runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn a_query_works_with_as_many_threads_as_it_may() {
    let home = Home::new();
    let options = home.embedded();
    let threads = || {
        home.sql(
            "SELECT max(explain LIKE '%NumbersRange × 2%') \
             FROM (EXPLAIN PIPELINE SELECT sum(number) FROM numbers_mt(100000000)) \
             SETTINGS max_threads = 2 FORMAT TSV",
        )
    };
    assert_eq!(threads(), "1\n", "of an engine that runs for this");
    let store = open(&options, wall_ns(Duration::ZERO)).expect("the engine starts");
    assert_eq!(threads(), "1\n", "of one that another pinger shares");
    store.close(&Counts::default(), PATIENCE);
}

fn without_library(directory: &Path) {
    let home = std::mem::ManuallyDrop::new(Home(directory.to_owned()));
    let options = home.embedded();
    let run = wall_ns(Duration::from_secs(1_000));
    let store = open(&options, run).expect("the engine starts");
    let library = directory.join("libchdb.so");
    let real = fs::read_link(&library).expect("a link");
    fs::remove_file(&library).expect("our own link");
    fs::create_dir(&library).expect("our own directory");
    let killed = kill(&options);
    store.sender().offer(chunk(run, 0, ROWS));
    let told = await_notice(&store, "cannot be started again");
    assert!(
        told.iter()
            .any(|notice| notice.contains("is not a usable libchdb.so")),
        "{told:?}"
    );

    // How often it is tried in some seconds, by what the engine says each time.
    let tries = || {
        let log = fs::read_to_string(options.data_dir.join("engine.log")).expect("there is a log");
        log.matches("is not a usable libchdb.so").count()
    };
    let before = tries();
    std::thread::sleep(Duration::from_secs(4));
    let further = tries() - before;
    assert!((1..=6).contains(&further), "tried {further} times in 4 s");
    let more: Vec<String> = store.notices().try_iter().collect();
    let again = more
        .iter()
        .filter(|notice| notice.contains("ClickHouse engine"));
    assert_eq!(again.count(), 0, "{more:?}");

    fs::remove_dir(&library).expect("our own directory");
    symlink(real, &library).expect("our own directory");
    await_another(&options, killed);
    await_that("the rows are written", || store.counts().written == ROWS);
    await_notice(&store, "the ClickHouse engine runs again");
    assert_eq!(home.sql("SELECT count() FROM results FORMAT TSV"), "1000\n");
    store.close(&Counts::default(), PATIENCE);
}
