//! How far a run came, kept where a killed process leaves it: in a page of memory that has a name.
//!
//! In: counts, as they grow, from the sender and the gatherer. Out: the last of them, to a later
//! pinger that finds the run unfinished, so that it can say how many results are missing. A crash
//! of pinger leaves the page; a reboot, or a container that is made anew, does not: for those
//! there is a [`copy`](TallyCopy) on disk, which is a moment old. It never waits and never stops a run.
//!
//! The page is in a file system in memory, or has no name: a store into a mapped page of a disk
//! waits while the kernel writes that page out, and the sender must not wait.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::mapping::Mapping;
use super::run_dir::{self, Place};

mod copy;

pub use copy::TallyCopy;

/// What a tally begins with, which also names its form.
const MAGIC: u64 = u64::from_be_bytes(*b"tally\0\0\x02");

/// Length of the file: a page on most machines.
const LEN: usize = 4096;

/// Where the counts lie. What the sender writes and what the gatherer writes stand in cache lines
/// of their own, two apart because processors fetch them in pairs.
const SENT: usize = 128;
const ROWS: usize = 256;
const LAST: usize = ROWS + 8;

/// Where the path of the run's folder lies, with its length before it.
const FOLDER: usize = 512;

/// The most files that are looked at for what is left over: each takes some microseconds.
const SWEPT_MAX: usize = 10_000;

/// The tally of a running run.
#[derive(Debug)]
pub struct Tally {
    page: Mapping,
    /// Locked while we live, so that nobody takes it for left over; `None` without a name.
    _file: Option<File>,
}

/// What a run had come to when it last said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Probes announced, those that the link refused included; never fewer than have left.
    pub sent: u64,
    /// Rows made of results.
    pub rows: u64,
    /// When that was, wall clock nanoseconds; 0 if no row was made.
    pub last_ns: u64,
}

impl Tally {
    /// Makes the tally of a run: `source` and the start of the run, wall clock nanoseconds, name
    /// it, and `folder` holds its results. Where no memory has names for us it has none, and ends
    /// with the process. Also removes tallies of runs whose folder is gone.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn create(source: u32, run: u64, folder: &Path) -> io::Result<Self> {
        for place in run_dir::in_memory() {
            sweep(&place);
            if let Ok(tally) = Self::create_in(&place, source, run, folder) {
                return Ok(tally);
            }
        }
        let page = Mapping::anonymous(LEN)?;
        Ok(Self { page, _file: None })
    }

    fn create_in(place: &Place, source: u32, run: u64, folder: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = run_dir::open(&place.directory, &name(place, source, run), &mut options)?;
        // If somebody just looks at it, it is empty yet and stays.
        let _ = file.try_lock();
        // Written, not only made as long: a page that memory lacks later would end the process.
        let page = file
            .write_all(&first(folder))
            .and_then(|()| Mapping::of(file.as_fd(), LEN, 0));
        page.map(|page| Self {
            page,
            _file: Some(file),
        })
        .inspect_err(|_| remove_in(place, source, run))
    }

    /// Notes how many probes were announced so far. For the sender, before a probe can leave.
    pub fn sent(&self, probes: u64) {
        self.count(SENT).store(probes, Ordering::Relaxed);
    }

    /// Notes how many rows were made so far, and when, wall clock nanoseconds. For the gatherer,
    /// before it hands the rows on.
    pub fn rows(&self, rows: u64, last_ns: u64) {
        self.count(LAST).store(last_ns, Ordering::Relaxed);
        self.count(ROWS).store(rows, Ordering::Relaxed);
    }

    /// What it has come to: each count is of now, but not all are of the same moment.
    pub fn counts(&self) -> Tallied {
        let count = |offset| self.count(offset).load(Ordering::Relaxed);
        Tallied {
            sent: count(SENT),
            rows: count(ROWS),
            last_ns: count(LAST),
        }
    }

    fn count(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `at` gives an aligned address within the mapping, which lives as long as `self`
        // and holds integers of which any bytes are valid; all who write here do so atomically.
        unsafe { &*self.page.at::<AtomicU64>(offset) }
    }

    /// What the tally of a run says; `None` if there is none. The run may still be going on.
    pub fn read(source: u32, run: u64) -> Option<Tallied> {
        let mut places = run_dir::in_memory();
        places.find_map(|place| Page::read(&path(&place, source, run))?.tallied())
    }

    /// Removes the tally of a run, if there is one: when the run has ended as it should, or its
    /// gap is written down.
    pub fn remove(source: u32, run: u64) {
        run_dir::in_memory().for_each(|place| remove_in(&place, source, run));
    }

    /// Sources and runs that have a tally.
    pub fn all() -> Vec<(u32, u64)> {
        run_dir::in_memory()
            .flat_map(|place| keys(&place))
            .collect()
    }
}

