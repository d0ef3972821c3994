//! Results that cannot be stored at once: outages, crashes, refusals, limits. Against the real
//! ClickHouse, embedded and by URL.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pinger::config::{DropPolicy, SpoolOptions, SpoolPlace, StoreChoice, StoreOptions};
use pinger::stats::{Counts, RowCounts};
use pinger::store::spooled;
use pinger::wire::tally::{Tally, TallyCopy};
use store_kit::{
    Home, PATIENCE, SOURCE, SUMS, Server, all_written, await_notice, await_that, behind_a_wire,
    chunk, noisy_chunk, open, sums, wall_ns,
};

/// The folders of runs in a spool.
fn folders(options: &StoreOptions) -> Vec<PathBuf> {
    let entries = fs::read_dir(options.data_dir.join("spool"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The names of all files of a kind in a folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|is| is == ending))
        .collect()
}

const GAPS: &str = "SELECT run, reason, sum(probes), sum(rows) FROM gaps GROUP BY run, reason \
     ORDER BY run, reason FORMAT TSV";

#[test]
fn a_segment_sent_again_changes_nothing() {
    let (server, mut wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    wire.cut();
    let store = open(&options, run).expect("a server that is away stops nobody");
    for number in 0..3 {
        store.sender().offer(chunk(run, number, 1000));
    }
    store.close(&Counts::default(), Duration::ZERO);
    let folder = folders(&options).pop().expect("the run's folder");
    let copy = options.data_dir.join("copy");
    copy_folder(&folder, &copy);
    wire.mend();
    for again in 0..3 {
        let store = open(&options, run + 1 + again).expect("it is there");
        await_notice(&store, "results of earlier runs are written");
        store.close(&Counts::default(), PATIENCE);
        assert_eq!(server.sql(SUMS), sums(3000), "time {again}");
        assert!(folders(&options).is_empty());
        copy_folder(&copy, &folder);
    }
    assert_eq!(server.sql(GAPS), "");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own directory");
    for entry in fs::read_dir(from).expect("our own directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("our own directory");
    }
}

#[test]
fn an_outage_doubles_and_loses_nothing_and_is_said_once() {
    let (server, mut wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    let store = open(&options, run).expect("it is reachable");
    let sender = store.sender();
    let mut told = Vec::new();
    for number in 0..9 {
        if number == 3 {
            await_that("some are written", || sender.counts().spooled == 0);
            wire.cut();
        }
        sender.offer(chunk(run, number, 2000));
        if number == 6 {
            told = await_notice(&store, "does not take rows");
            wire.mend();
        }
    }
    told.extend(await_notice(&store, "takes rows again"));
    await_that("all is written", || sender.counts() == all_written(18_000));
    assert_eq!(told.len(), 2, "{told:?}");
    store.close(&Counts::default(), PATIENCE);
    assert_eq!(server.sql(SUMS), sums(18_000));
    assert_eq!(server.sql(GAPS), "");
    assert!(folders(&options).is_empty(), "nothing is left on disk");
}

#[test]
fn what_a_run_could_not_send_the_next_one_sends() {
    let (server, mut wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    wire.cut();
    let store = open(&options, run).expect("a server that is away stops nobody");
    let told = await_notice(&store, "cannot reach ClickHouse");
    assert_eq!(told.len(), 1, "{told:?}");
    store.sender().offer(chunk(run, 0, 5000));
    let notices = store.notices().clone();
    let counts = Counts {
        sent: 5000,
        reply: 5000,
        ..Counts::default()
    };
    let rows = store.close(&counts, Duration::from_millis(300));
    let waiting = RowCounts {
        spooled: 5000,
        ..RowCounts::default()
    };
    assert_eq!(rows, waiting, "they wait, and are not lost");
    let last = notices.try_iter().last().expect("it is said");
    assert!(last.contains("5000 results wait in"), "{last}");

    wire.mend();
    let store = open(&options, run + 1).expect("it is there");
    await_notice(&store, "5000 results of earlier runs (1) wait");
    store.sender().offer(chunk(run + 1, 0, 100));
    await_notice(&store, "the results of earlier runs are written");
    assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(100));
    assert_eq!(server.sql(SUMS), sums(5100));
    assert_eq!(
        server.sql("SELECT run, sent, ended IS NULL FROM runs FINAL ORDER BY run FORMAT TSV"),
        format!("{run}\t5000\t0\n{}\t0\t0\n", run + 1)
    );
    assert_eq!(
        server.sql(GAPS),
        "",
        "a run that ended as it should leaves no gap"
    );
    assert!(folders(&options).is_empty());
}

/// Where the process that is to be killed finds its store and its directory.
const VICTIM: &str = "PINGER_TEST_VICTIM";

/// 7,000 were sent; 6,000 results are there; 6,500 had been made.
const CRASH: &str = "SELECT run, reason, probes, rows, until IS NOT NULL FROM gaps FORMAT TSV";

/// In a process of its own, which is killed.
#[test]
fn a_killed_run_is_completed_by_the_next_and_its_gap_is_told() {
    let name = "a_killed_run_is_completed_by_the_next_and_its_gap_is_told";
    let (server, run) = complete_a_killed_run(name, false);
    assert_eq!(server.sql(CRASH), format!("{run}\tcrash\t1000\t500\t1\n"));
}

/// As in a container that is made anew: the data directory stays, what was in memory does not.
#[test]
fn of_a_killed_run_without_its_memory_the_least_is_told() {
    let name = "of_a_killed_run_without_its_memory_the_least_is_told";
    let (server, run) = complete_a_killed_run(name, true);
    // When it ended is not known, so there may have been more.
    assert_eq!(server.sql(CRASH), format!("{run}\tcrash\t1000\t500\t0\n"));
}

/// Kills the test of that name in another process, and runs on in its place. Returns the server
/// and the killed run.
fn complete_a_killed_run(name: &str, is_memory_lost: bool) -> (Server, u64) {
    if let Ok(store) = std::env::var(VICTIM) {
        victim(&store);
    }
    let (server, mut wire, options) = behind_a_wire();
    wire.cut();
    let data_dir = options.data_dir.display();
    let mut victim = Command::new(std::env::current_exe().expect("a test is a file"))
        .args(["--exact", name])
        .env(VICTIM, format!("{} {data_dir}", wire.port))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a test runs");
    let ready = options.data_dir.join("ready");
    await_that("the victim has done its work", || ready.exists());
    victim.kill().expect("our own child");
    victim.wait().expect("our own child");
    let run = fs::read_to_string(ready).expect("text");
    let run: u64 = run.parse().expect("a number");
    let tally = Tally::read(SOURCE.id, run);
    assert!(tally.is_some(), "the tally outlives its process");
    if is_memory_lost {
        Tally::remove(SOURCE.id, run);
    }
    wire.mend();

    let store = open(&options, run + 1).expect("the server is there");
    await_notice(&store, "the results of earlier runs are written");
    store.close(&Counts::default(), PATIENCE);
    assert_eq!(server.sql(SUMS), sums(6000));
    assert!(Tally::read(SOURCE.id, run).is_none());
    assert!(folders(&options).is_empty());
    (server, run)
}

/// A run that writes down 6,000 results, and says that it has sent and made more than that.
fn victim(store: &str) -> ! {
    let (port, data_dir) = store.split_once(' ').expect("a port and a directory");
    let run = wall_ns(Duration::from_secs(1000));
    let options = StoreOptions {
        choice: StoreChoice::Url(format!("http://boss@127.0.0.1:{port}/pinger")),
        port: None,
        password_file: None,
        data_dir: data_dir.into(),
        spool: SpoolOptions::default(),
    };
    let store = open(&options, run).expect("a server that is away stops nobody");
    let folder = folders(&options).pop().expect("our folder");
    let tally = store.tally().expect("there is memory");
    let bytes = || -> u64 {
        let kinds = ["open", "seg", "try"];
        let files = kinds.iter().flat_map(|kind| files(&folder, kind));
        files
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum()
    };
    for number in 0..3 {
        let before = bytes();
        store.sender().offer(chunk(run, number, 2000));
        await_that("they are on disk", || bytes() > before + 10_000);
    }
    tally.sent(7000);
    tally.rows(6500, run + 900_000_000_000);
    await_that("its copy is on disk", || {
        TallyCopy::read(&folder) == Some(tally.counts())
    });
    let ready = options.data_dir.join("ready");
    fs::write(ready.with_extension("new"), run.to_string()).expect("our own directory");
    fs::rename(ready.with_extension("new"), ready).expect("our own directory");
    loop {
        std::thread::park();
    }
}

#[test]
fn rows_that_are_wrong_are_kept_aside_and_the_others_flow() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let options = home.embedded();
    let store = open(&options, run).expect("the engine starts");
    home.sql("ALTER TABLE results ADD CONSTRAINT test CHECK rhost != 99");
    let sender = store.sender();
    for number in 0..4 {
        let mut chunk = chunk(run, number, 5);
        if number % 2 == 1 {
            chunk.rows[3].rhost = 99;
        }
        sender.offer(chunk);
        // A segment of its own for each.
        await_that("it is done", || sender.counts().spooled == 0);
    }
    let told: Vec<String> = store.notices().try_iter().collect();
    assert_eq!(told.len(), 1, "said once: {told:?}");
    assert!(told[0].contains("VIOLATED_CONSTRAINT"), "{told:?}");
    let counts = store.close(&Counts::default(), PATIENCE);
    let expected = RowCounts {
        written: 10,
        spooled: 0,
        dropped: 10,
    };
    assert_eq!(counts, expected);
    let reason = sender.last_loss().expect("rows were dropped");
    assert!(reason.contains("VIOLATED_CONSTRAINT"), "{reason}");
    assert_eq!(home.sql("SELECT count() FROM results FORMAT TSV"), "10\n");
    assert_eq!(home.sql(GAPS), format!("{run}\trefused\t10\t10\n"));
    let [folder] = &folders(&options)[..] else {
        panic!("the folder stays with what was refused");
    };
    let aside = folder.join("refused");
    assert_eq!(files(&aside, "seg").len(), 2);
    for text in files(&aside, "txt") {
        let text = fs::read_to_string(text).expect("text");
        assert!(text.contains("VIOLATED_CONSTRAINT"), "{text}");
        assert!(text.contains(&format!("{}-{run}-", SOURCE.id)), "{text}");
    }
    let store = open(&options, run + 1).expect("what is kept aside stops nobody");
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn a_server_that_calls_everything_wrong_is_told_of_and_waited_for() {
    const ASIDE: u64 = 8;
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let options = home.embedded();
    let store = open(&options, run).expect("the engine starts");
    home.sql("ALTER TABLE results ADD CONSTRAINT test CHECK rhost = 99");
    let sender = store.sender();
    for number in 0..=ASIDE {
        sender.offer(chunk(run, number, 5));
        // A segment of its own for each; the last one waits.
        await_that("it is put aside", || {
            sender.counts().dropped == 5 * (number + 1).min(ASIDE)
        });
    }
    let told = await_notice(&store, "does not take rows");
    assert_eq!(
        told.len(),
        2,
        "that some are missing, and that all wait: {told:?}"
    );
    assert!(told[1].contains("it calls all results wrong"), "{told:?}");
    assert!(told[1].contains("VIOLATED_CONSTRAINT"), "{told:?}");
    let trouble = store.trouble().expect("it shows");
    assert!(trouble.contains("VIOLATED_CONSTRAINT"), "{trouble}");
    home.sql("ALTER TABLE results DROP CONSTRAINT test");
    assert_eq!(await_notice(&store, "takes rows again").len(), 1);
    assert_eq!(store.trouble(), None);
    let counts = store.close(&Counts::default(), PATIENCE);
    let expected = RowCounts {
        written: 5,
        spooled: 0,
        dropped: 5 * ASIDE,
    };
    assert_eq!(counts, expected);
}

#[test]
fn a_store_that_cannot_write_is_waited_for() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let run = wall_ns(Duration::from_secs(1000));
    let options = server.boss();
    let troubles = [
        (
            "ALTER TABLE results \
             MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1",
            "TOO_MANY_PARTS",
            "ALTER TABLE results RESET SETTING parts_to_throw_insert, parts_to_delay_insert",
        ),
        (
            "RENAME TABLE incoming TO away",
            "UNKNOWN_TABLE",
            "RENAME TABLE away TO incoming",
        ),
        (
            "RENAME TABLE incoming TO away; CREATE TABLE incoming (run UInt64) ENGINE = Null",
            "schema",
            "DROP TABLE incoming; RENAME TABLE away TO incoming",
        ),
    ];
    for (number, (breaking, words, mending)) in (0..).zip(troubles) {
        let store = open(&options, run + number).expect("all is well");
        let sender = store.sender();
        sender.offer(chunk(run + number, 0, 10));
        await_that("it is written", || sender.counts() == all_written(10));
        breaking.split("; ").for_each(|sql| drop(server.sql(sql)));
        sender.offer(chunk(run + number, 1, 10));
        let told = await_notice(&store, "does not take rows");
        assert!(told.len() == 1 && told[0].contains(words), "{told:?}");
        mending.split("; ").for_each(|sql| drop(server.sql(sql)));
        await_that("it is written", || sender.counts() == all_written(20));
        assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(20));
    }
    assert_eq!(server.sql(SUMS), sums(60));
}

