//! The words of the spool's interface: what goes in, what comes out, what limits it.

use super::disk::DiskError;
use super::gap::GapReason;
use super::segment::{self, Marker, Table, Totals};
use crate::native::{self, Block};
use crate::rows::RowChunk;

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

impl Identity {
    /// The token of segment `number`; there is another generation of it for each time that the
    /// server remembered one without the rows.
    pub(super) fn token(&self, number: u64, generation: u32) -> String {
        let Self { source, run, .. } = self;
        match generation {
            1 => format!("{source}-{run}-{number}"),
            _ => format!("{source}-{run}-{number}-{generation}"),
        }
    }
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

impl Chunk {
    /// Encodes and compresses rows.
    pub fn of(chunk: &RowChunk) -> Self {
        let mut markers: Vec<Marker> = Vec::new();
        let mut day = None;
        for row in &chunk.rows {
            let this = segment::day(row.time_due);
            // Nearly all rows are of the day of the row before.
            let is_known = day.replace(this) == Some(this)
                || markers
                    .iter()
                    .any(|marker| segment::day(marker.time_due) == this);
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
    /// Whether more may have come after that, so that these are the least.
    pub is_least: bool,
}

/// One insert to be made; given back by [`Spool::done`](super::Spool::done).
#[derive(Debug)]
pub struct Job {
    /// Number of the segment.
    pub number: u64,
    /// Where the rows go.
    pub table: Table,
    /// Names this content and no other, for ever.
    pub token: String,
    /// Whether the server has taken it under another token and has not got its rows. Of
    /// [`Table::Incoming`] it must then go into `results` alone.
    pub is_once_more: bool,
    /// How many rows.
    pub rows: u64,
    /// When the last of them came, wall clock nanoseconds: no insert was tried before that.
    pub until_ns: i64,
    /// When it was given out, wall clock nanoseconds: this insert is not tried before that.
    pub since_ns: i64,
    /// Blocks in ClickHouse's compressed Native format: the body of the request.
    pub body: Vec<u8>,
    /// If an earlier insert may have reached the server: what to ask when this insert is
    /// acknowledged. If there is no row, and the server was killed since the earlier insert, that
    /// is [`End::Missing`]. Rows of [`Table::is_replacing`] may come twice, so nobody needs to ask.
    pub question: Option<Question>,
    /// Whether the server may have forgotten the token of that insert. Then ask the `question`
    /// first: if it has rows of each day, that is [`End::Written`] and nothing must be inserted.
    pub ask_first: bool,
}

/// A question about the rows of a job that was tried before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The statement that gives of how many days the server has rows of this job, and for how
    /// many seconds the server has run.
    pub sql: String,
    /// Of how many days there are rows in the job.
    pub days: u64,
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
    /// The server answered that it failed: some of its tables may have the rows, and those know
    /// the token.
    Failed(String),
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
