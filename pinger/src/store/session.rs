//! Reaches ClickHouse, whichever it is: starts the embedded engine, joins one that runs, or
//! connects to a server.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::StoreError;
use super::clickhouse::{Address, Connection};
use super::embedded::{Definitions, DirLock, EmbeddedOptions, Endpoint, Engine};
use super::schema::{self, Applied, Company, Say};
use super::timeouts::{Timeouts, in_time};
use crate::config::{StoreChoice, StoreOptions};

/// The longest a guest waits for a pinger that is just starting or ending.
const GUEST_LIMIT: Duration = Duration::from_secs(15);

/// What the embedded store is called where rows wait for it.
pub(super) const EMBEDDED: &str = "embedded";

/// How often it looks.
const GUEST_POLL: Duration = Duration::from_millis(50);

/// Whose engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Ours alone to start; others may join it. A server may be away.
    Own,
    /// The one that runs already, else one of our own for a short while.
    Guest,
    /// The same, but its schema is left as it is.
    Reader,
}

/// A connection with the runtime to use it, and with the engine if we started one.
pub(super) struct Session {
    connection: Connection,
    runtime: Runtime,
    engine: Option<Engine>,
    /// Of the embedded engine, whoever started it.
    definitions: Option<Definitions>,
    applied: Option<Applied>,
}

impl Session {
    /// Starts or reaches ClickHouse.
    ///
    /// # Errors
    /// When there is none, or it does not let us in.
    pub(super) fn open(options: &StoreOptions, sharing: Sharing) -> Result<Self, StoreError> {
        Self::open_saying(options, sharing, &mut |_| ())
    }

    /// The same, and says what is done about the schema.
    ///
    /// # Errors
    /// As above.
    pub(super) fn open_saying(
        options: &StoreOptions,
        sharing: Sharing,
        say: &mut Say<'_>,
    ) -> Result<Self, StoreError> {
        let runtime = runtime()?;
        match &options.choice {
            StoreChoice::None => Err(StoreError::NoStore),
            StoreChoice::Url(url) => {
                let address = Address::from_url(url, options.password_file.as_deref())?;
                let connection = Connection::to_server(address)?;
                if sharing != Sharing::Own {
                    runtime.block_on(answers(&connection))?;
                }
                Ok(Self {
                    connection,
                    runtime,
                    engine: None,
                    definitions: None,
                    applied: None,
                })
            }
            StoreChoice::Embedded => Self::open_embedded(options, sharing, runtime, say),
        }
    }

    fn open_embedded(
        options: &StoreOptions,
        sharing: Sharing,
        runtime: Runtime,
        say: &mut Say<'_>,
    ) -> Result<Self, StoreError> {
        let definitions = Definitions::of(&options.data_dir);
        let lock = match sharing {
            Sharing::Own => DirLock::take(&options.data_dir)?,
            Sharing::Guest | Sharing::Reader => match lock_or_join(options, &runtime)? {
                Joined::Lock(lock) => lock,
                Joined::Running(connection) => {
                    return Ok(Self {
                        connection: *connection,
                        runtime,
                        engine: None,
                        definitions: Some(definitions),
                        applied: None,
                    });
                }
            },
        };
        let options = EmbeddedOptions {
            data_dir: options.data_dir.clone(),
            port: options.port,
        };
        let engine = Engine::start(&options, lock, &runtime)?;
        let connection = Connection::new(engine.address().clone());
        let applied = match sharing {
            Sharing::Own => {
                runtime.block_on(connection.create_database())?;
                None
            }
            Sharing::Guest => {
                let company = Company::Alone;
                let apply = schema::apply(&connection, company, Some(&definitions), say);
                Some(runtime.block_on(apply)?)
            }
            Sharing::Reader => None,
        };
        Ok(Self {
            connection,
            runtime,
            engine: Some(engine),
            definitions: Some(definitions),
            applied,
        })
    }

