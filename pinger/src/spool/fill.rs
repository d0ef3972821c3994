//! How results get into segments: chunks are appended to the open one, which is sealed when it is
//! large or old enough.
//!
//! In: chunks, and how much may be written. Out: bytes at the end of one file, and reports of
//! what became of them. It never syncs, renames, reads or waits for the rest of the spool: with a
//! thread of its own it writes chunks while the spool waits for a slow disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, DiskError};
use super::files::{self, State};
use super::gap::{GapReason, Loss};
use super::seam::{Allowance, Answer, Progress, Report, Want};
use super::segment::{
    Accounts, FRAME_SIZE, FrameHeader, HEADER_SIZE, Header, Kind, MARKER_SIZE, Table, Totals,
};
use super::{Chunk, DropPolicy, Identity, LOOK_NS, Now, Options, SyncPolicy};
use crate::native::checksum;

/// The most results in a segment, but for the chunk that filled it: what a server sorts and
/// stores well within a second.
pub const BATCH_ROWS: u64 = 500_000;

/// The most bytes of a segment, but for the chunk that filled it: two that are on their way, and
/// what the connections hold of them, take little memory.
pub const BATCH_BYTES: u64 = 32 << 20;

/// The fewest segments that a full spool has.
const PARTS_MIN: u64 = 16;

/// The longest that a segment is filled, so that a table read during a run is no older.
pub const BATCH_AGE_NS: u64 = 500_000_000;

/// The same while segments wait: an outage, or a slow disk, leaves few large segments.
pub const BACKLOG_AGE_NS: u64 = 10_000_000_000;

/// So many segments that wait are a backlog: one that waits is the next to be sent.
pub(super) const BACKLOG_SEGMENTS: usize = 2;

/// The most bytes of chunks that wait in memory for a disk that fails: seconds at any rate.
pub(super) const WAITING_BYTES_MAX: u64 = 16 << 20;

/// Why chunks are lost when the disk said nothing.
const TOO_LARGE: &str = "the spool has reached its size, and the store does not take rows";
const MEMORY: &str = "the spool's disk failed for too long";

/// The numbers of a run's files, for all who make some. A number names what the file will hold
/// for ever, so they only grow.
#[derive(Clone, Debug)]
pub(super) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    pub(super) fn from(first: u64) -> Self {
        Self(Arc::new(AtomicU64::new(first)))
    }

    pub(super) fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A segment being filled, or full and not yet whole on disk.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    /// Length up to which it is what it should be.
    pub(super) bytes: u64,
    pub(super) size: Totals,
    /// What of the run was in segments with it.
    pub(super) filled: Totals,
    pub(super) from_ns: i64,
    pub(super) until_ns: i64,
    /// When its first chunk came, CLOCK_MONOTONIC nanoseconds.
    pub(super) since_ns: u64,
    /// Behind `bytes` there may be a part of a frame, or all of it.
    pub(super) is_dirty: bool,
    pub(super) has_end: bool,
}

impl Open {
    pub(super) fn name(&self) -> String {
        files::name(self.number, State::Open)
    }

    pub(super) fn end_frame(&self) -> FrameHeader {
        FrameHeader {
            kind: Kind::End,
            markers: 0,
            body: 0,
            size: self.size,
            filled: self.filled,
            from_ns: self.from_ns,
            until_ns: self.until_ns,
            sum: checksum(&[]),
        }
    }
}

/// The state machine that fills segments. See the module.
#[derive(Debug)]
pub struct Filler<D> {
    disk: D,
    identity: Identity,
    options: Options,
    numbers: Numbers,
    allowance: Allowance,
    /// Chunks that are not on disk because it fails. What comes first may be there in part, if
    /// the open segment `is_dirty`.
    waiting: VecDeque<Chunk>,
    waiting_bytes: u64,
    open: Option<Open>,
    /// What of the run is in segments, or was.
    filled: Totals,
    /// Bytes written into segments, ever.
    appended: u64,
    /// How many those will be when the disk has no room left for us, as far as that is known.
    room_until: Option<u64>,
    looked_ns: Option<u64>,
    /// The number of the last question for room, and whether the answer is still to come.
    asked: u64,
    is_asking: bool,
    /// What the spool was not told yet.
    report: Report,
    /// What it was told last.
    reported: Progress,
}

impl<D: Disk> Filler<D> {
    pub(super) fn new(
        disk: D,
        identity: Identity,
        options: Options,
        numbers: Numbers,
        allowance: Allowance,
    ) -> Self {
        Self {
            disk,
            identity,
            options,
            numbers,
            allowance,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: None,
            filled: Totals::default(),
            appended: 0,
            room_until: None,
            looked_ns: None,
            asked: 0,
            is_asking: false,
            report: Report::default(),
            reported: Progress::default(),
        }
    }

