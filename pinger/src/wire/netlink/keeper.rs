//! The route keeper: a [`RouteTable`] that a thread keeps current while probes run.
//!
//! Out: [`RouteUpdate`]s for the engine, and [`RouteNotice`]s for the user. It never touches
//! frames.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::wake::Wake;
use super::worker::{Sockets, Worker};
use super::{NetlinkError, RouteNotice};
use crate::destination::FlowIndex;
use crate::route::{HopState, HopView, NoRoute, RouteTable, RouteUpdate};

/// Notices that wait to be read; further ones are counted and left out.
const NOTICES_MAX: usize = 256;
/// Updates that wait beside those of the start; a full queue makes the keeper wait, and the
/// kernel's announcements with it.
const UPDATES_SPARE: usize = 4096;

/// The running keeper. Dropping it ends its thread.
#[derive(Debug)]
pub struct RouteKeeper {
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How far the next hops are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Next hops that have a MAC.
    pub ready: usize,
    /// Those that have none: pending or unreachable.
    pub unresolved: Vec<HopView>,
    /// Destinations without a route, and why.
    pub no_route: Vec<(FlowIndex, NoRoute)>,
}

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<RouteTable>,
    pub(super) changed: Condvar,
    pub(super) wake: Wake,
}

impl RouteKeeper {
    /// Starts keeping `table` current. The engine must apply the updates in their order; those of
    /// the start are among them.
    ///
    /// The thread lives in the caller's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] if the sockets or the thread cannot be had.
    pub fn spawn(
        table: RouteTable,
    ) -> Result<(Receiver<RouteUpdate>, Receiver<RouteNotice>, Self), NetlinkError> {
        let open = |operation| move |source| NetlinkError::Open { operation, source };
        let sockets = Sockets::open()?;
        let capacity = table.queries().len() + table.hops_max() + UPDATES_SPARE;
        let (updates, updates_out) = bounded(capacity);
        let (notices, notices_out) = bounded(NOTICES_MAX);
        let (stop, stopped) = bounded(0);
        let shared = Arc::new(Shared {
            table: Mutex::new(table),
            changed: Condvar::new(),
            wake: Wake::new().map_err(open("eventfd"))?,
        });
        let worker = Worker::new(shared.clone(), updates, notices, stopped);
        let thread = std::thread::Builder::new()
            .name("routes".into())
            .spawn(move || worker.run(sockets))
            .map_err(open("thread"))?;
        let keeper = Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok((updates_out, notices_out, keeper))
    }

    /// Waits until every destination has an answer and every next hop a MAC or a refusal, but no
    /// longer than `patience`; says how far it came.
    pub fn wait_ready(&self, patience: Duration) -> Readiness {
        let deadline = Instant::now() + patience;
        let mut table = self.shared.lock();
        while !table.settled() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (ready, unresolved): (Vec<_>, Vec<_>) = table
            .hops()
            .partition(|hop| matches!(hop.state, HopState::Ready(_)));
        let no_route = (0..table.queries().len() as u32)
            .map(FlowIndex)
            .filter_map(|flow| {
                table
                    .route(flow)?
                    .as_ref()
                    .err()
                    .map(|why| (flow, why.clone()))
            });
        Readiness {
            ready: ready.len(),
            no_route: no_route.collect(),
            unresolved,
        }
    }

    /// Looks at the table as it is now.
    pub fn with_table<T>(&self, look: impl FnOnce(&RouteTable) -> T) -> T {
        look(&self.shared.lock())
    }
}

impl Drop for RouteKeeper {
    fn drop(&mut self) {
        self.stop = None;
        self.shared.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there; nothing is left to do about it here.
            drop(thread.join());
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, RouteTable> {
        // Each fact leaves the table whole, so one that a panic let go is still sound.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
