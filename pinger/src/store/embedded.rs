//! The embedded store: a ClickHouse engine of our own, as a child process on loopback.
//!
//! In: a data directory. Out: the address of a running engine that only we can use. The engine
//! ends with its `Engine`, and with this process however that ends; its data stays.
//!
//! ```text
//! data_dir/            0700
//!   lock               held (flock) by the pinger that works here and by its engine
//!   endpoint.json      0600, how to reach the engine; there while a pinger shares it
//!   engine.log         what the engine said last
//!   engine/            ClickHouse's files
//!   config/            written afresh at each start: the engine's settings, users, keys
//! ```

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::StoreError;
use super::clickhouse::{Address, Connection, DATABASE};
use config::Secrets;
use find::Program;
pub(super) use lock::{DirLock, read_endpoint};

mod child;
mod config;
mod find;
mod lock;
mod mend;

pub use child::child_main;

/// Environment variable that names the `pinger` to start as the engine, for programs that use this
/// library and are not `pinger`, such as its tests; else it is the program that runs.
const PROGRAM_VARIABLE: &str = "PINGER_BIN";

/// The longest an engine may take to answer: it needs a second, and more when it has to load
/// many parts from a cold disk.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often a starting engine is asked.
const START_POLL: Duration = Duration::from_millis(50);

/// How often a running engine is looked at: often enough to tell at its start that it failed.
const WATCH_POLL: Duration = Duration::from_millis(200);

/// The longest an engine may take to end by itself before it is told, and then made, to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How often an ending engine is looked at.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Lines of the engine's log that an error shows.
const TAIL_LINES: usize = 8;

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
    stop: Option<mpsc::Sender<()>>,
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
        let port = free_port(options.port)?;
        let secrets = Secrets::draw()?;
        let files = Files::prepare(&data_dir, &program, port, &secrets)?;
        mend::free_burnt_tokens(&files.data)?;
        let command = command(&program, &files, port, &lock)?;
        let itself = PathBuf::from(command.get_program());
        // A `clickhouse server` does not: it ends by signals.
        let reads_stdin = matches!(program, Program::Library(_));
        let address = Address {
            origin: format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
            database: DATABASE.to_owned(),
            user: config::USER.to_owned(),
            password: secrets.password,
            header: Some((config::HEADER.to_owned(), secrets.key)),
        };

        let (stop, stopped) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let keeper = std::thread::Builder::new()
            .name("pinger-engine".to_owned())
            .spawn(move || keep(command, reads_stdin, lock, &started, &stopped))
            .map_err(StoreError::file(
                "start a thread for",
                &files.log,
                "free some memory",
            ))?;
        let mut engine = Self {
            address,
            data_dir,
            shared: false,
            stop: Some(stop),
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
        runtime
            .block_on(engine.await_ready(&ended, &files))
            .inspect_err(|_| engine.stop())?;
        Ok(engine)
    }

    /// Where the engine is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Lets other processes of this user find the engine, until it ends.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn share(&mut self) -> Result<(), StoreError> {
        lock::write_endpoint(&self.data_dir, &self.address)?;
        self.shared = true;
        Ok(())
    }

    async fn await_ready(
        &self,
        ended: &mpsc::Receiver<io::Result<ExitStatus>>,
        files: &Files,
    ) -> Result<(), StoreError> {
        // Asked in a database that exists from the start.
        let address = Address {
            database: "default".to_owned(),
            ..self.address.clone()
        };
        let connection = Connection::new(address);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match connection.execute("SELECT 1").await {
                Ok(()) => return Ok(()),
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
            lock::remove_endpoint(&self.data_dir);
        }
        drop(self.stop.take());
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

type Ended = mpsc::Receiver<io::Result<ExitStatus>>;

/// The life of the engine process, as one thread: the kernel ties a parent-death signal to the
/// thread that started the child, so that thread must live as long as the engine shall.
fn keep(
    mut command: Command,
    reads_stdin: bool,
    lock: DirLock,
    started: &mpsc::Sender<io::Result<Ended>>,
    stopped: &mpsc::Receiver<()>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => {
            // Nobody waits any more: then nobody needs to know.
            let _ = started.send(Err(source));
            return;
        }
    };
    // The engine holds the lock too from here on: if we are killed, the directory stays taken
    // until the engine has ended.
    let (tell, ended) = mpsc::channel();
    let _ = started.send(Ok(ended));
    loop {
        match child.try_wait() {
            Ok(None) => {}
            end => {
                let _ = tell.send(end.map(Option::unwrap_or_default));
                break;
            }
        }
        match stopped.recv_timeout(WATCH_POLL) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => break end(&mut child, reads_stdin),
        }
    }
    drop(lock);
}

