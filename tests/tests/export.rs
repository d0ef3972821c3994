//! `pinger export` against the real ClickHouse: what it writes is read back by another one.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use pinger::result::Outcome;
use pinger::stats::Counts;
use store_kit::{
    Home, PATIENCE, Server, all_written, answer, await_that, chunk_of, keys, open, required,
    result, wall_ns,
};

/// A run of ten results, a second apart: eight replies, one that was lost, and a late answer.
fn store_ten(home: &Home, run: u64) {
    let store = open(&home.embedded(), run).expect("the engine starts");
    let keys = keys(run);
    let mut rows = Vec::new();
    for sequence in 0..9 {
        let result = match sequence {
            3 => result(sequence, Outcome::Lost, None),
            _ => result(
                sequence,
                Outcome::Reply,
                answer(1_234_567 + sequence, "192.0.2.4"),
            ),
        };
        rows.push(keys.row(121, &result));
    }
    let late = result(3, Outcome::Late, answer(700_000_001, "192.0.2.4"));
    rows.push(keys.row(121, &late));
    store.sender().offer(chunk_of(rows));
    await_that("it is written", || store.counts() == all_written(10));
    // One that asks while the store is in use gets the same.
    let live = exported(home.pinger(&["export", "--table", "runs"]));
    assert_eq!(live.lines().count(), 2, "{live}");
    store.close(&Counts::default(), PATIENCE);
}

