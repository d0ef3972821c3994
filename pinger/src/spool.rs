//! The spool: what stands between the gatherer and ClickHouse, so that nothing is lost while the
//! server or this process is away.
//!
//! In: chunks of rows, and how inserts ended. Out: jobs, each an insert with its token, and files
//! by which a later run takes over. Two state machines of one run's folder: the [`Filler`] writes
//! chunks into the open segment, the [`Spool`] does all else, and they tell each other what the
//! other needs to know ([`Report`], [`Allowance`]). Disk and time are arguments, so the simulator
//! drives both; there are no threads here. On a disk that takes seconds to sync, calls of the
//! spool take seconds; the filler, in another thread, writes on.
//!
//! | name | what |
//! |---|---|
//! | `store` | which store the rows are for, which source and run they are of |
//! | `00000001.open` | the segment being filled |
//! | `00000001.new` | a small segment being written; void until it is renamed |
//! | `00000001.seg` | whole, never sent |
//! | `00000001.try` | sent at least once: the store may have it |
//! | `00000001.done` | written; the last one is kept, for its number and totals |
//! | `refused/00000001.seg`, `.txt` | refused for good, and why |
//! | `ended` | all that the run has made is in this folder, in the store, or told by gaps |
//!
//! What is told by gaps is told once: a gap, and the segment that it speaks of, never both reach
//! the store. And each file carries *accounts*, how much of the run is accounted for with it, so
//! whoever takes over a killed run knows what is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::native::Block;

pub mod terms;
pub mod disk;
pub mod memory;
pub mod segment;
pub mod gap;
mod files;
mod fill;
mod seam;
mod whole;
mod room;
mod send;
mod doubt;
mod adopt;
pub mod look;
pub mod again;

pub use disk::{Disk, DiskError, Entry};
pub use doubt::DOUBT_FRESH_NS;
pub use files::{ENDED, STORE};
pub use fill::{BACKLOG_AGE_NS, BATCH_AGE_NS, BATCH_BYTES, BATCH_ROWS, Filler};
pub use gap::{Gap, GapReason, Loss};
pub use memory::MemoryDisk;
pub use seam::{Allowance, Report};
pub use segment::{Accounts, Marker, Table, Totals};
pub use send::{BACKOFF_MAX_NS, BACKOFF_MIN_NS, TRIED_MAX};
pub use terms::{
    Chunk, Counts, DropPolicy, End, Identity, Job, Notice, Now, Options, Question, SpoolError,
    SyncPolicy, Tally,
};

use files::State;
use fill::{Numbers, Open};
use room::{Doomed, Losses};
use seam::FillerSeen;
use segment::Fate;

/// How often a spool wants to be ticked: as often as chunks come.
pub const TICK_NS: u64 = crate::rows::CHUNK_AGE_NS;

/// How long the disk must have worked before that is said: one that works now and then does not.
const DISK_AGAIN_NS: u64 = 10_000_000_000;

/// How often the disk is asked how much room there is, and the spool looks for what is too old.
const LOOK_NS: u64 = 1_000_000_000;

/// The state machine of one run's folder. See the module.
#[derive(Debug)]
pub struct Spool<D> {
    disk: D,
    identity: Identity,
    options: Options,
    numbers: Numbers,
    /// What of the run is in segments that the filler has sealed, and what is told by gaps that
    /// are on disk.
    accounts: Accounts,
    filler: FillerSeen,
    /// Rows of small tables that are not on disk because it fails.
    small: VecDeque<(Table, Block)>,
    /// Segments that are full but not whole on disk yet.
    closing: Vec<Open>,
    /// Whole segments that the store does not have yet, by number.
    segments: BTreeMap<u64, Segment>,
    /// Those of them that were sent and are to be sent again, or are out.
    tried: BTreeSet<u64>,
    /// Segments put aside since the store accepted results last.
    refused_in_a_row: u32,
    /// Segments that the server refused for good, and its words, until they are put aside.
    unwanted: BTreeMap<u64, String>,
    /// Segments that the store has, whose files are there still, with name and length.
    written_files: BTreeMap<u64, (State, u64)>,
    /// The highest accounts in whole files, and the numbers of the last files that have them. They
    /// need not be the newest: gaps are told while a segment is filled.
    most_filled: (Totals, u64),
    most_told: (Totals, u64),
    /// Segments that a gap on disk tells of, to be deleted or put aside.
    doomed: BTreeMap<u64, Doomed>,
    losses: Losses,
    /// What is missing of a run that was taken over, until it is on disk.
    crash: Option<Gap>,
    /// Whether a gap on disk, or `ended`, says what is missing.
    is_told: bool,
    /// Whether `ended` is there.
    is_closed: bool,
    /// Names were changed, and a power failure may undo that.
    is_folder_dirty: bool,
    /// Length of the files in `segments`, `written_files` and `doomed`.
    kept_bytes: u64,
    /// What other spools take of our limit.
    bytes_elsewhere: u64,
    /// How many bytes the filler will have written when the disk has no room left for us, as far
    /// as that is known.
    room_until: Option<u64>,
    looked_ns: Option<u64>,
    /// Since when there is something too old, CLOCK_MONOTONIC nanoseconds.
    old_since_ns: Option<u64>,
    accepted: u64,
    written: u64,
    dropped: u64,
    /// When the disk failed last, while that is the user's business.
    failed_ns: Option<u64>,
    notices: Vec<Notice>,
}

