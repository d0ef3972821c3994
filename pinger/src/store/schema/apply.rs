//! Applies what a database lacks of the schema, statement by statement, and says how it goes.
//!
//! In: a connection, and somebody to tell. Out: a database of this program's version. Never
//! changes one that this program does not know, or that is part of a cluster.

use std::fmt::Write;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::lock::{BEAT, Lock, MIGRATION};
use super::{MIGRATIONS, Migration, Say, SchemaError, VERSION, compare, layout, record, recorded};
use crate::store::StoreError;
use crate::store::clickhouse::Connection;
use crate::store::embedded::Definitions;
use crate::store::schema::statements::{statements, summary};

/// The longest silence about a statement that goes on.
const SAY_MAX: Duration = Duration::from_secs(300);

/// What `apply` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The version before; zero if there was none.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

/// Who else may be changing the schema at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nobody: the data directory of the embedded engine is locked.
    Alone,
    /// Any host that reaches the server.
    Others,
}

/// Creates the database if there is none, applies the migrations it lacks, and records them.
///
/// Every statement can be repeated, so what was cut short is completed by the next try. With
/// `definitions`, none is put on record whose tables did not come onto the disk.
///
/// # Errors
/// When the server refuses, or the database has a schema that this program does not know.
pub(crate) async fn apply(
    connection: &Connection,
    company: Company,
    definitions: Option<&Definitions>,
    say: &mut Say<'_>,
) -> Result<Applied, StoreError> {
    connection.create_database().await?;
    let from = version(connection).await?;
    if from == VERSION {
        return Ok(Applied { from, to: from });
    }
    if let Some(shards) = layout::shards(connection).await? {
        let source = SchemaError::Cluster {
            found: from,
            cluster: shards.cluster,
        };
        return Err(connection.schema(source));
    }
    let from = match company {
        Company::Alone => migrate(connection, None, definitions, from, say).await?,
        Company::Others => {
            let lock = Lock::take(connection, say).await?;
            let done = migrate_anew(connection, &lock, definitions, say).await;
            lock.release_after(done).await?
        }
    };
    Ok(Applied { from, to: VERSION })
}

/// Migrates from the version that is there now: another host may have been at work meanwhile.
async fn migrate_anew(
    connection: &Connection,
    lock: &Lock<'_>,
    definitions: Option<&Definitions>,
    say: &mut Say<'_>,
) -> Result<u32, StoreError> {
    let from = version(connection).await?;
    migrate(connection, Some(lock), definitions, from, say).await
}

/// The version on record.
async fn version(connection: &Connection) -> Result<u32, StoreError> {
    let recorded = recorded(connection).await?;
    compare(&recorded, MIGRATIONS).map_err(|source| connection.schema(source))
}

/// Applies all migrations behind `from`, and returns it.
async fn migrate(
    connection: &Connection,
    lock: Option<&Lock<'_>>,
    definitions: Option<&Definitions>,
    from: u32,
    say: &mut Say<'_>,
) -> Result<u32, StoreError> {
    for migration in &MIGRATIONS[from as usize..] {
        if from > 0 {
            say(&format!(
                "version {}: {}",
                migration.version,
                migration.title()
            ));
        }
        if let Some(definitions) = definitions {
            definitions.keep()?;
        }
        let all = statements(migration.sql);
        for (index, statement) in all.iter().enumerate() {
            let step = Step {
                connection,
                lock,
                definitions,
                name: format!(
                    "version {}, statement {} of {}, {}",
                    migration.version,
                    index + 1,
                    all.len(),
                    summary(statement)
                ),
            };
            step.run(statement, say).await?;
        }
        connection.execute(&record(migration)).await?;
    }
    Ok(from)
}

/// A statement that may take long.
pub(super) struct Step<'a> {
    pub(super) connection: &'a Connection,
    /// Kept alive meanwhile.
    pub(super) lock: Option<&'a Lock<'a>>,
    /// Looked at meanwhile and when it is done.
    pub(super) definitions: Option<&'a Definitions>,
    /// What is said of it.
    pub(super) name: String,
}

impl Step<'_> {
    /// Runs the statement, and says now and then how far it is.
    ///
    /// # Errors
    /// When the server refuses it, the lock was lost, or a definition did not come onto the disk.
    pub(super) async fn run(&self, sql: &str, say: &mut Say<'_>) -> Result<(), StoreError> {
        let begun = Instant::now();
        let id = query_id(self.lock.is_some());
        let mut work = pin!(self.connection.execute_as(sql, &id));
        let mut say_at = BEAT;
        loop {
            if let Ok(done) = timeout(BEAT, work.as_mut()).await {
                return done.and_then(|()| self.check());
            }
            // On a full disk the statement may wait for room, and nobody would know why.
            self.check()?;
            if let Some(lock) = self.lock {
                lock.beat().await?;
            }
            if begun.elapsed() < say_at {
                continue;
            }
            // Who waits for hours need not read hundreds of lines.
            say_at = (2 * say_at).min(begun.elapsed() + SAY_MAX);
            let progress = progress(self.connection, &id).await;
            say(&format!(
                "{}: {}",
                self.name,
                told(begun.elapsed(), progress)
            ));
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.definitions.map_or(Ok(()), Definitions::check)
    }
}

/// Names a statement, so that its progress can be asked for, and its end seen to.
fn query_id(is_locked: bool) -> String {
    let kind = if is_locked {
        MIGRATION
    } else {
        "pinger-schema-"
    };
    format!("{kind}{}-{}", std::process::id(), super::super::wall_ns())
}

/// Rows read, and rows to read as far as the server knows.
async fn progress(connection: &Connection, id: &str) -> Option<(u64, u64)> {
    let sql = format!(
        "SELECT read_rows, total_rows_approx FROM system.processes WHERE query_id = '{id}'"
    );
    // Who may not see processes sees no progress.
    let found: Vec<(u64, u64)> = connection.fetch_all(&sql).await.ok()?;
    found.into_iter().next().filter(|(read, _)| *read > 0)
}

fn told(elapsed: Duration, progress: Option<(u64, u64)>) -> String {
    let mut text = format!("at work for {} s", elapsed.as_secs());
    // Writing to a string cannot fail.
    let _ = match progress {
        Some((read, total)) if total > 0 => {
            write!(
                text,
                ", {} % of {total} rows",
                100 * read.min(total) / total
            )
        }
        Some((read, _)) => write!(text, ", {read} rows read"),
        None => Ok(()),
    };
    text
}

impl Migration {
    /// What it is about: the first line of its file, without number and full stop.
    pub(super) fn title(&self) -> &str {
        let line = self.sql.lines().next().unwrap_or_default();
        line.split_once(": ")
            .map_or(self.name, |(_, title)| title)
            .trim_end_matches('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_far_as_it_is_known() {
        let told = |progress| told(Duration::from_secs(20), progress);
        assert_eq!(told(None), "at work for 20 s");
        assert_eq!(told(Some((5, 0))), "at work for 20 s, 5 rows read");
        assert_eq!(told(Some((5, 20))), "at work for 20 s, 25 % of 20 rows");
        // The server's guess may have been too low.
        assert_eq!(told(Some((9, 3))), "at work for 20 s, 100 % of 3 rows");
    }

    #[test]
    fn every_migration_says_what_it_is_about() {
        for migration in MIGRATIONS {
            let start = format!("-- Schema version {}: ", migration.version);
            assert!(migration.sql.starts_with(&start), "{}", migration.name);
            assert!(migration.title().len() > 10, "{}", migration.title());
        }
    }
}
