//! A disk in memory: for runs that are told to keep no files, and for tests.

use std::collections::BTreeMap;

use super::disk::{Disk, DiskError, Entry};

/// Files in memory, gone with the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryDisk {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn file(&mut self, name: &str) -> Result<&mut Vec<u8>, DiskError> {
        self.files.get_mut(name).ok_or_else(|| absent(name))
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
        Ok(self.files.iter().map(entry).collect())
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        let file = self.file(name)?;
        let from = usize::try_from(from).map_or(file.len(), |from| from.min(file.len()));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let until = from.saturating_add(bytes).min(file.len());
        Ok(file[from..until].to_vec())
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.files.insert(name.to_owned(), Vec::new());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.file(name)?.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.file(name)?.truncate(bytes);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        self.file(name).map(|_| ())
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let file = self.files.remove(from).ok_or_else(|| absent(from))?;
        self.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.files
            .remove(name)
            .map_or_else(|| Err(absent(name)), |_| Ok(()))
    }

    fn room(&mut self) -> Option<u64> {
        None
    }
}