/// What was written to standard output.
fn exported(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("our own directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_exported_reads_back_as_it_was() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(1000)) / 1_000_000_000 * 1_000_000_000 + 123_456_789;
    store_ten(&home, run);
    let out = home.0.join("out");
    fs::create_dir(&out).expect("our own directory");
    let reader = Server::start();
    for format in ["parquet", "csv"] {
        let path = out.join(format!("all.{format}")).display().to_string();
        let output = home.pinger(&["export", "-o", &path]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        exported(output);
        assert!(said.contains(" KiB to /"), "{said}");
        let file = match format {
            "parquet" => format!("file('{path}', 'Parquet')"),
            _ => format!("file('{path}', 'CSVWithNames')"),
        };
        let sums = reader.sql_in(
            "default",
            &format!(
                "SELECT count(), sum(rtt_ns), sum(lag_ns), countIf(rtt_ns IS NULL), \
             min(destination_id), any(destination), any(protocol), uniqExact(sequence), \
             countIf(outcome = 'late'), countIf(responder IS NULL) FROM {file} FORMAT TSV"
            ),
        );
        let rtts = 8 * 1_234_567 + (36 - 3) + 700_000_001;
        assert_eq!(
            sums,
            format!("10\t{rtts}\t2500\t1\t121\thost1.example.com\tICMP\t9\t1\t1\n"),
            "{format}"
        );
        let times = reader.sql_in(
            "default",
            &format!(
                "SELECT min(toUnixTimestamp64Nano(toDateTime64(time_due, 9, 'UTC'))), \
             max(toUnixTimestamp64Nano(toDateTime64(time_answered, 9, 'UTC'))) \
             FROM {file} FORMAT TSV SETTINGS date_time_input_format = 'best_effort'"
            ),
        );
        let last = run + 8_000_000_000 + 250 + 1_234_567 + 8;
        assert_eq!(times, format!("{run}\t{last}\n"), "{format}");
    }
    assert_eq!(names(&out), ["all.csv", "all.parquet"]);
}

#[test]
fn a_range_begins_with_its_start_and_ends_before_its_end() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(1000)) / 1_000_000_000 * 1_000_000_000;
    store_ten(&home, run);
    let second = |n: u64| {
        let at = run / 1_000_000_000 + n;
        let text = home.sql(&format!(
            "SELECT formatDateTime(toDateTime({at}, 'UTC'), '%F %T') FORMAT TSV"
        ));
        text.trim_end().to_owned()
    };
    let export = |words: &[&str]| {
        let text = exported(home.pinger(&[&["export"], words].concat()));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let some = export(&["--from", &second(2), "--until", &second(5)]);
    assert_eq!(
        some.len(),
        1 + 4,
        "two replies, one lost, one late: {some:?}"
    );
    assert!(
        some[0].starts_with("\"time_due\",\"source_id\",\"source\""),
        "{}",
        some[0]
    );
    let due = second(2).replace(' ', "T");
    assert!(
        some[1].starts_with(&format!("\"{due}.000000000Z\",3,")),
        "{}",
        some[1]
    );
    assert!(
        some[2].contains(",\"lost\",,250,"),
        "nothing where nothing came: {}",
        some[2]
    );
    assert_eq!(export(&["--from", "10m"]).len(), 1, "all is older");
    assert_eq!(export(&["--until", "10m"]).len(), 11);
    // The views, each with a line of names.
    for (table, lines) in [("per_minute", 2..=3), ("outages", 1..=1), ("runs", 2..=2)] {
        let rows = export(&["--table", table, "--from", "1h"]).len();
        assert!(lines.contains(&rows), "{table}: {rows}");
    }
}

#[test]
fn whoever_may_change_no_setting_may_export() {
    let server = Server::start();
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    server
        .sql("INSERT INTO destinations (id, name) SELECT number, 'host' || number FROM numbers(9)");
    server.sql(
        "INSERT INTO incoming (run, source, destination, sequence, time_due, rtt, outcome) \
         SELECT 1, 1, number % 9, number, \
         now64(9) - toIntervalMillisecond(1 + number * 7919 % 30000 * 240), \
         if(number = 5, NULL, number), if(number = 5, 'lost', 'reply') \
         FROM numbers(30000)",
    );
    let export = |user: &str, arguments: &[&str]| {
        let output = Command::new(required("PINGER_BIN"))
            .args(["export", "--store"])
            .arg(format!("http://{user}@127.0.0.1:{}/pinger", server.port))
            .args(arguments)
            .env("PINGER_STORE_PASSWORD", "geheim")
            .output()
            .expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (exported(output), error)
    };
    let (usual, said) = export("reader", &[]);
    assert_eq!(said, "");
    let (plain, said) = export("strict", &[]);
    assert!(said.contains("readonly = 1"), "{said}");
    assert_eq!(plain.lines().count(), 1 + 30_000);
    // The same rows in the same order, only written otherwise.
    let rows = |text: &str| -> Vec<String> {
        let named = text.replace("\\N", "").replace('Z', "").replace('T', " ");
        named.lines().skip(1).map(str::to_owned).collect()
    };
    assert!(rows(&usual) == rows(&plain));
    for table in ["per_minute", "per_hour", "outages", "gaps", "runs"] {
        let _ = export("strict", &["--table", table]);
    }
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let home = Home::new();
    let out = home.0.join("out");
    fs::create_dir(&out).expect("our own directory");
    let path = out.join("a.csv");
    fs::write(&path, "old").expect("our own directory");
    let fails = |store: &str, to: &Path, part: &str| {
        let output = Command::new(required("PINGER_BIN"))
            .args(["export", "--store", store, "-o"])
            .arg(to)
            .output()
            .expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(part), "{error}");
        assert_eq!(names(&out), ["a.csv"]);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "old");
    };
    // A server that breaks off in the middle of its answer.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port();
    let broken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client comes");
        let mut request = [0; 16384];
        assert!(stream.read(&mut request).expect("it asks") > 0);
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc";
        stream.write_all(answer.as_bytes()).expect("it listens");
    });
    let url = format!("http://127.0.0.1:{port}/net");
    fails(&url, &path, "");
    broken.join().expect("it was asked");
    fails(&url, &path, "cannot reach ClickHouse");

    home.embedded();
    let applied = home.pinger(&["schema", "apply"]);
    assert!(applied.status.success());
    let output = home.pinger(&["export", "-o", "/dev/full", "--format", "csv"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot write /dev/full"), "{error}");
    let output = home.pinger(&["export", "-o", "/nonexistent/a.csv"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot write /nonexistent/a.csv"), "{error}");
}
