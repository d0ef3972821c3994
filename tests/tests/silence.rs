//! A server that takes connections and says nothing: at the start of a run, in the middle, at its
//! end. Against the real ClickHouse behind a wire that stands still, with limits of a second in
//! place of minutes.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use pinger::config::StoreOptions;
use pinger::stats::{Counts, RowCounts};
use pinger::store::{Store, Timeouts, spooled};
use store_kit::wire::Stall;
use store_kit::{
    PATIENCE, SUMS, all_written, await_notice, await_that, behind_a_wire, chunk, chunk_of,
    noisy_chunk, open_within, sums, wall_ns,
};

const SHORT: Duration = Duration::from_secs(1);

/// Longer than any test is patient: whoever waits so long has the wrong limit.
const LONG: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

/// What is said of silence.
const SILENT: &str = "no answer in time: the server or the network is slow";

const ALL_LONG: Timeouts = Timeouts {
    start: LONG,
    piece: LONG,
    insert: LONG,
    question: LONG,
    close: LONG,
};

/// Inserts that a server knew by their tokens, of any table.
const REPEATED: &str = "SELECT sum(value) > 0 FROM system.events \
     WHERE event = 'DuplicatedInsertedBlocks' FORMAT TSV";

const GAPS: &str = "SELECT count() FROM gaps FORMAT TSV";

