//! The spool: what stands between the gatherer and ClickHouse, so that nothing is lost while the
//! server or this process is away.
//!
//! In: chunks of rows, and how inserts ended. Out: jobs, each an insert with its token, and files
//! by which a later run takes over. A state machine of one run's folder: the [`Disk`] and the time
//! are arguments, so the simulator drives it; it has no threads and waits for nothing.
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

use std::collections::VecDeque;

use crate::native::{self, Block};
use crate::rows::RowChunk;

pub mod disk;
pub mod gap;
pub mod memory;
pub mod segment;

pub use disk::{Disk, DiskError, Entry};
pub use gap::{Gap, GapReason, Loss};
pub use memory::MemoryDisk;
pub use segment::{Marker, Table, Totals};

/// A moment on both clocks: what is waited for is measured by the one that never jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Wall clock, nanoseconds since 1970 UTC.
    pub wall_ns: i64,
}

/// Whose rows a spool holds, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Key of the source.
    pub source: u32,
    /// Start of the run, wall clock nanoseconds.
    pub run: u64,
    /// The store: `embedded`, or `https://host:port/database`. One line.
    pub store: String,
}

/// What goes when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropPolicy {
    /// The oldest segments that were never sent.
    #[default]
    Oldest,
    /// The chunks that come.
    Newest,
}

/// When what is written is made safe from a power failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// With each chunk.
    Chunk,
    /// When a segment is whole, before it is sent.
    #[default]
    Batch,
    /// When the kernel likes: what is lost with the host is lost, what is lost with this process
    /// is not.
    Never,
}

/// Limits of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of files.
    pub bytes_max: u64,
    /// The longest a segment that was never sent is kept, nanoseconds.
    pub age_max_ns: i64,
    /// What goes when there is no more room.
    pub drop: DropPolicy,
    /// When files are synced.
    pub sync: SyncPolicy,
}

/// Rows as they go into the spool; given away whole, so never cloned.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The rows.
    pub block: Block,
    /// The first row of each day.
    pub markers: Vec<Marker>,
    /// How many probes the rows end.
    pub probes: u64,
    /// When the first row came, wall clock nanoseconds.
    pub from_ns: i64,
    /// When the last row came.
    pub until_ns: i64,
}

const DAY_NS: i64 = 86_400 * 1_000_000_000;

impl Chunk {
    /// Encodes and compresses rows.
    pub fn of(chunk: &RowChunk) -> Self {
        let mut markers: Vec<Marker> = Vec::new();
        let mut day = None;
        for row in &chunk.rows {
            let this = row.time_due.div_euclid(DAY_NS);
            // Nearly all rows are of the day of the row before.
            let is_known = day.replace(this) == Some(this)
                || markers
                    .iter()
                    .any(|marker| marker.time_due.div_euclid(DAY_NS) == this);
            if !is_known && markers.len() < segment::MARKERS_MAX {
                markers.push(Marker {
                    destination: row.destination,
                    sequence: row.sequence,
                    time_due: row.time_due,
                    outcome: row.outcome,
                });
            }
        }
        Self {
            block: native::results(&chunk.rows),
            markers,
            probes: chunk.probes,
            from_ns: chunk.from_ns,
            until_ns: chunk.until_ns,
        }
    }

    /// How much it holds.
    pub fn size(&self) -> Totals {
        Totals {
            rows: self.block.rows,
            probes: self.probes,
        }
    }
}

/// What a run counted where a kill of its process does not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Probes sent, those included that failed to leave.
    pub sent: u64,
    /// Results that were handed over.
    pub rows: u64,
    /// When it was written last, wall clock nanoseconds.
    pub last_ns: i64,
}

/// One insert to be made; given back by [`Spool::done`].
#[derive(Debug)]
pub struct Job {
    /// Number of the segment.
    pub number: u64,
    /// Where the rows go.
    pub table: Table,
    /// Names this content and no other, for ever.
    pub token: String,
    /// How often it was given out before.
    pub attempt: u32,
    /// How many rows.
    pub rows: u64,
    /// Blocks in ClickHouse's compressed Native format: the body of the request.
    pub body: Vec<u8>,
    /// Whether an earlier insert may have reached the server. If so and it acknowledges this one,
    /// ask whether it has a row like one of the `markers`; if it has none, that is
    /// [`End::Missing`].
    pub is_doubtful: bool,
    /// The first row of each day; empty for tables other than [`Table::Incoming`].
    pub markers: Vec<Marker>,
}

/// How an insert ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server has the rows.
    Written,
    /// The server acknowledges and has none of the markers: it remembers the token of an insert
    /// that never landed. The rows go again under another token.
    Missing,
    /// The server surely has none of the rows, and may take them later: this is why.
    Retry(String),
    /// Nobody knows whether the server has the rows.
    Doubtful(String),
    /// The server says that the rows are wrong: this is why.
    Refused(String),
    /// It was not tried.
    Untried,
}

