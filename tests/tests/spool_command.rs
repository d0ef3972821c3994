//! `pinger spool`: what waits and what was refused is told, and what was refused is sent again,
//! into the real ClickHouse, embedded and by URL.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use pinger::config::{StoreChoice, StoreOptions};
use pinger::stats::Counts;
use pinger::store::Store;
use serde_json::Value;
use store_kit::{Home, PATIENCE, SOURCE, Server, Wire, await_that, chunk, open, required, wall_ns};

/// Rows, distinct rows, what the rollups by minute, hour and run say, and what gaps say is missing.
const SUMS: &str = "SELECT (SELECT (count(), uniqExact(run, destination, sequence)) FROM results), \
     (SELECT sum(reply) FROM results_minute), (SELECT sum(reply) FROM results_hour), \
     (SELECT sum(reply) FROM results_run), \
     (SELECT (sum(probes), sum(rows), count()) FROM gaps) FORMAT TSV";

/// The answer when all rows are there, and `gaps` gaps tell of nothing.
fn whole(rows: u64, gaps: u64) -> String {
    format!("({rows},{rows})\t{rows}\t{rows}\t{rows}\t(0,0,{gaps})\n")
}

/// A rule that some rows break, and its end.
const RULE: &str = "ALTER TABLE results ADD CONSTRAINT test CHECK rhost != 99";
const MEND: &str = "ALTER TABLE results DROP CONSTRAINT test";

/// Offers four segments of five rows, of which the second and the last break the rule.
fn offer(store: &Store, run: u64) {
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
}

/// `pinger spool …` for a data directory; its exit code, standard output and standard error.
fn spool(arguments: &[&str], options: &StoreOptions) -> (Option<i32>, String, String) {
    let mut command = Command::new(required("PINGER_BIN"));
    command.arg("spool").args(arguments);
    command.arg("--data-dir").arg(&options.data_dir);
    if let (StoreChoice::Url(url), "retry") = (&options.choice, arguments[0]) {
        command.args(["--store", url]);
        command.env("PINGER_STORE_PASSWORD", "geheim");
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("PINGER_BIN runs");
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).expect("text"));
    (status.code(), out, err)
}

fn json(options: &StoreOptions) -> Value {
    let (_, out, err) = spool(&["status", "--format", "json"], options);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

#[test]
fn what_was_refused_is_sent_again_beside_a_living_run() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let options = home.embedded();
    let store = open(&options, run).expect("the engine starts");
    home.sql(RULE);
    offer(&store, run);
    await_that("the gaps are written", || {
        home.sql("SELECT sum(probes) FROM gaps FORMAT TSV") == "10\n"
    });

    let told = json(&options);
    let at = |path: &str| told.pointer(path).cloned().unwrap_or_default();
    assert_eq!((at("/refused"), at("/results")), (2.into(), 0.into()));
    assert_eq!(at("/runs/0/run"), run.to_string(), "{told}");
    assert_eq!(at("/runs/0/source"), SOURCE.id);
    assert_eq!(
        (at("/runs/0/state"), at("/runs/0/store")),
        ("running".into(), "embedded".into())
    );
    assert_eq!(
        (at("/runs/0/refused/1/rows"), at("/runs/0/refused/1/table")),
        (5.into(), "incoming".into())
    );
    let (code, out, err) = spool(&["status"], &options);
    assert_eq!((code, err.as_str()), (Some(3), ""));
    for part in [
        "segments refused: 2",
        "running",
        "VIOLATED_CONSTRAINT",
        "pinger spool retry",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }

    // The cause is not mended yet.
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("2 segments in "), "{err}");
    assert_eq!(err.matches(" stay: ").count(), 1, "{err}");
    assert!(err.contains("VIOLATED_CONSTRAINT"), "{err}");
    home.sql(MEND);
    let copy = home.0.join("copy");
    let refused = refused_folder(&options);
    copy_files(&refused, &copy);
    // Again as after a retry that was killed before it had removed the files.
    for again in 0..2 {
        let (code, _, err) = spool(&["retry"], &options);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(err.matches("5 rows into incoming").count(), 2, "{err}");
        assert_eq!(home.sql(SUMS), whole(20, 2), "time {again}");
        copy_files(&copy, &refused);
    }
    fs::remove_dir_all(&refused).expect("our own directory");
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(
        (code, err.contains("nothing to do")),
        (Some(0), true),
        "{err}"
    );
    assert_eq!(
        home.sql(
            "SELECT DISTINCT startsWith(detail, 'sent again: incoming: ') FROM gaps FORMAT TSV"
        ),
        "1\n"
    );
    store.close(&Counts::default(), PATIENCE);
    let (code, out, _) = spool(&["status"], &options);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("nothing waits"), "{out}");
    assert_eq!(home.sql(SUMS), whole(20, 2));
}

