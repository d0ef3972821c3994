//! How rows get into segments: chunks are appended to the open one, which is sealed when it is
//! large or old enough; small tables get segments of their own.

use super::disk::{Disk, DiskError};
use super::files::{self, State};
use super::gap::{GapReason, Loss};
use super::segment::{
    FRAME_SIZE, Fate, FrameHeader, HEADER_SIZE, Header, Kind, MARKER_SIZE, Marker, Table, Totals,
    emit_fates,
};
use super::{Chunk, DropPolicy, Now, Segment, Spool, SyncPolicy};
use crate::native::{Block, checksum};

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

/// The same while segments wait: an outage leaves few large segments.
pub const BACKLOG_AGE_NS: u64 = 10_000_000_000;

/// So many segments that wait are a backlog: one that waits is the next to be sent.
const BACKLOG_SEGMENTS: usize = 2;

/// The most bytes of chunks that wait in memory for a disk that fails: seconds at any rate.
const WAITING_BYTES_MAX: u64 = 16 << 20;

/// The most blocks of small tables that wait in memory for a disk that fails. A run has few.
const SMALL_MAX: usize = 64;

/// The most segments that are full and cannot be finished; with more, chunks wait in memory.
const CLOSING_MAX: usize = 4;

/// Why chunks are lost when the disk said nothing.
const TOO_LARGE: &str = "the spool has reached its size, and the store does not take rows";
const MEMORY: &str = "the spool's disk failed for too long";

/// A segment being filled, or full and not yet whole on disk.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    /// Length up to which it is what it should be.
    pub(super) bytes: u64,
    pub(super) size: Totals,
    pub(super) totals: Totals,
    pub(super) from_ns: i64,
    pub(super) until_ns: i64,
    /// When its first chunk came, CLOCK_MONOTONIC nanoseconds.
    pub(super) since_ns: u64,
    /// Behind `bytes` there may be a part of a frame, or all of it.
    pub(super) is_dirty: bool,
    pub(super) has_end: bool,
}

impl Open {
    fn name(&self) -> String {
        files::name(self.number, State::Open)
    }

    fn end_frame(&self) -> FrameHeader {
        FrameHeader {
            kind: Kind::End,
            markers: 0,
            body: 0,
            size: self.size,
            totals: self.totals,
            from_ns: self.from_ns,
            until_ns: self.until_ns,
            sum: checksum(&[]),
        }
    }
}

impl<D: Disk> Spool<D> {
    /// Takes rows. They are on disk when this returns, unless the disk fails: then they wait in
    /// memory, as long as there is room.
    pub fn put(&mut self, now: Now, chunk: Chunk) {
        self.accepted += chunk.block.rows;
        self.waiting_bytes += chunk.block.bytes.len() as u64;
        self.waiting.push_back(chunk);
        self.pour(now);
        // The first one may be on disk already, where nothing can be taken back.
        let first = usize::from(self.is_dirty());
        while self.waiting_bytes > WAITING_BYTES_MAX && self.waiting.len() > first {
            let index = match self.options.drop {
                DropPolicy::Oldest => first,
                DropPolicy::Newest => self.waiting.len() - 1,
            };
            self.drop_waiting(now, index, MEMORY);
        }
    }

    /// Takes rows of a small table, as a segment of their own.
    pub fn add(&mut self, now: Now, table: Table, block: Block) {
        if self.small.len() >= SMALL_MAX {
            // The disk has failed for all of them, which the user was told.
            self.small.pop_front();
        }
        self.small.push_back((table, block));
        self.write_small_tables(now);
    }

    /// Seals the segment being filled, so that it can be sent.
    pub fn seal(&mut self, now: Now) {
        if let Err(error) = self.clean() {
            return self.fail(now, &error);
        }
        if let Some(open) = self.open.take_if(|open| open.size.rows > 0) {
            self.closing.push(open);
            self.finish_closing(now);
        }
    }

    pub(super) fn seal_if_old(&mut self, now: Now) {
        let limit_ns = if self.segments.len() >= BACKLOG_SEGMENTS {
            BACKLOG_AGE_NS
        } else {
            BATCH_AGE_NS
        };
        let is_old = |open: &Open| open.size.rows > 0 && now.mono_ns >= open.since_ns + limit_ns;
        if self.open.as_ref().is_some_and(is_old) {
            self.seal(now);
        }
    }

