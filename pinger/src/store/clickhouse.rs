//! One connection to a ClickHouse server over HTTP: statements in, rows or bytes out, and the
//! server's errors told apart.

use bytes::Bytes;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;

use super::StoreError;
use super::schema::SchemaError;
use super::timeouts::Timeouts;
pub(super) use address::{Address, DATABASE};
use fault::ServerFault;
use transport::{client, secure_connector};

mod address;
pub(super) mod fault;
mod transport;
pub(super) mod verdict;

/// Bytes of an insert that are handed to the connection at a time: a server that takes none for
/// long is stuck, however long a slow network needs for all of them.
const PIECE_BYTES: usize = 256 << 10;

/// A server and a database in it, ready to be asked.
pub struct Connection {
    client: Client,
    /// The same without compression of its own, for bytes that are sent as they are.
    raw: Client,
    address: Address,
    url: String,
    /// Of an https URL: opens connections by TLS.
    secure: Option<HttpsConnector<HttpConnector>>,
}

impl Connection {
    /// Prepares a connection by TLS or without, as the address says; nothing is sent yet.
    ///
    /// # Errors
    /// When TLS is asked for and this host knows no certificates to trust.
    pub(super) fn to_server(address: Address) -> Result<Self, StoreError> {
        let secure = if address.origin.starts_with("https:") {
            Some(secure_connector()?)
        } else {
            None
        };
        Ok(Self::by(address, secure))
    }

    /// Prepares a connection without TLS; nothing is sent yet.
    pub(super) fn new(address: Address) -> Self {
        Self::by(address, None)
    }

    fn by(address: Address, secure: Option<HttpsConnector<HttpConnector>>) -> Self {
        let mut client = client(secure.clone())
            .with_url(&address.origin)
            .with_database(&address.database)
            .with_user(&address.user)
            .with_password(&address.password)
            .with_product_info("pinger", env!("CARGO_PKG_VERSION"))
            // Row types and tables are of one version: `schema::check` saw to that.
            .with_validation(false)
            .with_compression(Compression::Lz4);
        if let Some((name, value)) = &address.header {
            client = client.with_header(name, value);
        }
        for (name, value) in &address.settings {
            client = client.with_setting(name, value);
        }
        let url = address.url();
        let raw = client.clone().with_compression(Compression::None);
        Self {
            client,
            raw,
            address,
            url,
            secure,
        }
    }

    /// A second connection to the same place, for another thread's runtime.
    pub(super) fn another(&self) -> Self {
        Self::by(self.address.clone(), self.secure.clone())
    }

