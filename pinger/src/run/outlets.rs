//! Where the gatherer's results go besides the stats keeper: to the store as rows, and to a view
//! that shows each of them.

use std::sync::Arc;
use std::thread::Thread;

use crossbeam_channel::Sender;

use crate::destination::Destination;
use crate::result::ProbeResult;
use crate::rows::{Chunker, RowChunk, RowKeys};
use crate::stats::RowCounts;
use crate::store::ChunkSender;
use crate::wire::clock;
use crate::wire::tally::Tally;

/// How often the wall clock is read anew: its offset follows NTP's corrections that closely.
const WALL_CLOCK_NS: u64 = 1_000_000_000;

/// Turns results into chunks of rows and hands them to the store.
pub(super) struct Rows {
    keys: RowKeys,
    read_ns: u64,
    destinations: Arc<[Destination]>,
    chunker: Chunker,
    sender: ChunkSender,
    tally: Option<Arc<Tally>>,
    /// Rows made so far.
    rows: u64,
}

impl Rows {
    /// The tally, if there is one, gets the count of rows made.
    pub(super) fn new(
        keys: RowKeys,
        destinations: Arc<[Destination]>,
        sender: ChunkSender,
        tally: Option<Arc<Tally>>,
    ) -> Self {
        Self {
            keys,
            read_ns: clock::now_ns(),
            destinations,
            chunker: Chunker::new(),
            sender,
            tally,
            rows: 0,
        }
    }

    fn put(&mut self, now_ns: u64, result: &ProbeResult) {
        let destination = self.destinations[result.flow.0 as usize].id;
        let row = self.keys.row(destination, result);
        self.rows += 1;
        if let Some(tally) = &self.tally {
            let now_ns = self.keys.wall_offset_ns.saturating_add_unsigned(now_ns);
            tally.rows(self.rows, u64::try_from(now_ns).unwrap_or(0));
        }
        let chunk = self.chunker.push(now_ns, self.keys.wall_offset_ns, row);
        self.hand_over(chunk);
    }

    fn tick(&mut self, now_ns: u64) {
        if now_ns >= self.read_ns + WALL_CLOCK_NS {
            self.read_ns = now_ns;
            self.keys.wall_offset_ns = clock::wall_offset_ns();
        }
        let chunk = self.chunker.poll(now_ns, self.keys.wall_offset_ns);
        self.hand_over(chunk);
    }

    fn flush(&mut self) {
        let chunk = self.chunker.flush(self.keys.wall_offset_ns);
        self.hand_over(chunk);
    }

    fn hand_over(&mut self, chunk: Option<RowChunk>) {
        if let Some(chunk) = chunk {
            self.sender.offer(chunk);
        }
    }
}

/// Where results go besides the stats keeper.
pub(super) struct Outlets {
    /// The store, if there is one.
    pub(super) rows: Option<Rows>,
    /// A view that shows each result, and its thread, which is woken for it.
    pub(super) results: Option<(Sender<ProbeResult>, Thread)>,
}

impl Outlets {
    /// Hands a result on.
    pub(super) fn put(&mut self, now_ns: u64, result: &ProbeResult) {
        if let Some(rows) = &mut self.rows {
            rows.put(now_ns, result);
        }
        if let Some((results, reader)) = &self.results {
            // A view that has ended reads no more.
            let _ = results.send(*result);
            reader.unpark();
        }
    }

    /// Does what is due: a chunk that has waited long enough goes to the store.
    pub(super) fn tick(&mut self, now_ns: u64) {
        if let Some(rows) = &mut self.rows {
            rows.tick(now_ns);
        }
    }

    /// Hands on all that waits: no result comes after this.
    pub(super) fn flush(&mut self) {
        if let Some(rows) = &mut self.rows {
            rows.flush();
        }
    }

    /// What became of the rows so far.
    pub(super) fn row_counts(&self) -> RowCounts {
        let counts = self.rows.as_ref().map(|rows| rows.sender.counts());
        counts.unwrap_or_default()
    }
}
