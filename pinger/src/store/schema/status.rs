//! What a database has of the schema, for people.
//!
//! In: a connection. Out: a [`Status`], which prints itself. Changes nothing.

use std::fmt;

use super::layout::{self, Shards};
use super::lock::{self, Holder};
use super::tables::{Table, missing, tables};
use super::{MIGRATIONS, Place, Recorded, VERSION, compare};
use crate::mistake::{bytes, grouped};
use crate::store::StoreError;
use crate::store::clickhouse::Connection;

/// What `pinger schema status` tells.
#[derive(Debug)]
pub struct Status {
    place: String,
    /// Why the schema does not fit; `None` if it does.
    trouble: Option<String>,
    shards: Option<Shards>,
    migrations: Vec<Applied>,
    lock: Option<Holder>,
    tables: Vec<Table>,
}

/// A migration that a database has had.
#[derive(Clone, Debug, clickhouse::Row, serde::Deserialize)]
struct Applied {
    version: u32,
    name: String,
    checksum: String,
    applied: String,
    program: String,
}

impl Status {
    /// Whether the schema is exactly this program's.
    pub fn fits(&self) -> bool {
        self.trouble.is_none()
    }
}

/// Looks at a database.
///
/// # Errors
/// When the server cannot be reached, or refuses what any reader may do.
pub(super) async fn status(connection: &Connection, place: Place) -> Result<Status, StoreError> {
    let shards = layout::shards(connection).await?;
    let migrations = migrations(connection).await?;
    let tables = tables(connection, shards.as_ref()).await?;
    let trouble = match trouble(&place, &migrations) {
        None => dropped(&missing(connection, &tables).await?),
        trouble => trouble,
    };
    Ok(Status {
        trouble,
        place: place.name,
        lock: lock::holder(connection).await?,
        tables,
        migrations,
        shards,
    })
}

async fn migrations(connection: &Connection) -> Result<Vec<Applied>, StoreError> {
    let exists: u8 = connection
        .fetch_one("EXISTS TABLE schema_migrations")
        .await?;
    if exists == 0 {
        return Ok(Vec::new());
    }
    let sql = "SELECT version, name, toString(checksum) AS checksum, \
            toString(toDateTime(applied, 'UTC')) AS applied, program \
         FROM schema_migrations FINAL ORDER BY version";
    connection.fetch_all(sql).await
}

/// The words of `check` about these migrations.
fn trouble(place: &Place, migrations: &[Applied]) -> Option<String> {
    let recorded: Vec<Recorded> = migrations
        .iter()
        .map(|found| Recorded {
            version: found.version,
            name: found.name.clone(),
            checksum: found.checksum.clone(),
        })
        .collect();
    let judged = super::judge(compare(&recorded, MIGRATIONS), place);
    judged.err().map(|error| error.to_string())
}

/// What to say of tables that are on record and not there.
fn dropped(missing: &[&str]) -> Option<String> {
    (!missing.is_empty()).then(|| {
        format!(
            "it has version {VERSION} on record, and these tables are not there: {}\n  \
             somebody dropped or renamed them: bring them back, or use another database",
            missing.join(", ")
        )
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            None => writeln!(
                f,
                "{}: version {VERSION}, as this pinger needs it",
                self.place
            )?,
            Some(trouble) => writeln!(f, "{}: {trouble}", self.place)?,
        }
        if let Some(Shards { cluster, database }) = &self.shards {
            writeln!(
                f,
                "cluster `{cluster}`, rows in the databases `{database}` of its shards"
            )?;
        }
        if let Some(holder) = &self.lock {
            let state = if holder.is_dead() {
                "left by"
            } else {
                "being changed by"
            };
            let Holder { owner, silent_s } = holder;
            writeln!(f, "{state} {owner}, last seen {silent_s} s ago")?;
        }
        writeln!(f)?;
        self.write_migrations(f)?;
        if !self.tables.is_empty() {
            writeln!(f)?;
            write_tables(f, &self.tables)?;
        }
        Ok(())
    }
}

