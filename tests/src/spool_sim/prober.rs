//! What goes on while the spool waits for the disk: probes are sent, rows are made, and the filler
//! writes them down.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pinger::destination::FlowIndex;
use pinger::native::{Block, Columns, TIME};
use pinger::result::{Outcome, ProbeResult};
use pinger::rows::{RowChunk, RowKeys};
use pinger::spool::{Chunk, Filler, GapReason, Loss, Now, Options, Report, TICK_NS, Totals};

use super::disk::{Faults, Host, SimDisk};
use super::{SOURCE, Truth};
use crate::sim::rng::Rng;

/// The threads of a process that are not the spool's.
#[derive(Debug)]
pub(super) struct Prober {
    rng: Rng,
    run: u64,
    options: Options,
    pub(super) filler: Filler<SimDisk>,
    truth: Rc<RefCell<Truth>>,
    host: Rc<RefCell<Host>>,
    /// Rows that the server refuses, until it knows.
    pub(super) poison: BTreeSet<(u64, u64)>,
    /// What found no room on its way to the filler.
    missed: Option<Loss>,
    is_probing: bool,
    /// A chunk that was not on disk at once, and why it should have been.
    pub(super) late: Option<String>,
}

impl Prober {
    pub(super) fn new(
        rng: Rng,
        run: u64,
        options: Options,
        filler: Filler<SimDisk>,
        truth: Rc<RefCell<Truth>>,
        host: &Rc<RefCell<Host>>,
    ) -> Self {
        Self {
            rng,
            run,
            options,
            filler,
            truth,
            host: Rc::clone(host),
            poison: BTreeSet::new(),
            missed: None,
            is_probing: true,
            late: None,
        }
    }

    /// What the spool is told.
    pub(super) fn news(&mut self) -> (Option<Report>, Option<Loss>) {
        (self.filler.report(), self.missed.take())
    }

    /// Goes on for some moments, while the spool is in the middle of a call.
    pub(super) fn go_on_meanwhile(&mut self) {
        let before = self.truth.borrow().rows.len();
        let moments = match self.rng.below(10) {
            0 => 40,
            _ => 4,
        };
        for _ in 0..1 + self.rng.below(moments) {
            self.host.borrow_mut().pass(TICK_NS);
            self.go_on();
        }
        let rows = self.truth.borrow().rows.len() - before;
        self.host.borrow_mut().seen.rows_meanwhile += rows as u64;
    }

    /// A moment.
    pub(super) fn go_on(&mut self) {
        if self.is_probing {
            let (ending, other) = (self.rng.below(6), self.rng.below(2));
            self.make_rows(ending, other);
        }
        let now = self.host.borrow().now;
        self.filler.tick(now);
        self.check_punctuality();
    }

    /// No probe is in flight any more.
    pub(super) fn finish_probing(&mut self) {
        self.is_probing = false;
        let missing = {
            let truth = self.truth.borrow();
            truth.sent - truth.ended
        };
        if missing > 0 {
            self.make_rows(missing, 0);
        }
    }

    fn check_punctuality(&mut self) {
        let rows = self.filler.waiting_rows();
        let host = self.host.borrow();
        let works = !host.dead
            && Faults {
                slow: 0.0,
                ..host.faults
            } == Faults::NONE;
        if rows > 0 && works && self.options.bytes_max == u64::MAX {
            self.late = Some(format!(
                "{rows} rows are in memory only, though the disk works"
            ));
        }
    }

    fn make_rows(&mut self, ending: u64, other: u64) {
        let now = self.host.borrow().now;
        let rows: Vec<bool> = (0..ending + other).map(|index| index < ending).collect();
        let first = self.note_rows(&rows, ending, now);
        if rows.is_empty() {
            return;
        }
        self.host.borrow_mut().seen.rows += rows.len() as u64;
        if self.rng.chance(0.002) {
            self.poison.insert((self.run, first));
        }
        if self.rng.chance(0.01) {
            let size = Totals {
                rows: rows.len() as u64,
                probes: ending,
            };
            let loss = self.missed.get_or_insert_with(|| Loss {
                size: None,
                from_ns: now.wall_ns,
                until_ns: now.wall_ns,
                reason: GapReason::QueueFull,
                detail: "the queue was full".to_owned(),
            });
            loss.size = Some(loss.size.unwrap_or_default().plus(size));
            loss.until_ns = now.wall_ns;
            return;
        }
        self.filler.put(now, chunk(self.run, first, &rows, now));
    }

    /// Notes what was made; gives the number of the first.
    fn note_rows(&mut self, rows: &[bool], ending: u64, now: Now) -> u64 {
        let mut truth = self.truth.borrow_mut();
        truth.sent = truth.sent.max(truth.ended + ending);
        let first = truth.rows.len() as u64;
        truth.rows.extend(rows);
        truth.ended += ending;
        if self.is_probing {
            // Probes are on their way when rows are made, and the sender notes them first.
            truth.sent += self.rng.below(3);
        }
        let (sent, rows) = (truth.sent, truth.rows.len() as u64);
        if let Some(tally) = &mut truth.tally {
            (tally.sent, tally.rows, tally.last_ns) = (sent, rows, now.wall_ns);
        }
        first
    }
}

fn chunk(run: u64, first: u64, rows: &[bool], now: Now) -> Chunk {
    let keys = RowKeys {
        run,
        source: SOURCE,
        rsite: 1,
        rhost: 1,
        wall_offset_ns: now.wall_ns,
    };
    let row = |(index, ends): (usize, &bool)| {
        let result = ProbeResult {
            flow: FlowIndex(0),
            sequence: first + index as u64,
            identifier: 1,
            ttl: 64,
            hops: 0,
            due_ns: 0,
            tx_ns: 0,
            outcome: if *ends { Outcome::Lost } else { Outcome::Late },
            answer: None,
            jitter_ns: 0,
            hop_limit_changed: false,
        };
        keys.row(121, &result)
    };
    let chunk = RowChunk {
        rows: rows.iter().enumerate().map(row).collect(),
        probes: rows.iter().filter(|ends| **ends).count() as u64,
        from_ns: now.wall_ns,
        until_ns: now.wall_ns,
    };
    Chunk::of(&chunk)
}

/// A row of the table `runs`, as far as anybody here looks at it.
pub(super) fn run_block(run: u64) -> Block {
    let rows = [run];
    let mut to = Columns::new(&["run", "started"], &rows);
    to.column("UInt64", |run| *run);
    to.column(TIME, |run| run.cast_signed());
    to.finish()
}
