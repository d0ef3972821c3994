//! A simulated disk: what a process sees, and what a power failure leaves of it.
//!
//! Any call fails by the seed, appends are torn at any byte, space runs out, and after a number of
//! calls the host is dead in the middle of one. Calls of the spool take long: the filler writes on
//! meanwhile, and may see the end of the host before they return.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pinger::spool::{Disk, DiskError, Entry, Now, STORE};

use super::Seen;
use super::prober::Prober;
use crate::sim::rng::Rng;

/// How bad a disk is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Faults {
    /// Probability that a call fails.
    pub(super) fail: f64,
    /// Bytes of a folder, beyond which it is full.
    pub(super) capacity: u64,
    /// Probability that a call takes long.
    pub(super) slow: f64,
}

impl Faults {
    pub(super) const NONE: Self = Self {
        fail: 0.0,
        capacity: u64::MAX,
        slow: 0.0,
    };
}

/// What all folders share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    /// After so many calls the process or the host is dead.
    pub(super) calls_left: Option<u64>,
    pub(super) dead: bool,
    pub(super) now: Now,
    /// What goes on while a call takes long.
    pub(super) meanwhile: Option<Rc<RefCell<Prober>>>,
    pub(super) seen: Seen,
}

impl Host {
    pub(super) fn new(seed: u64, now: Now) -> Self {
        Self {
            rng: Rng::new(seed),
            faults: Faults::NONE,
            calls_left: None,
            dead: false,
            now,
            meanwhile: None,
            seen: Seen::default(),
        }
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.wall_ns = self.now.wall_ns.saturating_add_unsigned(ns);
    }
}

/// A file: what is read, and what was synced.
#[derive(Clone, Debug, Default)]
struct File {
    cache: Vec<u8>,
    durable: Vec<u8>,
}

/// A change of names that a power failure may undo.
#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// A folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    changes: Vec<Change>,
}

impl Folder {
    /// Loses what was not synced, in whole or in part.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let kept = rng.below(self.changes.len() as u64 + 1) as usize;
        let in_order = rng.chance(0.7);
        let mut names = self.durable_names.clone();
        for (index, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            let survives = if in_order {
                index < kept
            } else {
                rng.chance(0.5)
            };
            if survives {
                apply(&mut names, &change);
            }
        }
        for file in &mut self.files {
            lose_content(file, rng);
        }
        self.durable_names = names.clone();
        self.names = names;
    }

    /// Makes the first `count` changes of names safe.
    fn settle_names(&mut self, count: usize) {
        for change in self.changes.drain(..count) {
            apply(&mut self.durable_names, &change);
        }
    }

    /// Makes all that is there safe.
    pub(super) fn settle(&mut self) {
        for file in &mut self.files {
            file.durable.clone_from(&file.cache);
        }
        self.durable_names = self.names.clone();
        self.changes.clear();
    }

    /// Flips a bit of any file, on disk too if it is there already; gives the file's name. Not of
    /// `store`: whose rows they are is not known then, and they are left to a person.
    pub(super) fn flip(&mut self, rng: &mut Rng) -> Option<String> {
        let is_flipped = |(name, file): &(&String, &usize)| {
            name.as_str() != STORE && !self.files[**file].cache.is_empty()
        };
        let names: Vec<_> = self.names.iter().filter(is_flipped).collect();
        let (name, file) = *names.get(rng.below(names.len() as u64) as usize)?;
        let (name, file) = (name.clone(), &mut self.files[*file]);
        let (at, bit) = (rng.below(file.cache.len() as u64) as usize, rng.below(8));
        file.cache[at] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= 1 << bit;
        }
        Some(name)
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.names
            .values()
            .map(|file| self.files[*file].cache.len() as u64)
            .sum()
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        Change::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Change::Remove(name) => {
            names.remove(name);
        }
    }
}

/// Blocks of the page cache reach the disk one by one, in any order.
const PAGE: usize = 256;

fn lose_content(file: &mut File, rng: &mut Rng) {
    match rng.below(4) {
        0 => file.cache = file.durable.clone(),
        1 => {}
        2 if file.cache.starts_with(&file.durable) => {
            let new = (file.cache.len() - file.durable.len()) as u64;
            file.cache
                .truncate(file.durable.len() + rng.below(new + 1) as usize);
        }
        _ => {
            let durable = file.durable.len();
            for (index, page) in file.cache.chunks_mut(PAGE).enumerate() {
                if (index + 1) * PAGE > durable && rng.chance(0.4) {
                    let old = durable.saturating_sub(index * PAGE).min(page.len());
                    page[old..].fill(0);
                }
            }
        }
    }
    file.durable = file.cache.clone();
}

/// A folder as the spool sees it.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    pub(super) host: Rc<RefCell<Host>>,
    pub(super) folder: Rc<RefCell<Folder>>,
    /// Whether its calls may take long.
    is_slow: bool,
}

impl SimDisk {
    /// An empty folder.
    pub(super) fn new(host: &Rc<RefCell<Host>>) -> Self {
        Self {
            host: Rc::clone(host),
            folder: Rc::default(),
            is_slow: false,
        }
    }