#[test]
fn an_insert_that_is_taken_and_not_answered_is_sent_again_and_counts_once() {
    let (server, wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    let timeouts = Timeouts {
        insert: SHORT,
        ..ALL_LONG
    };
    let store = open_within(&timeouts, &options, run).expect("all is well");
    let sender = store.sender();
    sender.offer(chunk(run, 0, 1000));
    await_that("it is written", || sender.counts() == all_written(1000));
    assert_eq!(server.sql(REPEATED), "0\n");

    wire.stall(Stall::Answers);
    sender.offer(chunk(run, 1, 1000));
    await_that("the server has taken it", || server.sql(SUMS) == sums(2000));
    let told = await_notice(&store, "does not take rows");
    assert!(told.len() == 1 && told[0].contains(SILENT), "{told:?}");
    await_that("it shows", || store.trouble().as_deref() == Some(SILENT));
    assert_eq!(
        sender.counts().spooled,
        1000,
        "nobody said that it is there"
    );
    wire.stall(Stall::Nothing);
    await_that("it is written", || sender.counts() == all_written(2000));
    assert_eq!(await_notice(&store, "takes rows again").len(), 1);
    await_that("nothing shows", || store.trouble().is_none());
    store.close(&Counts::default(), PATIENCE);
    assert_eq!(server.sql(SUMS), sums(2000));
    assert_eq!(server.sql(REPEATED), "1\n", "the token was the same");
    assert_eq!(server.sql(GAPS), "0\n");
}

#[test]
fn an_insert_that_is_not_taken_is_given_up_and_sent_again() {
    let (server, wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    let timeouts = Timeouts {
        piece: SHORT,
        ..ALL_LONG
    };
    let store = open_within(&timeouts, &options, run).expect("all is well");
    let sender = store.sender();
    // Who probes what is sent first, and no limit would end it here.
    await_that("nothing waits", || {
        let found = spooled::status(&options.data_dir).expect("it is ours");
        let found = serde_json::to_value(found).expect("it is plain data");
        found["runs"][0]["segments"] == 0
    });
    wire.stall(Stall::Requests);
    // One segment, of more than all buffers on the way hold.
    let rows = (0..40).flat_map(|number| noisy_chunk(run, number).rows);
    sender.offer(chunk_of(rows.collect()));
    let told = await_notice(&store, "does not take rows");
    assert!(told.len() == 1 && told[0].contains(SILENT), "{told:?}");
    wire.stall(Stall::Nothing);
    await_that("it is written", || sender.counts() == all_written(400_000));
    store.close(&Counts::default(), PATIENCE);
    assert_eq!(server.sql(SUMS), sums(400_000));
}

/// Opens a store whose server is silent, and fails if that does not end.
fn open_soon(timeouts: Timeouts, options: &StoreOptions, run: u64) -> Store {
    let options = options.clone();
    let (done, opened) = mpsc::channel();
    std::thread::spawn(move || {
        // Who has waited for too long is gone.
        let _ = done.send(open_within(&timeouts, &options, run));
    });
    let opened = opened.recv_timeout(PATIENCE);
    let store = opened.expect("the start does not wait for ever");
    store.expect("silence stops nobody")
}

#[test]
fn a_server_that_is_silent_at_the_start_is_told_once_and_gets_the_rows_later() {
    // From the first word on, and when all but its version is known.
    for stall in [Stall::Answers, Stall::AnswersAfter("version()")] {
        let (server, wire, options) = behind_a_wire();
        let run = wall_ns(Duration::from_secs(1000));
        let timeouts = Timeouts {
            start: SHORT,
            question: SHORT,
            ..ALL_LONG
        };
        wire.stall(stall);
        let store = open_soon(timeouts, &options, run);
        assert!(store.description().contains("which is away"), "{stall:?}");
        let sender = store.sender();
        sender.offer(chunk(run, 0, 1000));
        await_that("it was asked in vain", || {
            store.trouble().as_deref() == Some(SILENT)
        });
        assert_eq!(sender.counts().spooled, 1000);
        wire.stall(Stall::Nothing);
        let told = await_notice(&store, "takes rows again");
        let away = &told[0];
        assert!(away.starts_with(SILENT), "{away}");
        assert!(away.ends_with("; results wait until it is there"), "{away}");
        assert_eq!(told.len(), 2, "{told:?}");
        await_that("it is written", || sender.counts() == all_written(1000));
        store.close(&Counts::default(), PATIENCE);
        assert_eq!(server.sql(SUMS), sums(1000));
    }
}

#[test]
fn a_command_ends_with_words_when_a_server_is_silent() {
    let (_server, wire, options) = behind_a_wire();
    wire.stall(Stall::Answers);
    let error = pinger::store::schema::command::status(&options).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("says nothing for 10s"), "{told}");
    assert!(told.contains("check that the server runs"), "{told}");
}

#[test]
fn a_server_that_is_silent_at_the_end_does_not_keep_the_run_and_the_next_one_sends() {
    // The limit of the run's end ends it, or the silence of a server that was noticed.
    let noticed = Timeouts {
        insert: SHORT,
        close: SHORT,
        ..ALL_LONG
    };
    for (timeouts, limit) in [(ALL_LONG, 2 * SHORT), (noticed, LONG)] {
        let (server, wire, options) = behind_a_wire();
        let run = wall_ns(Duration::from_secs(1000));
        let store = open_within(&timeouts, &options, run).expect("all is well");
        let sender = store.sender();
        sender.offer(chunk(run, 0, 1000));
        await_that("it is written", || sender.counts() == all_written(1000));
        wire.stall(Stall::Requests);
        sender.offer(chunk(run, 1, 1000));
        let notices = store.notices().clone();
        let began = Instant::now();
        let counts = store.close(&Counts::default(), limit);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        let waiting = RowCounts {
            spooled: 1000,
            ..all_written(1000)
        };
        assert_eq!(counts, waiting);
        let told: Vec<String> = notices.try_iter().collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("1000 results wait in "), "{told:?}");
        assert!(told[0].contains("the next `pinger run` sends"), "{told:?}");

        wire.stall(Stall::Nothing);
        let store = open_within(&timeouts, &options, run + 1).expect("all is well");
        await_notice(&store, "the results of earlier runs are written");
        store.close(&Counts::default(), PATIENCE);
        assert_eq!(server.sql(SUMS), sums(2000));
        assert_eq!(server.sql(GAPS), "0\n");
    }
}
