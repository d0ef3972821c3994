//! What the filler and the spool tell each other, so that each can work while the other waits.

use super::disk::{Disk, DiskError};
use super::files::{self, State};
use super::fill::{BACKLOG_SEGMENTS, Open, WAITING_BYTES_MAX};
use super::gap::Loss;
use super::room::FREED_PART;
use super::{DropPolicy, Now, Spool};

/// What the filler did since its last report.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) progress: Progress,
    pub(super) sealed: Vec<Open>,
    /// One for each reason in words.
    pub(super) losses: Vec<Loss>,
    pub(super) failure: Option<DiskError>,
    pub(super) want: Option<Want>,
    /// The number of the open segment, if what was written to it must be synced at once.
    pub(super) to_sync: Option<u64>,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        let is_quiet = self.failure.is_none() && self.want.is_none() && self.to_sync.is_none();
        is_quiet && self.sealed.is_empty() && self.losses.is_empty()
    }

    pub(super) fn lose(&mut self, loss: Loss) {
        let same = |other: &&mut Loss| other.detail == loss.detail;
        match self.losses.iter_mut().find(same) {
            Some(other) => other.add(&loss),
            None => self.losses.push(loss),
        }
    }
}

/// How far the filler is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes written into segments, ever.
    pub(super) appended: u64,
    /// Rows in the open segment.
    pub(super) open_rows: u64,
    /// Rows that wait in memory.
    pub(super) waiting_rows: u64,
}

/// A question for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// The disk said that it is full, whatever was thought of it.
    pub(super) is_full: bool,
}

/// What becomes of the chunk that there was no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There may be room now.
    Room,
    /// Not now.
    Wait,
    /// The spool is full.
    Never,
}

/// What the filler may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How many bytes it may have written at last, by the spool's own limit.
    pub(super) until: u64,
    /// Segments wait, so they may be long.
    pub(super) is_behind: bool,
    /// To the question with this number.
    pub(super) answer: Option<(u64, Answer)>,
}

/// What the spool knows of the filler.
#[derive(Debug, Default)]
pub(super) struct FillerSeen {
    pub(super) progress: Progress,
    /// Of the bytes appended, those in segments that were handed over.
    pub(super) received: u64,
    want: Option<Want>,
    answer: Option<(u64, Answer)>,
}

impl FillerSeen {
    pub(super) fn rows(&self) -> u64 {
        self.progress.open_rows + self.progress.waiting_rows
    }
}

impl<D: Disk> Spool<D> {
    /// Takes a report of the filler.
    pub fn take(&mut self, now: Now, report: Report) {
        self.filler.progress = report.progress;
        self.filler.want = report.want.or(self.filler.want);
        if let Some(error) = report.failure {
            self.fail(now, &error);
        }
        for loss in report.losses {
            self.lost(now, loss);
        }
        for open in report.sealed {
            self.accepted += open.size.rows;
            self.accounts.filled = self.accounts.filled.max(open.filled);
            self.filler.received += open.bytes;
            self.closing.push(open);
        }
        self.finish_closing(now);
        if let Some(number) = report.to_sync {
            self.sync_open(now, number);
        }
    }

    /// Has what is in the open segment on disk; one that was sealed since has it there already, or
    /// will be synced.
    fn sync_open(&mut self, now: Now, number: u64) {
        let is_closing = self.closing.iter().any(|open| open.number == number);
        if is_closing || self.segments.contains_key(&number) {
            return;
        }
        if let Err(error) = self.disk.sync(&files::name(number, State::Open)) {
            self.fail(now, &error);
        }
    }

    /// How many bytes it would be well to have room for: what the filler asks for, or else what it
    /// will soon need, so that it need not wait when the spool is full.
    pub fn wanted(&self) -> u64 {
        let ahead = match self.options.drop {
            DropPolicy::Oldest => WAITING_BYTES_MAX.min(self.options.bytes_max / FREED_PART),
            DropPolicy::Newest => 0,
        };
        self.filler.want.map_or(ahead, |want| want.bytes.max(ahead))
    }

    /// Whether there is no room for that. Where the disk is short, only what is asked for counts.
    pub fn lacks_room(&mut self, now: Now) -> bool {
        match self.filler.want {
            Some(want) => !self.has_room_after_a_look(now, want.bytes),
            None => !self.is_within_size(self.wanted()),
        }
    }

    /// Makes room if the filler needs some, and has an answer if it has asked.
    pub fn answer(&mut self, now: Now) {
        let is_full = self.filler.want.is_some_and(|want| want.is_full);
        if is_full || self.lacks_room(now) {
            self.give_way(now, self.wanted());
        }
        if let Some(want) = self.filler.want.take() {
            let answer = if self.has_room(want.bytes) {
                Answer::Room
            } else if self.is_within_size(want.bytes) {
                Answer::Wait
            } else {
                Answer::Never
            };
            self.filler.answer = Some((want.number, answer));
        }
    }

    /// What the filler may do from now on; to be given to
    /// [`Filler::allow`](super::Filler::allow).
    pub fn allowance(&self) -> Allowance {
        let used = self.own_bytes().saturating_add(self.bytes_elsewhere);
        let left = self.options.bytes_max.saturating_sub(used);
        Allowance {
            until: self.filler.received.saturating_add(left),
            is_behind: self.segments.len() + self.closing.len() >= BACKLOG_SEGMENTS,
            answer: self.filler.answer,
        }
    }
}
