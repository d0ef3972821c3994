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
use timeouts::in_time;
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
mod timeouts;
mod writer;

pub use error::StoreError;
pub use suggestions::{Suggestion, suggestions};
pub use timeouts::Timeouts;
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
        Self::open_within(&Timeouts::default(), options, source, destinations, run)
    }

    /// The same, with other limits for a server that is silent.
    ///
    /// # Errors
    /// As above.
    pub fn open_within(
        timeouts: &Timeouts,
        options: &StoreOptions,
        source: &Source,
        destinations: &[Destination],
        run: &RunInfo,
    ) -> Result<Self, StoreError> {
        let mut session = Session::open(options, Sharing::Own)?;
        let run = RunRow::start(run, source.id, destinations.len());
        let found = session.block_on(find(&session, options, timeouts.start))?;
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
            away: found.away,
            is_embedded: session.is_embedded(),
            look: writer::LOOK,
            timeouts: *timeouts,
        };
        let (writer, notices) = Writer::start(session.connection(), setup)?;
        session.keep_up(writer.notices_in());
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

    /// Why rows wait at the moment, in the store's own words; `None` while it takes them all.
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

async fn find(
    session: &Session,
    options: &StoreOptions,
    limit: Duration,
) -> Result<Found, StoreError> {
    let connection = session.connection();
    if session.is_embedded() {
        let definitions = session.definitions();
        schema::apply(connection, Company::Alone, definitions, &mut tell).await?;
        let version = version(connection).await?;
        let place = options.data_dir.display();
        return Ok(Found {
            description: format!("embedded ClickHouse {version} in {place}"),
            away: None,
        });
    }
    let url = connection.url();
    let looked = match in_time(limit, look(connection)).await {
        Ok(looked) => looked?,
        Err(words) => Err(format!("{words} ({url})")),
    };
    Ok(match looked {
        Ok(version) => Found {
            description: format!("ClickHouse {version} at {url}"),
            away: None,
        },
        Err(reason) => Found {
            description: format!("ClickHouse at {url}, which is away"),
            away: Some(reason),
        },
    })
}

/// Looks whether a server may be written to; its version, or why it is not there just now, in
/// words. That is no reason not to probe.
async fn look(connection: &Connection) -> Result<Result<String, String>, StoreError> {
    let look = async {
        schema::check(connection).await?;
        for (table, key) in INSERTED {
            connection.may_insert(table, key).await?;
        }
        version(connection).await
    };
    match look.await {
        Ok(version) => Ok(Ok(version)),
        Err(error) if error.may_pass() => {
            let text = error.to_string();
            Ok(Err(text.lines().next().unwrap_or_default().to_owned()))
        }
        Err(error) => Err(error),
    }
}

async fn version(connection: &Connection) -> Result<String, StoreError> {
    connection.fetch_one("SELECT version()").await
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