    /// Lets other pingers of this user ask the engine, if it is ours.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub(super) fn share(&mut self) -> Result<(), StoreError> {
        self.engine.as_mut().map_or(Ok(()), Engine::share)
    }

    /// Has the engine, if it is ours, started again whenever it ends; `notify` gets what there is
    /// to say about that.
    pub(super) fn keep_up(&self, notify: crossbeam_channel::Sender<String>) {
        if let Some(engine) = &self.engine {
            engine.keep_up(notify);
        }
    }

    /// The connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The definitions of its tables, if they are on a disk of ours.
    pub(super) fn definitions(&self) -> Option<&Definitions> {
        self.definitions.as_ref()
    }

    /// Which store this is, for those who find rows that wait for it: it stays the same when the
    /// store moves to another port of the embedded engine, or to another user.
    pub(super) fn name(&self) -> String {
        match self.engine {
            Some(_) => EMBEDDED.to_owned(),
            None => self.connection.place(),
        }
    }

    /// What was done about the schema, if this session began with that.
    pub(super) fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// Whether the engine is ours.
    pub(super) fn is_embedded(&self) -> bool {
        self.engine.is_some()
    }

    /// Runs to the end of a future of this connection.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// What a guest found.
enum Joined {
    /// Nobody works on the directory: now we do.
    Lock(DirLock),
    /// A running engine.
    Running(Box<Connection>),
}

/// Whether a server says anything at all, and safely; what else it says is for the caller's own
/// question.
///
/// # Errors
/// When it takes the connection and is silent, or there is no safe connection.
async fn answers(connection: &Connection) -> Result<(), StoreError> {
    let limit = Timeouts::default().start;
    match in_time(limit, connection.fetch_one::<u8>("SELECT 1")).await {
        Ok(Err(error @ StoreError::Tls { .. })) => Err(error),
        Ok(_) => Ok(()),
        Err(_) => {
            let url = connection.url().to_owned();
            let reason = format!("it takes the connection and says nothing for {limit:?}");
            // A server without TLS may take a greeting for the beginning of a request.
            Err(match url.starts_with("https:") {
                true => StoreError::Tls { url, reason },
                false => StoreError::Unreachable { url, reason },
            })
        }
    }
}

/// Whether there is an embedded store, if that is the choice: to look must not make one.
///
/// # Errors
/// When there is none.
pub(super) fn look(options: &StoreOptions) -> Result<(), StoreError> {
    if options.choice != StoreChoice::Embedded {
        return Ok(());
    }
    let path = options.data_dir.clone();
    let hint = "check --data-dir, or run as the user who owns it";
    match path.join("engine").try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::NothingThere { path }),
        Err(error) => Err(StoreError::file("look for a store in", path, hint)(error)),
    }
}

fn lock_or_join(options: &StoreOptions, runtime: &Runtime) -> Result<Joined, StoreError> {
    let deadline = Instant::now() + GUEST_LIMIT;
    loop {
        if let Some(lock) = DirLock::try_take(&options.data_dir)? {
            return Ok(Joined::Lock(lock));
        }
        if let Some(endpoint) = Endpoint::read(&options.data_dir) {
            let connection = Connection::new(endpoint.into());
            // It may have ended since; then the lock is free in a moment.
            if runtime.block_on(connection.execute("SELECT 1")).is_ok() {
                return Ok(Joined::Running(Box::new(connection)));
            }
        }
        if Instant::now() > deadline {
            return DirLock::take(&options.data_dir).map(Joined::Lock);
        }
        std::thread::sleep(GUEST_POLL);
    }
}

/// A runtime on the thread that uses it: the store has one thing to do at a time.
pub(super) fn runtime() -> Result<Runtime, StoreError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StoreError::file(
            "start",
            "the store's runtime",
            "raise the limit of open files: ulimit -n",
        ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::SpoolOptions;

    #[test]
    fn what_cannot_be_looked_at_is_not_told_to_be_empty() {
        let at = |data_dir: &Path| {
            look(&StoreOptions {
                choice: StoreChoice::Embedded,
                port: None,
                password_file: None,
                data_dir: data_dir.to_owned(),
                spool: SpoolOptions::default(),
            })
        };
        let none = at(Path::new("/nonexistent"));
        assert!(matches!(none, Err(StoreError::NothingThere { .. })));
        // Not a directory: the same as one that may not be read.
        let file = at(Path::new("/proc/self/stat"));
        assert!(matches!(file, Err(StoreError::File { .. })));
    }
}
