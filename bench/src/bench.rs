//! What every case is given: a lab of its own, the program, and a way to run things in it that a
//! signal can end.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use pinger::view::Report;
use xtask::lab::{INTERFACE, Lab, Shape};
use xtask::signals::Held;
use xtask::{paths, process};

/// How often a run is looked at: it ends by itself, so this costs at most so much time.
const LOOK: Duration = Duration::from_millis(20);

/// Everything that runs are made with.
pub(crate) struct Bench<'a> {
    held: &'a Held,
    /// Made when it is first needed: tables of the store do without.
    lab: OnceCell<Lab>,
    program: PathBuf,
    seconds: Option<u64>,
}

impl<'a> Bench<'a> {
    /// `seconds` is the time of each run where the user said one.
    ///
    /// # Errors
    /// Not started by `cargo xtask bench`.
    pub(crate) fn new(held: &'a Held, seconds: Option<u64>) -> Result<Self> {
        let program = env::var_os("PINGER_BIN").map(PathBuf::from);
        let program = program
            .filter(|program| program.is_file())
            .context("PINGER_BIN names no program to measure: call this by `cargo xtask bench`")?;
        Ok(Self {
            held,
            lab: OnceCell::new(),
            program,
            seconds,
        })
    }

    fn lab(&self) -> Result<&Lab> {
        if let Some(lab) = self.lab.get() {
            return Ok(lab);
        }
        let lab = Lab::new(Shape::default())?;
        Ok(self.lab.get_or_init(|| lab))
    }

    /// How long a run shall take whose own time is this.
    pub(crate) fn time(&self, own: Duration) -> Duration {
        self.seconds.map_or(own, Duration::from_secs)
    }

    /// Runs `pinger run` in the lab for about this time and gives its report.
    ///
    /// # Errors
    /// The kernel refuses the lab; or the run failed: what it said is in the error; or we were
    /// asked to end.
    pub(crate) fn pinger(&self, time: Duration, arguments: &[&str]) -> Result<Report> {
        let time = format!("{}ms", time.as_millis());
        let mut command = self.lab()?.prober().command(&self.program);
        command
            .args([
                "run",
                "-i",
                INTERFACE,
                "--format",
                "json",
                "--duration",
                &time,
            ])
            .args(arguments);
        let said = self.output(&mut command)?.stdout;
        serde_json::from_slice(&said).context("pinger printed no report")
    }

    /// Runs the program in another lab and gives what it printed.
    ///
    /// # Errors
    /// It failed: what it said is in the error. Or we were asked to end.
    pub(crate) fn command(&self, lab: &Lab, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = lab.prober().command(&self.program);
        Ok(self.output(command.args(arguments))?.stdout)
    }

    /// Asks a store that pinger has left: one number.
    ///
    /// # Errors
    /// The query fails, or its answer is no number.
    pub(crate) fn ask(&self, store: &DataDir, query: &str) -> Result<u64> {
        let mut command = self.lab()?.prober().command(&self.program);
        command
            .args(["sql", query, "--format", "TSV", "--data-dir"])
            .arg(store.path());
        let said = self.output(&mut command)?.stdout;
        let said = String::from_utf8_lossy(&said);
        said.trim()
            .parse()
            .with_context(|| format!("the answer to `{query}` is no number: {said}"))
    }

    /// Runs another prober in the lab and gives what it printed.
    ///
    /// # Errors
    /// It is missing or fails; or we were asked to end.
    pub(crate) fn other(&self, program: &str, arguments: &[impl AsRef<str>]) -> Result<Output> {
        let path = process::find(program)
            .with_context(|| format!("{program} is missing: `cargo xtask setup` installs it"))?;
        let mut command = self.lab()?.prober().command(path);
        command.args(arguments.iter().map(|word| OsString::from(word.as_ref())));
        self.output(&mut command)
    }

    /// Runs a command to its end; asked to end ourselves, we end it first.
    fn output(&self, command: &mut Command) -> Result<Output> {
        self.go_on()?;
        let line = process::shown(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for a program")? {
                break status;
            }
            if let Err(asked) = self.go_on() {
                end(&mut child);
                return Err(asked);
            }
            thread::sleep(LOOK);
        };
        let output = Output {
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        };
        // A program in the foreground gets Ctrl-C by itself, and may end before we look.
        self.go_on()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{line}` failed ({status}): {}",
            words.trim()
        );
        Ok(output)
    }

    /// Nothing, unless we were asked to end.
    ///
    /// # Errors
    /// We were: by which signal.
    pub(crate) fn go_on(&self) -> Result<()> {
        match self.held.asked_to_end() {
            None => Ok(()),
            Some(signal) => {
                bail!("ended by signal {signal}; this table's results stay as they were")
            }
        }
    }
}

/// Reads a pipe to its end on a thread, so that a program never waits for its reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is still worth showing.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

/// Ends a program politely and waits for it.
fn end(child: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: kill takes numbers only. The child is not reaped yet, so the id is its.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    // An error means that it is gone already.
    drop(child.wait());
}

/// An empty data directory for an embedded store, removed on drop.
pub(crate) struct DataDir {
    directory: PathBuf,
}

impl DataDir {
    /// Makes it below cargo's target directory, which is on a disk.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory =
            paths::target().join(format!("bench-store-{}-{number}", std::process::id()));
        // An earlier process of this id that was killed.
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// The path as an argument.
    pub(crate) fn argument(&self) -> String {
        self.directory.to_string_lossy().into_owned()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // What stays is below the target directory, where it harms nobody.
        drop(fs::remove_dir_all(&self.directory));
    }
}
