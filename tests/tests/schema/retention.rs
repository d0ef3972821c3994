//! For how long rows are kept, and what `status` tells.

use std::io::{BufRead, BufReader};

use crate::apply::lock_of_another;
use crate::store_kit::{Home, Server, await_that};
use crate::{apply_at_once, said};

/// Days of results and their minutes and hours, one row a day, a minute and an hour.
fn rows_of_many_days(server: &Server) {
    for (table, column, days) in [
        ("results", "time_due", 7),
        ("results_minute", "minute", 170),
        ("results_hour", "hour", 700),
    ] {
        server.sql(&format!(
            "INSERT INTO {table} (source, {column}) \
             SELECT 1, now('UTC') - INTERVAL number DAY FROM numbers({days}) \
             SETTINGS max_partitions_per_insert_block = 0"
        ));
    }
}

/// Rows of raw, minute and hour.
fn counted(server: &Server) -> String {
    server.sql(
        "SELECT (SELECT count() FROM results), (SELECT count() FROM results_minute), \
         (SELECT count() FROM results_hour) FORMAT TSV",
    )
}

#[test]
fn retention_is_changed_by_one_command() {
    let server = Server::start();
    apply_at_once(&server, "pinger", 1);
    rows_of_many_days(&server);
    let engines = "SELECT name, engine_full FROM system.tables \
         WHERE database = 'pinger' AND engine_full LIKE '%TTL%' ORDER BY name FORMAT TSV";
    let made = server.sql(engines);
    let retention = |arguments: &[&str]| {
        let mut command = server.schema("pinger", &["retention"]);
        let output = command.args(arguments).output().expect("PINGER_BIN runs");
        let _ = said(&output);
        String::from_utf8(output.stdout).expect("text")
    };
    let kept = |shown: &str, table: &str| {
        let line = shown
            .lines()
            .find(|line| line.split("  ").next() == Some(table));
        let line = line.unwrap_or_else(|| panic!("no {table} in {shown}"));
        line.rsplit("  ").next().unwrap_or_default().to_owned()
    };

    let shown = retention(&[]);
    for (table, time) in [
        ("results", "7 days"),
        ("misses", "7 days"),
        ("results_minute", "180 days"),
        ("rtt_minute", "180 days"),
        ("results_hour", "5 years"),
        ("rtt_hour", "5 years"),
    ] {
        assert_eq!(kept(&shown, table), time, "{shown}");
    }
    assert_eq!(server.sql(engines), made, "to look changes nothing");

    // Lower: what is too old goes, by whole days, months and years.
    let shown = retention(&["--raw", "3d", "--minute", "60d", "--hour", "1y"]);
    assert_eq!(kept(&shown, "results"), "3 days");
    assert_eq!(kept(&shown, "misses"), "3 days");
    assert_eq!(kept(&shown, "rtt_hour"), "365 days");
    await_that("old days are gone", || {
        server.sql("SELECT count() FROM results FORMAT TSV") == "3\n"
    });
    for (table, column, days, unit) in [
        ("results_minute", "minute", 60, "Month"),
        ("results_hour", "hour", 365, "Year"),
    ] {
        let last = format!(
            "SELECT min({column}) BETWEEN toStartOf{unit}(now() - INTERVAL {days} DAY) \
             AND now() - INTERVAL {} DAY FROM {table} FORMAT TSV",
            days - 1
        );
        await_that("old months and years are gone", || {
            server.sql(&last) == "1\n"
        });
    }

    // Raise: what is there stays, also when parts are looked at again.
    let left = counted(&server);
    retention(&["--raw", "2w", "--minute", "180d", "--hour", "10y"]);
    server.sql("OPTIMIZE TABLE results FINAL");
    assert_eq!(counted(&server), left);
    let ends = "SELECT min(delete_ttl_info_max) > now() + INTERVAL 10 DAY FROM system.parts \
         WHERE database = 'pinger' AND table = 'results' AND active AND rows > 0 FORMAT TSV";
    assert_eq!(server.sql(ends), "1\n", "old parts have the new time");

    retention(&["--raw", "7d", "--hour", "5y"]);
    let plain = |engines: &str| {
        engines
            .replace(", materialize_ttl_recalculate_only = 1", "")
            .replace("toIntervalDay(1825)", "toIntervalYear(5)")
    };
    assert_eq!(plain(&server.sql(engines)), plain(&made));
}

