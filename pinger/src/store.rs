//! The store: from chunks of rows to ClickHouse.
//!
//! In: [`RowChunk`](crate::rows::RowChunk)s through a [`ChunkSender`], which never blocks. Out:
//! rows in the tables of an embedded engine or of a server given by URL, which wait on disk until
//! it has them, and counts of what became of them. Rows that cannot be kept are counted as dropped
//! and told by a gap, never passed over in silence.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use crate::config::{Source, StoreOptions};
use crate::destination::Destination;
use crate::native::Block;
use crate::rows::mapped;
use crate::spool::Table;
use crate::stats::{Counts, RowCounts};
use crate::wire::tally::Tally;
use clickhouse::Connection;
use disk::RunKey;
use schema::Company;
use session::{Session, Sharing};
use tables::{DestinationRow, RunRow, SourceRow};
use writer::{Setup, Writer};

mod clickhouse;
mod disk;
pub mod embedded;
mod error;
pub mod export;
mod private;
pub mod schema;
mod session;
pub mod spooled;
pub mod sql;
mod suggestions;
mod tables;
mod writer;

pub use error::StoreError;
pub use suggestions::{Suggestion, suggestions};
pub use writer::{ChunkSender, QUEUE_CHUNKS, QUEUE_ROWS};

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
    /// Starts or reaches ClickHouse, makes sure of its schema, and writes down who probes what.
    ///
    /// The schema of the embedded store is applied; that of a server is only checked. A server
    /// that is away is not waited for: results wait on disk until it is there.
    ///
    /// # Errors
    /// When the engine does not start, the server refuses or has a schema of another version, the
    /// disk cannot be written, or the choice is
    /// [`StoreChoice::None`](crate::config::StoreChoice::None).
    pub fn open(
        options: &StoreOptions,
        source: &Source,
        destinations: &[Destination],
        run: &RunInfo,
    ) -> Result<Self, StoreError> {
        let mut session = Session::open(options, Sharing::Own)?;
        let run = RunRow::start(run, source.id, destinations.len());
        let found = session.block_on(find(&session, options))?;
        // Only now: who asks the engine finds the tables there.
        session.share()?;
        let setup = Setup {
            options: options.spool,
            data_dir: &options.data_dir,
            store: session.name(),
            key: RunKey {
                run: run.run(),
                source: source.id,
            },
            registration: registration(source, destinations, &run),
            is_checked: found.away.is_none(),
            is_embedded: session.is_embedded(),
            look: writer::LOOK,
        };
        let (writer, notices) = Writer::start(session.connection(), setup)?;
        session.keep_up(writer.notices_in());
        if let Some(reason) = found.away {
            // The queue of notices is empty yet.
            let _ = writer
                .notices_in()
                .try_send(format!("{reason}; results wait until it is there"));
        }
        Ok(Self {
            writer,
            session,
            run,
            notices,
            description: found.description,
        })
    }

    /// Where chunks go in; may be cloned and given to another thread.
    pub fn sender(&self) -> ChunkSender {
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

    /// Where the run counts how far it is, for those who find its results after a crash; `None`
    /// where results wait in memory, of which nothing is left then.
    pub fn tally(&self) -> Option<Arc<Tally>> {
        self.writer.tally()
    }

    /// Why rows wait at the moment, in the store's own words; `None` while it takes them.
    pub fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    /// Which store this is, in one line for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Writes what is left with the end of the run and its final counts, at most until `limit`
    /// has passed, and ends the embedded engine.
    ///
    /// Rows that do not make it in time wait on disk for the next run, or are counted as dropped
    /// if they are kept in memory only. A chunk offered after this is dropped.
    pub fn close(self, counts: &Counts, limit: Duration) -> RowCounts {
        let Self {
            mut writer,
            session,
            run,
            ..
        } = self;
        let rows = writer.close(Some((run, *counts)), limit);
        drop(session);
        rows
    }
}

/// The longest a server is waited for at the start: then it is away, and probing begins.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Tables that a run inserts into, and a column of each.
const INSERTED: [(&str, &str); 5] = [
    ("incoming", "run"),
    ("gaps", "run"),
    ("runs", "run"),
    ("sources", "id"),
    ("destinations", "id"),
];

/// What stands at the other end of the connection.
struct Found {
    /// The store in one line for people.
    description: String,
    /// Why it is not there, if it is not.
    away: Option<String>,
}

async fn find(session: &Session, options: &StoreOptions) -> Result<Found, StoreError> {
    let connection = session.connection();
    if session.is_embedded() {
        let definitions = session.definitions();
        schema::apply(connection, Company::Alone, definitions, &mut tell).await?;
    } else if let Some(reason) = away(connection).await? {
        let url = connection.url();
        return Ok(Found {
            description: format!("ClickHouse at {url}, which is away"),
            away: Some(reason),
        });
    }
    let version: String = connection.fetch_one("SELECT version()").await?;
    let description = match session.is_embedded() {
        true => format!(
            "embedded ClickHouse {version} in {}",
            options.data_dir.display()
        ),
        false => format!("ClickHouse {version} at {}", connection.url()),
    };
    Ok(Found {
        description,
        away: None,
    })
}

/// Looks whether a server may be written to; if it is not there just now, why, in words. That is
/// no reason not to probe.
async fn away(connection: &Connection) -> Result<Option<String>, StoreError> {
    let look = async {
        schema::check(connection).await?;
        for (table, key) in INSERTED {
            connection.may_insert(table, key).await?;
        }
        Ok::<_, StoreError>(())
    };
    match tokio::time::timeout(LOOK_MAX, look).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(error)) if error.may_pass() => {
            let text = error.to_string();
            Ok(text.lines().next().map(str::to_owned))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Some(format!(
            "ClickHouse at {} does not answer",
            connection.url()
        ))),
    }
}

/// An upgrade of the embedded store may take long, and there is no view yet to say so.
fn tell(text: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "pinger: schema: {text}");
}

fn registration(
    source: &Source,
    destinations: &[Destination],
    run: &RunRow,
) -> Vec<(Table, Block)> {
    let rows: Vec<_> = destinations.iter().map(DestinationRow::new).collect();
    let mut registration = vec![(Table::Sources, SourceRow::new(source, run).block())];
    if !rows.is_empty() {
        registration.push((Table::Destinations, DestinationRow::block(&rows)));
    }
    registration.push((Table::Runs, run.block()));
    registration
}

/// Applies the schema to the store, as `pinger schema apply` does.
///
/// # Errors
/// When the store cannot be used, or has a schema that this program does not know.
pub fn apply_schema(options: &StoreOptions) -> Result<schema::Applied, StoreError> {
    schema::command::apply(options, &mut |_| ())
}

/// Wall clock nanoseconds since 1970.
fn wall_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
