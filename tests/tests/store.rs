//! The store against the real ClickHouse: the embedded engine, and a server by URL.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pinger::result::{Answer, Outcome, ProbeResult};
use pinger::rows::{ResultRow, RowKeys};
use pinger::stats::Counts;
use pinger::store::{StoreError, schema, suggestions};
use pinger_ebpf::layout::AnswerKind;
use store_kit::{
    Home, PATIENCE, Server, all_written, answer, await_that, chunk, chunk_of, engines, keys, open,
    required, result, wall_ns,
};

/// All columns of a row, in the form in which [`ResultRow`] reads them from JSON.
const ROWS: &str = "SELECT run, source, destination, sequence, \
    toUnixTimestamp64Nano(time_due) AS time_due, lag, rtt, toInt8(outcome) AS outcome, address, \
    rsite, rhost, rtype, rcode, rid, rseq, hop_limit, datamatch, \
    ttl, hops, toInt8(answer) AS answer, traffic_class, mismatch_at, \
    toUInt64(0) AS jitter, false AS hop_limit_changed \
    FROM results ORDER BY destination, sequence, outcome FORMAT JSONEachRow";

#[test]
fn rows_come_back_as_they_were_sent() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let unreachable = Answer {
        rtt_ns: None,
        kind: Some(AnswerKind::IcmpError),
        icmp_type: 3,
        icmp_code: 1,
        ..answer(1, "198.51.100.7").expect("an answer")
    };
    let damaged = Answer {
        mismatch_at: Some(9),
        ..answer(777, "2001:db8::4").expect("an answer")
    };
    let mut rows: Vec<ResultRow> = [
        (
            121,
            result(0, Outcome::Reply, answer(1_234_567, "192.0.2.4")),
        ),
        (121, result(1, Outcome::Error, Some(unreachable))),
        (121, result(2, Outcome::Lost, None)),
        (
            121,
            result(2, Outcome::Late, answer(600_000_000, "192.0.2.4")),
        ),
        (u64::MAX - 1, result(70_000, Outcome::SendFailed, None)),
        (u64::MAX - 1, result(70_001, Outcome::Reply, Some(damaged))),
        (
            u64::MAX - 1,
            result(70_001, Outcome::Duplicate, answer(u64::MAX, "2001:db8::4")),
        ),
    ]
    .iter()
    .map(|(destination, result)| keys(run).row(*destination, result))
    .collect();
    let copy = rows.clone();
    store.sender().offer(chunk_of(rows.split_off(4)));
    store.sender().offer(chunk_of(rows));
    assert_eq!(store.close(&Counts::default(), PATIENCE), all_written(7));

    let found: Vec<ResultRow> = home
        .sql(ROWS)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row as JSON"))
        .collect();
    assert_eq!(found, copy);
    let sent = "WITH toUnixTimestamp64Nano(time_sent) AS sent \
         SELECT countIf(sent - toUnixTimestamp64Nano(time_due) = 250), \
         countIf(toUnixTimestamp64Nano(rtime) - sent = rtt) \
         FROM results WHERE ifNull(rtt, 0) < 1e12 FORMAT TSV";
    assert_eq!(home.sql(sent), "6\t3\n");
}

#[test]
fn source_destinations_and_run_are_registered() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let begun = "SELECT ended IS NULL, sent FROM runs FINAL FORMAT TSV";
    await_that("the run is registered", || home.sql(begun) == "1\t0\n");
    let counts = Counts {
        sent: 6,
        reply: 2,
        error: 1,
        lost: 1,
        send_failed: 1,
        ..Counts::default()
    };
    store.close(&counts, PATIENCE);
    let run_row = "SELECT source, interface, mode, destinations, sent, reply, error, lost, \
         send_failed, rows_dropped, toUnixTimestamp64Nano(started) = run, ended > started \
         FROM runs FINAL FORMAT TSV";
    assert_eq!(
        home.sql(run_row),
        "3\tlo\ttest\t2\t6\t2\t1\t1\t1\t0\t1\t1\n"
    );
    let source = "SELECT id, location, host, sourceid, toString(address), name = hostName() \
         FROM sources FINAL FORMAT TSV";
    assert_eq!(home.sql(source), "3\t37\t12\t22\t::ffff:192.0.2.1\t1\n");
    let destinations = "SELECT id, active, toString(address), protocol, interval, timeout, ttl, \
         size, name, port, hops, data, traffic_class, dont_fragment, from_interface, \
         toString(from_address), interface FROM destinations FINAL ORDER BY id FORMAT TSV";
    assert_eq!(
        home.sql(destinations),
        "121\ttrue\t::ffff:192.0.2.4\tICMP\t1000000000\t500000000\t64\t56\thost1.example.com\t0\t0\t\t0\ttrue\t\t::\t\n\
         18446744073709551614\ttrue\t2001:db8::4\tICMP6\t1000000000\t500000000\t64\t56\t2001:db8::4\t\
         443\t0\tab\\0\t184\tfalse\teth7\t::\teth9\n"
    );
}