    /// The same folder for a thread that may wait.
    pub(super) fn slow(&self) -> Self {
        Self {
            is_slow: true,
            ..self.clone()
        }
    }

    /// Whether the call happens; if not, why.
    fn call(&self, what: &str) -> Result<(), DiskError> {
        let mut host = self.host.borrow_mut();
        if let Some(left) = &mut host.calls_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                host.dead = true;
            }
        }
        if host.dead {
            return Err(error("dead", false));
        }
        let fail = host.faults.fail;
        if host.rng.chance(fail) {
            return Err(error(what, false));
        }
        let slow = host.faults.slow;
        if !self.is_slow || !host.rng.chance(slow) {
            return Ok(());
        }
        host.seen.slow_calls += 1;
        let meanwhile = host.meanwhile.clone();
        drop(host);
        if let Some(prober) = meanwhile {
            prober.borrow_mut().go_on_meanwhile();
        }
        let mut host = self.host.borrow_mut();
        // The end came first: what was asked for may have been done all the same.
        if host.dead && host.rng.chance(0.5) {
            return Err(error("dead", false));
        }
        Ok(())
    }

    /// Makes names safe: those that were there when the call began, and any that came since.
    fn settle_names(&self, before: usize) {
        let mut folder = self.folder.borrow_mut();
        let more = (folder.changes.len() - before) as u64;
        let count = before + self.host.borrow_mut().rng.below(more + 1) as usize;
        folder.settle_names(count);
    }

    fn file(&self, name: &str) -> Result<usize, DiskError> {
        let folder = self.folder.borrow();
        folder
            .names
            .get(name)
            .copied()
            .ok_or_else(|| error(&format!("no {name}"), false))
    }
}

fn error(words: &str, is_full: bool) -> DiskError {
    DiskError {
        is_full,
        words: words.to_owned(),
    }
}

impl Disk for SimDisk {
    fn list(&mut self) -> Result<Vec<Entry>, DiskError> {
        self.call("list")?;
        let folder = self.folder.borrow();
        let entry = |(name, file): (&String, &usize)| Entry {
            name: name.clone(),
            bytes: folder.files[*file].cache.len() as u64,
        };
        Ok(folder.names.iter().map(entry).collect())
    }

    fn read(&mut self, name: &str, from: u64, bytes: u64) -> Result<Vec<u8>, DiskError> {
        self.call("read")?;
        let file = self.file(name)?;
        let cache = &self.folder.borrow().files[file].cache;
        let from = (from as usize).min(cache.len());
        let until = (from + bytes as usize).min(cache.len());
        Ok(cache[from..until].to_vec())
    }

    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.call("create")?;
        let mut folder = self.folder.borrow_mut();
        let file = folder.files.len();
        folder.files.push(File::default());
        folder.names.insert(name.to_owned(), file);
        folder.changes.push(Change::Create(name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let was_dead = self.host.borrow().dead;
        let called = self.call("append");
        let file = self.file(name)?;
        let mut host = self.host.borrow_mut();
        let mut folder = self.folder.borrow_mut();
        let room = host.faults.capacity.saturating_sub(folder.bytes());
        let fits = bytes.len() as u64 <= room;
        let written = match (&called, fits) {
            (Ok(()), true) => bytes.len(),
            (Ok(()), false) => room as usize,
            // All of it, too: an error does not say that nothing was done.
            (Err(_), _) if !was_dead => host.rng.below(bytes.len() as u64 + 1) as usize,
            (Err(_), _) => 0,
        };
        let written = written.min(room as usize);
        folder.files[file]
            .cache
            .extend_from_slice(&bytes[..written]);
        called?;
        if fits {
            Ok(())
        } else {
            Err(error("disk full", true))
        }
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.call("truncate")?;
        let file = self.file(name)?;
        self.folder.borrow_mut().files[file]
            .cache
            .truncate(bytes as usize);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let file = self.file(name)?;
        let before = self.folder.borrow().changes.len();
        let content = self.folder.borrow().files[file].cache.clone();
        self.call("sync")?;
        self.folder.borrow_mut().files[file].durable = content;
        self.settle_names(before);
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        let before = self.folder.borrow().changes.len();
        self.call("sync folder")?;
        self.settle_names(before);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.call("rename")?;
        let file = self.file(from)?;
        let mut folder = self.folder.borrow_mut();
        folder.names.remove(from);
        folder.names.insert(to.to_owned(), file);
        folder
            .changes
            .push(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.call("remove")?;
        self.file(name)?;
        let mut folder = self.folder.borrow_mut();
        folder.names.remove(name);
        folder.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    /// Half of the disks that are limited know it.
    fn room(&mut self) -> Option<u64> {
        let capacity = self.host.borrow().faults.capacity;
        let is_known = capacity != u64::MAX && capacity.is_multiple_of(2);
        is_known.then(|| capacity.saturating_sub(self.folder.borrow().bytes()))
    }
}
