//! The sender thread: drives the engine to the microsecond, and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;

use super::notes::NoteSink;
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
    /// When to send no more, CLOCK_MONOTONIC nanoseconds.
    pub(super) until_ns: u64,
    /// Kept if the thread has real-time priority, which is lost for a while without rests.
    pub(super) rest: Option<Rest>,
}

impl<L: Link> Sender<L> {
    /// Applies the route changes that have come since the last time.
    pub(super) fn apply_updates(&mut self) {
        while let Ok(update) = self.updates.try_recv() {
            self.apply(update);
        }
    }

    /// Sends until told to stop or done, and then until no probe is in flight any more. Returns
    /// when sending stopped, CLOCK_MONOTONIC nanoseconds.
    pub(super) fn run(mut self) -> u64 {
        let mut stopped_ns = None;
        loop {
            self.apply_updates();
            let now_ns = clock::now_ns();
            if stopped_ns.is_none()
                && (now_ns >= self.until_ns || self.control.stop.load(Ordering::Relaxed))
            {
                self.engine.stop();
                stopped_ns = Some(now_ns);
            }
            let poll = self
                .engine
                .poll(&clock::now_ns, &mut self.links, &mut self.notes);
            let Poll::At(wake_ns) = poll else { break };
            if self.control.abort.load(Ordering::Relaxed) {
                break;
            }
            let until_ns = if stopped_ns.is_some() {
                u64::MAX
            } else {
                self.until_ns
            };
            self.wait(wake_ns.min(until_ns));
        }
        stopped_ns.unwrap_or_else(clock::now_ns)
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
        let sleep_ns = wake_ns.saturating_sub(SPIN_NS).min(now_ns + SLEEP_MAX_NS);
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