#[test]
fn retention_waits_for_whoever_changes_the_schema() {
    let server = Server::start();
    apply_at_once(&server, "pinger", 1);
    lock_of_another(&server, "pinger", 20);
    let mut waiting = server
        .schema("pinger", &["retention", "--raw", "9d"])
        .spawn()
        .expect("PINGER_BIN runs");
    let mut first = String::new();
    BufReader::new(waiting.stderr.as_mut().expect("it is piped"))
        .read_line(&mut first)
        .expect("it is text");
    assert!(
        first.contains("waiting for pinger 0.0.1 on far, process 7"),
        "{first}"
    );
    let is_changed = "SELECT engine_full LIKE '%toIntervalDay(9)%' FROM system.tables \
         WHERE database = 'pinger' AND name = 'results' FORMAT TSV";
    assert_eq!(server.sql(is_changed), "0\n", "nothing is done meanwhile");
    server.sql("DROP TABLE schema_lock");
    assert!(waiting.wait().expect("it was started").success());
    assert_eq!(server.sql(is_changed), "1\n");
    assert_eq!(server.locks("pinger"), "", "it was given back");
}

#[test]
fn later_migrations_leave_the_retention_as_it_is() {
    let server = Server::start();
    server.of_version("pinger", 2);
    server.sql("ALTER TABLE results MODIFY TTL toDateTime(time_due) + INTERVAL 30 DAY");
    apply_at_once(&server, "pinger", 1);
    let output = server.schema("pinger", &["retention"]).output();
    let shown = output.expect("PINGER_BIN runs").stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("30 days"), "{shown}");
}

#[test]
fn status_tells_what_is_there_and_whether_it_fits() {
    let server = Server::start();
    server.of_version("pinger", 2);
    let status = || {
        let output = server.schema("pinger", &["status"]).output();
        let output = output.expect("PINGER_BIN runs");
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), text)
    };
    let (code, told) = status();
    assert_eq!(code, Some(3), "{told}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |told: &str, wanted: &str| {
        assert!(
            told.lines().any(|line| words(line).starts_with(wanted)),
            "{wanted}: {told}"
        );
    };
    has(&told, "http://boss@127.0.0.1");
    assert!(
        told.contains("it has version 2, and this pinger needs version"),
        "{told}"
    );
    has(&told, "3 nothing_is_lost not applied");
    let today = server.sql("SELECT today() FORMAT TSV");
    has(&told, &format!("1 tables_and_views {}", today.trim()));
    has(&told, "results 3 ");

    apply_at_once(&server, "pinger", 1);
    let (code, told) = status();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("as this pinger needs it"), "{told}");
    assert!(
        told.lines()
            .any(|line| { line.starts_with("3 nothing_is_lost") && line.ends_with("fits") })
    );

    for (table, other, expected) in [("results", "away", 3), ("away", "results", 0)] {
        server.sql(&format!("RENAME TABLE {table} TO {other}"));
        let (code, told) = status();
        assert_eq!(code, Some(expected), "{told}");
        let is_told = told.contains("these tables are not there: results\n");
        assert_eq!(is_told, expected == 3, "{told}");
    }

    server.sql_in("default", "CREATE DATABASE bare");
    let bare = server.schema("bare", &["retention"]).output();
    let bare = bare.expect("PINGER_BIN runs");
    let error = String::from_utf8_lossy(&bare.stderr);
    assert_eq!(bare.status.code(), Some(1), "{error}");
    assert!(error.contains("it has none yet"), "{error}");

    let nowhere = server.schema("nowhere", &["status"]).output();
    let error = nowhere.expect("PINGER_BIN runs").stderr;
    let error = String::from_utf8_lossy(&error);
    assert!(error.contains("no database `nowhere`"), "{error}");
}

#[test]
fn to_look_makes_no_store() {
    let home = Home::new();
    for arguments in [
        ["schema", "status"],
        ["schema", "retention"],
        ["export", "--table=runs"],
    ] {
        let output = home.pinger(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{error}");
        assert!(
            error.contains("no pinger has kept results there"),
            "{error}"
        );
        assert!(!home.0.join("data").exists());
    }
    home.embedded();
    let output = home.pinger(&["schema", "apply"]);
    let _ = said(&output);
    let output = home.pinger(&["schema", "status"]);
    let _ = said(&output);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("as this pinger needs it"), "{told}");
    let data = home.0.join("data");
    assert!(
        told.starts_with(&format!("the embedded store in {}:", data.display())),
        "{told}"
    );
}
