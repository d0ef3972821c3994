//! Where a round happens: a lab, directories, perhaps a small disk, perhaps a server behind a wire.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use xtask::lab::{Lab, Shape};

use crate::plan::{Plan, StoreKind};
use crate::server::{PASSWORD, Server};
use crate::wire::Wire;

/// The longest that anything here may take, also on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at while it is awaited.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// The witness stands still when it shows the same for so long: packets in the lab take a few
/// microseconds.
const SETTLED: Duration = Duration::from_millis(30);

/// Room for an engine's own files and some seconds of rows, and filled in no time.
const SMALL_DISK: &str = "size=96m,mode=0700";

/// The program under test.
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("PINGER_BIN")
        .expect("PINGER_BIN names the program under test: run `cargo xtask test`, which sets it");
    path.into()
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

pub(crate) struct Place {
    pub(crate) server: Option<Server>,
    pub(crate) wire: Option<Wire>,
    pub(crate) lab: Lab,
    folder: Folder,
}

impl Place {
    pub(crate) fn new(plan: &Plan) -> Self {
        let engine = std::env::var_os("PINGER_LIBCHDB").map(PathBuf::from);
        assert!(
            engine.is_some_and(|path| path.is_file()),
            "PINGER_LIBCHDB names the embedded engine: run `cargo xtask test`, which sets it"
        );
        let lab = Lab::new(Shape::default())
            .expect("these tests need root: run `cargo xtask test` as root");
        let folder = Folder::new(plan.small_disk);
        let mut place = Self {
            server: None,
            wire: None,
            lab,
            folder,
        };
        if plan.store == StoreKind::Server {
            let prober = place.lab.prober();
            place.server = Some(Server::start(prober, &place.folder.0.join("server")));
            place.wire = Some(prober.enter(|| Wire::to(Server::PORT)).unwrap());
            let applied = place.ask(&["schema", "apply"]);
            assert!(applied.status.success(), "{applied:?}");
        }
        place
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.data_dir()
    }

    /// A new file beside the data directory.
    pub(crate) fn log(&self, name: &str) -> (PathBuf, File) {
        let path = self.folder.0.join(name);
        let file = File::create(&path).unwrap();
        (path, file)
    }

    /// The program in the prober's namespace, with this round's data directory.
    pub(crate) fn pinger(&self, words: &[&str]) -> Command {
        let mut command = self.lab.prober().command(program());
        command
            .args(words)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("PINGER_STORE_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    /// The URL of the server, by the wire or directly; none if the store is the embedded one.
    pub(crate) fn url(&self, by_wire: bool) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let port = if by_wire { wire.port } else { Server::PORT };
        Some(format!("http://boss@127.0.0.1:{port}/pinger"))
    }

    /// Runs the program to its end, with the store reached directly.
    fn ask(&self, words: &[&str]) -> Output {
        let mut command = self.pinger(words);
        if let Some(url) = self.url(false) {
            command.args(["--store", &url]);
        }
        command.output().unwrap()
    }

    /// What the store answers, as tab-separated values.
    pub(crate) fn sql(&self, query: &str) -> Result<String, String> {
        let output = self.ask(&["sql", "--format", "TSV", query]);
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The engine's process, if there is one now.
    pub(crate) fn engine(&self) -> Option<i32> {
        if let Some(server) = &self.server {
            return i32::try_from(server.pid()).ok();
        }
        let needle = self.data_dir().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.starts_with("pinger-engine") && words.contains(&needle))
        })
    }

    /// Echo requests that have reached the probed hosts.
    pub(crate) fn echoes(&self) -> u64 {
        let hosts = self.lab.hosts();
        let counted = hosts.counters(["IcmpInEchos", "Icmp6InEchos"]);
        counted.unwrap().iter().sum()
    }

    /// The same, once no more come.
    pub(crate) fn echoes_at_rest(&self) -> u64 {
        let mut last = self.echoes();
        let mut since = Instant::now();
        until("no probes are under way", || {
            let now = self.echoes();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= SETTLED
        });
        last
    }

    /// Takes all the space of the small disk.
    pub(crate) fn fill_disk(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let zeros = [0; 4096];
        // The end of it is an error: no space left.
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    }

    pub(crate) fn free_disk(&self) {
        // Freed already, perhaps.
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.folder.disk().join("filler")
    }

    /// Whether the spools of earlier runs are still there, besides one of a run that lives.
    pub(crate) fn is_owing(&self) -> bool {
        let spools = fs::read_dir(self.data_dir().join("spool"));
        spools.is_ok_and(|spools| spools.count() > 1)
    }

    /// Segments that still wait in the data directory.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.data_dir().join("spool")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let ending = path.extension().and_then(|ending| ending.to_str());
                if path.is_dir() {
                    folders.push(path);
                } else if matches!(ending, Some("seg" | "open")) {
                    found.push(path.display().to_string());
                }
            }
        }
        found
    }

    /// Copies all files to the directory that PINGER_CHAOS_KEEP names, if it names one.
    pub(crate) fn keep(&self) {
        if let Some(directory) = std::env::var_os("PINGER_CHAOS_KEEP") {
            let copied = Command::new("cp")
                .arg("-a")
                .args([self.folder.0.as_path(), Path::new(&directory)])
                .status();
            assert!(copied.is_ok_and(|status| status.success()));
        }
    }
}

/// A directory of our own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(small_disk: bool) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pinger-chaos-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(folder.disk()).unwrap();
        if small_disk {
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", SMALL_DISK, "pinger-chaos"])
                .arg(folder.disk())
                .status();
            assert!(mounted.is_ok_and(|status| status.success()), "mount tmpfs");
        }
        folder
    }

    fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    fn data_dir(&self) -> PathBuf {
        self.disk().join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Mostly there is no disk to unmount; what stays is in the temporary directory.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.disk())
            .stderr(Stdio::null())
            .status();
        let _ = fs::remove_dir_all(&self.0);
    }
}