#[test]
fn a_user_who_loses_his_rights_is_waited_for() {
    let (server, mut wire, options) = behind_a_wire();
    let run = wall_ns(Duration::from_secs(1000));
    let store = open(&options, run).expect("all is well");
    let sender = store.sender();
    let grant = "it's necessary to have the grant INSERT(run) ON pinger.incoming";
    // What the server says, and what of it is told.
    let troubles = [
        (
            516,
            "Authentication failed: password is incorrect",
            "refuse",
        ),
        (
            164,
            "Cannot execute query in readonly mode",
            "readonly mode",
        ),
        (497, grant, grant),
    ];
    let mut rows = 0;
    for (code, words, told) in troubles {
        wire.cut();
        let stub = Stub::saying(wire.port, code, words);
        sender.offer(chunk(run, rows / 10, 10));
        rows += 10;
        await_that("the store says why", || {
            store
                .trouble()
                .is_some_and(|trouble| trouble.contains(told))
        });
        assert_eq!(sender.counts().dropped, 0);
        drop(stub);
        wire.mend();
        await_that("it is written", || sender.counts() == all_written(rows));
    }
    assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(rows));
    assert_eq!(server.sql(SUMS), sums(rows));
}

/// Stands in for a ClickHouse that answers every request with the same error.
struct Stub {
    listener: TcpListener,
}

