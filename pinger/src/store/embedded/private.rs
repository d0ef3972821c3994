//! Directories and files that only this user can read.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::store::StoreError;

/// What to do where a file of the data directory cannot be used.
pub(super) const HINT: &str = "choose another --data-dir, or run as the user who owns this one";

/// Makes a directory that only this user can enter, and its parents.
pub(super) fn dir(path: &Path) -> Result<(), StoreError> {
    let hint = "choose another --data-dir, or run as a user who may write there";
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::file("create", path, hint))
}

/// Replaces a file by one that only this user can read, never half written.
pub(super) fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    // Made anew, since the mode counts only then.
    let _ = fs::remove_file(&temporary);
    File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(StoreError::file("write", path, HINT))
}