#[test]
fn a_server_that_does_not_fit_is_named_with_what_to_do() {
    let server = Server::start();
    let run = wall_ns(Duration::ZERO);
    let refused = |options, expected: &[&str]| {
        let error = open(&options, run)
            .err()
            .expect("it must not open")
            .to_string();
        for text in expected {
            assert!(error.contains(text), "no {text:?} in: {error}");
        }
        assert!(
            error.contains("\n  ") && !error.contains("geheim"),
            "{error}"
        );
    };
    refused(
        server.boss(),
        &[
            "no database `pinger`",
            "pinger schema apply --store http://boss@",
        ],
    );
    let mut wrong = server.boss();
    wrong.password_file = Some("/dev/null".into());
    refused(wrong, &["refuses user `boss`", "PINGER_STORE_PASSWORD"]);

    let ours = schema::VERSION;
    for done in [
        format!("created, version {ours}"),
        format!("version {ours} already, nothing to do"),
    ] {
        assert_eq!(server.sql_apply(), format!("pinger: schema: {done}\n"));
    }
    refused(
        server.options("reader", server.port, "pinger"),
        &["read-only for user `reader`"],
    );
    open(&server.boss(), run)
        .expect("all is there now")
        .close(&Counts::default(), PATIENCE);
    assert_eq!(
        server.sql("SELECT count() FROM runs FINAL FORMAT TSV"),
        "1\n"
    );

    let add = |version: u32, name: &str| {
        server.sql(&format!(
            "INSERT INTO schema_migrations (version, name, checksum) \
             VALUES ({version}, '{name}', '{}')",
            "0".repeat(64)
        ));
    };
    add(ours + 1, "future");
    let newer = format!("has version {}", ours + 1);
    let known = format!("knows up to version {ours}");
    refused(server.boss(), &[&newer, &known]);
    add(1, "tables_and_views");
    refused(server.boss(), &["migration 1", "checksum 000000000000"]);
    server.sql("TRUNCATE TABLE schema_migrations");
    refused(
        server.boss(),
        &[
            "has none yet",
            &format!("needs version {ours}"),
            "pinger schema apply --store",
        ],
    );
}

#[test]
fn an_upgrade_keeps_what_is_there_and_says_what_it_was() {
    let server = Server::start();
    server.sql_in("default", "CREATE DATABASE pinger");
    let first = &schema::MIGRATIONS[0];
    for statement in first.sql.trim_end().split(";\n") {
        server.sql(statement);
    }
    server.sql(&format!(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (1, '{}', '{}')",
        first.name,
        first.checksum()
    ));
    server.sql(
        "INSERT INTO results (run, sequence, time_due, outcome) \
         VALUES (1, 0, now64(9), 'reply'), (1, 1, now64(9), 'error'), (1, 2, now64(9), 'lost')",
    );
    let done = format!("schema: upgraded from version 1 to {}\n", schema::VERSION);
    assert!(server.sql_apply().ends_with(&done));
    assert_eq!(
        server.sql("SELECT outcome, answer, ttl, hops FROM results ORDER BY sequence FORMAT TSV"),
        "reply\techo\t0\t0\nerror\ticmp_error\t0\t0\nlost\tnone\t0\t0\n"
    );
    let minutes = "SELECT sum(sent), sum(lost) FROM per_minute FORMAT TSV";
    assert_eq!(server.sql(minutes), "3\t1\n");
}

