//! One connection to a ClickHouse server over HTTP: statements in, rows or bytes out, and the
//! server's errors told apart.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use super::StoreError;
use super::schema::SchemaError;
use fault::ServerFault;

pub(super) mod fault;
pub(super) mod verdict;

/// The database of the embedded store, and of a URL that names none.
pub(super) const DATABASE: &str = "pinger";

/// Environment variable with the password for a store given by URL.
const PASSWORD_VARIABLE: &str = "PINGER_STORE_PASSWORD";

/// The longest a server may take to accept a connection: a host that is gone says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long an unused connection is kept: less than any server keeps it (3 seconds or more).
const POOL_IDLE: Duration = Duration::from_secs(2);

/// The longest a server may take to accept a chunk of an insert: it takes a chunk within
/// milliseconds unless it is stuck.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest a server may take to finish an insert: a busy disk needs seconds.
const END_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Scheme, host and port only.
    pub origin: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The password; never shown.
    pub password: String,
    /// One more header to send, name and value: the key of the embedded engine.
    pub header: Option<(String, String)>,
}

impl Address {
    /// Reads a `--store` URL; the password comes from the file or else from the environment.
    ///
    /// # Errors
    /// When the URL is not of the documented form, or the password file cannot be read.
    pub(super) fn from_url(text: &str, password_file: Option<&Path>) -> Result<Self, StoreError> {
        let mut address = parse(text)?;
        address.password = match password_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(StoreError::file(
                    "read the password from",
                    path,
                    "check the path given to --store-password-file",
                ))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => std::env::var(PASSWORD_VARIABLE).unwrap_or_default(),
        };
        Ok(address)
    }

    /// The URL as people write it, for messages.
    fn url(&self) -> String {
        let (scheme, rest) = self
            .origin
            .split_once("://")
            .unwrap_or(("http", &self.origin));
        let user = if self.user == "default" {
            String::new()
        } else {
            format!("{}@", self.user)
        };
        format!("{scheme}://{user}{rest}/{}", self.database)
    }
}

/// Without what is secret, so that no message or log can show it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.url()).finish()
    }
}

fn parse(text: &str) -> Result<Address, StoreError> {
    let bad = |shown: &str, reason: &str| StoreError::Url {
        url: shown.to_owned(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(text).map_err(|source| {
        // What cannot be parsed may hold a password anywhere.
        let shown = if text.contains('@') { "URL" } else { text };
        bad(shown, &format!("not a URL ({source})"))
    })?;
    if url.password().is_some() {
        // Cannot fail: a URL with a password has a host.
        let _ = url.set_password(None);
        return Err(bad(
            url.as_str(),
            "a password in it would show in process lists",
        ));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad(text, "the scheme must be http or https"));
    }
    let Some(host) = url.host_str() else {
        return Err(bad(text, "it names no host"));
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(text, "it has a part behind ? or #"));
    }
    let database = match url.path().trim_matches('/') {
        "" => DATABASE,
        name => name,
    };
    if !database
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(bad(text, "a database name has letters, digits and _ only"));
    }
    let user = if url.username().is_empty() {
        "default"
    } else {
        url.username()
    };
    Ok(Address {
        origin: format!("{}://{host}:{}", url.scheme(), port(text, &url)),
        database: database.to_owned(),
        user: user.to_owned(),
        password: String::new(),
        header: None,
    })
}

/// The port written in a URL, else ClickHouse's for that scheme. `Url` drops a written port that
/// is the scheme's own, `:80` or `:443`, which ClickHouse's never is unless written.
fn port(text: &str, url: &Url) -> u16 {
    let authority = text.split('/').nth(2).unwrap_or_default();
    let (own, clickhouse) = match url.scheme() {
        "https" => (443, 8443),
        _ => (80, 8123),
    };
    let is_written = authority.ends_with(&format!(":{own}"));
    url.port()
        .unwrap_or(if is_written { own } else { clickhouse })
}

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
    /// `statement` ends in `FORMAT Native`.
    pub(super) async fn insert_blocks(
        &self,
        statement: &str,
        token: &str,
        blocks: impl IntoIterator<Item = Bytes>,
    ) -> clickhouse::error::Result<()> {
        let mut insert = self
            .raw
            .insert_formatted_with(statement)
            .with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT))
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
        for block in blocks {
            insert.send(block).await?;
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

/// A client over connections as its own default makes them, but without Nagle's algorithm: that
/// waits for the server's delayed acknowledgement in the middle of an insert.
fn client(secure: Option<HttpsConnector<HttpConnector>>) -> Client {
    let mut http = HttpClient::builder(TokioExecutor::new());
    http.pool_idle_timeout(POOL_IDLE);
    match secure {
        Some(connector) => Client::with_http_client(http.build(connector)),
        None => Client::with_http_client(http.build(connector())),
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector
}

/// A connector by TLS that trusts whom this host trusts, or the file that SSL_CERT_FILE names.
fn secure_connector() -> Result<HttpsConnector<HttpConnector>, StoreError> {
    let mut connector = connector();
    connector.enforce_http(false);
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(StoreError::file(
            "load",
            "the certificates that this host trusts",
            "install the package ca-certificates, or let SSL_CERT_FILE name a file of them",
        ))?;
    Ok(tls.https_only().enable_http1().wrap_connector(connector))
}

/// Why [`Connection::ask`] stopped.
#[derive(Debug)]
pub(super) enum Asked {
    /// The store failed.
    Store(StoreError),
    /// The caller's output failed.
    Out(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_address_user_and_database() {
        for (text, origin, user, database, shown) in [
            (
                "http://h",
                "http://h:8123",
                "default",
                "pinger",
                "http://h:8123/pinger",
            ),
            ("http://u@h:9/d", "http://h:9", "u", "d", "http://u@h:9/d"),
            (
                "http://u@[::1]:8123/",
                "http://[::1]:8123",
                "u",
                "pinger",
                "http://u@[::1]:8123/pinger",
            ),
            (
                "http://h:80/d",
                "http://h:80",
                "default",
                "d",
                "http://h:80/d",
            ),
            (
                "https://u@h/d",
                "https://h:8443",
                "u",
                "d",
                "https://u@h:8443/d",
            ),
            (
                "https://h:443",
                "https://h:443",
                "default",
                "pinger",
                "https://h:443/pinger",
            ),
        ] {
            let address = parse(text).expect(text);
            assert_eq!(
                (
                    address.origin.as_str(),
                    address.user.as_str(),
                    address.database.as_str()
                ),
                (origin, user, database)
            );
            assert_eq!(address.url(), shown);
        }
    }

    #[test]
    fn an_address_shows_nothing_secret() {
        let address = Address {
            password: "geheim".to_owned(),
            header: Some(("X".to_owned(), "geheim".to_owned())),
            ..parse("https://u@h/d").expect("a URL")
        };
        assert_eq!(format!("{address:?}"), "Address(\"https://u@h:8443/d\")");
    }

    #[test]
    fn a_bad_url_is_refused_and_its_password_is_not_shown() {
        for (text, reason) in [
            ("localhost:8123", "scheme"),
            ("ftp://h/d", "scheme"),
            ("http://", "URL"),
            ("http://u:geheim@h/d", "process lists"),
            ("http://u:geheim@h:x/d", "URL"),
            ("http://h/a/b", "database name"),
            ("http://h/a;b", "database name"),
            ("http://h/d?x=1", "behind ?"),
        ] {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(!message.contains("geheim"), "{message}");
        }
    }
}
