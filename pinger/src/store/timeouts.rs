//! How long a server is waited for that takes a connection and says nothing.
//!
//! Each limit is far above what a server needs that is well, for what follows a limit costs time
//! again: rows that are sent twice, a question that is asked anew.

use std::future::Future;
use std::time::Duration;

/// What is said of a server that is silent for too long.
pub(super) const SILENT: &str = "no answer in time: the server or the network is slow";

/// The longest waits for a server, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// At the start of a run, for all that is looked at then: the server is away after that, and
    /// probing begins.
    pub start: Duration,
    /// For a server to take a piece of an insert, 256 KiB: even 100 kbit/s bring it over in this
    /// time, unless the server is stuck.
    pub piece: Duration,
    /// For the end of an insert, once all is sent but what the connection holds: a busy disk needs
    /// seconds, the merges that it waits for some more.
    pub insert: Duration,
    /// For the answer to a question: it is a matter of milliseconds.
    pub question: Duration,
    /// At the end of a run, for a store that does not take rows which are safe on disk: the next
    /// run sends them.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            piece: Duration::from_secs(30),
            insert: Duration::from_secs(120),
            question: Duration::from_secs(30),
            close: Duration::from_secs(5),
        }
    }
}

/// The result of a question, if there is one before `limit` has passed.
///
/// # Errors
/// [`SILENT`] after that.
pub(super) async fn in_time<T>(
    limit: Duration,
    question: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::time::timeout(limit, question)
        .await
        .map_err(|_| SILENT.to_owned())
}