impl Status {
    fn write_migrations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["migration", "applied", "by pinger", "checksum"].map(str::to_owned)];
        let known = MIGRATIONS.len();
        for version in 1..=known.max(self.migrations.len()) {
            let ours = MIGRATIONS.get(version - 1);
            let found = self
                .migrations
                .iter()
                .find(|found| found.version as usize == version);
            let name = found
                .map(|found| found.name.as_str())
                .or(ours.map(|ours| ours.name))
                .unwrap_or("?");
            let fits = match (found, ours) {
                (Some(found), Some(ours)) if found.checksum == ours.checksum() => "fits",
                (Some(_), Some(_)) => "differs",
                (Some(_), None) => "unknown here",
                (None, _) => "",
            };
            let [applied, program] = match found {
                Some(found) => [found.applied.clone(), found.program.clone()],
                None => ["not applied".to_owned(), String::new()],
            };
            rows.push([
                format!("{version} {name}"),
                applied,
                program,
                fits.to_owned(),
            ]);
        }
        write_columns(f, &rows, &[])
    }
}

/// Tables, a line each.
pub fn write_tables(f: &mut dyn fmt::Write, tables: &[Table]) -> fmt::Result {
    let head = ["table", "rows", "on disk", "oldest", "newest", "kept for"];
    let mut rows = vec![head.map(str::to_owned)];
    for table in tables {
        let (count, [oldest, newest]) = match &table.content {
            None => ("not for us".to_owned(), Default::default()),
            Some(content) if content.rows == 0 => ("0".to_owned(), Default::default()),
            Some(content) => (
                grouped(content.rows.into()),
                [content.oldest.clone(), content.newest.clone()],
            ),
        };
        let bytes = table.bytes.map_or_else(|| "?".to_owned(), bytes);
        let kept = table.kept.clone().unwrap_or_else(|| "ever".to_owned());
        rows.push([table.name.clone(), count, bytes, oldest, newest, kept]);
    }
    write_columns(f, &rows, &[1, 2])
}

/// Rows in columns two spaces apart, the named ones flush right.
pub(in crate::store) fn write_columns<const N: usize>(
    f: &mut dyn fmt::Write,
    rows: &[[String; N]],
    right: &[usize],
) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if right.contains(&column) {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tables::Content;
    use super::*;

    fn applied(index: usize) -> Applied {
        Applied {
            version: MIGRATIONS[index].version,
            name: MIGRATIONS[index].name.to_owned(),
            checksum: MIGRATIONS[index].checksum(),
            applied: "2026-11-21 10:00:00".to_owned(),
            program: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_status_tells_all() {
        let edited = Applied {
            checksum: "0".repeat(64),
            ..applied(1)
        };
        let status = Status {
            place: "http://h/net".to_owned(),
            trouble: Some("it has trouble".to_owned()),
            shards: None,
            migrations: vec![applied(0), edited],
            lock: Some(Holder {
                owner: "pinger 1 on h".to_owned(),
                silent_s: 7,
            }),
            tables: vec![
                Table {
                    name: "results".to_owned(),
                    content: Some(Content {
                        rows: 1_234_567,
                        oldest: "2026-11-14 00:00:00".to_owned(),
                        newest: "2026-11-21 10:00:00".to_owned(),
                    }),
                    bytes: Some(5_872_025),
                    kept: Some("7 days".to_owned()),
                },
                Table {
                    name: "runs".to_owned(),
                    content: None,
                    bytes: None,
                    kept: None,
                },
            ],
        };
        let shown = status.to_string();
        let expected = "\
http://h/net: it has trouble
being changed by pinger 1 on h, last seen 7 s ago

migration             applied              by pinger  checksum
1 tables_and_views    2026-11-21 10:00:00  0.1.0      fits
2 every_probe         2026-11-21 10:00:00  0.1.0      differs
3 nothing_is_lost     not applied
4 answers_sooner      not applied

table          rows  on disk  oldest               newest               kept for
results   1,234,567  5.6 MiB  2026-11-14 00:00:00  2026-11-21 10:00:00  7 days
runs     not for us        ?                                            ever
";
        let words = |text: &str| {
            let lines = text.lines();
            lines
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&shown)[..9], words(expected)[..9]);
        assert!(shown.ends_with(expected.split_once("\n\ntable").map_or("", |(_, end)| end)));
        assert!(!status.fits());
    }
}