/// A whole segment that the store does not have yet.
#[derive(Debug)]
struct Segment {
    table: Table,
    /// [`State::Whole`] or [`State::Tried`], as in its name.
    state: State,
    bytes: u64,
    /// What it holds, if that is known: rows of its table.
    size: Totals,
    is_size_known: bool,
    /// When its first and last results came, wall clock nanoseconds.
    from_ns: i64,
    until_ns: i64,
    /// When it was begun, CLOCK_MONOTONIC nanoseconds; `None` of an earlier run's.
    since_ns: Option<u64>,
    /// Of a segment of gaps: what it tells of. It is sent when all that has happened.
    fates: Vec<(u64, Fate)>,
    /// Of a segment of gaps: whether it tells what is missing of the whole run.
    closes: bool,
    is_out: bool,
    /// Since when an insert of it may have reached the server, wall clock nanoseconds.
    doubt_ns: Option<i64>,
    /// The server has answered each try since then.
    is_answered: bool,
    /// A gap on disk tells what of it is damaged.
    is_damage_told: bool,
    /// Its name of this state is safe from a power failure.
    is_name_safe: bool,
    /// How often it was given out.
    attempts: u32,
    refusals: u32,
    /// Grows each time that the server remembers a token without the rows.
    generation: u32,
    /// When it may be sent again, CLOCK_MONOTONIC nanoseconds.
    next_ns: u64,
    backoff_ns: u64,
}

impl Segment {
    /// How many results it holds: rows of other tables are not counted.
    fn results(&self) -> Totals {
        match self.table {
            Table::Incoming => self.size,
            _ => Totals::default(),
        }
    }
}

