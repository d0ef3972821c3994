//! The spool's folders on a real disk.
//!
//! In: what the spool wants written, read, renamed and removed. Out: files that only this user can
//! read, in one folder a run, which is held by a lock as long as somebody works on it. It never
//! looks into a file of rows.
//!
//! ```text
//! data_dir/spool/SOURCE-RUN/   0700
//!   lock                       held (flock) by the pinger that fills or drains the folder
//!   tally                      how far the run came
//!   …                          the spool's own files
//! ```

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::private;
use crate::spool::{Disk, DiskError, Entry, MemoryDisk};
use crate::wire::tally::TallyCopy;

/// The folder of a data directory that holds the folders of runs.
const SPOOL: &str = "spool";

/// What the spool leaves free, whatever its limit: a twentieth of the disk, at most one GiB. The
/// store itself needs room to merge its parts, and so does everybody else.
const RESERVE_PART: u64 = 20;
const RESERVE_BYTES: u64 = 1 << 30;

/// The folder in a run's folder for segments that the store refused.
const REFUSED: &str = "refused/";

const LOCK: &str = "lock";

/// The spool's folder in a data directory.
fn spool_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(SPOOL)
}

/// Whose rows a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunKey {
    /// Start of the run, wall clock nanoseconds.
    pub run: u64,
    /// Key of the source.
    pub source: u32,
}

impl RunKey {
    fn folder(self) -> String {
        format!("{}-{}", self.source, self.run)
    }

    fn of_folder(name: &str) -> Option<Self> {
        let (source, run) = name.split_once('-')?;
        let key = Self {
            run: run.parse().ok()?,
            source: source.parse().ok()?,
        };
        (key.folder() == name).then_some(key)
    }
}

/// A folder that we hold, until dropped.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Held {
    /// Makes and takes the folder of a new run.
    ///
    /// # Errors
    /// When the disk refuses, or there is such a folder already.
    pub(super) fn create(data_dir: &Path, key: RunKey) -> io::Result<Self> {
        let (spool, _guard) = guard(data_dir)?;
        let path = spool.join(key.folder());
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock_file(&path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder as the spool sees it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn disk(&self) -> io::Result<Folder> {
        Ok(Folder {
            directory: File::open(&self.path)?,
            path: self.path.clone(),
            open: None,
        })
    }

    /// Removes the folder, which has no files any more.
    ///
    /// # Errors
    /// When the disk refuses, or files are in it: then they are still there.
    pub(super) fn remove(self) -> io::Result<()> {
        // Fails while segments are kept aside in it.
        absent_is_fine(fs::remove_dir(self.path.join(REFUSED)))?;
        absent_is_fine(fs::remove_file(self.path.join(TallyCopy::NAME)))?;
        // Who finds the lock without a name knows that the folder is gone.
        absent_is_fine(fs::remove_file(self.path.join(LOCK)))?;
        fs::remove_dir(&self.path)
    }
}

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// To force names to the disk.
    directory: File,
    /// The file that is being appended to.
    open: Option<(String, File)>,
}

impl Folder {
    /// The file to append to or to sync, opened once.
    fn file(&mut self, name: &str) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = File::options().append(true).open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// How long ago a file was changed; from now on it counts as changed now.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be written.
    pub(super) fn touch(&self, name: &str) -> Result<Duration, DiskError> {
        let touch = || -> io::Result<Duration> {
            let file = File::options().append(true).open(self.path.join(name))?;
            let changed = file.metadata()?.modified()?;
            let now = SystemTime::now();
            file.set_modified(now)?;
            // Changed in the future, says a clock that was set: who knows.
            Ok(now.duration_since(changed).unwrap_or(Duration::MAX))
        };
        touch().map_err(self.failed("mark", name))
    }

    /// Forgets an open file whose name goes.
    fn close(&mut self, name: &str) {
        self.open.take_if(|(open, _)| open == name);
    }

