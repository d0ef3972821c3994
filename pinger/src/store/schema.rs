//! Brings a database to the schema this program was built with, or says why it cannot be used.
//!
//! The migrations are files of `schema/`, numbered from 1 without gaps, embedded here with their
//! checksums. An applied one is recorded in `schema_migrations` and never changes again.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::StoreError;
use super::clickhouse::{Connection, DATABASE};
use crate::shell;
pub use apply::Applied;
pub(super) use apply::{Company, apply};
pub(super) use layout::{Shards, shards};
pub use retention::Retention;
pub(super) use status::write_columns;
pub use status::{Status, write_tables};
pub use tables::{Content, Table};
mod apply;
pub mod cluster;
pub mod command;
mod layout;
mod lock;
mod retention;
mod statements;
mod status;
mod tables;

/// Somebody to tell what is being done, a line at a time.
pub type Say<'a> = dyn FnMut(&str) + 'a;

/// One numbered step of the schema.
#[derive(Debug)]
pub struct Migration {
    /// Its number; the highest one is the version of the schema.
    pub version: u32,
    /// What it does, in a word.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// All migrations in order.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "tables_and_views",
        sql: include_str!("../../../schema/001_tables_and_views.sql"),
    },
    Migration {
        version: 2,
        name: "every_probe",
        sql: include_str!("../../../schema/002_every_probe.sql"),
    },
    Migration {
        version: 3,
        name: "nothing_is_lost",
        sql: include_str!("../../../schema/003_nothing_is_lost.sql"),
    },
    Migration {
        version: 4,
        name: "answers_sooner",
        sql: include_str!("../../../schema/004_answers_sooner.sql"),
    },
];

/// Version of the schema that this program writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

impl Migration {
    /// SHA-256 of the statements, hexadecimal.
    pub fn checksum(&self) -> String {
        hex(&Sha256::digest(self.sql))
    }
}

/// A migration as a database has it on record.
#[derive(Clone, Debug, PartialEq, Eq, clickhouse::Row, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its checksum when it was applied.
    pub checksum: String,
}

/// How a database's schema differs from this program's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No migration was applied yet.
    #[error(
        "it has none yet, and this pinger needs version {VERSION}\n  \
         `pinger schema apply {option}` creates it"
    )]
    Missing {
        /// The option that names the database.
        option: String,
    },
    /// The last migrations are missing.
    #[error(
        "it has version {found}, and this pinger needs version {VERSION}\n  \
         `pinger schema apply {option}` upgrades it and keeps the data"
    )]
    Older {
        /// The version found.
        found: u32,
        /// The option that names the database.
        option: String,
    },
    /// A newer pinger was here.
    #[error(
        "it has version {found}, and this pinger knows up to version {VERSION}\n  \
         use the newer pinger that made it, or another database (the last part of the URL, or \
         another --data-dir for the embedded store)"
    )]
    Newer {
        /// The version found.
        found: u32,
    },
    /// A migration differs from the one that was applied.
    #[error(
        "its migration {version} was `{found_name}` with checksum {found}, and this pinger's \
         version {VERSION} of the schema has `{name}` with checksum {known}\n  \
         an applied migration must not change: use the pinger that made the database, or another \
         database"
    )]
    Edited {
        /// Number of the migration.
        version: u32,
        /// Its name here.
        name: String,
        /// Its name on record.
        found_name: String,
        /// Start of the checksum here.
        known: String,
        /// Start of the checksum on record.
        found: String,
    },
    /// The record has a gap.
    #[error(
        "it has migration {found} without migration {missing}; this pinger needs all up to \
         {VERSION}\n  \
         somebody changed the table schema_migrations by hand: restore it, or use another database"
    )]
    Gap {
        /// The first missing number.
        missing: u32,
        /// The number found in its place.
        found: u32,
    },
    /// Its tables are those of a cluster.
    #[error(
        "it has version {found}, this pinger needs version {VERSION}, and its tables stand for \
         those of the cluster `{cluster}`\n  \
         `pinger schema print --cluster {cluster} --from {found}` prints what upgrades all servers \
         of it; docs/store.md tells how to apply that"
    )]
    Cluster {
        /// The version found.
        found: u32,
        /// The cluster's name.
        cluster: String,
    },
    /// Another host thought that we were dead.
    #[error(
        "its lock went to {by} while we were at work, for we were silent too long\n  \
         let that one finish, then run this again: what is done already is not done twice"
    )]
    LockLost {
        /// Who has the lock now.
        by: String,
    },
}