impl Server {
    /// `pinger schema apply`; what it says.
    fn sql_apply(&self) -> String {
        let url = format!("http://boss@127.0.0.1:{}/pinger", self.port);
        let output = Command::new(required("PINGER_BIN"))
            .args(["schema", "apply", "--store", &url])
            .env("PINGER_STORE_PASSWORD", "geheim")
            .output()
            .expect("PINGER_BIN runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn a_fresh_directory_gets_its_schema_and_is_told_so_once() {
    let home = Home::new();
    home.embedded();
    for done in ["created, version", "already, nothing to do"] {
        let output = home.pinger(&["schema", "apply"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(done), "{said}");
    }
}

#[test]
fn one_pinger_owns_the_directory_and_sql_joins_it() {
    let home = Home::new();
    let options = home.embedded();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&options, run).expect("the engine starts");
    let second = open(&options, run).err().expect("it is taken").to_string();
    assert!(
        second.contains(&format!("process {}", std::process::id())),
        "{second}"
    );
    store.sender().offer(chunk(run, 0, 10));
    await_that("it is written", || store.counts() == all_written(10));
    assert_eq!(home.sql("SELECT count() FROM results FORMAT TSV"), "10\n");
    assert_eq!(
        engines(&options.data_dir).len(),
        1,
        "the query used the running engine"
    );
    store.close(&Counts::default(), PATIENCE);
    assert!(engines(&options.data_dir).is_empty());
    assert!(!options.data_dir.join("endpoint.json").exists());
    assert_eq!(
        home.sql("SELECT count() FROM results FORMAT TSV"),
        "10\n",
        "by an engine of its own"
    );
}

#[test]
fn a_killed_pinger_leaves_no_engine_and_the_next_one_starts() {
    let home = Home::new();
    let options = home.embedded();
    let mut owner = home
        .command(&["sql", "SELECT sleepEachRow(1) FROM system.numbers LIMIT 60"])
        .stdout(Stdio::null())
        .spawn()
        .expect("PINGER_BIN runs");
    await_that("the query runs", || {
        !engines(&options.data_dir).is_empty()
            && owner.try_wait().expect("our child").is_none()
            && options.data_dir.join("engine/metadata/pinger.sql").exists()
    });
    owner.kill().expect("our own child");
    let store = open(&options, wall_ns(Duration::ZERO)).expect("the directory is free again");
    assert_eq!(engines(&options.data_dir).len(), 1, "only the new one");
    store.close(&Counts::default(), PATIENCE);
    owner.wait().expect("our own child");
    assert!(engines(&options.data_dir).is_empty());
}

#[test]
fn a_start_that_fails_says_why() {
    let home = Home::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port();
    let mut options = home.embedded();
    options.port = Some(port);
    let taken = open(&options, 1).err().expect("the port is taken");
    assert!(
        matches!(taken, StoreError::PortTaken { port: named } if named == port),
        "{taken}"
    );

    let broken = home.0.join("libchdb.so");
    std::fs::write(&broken, "not a library").expect("our own directory");
    for (library, expected) in [
        (
            broken.as_path(),
            ["did not start", "is not a usable libchdb.so"],
        ),
        (
            Path::new("/nonexistent.so"),
            ["/nonexistent.so", "no such file"],
        ),
    ] {
        let mut command = home.command(&["sql", "SELECT 1"]);
        let output = command
            .env("PINGER_LIBCHDB", library)
            .output()
            .expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        for text in expected {
            assert!(error.contains(text), "no {text:?} in: {error}");
        }
    }
}

#[test]
fn sql_prints_answers_and_one_line_errors() {
    let home = Home::new();
    home.embedded();
    assert_eq!(home.sql("SELECT 1 AS a, 'x' AS b"), "a\tb\n1\tx\n");
    assert_eq!(home.sql("SELECT 1 AS a;"), "a\n1\n");
    assert_eq!(home.sql("SELECT 1 AS a FORMAT CSV"), "1\n");
    let output = home.pinger(&["sql", "SELECT nothing", "--format", "CSV"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (
            output.status.code(),
            output.stdout.len(),
            error.lines().count()
        ),
        (Some(1), 0, 1)
    );
    assert!(error.contains("UNKNOWN_IDENTIFIER"), "{error}");

    let output = Command::new(required("PINGER_BIN"))
        .args(["schema", "print"])
        .output()
        .expect("PINGER_BIN runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("CREATE TABLE IF NOT EXISTS results"));
}

#[test]
fn views_answer_everyday_questions() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let keys = keys(run);
    let mut rows = Vec::new();
    for sequence in 0..60 {
        // The first one is away from 20 to 29; the second one answers all, one late.
        let first = match sequence {
            20..=29 => result(sequence, Outcome::Lost, None),
            40..=41 => result(sequence, Outcome::Lost, None),
            _ => ProbeResult {
                jitter_ns: 250_000,
                hop_limit_changed: matches!(sequence, 10 | 50),
                ..result(sequence, Outcome::Reply, answer(2_000_000, "192.0.2.4"))
            },
        };
        let second = match sequence {
            5 => result(sequence, Outcome::Lost, None),
            _ => ProbeResult {
                jitter_ns: 30_000,
                ..result(
                    sequence,
                    Outcome::Reply,
                    answer(1_000_000 * sequence, "2001:db8::4"),
                )
            },
        };
        rows.extend([keys.row(121, &first), keys.row(u64::MAX - 1, &second)]);
    }
    let late = result(5, Outcome::Late, answer(700_000_000, "2001:db8::4"));
    rows.push(keys.row(u64::MAX - 1, &late));
    // Traces of the same destinations change nothing of what is asked first.
    rows.extend(traces(&keys));
    store.sender().offer(chunk_of(rows));
    await_that("it is written", || store.counts() == all_written(121 + 24));

    let outages = "SELECT name, seconds, probes, lost, error, ongoing, \
         toUnixTimestamp64Nano(start) - run, toUnixTimestamp64Nano(assumeNotNull(end)) - run \
         FROM outages FORMAT TSV";
    assert_eq!(
        home.sql(outages),
        "host1.example.com\t10\t10\t10\t0\t0\t20000000000\t30000000000\n",
        "two misses in a row are no outage"
    );
    let worst = "SELECT name, address, sent, missed, loss_percent, rtt_p50_ms, rtt_max_ms \
         FROM worst_now FORMAT TSV";
    let worst = home.sql(worst);
    let lines: Vec<&str> = worst.lines().collect();
    assert_eq!(
        lines[0], "host1.example.com\t192.0.2.4\t60\t12\t20\t2\t2",
        "{worst}"
    );
    assert!(
        lines[1].starts_with("2001:db8::4\t2001:db8::4\t60\t1\t1.667\t"),
        "{worst}"
    );
    minutes_leave_traces_out(&home);
    let readable = "SELECT source = hostName(), destination, protocol, outcome, rtt_ms, lag_ms, \
         address FROM results_readable WHERE sequence = 5 AND ttl = 64 ORDER BY destination, outcome FORMAT TSV";
    assert_eq!(
        home.sql(readable),
        "1\t2001:db8::4\tICMP6\tlost\t\\N\t0.00025\t\n\
         1\t2001:db8::4\tICMP6\tlate\t700\t0.00025\t2001:db8::4\n\
         1\thost1.example.com\tICMP\treply\t2\t0.00025\t192.0.2.4\n"
    );

    paths_are_queries(&home);
    every_query_of_the_cookbook_runs(&home);
    store.close(&Counts::default(), PATIENCE);
}

fn minutes_leave_traces_out(home: &Home) {
    let minutes = "SELECT name, sum(sent), sum(lost), sum(late), min(rtt_min_ms), max(rtt_max_ms) \
         FROM per_minute GROUP BY name ORDER BY name FORMAT TSV";
    assert_eq!(
        home.sql(minutes),
        "2001:db8::4\t60\t1\t1\t0\t59\nhost1.example.com\t60\t12\t0\t2\t2\n"
    );
    let way = "SELECT name, min(jitter_ms), max(jitter_ms), sum(hop_limit_changes) \
         FROM per_minute GROUP BY name ORDER BY name FORMAT TSV";
    assert_eq!(
        home.sql(way),
        "2001:db8::4\t0.03\t0.03\t0\nhost1.example.com\t0.25\t0.25\t2\n"
    );
}

#[test]
fn only_replies_end_an_outage() {
    let home = Home::new();
    let run = wall_ns(Duration::from_secs(200));
    let store = open(&home.embedded(), run).expect("the engine starts");
    let keys = keys(run);
    let row = |sequence, outcome| {
        let answer = match outcome {
            Outcome::Reply => answer(2_000_000, "192.0.2.4"),
            _ => None,
        };
        result(sequence, outcome, answer)
    };
    let mut rows = Vec::new();
    for sequence in 0..100 {
        // Gone from 20 on for 30 seconds in which every third round was skipped; then a late
        // answer and a duplicate, which end nothing; two misses that are no outage; then an
        // outage of three probes with failed sends among them.
        let first = match sequence {
            20..50 if sequence % 3 == 0 => continue,
            20..50 | 60..=61 | 70 | 72 | 74 => Outcome::Lost,
            71 | 73 => Outcome::SendFailed,
            _ => Outcome::Reply,
        };
        rows.push(keys.row(121, &row(sequence, first)));
        // Never there, and an error once: its outage has no reply on either side.
        let second = match sequence {
            7 => Outcome::Error,
            _ => Outcome::Lost,
        };
        rows.push(keys.row(u64::MAX - 1, &row(sequence, second)));
    }
    rows.push(keys.row(121, &row(31, Outcome::Late)));
    rows.push(keys.row(121, &row(34, Outcome::Duplicate)));
    let count = rows.len() as u64;
    store.sender().offer(chunk_of(rows));
    await_that("it is written", || store.counts() == all_written(count));
    let outages = "SELECT name, seconds, probes, lost, error, \
         intDiv(toUnixTimestamp64Nano(start) - run, 1000000000) AS first \
         FROM outages ORDER BY name, first FORMAT TSV";
    assert_eq!(
        home.sql(outages),
        "2001:db8::4\t100\t90\t89\t1\t0\n\
         host1.example.com\t30\t20\t20\t0\t20\n\
         host1.example.com\t5\t3\t3\t0\t70\n"
    );
    store.close(&Counts::default(), PATIENCE);
}

/// Three passes over four hop limits. The first destination is behind two routers, of which the
/// second is silent once and then another one; the second is cut off behind its second router.
fn traces(keys: &RowKeys) -> Vec<ResultRow> {
    let mut rows = Vec::new();
    for sequence in 0..12 {
        let (pass, ttl) = (sequence / 4, 1 + (sequence % 4) as u8);
        let traced = |outcome, answer| ProbeResult {
            ttl,
            hops: 4,
            jitter_ns: 7_000_000,
            hop_limit_changed: true,
            ..result(sequence, outcome, answer)
        };
        let error = |address: &str, icmp_type| {
            let answer = answer(1_000_000 * u64::from(ttl), address).expect("an answer");
            let kind = Some(AnswerKind::IcmpError);
            let error = Answer {
                kind,
                icmp_type,
                ..answer
            };
            traced(Outcome::Error, Some(error))
        };
        let first = match (ttl, pass) {
            (1, _) => error("198.51.100.1", 11),
            (2, 0) => error("198.51.100.2", 11),
            (2, 1) => traced(Outcome::Lost, None),
            // All that a full ring buffer left of a router's answer.
            (3, 1) => error("::", 0),
            (2, _) => error("198.51.100.9", 11),
            _ => traced(Outcome::Reply, answer(9_000_000, "192.0.2.4")),
        };
        let second = match ttl {
            1 => error("2001:db8:1::1", 3),
            _ => error("2001:db8:2::1", 1),
        };
        rows.extend([keys.row(121, &first), keys.row(u64::MAX - 1, &second)]);
    }
    rows
}

fn paths_are_queries(home: &Home) {
    let paths = "SELECT name, pass, reached, hops, toUnixTimestamp64Nano(time) - run \
         FROM paths ORDER BY name DESC, pass FORMAT TSV";
    assert_eq!(
        home.sql(paths),
        "host1.example.com\t0\t1\t['198.51.100.1','198.51.100.2','192.0.2.4']\t0\n\
         host1.example.com\t1\t1\t['198.51.100.1','','','192.0.2.4']\t4000000000\n\
         host1.example.com\t2\t1\t['198.51.100.1','198.51.100.9','192.0.2.4']\t8000000000\n\
         2001:db8::4\t0\t0\t['2001:db8:1::1','2001:db8:2::1']\t0\n\
         2001:db8::4\t1\t0\t['2001:db8:1::1','2001:db8:2::1']\t4000000000\n\
         2001:db8::4\t2\t0\t['2001:db8:1::1','2001:db8:2::1']\t8000000000\n"
    );
    let changes =
        "SELECT name, ttl, before, after, hops_changed, pass FROM path_changes FORMAT TSV";
    assert_eq!(
        home.sql(changes),
        "host1.example.com\t2\t198.51.100.2\t198.51.100.9\t1\t2\n",
        "a silent hop is no change"
    );
    let hops = "SELECT ttl, arraySort(addresses), sent, lost, loss_percent, rtt_min_ms \
         FROM hops WHERE destination = 121 ORDER BY ttl FORMAT TSV";
    assert_eq!(
        home.sql(hops),
        "1\t['198.51.100.1']\t3\t0\t0\t1\n\
         2\t['198.51.100.2','198.51.100.9']\t3\t1\t33.333\t2\n\
         3\t['192.0.2.4']\t3\t0\t0\t3\n",
        "what is behind the destination is not shown"
    );
}

fn every_query_of_the_cookbook_runs(home: &Home) {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/queries");
    let files: Vec<_> = std::fs::read_dir(&queries)
        .expect("the cookbook")
        .flatten()
        .collect();
    assert!(files.len() >= suggestions().len());
    for file in files {
        let sql = std::fs::read_to_string(file.path()).expect("text");
        assert!(sql.starts_with("-- "), "{:?} has a title", file.path());
        home.sql(&sql);
    }
    for suggestion in suggestions() {
        let answer = home.sql(&suggestion.sql);
        assert!(
            answer.lines().count() > 1,
            "{suggestion:?} finds what is there: {answer}"
        );
    }
}
