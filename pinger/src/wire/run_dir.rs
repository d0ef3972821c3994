//! Where pingers of this host leave word for each other: which CPU has a sender, in `/run/pinger`;
//! how far a run came, there or in `/dev/shm`, whichever is in memory, so that a reboot empties it.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory. Only root writes there; xtask's record of the lab is in it too.
pub(super) const DIRECTORY: &str = "/run/pinger";

/// Where files with names like these may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// What their names begin with.
    pub(super) prefix: &'static str,
}

/// Directories for files that must be in memory, with the file system that says whether they are.
/// `/run` is on disk in most containers; `/dev/shm` is open to all, and is emptied of a user's
/// files by some systems when that user has logged out, so it comes second.
const PLACES: [(&str, &str, &str); 2] = [
    ("/run", DIRECTORY, "tally-"),
    ("/dev/shm", "/dev/shm", "pinger-tally-"),
];

/// The places that are in memory.
pub(super) fn in_memory() -> impl Iterator<Item = Place> {
    let is_there = |(mount, ..): &(&str, &str, &str)| is_in_memory(Path::new(mount));
    PLACES
        .into_iter()
        .filter(is_there)
        .map(|(_, directory, prefix)| Place {
            directory: PathBuf::from(directory),
            prefix,
        })
}

/// Whether a directory is of a file system without a disk, statfs(2).
fn is_in_memory(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else {
        return false;
    };
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a path that ends in zero, and room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it is filled in.
    let kind = unsafe { stat.assume_init() }.f_type;
    kind == libc::TMPFS_MAGIC
}

/// How often a file is opened whose directory vanishes: the lab removes it when it goes.
const OPENS_MAX: u32 = 3;

/// Opens a file of the directory, which is created if need be; follows no link.
///
/// # Errors
/// As `mkdir(2)` and `open(2)`.
pub(super) fn open(directory: &Path, name: &str, options: &mut OpenOptions) -> io::Result<File> {
    let mut tries = 0;
    loop {
        tries += 1;
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let opened = options
            .custom_flags(libc::O_NOFOLLOW)
            .open(directory.join(name));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < OPENS_MAX => {}
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_disk() {
        // Both are what they are on every Linux.
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/nonexistent")));
        for place in in_memory() {
            assert!(place.directory.starts_with("/run") || place.directory.starts_with("/dev"));
        }
    }
}
