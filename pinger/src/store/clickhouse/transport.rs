//! HTTP connections to a server, by TLS or without.

use std::time::Duration;

use clickhouse::Client;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::store::StoreError;

/// The longest a server may take to accept a connection: a host that is gone says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long an unused connection is kept: less than any server keeps it (3 seconds or more).
const POOL_IDLE: Duration = Duration::from_secs(2);

/// A client over connections as its own default makes them, but without Nagle's algorithm: that
/// waits for the server's delayed acknowledgement in the middle of an insert.
pub(super) fn client(secure: Option<HttpsConnector<HttpConnector>>) -> Client {
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
pub(super) fn secure_connector() -> Result<HttpsConnector<HttpConnector>, StoreError> {
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