    /// The URL for messages; holds no password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Server and database, whoever asks.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.address.origin, self.address.database)
    }

    /// Makes sure that this user may write to a table.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn may_insert(&self, table: &str, column: &str) -> Result<(), StoreError> {
        // Not one row: nothing is written, but all that is checked before is.
        self.execute(&format!("INSERT INTO {table} ({column}) SELECT 0 WHERE 0"))
            .await
    }

    /// Runs a statement that returns nothing.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.client
            .query_raw(sql)
            .execute()
            .await
            .map_err(|error| self.error(&error))
    }

    /// The same for a statement that may take long, under an id by which its progress can be
    /// asked for.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn execute_as(&self, sql: &str, id: &str) -> Result<(), StoreError> {
        self.client
            .query_raw(sql)
            .with_setting("query_id", id)
            .execute()
            .await
            .map_err(|error| self.error(&error))
    }

    /// Creates this connection's database, if the server lacks it.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn create_database(&self) -> Result<(), StoreError> {
        // Asked first, because most users of an existing database may not create one.
        match self.execute("SELECT 1").await {
            Err(StoreError::UnknownDatabase { .. }) => {}
            other => return other,
        }
        let sql = format!("CREATE DATABASE IF NOT EXISTS {}", self.address.database);
        let client = self.client.clone().with_database("default");
        client
            .query_raw(&sql)
            .execute()
            .await
            .map_err(|error| self.error(&error))
    }

    /// The first row of an answer.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or there is no row.
    pub(super) async fn fetch_one<T: RowOwned + RowRead>(
        &self,
        sql: &str,
    ) -> Result<T, StoreError> {
        self.client
            .query_raw(sql)
            .fetch_one()
            .await
            .map_err(|error| self.error(&error))
    }

    /// All rows of an answer.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn fetch_all<T: RowOwned + RowRead>(
        &self,
        sql: &str,
    ) -> Result<Vec<T>, StoreError> {
        self.client
            .query_raw(sql)
            .fetch_all()
            .await
            .map_err(|error| self.error(&error))
    }

    /// Runs any statement and hands on what comes, chunk by chunk, in the format asked for,
    /// unless the statement names one itself.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses; [`Asked::Out`] when `take` fails.
    pub(super) async fn ask(
        &self,
        sql: &str,
        format: &str,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Asked> {
        let refused = |error: clickhouse::error::Error| Asked::Store(self.error(&error));
        let mut cursor = self
            .client
            .query_raw(sql)
            .fetch_bytes(format)
            .map_err(refused)?;
        while let Some(chunk) = cursor.next().await.map_err(refused)? {
            take(&chunk).map_err(Asked::Out)?;
        }
        Ok(())
    }

    /// Inserts blocks that are in ClickHouse's Native format and compressed already, as they are;
    /// a second insert under the same token changes nothing.
    ///
    /// `statement` ends in `FORMAT Native`. A server that is silent for longer than `timeouts`
    /// allow is given up.
    pub(super) async fn insert_blocks(
        &self,
        statement: &str,
        token: &str,
        mut blocks: Bytes,
        timeouts: &Timeouts,
    ) -> clickhouse::error::Result<()> {
        let mut insert = self
            .raw
            .insert_formatted_with(statement)
            .with_timeouts(Some(timeouts.piece), Some(timeouts.insert))
            .with_setting("decompress", "1")
            // Acknowledged means written: the server must not answer before it has the part.
            .with_setting("async_insert", "0")
            // Nor, in a cluster, before the shards have theirs.
            .with_setting("distributed_foreground_insert", "1")
            // The views have grouped what they write; grouping it again takes as long.
            .with_setting("optimize_on_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            // The tables that materialized views fill drop a repeated segment as well.
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        while !blocks.is_empty() {
            let piece = blocks.split_to(blocks.len().min(PIECE_BYTES));
            insert.send(piece).await?;
        }
        insert.end().await
    }

    /// A schema error with this server's name.
    pub(super) fn schema(&self, source: SchemaError) -> StoreError {
        let database = self.address.database.clone();
        StoreError::Schema {
            url: self.url.clone(),
            database,
            source: Box::new(source),
        }
    }

    /// What an error of the client means to the user.
    pub(super) fn error(&self, error: &clickhouse::error::Error) -> StoreError {
        let url = self.url.clone();
        let user = self.address.user.clone();
        let database = self.address.database.clone();
        match ServerFault::of(error) {
            Some(fault) if fault.is_authentication() => StoreError::Password { url, user },
            Some(fault) if fault.is_unknown_database() => {
                StoreError::UnknownDatabase { url, database }
            }
            Some(fault) if fault.is_read_only() => StoreError::ReadOnly {
                url,
                user,
                database,
                message: fault.message,
            },
            Some(fault) if fault.is_foreign() => StoreError::NoClickHouse {
                url,
                status: fault.status(),
            },
            Some(fault) => StoreError::Server {
                server: match self.address.header {
                    // The engine of the embedded store: its address is nobody's concern.
                    Some(_) => "ClickHouse".to_owned(),
                    None => format!("ClickHouse at {url}"),
                },
                code: fault.code,
                message: fault.message,
            },
            None if fault::is_of_tls(error) => StoreError::Tls {
                url,
                reason: fault::root(error),
            },
            None => StoreError::Unreachable {
                url,
                reason: fault::root(error),
            },
        }
    }
}

/// Why [`Connection::ask`] stopped.
#[derive(Debug)]
pub(super) enum Asked {
    /// The store failed.
    Store(StoreError),
    /// The caller's output failed.
    Out(std::io::Error),
}