/// The page as it is at first.
fn first(folder: &Path) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&MAGIC.to_ne_bytes());
    let path = folder.as_os_str().as_bytes();
    // One that is too long is not remembered, and the tally never taken for left over.
    if let Some(room) = bytes.get_mut(FOLDER + 8..FOLDER + 8 + path.len()) {
        room.copy_from_slice(path);
        bytes[FOLDER..FOLDER + 8].copy_from_slice(&(path.len() as u64).to_ne_bytes());
    }
    bytes
}

fn name(place: &Place, source: u32, run: u64) -> String {
    format!("{}{source}-{run}", place.prefix)
}

fn path(place: &Place, source: u32, run: u64) -> PathBuf {
    place.directory.join(name(place, source, run))
}

/// Sources and runs that have a tally here.
fn keys(place: &Place) -> Vec<(u32, u64)> {
    let entries = fs::read_dir(&place.directory).into_iter().flatten();
    let key = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let (source, run) = name.to_str()?.strip_prefix(place.prefix)?.split_once('-')?;
        Some((source.parse().ok()?, run.parse().ok()?))
    };
    let entries = entries.flatten().take(SWEPT_MAX);
    entries.filter_map(key).collect()
}

/// A page that somebody left, or has.
struct Page {
    file: File,
    bytes: [u8; LEN],
}

impl Page {
    /// `None` if there is none, or it is no tally of ours: in a directory that all may write to
    /// there may be anything.
    fn read(path: &Path) -> Option<Self> {
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut file = options.open(path).ok()?;
        let metadata = file.metadata().ok()?;
        // SAFETY: a plain system call that cannot fail.
        let is_ours = metadata.is_file() && metadata.uid() == unsafe { libc::geteuid() };
        is_ours.then_some(())?;
        let mut bytes = [0; LEN];
        file.read_exact(&mut bytes).ok()?;
        let page = Self { file, bytes };
        (page.number(0)? == MAGIC).then_some(page)
    }

    fn number(&self, offset: usize) -> Option<u64> {
        let (number, _) = self.bytes.get(offset..)?.split_first_chunk()?;
        Some(u64::from_ne_bytes(*number))
    }

    fn tallied(&self) -> Option<Tallied> {
        Some(Tallied {
            sent: self.number(SENT)?,
            rows: self.number(ROWS)?,
            last_ns: self.number(LAST)?,
        })
    }

    /// Whether its run is over and the folder gone that it speaks of: nobody will ever ask for it.
    /// To a pinger of another container, with which we share this memory, the folder may look
    /// gone; then its copy remains.
    fn is_left_over(&self) -> bool {
        let length = self
            .number(FOLDER)
            .and_then(|length| usize::try_from(length).ok());
        let folder = length.and_then(|length| self.bytes.get(FOLDER + 8..)?.get(..length));
        let folder = folder.filter(|folder| !folder.is_empty());
        let Some(folder) = folder.map(|folder| std::ffi::OsString::from_vec(folder.to_vec()))
        else {
            return false;
        };
        matches!(Path::new(&folder).try_exists(), Ok(false)) && self.file.try_lock().is_ok()
    }
}

/// Removes what is left over here.
fn sweep(place: &Place) {
    for (source, run) in keys(place) {
        let page = Page::read(&path(place, source, run));
        if page.is_some_and(|page| page.is_left_over()) {
            remove_in(place, source, run);
        }
    }
}

