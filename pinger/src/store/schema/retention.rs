//! For how long rows are kept, and how that is changed.
//!
//! In: days for each table. Out: the statements that set them, also on rows that are there
//! already. The times stand in the tables alone, so later migrations leave them as they are.

use super::Say;
use super::apply::{Company, Step};
use super::layout::{self, Shards};
use super::lock::Lock;
use super::tables::{Table, aged_by, tables};
use crate::store::StoreError;
use crate::store::clickhouse::Connection;
use crate::store::embedded::Definitions;

/// Days for which rows are kept; `None` changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Raw results.
    pub raw: Option<u32>,
    /// Rollups by the minute.
    pub minute: Option<u32>,
    /// Rollups by the hour.
    pub hour: Option<u32>,
}

/// The ages of a [`Retention`] in its order, as the tables' TTLs have them.
const AGES: [&str; 3] = ["toDateTime(time_due)", "minute", "hour"];

impl Retention {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Age and days of what is to be changed.
    fn changes(&self) -> impl Iterator<Item = (&'static str, u32)> {
        AGES.into_iter()
            .zip([self.raw, self.minute, self.hour])
            .filter_map(|(age, days)| Some((age, days?)))
    }
}

/// Makes `change`; never while another changes the schema, for that may be of the same tables.
///
/// # Errors
/// When the user may not change a table, or the server cannot be reached.
pub(super) async fn change(
    connection: &Connection,
    company: Company,
    definitions: Option<&Definitions>,
    change: &Retention,
    say: &mut Say<'_>,
) -> Result<(), StoreError> {
    match company {
        Company::Alone => change_tables(connection, None, definitions, change, say).await,
        Company::Others => {
            let lock = Lock::take(connection, say).await?;
            let done = change_tables(connection, Some(&lock), definitions, change, say).await;
            lock.release_after(done).await
        }
    }
}

async fn change_tables(
    connection: &Connection,
    lock: Option<&Lock<'_>>,
    definitions: Option<&Definitions>,
    change: &Retention,
    say: &mut Say<'_>,
) -> Result<(), StoreError> {
    let shards = layout::shards(connection).await?;
    if let Some(definitions) = definitions {
        definitions.keep()?;
    }
    for (age, days) in change.changes() {
        for table in aged_by(connection, shards.as_ref(), age).await? {
            let step = Step {
                connection,
                lock,
                definitions,
                name: format!("{table}: {days} days"),
            };
            for statement in statements(&table, age, days, shards.as_ref()) {
                step.run(&statement, say).await?;
            }
        }
    }
    Ok(())
}

/// The tables that keep rows for a time.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) async fn kept(connection: &Connection) -> Result<Vec<Table>, StoreError> {
    let shards = layout::shards(connection).await?;
    let all = tables(connection, shards.as_ref()).await?;
    Ok(all
        .into_iter()
        .filter(|table| table.kept.is_some())
        .collect())
}

/// The first one keeps ClickHouse from writing all rows anew for the second one: of parts that
/// stay, only the time when they go is computed again, and parts that are due go at once.
fn statements(table: &str, age: &str, days: u32, shards: Option<&Shards>) -> [String; 2] {
    let table = match shards {
        Some(Shards { cluster, database }) => format!("{database}.{table} ON CLUSTER '{cluster}'"),
        None => table.to_owned(),
    };
    [
        format!("ALTER TABLE {table} MODIFY SETTING materialize_ttl_recalculate_only = 1"),
        format!(
            "ALTER TABLE {table} MODIFY TTL {age} + INTERVAL {days} DAY \
             SETTINGS materialize_ttl_after_modify = 1"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        assert!(Retention::default().is_empty());
        let change = Retention {
            raw: Some(14),
            hour: Some(3650),
            ..Retention::default()
        };
        let found: Vec<_> = change.changes().collect();
        assert_eq!(found, [("toDateTime(time_due)", 14), ("hour", 3650)]);
    }

    #[test]
    fn a_cluster_is_changed_as_a_whole() {
        let shards = Shards {
            cluster: "two".to_owned(),
            database: "net_shard".to_owned(),
        };
        let [_, change] = statements("results", "toDateTime(time_due)", 9, Some(&shards));
        assert_eq!(
            change,
            "ALTER TABLE net_shard.results ON CLUSTER 'two' MODIFY TTL \
             toDateTime(time_due) + INTERVAL 9 DAY SETTINGS materialize_ttl_after_modify = 1"
        );
    }
}
