//! An embedded ClickHouse that runs as long as this lives, and a way to ask it that tells how long
//! an answer took and how much was read for it.
//!
//! In: an empty data directory of its own. It never measures itself: whoever asks does.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clickhouse::Client;
use pinger::config::{Source, SpoolOptions, StoreChoice, StoreOptions};
use pinger::destination::Destination;
use pinger::stats::{Counts, RowCounts};
use pinger::store::embedded::Endpoint;
use pinger::store::{RunInfo, Store};
use tokio::runtime::Runtime;

use crate::bench::DataDir;
use crate::process;

/// How long background merges may take to come to rest.
const MERGES_LIMIT: Duration = Duration::from_secs(300);
/// How often they are looked at.
const MERGES_POLL: Duration = Duration::from_millis(500);

/// The running engine.
pub(crate) struct Database {
    client: Client,
    runtime: Runtime,
    // The engine ends before its directory goes.
    store: Store,
    directory: DataDir,
}

/// What a query gave.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) took: Duration,
    /// Rows of tables that the engine read for it.
    pub(crate) rows_read: u64,
}

impl Database {
    /// Starts the engine with pinger's schema in an empty directory, for a run of this source and
    /// of its destinations.
    ///
    /// # Errors
    /// There is no engine, or it does not start.
    pub(crate) fn start(
        source: u32,
        run_ns: u64,
        probed: &[Destination],
        spool: &SpoolOptions,
    ) -> Result<Self> {
        Self::resume(DataDir::new()?, source, run_ns, probed, spool)
    }

    /// The same in a directory that another one has left.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn resume(
        directory: DataDir,
        source: u32,
        run_ns: u64,
        probed: &[Destination],
        spool: &SpoolOptions,
    ) -> Result<Self> {
        let source = Source {
            id: source,
            location: 0,
            host: 0,
            sourceid: 0,
        };
        let run = RunInfo {
            run: run_ns,
            interface: "lo".to_owned(),
            mode: "measurement".to_owned(),
            wall_offset_ns: i64::try_from(run_ns).context("the run begins too late")?,
            address: None,
        };
        let store = Store::open(&options(directory.path(), spool), &source, probed, &run)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime for the store")?;
        let client = connect(directory.path())?;
        Ok(Self {
            client,
            runtime,
            store,
            directory,
        })
    }

    /// Asks, and waits for the whole answer in this format.
    ///
    /// # Errors
    /// The engine refuses, or is gone.
    pub(crate) fn ask(&self, query: &str, format: &str) -> Result<Answer> {
        let started = Instant::now();
        let (bytes, rows_read) = self
            .runtime
            .block_on(async {
                let mut cursor = self.client.query_raw(query).fetch_bytes(format)?;
                let bytes = cursor.collect().await?;
                let read = cursor.summary().and_then(|summary| summary.read_rows());
                Ok::<_, clickhouse::error::Error>((bytes, read.unwrap_or(0)))
            })
            .with_context(|| format!("the engine refuses: {}", short(query)))?;
        Ok(Answer {
            took: started.elapsed(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            rows_read,
        })
    }

    /// Asks for one number.
    ///
    /// # Errors
    /// As [`Self::ask`], or the answer is no number.
    pub(crate) fn number(&self, query: &str) -> Result<f64> {
        let answer = self.ask(query, "TSV")?.text;
        let parsed = answer.trim().parse();
        parsed.with_context(|| format!("the answer to `{query}` is no number: {answer}"))
    }

    /// Runs a statement that gives nothing.
    ///
    /// # Errors
    /// The engine refuses, or is gone.
    pub(crate) fn execute(&self, statement: &str) -> Result<()> {
        self.runtime
            .block_on(self.client.query_raw(statement).execute())
            .with_context(|| format!("the engine refuses: {}", short(statement)))
    }

    /// Waits until no merge runs any more, or for [`MERGES_LIMIT`].
    ///
    /// # Errors
    /// The engine is gone.
    pub(crate) fn rest(&self) -> Result<()> {
        let deadline = Instant::now() + MERGES_LIMIT;
        while Instant::now() < deadline && self.number("SELECT count() FROM system.merges")? > 0.0 {
            std::thread::sleep(MERGES_POLL);
        }
        Ok(())
    }

    /// The store that keeps the engine running.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The engine's process: our one child.
    ///
    /// # Errors
    /// There is none, or another one too.
    pub(crate) fn engine(&self) -> Result<libc::pid_t> {
        let all = process::children("self")?;
        let found = all.len();
        ensure!(
            found == 1,
            "there are {found} processes where the engine should be"
        );
        Ok(all[0])
    }

    /// Closes the store, which ends the engine, and gives its directory and what became of the
    /// rows that were offered.
    pub(crate) fn close(self, limit: Duration) -> (DataDir, RowCounts) {
        let rows = self.store.close(&Counts::default(), limit);
        (self.directory, rows)
    }
}

/// An embedded store in this directory.
fn options(directory: &Path, spool: &SpoolOptions) -> StoreOptions {
    StoreOptions {
        choice: StoreChoice::Embedded,
        port: None,
        password_file: None,
        data_dir: directory.to_owned(),
        spool: *spool,
    }
}

/// Wall clock nanoseconds since 1970.
pub(crate) fn wall_ns() -> Result<u64> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("this machine's clock is set to a time before 1970")?;
    u64::try_from(since.as_nanos()).context("this machine's clock is set to a time after 2554")
}

fn connect(directory: &Path) -> Result<Client> {
    let endpoint = Endpoint::read(directory)
        .with_context(|| format!("the engine on {directory:?} is not shared"))?;
    let client = Client::default()
        .with_url(endpoint.url)
        .with_database(endpoint.database)
        .with_user(endpoint.user)
        .with_password(endpoint.password)
        .with_header(endpoint.header_name, endpoint.header_value)
        .with_compression(clickhouse::Compression::None)
        // Without it the head of an answer is sent before the last row is read.
        .with_setting("wait_end_of_query", "1");
    let settings = endpoint.settings.iter();
    Ok(settings.fold(client, |client, (name, value)| {
        client.with_setting(name, value)
    }))
}

/// The beginning of a statement, for an error.
fn short(statement: &str) -> String {
    const CHARS: usize = 200;
    statement.chars().take(CHARS).collect()
}