    /// Takes rows. They are on disk when this returns, unless the disk fails or has no room: then
    /// they wait in memory, as long as there is room.
    pub fn put(&mut self, now: Now, chunk: Chunk) {
        self.waiting_bytes += chunk.block.bytes.len() as u64;
        self.waiting.push_back(chunk);
        self.pour(now, true);
        // The first one may be on disk already, where nothing can be taken back.
        let first = usize::from(self.is_dirty());
        while self.waiting_bytes > WAITING_BYTES_MAX && self.waiting.len() > first {
            let index = match self.options.drop {
                DropPolicy::Oldest => first,
                DropPolicy::Newest => self.waiting.len() - 1,
            };
            self.drop_waiting(index, MEMORY);
        }
    }

    /// Takes what the spool allows, and writes what waited for it.
    pub fn allow(&mut self, now: Now, allowance: Allowance) {
        self.allowance = allowance;
        // What it says need not be asked again at once.
        self.pour(now, false);
    }

    /// Does what is due: writes what waits, seals by age. To be called each
    /// [`TICK_NS`](super::TICK_NS) or so.
    pub fn tick(&mut self, now: Now) {
        let is_old = |looked_ns: u64| now.mono_ns >= looked_ns + LOOK_NS;
        if self.looked_ns.is_none_or(is_old) {
            self.look(now);
        }
        self.pour(now, true);
        let unseen = self.report.sealed.len();
        let limit_ns = if self.allowance.is_behind || unseen >= BACKLOG_SEGMENTS {
            BACKLOG_AGE_NS
        } else {
            BATCH_AGE_NS
        };
        let is_old = |open: &Open| open.size.rows > 0 && now.mono_ns >= open.since_ns + limit_ns;
        if self.open.as_ref().is_some_and(is_old) {
            self.seal();
        }
    }

    /// The run has ended, and all its rows were put: writes what waits, and seals. To be called
    /// again while chunks wait.
    pub fn end(&mut self, now: Now) {
        self.pour(now, true);
        self.seal();
    }

    /// Seals the segment being filled, so that it can be sent.
    pub fn seal(&mut self) {
        if let Err(error) = self.clean() {
            return self.fail(error);
        }
        let sealed = self.open.take_if(|open| open.size.rows > 0);
        self.report.sealed.extend(sealed);
    }

    /// What the spool does not know yet, if there is anything; to be given to
    /// [`Spool::take`](super::Spool::take).
    pub fn report(&mut self) -> Option<Report> {
        let progress = self.progress();
        if progress == self.reported && self.report.is_empty() {
            return None;
        }
        self.reported = progress;
        Some(Report {
            progress,
            ..std::mem::take(&mut self.report)
        })
    }

    fn progress(&self) -> Progress {
        Progress {
            appended: self.appended,
            open_rows: self.open.as_ref().map_or(0, |open| open.size.rows),
            waiting_rows: self.waiting_rows(),
        }
    }

    /// Rows that wait in memory because the disk does not take them.
    pub fn waiting_rows(&self) -> u64 {
        self.waiting.iter().map(|chunk| chunk.block.rows).sum()
    }

    /// Writes chunks that wait, as far as disk and limits allow.
    fn pour(&mut self, now: Now, may_ask: bool) {
        while let Some(needed) = self.waiting.front().map(room_for) {
            if let Err(error) = self.clean() {
                return self.fail(error);
            }
            if !self.has_room(now, needed) {
                match self.answer() {
                    Some(Answer::Never) => {
                        self.drop_waiting(0, TOO_LARGE);
                        continue;
                    }
                    // The disk is short, which may pass: they wait in memory for a while.
                    Some(Answer::Wait) => return self.fail(nearly_full()),
                    Some(Answer::Room) | None if may_ask => self.ask(needed, false),
                    Some(Answer::Room) | None => {}
                }
                return;
            }
            if let Err(error) = self.write_first(now) {
                if error.is_full && !self.is_dirty() && may_ask {
                    self.answer();
                    self.ask(needed, true);
                }
                return self.fail(error);
            }
        }
    }

    fn has_room(&mut self, now: Now, bytes: u64) -> bool {
        let then = self.appended.saturating_add(bytes);
        if self.room_until.is_some_and(|until| then > until) {
            // Somebody may have made room since.
            self.look(now);
        }
        then <= self
            .allowance
            .until
            .min(self.room_until.unwrap_or(u64::MAX))
    }

    /// Looks how much room the disk has, which it knows without reading.
    fn look(&mut self, now: Now) {
        self.looked_ns = Some(now.mono_ns);
        let room = self.disk.room();
        self.room_until = room.map(|room| self.appended.saturating_add(room));
    }

    /// Takes the answer to the last question, when it is there.
    fn answer(&mut self) -> Option<Answer> {
        let (number, answer) = self.allowance.answer.filter(|_| self.is_asking)?;
        self.is_asking = number != self.asked;
        (!self.is_asking).then_some(answer)
    }

    /// Asks for room, unless an answer is still to come.
    fn ask(&mut self, bytes: u64, is_full: bool) {
        if !self.is_asking {
            self.is_asking = true;
            self.asked += 1;
            self.report.want = Some(Want {
                number: self.asked,
                bytes,
                is_full,
            });
        }
    }