/// What `print` writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// For all servers of this cluster; `None`: for one server.
    pub cluster: Option<String>,
    /// The cluster's database that pinger writes to; `None`: `pinger`.
    pub database: Option<String>,
    /// Only what leads on from this version.
    pub from: u32,
}

/// Writes the statements of the schema, for people who apply them by other means.
///
/// # Errors
/// When `out` cannot be written.
pub fn print(out: &mut impl std::io::Write, script: &Script) -> std::io::Result<()> {
    let migrations = &MIGRATIONS[(script.from as usize).min(MIGRATIONS.len())..];
    if let Some(name) = &script.cluster {
        let cluster = cluster::Cluster {
            name: name.clone(),
            database: script.database.as_deref().unwrap_or(DATABASE).to_owned(),
            is_replicated: true,
        };
        let parts = cluster::parts(&cluster, migrations).map_err(std::io::Error::other)?;
        return cluster::write(out, &parts);
    }
    for migration in migrations {
        let Migration { version, name, sql } = migration;
        writeln!(
            out,
            "-- Migration {version}: {name}\n\n{}\n",
            sql.trim_end()
        )?;
        writeln!(out, "{};\n", record(migration))?;
    }
    Ok(())
}

/// What a database is called, and how to name it to `pinger schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// For people.
    name: String,
    /// For the command line.
    option: String,
}

impl Place {
    /// A database at a URL.
    pub(super) fn at(url: &str) -> Self {
        Self {
            name: url.to_owned(),
            option: format!("--store {url}"),
        }
    }

    /// The embedded store: its port is another one each time, and lets nobody in who has no key.
    pub(super) fn embedded(data_dir: &Path) -> Self {
        let dir = data_dir.display();
        Self {
            name: format!("the embedded store in {dir}"),
            option: format!("--data-dir {}", shell::word(&dir.to_string())),
        }
    }
}

/// Checks that a database has exactly this program's schema.
///
/// # Errors
/// When it has not, or the server refuses.
pub async fn check(connection: &Connection) -> Result<(), StoreError> {
    check_at(connection, &Place::at(connection.url())).await
}

/// The same of a database that is known by another name.
async fn check_at(connection: &Connection, place: &Place) -> Result<(), StoreError> {
    let recorded = recorded(connection).await?;
    judge(compare(&recorded, MIGRATIONS), place).map_err(|source| connection.schema(source))
}

/// Whether a version, as `compare` found it, is exactly this program's.
fn judge(found: Result<u32, SchemaError>, place: &Place) -> Result<(), SchemaError> {
    let option = place.option.clone();
    match found? {
        VERSION => Ok(()),
        0 => Err(SchemaError::Missing { option }),
        found => Err(SchemaError::Older { found, option }),
    }
}

async fn recorded(connection: &Connection) -> Result<Vec<Recorded>, StoreError> {
    let exists = connection
        .fetch_one::<u8>("EXISTS TABLE schema_migrations")
        .await?;
    if exists == 0 {
        return Ok(Vec::new());
    }
    connection
        .fetch_all(
            "SELECT version, name, toString(checksum) AS checksum \
             FROM schema_migrations FINAL ORDER BY version",
        )
        .await
}

