//! The schema for a cluster, made of the same files as that of one server.
//!
//! In: migrations and names. Out: statements in order. Pure.
//!
//! Two databases on every server: `NAME_shard` has the tables with their rows and the
//! materialized views, replicated; `NAME` has a `Distributed` table over all shards for each of
//! them, and the views. So pinger and people use `NAME` as they would use a single server's.

use std::io::{self, Write};

use super::statements::{statements, summary};
use super::{Migration, record};

/// For which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name in `remote_servers`.
    pub name: String,
    /// The database that pinger writes to.
    pub database: String,
    /// Whether one server has all done by `ON CLUSTER`, in tables that replicate. Without, as
    /// tests need it, each statement is run on every server.
    pub is_replicated: bool,
}

/// A statement and where it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Current database; `None` while there is none.
    pub database: Option<String>,
    /// The statement, without a semicolon.
    pub sql: String,
    /// Whether it must be run on one server only: it writes rows.
    pub is_once: bool,
}

/// The tables and the shard of each row: results of one destination are together, so that a
/// repeated insert finds its rows on the shard that has them.
const KEYS: [(&str, &str); 13] = [
    ("incoming", "cityHash64(destination)"),
    ("results", "cityHash64(destination)"),
    ("results_minute", "cityHash64(destination)"),
    ("results_hour", "cityHash64(destination)"),
    ("rtt_minute", "cityHash64(destination)"),
    ("rtt_hour", "cityHash64(destination)"),
    ("misses", "cityHash64(destination)"),
    ("results_run", "cityHash64(run)"),
    ("gaps", "cityHash64(run)"),
    ("runs", "cityHash64(run)"),
    ("sources", "cityHash64(id)"),
    ("destinations", "cityHash64(id)"),
    ("schema_migrations", "version"),
];

/// For how long a replicated table knows a batch that it has had: as long as one may wait in a
/// spool, seconds.
const WINDOW_S: u32 = 7 * 86_400;

/// The database that holds the rows of `database` on each shard.
pub fn shard_database(database: &str) -> String {
    format!("{database}_shard")
}

/// All statements of `migrations`, for this cluster. What fills new tables from old rows is left
/// out: no release made clusters before version 3 of the schema.
///
/// # Errors
/// When a migration holds a statement that has no form for clusters: its first line.
pub fn parts(cluster: &Cluster, migrations: &[Migration]) -> Result<Vec<Part>, String> {
    let shard = shard_database(&cluster.database);
    let everywhere = cluster.everywhere();
    let mut parts: Vec<Part> = [&shard, &cluster.database]
        .map(|name| {
            let sql = format!("CREATE DATABASE IF NOT EXISTS {name}{everywhere}");
            Part::new(None, sql)
        })
        .into();
    for migration in migrations {
        let (mut tables, mut views) = (Vec::new(), Vec::new());
        for text in statements(migration.sql) {
            let (kind, rest) = kind(text).ok_or_else(|| summary(text).to_owned())?;
            let name_end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let (name, _) = rest.split_at(name_end);
            let at = text.len() - rest.len() + name_end;
            let sql = format!("{}{everywhere}{}", &text[..at], &text[at..]);
            match kind {
                Kind::Fill => continue,
                Kind::View => views.push(Part::new(Some(&cluster.database), global(&sql))),
                Kind::Table => parts.push(Part::new(Some(&shard), cluster.replicated(&sql))),
                Kind::Hidden => parts.push(Part::new(Some(&shard), sql)),
            }
            if kind == Kind::Table && !tables.contains(&name) {
                tables.push(name);
            }
        }
        for table in tables {
            let sql = cluster.distributed(table).ok_or(table)?;
            parts.push(Part::new(Some(&cluster.database), sql));
        }
        parts.append(&mut views);
        parts.push(Part {
            is_once: true,
            ..Part::new(Some(&cluster.database), record_now(migration))
        });
    }
    Ok(parts)
}

/// Writes these statements for `clickhouse-client`, which takes many of them.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(out: &mut impl Write, parts: &[Part]) -> io::Result<()> {
    let mut current = None;
    for part in parts {
        if part.database.is_some() && part.database != current {
            current.clone_from(&part.database);
            writeln!(out, "USE {};\n", current.as_deref().unwrap_or_default())?;
        }
        writeln!(out, "{};\n", part.sql)?;
    }
    Ok(())
}

impl Part {
    fn new(database: Option<&str>, sql: String) -> Self {
        Self {
            database: database.map(str::to_owned),
            sql,
            is_once: false,
        }
    }
}

impl Cluster {
    /// Behind a name: on which servers.
    fn everywhere(&self) -> String {
        if self.is_replicated {
            format!(" ON CLUSTER '{}'", self.name)
        } else {
            String::new()
        }
    }

