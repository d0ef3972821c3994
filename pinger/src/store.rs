//! The store: from batches of rows to ClickHouse.
//!
//! In: [`Batch`](crate::rows::Batch)es through a [`BatchSender`], which never blocks. Out: rows
//! in the `results` table of an embedded engine or of a server given by URL, and counts of what
//! became of them. Rows that cannot be kept are counted as dropped, never passed over in silence.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use crate::config::{Source, StoreOptions};
use crate::destination::Destination;
use crate::rows::mapped;
use crate::stats::{Counts, RowCounts};
use session::{Session, Sharing};
use tables::{DestinationRow, RunRow, SourceRow};
use writer::Writer;

mod clickhouse;
pub mod embedded;
mod error;
pub mod schema;
mod session;
pub mod sql;
mod suggestions;
mod tables;
mod writer;

pub use error::StoreError;
pub use suggestions::{Suggestion, suggestions};
pub use writer::{BatchSender, QUEUE_BATCHES, QUEUE_ROWS};

/// A run as the `runs` table knows it at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Key: start of the run, wall clock nanoseconds.
    pub run: u64,
    /// Network interface; empty if the routes chose several.
    pub interface: String,
    /// How packets are sent and received, for people.
    pub mode: String,
    /// Wall clock minus CLOCK_MONOTONIC, nanoseconds.
    pub wall_offset_ns: i64,
    /// Address the probes are sent from, if it is one.
    pub address: Option<IpAddr>,
}

/// An open store with its writer.
///
/// Dropping it without [`Store::close`] gives up what is not written yet.
pub struct Store {
    // The writer stands before the session: it must end before the engine does.
    writer: Writer,
    session: Session,
    run: RunRow,
    notices: Receiver<String>,
    description: String,
}

impl Store {
    /// Starts or reaches ClickHouse, makes sure of its schema, and registers source,
    /// destinations and run.
    ///
    /// The schema of the embedded store is applied; that of a server is only checked.
    ///
    /// # Errors
    /// When the engine does not start, the server cannot be reached or refuses, its schema is of
    /// another version, or the choice is [`StoreChoice::None`](crate::config::StoreChoice::None).
    pub fn open(
        options: &StoreOptions,
        source: &Source,
        destinations: &[Destination],
        run: &RunInfo,
    ) -> Result<Self, StoreError> {
        let mut session = Session::open(options, Sharing::Own)?;
        let run = RunRow::start(run, source.id, destinations.len());
        let description = session.block_on(async {
            let connection = session.connection();
            if session.is_embedded() {
                schema::apply(connection).await?;
            } else {
                schema::check(connection).await?;
            }
            let version: String = connection.fetch_one("SELECT version()").await?;
            register(&session, source, destinations, &run).await?;
            Ok::<_, StoreError>(match session.is_embedded() {
                true => format!(
                    "embedded ClickHouse {version} in {}",
                    options.data_dir.display()
                ),
                false => format!("ClickHouse {version} at {}", connection.url()),
            })
        })?;
        // Only now: who asks the engine finds the tables there.
        session.share()?;
        let (writer, notices) = Writer::start(session.connection())?;
        session.keep_up(writer.notices_in());
        Ok(Self {
            writer,
            session,
            run,
            notices,
            description,
        })
    }

    /// Where batches go in; may be cloned and given to another thread.
    pub fn sender(&self) -> BatchSender {
        self.writer.sender()
    }

    /// What became of all rows so far.
    pub fn counts(&self) -> RowCounts {
        self.writer.counts()
    }

    /// What the user should know, as it happens: an outage of the store, its end, refused rows.
    pub fn notices(&self) -> &Receiver<String> {
        &self.notices
    }

    /// Which store this is, in one line for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Writes what is left, at most until `limit` has passed, records the end of the run with its
    /// final counts, and ends the embedded engine.
    ///
    /// Rows that do not make it in time are counted as dropped. A batch offered after this is
    /// dropped.
    pub fn close(mut self, counts: &Counts, limit: Duration) -> RowCounts {
        let rows = self.writer.close(limit);
        let end = self.run.end(counts, &rows);
        let connection = self.session.connection();
        let record = async { tokio::time::timeout(limit, connection.insert("runs", [&end])).await };
        if let Ok(Err(error)) = self.session.block_on(record) {
            // The results are safe; only the summary row is missing.
            self.writer
                .notify(format!("the end of the run was not recorded: {error}"));
        }
        rows
    }
}

async fn register(
    session: &Session,
    source: &Source,
    destinations: &[Destination],
    run: &RunRow,
) -> Result<(), StoreError> {
    let connection = session.connection();
    connection
        .insert("sources", [&SourceRow::new(source, run)])
        .await?;
    let rows: Vec<_> = destinations.iter().map(DestinationRow::new).collect();
    if !rows.is_empty() {
        connection.insert("destinations", &rows).await?;
    }
    connection.insert("runs", [run]).await
}

/// Applies the schema to the store, as `pinger schema apply` does.
///
/// # Errors
/// When the store cannot be used, or has a schema that this program does not know.
pub fn apply_schema(options: &StoreOptions) -> Result<schema::Applied, StoreError> {
    let session = Session::open(options, Sharing::Guest)?;
    match session.applied() {
        Some(applied) => Ok(applied),
        None => session.block_on(schema::apply(session.connection())),
    }
}

/// Wall clock nanoseconds since 1970.
fn wall_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
