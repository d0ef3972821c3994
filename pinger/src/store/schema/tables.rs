//! The tables as an operator sees them: how much they hold, of when, and for how long.
//!
//! In: a connection. Out: a [`Table`] each, and statements that change how long rows are kept.
//! Reads only; counts and times come from what ClickHouse knows without reading rows.

use super::layout::Shards;
use crate::store::StoreError;
use crate::store::clickhouse::Connection;

/// The column by which a table's rows are old or new; tables without one are not listed.
const TIMES: [(&str, &str); 11] = [
    ("results", "time_due"),
    ("misses", "time_due"),
    ("results_run", "last"),
    ("results_minute", "minute"),
    ("rtt_minute", "minute"),
    ("results_hour", "hour"),
    ("rtt_hour", "hour"),
    ("gaps", "from"),
    ("runs", "started"),
    ("sources", "updated"),
    ("destinations", "updated"),
];

/// A table of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What it holds; `None` if we may not look.
    pub content: Option<Content>,
    /// Bytes on disk; `None` if that is not known here, as in a cluster.
    pub bytes: Option<u64>,
    /// For how long rows are kept; `None`: for ever.
    pub kept: Option<String>,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
pub struct Content {
    /// Rows.
    pub rows: u64,
    /// Time of the oldest one, UTC; without meaning if there is none.
    pub oldest: String,
    /// Time of the newest one.
    pub newest: String,
}

/// What `system.tables` says of a table.
#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct Known {
    name: String,
    engine: String,
    total_bytes: Option<u64>,
    engine_full: String,
}

/// All tables of the schema that are there.
///
/// # Errors
/// When the server cannot be reached, or refuses even to list its tables.
pub(super) async fn tables(
    connection: &Connection,
    shards: Option<&Shards>,
) -> Result<Vec<Table>, StoreError> {
    let here = known(connection, "currentDatabase()").await?;
    let there = match shards {
        Some(Shards { database, .. }) => known(connection, &format!("'{database}'")).await?,
        None => Vec::new(),
    };
    let mut tables = Vec::new();
    for (name, time) in TIMES {
        let Some(table) = here.iter().find(|known| known.name == name) else {
            continue;
        };
        let is_whole = table.engine != "Distributed";
        // The servers of a cluster keep rows for equally long; this one is one of them.
        let keeper = if is_whole {
            Some(table)
        } else {
            there.iter().find(|known| known.name == name)
        };
        tables.push(Table {
            name: name.to_owned(),
            content: content(connection, name, time).await?,
            bytes: table.total_bytes.filter(|_| is_whole),
            kept: keeper.and_then(|known| kept(&known.engine_full)),
        });
    }
    Ok(tables)
}

/// What rows come in through: it holds none itself.
const ENTRANCE: &str = "incoming";

/// The tables of the schema that somebody dropped; not those that this user may not see.
///
/// # Errors
/// When the server cannot be reached.
pub(super) async fn missing(
    connection: &Connection,
    seen: &[Table],
) -> Result<Vec<&'static str>, StoreError> {
    let mut missing = Vec::new();
    for name in TIMES.map(|(name, _)| name).into_iter().chain([ENTRANCE]) {
        if seen.iter().any(|table| table.name == name) {
            continue;
        }
        let question = format!("EXISTS TABLE {name}");
        match connection.fetch_one::<u8>(&question).await {
            Ok(0) => missing.push(name),
            Ok(_) | Err(StoreError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// The tables whose rows go at an age by `expression`, as their engines tell.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) async fn aged_by(
    connection: &Connection,
    shards: Option<&Shards>,
    expression: &str,
) -> Result<Vec<String>, StoreError> {
    let database = match shards {
        Some(Shards { database, .. }) => format!("'{database}'"),
        None => "currentDatabase()".to_owned(),
    };
    let clause = format!(" TTL {expression} + toInterval");
    let found = known(connection, &database).await?.into_iter();
    let mut names: Vec<String> = found
        .filter(|known| known.engine_full.contains(&clause))
        .map(|known| known.name)
        .collect();
    names.sort();
    Ok(names)
}

async fn known(connection: &Connection, database: &str) -> Result<Vec<Known>, StoreError> {
    let sql = format!(
        "SELECT name, engine, total_bytes, engine_full FROM system.tables \
         WHERE database = {database} AND engine NOT LIKE '%View'"
    );
    connection.fetch_all(&sql).await
}

async fn content(
    connection: &Connection,
    table: &str,
    time: &str,
) -> Result<Option<Content>, StoreError> {
    let sql = format!(
        "SELECT count() AS rows, toString(toDateTime(min({time}), 'UTC')) AS oldest, \
            toString(toDateTime(max({time}), 'UTC')) AS newest FROM {table}"
    );
    match connection.fetch_one(&sql).await {
        Ok(content) => Ok(Some(content)),
        // A user who may not read this table may see the rest.
        Err(StoreError::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The time in a table's TTL, in words, out of its full engine clause.
pub(super) fn kept(engine: &str) -> Option<String> {
    let (_, after) = engine.split_once(" TTL ")?;
    let (_, interval) = after.split_once("toInterval")?;
    let (unit, rest) = interval.split_once('(')?;
    let (number, _) = rest.split_once(')')?;
    let unit = unit.to_lowercase();
    let plural = if number == "1" { "" } else { "s" };
    Some(format!("{number} {unit}{plural}"))
}

#[cfg(test)]
mod tests {
    use super::super::MIGRATIONS;
    use super::*;

    #[test]
    fn every_table_that_holds_rows_is_listed() {
        for migration in MIGRATIONS {
            let tables = migration.sql.split("CREATE TABLE IF NOT EXISTS ").skip(1);
            for after in tables {
                let name = after.split_whitespace().next().unwrap_or_default();
                let is_listed = TIMES.iter().any(|(listed, _)| *listed == name);
                let needs_none = matches!(name, "incoming" | "schema_migrations");
                assert!(is_listed != needs_none, "{name}");
            }
        }
    }

    #[test]
    fn the_time_kept_is_read_from_the_engine() {
        let engine = |ttl: &str| {
            format!(
                "MergeTree PARTITION BY toDate(time_due) ORDER BY (a, toStartOfHour(time_due)){ttl} \
                 SETTINGS ttl_only_drop_parts = 1, index_granularity = 8192"
            )
        };
        for (ttl, expected) in [
            ("", None),
            (
                " TTL toDateTime(time_due) + toIntervalDay(7)",
                Some("7 days"),
            ),
            (" TTL minute + toIntervalDay(1)", Some("1 day")),
            (" TTL hour + toIntervalYear(5)", Some("5 years")),
        ] {
            assert_eq!(kept(&engine(ttl)).as_deref(), expected);
        }
    }
}
