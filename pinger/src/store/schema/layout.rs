//! Whether a database is that of a cluster: its tables stand for those of the shards.

use crate::store::StoreError;
use crate::store::clickhouse::Connection;

/// Where the rows of a cluster's database are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Shards {
    /// Name of the cluster in the servers' configuration.
    pub(in crate::store) cluster: String,
    /// The database that each shard has.
    pub(in crate::store) database: String,
}

/// The cluster behind this database; `None` if it holds its rows itself.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(in crate::store) async fn shards(
    connection: &Connection,
) -> Result<Option<Shards>, StoreError> {
    let sql = "SELECT engine_full FROM system.tables \
         WHERE database = currentDatabase() AND engine = 'Distributed' LIMIT 1";
    let found: Vec<String> = connection.fetch_all(sql).await?;
    Ok(found.first().and_then(|engine| parse(engine)))
}

/// Reads `Distributed('cluster', 'database', 'table', key)`.
fn parse(engine: &str) -> Option<Shards> {
    let arguments = engine.strip_prefix("Distributed(")?;
    let mut words = arguments
        .split(", ")
        .map(|word| word.trim_matches(['\'', '`']).to_owned());
    Some(Shards {
        cluster: words.next()?,
        database: words.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_tells_its_cluster() {
        let found = parse("Distributed('two', 'net_shard', 'results', cityHash64(destination))");
        let (cluster, database) = ("two".to_owned(), "net_shard".to_owned());
        assert_eq!(found, Some(Shards { cluster, database }));
        assert_eq!(parse("MergeTree ORDER BY x"), None);
    }
}