fn remove_in(place: &Place, source: u32, run: u64) {
    // Mostly it is there; where not, or where it must stay, a reboot removes it.
    let _ = fs::remove_file(path(place, source, run));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    /// A place of our own, removed when dropped.
    struct Home(Place);

    impl Home {
        fn new(name: &str) -> Self {
            let name = format!("pinger-tally-{name}-{}", std::process::id());
            Self(Place {
                directory: std::env::temp_dir().join(name),
                prefix: "tally-",
            })
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.directory);
        }
    }

    fn create(place: &Place, source: u32, run: u64) -> io::Result<Tally> {
        Tally::create_in(place, source, run, &place.directory)
    }

    fn read(place: &Place, source: u32, run: u64) -> Option<Tallied> {
        Page::read(&path(place, source, run))?.tallied()
    }

    const TOLD: Tallied = Tallied {
        sent: u64::MAX,
        rows: 5,
        last_ns: 1_800_000_000_000_000_000,
    };

    fn count(tally: &Tally, counts: Tallied) {
        tally.sent(counts.sent);
        tally.rows(counts.rows, counts.last_ns);
    }

    #[test]
    fn counts_are_read_while_they_grow_and_after() {
        let Home(place) = &Home::new("grow");
        let tally = create(place, 3, 77).unwrap();
        assert_eq!(read(place, 3, 77), Some(Tallied::default()));
        count(&tally, TOLD);
        assert_eq!((read(place, 3, 77), tally.counts()), (Some(TOLD), TOLD));
        assert_eq!((read(place, 4, 77), read(place, 3, 7)), (None, None));
        assert!(create(place, 3, 77).is_err(), "the name is taken");
        drop(tally);
        assert_eq!(read(place, 3, 77), Some(TOLD));
        let mode = path(place, 3, 77).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        remove_in(place, 3, 77);
        assert_eq!(read(place, 3, 77), None);
        remove_in(place, 3, 77);
    }

    #[test]
    fn what_is_no_tally_says_nothing() {
        let Home(place) = &Home::new("none");
        fs::create_dir(&place.directory).unwrap();
        fs::write(path(place, 1, 1), [0; LEN]).unwrap();
        fs::write(path(place, 1, 2), &MAGIC.to_ne_bytes()[..]).unwrap();
        drop(create(place, 1, 3).unwrap());
        symlink(path(place, 1, 3), path(place, 1, 4)).unwrap();
        assert!(read(place, 1, 3).is_some());
        for run in [1, 2, 4, 5] {
            assert_eq!(read(place, 1, run), None, "{run}");
        }
        // A directory that is a file, and one that cannot be made: no name, and no failure.
        for directory in [path(place, 1, 1), PathBuf::from("/proc/pinger")] {
            let place = Place {
                directory,
                ..place.clone()
            };
            assert!(create(&place, 1, 1).is_err());
        }
    }

    #[test]
    fn without_a_name_it_counts_all_the_same() {
        let page = Mapping::anonymous(LEN).unwrap();
        let tally = Tally { page, _file: None };
        count(&tally, TOLD);
        assert_eq!(tally.counts(), TOLD);
    }

    #[test]
    fn tallies_whose_folder_is_gone_go() {
        let Home(place) = &Home::new("sweep");
        let folder = |run: u64| place.directory.join(format!("folder-{run}"));
        let tally = |run| Tally::create_in(place, 1, run, &folder(run)).unwrap();
        let living = tally(1);
        drop([2, 3].map(tally));
        fs::create_dir(folder(3)).unwrap();
        let long = Path::new("/").join("x".repeat(LEN));
        drop(Tally::create_in(place, 1, 4, &long).unwrap());
        fs::write(path(place, 1, 5), "not ours to judge").unwrap();
        sweep(place);
        let mut left = keys(place);
        left.sort_unstable();
        assert_eq!(left, [(1, 1), (1, 3), (1, 4), (1, 5)]);
        drop(living);
        sweep(place);
        assert!(!keys(place).contains(&(1, 1)), "its run is over");
    }

    /// A process that is killed leaves what it counted: this test, as another process.
    #[test]
    fn a_killed_process_leaves_its_tally() {
        const CHILD: &str = "PINGER_TEST_TALLY";
        let told = Tallied { sent: 10, ..TOLD };
        if let Some(directory) = std::env::var_os(CHILD) {
            let place = Place {
                directory: directory.into(),
                prefix: "tally-",
            };
            count(&create(&place, 1, 2).unwrap(), told);
            // SAFETY: plain system calls; no code runs behind them.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let Home(place) = &Home::new("killed");
        let name = "wire::tally::tests::a_killed_process_leaves_its_tally";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, &place.directory)
            .output()
            .unwrap()
            .status;
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
        assert_eq!(read(place, 1, 2), Some(told));
    }
}
