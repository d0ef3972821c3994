//! `pinger schema` against the real ClickHouse: hosts that meet, retention, what it tells.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use pinger::store::schema::{self, MIGRATIONS};
use store_kit::{Home, Server, await_that, required};

impl Server {
    /// `pinger schema …` on a database of this server, as the user `boss`.
    fn schema(&self, database: &str, arguments: &[&str]) -> Command {
        let url = format!("http://boss@127.0.0.1:{}/{database}", self.port);
        let mut command = Command::new(required("PINGER_BIN"));
        command
            .arg("schema")
            .args(arguments)
            .args(["--store", &url])
            .env("PINGER_STORE_PASSWORD", "geheim")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A database as an earlier pinger left it, with three results.
    fn of_version(&self, database: &str, version: usize) {
        self.sql_in("default", &format!("CREATE DATABASE {database}"));
        for migration in &MIGRATIONS[..version] {
            for statement in migration.sql.trim_end().split(";\n") {
                self.sql_in(database, statement);
            }
            self.sql_in(
                database,
                &format!(
                    "INSERT INTO schema_migrations (version, name, checksum) \
                     VALUES ({}, '{}', '{}')",
                    migration.version,
                    migration.name,
                    migration.checksum()
                ),
            );
        }
        self.sql_in(
            database,
            "INSERT INTO results (run, sequence, time_due, outcome) VALUES \
             (1, 0, now64(9), 'reply'), (1, 1, now64(9), 'error'), (1, 2, now64(9), 'lost')",
        );
    }

    /// Tables and versions: what a fully migrated database has, each once.
    fn assert_migrated_once(&self, database: &str) {
        let versions = "SELECT arraySort(groupArray(version)) FROM schema_migrations FORMAT TSV";
        let all: Vec<String> = (1..=schema::VERSION).map(|v| v.to_string()).collect();
        assert_eq!(
            self.sql_in(database, versions),
            format!("[{}]\n", all.join(","))
        );
        assert_eq!(self.locks(database), "");
    }

    fn locks(&self, database: &str) -> String {
        self.sql_in(database, "SHOW TABLES LIKE 'schema_lock%' FORMAT TSV")
    }
}

/// What a command said, one line an element; it must have succeeded.
fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Starts `count` appliers at once; what each said.
fn apply_at_once(server: &Server, database: &str, count: usize) -> Vec<Vec<String>> {
    let children: Vec<_> = (0..count)
        .map(|_| {
            server
                .schema(database, &["apply"])
                .spawn()
                .expect("PINGER_BIN runs")
        })
        .collect();
    let ends = children.into_iter().map(|child| {
        let output = child.wait_with_output().expect("it was started");
        said(&output)
    });
    ends.collect()
}

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
fn lock_of_another(server: &Server, database: &str, silent_s: u32) {
    server.sql_in("default", &format!("CREATE DATABASE {database}"));
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

#[test]
fn the_lock_of_a_dead_host_is_taken_over_and_that_of_a_living_one_is_not() {
    let server = Server::start();
    lock_of_another(&server, "dead", 61);
    let all = apply_at_once(&server, "dead", 3);
    let took = all.iter().flatten().filter(|line| {
        line.contains("took over the lock of pinger 0.0.1 on far, process 7")
            && line.contains("no sign of life for 6")
    });
    assert_eq!(took.count(), 1, "{all:?}");
    server.assert_migrated_once("dead");

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
        server.sql("SELECT count() FROM results FORMAT TSV") == "4\n"
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

    let nowhere = server.schema("nowhere", &["status"]).output();
    let error = nowhere.expect("PINGER_BIN runs").stderr;
    let error = String::from_utf8_lossy(&error);
    assert!(error.contains("no database `nowhere`"), "{error}");
}

#[test]
fn to_look_makes_no_store() {
    let home = Home::new();
    for arguments in [["schema", "status"], ["schema", "retention"]] {
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
}