/// What became of the rows: `accepted = written + spooled + dropped`. Rows of tables other than
/// [`Table::Incoming`] are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that came, or were there when the spool was taken over.
    pub accepted: u64,
    /// Rows that the server has.
    pub written: u64,
    /// Rows that wait.
    pub spooled: u64,
    /// Rows given up; a gap tells of them, or will.
    pub dropped: u64,
    /// Bytes of all files but those in `refused/`.
    pub bytes: u64,
    /// Segments that wait, of any table.
    pub segments: u64,
}

/// Something that the user should know, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The disk fails; rows wait in memory while there is room.
    Disk(String),
    /// The disk works again.
    DiskAgain,
    /// Results are being given up, for this reason, in words.
    Lost(GapReason, String),
}

/// Why a spool cannot be made or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolError {
    /// The disk fails.
    Disk(DiskError),
    /// The folder's rows are for another store, this one; or of another source or run.
    Foreign(String),
}

impl From<DiskError> for SpoolError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// The state machine of one run's folder. See the module.
#[derive(Debug)]
pub struct Spool<D> {
    disk: D,
    identity: Identity,
    options: Options,
    waiting: VecDeque<Chunk>,
    notices: Vec<Notice>,
}

impl<D: Disk> Spool<D> {
    /// A spool of a run that begins, in an empty folder.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(disk: D, identity: Identity, options: Options) -> Result<Self, SpoolError> {
        Ok(Self {
            disk,
            identity,
            options,
            waiting: VecDeque::new(),
            notices: Vec::new(),
        })
    }

    /// Takes over what a run left behind that ended, or was killed; its folder must be locked, so
    /// that nobody else does. Does nothing twice, however often it is cut short and done again.
    /// `tally` is what the run counted, if that is still known; it may be deleted when
    /// [`Spool::is_closed`].
    ///
    /// # Errors
    /// When the disk fails, or when the rows are for another store.
    pub fn adopt(
        disk: D,
        identity: Identity,
        options: Options,
        tally: Option<Tally>,
        now: Now,
    ) -> Result<Self, SpoolError> {
        let _ = (tally, now);
        Self::create(disk, identity, options)
    }

    /// Takes rows. They are on disk when this returns, unless the disk fails: then they wait in
    /// memory, as long as there is room.
    pub fn put(&mut self, now: Now, chunk: Chunk) {
        let _ = now;
        self.waiting.push_back(chunk);
    }

    /// Tells of results that never came here.
    pub fn lost(&mut self, now: Now, loss: Loss) {
        let _ = (now, loss);
    }

    /// Takes rows of a small table, as a segment of their own.
    pub fn add(&mut self, now: Now, table: Table, block: Block) {
        let _ = (now, table, block);
    }

    /// Does what is due: seals by age, tells of gaps, drops what is too old, tries again what
    /// failed. To be called each [`TICK_NS`] or so.
    pub fn tick(&mut self, now: Now) {
        let _ = now;
    }

    /// The next insert to be made, if there is one to be made now. May be called while other jobs
    /// are out.
    pub fn next(&mut self, now: Now) -> Option<Job> {
        let _ = now;
        None
    }

    /// Takes back a job, and how it ended.
    pub fn done(&mut self, now: Now, job: Job, end: End) {
        let _ = (now, job, end);
    }

    /// Seals the segment being filled, so that it can be sent.
    pub fn seal(&mut self, now: Now) {
        let _ = now;
    }

    /// The run has ended, and all its rows were put: seals, tells of the last gaps, and notes that
    /// nothing is missing. To be called again if it fails; if it never succeeds, the next run
    /// tells of a crash that cost nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn end(&mut self, now: Now) -> Result<(), SpoolError> {
        let _ = now;
        Ok(())
    }

    /// Whether it is on disk that the run has ended and what it lost.
    pub fn is_closed(&self) -> bool {
        true
    }

    /// Whether the run has ended and nothing of it waits: the folder may be cleared.
    pub fn is_drained(&self) -> bool {
        true
    }

    /// Removes all files of a drained spool but those in `refused/`; returns whether the folder
    /// is empty now.
    ///
    /// # Errors
    /// When the disk fails; to be done again.
    pub fn clear(&mut self) -> Result<bool, SpoolError> {
        Ok(true)
    }

    /// How many bytes other spools take of the limit that this one has.
    pub fn set_bytes_elsewhere(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// What happened that the user should know, since this was asked last.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Whose rows these are.
    pub fn identity(&self) -> &Identity {
        let _ = (&self.disk, &self.options);
        &self.identity
    }
}

/// How often a spool wants to be ticked: as often as chunks come.
pub const TICK_NS: u64 = crate::rows::CHUNK_AGE_NS;