impl<D: Disk> Spool<D> {
    /// A spool of a run that begins, in an empty folder, and what fills it. `disk` and `same` are
    /// the same folder, one for each of them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(
        disk: D,
        same: D,
        identity: Identity,
        options: Options,
    ) -> Result<(Self, Filler<D>), SpoolError> {
        let mut spool = Self::empty(disk, identity.clone(), options);
        spool.write_store()?;
        let (numbers, allowance) = (spool.numbers.clone(), spool.allowance());
        let filler = Filler::new(same, identity, options, numbers, allowance);
        Ok((spool, filler))
    }

    fn empty(disk: D, identity: Identity, options: Options) -> Self {
        Self {
            disk,
            identity,
            options,
            numbers: Numbers::from(1),
            accounts: Accounts::default(),
            filler: FillerSeen::default(),
            small: VecDeque::new(),
            closing: Vec::new(),
            segments: BTreeMap::new(),
            tried: BTreeSet::new(),
            refused_in_a_row: 0,
            unwanted: BTreeMap::new(),
            written_files: BTreeMap::new(),
            most_filled: (Totals::default(), 0),
            most_told: (Totals::default(), 0),
            doomed: BTreeMap::new(),
            losses: Losses::default(),
            crash: None,
            is_told: false,
            is_closed: false,
            is_folder_dirty: false,
            kept_bytes: 0,
            bytes_elsewhere: 0,
            room_until: None,
            looked_ns: None,
            old_since_ns: None,
            accepted: 0,
            written: 0,
            dropped: 0,
            failed_ns: None,
            notices: Vec::new(),
        }
    }

    /// Does what is due: makes segments whole, tells of gaps, drops what is too old, tries again
    /// what failed. To be called each [`TICK_NS`] or so.
    pub fn tick(&mut self, now: Now) {
        let is_time = self
            .looked_ns
            .is_none_or(|looked_ns| now.mono_ns >= looked_ns + LOOK_NS);
        if is_time {
            self.look(now);
        }
        self.finish_closing(now);
        self.write_small_tables(now);
        if is_time {
            self.drop_old(now);
        }
        self.put_unwanted_aside(now);
        self.tell_losses(now);
        self.execute_doomed(now);
        self.close_adopted(now);
        self.sweep(now);
        let is_well = |failed_ns: u64| now.mono_ns >= failed_ns + DISK_AGAIN_NS;
        if self.failed_ns.is_some_and(is_well) {
            self.failed_ns = None;
            self.notices.push(Notice::DiskAgain);
        }
    }

    /// The run has ended, and all its rows were put: tells of the last gaps, and notes that
    /// nothing is missing. To be called again if it fails, and after [`Filler::end`] while that
    /// has rows; if it never succeeds, the next run tells of a crash that cost nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn end(&mut self, now: Now) -> Result<(), SpoolError> {
        self.finish_closing(now);
        self.write_small_tables(now);
        if !self.losses.is_empty() {
            self.commit_gaps(now, Vec::new(), &[])?;
        }
        if self.filler.rows() > 0 || !self.closing.is_empty() || !self.small.is_empty() {
            return Err(SpoolError::Disk(DiskError {
                is_full: false,
                words: "results wait in memory because the disk does not take them".to_owned(),
            }));
        }
        self.write_ended()?;
        Ok(())
    }

    /// Whether it is on disk that the run has ended and what it lost.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether the run has ended and nothing of it waits: the folder may be cleared.
    pub fn is_drained(&self) -> bool {
        self.is_closed
            && self.segments.is_empty()
            && self.closing.is_empty()
            && self.small.is_empty()
            && self.doomed.is_empty()
            && self.losses.is_empty()
            && self.filler.rows() == 0
    }

    /// Removes all files of a drained spool but those in `refused/`; returns whether none is left.
    ///
    /// # Errors
    /// When the disk fails; to be done again.
    pub fn clear(&mut self) -> Result<bool, SpoolError> {
        let names: Vec<String> = self
            .disk
            .list()?
            .into_iter()
            .map(|file| file.name)
            .collect();
        for name in &names {
            if files::parse(name).is_some_and(|(_, state)| state != State::Aside) {
                self.disk.remove(name)?;
            }
        }
        self.written_files.clear();
        self.kept_bytes = 0;
        if names.iter().any(|name| files::is_aside(name)) {
            return Ok(false);
        }
        // `ended` goes last: without it, a file that a power failure brings back would look like
        // a run that was killed.
        for name in [STORE, ENDED] {
            self.disk.sync_folder()?;
            if names.iter().any(|is| is == name) {
                self.disk.remove(name)?;
            }
        }
        Ok(true)
    }

    /// How many bytes other spools take of the limit that this one has.
    pub fn set_bytes_elsewhere(&mut self, bytes: u64) {
        self.bytes_elsewhere = bytes;
    }

    /// What became of the rows so far, as far as the filler has told.
    pub fn counts(&self) -> Counts {
        let accepted = self.accepted + self.filler.rows();
        Counts {
            accepted,
            written: self.written,
            spooled: accepted - self.written - self.dropped,
            dropped: self.dropped,
            bytes: self.bytes(),
            segments: self.segments.len() as u64,
        }
    }

    /// Counts the rows that wait one by one; the simulator compares this with
    /// [`Counts::spooled`].
    pub fn audit(&self) -> u64 {
        let closing = self.closing.iter().map(|open| open.size.rows);
        let segments = self.segments.values().map(|is| is.results().rows);
        self.filler.rows() + closing.chain(segments).sum::<u64>()
    }

    /// Rows that wait in memory because the disk does not take them.
    pub fn unwritten(&self) -> u64 {
        self.filler.progress.waiting_rows
    }

    /// What happened that the user should know, since this was asked last.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Whose rows these are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What keeps the files.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Length of all files but those in `refused/`.
    fn bytes(&self) -> u64 {
        let filling = self.filler.progress.appended - self.filler.received;
        self.own_bytes() + filling
    }

    /// The same without the segments that the filler has.
    fn own_bytes(&self) -> u64 {
        let closing = self.closing.iter().map(|open| open.bytes);
        self.kept_bytes + closing.sum::<u64>()
    }

    fn is_synced(&self) -> bool {
        self.options.sync != SyncPolicy::Never
    }

    /// Notes that the disk failed, and says so if that is news.
    fn fail(&mut self, now: Now, error: &DiskError) {
        if self.failed_ns.replace(now.mono_ns).is_none() {
            self.notices.push(Notice::Disk(error.words.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
