//! The seam between the spool and what keeps its files: a folder, memory, or the simulator.

use std::fmt::{self, Display};

/// A file of the spool's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, of the forms `store`, `00000001.open` or `refused/00000001.seg`.
    pub name: String,
    /// Its length, bytes.
    pub bytes: u64,
}

/// A folder with files. Each call may fail, and then has done nothing, but for
/// [`Disk::append`]. What is written survives the end of this process; what has been synced
/// survives the end of the host, too.
///
/// Two of them may be one folder, each in a thread of its own, as long as only one changes a file.
/// Only [`Disk::create`], [`Disk::append`], [`Disk::truncate`] and [`Disk::room`] are to be quick.
pub trait Disk {
    /// All files, those in `refused/` included, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&mut self) -> Result<Vec<Entry>, DiskError>;

    /// At most `bytes` bytes of a file, beginning at `from`; fewer where it ends.
    ///
    /// # Errors
    /// When there is no such file or it cannot be read.
    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError>;

    /// Makes an empty file; if there is one of that name, empties it. Makes the folder in the
    /// name, if there is one.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create(&mut self, name: &str) -> Result<(), DiskError>;

    /// Adds to the end of a file.
    ///
    /// # Errors
    /// When not all could be written; a part may have been.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts a file to this length.
    ///
    /// # Errors
    /// When it cannot be cut.
    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Returns when a file's content and every name in the folder are safe from a power failure.
    ///
    /// # Errors
    /// When the system cannot promise it.
    fn sync(&mut self, name: &str) -> Result<(), DiskError>;

    /// Returns when every name in the folder, and every removal, is safe from a power failure.
    ///
    /// # Errors
    /// When the system cannot promise it.
    fn sync_folder(&mut self) -> Result<(), DiskError>;

    /// Gives a file another name, that of a file that is there as well included, at once.
    ///
    /// # Errors
    /// When there is no such file or it cannot be renamed.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// When there is no such file or it cannot be removed.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;

    /// How many bytes this spool may still write, as far as the disk beneath is concerned; `None`
    /// where that is not known. Asked about once a second.
    fn room(&mut self) -> Option<u64>;
}

/// What a [`Disk`] says when a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// Whether the disk, or a quota on it, is full.
    pub is_full: bool,
    /// What failed, with the name of the file: "write /…/00000001.open: No space left on device".
    pub words: String,
}

impl Display for DiskError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.words)
    }
}

impl std::error::Error for DiskError {}
