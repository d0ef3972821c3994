//! The embedded store: a ClickHouse engine of our own, as a child process on loopback.
//!
//! In: a data directory. Out: the address of a running engine that only we can use. The engine
//! ends with its `Engine`, and with this process however that ends; its data stays. If it ends
//! by itself, it is started again at the same address.
//!
//! ```text
//! data_dir/            0700
//!   lock               held (flock) by the pinger that works here and by its engine
//!   endpoint.json      0600, how to reach the engine; there while a pinger shares it
//!   engine.log         what the engine said last
//!   engine/            ClickHouse's files
//!   definitions/       its definitions before the last change of the schema
//!   config/            written afresh at each start: the engine's settings, users, keys
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::StoreError;
use super::clickhouse::{Address, Connection, DATABASE};
use config::Secrets;
pub(super) use definitions::Definitions;
use find::Program;
use keeper::{Ended, Keeper, Trouble, Word};
pub(super) use lock::DirLock;
use plan::{Files, Plan};
use port::HeldPort;

mod child;
mod config;
mod definitions;
mod endpoint;
mod find;
mod keeper;
mod listing;
mod lock;
mod mend;
mod plan;
mod port;

pub use child::child_main;
pub use endpoint::Endpoint;

/// The longest an engine may take to answer: it needs a second, and more when it has to load
/// many parts from a cold disk.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often a starting engine is asked.
const START_POLL: Duration = Duration::from_millis(50);

/// What the embedded store is asked for.
#[derive(Clone, Debug)]
pub(super) struct EmbeddedOptions {
    /// Where it keeps its files.
    pub data_dir: PathBuf,
    /// The loopback port; `None`: a free one.
    pub port: Option<u16>,
}

/// A running engine.
#[derive(Debug)]
pub(super) struct Engine {
    address: Address,
    data_dir: PathBuf,
    shared: bool,
    /// Dropped to tell the keeper to end the engine.
    words: Option<mpsc::Sender<Word>>,
    keeper: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine on the data directory and waits until it answers.
    ///
    /// # Errors
    /// When no engine is installed, the port is taken, or the engine fails to start.
    pub(super) fn start(
        options: &EmbeddedOptions,
        lock: DirLock,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self, StoreError> {
        let program = match find::program()? {
            Program::Server(path) => Program::Server(absolute(&path)?),
            Program::Library(path) => Program::Library(absolute(&path)?),
        };
        let data_dir = absolute(&options.data_dir)?;
        let port = HeldPort::take(options.port)?;
        let plan = Plan {
            program,
            data_dir: data_dir.clone(),
            port: port.number(),
            secrets: Secrets::draw()?,
        };
        let files = Files::of(&data_dir);
        files.forget_log();
        let command = plan.command(&lock)?;
        let itself = PathBuf::from(command.get_program());
        let address = Address {
            origin: format!("http://{}:{}", Ipv4Addr::LOCALHOST, port.number()),
            database: DATABASE.to_owned(),
            user: config::USER.to_owned(),
            password: plan.secrets.password.clone(),
            header: Some((config::HEADER.to_owned(), plan.secrets.key.clone())),
            // Those that it knows, which it tells when it runs.
            settings: BTreeMap::new(),
        };

        let (words, told) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let keeper = Keeper {
            plan,
            lock,
            port,
            words: told,
            trouble: Trouble::default(),
        };
        let keeper = std::thread::Builder::new()
            .name("pinger-engine".to_owned())
            .spawn(move || keeper.run(command, &started))
            .map_err(StoreError::file(
                "start a thread for",
                &files.log,
                "free some memory",
            ))?;
        let mut engine = Self {
            address,
            data_dir,
            shared: false,
            words: Some(words),
            keeper: Some(keeper),
        };
        let ended = match start.recv() {
            Ok(Ok(ended)) => ended,
            Ok(Err(source)) => {
                return Err(StoreError::File {
                    action: "execute",
                    path: itself,
                    hint: "it must be the `pinger` program: check the variable PINGER_BIN",
                    source,
                });
            }
            Err(_) => return Err(files.failure("its keeper ended".to_owned())),
        };
        let settings = runtime
            .block_on(engine.await_ready(&ended, &files))
            .inspect_err(|_| engine.stop())?;
        engine.address.settings = settings;
        Ok(engine)
    }

    /// Where the engine is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// From now on starts the engine again whenever it ends, at the same address, and tells of that
    /// through `notify`, once each time it gets into trouble.
    pub(super) fn keep_up(&self, notify: crossbeam_channel::Sender<String>) {
        if let Some(words) = &self.words {
            // A keeper that has ended has seen the engine end: who uses it finds out.
            let _ = words.send(Word::KeepUp(notify));
        }
    }

    /// Lets other processes of this user find the engine, until it ends.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn share(&mut self) -> Result<(), StoreError> {
        Endpoint::from(&self.address).write(&self.data_dir)?;
        self.shared = true;
        Ok(())
    }

    /// Waits until the engine answers: which of our settings for queries it knows.
    async fn await_ready(
        &self,
        ended: &Ended,
        files: &Files,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        // Asked in a database that exists from the start.
        let address = Address {
            database: "default".to_owned(),
            ..self.address.clone()
        };
        let connection = Connection::new(address);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match known_settings(&connection).await {
                Ok(settings) => return Ok(settings),
                Err(StoreError::Unreachable { .. }) => {}
                Err(other) => return Err(files.failure(other.to_string())),
            }
            if let Ok(status) = ended.try_recv() {
                let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                return Err(files.failure(format!("it ended at once ({status})")));
            }
            if Instant::now() > deadline {
                let waited = START_LIMIT.as_secs();
                return Err(files.failure(format!("no answer within {waited} seconds")));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn stop(&mut self) {
        if std::mem::take(&mut self.shared) {
            endpoint::remove(&self.data_dir);
        }
        drop(self.words.take());
        if let Some(keeper) = self.keeper.take() {
            // A keeper that panicked has closed the engine's stdin, which ends it too.
            let _ = keeper.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Those of our settings for queries that an engine knows: it refuses queries with others.
async fn known_settings(connection: &Connection) -> Result<BTreeMap<String, String>, StoreError> {
    let ours = config::QUERY_SETTINGS.map(|(name, _)| format!("'{name}'"));
    let sql = format!(
        "SELECT name FROM system.settings WHERE name IN ({})",
        ours.join(", ")
    );
    let names: Vec<String> = connection.fetch_all(&sql).await?;
    let is_known = |(name, _): &(&str, u64)| names.iter().any(|known| known == name);
    let known = config::QUERY_SETTINGS.into_iter().filter(is_known);
    Ok(known
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .collect())
}

/// The path as the engine finds it, which works in the root directory.
fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    let hint = "go to a directory that exists, or name the file by its full path";
    std::path::absolute(path).map_err(StoreError::file("find", path, hint))
}