    fn entries(&self, folder: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
        for entry in fs::read_dir(self.path.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let metadata = match entry.metadata() {
                // Renamed or removed since the folder was read, by the pinger that works there.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found?,
            };
            if metadata.is_file() && ![LOCK, TallyCopy::NAME].contains(&name) {
                entries.push(Entry {
                    name: format!("{folder}{name}"),
                    bytes: metadata.len(),
                });
            }
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> DiskError {
        let path = self.path.join(name);
        move |error| DiskError {
            is_full: matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ),
            words: format!("{action} {}: {error}", path.display()),
        }
    }
}

impl Disk for Folder {
    fn list(&mut self) -> Result<Vec<Entry>, DiskError> {
        let mut entries = Vec::new();
        self.entries("", &mut entries)
            .and_then(|()| absent_is_fine(self.entries(REFUSED, &mut entries)))
            .map_err(self.failed("list", ""))?;
        Ok(entries)
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        let read = || {
            let mut file = File::open(self.path.join(name))?;
            file.seek(SeekFrom::Start(from))?;
            let length = file.metadata()?.len().saturating_sub(from).min(bytes);
            let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            file.take(bytes).read_to_end(&mut content)?;
            Ok(content)
        };
        read().map_err(self.failed("read", name))
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.close(name);
        let path = self.path.join(name);
        let make = || {
            if let Some((folder, _)) = name.split_once('/') {
                let folder = self.path.join(folder);
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            // What was there goes, whoever still has it open.
            absent_is_fine(fs::remove_file(&path))?;
            private_file().create_new(true).append(true).open(&path)
        };
        let file = make().map_err(self.failed("create", name))?;
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.file(name)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(self.failed("write", name))
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.file(name)
            .and_then(|file| file.set_len(bytes))
            .map_err(self.failed("truncate", name))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.file(name)
            .and_then(File::sync_data)
            .map_err(self.failed("sync", name))?;
        self.sync_folder()
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.directory
            .sync_all()
            .and_then(|()| absent_is_fine(File::open(self.path.join(REFUSED))?.sync_all()))
            .or_else(|error| absent_is_fine(Err(error)))
            .map_err(self.failed("sync", ""))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.close(from);
        self.close(to);
        fs::rename(self.path.join(from), self.path.join(to)).map_err(self.failed("rename", from))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.close(name);
        fs::remove_file(self.path.join(name)).map_err(self.failed("remove", name))
    }

    fn room(&mut self) -> Option<u64> {
        let (free, all) = space(&self.path).ok()?;
        Some(free.saturating_sub((all / RESERVE_PART).min(RESERVE_BYTES)))
    }
}

/// Where the files of a spool are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a folder of the data directory.
    Folder(Folder),
    /// Nowhere.
    Memory(MemoryDisk),
}

/// Passes a call on.
macro_rules! place {
    ($self:ident, $disk:ident => $call:expr) => {
        match $self {
            Place::Folder($disk) => $call,
            Place::Memory($disk) => $call,
        }
    };
}

impl Disk for Place {
    fn list(&mut self) -> Result<Vec<Entry>, DiskError> {
        place!(self, disk => disk.list())
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        place!(self, disk => disk.read(name, from, bytes))
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        place!(self, disk => disk.create(name))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        place!(self, disk => disk.append(name, bytes))
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        place!(self, disk => disk.truncate(name, bytes))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        place!(self, disk => disk.sync(name))
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        place!(self, disk => disk.sync_folder())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        place!(self, disk => disk.rename(from, to))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        place!(self, disk => disk.remove(name))
    }

    fn room(&mut self) -> Option<u64> {
        place!(self, disk => disk.room())
    }
}

/// Free bytes for this user, and all bytes, of the disk that a folder is on.
fn space(folder: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a path that ends in zero, and room for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is filled in.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// What other runs left on disk.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Folders that are ours now, the oldest run first.
    pub ours: Vec<(RunKey, Held)>,
    /// Folders that cannot be taken, and why.
    pub broken: Vec<(PathBuf, io::Error)>,
}

/// Takes the folders that other runs left. Those of living pingers are passed over.
///
/// # Errors
/// When the spool's folder cannot be listed.
pub(super) fn take_left(data_dir: &Path) -> io::Result<Left> {
    if !spool_dir(data_dir).try_exists()? {
        return Ok(Left::default());
    }
    let (spool, _guard) = guard(data_dir)?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(&spool)? {
        keys.extend(entry?.file_name().to_str().and_then(RunKey::of_folder));
    }
    keys.sort_unstable();
    let mut left = Left::default();
    for key in keys {
        let path = spool.join(key.folder());
        match try_lock(&path) {
            Ok(None) => {}
            Ok(Some(lock)) => left.ours.push((key, Held { path, _lock: lock })),
            Err(error) => left.broken.push((path, error)),
        }
    }
    Ok(left)
}

/// Locks a folder, unless somebody has it or it is just going.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let lock = match lock_file(path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        // Without a name: its holder has removed the folder since.
        Ok(()) => Ok((lock.metadata()?.nlink() > 0).then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Keeps others from making or taking folders meanwhile; also the spool's folder, made if need be,
/// in a data directory that is private.
fn guard(data_dir: &Path) -> io::Result<(PathBuf, File)> {
    private::data_dir(data_dir)?;
    let spool = spool_dir(data_dir);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&spool)?;
    let guard = File::open(&spool)?;
    guard.lock()?;
    Ok((spool, guard))
}

fn lock_file(folder: &Path) -> io::Result<File> {
    private_file()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK))
}

fn private_file() -> fs::OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) mod visit;

#[cfg(test)]
mod tests;
