//! One run's spool with its folder: this run's, or one that an earlier run left.

use std::path::Path;
use std::sync::Arc;

use crate::config::{SpoolOptions, SpoolPlace};
use crate::spool::look::look;
use crate::spool::{
    Disk, ENDED, Entry, Filler, Identity, MemoryDisk, Now, Options, STORE, Spool, SpoolError,
};
use crate::store::StoreError;
use crate::store::disk::{Held, Place, RunKey};
use crate::wire::tally::{Tally, TallyCopy};

use super::Setup;

/// A spool, whose it is, and the lock of its folder.
pub(super) struct Line {
    pub(super) key: RunKey,
    pub(super) spool: Spool<Place>,
    /// None of a spool in memory.
    held: Option<Held>,
    /// How far the run is, if it is this one.
    pub(super) tally: Option<Arc<Tally>>,
    /// Whether the run's tally may be there.
    has_tally: bool,
    /// Whether it is of a run that did not end as it should.
    pub(super) was_killed: bool,
}

/// What came of taking over a folder.
pub(super) enum Adopted {
    /// It is ours.
    Line(Box<Line>),
    /// There was nothing in it to be sent.
    Nothing,
    /// It is for this other store.
    Foreign(String),
}

impl Line {
    /// The spool of a run that begins, with its registration in it, and what fills it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn create(
        setup: &mut Setup<'_>,
        now: Now,
    ) -> Result<(Self, Filler<Place>), StoreError> {
        let fail = |words: String| StoreError::Spool {
            path: setup.data_dir.to_owned(),
            words,
        };
        let (place, same, held) = match setup.options.place {
            SpoolPlace::Memory => {
                let memory = MemoryDisk::new();
                (Place::Memory(memory.same()), Place::Memory(memory), None)
            }
            SpoolPlace::Disk => {
                let held = Held::create(setup.data_dir, setup.key)
                    .map_err(|error| fail(error.to_string()))?;
                let folder = || held.disk().map_err(|error| fail(error.to_string()));
                let (place, same) = (Place::Folder(folder()?), Place::Folder(folder()?));
                (place, same, Some(held))
            }
        };
        let identity = identity(setup.key, &setup.store);
        let (mut spool, filler) = Spool::create(place, same, identity, limits(&setup.options))
            .map_err(|error| fail(words(&error)))?;
        for (table, block) in setup.registration.drain(..) {
            spool.add(now, table, block);
        }
        let RunKey { run, source } = setup.key;
        let tally = held
            .as_ref()
            .and_then(|held| Tally::create(source, run, held.path()).ok());
        let line = Self {
            key: setup.key,
            spool,
            held,
            tally: tally.map(Arc::new),
            has_tally: true,
            was_killed: false,
        };
        Ok((line, filler))
    }

    /// Takes over a folder that an earlier run left.
    ///
    /// # Errors
    /// When the disk refuses: why, in words.
    pub(super) fn adopt(
        key: RunKey,
        held: Held,
        options: &SpoolOptions,
        store: &str,
        now: Now,
    ) -> Result<Adopted, String> {
        let mut folder = held.disk().map_err(|error| error.to_string())?;
        let files = folder.list().map_err(|error| error.to_string())?;
        if files.is_empty() {
            // Made or removed by one that was cut short.
            let _ = held.remove();
            return Ok(Adopted::Nothing);
        }
        if is_kept(&files) {
            return Ok(Adopted::Nothing);
        }
        let tally = left_tally(key, held.path());
        let was_killed = files.iter().all(|file| file.name != ENDED);
        let place = Place::Folder(folder);
        match Spool::adopt(place, identity(key, store), limits(options), tally, now) {
            Ok(spool) => Ok(Adopted::Line(Box::new(Self {
                key,
                spool,
                held: Some(held),
                tally: None,
                has_tally: true,
                was_killed,
            }))),
            Err(SpoolError::Foreign(store)) => Ok(Adopted::Foreign(store)),
            Err(error) => Err(words(&error)),
        }
    }

    /// What notes in the folder how far the run is.
    pub(super) fn tally_copy(&self) -> Option<TallyCopy> {
        let (tally, held) = (self.tally.as_ref()?, self.held.as_ref()?);
        Some(TallyCopy::of(Arc::clone(tally), held.path()))
    }

    /// Removes the run's tally, once all that it says is on disk.
    pub(super) fn forget_tally(&mut self) {
        if self.has_tally && self.spool.is_closed() {
            Tally::remove(self.key.source, self.key.run);
            self.has_tally = false;
        }
    }

    /// Gaps that the store was not told of.
    pub(super) fn waiting_gaps(&mut self) -> u64 {
        // What cannot be read cannot be counted; that something waits is said all the same.
        look(self.spool.disk_mut()).map_or(0, |holdings| holdings.gaps)
    }

    /// Whether a segment of any table waits.
    pub(super) fn has_unsent(&self) -> bool {
        self.spool.counts().segments > 0
    }

    pub(super) fn is_on_disk(&self) -> bool {
        self.held.is_some()
    }

    /// Its folder; empty for one in memory.
    pub(super) fn path(&self) -> &Path {
        self.held.as_ref().map_or(Path::new(""), Held::path)
    }

    /// Removes the folder of a drained spool.
    pub(super) fn clear(mut self) {
        // What cannot be removed now is found, and found to be drained, by the next run.
        if let (Ok(true), Some(held)) = (self.spool.clear(), self.held.take()) {
            let _ = held.remove();
        }
    }
}

/// Whether only what the store refused is left of a run that has ended: that stays until somebody
/// has looked at it, and with it the folder.
fn is_kept(files: &[Entry]) -> bool {
    let is = |name: &str| files.iter().any(|file| file.name == name);
    let (aside, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name.contains('/'));
    let is_rest = |file: &&Entry| [STORE, ENDED].contains(&file.name.as_str());
    !aside.is_empty() && (is(ENDED) || others.is_empty()) && others.iter().all(is_rest)
}

/// What a run counted that left a folder: all of it, or the least, as far as its copy knows.
fn left_tally(key: RunKey, folder: &Path) -> Option<crate::spool::Tally> {
    let last = Tally::read(key.source, key.run);
    let counts = last.or_else(|| TallyCopy::read(folder))?;
    Some(crate::spool::Tally {
        sent: counts.sent,
        rows: counts.rows,
        last_ns: i64::try_from(counts.last_ns).unwrap_or(i64::MAX),
        is_least: last.is_none(),
    })
}

fn identity(key: RunKey, store: &str) -> Identity {
    Identity {
        source: key.source,
        run: key.run,
        store: store.to_owned(),
    }
}

fn limits(options: &SpoolOptions) -> Options {
    Options {
        bytes_max: options.bytes_max,
        age_max_ns: i64::try_from(options.age_max_ns).unwrap_or(i64::MAX),
        drop: options.drop,
        sync: options.sync,
    }
}

fn words(error: &SpoolError) -> String {
    match error {
        SpoolError::Disk(error) => error.words.clone(),
        SpoolError::Foreign(store) => format!("it holds results for another store, {store}"),
    }
}
