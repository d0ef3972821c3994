//! The sender thread: drives the engine to the microsecond, and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;

use super::notes::NoteSink;
use super::resets::ResetSource;
use crate::engine::{Engine, Poll};
use crate::flow::Flows;
use crate::link::Link;
use crate::route::RouteUpdate;
use crate::wire::bpf::SlotMemory;
use crate::wire::clock;
use crate::wire::realtime::Rest;

/// The kernel wakes a sleeper some microseconds late; that much before its next probe is due the
/// sender is awake and spins.
const SPIN_NS: u64 = 60_000;

/// The longest sleep, so that a stop or a route change is noticed soon.
const SLEEP_MAX_NS: u64 = 20_000_000;

/// The longest sleep where connections are to be reset: that long, and what the gatherer takes, a
/// listener has one half open.
const RESET_SLEEP_MAX_NS: u64 = 1_000_000;

/// The most resets sent between two looks at the schedule: a few microseconds' work, so that many
/// answers at once do not make the next probe late.
const RESETS_PER_TURN: usize = 4;

/// The most resets looked at meanwhile: most are not due any more where probes are so dense that
/// each one resets the last, and to look costs next to nothing.
const RESETS_TOLD_MAX: usize = 256;

/// How long the last resets may take to arrive when all probes have ended: a few of the
/// gatherer's turns.
const LAST_RESETS_NS: u64 = 200_000_000;

/// How others steer the sender.
#[derive(Default)]
pub(super) struct Control {
    /// Send no more; wait for what is in flight.
    pub(super) stop: AtomicBool,
    /// End at once.
    pub(super) abort: AtomicBool,
}

/// All that the sender thread owns.
pub(super) struct Sender<L> {
    pub(super) engine: Engine<SlotMemory>,
    /// In the places that the heads name.
    pub(super) links: Vec<L>,
    pub(super) notes: NoteSink,
    pub(super) updates: Receiver<RouteUpdate>,
    pub(super) flows: Arc<Flows>,
    pub(super) control: Arc<Control>,
    /// When no more probes are due, CLOCK_MONOTONIC nanoseconds.
    pub(super) until_ns: u64,
    /// The connections to reset, if there are any.
    pub(super) resets: Option<ResetSource>,
    /// How many could not be reset.
    pub(super) resets_missed: u64,
    /// Kept if the thread runs ahead of others, to whom it must leave some time.
    pub(super) rest: Option<Rest>,
}

/// How the sender ended.
pub(super) struct Stopped {
    /// When sending probes stopped, CLOCK_MONOTONIC nanoseconds.
    pub(super) at_ns: u64,
    /// How many connections could not be reset.
    pub(super) resets_missed: u64,
}

impl<L: Link> Sender<L> {
    /// Applies the route changes that have come since the last time.
    pub(super) fn apply_updates(&mut self) {
        while let Ok(update) = self.updates.try_recv() {
            self.apply(update);
        }
    }

    /// Sets when the first probe is due and when no more are, before [`Sender::run`].
    pub(super) fn start_at(&mut self, start_ns: u64, until_ns: u64) {
        self.engine.start_at(start_ns, until_ns);
        self.until_ns = until_ns;
    }

    /// Sends until told to stop or done, and then until no probe is in flight any more.
    pub(super) fn run(mut self) -> Stopped {
        let mut stopped_ns = None;
        loop {
            self.apply_updates();
            let now_ns = clock::now_ns();
            if stopped_ns.is_none() && self.stop_if_due(now_ns) {
                stopped_ns = Some(now_ns);
            }
            let poll = self
                .engine
                .poll(&clock::now_ns, &mut self.links, &mut self.notes);
            let Poll::At(wake_ns) = poll else { break };
            if self.is_aborted() {
                break;
            }
            if self.reset() {
                continue;
            }
            let until_ns = if stopped_ns.is_some() {
                u64::MAX
            } else {
                self.until_ns
            };
            self.wait(wake_ns.min(until_ns));
        }
        let at_ns = stopped_ns.unwrap_or_else(clock::now_ns);
        self.reset_last();
        Stopped {
            at_ns,
            resets_missed: self.resets_missed,
        }
    }

    /// Stops when that is due. Returns whether no more probes leave: those that were due before the
    /// time was over leave first, however late.
    fn stop_if_due(&mut self, now_ns: u64) -> bool {
        if self.control.stop.load(Ordering::Relaxed) {
            self.engine.stop();
        } else if now_ns >= self.until_ns {
            self.engine.end_floods();
        } else {
            return false;
        }
        self.engine.has_sent_all()
    }

    fn is_aborted(&self) -> bool {
        self.control.abort.load(Ordering::Relaxed)
    }

    /// Sends some of the resets that are due. Returns whether there are more.
    fn reset(&mut self) -> bool {
        let Some(resets) = &mut self.resets else {
            return false;
        };
        if resets.is_empty() {
            return false;
        }
        let told = resets.take(RESETS_TOLD_MAX);
        let missed = self.engine.reset(told, RESETS_PER_TURN, &mut self.links);
        self.resets_missed += missed;
        !resets.is_empty()
    }

    /// Waits until the gatherer has asked for all resets, and sends them.
    fn reset_last(&mut self) {
        let idle_turns = |sender: &Self| sender.resets.as_ref().map(ResetSource::idle_turns);
        let Some(since) = idle_turns(self) else {
            return;
        };
        let until_ns = clock::now_ns() + LAST_RESETS_NS;
        while idle_turns(self) < Some(since + 2) && clock::now_ns() < until_ns {
            if self.is_aborted() {
                break;
            }
            while self.reset() {}
            clock::sleep_until(clock::now_ns() + RESET_SLEEP_MAX_NS);
        }
        while self.reset() {}
    }

    fn apply(&mut self, update: RouteUpdate) {
        let heads = self.engine.heads_mut();
        match update {
            RouteUpdate::Hop { hop, head } => {
                let index = hop.0 as usize;
                if heads.hops.len() <= index {
                    heads.hops.resize(index + 1, None);
                }
                heads.hops[index] = head;
            }
            RouteUpdate::Flow { flow, route } => {
                heads.flows[flow.0 as usize] = route.map(|route| route.hop.0);
                if let Some(route) = route {
                    self.flows
                        .readdress(self.engine.frames_mut(), flow, route.source);
                }
            }
        }
    }

    /// Sleeps until shortly before `wake_ns`; the rest of the time is spun away by polling.
    fn wait(&mut self, wake_ns: u64) {
        let now_ns = clock::now_ns();
        let longest_ns = if self.resets.is_some() {
            RESET_SLEEP_MAX_NS
        } else {
            SLEEP_MAX_NS
        };
        let sleep_ns = wake_ns.saturating_sub(SPIN_NS).min(now_ns + longest_ns);
        let sleep_ns = if sleep_ns > now_ns {
            Some(sleep_ns)
        } else {
            self.rest.as_ref().and_then(|rest| rest.nap_until(now_ns))
        };
        let Some(sleep_ns) = sleep_ns else {
            return std::hint::spin_loop();
        };
        clock::sleep_until(sleep_ns);
        if let Some(rest) = &mut self.rest {
            rest.slept(now_ns, clock::now_ns());
        }
    }
}
