//! The spool's folders for a visitor, who may come while pingers work on them: to look, or to take
//! what was refused.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Folder, LOCK, REFUSED, RunKey, spool_dir};

/// A run's folder.
#[derive(Debug)]
pub(in crate::store) struct Visited {
    /// Whose it is.
    pub key: RunKey,
    /// Where it is.
    pub path: PathBuf,
    /// Whether a living pinger fills or drains it.
    pub is_held: bool,
}

/// All folders of a data directory, the oldest run first.
///
/// # Errors
/// When there is no such directory, or it cannot be read.
pub(in crate::store) fn visit(data_dir: &Path) -> io::Result<Vec<Visited>> {
    let Some((spool, _guard)) = guard(data_dir)? else {
        return Ok(Vec::new());
    };
    let mut visited = Vec::new();
    for entry in fs::read_dir(&spool)? {
        let Some(key) = entry?.file_name().to_str().and_then(RunKey::of_folder) else {
            continue;
        };
        let path = spool.join(key.folder());
        let is_held = is_held(&path)?;
        visited.push(Visited { key, path, is_held });
    }
    visited.sort_by_key(|visited| visited.key);
    Ok(visited)
}

/// Keeps others from making or taking folders meanwhile, so that none of them ever meets a lock of
/// ours; `None` where there are no folders.
fn guard(data_dir: &Path) -> io::Result<Option<(PathBuf, File)>> {
    let spool = spool_dir(data_dir);
    match File::open(&spool) {
        Ok(guard) => {
            guard.lock()?;
            Ok(Some((spool, guard)))
        }
        // A directory without a spool is fine, one that is not there is a slip of the pen.
        Err(error) if error.kind() == ErrorKind::NotFound => fs::metadata(data_dir).map(|_| None),
        Err(error) => Err(error),
    }
}

/// Whether somebody holds a folder; to be asked under the guard.
fn is_held(folder: &Path) -> io::Result<bool> {
    let lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Visited {
    /// The folder as the spool sees it; `None` if it is gone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(in crate::store) fn disk(&self) -> io::Result<Option<Folder>> {
        match File::open(&self.path) {
            Ok(directory) => Ok(Some(Folder {
                path: self.path.clone(),
                directory,
                open: None,
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes what was refused, until the result is dropped; `None` if somebody else has it, or
    /// there is nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub(in crate::store) fn take_refused(&self) -> io::Result<Option<File>> {
        let refused = match File::open(self.path.join(REFUSED)) {
            Ok(refused) => refused,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match refused.try_lock() {
            Ok(()) => Ok(Some(refused)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Held;
    use super::super::tests::{Home, KEY};
    use super::*;
    use crate::spool::Disk;

    #[test]
    fn a_visitor_sees_who_works_and_disturbs_nobody() {
        let home = Home::new();
        assert!(visit(&home.0).is_err(), "there is no such directory");
        fs::create_dir(&home.0).unwrap();
        assert!(visit(&home.0).unwrap().is_empty());
        assert!(!spool_dir(&home.0).exists(), "to look makes nothing");
        let held = Held::create(&home.0, KEY).unwrap();
        let [visited] = &visit(&home.0).unwrap()[..] else {
            panic!("one folder");
        };
        assert_eq!((visited.key, visited.is_held), (KEY, true));
        drop(held);
        assert!(!visit(&home.0).unwrap()[0].is_held);
        assert!(visited.take_refused().unwrap().is_none());
        let mut folder = visited.disk().unwrap().unwrap();
        folder.create("refused/00000001.seg").unwrap();
        let taken = visited.take_refused().unwrap();
        assert!(taken.is_some());
        assert!(visited.take_refused().unwrap().is_none(), "one at a time");
        fs::remove_dir_all(&visited.path).unwrap();
        assert!(visited.disk().unwrap().is_none());
    }
}
