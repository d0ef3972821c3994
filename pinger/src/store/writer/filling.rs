//! The thread that writes chunks down.
//!
//! In: chunks of rows, and what the spool allows. Out: bytes in the open segment, and news for the
//! spooler. It waits for nothing but the next chunk, so what is in memory only is young, however
//! long the disk takes to sync, to read or to delete: that is the spooler's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};

use super::spooler::now;
use super::{CLOSED, Closing, Counters, Message};
use crate::rows::RowChunk;
use crate::spool::{Allowance, Chunk, Filler, Report, TICK_NS};
use crate::store::disk::Place;

/// What the spooler should know.
pub(super) struct News {
    pub(super) report: Option<Report>,
    /// No chunk comes any more.
    pub(super) closing: Option<Closing>,
}

/// All that the thread owns.
pub(super) struct Filling {
    pub(super) filler: Filler<Place>,
    pub(super) rows: Receiver<Message>,
    pub(super) allowances: Receiver<Allowance>,
    /// Has room for one; while the spooler has not taken it, the next is gathered.
    pub(super) news: Sender<News>,
    pub(super) counters: Arc<Counters>,
    pub(super) state: State,
}

/// Where the thread is in its work.
#[derive(Default)]
pub(super) struct State {
    ticked_ns: u64,
    is_ending: bool,
    /// How the run is to end, until the spooler was told.
    closing: Option<Closing>,
}

impl Filling {
    /// Works until the spooler is gone; gives what that was not told.
    pub(super) fn run(mut self) -> Option<Report> {
        loop {
            let rows = match self.state.is_ending {
                true => never(),
                false => self.rows.clone(),
            };
            select! {
                recv(rows) -> message => match message {
                    Ok(Message::Chunk(chunk)) => self.put(&chunk),
                    Ok(Message::Close(closing)) => self.begin_end(closing),
                    // Its other end is gone without a word.
                    Err(_) => self.begin_end(Closing { deadline: Instant::now(), end: None }),
                },
                recv(self.allowances) -> allowance => match allowance {
                    Ok(allowance) => self.filler.allow(now(), allowance),
                    Err(_) => return self.finish(),
                },
                default(Duration::from_nanos(TICK_NS)) => {}
            }
            self.tick();
            self.tell();
        }
    }

    /// Gives the filler time: what the spool answers comes more often.
    fn tick(&mut self) {
        let now = now();
        if now.mono_ns.saturating_sub(self.state.ticked_ns) >= TICK_NS {
            self.state.ticked_ns = now.mono_ns;
            match self.state.is_ending {
                true => self.filler.end(now),
                false => self.filler.tick(now),
            }
        }
    }

    fn begin_end(&mut self, closing: Closing) {
        self.state.is_ending = true;
        self.state.closing = Some(closing);
        self.filler.end(now());
    }

    fn put(&mut self, chunk: &RowChunk) {
        let rows = chunk.rows.len() as u64;
        self.filler.put(now(), Chunk::of(chunk));
        self.counters.queued.fetch_sub(rows, Ordering::AcqRel);
    }

    fn tell(&mut self) {
        if self.news.is_full() {
            return;
        }
        let news = News {
            report: self.filler.report(),
            closing: self.state.closing.take(),
        };
        if news.report.is_some() || news.closing.is_some() {
            // Nobody else sends, so there is room; who is gone needs no news.
            let _ = self.news.try_send(news);
        }
    }

    fn finish(mut self) -> Option<Report> {
        for message in self.rows.try_iter() {
            if let Message::Chunk(chunk) = message {
                self.counters.drop_rows(chunk.rows.len() as u64, CLOSED);
            }
        }
        self.filler.report()
    }
}
