//! How segments become whole on disk: those that the filler has sealed, and those of one block,
//! which are small tables and gaps.

use super::disk::{Disk, DiskError};
use super::files::{self, State};
use super::fill::Open;
use super::segment::{
    Accounts, Fate, FrameHeader, Header, Kind, Marker, Table, Totals, emit_fates,
};
use super::{Now, Segment, Spool};
use crate::native::{Block, checksum};

/// The most blocks of small tables that wait in memory for a disk that fails. A run has few.
const SMALL_MAX: usize = 64;

impl<D: Disk> Spool<D> {
    /// Takes rows of a small table, as a segment of their own.
    pub fn add(&mut self, now: Now, table: Table, block: Block) {
        if self.small.len() >= SMALL_MAX {
            // The disk has failed for all of them, which the user was told.
            self.small.pop_front();
        }
        self.small.push_back((table, block));
        self.write_small_tables(now);
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
        let accounts = Accounts {
            filled: open.filled,
            told: Totals::default(),
        };
        self.keep(open.number, segment, accounts);
        Ok(())
    }

    /// Takes a whole segment that is on disk.
    pub(super) fn keep(&mut self, number: u64, segment: Segment, accounts: Accounts) {
        self.note_accounts(number, accounts);
        self.kept_bytes += segment.bytes;
        self.segments.insert(number, segment);
    }

    /// A whole file says so much.
    pub(super) fn note_accounts(&mut self, number: u64, accounts: Accounts) {
        let note = |most: &mut (Totals, u64), totals: Totals| {
            if (totals.rows, totals.probes) >= (most.0.rows, most.0.probes) {
                *most = (totals, number);
            }
        };
        note(&mut self.most_filled, accounts.filled);
        note(&mut self.most_told, accounts.told);
    }

    pub(super) fn header(&self, number: u64, table: Table) -> Header {
        Header {
            table,
            closes: false,
            source: self.identity.source,
            run: self.identity.run,
            number,
            accounts: self.accounts,
        }
    }

    pub(super) fn write_small_tables(&mut self, now: Now) {
        while let Some((table, block)) = self.small.pop_front() {
            let size = Totals {
                rows: block.rows,
                probes: 0,
            };
            let number = self.numbers.take();
            let header = self.header(number, table);
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
        self.keep(number, Segment { bytes, ..segment }, header.accounts);
        Ok(())
    }
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
        filled: header.accounts.filled,
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
            is_answered: false,
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
