//! A place to probe in, the program as a process there, and what it leaves behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::{INTERFACE, Lab, Namespace, Shape};

/// The longest that anything here may take, also on a machine that is busy otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at while it is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// The sender takes a CPU for itself, so the tests run one after another.
static MACHINE: Mutex<()> = Mutex::new(());

/// This test has the machine to itself.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // A test that failed does not spoil the others.
    MACHINE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("PINGER_BIN")
        .expect("PINGER_BIN names the program under test: run `cargo xtask test`, which sets it");
    path.into()
}

/// Checks that the embedded engine is there, before a test that needs it begins.
fn engine() {
    let path = std::env::var_os("PINGER_LIBCHDB").map(PathBuf::from);
    assert!(
        path.is_some_and(|path| path.is_file()),
        "PINGER_LIBCHDB names the embedded engine: run `cargo xtask test`, which sets it"
    );
}

/// A directory of this test's own, gone when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pinger-e2e-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it with this text; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in the temporary directory, which the system clears.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A lab, and a data directory for the store.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) folder: Folder,
}

impl Site {
    pub(crate) fn new(shape: Shape) -> Self {
        let lab = Lab::new(shape).expect("these tests need root: run `cargo xtask test` as root");
        let folder = Folder::new();
        Self { lab, folder }
    }

    pub(crate) fn data_dir(&self) -> String {
        self.folder.path().join("data").to_str().unwrap().to_owned()
    }

    /// Starts the program with words separated by spaces.
    pub(crate) fn start(&self, arguments: &str) -> Pinger {
        self.start_words(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn start_words(&self, arguments: &[&str]) -> Pinger {
        let mut command = self.lab.prober().command(program());
        command.args(arguments);
        Pinger::start(command)
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &str) -> Ended {
        self.start(arguments).end()
    }

    /// Runs the program with `--store none --format json` to its end.
    pub(crate) fn report(&self, arguments: &str) -> Report {
        let ended = self.run(&format!("run --store none --format json {arguments}"));
        ended.report()
    }

    /// Starts it with the embedded store in this site's data directory.
    pub(crate) fn start_stored(&self, arguments: &str) -> Pinger {
        engine();
        self.start(&format!("run --data-dir {} {arguments}", self.data_dir()))
    }

    /// What the store answers, as it is written by ClickHouse's TSV.
    pub(crate) fn sql(&self, query: &str) -> String {
        engine();
        let data_dir = self.data_dir();
        let words = ["sql", "--data-dir", &data_dir, "--format", "TSV", query];
        let ended = self.start_words(&words).end();
        assert!(ended.status.success(), "{query}:\n{}", ended.err);
        ended.out
    }

    /// Packets that the kernels on the way could not send back to the prober.
    ///
    /// That is rare and no fault of the program's: when the CPU that takes the answers in stands
    /// still for some milliseconds, those to fast probes fill the send buffers of the ICMP sockets
    /// there, which hold 159 of them (`icmp_init` in net/ipv4/icmp.c), or the 256 places of the
    /// prober's link.
    pub(crate) fn unanswered(&self) -> u64 {
        let places = self.lab.gateways().iter().chain([self.lab.hosts()]);
        places.map(unsent).sum()
    }

    /// What `ip` says in the prober's namespace.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        ip(self.lab.prober(), arguments)
    }

    /// An XDP program sits on the prober's interface.
    pub(crate) fn has_xdp(&self) -> bool {
        self.ip(&format!("link show dev {INTERFACE}"))
            .contains("xdp")
    }

    /// Nothing of a run is there any more: no XDP program, no engine, no endpoint.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert!(!self.has_xdp(), "an XDP program was left behind");
        let data_dir = self.data_dir();
        assert_eq!(
            processes_with(&data_dir),
            Vec::<u32>::new(),
            "an engine was left behind"
        );
        let endpoint = Path::new(&data_dir).join("endpoint.json");
        assert!(!endpoint.exists(), "endpoint.json was left behind");
    }
}

