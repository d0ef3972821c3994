//! The gatherer thread: takes the sender's notes and the kernel program's events, gives them to
//! the stats keeper, and sends its results on as rows. It owns all metrics; others ask it for
//! snapshots.

use std::os::fd::AsRawFd;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use crossbeam_channel::{Receiver, Sender};
use pinger_ebpf::layout::{Counter, Event};
use zerocopy::FromBytes;

use super::notes::NoteSource;
use super::outlets::Outlets;
use super::resets::ResetSink;
use crate::stats::{Outside, Snapshot, StatsKeeper};
use crate::wire::bpf::Counters;
use crate::wire::clock;

/// The most events taken in one go, so that notes and snapshots get their turn.
const EVENTS_MAX: usize = 4096;

/// How long to nap between two turns, and how many naps in vain come before blocking. A gatherer
/// that has taken all events makes the kernel send an interrupt for the next one, and a blocked
/// one must be woken besides: at high rates that would cost the sender more than anything else.
const NAP: Duration = Duration::from_micros(200);
const NAPS: u32 = 2;

/// A turn that took so many events was a late one: the next one follows at once.
const EVENTS_MANY: usize = 1024;

/// The longest block: notes and requests come without a wake-up.
const BLOCK_MS: libc::c_int = 20;

/// How long the last events may take to arrive once the sender has gone. They are due within
/// microseconds; a run that was told to end at once leaves probes in flight and waits this long.
const LAST_EVENTS_NS: u64 = 100_000_000;

/// Asks for a snapshot, with all destinations or without.
pub(super) struct Request {
    pub(super) destinations: bool,
    pub(super) reply: Sender<Snapshot>,
}

/// All that the gatherer thread owns.
pub(super) struct Gatherer {
    pub(super) events: RingBuf<MapData>,
    pub(super) counters: Counters,
    pub(super) notes: NoteSource,
    pub(super) keeper: StatsKeeper,
    pub(super) outlets: Outlets,
    /// The way back to the sender, if there are connections to reset.
    pub(super) resets: Option<ResetSink>,
    pub(super) requests: Receiver<Request>,
    pub(super) start_ns: u64,
    pub(super) taken: Vec<Event>,
    pub(super) answered: u64,
}

impl Gatherer {
    /// Sets when the first probe is due, before [`Gatherer::run`].
    pub(super) fn start_at(&mut self, start_ns: u64) {
        self.keeper.start_at(start_ns);
        self.start_ns = start_ns;
    }

    /// Gathers until the sender has gone and all it left behind is taken. Returns itself, so that
    /// a last snapshot can be made when the rows are written.
    pub(super) fn run(mut self) -> Self {
        let mut idle = 0;
        let mut abandoned_ns = None;
        loop {
            // In this order: what the sender noted before it went, and what came before that.
            if abandoned_ns.is_none() && self.notes.is_abandoned() {
                abandoned_ns = Some(clock::now_ns());
            }
            let busy = self.turn();
            if !busy && abandoned_ns.is_some_and(|since_ns| self.is_over(since_ns)) {
                self.outlets.flush();
                return self;
            }
            idle = if busy { 0 } else { idle + 1 };
            if idle > NAPS {
                self.block();
            } else if self.taken.len() < EVENTS_MANY {
                std::thread::sleep(NAP);
            }
        }
    }

    /// Whether nothing more can come, the sender having gone. It may have seen a slot answered a
    /// moment before the kernel program submitted the event, so that is waited for.
    fn is_over(&self, since_ns: u64) -> bool {
        self.keeper.totals().in_flight == 0 || clock::now_ns() >= since_ns + LAST_EVENTS_NS
    }

    /// Takes what is there. Returns whether there was anything.
    fn turn(&mut self) -> bool {
        let now_ns = clock::now_ns();
        self.take_events();
        // Notes after events: a probe is announced before it leaves, so each event taken finds
        // its probe known.
        let mut busy = !self.taken.is_empty();
        while let Some(note) = self.notes.pop() {
            busy = true;
            if let Some(resets) = &mut self.resets {
                resets.take_note(&note);
            }
            if let Some(result) = self.keeper.note(note) {
                self.outlets.put(now_ns, &result);
            }
        }
        for event in &self.taken {
            if let Some(resets) = &mut self.resets {
                resets.take_event(event);
            }
            if let Some(result) = self.keeper.event(event) {
                self.answered += u64::from(result.outcome.is_answer());
                self.outlets.put(now_ns, &result);
            }
        }
        self.notes.publish_answered(self.answered);
        if let (false, Some(resets)) = (busy, &self.resets) {
            resets.idle();
        }
        self.outlets.tick(now_ns);
        while let Ok(request) = self.requests.try_recv() {
            let snapshot = self.snapshot(request.destinations);
            // Who no longer waits for it has ended.
            let _ = request.reply.send(snapshot);
        }
        busy
    }

    fn take_events(&mut self) {
        self.taken.clear();
        while self.taken.len() < EVENTS_MAX {
            let Some(item) = self.events.next() else {
                break;
            };
            if let Ok(event) = Event::read_from_bytes(&item) {
                self.taken.push(event);
            }
        }
    }

    /// Waits for an event, or a little while.
    fn block(&self) {
        let mut poll = libc::pollfd {
            fd: self.events.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid `pollfd`. An error or a signal only ends the wait early.
        unsafe { libc::poll(&raw mut poll, 1, BLOCK_MS) };
    }

    /// How many connections stay half open because their resets found no room.
    pub(super) fn resets_missed(&self) -> u64 {
        self.resets.as_ref().map_or(0, ResetSink::missed)
    }

    /// Everything there is to show now.
    pub(super) fn snapshot(&self, destinations: bool) -> Snapshot {
        let outside = Outside {
            elapsed: Duration::from_nanos(clock::now_ns().saturating_sub(self.start_ns)),
            ring_dropped: self.counters.get(Counter::RingDropped),
            forged: self.counters.get(Counter::Forged),
            rows: self.outlets.row_counts(),
        };
        self.keeper.snapshot(&outside, destinations)
    }
}