    /// A table's statement with an engine that copies its rows to the shard's other servers.
    fn replicated(&self, sql: &str) -> String {
        if !self.is_replicated {
            return sql.to_owned();
        }
        let mut sql = sql.to_owned();
        for kind in ["", "Replacing", "Aggregating"] {
            let plain = format!("ENGINE = {kind}MergeTree");
            sql = sql.replace(&plain, &format!("ENGINE = Replicated{kind}MergeTree"));
        }
        let window = format!("replicated_deduplication_window_seconds = {WINDOW_S}, replicated_");
        sql.replace("non_replicated_", &window)
    }

    /// The table over all shards, made anew so that it has the columns that theirs have now: it
    /// has no rows of its own.
    fn distributed(&self, table: &str) -> Option<String> {
        let (_, key) = KEYS.iter().find(|(name, _)| *name == table)?;
        let (name, database) = (&self.name, &self.database);
        let shard = shard_database(database);
        Some(format!(
            "CREATE OR REPLACE TABLE {table}{} AS {shard}.{table}\n\
             ENGINE = Distributed('{name}', '{shard}', '{table}', {key})",
            self.everywhere()
        ))
    }
}

/// What a statement is to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Makes or changes a table of the shards, which has one over all shards.
    Table,
    /// Works on the shards only.
    Hidden,
    /// Asks the tables over all shards.
    View,
    /// Makes rows of rows that were there before.
    Fill,
}

/// How statements of the migrations begin, up to the name, and what they are.
const BEGINNINGS: [(&str, Kind); 5] = [
    ("CREATE TABLE IF NOT EXISTS ", Kind::Table),
    ("ALTER TABLE ", Kind::Table),
    ("CREATE MATERIALIZED VIEW IF NOT EXISTS ", Kind::Hidden),
    ("CREATE OR REPLACE VIEW ", Kind::View),
    ("INSERT INTO ", Kind::Fill),
];

/// What a statement is, and its text from the name on.
fn kind(text: &str) -> Option<(Kind, &str)> {
    let code = code(text);
    let found = BEGINNINGS
        .iter()
        .find_map(|(beginning, kind)| Some((*kind, code.strip_prefix(beginning)?)));
    match found {
        Some((Kind::Table, rest)) if is_delete(code) => Some((Kind::Fill, rest)),
        other => other,
    }
}

/// Whether an ALTER deletes rows.
fn is_delete(code: &str) -> bool {
    let mut words = code.split_whitespace();
    words.next() == Some("ALTER") && words.nth(2) == Some("DELETE")
}

