//! `pinger schema` against the real ClickHouse: hosts that meet, retention, clusters, rights.

mod apply;
mod cluster;
mod retention;
#[path = "../store_kit/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;
mod users;

use std::process::{Command, Output, Stdio};

use pinger::store::schema::{self, MIGRATIONS};
use store_kit::{Server, required};

impl Server {
    /// `pinger schema …` on a database of this server, as the user `boss`.
    pub(crate) fn schema(&self, database: &str, arguments: &[&str]) -> Command {
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
    pub(crate) fn of_version(&self, database: &str, version: usize) {
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
    pub(crate) fn assert_migrated_once(&self, database: &str) {
        let versions = "SELECT arraySort(groupArray(version)) FROM schema_migrations FORMAT TSV";
        let all: Vec<String> = (1..=schema::VERSION).map(|v| v.to_string()).collect();
        assert_eq!(
            self.sql_in(database, versions),
            format!("[{}]\n", all.join(","))
        );
        assert_eq!(self.locks(database), "");
    }

    pub(crate) fn locks(&self, database: &str) -> String {
        self.sql_in(database, "SHOW TABLES LIKE 'schema_lock%' FORMAT TSV")
    }
}

/// What a command said, one line an element; it must have succeeded.
pub(crate) fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Starts `count` appliers at once; what each said.
pub(crate) fn apply_at_once(server: &Server, database: &str, count: usize) -> Vec<Vec<String>> {
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
