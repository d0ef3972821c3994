//! A disk in memory: for runs that are told to keep no files, and for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskError, Entry};

type Files = BTreeMap<String, Vec<u8>>;

/// Files in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<Files>>,
}

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same files, for another thread.
    #[must_use]
    pub fn same(&self) -> Self {
        Self {
            files: Arc::clone(&self.files),
        }
    }

    /// Files of their own, with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            files: Arc::new(Mutex::new(self.files().clone())),
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A thread that panicked left whole files.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, DiskError> {
        let mut files = self.files();
        files.get_mut(name).map(work).ok_or_else(|| absent(name))
    }
}

fn absent(name: &str) -> DiskError {
    DiskError {
        is_full: false,
        words: format!("{name} is not there"),
    }
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> Result<Vec<Entry>, DiskError> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| Entry {
            name: name.clone(),
            bytes: bytes.len() as u64,
        };
        Ok(self.files().iter().map(entry).collect())
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        self.with(name, |file| {
            let from = usize::try_from(from).map_or(file.len(), |from| from.min(file.len()));
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let until = from.saturating_add(bytes).min(file.len());
            file[from..until].to_vec()
        })
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.files().insert(name.to_owned(), Vec::new());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.with(name, |file| file.extend_from_slice(bytes))
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.with(name, |file| file.truncate(bytes))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.with(name, |_| ())
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut files = self.files();
        let file = files.remove(from).ok_or_else(|| absent(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let removed = self.files().remove(name);
        removed.map_or_else(|| Err(absent(name)), |_| Ok(()))
    }

    fn room(&mut self) -> Option<u64> {
        None
    }
}