/// A statement without the comments before it.
fn code(mut text: &str) -> &str {
    while text.starts_with("--") {
        text = text
            .split_once('\n')
            .map_or("", |(_, rest)| rest.trim_start());
    }
    text
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Words that stand before JOIN or IN and belong to it.
const KINDS: [&str; 11] = [
    "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "ANY", "ALL", "ASOF", "SEMI", "ANTI", "NOT",
];

/// A view that joins what all shards have with what all shards have: the server that is asked
/// collects the right side once, for each JOIN and for each IN with a query.
fn global(view: &str) -> String {
    let pieces = pieces(view);
    let mut done: Vec<&str> = Vec::with_capacity(pieces.len() + 16);
    for (index, piece) in pieces.iter().enumerate() {
        if *piece == "JOIN" || *piece == "IN" && is_query(&pieces[index + 1..]) {
            let mut at = done.len();
            while at >= 2 && KINDS.contains(&done[at - 2]) {
                at -= 2;
            }
            if at < 2 || done[at - 2] != "GLOBAL" {
                done.insert(at, "GLOBAL ");
            }
        }
        done.push(piece);
    }
    done.concat()
}

/// A text as words and what stands between them, by turns.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while let Some(first) = text.chars().next() {
        let is_other = |c: char| is_word(c) != is_word(first);
        let (piece, rest) = text.split_at(text.find(is_other).unwrap_or(text.len()));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

/// Whether a query in brackets comes next.
fn is_query(pieces: &[&str]) -> bool {
    matches!(pieces, [bracket, "SELECT" | "WITH", ..] if bracket.trim() == "(")
}

/// The record of a migration, written before the server answers.
fn record_now(migration: &Migration) -> String {
    let setting = ") SETTINGS distributed_foreground_insert = 1 SELECT";
    record(migration).replacen(") SELECT", setting, 1)
}

#[cfg(test)]
mod tests {
    use super::super::MIGRATIONS;
    use super::*;

    fn cluster(is_replicated: bool) -> Cluster {
        Cluster {
            name: "two".to_owned(),
            database: "net".to_owned(),
            is_replicated,
        }
    }

    #[test]
    fn every_migration_has_a_form_for_clusters() {
        let parts = parts(&cluster(true), MIGRATIONS).expect("a form for all");
        for part in &parts {
            let is_everywhere = part.sql.contains(" ON CLUSTER 'two'");
            assert!(is_everywhere != part.is_once, "{}", part.sql);
            assert!(!part.sql.contains("ENGINE = MergeTree"), "{}", part.sql);
            assert!(!part.sql.contains("non_replicated"), "{}", part.sql);
        }
        let over_all = parts
            .iter()
            .filter(|part| part.sql.contains("ENGINE = Distributed("));
        assert!(over_all.count() >= 7);
        let records = parts.iter().filter(|part| part.is_once);
        assert_eq!(records.count(), MIGRATIONS.len());
    }

    fn check(is_replicated: bool, sql: &'static str, expected: &[&str]) {
        let migration = Migration {
            version: 1,
            name: "one",
            sql,
        };
        let parts = parts(&cluster(is_replicated), &[migration]).expect("a form");
        let found: Vec<_> = parts[2..parts.len() - 1]
            .iter()
            .map(|part| {
                let database = part.database.as_deref().unwrap_or_default();
                format!("{database}: {}", part.sql)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn tables_lie_on_shards_and_have_one_over_all() {
        let sql = "-- why\nCREATE TABLE IF NOT EXISTS runs (run UInt64) \
             ENGINE = ReplacingMergeTree(a) SETTINGS non_replicated_deduplication_window = 5;\n\
             ALTER TABLE runs ADD COLUMN IF NOT EXISTS b UInt8;\n";
        check(
            true,
            sql,
            &[
                "net_shard: -- why\nCREATE TABLE IF NOT EXISTS runs ON CLUSTER 'two' (run UInt64) \
                 ENGINE = ReplicatedReplacingMergeTree(a) SETTINGS \
                 replicated_deduplication_window_seconds = 604800, \
                 replicated_deduplication_window = 5",
                "net_shard: ALTER TABLE runs ON CLUSTER 'two' ADD COLUMN IF NOT EXISTS b UInt8",
                "net: CREATE OR REPLACE TABLE runs ON CLUSTER 'two' AS net_shard.runs\n\
                 ENGINE = Distributed('two', 'net_shard', 'runs', cityHash64(run))",
            ],
        );
        check(
            false,
            "ALTER TABLE runs ADD COLUMN b UInt8",
            &[
                "net_shard: ALTER TABLE runs ADD COLUMN b UInt8",
                "net: CREATE OR REPLACE TABLE runs AS net_shard.runs\n\
                 ENGINE = Distributed('two', 'net_shard', 'runs', cityHash64(run))",
            ],
        );
    }

    #[test]
    fn views_ask_all_shards_and_old_rows_are_nobodys() {
        check(
            true,
            "CREATE OR REPLACE VIEW v AS SELECT 1 FROM a LEFT ANY JOIN b WHERE c IN\n(SELECT 1);\n\
             INSERT INTO results SELECT 1;\n\
             ALTER TABLE results DELETE WHERE 1;\n\
             CREATE MATERIALIZED VIEW IF NOT EXISTS m TO results AS SELECT 1;\n",
            &[
                "net_shard: CREATE MATERIALIZED VIEW IF NOT EXISTS m ON CLUSTER 'two' TO results AS \
                 SELECT 1",
                "net: CREATE OR REPLACE VIEW v ON CLUSTER 'two' AS SELECT 1 \
                 FROM a GLOBAL LEFT ANY JOIN b WHERE c GLOBAL IN\n(SELECT 1)",
            ],
        );
    }

    #[test]
    fn every_join_and_query_is_global_once() {
        for (view, expected) in [
            ("a ASOF LEFT JOIN b", "a GLOBAL ASOF LEFT JOIN b"),
            ("a\nLEFT ANY JOIN\n(b)", "a\nGLOBAL LEFT ANY JOIN\n(b)"),
            ("a GLOBAL JOIN b JOIN c", "a GLOBAL JOIN b GLOBAL JOIN c"),
            (
                "a NOT IN\n (\n SELECT 1)",
                "a GLOBAL NOT IN\n (\n SELECT 1)",
            ),
            (
                "a IN ('x') AND b IN (SELECT 1)",
                "a IN ('x') AND b GLOBAL IN (SELECT 1)",
            ),
            ("INNER", "INNER"),
            ("JOIN", "GLOBAL JOIN"),
        ] {
            assert_eq!(global(view), expected);
        }
    }

    #[test]
    fn what_has_no_form_is_named() {
        let migration = |sql| Migration {
            version: 1,
            name: "one",
            sql,
        };
        for (sql, named) in [
            ("-- no\nOPTIMIZE TABLE runs", "OPTIMIZE TABLE runs"),
            ("CREATE TABLE IF NOT EXISTS unheard (a UInt8)", "unheard"),
        ] {
            assert_eq!(
                parts(&cluster(true), &[migration(sql)]),
                Err(named.to_owned())
            );
        }
    }

    #[test]
    fn databases_are_chosen_where_they_change() {
        let part = |database, sql: &str| Part::new(database, sql.to_owned());
        let parts = [
            part(None, "A"),
            part(Some("x"), "B"),
            part(Some("x"), "C"),
            part(Some("y"), "D"),
        ];
        let mut out = Vec::new();
        write(&mut out, &parts).expect("a vector takes all");
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out, "A;\n\nUSE x;\n\nB;\n\nC;\n\nUSE y;\n\nD;\n\n");
    }
}