impl Stub {
    fn saying(port: u16, code: u32, words: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is ours");
        let body = format!("Code: {code}. DB::Exception: {words}. (NAME) (version 26.7)\n");
        let answer = format!(
            "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let accepting = listener.try_clone().expect("descriptors are left");
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(mut stream) = stream else { return };
                // The whole request first, or closing would reset the connection.
                read_request(&mut stream);
                // Who is gone needs no answer.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { listener }
    }
}

/// Reads a request to its end, or to that of its connection.
fn read_request(stream: &mut TcpStream) {
    let (mut request, mut buffer) = (Vec::new(), [0; 65536]);
    while !is_whole(&request) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Whether a request has all of its body: chunks to the last one, or as many bytes as it says.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = request.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(Ok(0), |length| length.trim().parse::<usize>());
    length.is_ok_and(|length| body.len() >= length)
}

impl Drop for Stub {
    fn drop(&mut self) {
        // SAFETY: plain system call on a descriptor that we own; it wakes the accepting thread.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

#[test]
fn a_full_spool_drops_what_it_is_told_to_and_says_so() {
    for drop in [DropPolicy::Oldest, DropPolicy::Newest] {
        let (server, mut wire, mut options) = behind_a_wire();
        options.spool.bytes_max = 1 << 20;
        options.spool.drop = drop;
        let run = wall_ns(Duration::from_secs(1000));
        wire.cut();
        let store = open(&options, run).expect("a server that is away stops nobody");
        let sender = store.sender();
        let mut number = 0;
        await_that("the spool is full", || {
            sender.offer(noisy_chunk(run, number));
            number += 1;
            sender.counts().dropped > 0
        });
        await_notice(&store, "are missing in the store");
        // Not before the last one has met a full spool: what is sent makes room.
        await_that("each chunk is on disk or dropped", || {
            let found = spooled::status(&options.data_dir).expect("it is ours");
            found.results() + sender.counts().dropped == number * 10_000
        });
        wire.mend();
        await_that("the rest is written", || sender.counts().spooled == 0);
        let counts = store.close(&Counts::default(), PATIENCE);
        let RowCounts {
            written, dropped, ..
        } = counts;
        assert_eq!((written + dropped, counts.spooled), (number * 10_000, 0));
        assert_eq!(server.sql(SUMS), sums(written));
        assert_eq!(
            server.sql(GAPS),
            format!("{run}\tspool_full\t{dropped}\t{dropped}\n")
        );
        // Nothing tells of the first: those that were tried may be in the store.
        let last = server.sql("SELECT max(sequence) FROM results FORMAT TSV");
        let is_there = last == format!("{}\n", number * 10_000 - 1);
        assert_eq!(is_there, drop == DropPolicy::Oldest, "{drop:?}: {last}");
    }
}

#[test]
fn in_memory_nothing_outlives_the_run() {
    let (_server, mut wire, mut options) = behind_a_wire();
    options.spool.place = SpoolPlace::Memory;
    let run = wall_ns(Duration::from_secs(1000));
    let store = open(&options, run).expect("it is reachable");
    let sender = store.sender();
    sender.offer(chunk(run, 0, 10));
    await_that("it is written", || sender.counts() == all_written(10));
    wire.cut();
    for number in 1..11 {
        sender.offer(chunk(run, number, 10));
    }
    let end = store.close(&Counts::default(), Duration::from_millis(500));
    let expected = RowCounts {
        written: 10,
        spooled: 0,
        dropped: 100,
    };
    assert_eq!(end, expected);
    let reason = sender.last_loss().expect("rows were dropped");
    // Refused, or closed if it was busy with one that it had.
    let is_away = reason.contains("the server cannot be reached");
    assert!(is_away, "the store's word: {reason}");
    sender.offer(chunk(run, 99, 10));
    assert_eq!(sender.counts().dropped, 110, "nobody takes chunks any more");
    assert!(folders(&options).is_empty());
}
