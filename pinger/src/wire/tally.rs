//! How far a run came, kept where a killed process leaves it: in a page of memory that has a name.
//!
//! In: counts, as they grow, from the sender and the gatherer. Out: the last of them, to a later
//! pinger that finds the run unfinished, so that it can say how many results are missing. A crash
//! of pinger leaves the page; a reboot does not. It never waits and never stops a run: where there
//! is no right to write, or no room, there is no tally.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapping::Mapping;
use super::run_dir;

/// What a tally begins with, which also names its form.
const MAGIC: u64 = u64::from_be_bytes(*b"tally\0\0\x01");

/// Length of the file: a page on most machines.
const LEN: usize = 4096;

/// Where the counts lie. What the sender writes and what the gatherer writes stand in cache lines
/// of their own, two apart because processors fetch them in pairs.
const SENT: usize = 128;
const ROWS: usize = 256;
const ENDED: usize = ROWS + 8;
const LAST: usize = ROWS + 16;

/// The tally of a running run.
#[derive(Debug)]
pub struct Tally {
    page: Mapping,
}

/// What a run had come to when it last said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Probes announced, those that the link refused included; never fewer than have left.
    pub sent: u64,
    /// Rows made of results.
    pub rows: u64,
    /// Probes among them that have ended: with a reply, an error, without an answer, or unsent.
    pub ended: u64,
    /// When that was, wall clock nanoseconds; 0 if no row was made.
    pub last_ns: u64,
}

impl Tally {
    /// Makes the tally of a run: `source` and the start of the run, wall clock nanoseconds, name
    /// it. `None` where `/run/pinger` cannot be written or has one of that name.
    pub fn create(source: u32, run: u64) -> Option<Self> {
        Self::create_in(Path::new(run_dir::DIRECTORY), source, run).ok()
    }

    fn create_in(directory: &Path, source: u32, run: u64) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = run_dir::open(directory, &name(source, run), &mut options)?;
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC.to_ne_bytes());
        // Written, not only made as long: a page that memory lacks later would end the process.
        let page = file
            .write_all(&bytes)
            .and_then(|()| Mapping::of(file.as_fd(), LEN, 0));
        page.map(|page| Self { page })
            .inspect_err(|_| remove_in(directory, source, run))
    }

    /// Notes how many probes were announced so far. For the sender, before a probe can leave.
    pub fn sent(&self, probes: u64) {
        self.count(SENT).store(probes, Ordering::Relaxed);
    }

    /// Notes how many rows were made so far, how many probes have ended with them, and when, wall
    /// clock nanoseconds. For the gatherer, before it hands the rows on.
    pub fn rows(&self, rows: u64, ended: u64, last_ns: u64) {
        self.count(LAST).store(last_ns, Ordering::Relaxed);
        self.count(ROWS).store(rows, Ordering::Relaxed);
        self.count(ENDED).store(ended, Ordering::Relaxed);
    }

    fn count(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `at` gives an aligned address within the mapping, which lives as long as `self`
        // and holds integers of which any bytes are valid; all who write here do so atomically.
        unsafe { &*self.page.at::<AtomicU64>(offset) }
    }

    /// What the tally of a run says; `None` if there is none. The run may still be going on.
    pub fn read(source: u32, run: u64) -> Option<Tallied> {
        read_in(Path::new(run_dir::DIRECTORY), source, run)
    }

    /// Removes the tally of a run, if there is one: when the run has ended as it should, or its
    /// gap is written down.
    pub fn remove(source: u32, run: u64) {
        remove_in(Path::new(run_dir::DIRECTORY), source, run);
    }
}

fn name(source: u32, run: u64) -> String {
    format!("tally-{source}-{run}")
}

fn path(directory: &Path, source: u32, run: u64) -> PathBuf {
    directory.join(name(source, run))
}

fn read_in(directory: &Path, source: u32, run: u64) -> Option<Tallied> {
    let mut bytes = [0; LEN];
    File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path(directory, source, run))
        .and_then(|mut file| file.read_exact(&mut bytes))
        .ok()?;
    let number = |offset: usize| {
        let (number, _) = bytes[offset..].split_first_chunk()?;
        Some(u64::from_ne_bytes(*number))
    };
    let tallied = Tallied {
        sent: number(SENT)?,
        rows: number(ROWS)?,
        ended: number(ENDED)?,
        last_ns: number(LAST)?,
    };
    (number(0)? == MAGIC).then_some(tallied)
}

fn remove_in(directory: &Path, source: u32, run: u64) {
    // Mostly it is there; where not, or where it must stay, a reboot removes it.
    let _ = fs::remove_file(path(directory, source, run));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("pinger-tally-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn counts_are_read_while_they_grow_and_after() {
        let Directory(directory) = &Directory::new("grow");
        let tally = Tally::create_in(directory, 3, 77).unwrap();
        assert_eq!(read_in(directory, 3, 77), Some(Tallied::default()));
        tally.sent(u64::MAX);
        tally.rows(5, 4, 1_800_000_000_000_000_000);
        let told = Tallied {
            sent: u64::MAX,
            rows: 5,
            ended: 4,
            last_ns: 1_800_000_000_000_000_000,
        };
        assert_eq!(read_in(directory, 3, 77), Some(told));
        assert_eq!(
            (read_in(directory, 4, 77), read_in(directory, 3, 7)),
            (None, None)
        );
        assert!(
            Tally::create_in(directory, 3, 77).is_err(),
            "the name is taken"
        );
        drop(tally);
        assert_eq!(read_in(directory, 3, 77), Some(told));
        let mode = path(directory, 3, 77)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        remove_in(directory, 3, 77);
        assert_eq!(read_in(directory, 3, 77), None);
        remove_in(directory, 3, 77);
    }

    #[test]
    fn what_is_no_tally_says_nothing() {
        let Directory(directory) = &Directory::new("none");
        fs::create_dir(directory).unwrap();
        fs::write(path(directory, 1, 1), [0; LEN]).unwrap();
        fs::write(path(directory, 1, 2), &MAGIC.to_ne_bytes()[..]).unwrap();
        drop(Tally::create_in(directory, 1, 3).unwrap());
        symlink(path(directory, 1, 3), path(directory, 1, 4)).unwrap();
        assert!(read_in(directory, 1, 3).is_some());
        for run in [1, 2, 4, 5] {
            assert_eq!(read_in(directory, 1, run), None, "{run}");
        }
        // A directory that is a file, and one that cannot be made: no tally, and no failure.
        assert!(Tally::create_in(&path(directory, 1, 1), 1, 1).is_err());
        assert!(Tally::create_in(Path::new("/proc/pinger"), 1, 1).is_err());
    }

    /// A process that is killed leaves what it counted: this test, as another process.
    #[test]
    fn a_killed_process_leaves_its_tally() {
        const CHILD: &str = "PINGER_TEST_TALLY";
        if let Some(directory) = std::env::var_os(CHILD) {
            let tally = Tally::create_in(Path::new(&directory), 1, 2).unwrap();
            tally.sent(10);
            tally.rows(7, 6, 5);
            // SAFETY: plain system calls; no code runs behind them.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let Directory(directory) = &Directory::new("killed");
        let name = "wire::tally::tests::a_killed_process_leaves_its_tally";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, directory)
            .output()
            .unwrap()
            .status;
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
        let told = Tallied {
            sent: 10,
            rows: 7,
            ended: 6,
            last_ns: 5,
        };
        assert_eq!(read_in(directory, 1, 2), Some(told));
    }
}