    /// Writes chunks that wait, as far as disk and limits allow.
    pub(super) fn pour(&mut self, now: Now) {
        while let Some(chunk) = self.waiting.front() {
            // With a segment's first and last bytes.
            let needed = room_for(chunk);
            if let Err(error) = self.clean() {
                return self.fail(now, &error);
            }
            if !self.has_room_after_a_look(now, needed) && !self.make_room(now, needed) {
                if self.is_within_size(needed) {
                    // The disk is short, which may pass: they wait in memory for a while.
                    return self.fail(now, &nearly_full());
                }
                self.drop_waiting(now, 0, TOO_LARGE);
                continue;
            }
            if let Err(error) = self.write_first(now) {
                self.fail(now, &error);
                let may_retry = error.is_full && !self.is_dirty() && self.make_room(now, needed);
                if !may_retry || self.write_first(now).is_err() {
                    return;
                }
            }
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
        self.clean()?;
        self.begin(now)?;
        let (Some(open), Some(chunk)) = (&mut self.open, self.waiting.front()) else {
            return Ok(());
        };
        let size = chunk.size();
        let mut sum = [0; 16];
        sum.copy_from_slice(&chunk.block.bytes[..16]);
        let header = FrameHeader {
            kind: Kind::Rows,
            markers: chunk.markers.len() as u8,
            body: chunk.block.bytes.len() as u32,
            size,
            totals: self.accounted.plus(size),
            from_ns: chunk.from_ns,
            until_ns: chunk.until_ns,
            sum,
        };
        let mut bytes = header.emit(&chunk.markers);
        bytes.extend_from_slice(&chunk.block.bytes);
        let name = open.name();
        if let Err(error) = self.disk.append(&name, &bytes) {
            open.is_dirty = true;
            // If this fails too, it is done before the next write.
            let _ = self.clean();
            return Err(error);
        }
        if open.size.rows == 0 {
            (open.from_ns, open.until_ns) = (chunk.from_ns, chunk.until_ns);
        }
        open.bytes += bytes.len() as u64;
        open.size = open.size.plus(size);
        open.totals = header.totals;
        open.from_ns = open.from_ns.min(chunk.from_ns);
        open.until_ns = open.until_ns.max(chunk.until_ns);
        // What is dropped is a whole segment: a small spool has small ones.
        let bytes_max = BATCH_BYTES.min(self.options.bytes_max / PARTS_MIN);
        let is_full = open.size.rows >= BATCH_ROWS || open.bytes >= bytes_max;
        self.accounted = header.totals;
        self.waiting_bytes -= chunk.block.bytes.len() as u64;
        self.room_bytes = self
            .room_bytes
            .map(|room| room.saturating_sub(bytes.len() as u64));
        self.waiting.pop_front();
        if self.options.sync == SyncPolicy::Chunk
            && let Err(error) = self.disk.sync(&name)
        {
            // It is written, and is synced again when the segment is sealed.
            self.fail(now, &error);
        }
        if is_full {
            self.seal(now);
        }
        Ok(())
    }

    /// Begins a segment, if none is open.
    fn begin(&mut self, now: Now) -> Result<(), DiskError> {
        if self.open.is_some() {
            return Ok(());
        }
        if self.closing.len() >= CLOSING_MAX {
            return Err(DiskError {
                is_full: false,
                words: "segments cannot be finished".to_owned(),
            });
        }
        let number = self.take_number();
        let name = files::name(number, State::Open);
        let header = self.header(number, Table::Incoming, self.accounted).emit();
        let begun = self.disk.create(&name);
        if let Err(error) = begun.and_then(|()| self.disk.append(&name, &header)) {
            // What is left of it holds no rows, so nobody minds it.
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        self.open = Some(Open {
            number,
            bytes: header.len() as u64,
            size: Totals::default(),
            totals: self.accounted,
            from_ns: now.wall_ns,
            until_ns: now.wall_ns,
            since_ns: now.mono_ns,
            is_dirty: false,
            has_end: false,
        });
        Ok(())
    }

    pub(super) fn header(&self, number: u64, table: Table, totals: Totals) -> Header {
        Header {
            table,
            closes: false,
            source: self.identity.source,
            run: self.identity.run,
            number,
            totals,
        }
    }

    fn drop_waiting(&mut self, now: Now, index: usize, words: &str) {
        let Some(chunk) = self.waiting.remove(index) else {
            return;
        };
        self.waiting_bytes -= chunk.block.bytes.len() as u64;
        self.dropped += chunk.block.rows;
        self.lose(
            now,
            Loss {
                size: Some(chunk.size()),
                from_ns: chunk.from_ns,
                until_ns: chunk.until_ns,
                reason: GapReason::SpoolFull,
                detail: words.to_owned(),
            },
        );
    }

    /// Makes full segments whole on disk, so that they can be sent.
    pub(super) fn finish_closing(&mut self, now: Now) {
        let mut closing = std::mem::take(&mut self.closing);
        closing.retain_mut(|open| match self.finish(open) {
            Ok(()) => false,
            Err(error) => {
                self.fail(now, &error);
                true
            }
        });
        self.closing = closing;
    }

    fn finish(&mut self, open: &mut Open) -> Result<(), DiskError> {
        let name = open.name();
        if open.is_dirty {
            self.disk.truncate(&name, open.bytes)?;
            open.is_dirty = false;
        }
        if !open.has_end {
            let end = open.end_frame().emit(&[]);
            open.is_dirty = true;
            self.disk.append(&name, &end)?;
            open.is_dirty = false;
            open.bytes += end.len() as u64;
            open.has_end = true;
        }
        if self.is_synced() {
            self.disk.sync(&name)?;
        }
        self.disk
            .rename(&name, &files::name(open.number, State::Whole))?;
        let segment = Segment {
            from_ns: open.from_ns,
            until_ns: open.until_ns,
            since_ns: Some(open.since_ns).filter(|since_ns| *since_ns > 0),
            ..Segment::new(Table::Incoming, State::Whole, open.bytes, open.size)
        };
        self.keep(open.number, segment, open.totals);
        Ok(())
    }

    /// Takes a whole segment that is on disk.
    pub(super) fn keep(&mut self, number: u64, segment: Segment, totals: Totals) {
        self.note_totals(number, totals);
        self.kept_bytes += segment.bytes;
        self.segments.insert(number, segment);
    }

    pub(super) fn note_totals(&mut self, number: u64, totals: Totals) {
        let (most, _) = self.most;
        if (totals.rows, totals.probes) >= (most.rows, most.probes) {
            self.most = (totals, number);
        }
    }

    pub(super) fn write_small_tables(&mut self, now: Now) {
        while let Some((table, block)) = self.small.pop_front() {
            let size = Totals {
                rows: block.rows,
                probes: 0,
            };
            let number = self.take_number();
            let header = self.header(number, table, self.accounted);
            let bytes = small_segment(&header, &[], &block, &[], now.wall_ns);
            let segment = Segment::new(table, State::Whole, 0, size);
            if let Err(error) = self.write_whole(&header, &bytes, segment) {
                self.small.push_front((table, block));
                return self.fail(now, &error);
            }
        }
    }

    /// Writes a segment at once: under a name that is void, then under its own.
    pub(super) fn write_whole(
        &mut self,
        header: &Header,
        bytes: &[u8],
        segment: Segment,
    ) -> Result<(), DiskError> {
        let number = header.number;
        let (new, whole) = (
            files::name(number, State::New),
            files::name(number, State::Whole),
        );
        let is_synced = self.is_synced();
        let mut write = || {
            self.disk.create(&new)?;
            self.disk.append(&new, bytes)?;
            if is_synced {
                self.disk.sync(&new)?;
            }
            self.disk.rename(&new, &whole)
        };
        if let Err(error) = write() {
            // It is void whether it is there or not.
            let _ = self.disk.remove(&new);
            return Err(error);
        }
        self.is_folder_dirty = true;
        let bytes = bytes.len() as u64;
        self.keep(number, Segment { bytes, ..segment }, header.totals);
        Ok(())
    }
}

fn nearly_full() -> DiskError {
    DiskError {
        is_full: true,
        words: "the disk is nearly full".to_owned(),
    }
}

/// How many bytes a chunk takes at most: as if it were a segment of its own.
pub(super) fn room_for(chunk: &Chunk) -> u64 {
    let frame = HEADER_SIZE + 2 * FRAME_SIZE + chunk.markers.len() * MARKER_SIZE;
    frame as u64 + chunk.block.bytes.len() as u64
}

/// A segment of one block.
pub(super) fn small_segment(
    header: &Header,
    fates: &[(u64, Fate)],
    block: &Block,
    markers: &[Marker],
    now_ns: i64,
) -> Vec<u8> {
    let mut bytes = header.emit().to_vec();
    let frame = |kind, body: &[u8], rows, sum| FrameHeader {
        kind,
        markers: 0,
        body: body.len() as u32,
        size: Totals { rows, probes: 0 },
        totals: header.totals,
        from_ns: now_ns,
        until_ns: now_ns,
        sum,
    };
    if !fates.is_empty() {
        let body = emit_fates(fates);
        let header = frame(Kind::Fates, &body, 0, checksum(&body));
        bytes.extend_from_slice(&header.emit(&[]));
        bytes.extend_from_slice(&body);
    }
    let mut sum = [0; 16];
    sum.copy_from_slice(&block.bytes[..16]);
    let mut rows = frame(Kind::Rows, &block.bytes, block.rows, sum);
    rows.markers = markers.len() as u8;
    bytes.extend_from_slice(&rows.emit(markers));
    bytes.extend_from_slice(&block.bytes);
    let end = frame(Kind::End, &[], block.rows, checksum(&[]));
    bytes.extend_from_slice(&end.emit(&[]));
    bytes
}

impl Segment {
    pub(super) fn new(table: Table, state: State, bytes: u64, size: Totals) -> Self {
        Self {
            table,
            state,
            bytes,
            size,
            is_size_known: true,
            from_ns: 0,
            until_ns: 0,
            since_ns: None,
            fates: Vec::new(),
            closes: false,
            is_out: false,
            doubt_ns: None,
            is_damage_told: false,
            is_name_safe: false,
            attempts: 0,
            refusals: 0,
            generation: 1,
            next_ns: 0,
            backoff_ns: 0,
        }
    }
}
