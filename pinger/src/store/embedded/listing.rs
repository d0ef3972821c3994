//! Lists the directories of an engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// What helps who may not look.
pub(super) const HINT: &str = "run as the user who owns the data directory";

/// None where there is no such directory: an engine that never ran has none.
pub(super) fn subdirectories(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let all = entries(path)?.into_iter().map(|name| path.join(name));
    Ok(all.filter(|path| path.is_dir()).collect())
}

/// The names in a directory that are text; ClickHouse makes no others.
pub(super) fn entries(path: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .filter_map(|entry| match entry {
                Ok(entry) => entry.file_name().into_string().ok().map(Ok),
                Err(error) => Some(Err(error)),
            })
            .collect()
    };
    list().map_err(StoreError::file("list", path, HINT))
}
