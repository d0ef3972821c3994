//! Settings of the spool, where results wait until the store has them: types, defaults, limits.
//!
//! In: the text of one value. Out: the checked value, or the [`Mistake`] that names what is
//! allowed.

use std::ops::RangeInclusive;

use super::bytes::{self, NotBytes};
use super::value::{choice, time};
use crate::mistake::Mistake;
pub use crate::spool::{DropPolicy, SyncPolicy};

/// Bytes that may wait when nobody says: days of a thousand probes a second.
pub const SPOOL_BYTES_DEFAULT: u64 = 10 << 30;
/// The same in memory: minutes of a hundred thousand probes a second.
pub const SPOOL_BYTES_MEMORY: u64 = 256 << 20;
/// Bytes that may wait: from 1 MiB, which a segment must fit into, to more than any disk has.
pub const SPOOL_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// Age of results that may wait when nobody says: as long as the store keeps each result.
pub const SPOOL_AGE_DEFAULT_NS: u64 = 7 * 86_400_000_000_000;
/// Age of results that may wait: from a second, below which a store that is merely busy would lose
/// results, to ten years.
pub const SPOOL_AGE_NS: RangeInclusive<u64> = 1_000_000_000..=3_650 * 86_400_000_000_000;

/// Where results wait, for how long, and what goes when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// On disk or in memory.
    pub place: SpoolPlace,
    /// The most bytes that wait.
    pub bytes_max: u64,
    /// The longest that results wait, nanoseconds.
    pub age_max_ns: u64,
    /// What is dropped when it is full.
    pub drop: DropPolicy,
    /// When the disk must have them.
    pub sync: SyncPolicy,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            place: SpoolPlace::Disk,
            bytes_max: SPOOL_BYTES_DEFAULT,
            age_max_ns: SPOOL_AGE_DEFAULT_NS,
            drop: DropPolicy::Oldest,
            sync: SyncPolicy::Batch,
        }
    }
}

/// Where results wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolPlace {
    /// In files: they survive a crash.
    Disk,
    /// In memory: faster, and lost in a crash.
    Memory,
}

impl SpoolPlace {
    /// Bytes that may wait there when nobody says.
    pub fn bytes_default(self) -> u64 {
        match self {
            Self::Disk => SPOOL_BYTES_DEFAULT,
            Self::Memory => SPOOL_BYTES_MEMORY,
        }
    }
}

/// Where results wait.
pub(crate) fn place(text: &str) -> Result<SpoolPlace, Mistake> {
    match text {
        "disk" => Ok(SpoolPlace::Disk),
        "memory" => Ok(SpoolPlace::Memory),
        _ => Err(choice(text, &["disk", "memory"], "")),
    }
}

/// What is dropped when the spool is full.
pub(crate) fn drop(text: &str) -> Result<DropPolicy, Mistake> {
    match text {
        "oldest" => Ok(DropPolicy::Oldest),
        "newest" => Ok(DropPolicy::Newest),
        _ => Err(choice(text, &["oldest", "newest"], "")),
    }
}

/// When results are forced to the disk.
pub(crate) fn sync(text: &str) -> Result<SyncPolicy, Mistake> {
    match text {
        "chunk" => Ok(SyncPolicy::Chunk),
        "batch" => Ok(SyncPolicy::Batch),
        "never" => Ok(SyncPolicy::Never),
        _ => Err(choice(text, &["chunk", "batch", "never"], "")),
    }
}

/// The longest that results wait.
pub(crate) fn age(text: &str) -> Result<u64, Mistake> {
    time(text, SPOOL_AGE_NS, "7d")
}

/// The most bytes that wait.
pub(crate) fn size(text: &str) -> Result<u64, Mistake> {
    let (min, max) = (*SPOOL_BYTES.start(), *SPOOL_BYTES.end());
    let what = match bytes::parse(text) {
        Ok(bytes) if SPOOL_BYTES.contains(&bytes) => return Ok(bytes),
        Ok(bytes) if bytes < min => format!("{text:?} is too little"),
        Ok(_) | Err(NotBytes::TooMany) => format!("{text:?} is too much"),
        Err(NotBytes::NoUnit) => format!("{text:?} has no unit"),
        Err(NotBytes::Malformed) => format!("{text:?} is not an amount of bytes"),
    };
    Err(Mistake::new(
        what,
        format!(
            "Write a number and its unit (MB, GB, TB, or MiB, GiB, TiB), for example 10GiB;\n\
             from {} to {}.",
            bytes::show(min),
            bytes::show(max)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Mistake>, what: &str, advice: &str) {
        let mistake = result.unwrap_err();
        assert!(mistake.what.contains(what), "{mistake}");
        assert!(mistake.advice.contains(advice), "{mistake}");
    }

    #[test]
    fn amounts_stay_within_their_range() {
        assert_eq!(size("10GiB"), Ok(SPOOL_BYTES_DEFAULT));
        assert_eq!((size("1MiB"), size("1024TiB")), (Ok(1 << 20), Ok(1 << 50)));
        refused(size("1MB"), "\"1MB\" is too little", "from 1MiB to 1024TiB");
        refused(size("1025TiB"), "is too much", "for example 10GiB");
        refused(size("99999999TiB"), "is too much", "for example 10GiB");
        refused(size("10"), "\"10\" has no unit", "MiB, GiB");
        refused(size("10G"), "not an amount of bytes", "MiB, GiB");
        assert_eq!(age("7d"), Ok(SPOOL_AGE_DEFAULT_NS));
        refused(age("999ms"), "too short", "from 1s to 3650d");
    }

    #[test]
    fn choices() {
        assert_eq!(place("memory"), Ok(SpoolPlace::Memory));
        assert_eq!(drop("newest"), Ok(DropPolicy::Newest));
        assert_eq!(sync("never"), Ok(SyncPolicy::Never));
        refused(
            place("dsk"),
            "\"dsk\"",
            "Did you mean disk? Allowed: disk, memory.",
        );
        refused(drop("old"), "\"old\"", "Allowed: oldest, newest.");
        refused(
            sync("always"),
            "\"always\"",
            "Allowed: chunk, batch, never.",
        );
    }
}