/// What a namespace's kernel could not send towards the prober.
fn unsent(place: &Namespace) -> u64 {
    let errors = place.counters(["IcmpOutErrors", "Icmp6OutErrors"]);
    let link = ip(place, "-json -s link show dev far");
    let link: Value = serde_json::from_str(&link).unwrap();
    let dropped = link[0]["stats64"]["tx"]["dropped"].as_u64().unwrap();
    errors.unwrap().iter().sum::<u64>() + dropped
}

/// Runs `ip` in a namespace; gives what it says.
pub(crate) fn ip(namespace: &Namespace, arguments: &str) -> String {
    let mut command = namespace.command("ip");
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The processes that have this text in an argument.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let own = std::process::id();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| String::from_utf8_lossy(&words).contains(text))
        })
        .collect()
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(LOOK);
    }
}

/// The program as a process; killed when dropped.
pub(crate) struct Pinger {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Pinger {
    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output; gives it.
    #[track_caller]
    pub(crate) fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        match self.out.next(wanted) {
            Some(line) => line,
            None => panic!(
                "in vain: {what}\n{}\n{}",
                self.out.all.join("\n"),
                self.err.rest()
            ),
        }
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: takes numbers only; the child has not been waited for, so its id is its own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// It has not ended yet.
    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{status}\n{}\n{}", self.out.rest(), self.err.rest());
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let (mut status, started) = (None, Instant::now());
        while status.is_none() {
            assert!(
                started.elapsed() < 2 * PATIENCE,
                "it does not end:\n{}\n{}",
                self.out.rest(),
                self.err.rest()
            );
            status = self.child.try_wait().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        Ended {
            status: status.unwrap(),
            out: self.out.rest(),
            err: self.err.rest(),
        }
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        // Mostly it has ended already, and both fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process writes, line by line as it comes.
struct Lines {
    new: Receiver<String>,
    all: Vec<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, new) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            new,
            all: Vec::new(),
        }
    }

    /// The next line that is wanted; none when there are no more, or not soon.
    fn next(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.new.recv_timeout(left).ok()?;
            self.all.push(line.clone());
            if wanted(&line) {
                return Some(line);
            }
        }
    }

    /// All there was, once the process has ended or hangs.
    fn rest(&mut self) -> String {
        while let Ok(line) = self.new.recv_timeout(Duration::from_secs(5)) {
            self.all.push(line);
        }
        self.all.join("\n")
    }
}

/// How the program ended and what it had said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// It ended well; its JSON object.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        assert!(self.status.success(), "{}\n{}", self.status, self.err);
        assert_eq!(self.out.lines().count(), 1, "{}", self.out);
        let report = Report(serde_json::from_str(&self.out).expect("one JSON object"));
        report.assert_conserved();
        report
    }

    /// It refused with this exit code, and told these things on standard error, nothing else
    /// anywhere.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, told: &[&str]) {
        let Self { status, out, err } = self;
        assert_eq!(status.code(), Some(code), "{out}\n{err}");
        assert_eq!(out, "", "{err}");
        for text in told {
            assert!(err.contains(text), "`{text}` is missing in:\n{err}");
        }
        for text in ["panicked", "RUST_BACKTRACE", "Os {", "Err("] {
            assert!(!err.contains(text), "no words for people:\n{err}");
        }
    }
}

/// The JSON object at the end of a run.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// A count, such as `sent` or `rows.written`.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        let pointer = format!("/{}", name.replace('.', "/"));
        let found = self.0.pointer(&pointer).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no count {name} in {}", self.0))
    }

    #[track_caller]
    pub(crate) fn assert_counts(&self, expected: &[(&str, u64)]) {
        for (name, count) in expected {
            assert_eq!(self.count(name), *count, "{name} in {}", self.0);
        }
    }

    /// Every probe has ended in exactly one way, or is in flight.
    #[track_caller]
    pub(crate) fn assert_conserved(&self) {
        let ends = ["reply", "error", "lost", "send_failed", "in_flight"];
        let sum: u64 = ends.iter().map(|name| self.count(name)).sum();
        assert_eq!(self.count("sent"), sum, "{}", self.0);
    }
}

/// A command of the program outside of any lab.
pub(crate) fn outside(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Pinger {
    let mut command = Command::new(program());
    command.args(arguments);
    Pinger::start(command)
}