fn refused_folder(options: &StoreOptions) -> std::path::PathBuf {
    let folders = fs::read_dir(options.data_dir.join("spool")).expect("it is there");
    let mut folders = folders.flatten().map(|entry| entry.path().join("refused"));
    folders.find(|folder| folder.exists()).expect("refused")
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own directory");
    for entry in fs::read_dir(from).expect("our own directory").flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("our own directory");
    }
}

#[test]
fn what_waits_for_a_server_that_is_away_is_told_and_left_alone() {
    let server = Server::start();
    let mut wire = Wire::to(server.port);
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let options = server.options("boss", wire.port, "pinger");
    let run = wall_ns(Duration::from_secs(100));
    wire.cut();
    let store = open(&options, run).expect("a server that is away stops nobody");
    store.sender().offer(chunk(run, 0, 7));
    await_that("they are on disk", || json(&options)["results"] == 7);
    let told = json(&options);
    let url = format!("http://127.0.0.1:{}/pinger", wire.port);
    assert_eq!(told["runs"][0]["store"], url.as_str());
    assert_eq!(told["runs"][0]["state"], "running");
    store.close(&Counts::default(), Duration::ZERO);
    let (code, out, _) = spool(&["status"], &options);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("7 results wait") && out.contains("ended"),
        "{out}"
    );
    // Looking has kept nobody from taking it over.
    wire.mend();
    let next = open(&options, run + 1).expect("it is there");
    await_that("it is sent", || {
        server.sql("SELECT count() FROM results FORMAT TSV") == "7\n"
    });
    next.close(&Counts::default(), PATIENCE);
    assert_eq!(json(&options)["runs"], Value::Array(Vec::new()));
}

#[test]
fn a_server_gets_what_it_refused_from_whom_may_change_gaps() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let options = server.boss();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&options, run).expect("it is there");
    server.sql(RULE);
    offer(&store, run);
    store.close(&Counts::default(), PATIENCE);
    server.sql(MEND);
    let before = server.sql(SUMS);
    assert!(before.ends_with("(10,10,2)\n"), "{before}");

    let reader = server.options("reader", server.port, "pinger");
    let (code, _, err) = spool(&["retry"], &reader);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("ALTER UPDATE") && err.contains("role pinger_owner"),
        "{err}"
    );
    for choice in [
        StoreChoice::Url(format!("http://boss@localhost:{}/pinger", server.port)),
        StoreChoice::Embedded,
    ] {
        let elsewhere = StoreOptions {
            choice,
            ..server.boss()
        };
        let (code, _, err) = spool(&["retry"], &elsewhere);
        assert_eq!(code, Some(3), "{err}");
        assert!(err.contains("it is for another store"), "{err}");
    }
    let engine = options.data_dir.join("engine");
    assert!(!engine.exists(), "no engine was started for nothing");
    let taken = fs::File::open(refused_folder(&options)).expect("it is there");
    taken.lock().expect("nobody has it");
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("somebody else sends it just now"), "{err}");
    drop(taken);
    assert_eq!(server.sql(SUMS), before, "nothing was sent");

    // Of a gap that the store has not got yet nothing is known, so its rows must wait.
    server.sql("RENAME TABLE gaps TO away");
    server.sql("CREATE TABLE gaps AS away");
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("does not tell of it yet"), "{err}");
    server.sql("DROP TABLE gaps");
    server.sql("RENAME TABLE away TO gaps");
    assert_eq!(server.sql(SUMS), before, "nothing was sent");

    let refused = refused_folder(&options);
    let copy = options.data_dir.join("copy");
    copy_files(&refused, &copy);
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.sql(SUMS), whole(20, 2));

    // As after a crash of the server that left it the tokens and not the rows.
    server.sql("ALTER TABLE results DELETE WHERE sequence >= 5 SETTINGS mutations_sync = 2");
    copy_files(&copy, &refused);
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(code, Some(0), "{err}");
    let rows = "SELECT groupArray(sequence) FROM (SELECT sequence FROM results ORDER BY sequence) \
                FORMAT TSV";
    assert_eq!(server.sql(rows), "[0,1,2,3,4,5,6,7,8,9,15,16,17,18,19]\n");
}

#[test]
fn a_directory_that_is_not_there_is_no_empty_one() {
    let home = Home::new();
    let options = home.embedded();
    let (code, out, err) = spool(&["status"], &options);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("check --data-dir"), "{err}");
    fs::create_dir(&options.data_dir).expect("our own directory");
    let (code, out, _) = spool(&["status"], &options);
    assert_eq!(code, Some(0));
    assert!(out.contains("nothing waits"), "{out}");
    let (code, _, err) = spool(&["retry"], &options);
    assert_eq!(
        (code, err.contains("nothing to do")),
        (Some(0), true),
        "{err}"
    );
    let files = fs::read_dir(&options.data_dir).expect("it is there");
    assert_eq!(files.count(), 0, "nothing was made");
}