/// Ends the engine: politely by closing its stdin, if it reads that, then by signals.
fn end(child: &mut Child, reads_stdin: bool) {
    drop(child.stdin.take());
    let polite = reads_stdin.then_some(None);
    for signal in polite
        .into_iter()
        .chain([Some(libc::SIGTERM), Some(libc::SIGKILL)])
    {
        if let Some(signal) = signal {
            // SAFETY: plain system call; the pid is of our child, which we have not waited for.
            unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STOP_POLL);
        }
    }
}

/// The generated files of one start.
struct Files {
    log: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Files {
    fn prepare(
        data_dir: &Path,
        program: &Program,
        port: u16,
        secrets: &Secrets,
    ) -> Result<Self, StoreError> {
        let (config, data) = (data_dir.join("config"), data_dir.join("engine"));
        for dir in [&config, &data] {
            private_dir(dir)?;
        }
        let files = Self {
            log: data_dir.join("engine.log"),
            config: config.join("config.xml"),
            data,
        };
        let users = config.join("users.xml");
        lock::write_private(&users, &config::users(&secrets.password))?;
        let settings = config::Settings {
            users: &users,
            data: &files.data,
            port,
            key: &secrets.key,
            memory_bytes: config::memory_bytes(),
            server: matches!(program, Program::Server(_)),
        };
        lock::write_private(&files.config, &settings.xml())?;
        Ok(files)
    }

    fn failure(&self, reason: String) -> StoreError {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let tail: Vec<String> = lines[lines.len().saturating_sub(TAIL_LINES)..]
            .iter()
            .map(|line| format!("    {line}"))
            .collect();
        let tail = if tail.is_empty() {
            "    (nothing)".to_owned()
        } else {
            tail.join("\n")
        };
        StoreError::EngineStart {
            reason,
            log: self.log.clone(),
            tail,
        }
    }
}

/// The command that becomes the engine: this program's hidden `engine` subcommand.
fn command(
    program: &Program,
    files: &Files,
    port: u16,
    lock: &DirLock,
) -> Result<Command, StoreError> {
    // Not our path: an upgrade may have replaced the file while we run.
    let itself = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| "/proc/self/exe".into());
    let itself = absolute(Path::new(&itself))?;
    let log = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&files.log)
        .and_then(|log| Ok((log.try_clone()?, log)))
        .map_err(StoreError::file(
            "write",
            &files.log,
            "check space and rights of --data-dir",
        ))?;
    let mut command = Command::new(itself);
    let lock_fd = lock.file().as_raw_fd();
    command
        .arg0("pinger-engine")
        .arg("engine")
        .args(child::arguments(
            std::process::id(),
            lock_fd,
            program,
            files,
            port,
        ))
        .current_dir("/")
        .env_clear()
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(log.0)
        .stderr(log.1)
        // Ctrl-C in a terminal is for us: the engine must outlive it to take the last rows.
        .process_group(0);
    // SAFETY: `fcntl` is async-signal-safe, and the descriptor belongs to the lock, which the
    // keeper holds until after the fork.
    unsafe {
        command.pre_exec(move || {
            if libc::fcntl(lock_fd, libc::F_SETFD, 0) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    };
    Ok(command)
}

/// The port asked for, if nobody has it, or one that is free.
///
/// It is free only until somebody else takes it; the engine then fails to start and says so.
fn free_port(asked: Option<u16>) -> Result<u16, StoreError> {
    let taken = |_| StoreError::PortTaken {
        port: asked.unwrap_or(0),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, asked.unwrap_or(0))).map_err(taken)?;
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(taken)
}

/// The path as the engine finds it, which works in the root directory.
fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    let hint = "go to a directory that exists, or name the file by its full path";
    std::path::absolute(path).map_err(StoreError::file("find", path, hint))
}

/// Makes a directory that only this user can enter, and its parents.
fn private_dir(path: &Path) -> Result<(), StoreError> {
    let hint = "choose another --data-dir, or run as a user who may write there";
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::file("create", path, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_and_a_free_one_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        assert!(matches!(
            free_port(Some(port)),
            Err(StoreError::PortTaken { port: named }) if named == port
        ));
        assert_ne!(free_port(None).expect("there is another"), port);
    }
}