/// The statement that puts a migration on record.
fn record(migration: &Migration) -> String {
    format!(
        "INSERT INTO schema_migrations (version, name, checksum, program) \
         SELECT {}, '{}', '{}', '{}'",
        migration.version,
        migration.name,
        migration.checksum(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The version a database has, if its record is a beginning of `known`.
fn compare(recorded: &[Recorded], known: &[Migration]) -> Result<u32, SchemaError> {
    for (index, found) in recorded.iter().enumerate() {
        let expected = index as u32 + 1;
        if found.version != expected {
            return Err(SchemaError::Gap {
                missing: expected,
                found: found.version,
            });
        }
        let Some(migration) = known.get(index) else {
            return Err(SchemaError::Newer {
                found: recorded.len() as u32,
            });
        };
        let checksum = migration.checksum();
        if found.name != migration.name || found.checksum != checksum {
            return Err(SchemaError::Edited {
                version: expected,
                name: migration.name.to_owned(),
                found_name: found.name.clone(),
                known: checksum.chars().take(12).collect(),
                found: found.checksum.chars().take(12).collect(),
            });
        }
    }
    Ok(recorded.len() as u32)
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::statements::statements;
    use super::*;

    const KNOWN: &[Migration] = &[
        Migration {
            version: 1,
            name: "one",
            sql: "SELECT 1",
        },
        Migration {
            version: 2,
            name: "two",
            sql: "SELECT 2",
        },
    ];

    fn on_record(version: u32, name: &str, checksum: String) -> Recorded {
        Recorded {
            version,
            name: name.to_owned(),
            checksum,
        }
    }

    #[test]
    fn migrations_are_numbered_from_one_and_have_statements() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(!statements(migration.sql).is_empty(), "{}", migration.name);
        }
    }

    /// Databases hold these checksums, and refuse a pinger that has others: a change of the schema
    /// is a new file. Version 4 has not been released yet; it is added here when it is.
    #[test]
    fn released_migrations_never_change() {
        let released = [
            "9ce5878bae813ed49c56ef7c0dfea332248f9ab2b17850db13b912120a7084e9",
            "e56039e4dfc9351f15b7e666e00a88af39ad85f0a0795d3daa8a072ce4603099",
            "c6f7d6fd1fa64cbfadcbb2bcc2fd4af824cb03a51f20b77bc55491fbdd700edb",
        ];
        for (migration, checksum) in MIGRATIONS.iter().zip(released) {
            assert_eq!(migration.checksum(), checksum, "{}", migration.name);
        }
    }

    #[test]
    fn a_record_is_compared_with_what_is_known() {
        let one = || on_record(1, "one", KNOWN[0].checksum());
        let two = || on_record(2, "two", KNOWN[1].checksum());
        let three = || on_record(3, "three", KNOWN[1].checksum());
        assert_eq!(compare(&[], KNOWN), Ok(0));
        assert_eq!(compare(&[one()], KNOWN), Ok(1));
        assert_eq!(compare(&[one(), two()], KNOWN), Ok(2));
        assert_eq!(
            compare(&[one(), two(), three()], KNOWN),
            Err(SchemaError::Newer { found: 3 })
        );
        assert_eq!(
            compare(&[one(), three()], KNOWN),
            Err(SchemaError::Gap {
                missing: 2,
                found: 3
            })
        );
        let edited = on_record(2, "two", KNOWN[0].checksum());
        assert!(matches!(
            compare(&[one(), edited], KNOWN),
            Err(SchemaError::Edited { version: 2, .. })
        ));
        let renamed = on_record(1, "uno", KNOWN[0].checksum());
        assert!(matches!(
            compare(&[renamed], KNOWN),
            Err(SchemaError::Edited { version: 1, .. })
        ));
    }

    #[test]
    fn advice_names_the_database_as_the_user_can() {
        let told = |place: Place| judge(Ok(3), &place).unwrap_err().to_string();
        let server = told(Place::at("http://me@db:8123/net"));
        assert!(
            server.contains("`pinger schema apply --store http://me@db:8123/net`"),
            "{server}"
        );
        let embedded = told(Place::embedded(Path::new("/data")));
        assert!(
            embedded.contains("`pinger schema apply --data-dir /data`"),
            "{embedded}"
        );
    }

    #[test]
    fn print_holds_every_statement_and_its_record() {
        let mut out = Vec::new();
        print(&mut out, &Script::default()).expect("a vector takes all");
        let out = String::from_utf8(out).expect("text");
        for migration in MIGRATIONS {
            assert!(out.contains(migration.sql.trim_end()));
            assert!(out.contains(&migration.checksum()));
        }
        let all: usize = MIGRATIONS
            .iter()
            .map(|migration| statements(migration.sql).len())
            .sum();
        assert_eq!(statements(&out).len(), all + MIGRATIONS.len());
    }
}
