//! The spool's folders on a real disk.
//!
//! In: what the spool wants written, read, renamed and removed. Out: files that only this user can
//! read, in one folder a run, which is held by a lock as long as somebody works on it. It never
//! looks into a file of rows.
//!
//! ```text
//! data_dir/spool/SOURCE-RUN/   0700
//!   lock                       held (flock) by the pinger that fills or drains the folder
//!   store                      which store the rows are for, and the version of their form
//!   …                          the spool's own files
//! ```

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::spool::{Disk, DiskError, Entry};

/// The folder of a data directory that holds the folders of runs.
const SPOOL: &str = "spool";

/// The version of the form of rows and files: what another version wrote is left to it.
const VERSION: &str = "1";

/// What the spool leaves free, whatever its limit: a twentieth of the disk, at most one GiB. The
/// store itself needs room to merge its parts, and so does everybody else.
const RESERVE_PART: u64 = 20;
const RESERVE_BYTES: u64 = 1 << 30;

/// The folder in a run's folder for segments that the store refused.
const REFUSED: &str = "refused/";

const LOCK: &str = "lock";
const STORE: &str = "store";

/// `store` while it is being written.
const UNFINISHED: &str = "store.new";

/// The spool's folder in a data directory.
pub(super) fn spool_dir(data_dir: &Path) -> PathBuf {
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

/// A folder that we hold.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// To force names to the disk.
    directory: File,
    /// The file that is being appended to.
    open: Option<(String, File)>,
    /// Locked; the last to go.
    _lock: File,
}

impl Folder {
    /// Makes the folder of a new run, locked from its first moment on.
    ///
    /// # Errors
    /// When the disk refuses, or there is such a folder already.
    pub(super) fn create(data_dir: &Path, key: RunKey, store: &str) -> io::Result<Self> {
        let (spool, _guard) = guard(data_dir)?;
        let path = spool.join(key.folder());
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock_file(&path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        let unfinished = path.join(UNFINISHED);
        let mut file = private().create(true).truncate(true).write(true).open(&unfinished)?;
        file.write_all(stamp(store).as_bytes())?;
        file.sync_all()?;
        fs::rename(unfinished, path.join(STORE))?;
        let folder = Self::of(path, lock)?;
        folder.directory.sync_all()?;
        File::open(spool)?.sync_all()?;
        Ok(folder)
    }

    fn of(path: PathBuf, lock: File) -> io::Result<Self> {
        Ok(Self {
            directory: File::open(&path)?,
            path,
            open: None,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder with what little may be in it.
    ///
    /// # Errors
    /// When the disk refuses, or rows are in it.
    pub(super) fn remove(self) -> io::Result<()> {
        // Fails, and so leaves everything, while segments are kept aside in it.
        absent_is_fine(fs::remove_dir(self.path.join(REFUSED)))?;
        // The lock goes last but one: who finds it without a name knows that the folder is gone.
        for name in [UNFINISHED, STORE, LOCK] {
            absent_is_fine(fs::remove_file(self.path.join(name)))?;
        }
        fs::remove_dir(&self.path)
    }

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

    /// Forgets an open file whose name goes.
    fn close(&mut self, name: &str) {
        self.open.take_if(|(open, _)| open == name);
    }

    fn entries(&self, folder: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
        for entry in fs::read_dir(self.path.join(folder))? {
            let entry = entry?;
            let (name, metadata) = (entry.file_name(), entry.metadata()?);
            let Some(name) = name.to_str() else { continue };
            if metadata.is_file() && ![LOCK, STORE, UNFINISHED].contains(&name) {
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
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            // What was there goes, whoever still has it open.
            absent_is_fine(fs::remove_file(&path))?;
            private().create_new(true).append(true).open(&path)
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

/// What became of a folder that another run left.
#[derive(Debug)]
pub(super) enum Left {
    /// It is ours now.
    Ours(RunKey, Folder),
    /// Its rows are for another store, or of another version.
    Foreign(PathBuf),
    /// It cannot be used.
    Broken(PathBuf, io::Error),
}

/// Takes the folders that other runs left for this store: the oldest run first. Those of living
/// pingers are passed over.
///
/// # Errors
/// When the spool's folder cannot be listed.
pub(super) fn adopt(data_dir: &Path, store: &str) -> io::Result<Vec<Left>> {
    let (spool, _guard) = guard(data_dir)?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(&spool)? {
        let name = entry?.file_name();
        keys.extend(name.to_str().and_then(RunKey::of_folder));
    }
    keys.sort_unstable();
    let left = keys.into_iter().filter_map(|key| {
        let path = spool.join(key.folder());
        match take(&path, store) {
            Ok(Taken::Ours(folder)) => Some(Left::Ours(key, folder)),
            Ok(Taken::Foreign) => Some(Left::Foreign(path)),
            Ok(Taken::Busy) => None,
            Err(error) => Some(Left::Broken(path, error)),
        }
    });
    Ok(left.collect())
}

enum Taken {
    Ours(Folder),
    Foreign,
    Busy,
}

fn take(path: &Path, store: &str) -> io::Result<Taken> {
    let Some(lock) = try_lock(path)? else {
        return Ok(Taken::Busy);
    };
    let text = match fs::read_to_string(path.join(STORE)) {
        Ok(text) => text,
        // Whoever made or removed it was cut short: there are no rows in it.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Folder::of(path.to_owned(), lock)?.remove()?;
            return Ok(Taken::Busy);
        }
        Err(error) => return Err(error),
    };
    if text != stamp(store) {
        return Ok(Taken::Foreign);
    }
    Folder::of(path.to_owned(), lock).map(Taken::Ours)
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

/// Keeps others from making or taking folders meanwhile; also the spool's folder, made if need be.
fn guard(data_dir: &Path) -> io::Result<(PathBuf, File)> {
    let spool = spool_dir(data_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&spool)?;
    let guard = File::open(&spool)?;
    guard.lock()?;
    Ok((spool, guard))
}

/// What the file `store` holds.
fn stamp(store: &str) -> String {
    format!("{store}\n{VERSION}\n")
}

fn lock_file(folder: &Path) -> io::Result<File> {
    private().create(true).truncate(false).write(true).open(folder.join(LOCK))
}

fn private() -> fs::OpenOptions {
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