    fn is_dirty(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_dirty)
    }

    /// Takes away what a failed write left behind the open segment. Nothing else is written before
    /// that has worked: whoever reads the file after a crash would find the chunk there as well.
    fn clean(&mut self) -> Result<(), DiskError> {
        if let Some(open) = self.open.as_mut().filter(|open| open.is_dirty) {
            self.disk.truncate(&open.name(), open.bytes)?;
            open.is_dirty = false;
        }
        Ok(())
    }

    /// Appends the chunk that has waited longest. It stays where it was if that fails.
    fn write_first(&mut self, now: Now) -> Result<(), DiskError> {
        self.begin(now)?;
        let (Some(open), Some(chunk)) = (&mut self.open, self.waiting.front()) else {
            return Ok(());
        };
        let (header, bytes) = frame(chunk, self.filled);
        if let Err(error) = self.disk.append(&open.name(), &bytes) {
            open.is_dirty = true;
            // If this fails too, it is done before the next write.
            let _ = self.clean();
            return Err(error);
        }
        if open.size.rows == 0 {
            (open.from_ns, open.until_ns) = (chunk.from_ns, chunk.until_ns);
        }
        open.bytes += bytes.len() as u64;
        open.size = open.size.plus(header.size);
        open.filled = header.filled;
        open.from_ns = open.from_ns.min(chunk.from_ns);
        open.until_ns = open.until_ns.max(chunk.until_ns);
        // What is dropped is a whole segment: a small spool has small ones.
        let bytes_max = BATCH_BYTES.min(self.options.bytes_max / PARTS_MIN);
        let is_full = open.size.rows >= BATCH_ROWS || open.bytes >= bytes_max;
        if self.options.sync == SyncPolicy::Chunk {
            self.report.to_sync = Some(open.number);
        }
        self.filled = header.filled;
        self.appended += bytes.len() as u64;
        self.waiting_bytes -= chunk.block.bytes.len() as u64;
        self.waiting.pop_front();
        self.is_asking = false;
        // There is room: what was not asked yet need not be.
        self.report.want = None;
        if is_full {
            self.seal();
        }
        Ok(())
    }

    /// Begins a segment, if none is open.
    fn begin(&mut self, now: Now) -> Result<(), DiskError> {
        if self.open.is_some() {
            return Ok(());
        }
        let number = self.numbers.take();
        let name = files::name(number, State::Open);
        let header = self.header(number).emit();
        let begun = self.disk.create(&name);
        if let Err(error) = begun.and_then(|()| self.disk.append(&name, &header)) {
            // What is left of it holds no rows, so nobody minds it.
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        self.appended += header.len() as u64;
        self.open = Some(Open {
            number,
            bytes: header.len() as u64,
            size: Totals::default(),
            filled: self.filled,
            from_ns: now.wall_ns,
            until_ns: now.wall_ns,
            since_ns: now.mono_ns,
            is_dirty: false,
            has_end: false,
        });
        Ok(())
    }

    fn header(&self, number: u64) -> Header {
        Header {
            table: Table::Incoming,
            closes: false,
            source: self.identity.source,
            run: self.identity.run,
            number,
            accounts: Accounts {
                filled: self.filled,
                told: Totals::default(),
            },
        }
    }

    fn drop_waiting(&mut self, index: usize, words: &str) {
        let Some(chunk) = self.waiting.remove(index) else {
            return;
        };
        self.waiting_bytes -= chunk.block.bytes.len() as u64;
        self.is_asking &= index > 0;
        self.report.lose(Loss {
            size: Some(chunk.size()),
            from_ns: chunk.from_ns,
            until_ns: chunk.until_ns,
            reason: GapReason::SpoolFull,
            detail: words.to_owned(),
        });
    }

    fn fail(&mut self, error: DiskError) {
        self.report.failure = Some(error);
    }
}

/// A chunk as the next frame of a segment, where `filled` is in segments already.
fn frame(chunk: &Chunk, filled: Totals) -> (FrameHeader, Vec<u8>) {
    let mut sum = [0; 16];
    sum.copy_from_slice(&chunk.block.bytes[..16]);
    let header = FrameHeader {
        kind: Kind::Rows,
        markers: chunk.markers.len() as u8,
        body: chunk.block.bytes.len() as u32,
        size: chunk.size(),
        filled: filled.plus(chunk.size()),
        from_ns: chunk.from_ns,
        until_ns: chunk.until_ns,
        sum,
    };
    let mut bytes = header.emit(&chunk.markers);
    bytes.extend_from_slice(&chunk.block.bytes);
    (header, bytes)
}

/// How many bytes a chunk takes at most: as if it were a segment of its own.
fn room_for(chunk: &Chunk) -> u64 {
    let frame = HEADER_SIZE + 2 * FRAME_SIZE + chunk.markers.len() * MARKER_SIZE;
    frame as u64 + chunk.block.bytes.len() as u64
}

fn nearly_full() -> DiskError {
    DiskError {
        is_full: true,
        words: "the disk is nearly full".to_owned(),
    }
}
