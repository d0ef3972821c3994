//! Applying: together with others, after others, after the dead.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};

use pinger::store::schema::{self, MIGRATIONS};

use crate::apply_at_once;
use crate::store_kit::{Server, await_that};

#[test]
fn hosts_that_start_together_migrate_once() {
    let server = Server::start();
    let ours = schema::VERSION;
    server.of_version("two", 2);
    for (database, first) in [
        ("empty", format!("created, version {ours}")),
        ("two", format!("upgraded from version 2 to {ours}")),
    ] {
        let all = apply_at_once(&server, database, 4);
        let ended = |text: &str| {
            let line = format!("pinger: schema: {text}");
            all.iter().filter(|said| said.last() == Some(&line)).count()
        };
        assert_eq!(ended(&first), 1, "{all:?}");
        let nothing = format!("version {ours} already, nothing to do");
        assert_eq!(ended(&nothing), 3, "{all:?}");
        server.assert_migrated_once(database);
    }
    assert_eq!(
        server.sql_in("two", "SELECT count() FROM results FORMAT TSV"),
        "3\n"
    );
}

#[test]
fn an_upgrade_says_what_it_does() {
    let server = Server::start();
    server.of_version("one", 1);
    let said = &apply_at_once(&server, "one", 1)[0];
    assert_eq!(said.len(), MIGRATIONS.len(), "{said:?}");
    assert!(
        said[0].starts_with("pinger: schema: version 2: UDP, TCP, ICMP errors"),
        "{said:?}"
    );
}

/// Leaves a lock as another host would have, last seen so long ago.
pub(crate) fn lock_of_another(server: &Server, database: &str, silent_s: u32) {
    server.sql_in(
        "default",
        &format!("CREATE DATABASE IF NOT EXISTS {database}"),
    );
    let seen = "formatDateTime(now('UTC') - INTERVAL";
    let seen = server.sql_in(
        database,
        &format!("SELECT {seen} {silent_s} SECOND, '%F %T') FORMAT TSV"),
    );
    server.sql_in(
        database,
        &format!(
            "CREATE TABLE schema_lock (unused UInt8) ENGINE = Null COMMENT \
             'pinger 0.0.1 on far, process 7, since then; seen {}.000000'",
            seen.trim()
        ),
    );
}

/// Statements that run on.
const LEFT_BEHIND: &str =
    "SELECT count() FROM system.processes WHERE query_id = 'pinger-migration-7-7' FORMAT TSV";

/// A statement of a migration that goes on for a minute, as a killed pinger would leave it.
fn statement_of_the_dead(server: &Server, database: &str) -> TcpStream {
    let sql = "SELECT sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1 FORMAT Null";
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).expect("the server listens");
    write!(
        stream,
        "POST /?user=boss&password=geheim&database={database}&query_id=pinger-migration-7-7 \
         HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}",
        sql.len()
    )
    .expect("it reads");
    await_that("the statement runs", || {
        server.sql_in(database, LEFT_BEHIND) == "1\n"
    });
    stream
}

#[test]
fn the_lock_of_a_dead_host_is_taken_over_and_that_of_a_living_one_is_not() {
    let server = Server::start();
    lock_of_another(&server, "dead", 61);
    let left_behind = statement_of_the_dead(&server, "dead");
    let all = apply_at_once(&server, "dead", 3);
    let took = all.iter().flatten().filter(|line| {
        line.contains("took over the lock of pinger 0.0.1 on far, process 7")
            && line.contains("no sign of life for 6")
    });
    assert_eq!(took.count(), 1, "{all:?}");
    server.assert_migrated_once("dead");
    assert_eq!(server.sql_in("dead", LEFT_BEHIND), "0\n", "nothing runs on");
    drop(left_behind);

    lock_of_another(&server, "alive", 20);
    let mut waiting = server
        .schema("alive", &["apply"])
        .spawn()
        .expect("PINGER_BIN runs");
    let mut first = String::new();
    BufReader::new(waiting.stderr.as_mut().expect("it is piped"))
        .read_line(&mut first)
        .expect("it is text");
    assert!(
        first.contains("waiting for pinger 0.0.1 on far, process 7, since then"),
        "{first}"
    );
    let status = server.schema("alive", &["status"]).output();
    let status = status.expect("PINGER_BIN runs");
    let told = String::from_utf8_lossy(&status.stdout);
    assert!(
        told.contains("being changed by pinger 0.0.1 on far, process 7, since then, last seen 2"),
        "{told}"
    );
    assert_eq!(status.status.code(), Some(3), "{told}");
    let tables = server.sql_in("alive", "SHOW TABLES FORMAT TSV");
    assert_eq!(tables, "schema_lock\n", "nothing is done meanwhile");
    server.sql_in("alive", "DROP TABLE schema_lock");
    assert!(waiting.wait().expect("it was started").success());
    server.assert_migrated_once("alive");
}

#[test]
fn an_edited_migration_a_newer_one_and_a_gap_are_refused_without_a_lock_left() {
    let server = Server::start();
    server.of_version("pinger", 2);
    for (change, expected) in [
        (
            "INSERT INTO schema_migrations (version, name, checksum) \
             SELECT 1, 'tables_and_views', repeat('0', 64)",
            "migration 1 was `tables_and_views` with checksum 000000000000",
        ),
        (
            "ALTER TABLE schema_migrations DELETE WHERE version = 1 SETTINGS mutations_sync = 1",
            "it has migration 2 without migration 1",
        ),
    ] {
        server.sql(change);
        let output = server.schema("pinger", &["apply"]).output();
        let output = output.expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{error}"
        );
        assert_eq!(server.locks("pinger"), "");
    }
    apply_at_once(&server, "newer", 1);
    let next = schema::VERSION + 1;
    server.sql_in(
        "newer",
        &format!(
            "INSERT INTO schema_migrations (version, name, checksum) \
             VALUES ({next}, 'future', repeat('0', 64))"
        ),
    );
    let output = server.schema("newer", &["apply"]).output();
    let error = output.expect("PINGER_BIN runs").stderr;
    let error = String::from_utf8_lossy(&error);
    assert!(error.contains(&format!("it has version {next}")), "{error}");
    assert_eq!(server.locks("newer"), "");
}
