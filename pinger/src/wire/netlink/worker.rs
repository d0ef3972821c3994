//! The route keeper's thread: hears what the kernel announces, asks what it must, and hands on
//! what changes.
//!
//! It never holds the table while it waits.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::dirty::Dirty;
use super::events::{Drained, Event, EventSocket};
use super::keeper::Shared;
use super::{LinkChange, Netlink, NetlinkError, RouteNotice, notice};
use crate::destination::FlowIndex;
use crate::route::{Ask, AskHow, Fact, NeighbourState, NoRoute, Route, RouteQuery, RouteUpdate};
use crate::wire::clock;

/// Not everything is announced (ICMP redirects, path MTU): all routes are asked for this often.
const REQUERY_ALL_NS: u64 = 60_000_000_000;
/// Each next hop is checked this often, so that a host that moves without a word is found.
const ROUND_NS: u64 = 5_000_000_000;
/// Neighbours are asked for in steps of this length.
const TICK_NS: u64 = 100_000_000;
/// The most neighbours asked for in a tick: 2,000 a second, which ARP on a large flat network
/// still bears.
const ASKS_PER_TICK: usize = 200;
/// How long after a failure watching starts again.
const RETRY: Duration = Duration::from_secs(1);

/// The socket that listens and the one that asks.
pub(super) struct Sockets {
    events: EventSocket,
    netlink: Netlink,
}

impl Sockets {
    /// Opens both: subscribed before anything is asked for, so that no change falls between.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            events: EventSocket::open()?,
            netlink: Netlink::open()?,
        })
    }
}

/// Why the watch ended.
enum End {
    /// The keeper was dropped, or nobody takes updates any more.
    Stopped,
    /// The kernel could not be talked to.
    Failed(NetlinkError),
}

impl From<NetlinkError> for End {
    fn from(error: NetlinkError) -> Self {
        Self::Failed(error)
    }
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    updates: Sender<RouteUpdate>,
    notices: Sender<RouteNotice>,
    stopped: Receiver<()>,
    notices_dropped: u64,
    refused: bool,
    dirty: Dirty,
    neighbours_due: bool,
    queried_ns: u64,
    queried_all_ns: u64,
    ticked_ns: u64,
    refresh_debt_ns: u64,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        updates: Sender<RouteUpdate>,
        notices: Sender<RouteNotice>,
        stopped: Receiver<()>,
    ) -> Self {
        Self {
            shared,
            updates,
            notices,
            stopped,
            notices_dropped: 0,
            refused: false,
            dirty: Dirty::default(),
            neighbours_due: false,
            queried_ns: 0,
            queried_all_ns: 0,
            ticked_ns: 0,
            refresh_debt_ns: 0,
        }
    }

    pub(super) fn run(mut self, sockets: Sockets) {
        let mut sockets = Some(sockets);
        loop {
            let error = match self.watch(&mut sockets) {
                End::Stopped => return,
                End::Failed(error) => error,
            };
            self.notify(RouteNotice::Failed(error));
            sockets = None;
            self.shared.wake.wait(None, RETRY);
            if self.is_stopped() {
                return;
            }
        }
    }

    /// Watches until it ends, which is an error in any case: then the sockets are opened anew.
    fn watch(&mut self, sockets: &mut Option<Sockets>) -> End {
        let mut attempt = || -> Result<std::convert::Infallible, End> {
            let sockets = match sockets {
                Some(sockets) => sockets,
                None => sockets.insert(Sockets::open()?),
            };
            self.resync(&mut sockets.netlink)?;
            loop {
                self.step(sockets)?;
            }
        };
        match attempt() {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// One turn: wait, hear, ask.
    fn step(&mut self, sockets: &mut Sockets) -> Result<(), End> {
        let timeout = self.next_due_ns().saturating_sub(clock::now_ns());
        self.shared
            .wake
            .wait(Some(sockets.events.as_fd()), Duration::from_nanos(timeout));
        if self.is_stopped() {
            return Err(End::Stopped);
        }
        let mut events = Vec::new();
        let drained = sockets.events.drain(|event| events.push(event))?;
        self.take_events(events)?;
        if drained == Drained::Overrun {
            self.notify(RouteNotice::Overrun);
            return self.resync(&mut sockets.netlink);
        }
        let now = clock::now_ns();
        if now >= self.queried_all_ns + REQUERY_ALL_NS {
            self.dirty.mark_all(now);
        }
        if self
            .dirty
            .due_ns(self.queried_ns)
            .is_some_and(|due| now >= due)
        {
            self.query_routes(&mut sockets.netlink)?;
            self.query_neighbours(&mut sockets.netlink)?;
        }
        if now >= self.ticked_ns + TICK_NS {
            self.tick(&mut sockets.netlink, now)?;
        }
        Ok(())
    }

    fn next_due_ns(&self) -> u64 {
        let (has_asks, hops) = {
            let table = self.shared.lock();
            (table.has_asks(), table.hop_places().max(1) as u64)
        };
        let pause = if has_asks {
            TICK_NS
        } else {
            (ROUND_NS / hops).max(TICK_NS)
        };
        let due = (self.ticked_ns + pause).min(self.queried_all_ns + REQUERY_ALL_NS);
        self.dirty
            .due_ns(self.queried_ns)
            .map_or(due, |query| due.min(query))
    }

    /// Reads all tables anew: at the start, and when announcements were lost.
    fn resync(&mut self, netlink: &mut Netlink) -> Result<(), End> {
        let links = netlink.links()?;
        let here: BTreeSet<_> = links.iter().map(|link| link.index).collect();
        let gone: Vec<_> = {
            let table = self.shared.lock();
            table
                .links()
                .map(|link| link.index)
                .filter(|index| !here.contains(index))
                .collect()
        };
        for index in gone {
            self.take_fact(Fact::LinkGone { index })?;
        }
        for link in links {
            self.take_fact(Fact::Link(link))?;
        }
        self.dirty.mark_all(clock::now_ns());
        self.neighbours_due = true;
        self.query_routes(netlink)?;
        self.query_neighbours(netlink)?;
        self.tick(netlink, clock::now_ns())
    }

    fn take_events(&mut self, events: Vec<Event>) -> Result<(), End> {
        for event in events {
            match event {
                Event::Fact(fact) => self.take_fact(fact)?,
                Event::Prefix(prefix, length) => {
                    self.dirty.mark(prefix, length, clock::now_ns());
                }
                Event::Routes => self.dirty.mark_all(clock::now_ns()),
            }
        }
        Ok(())
    }

    /// Takes in a fact about a link or a neighbour.
    fn take_fact(&mut self, fact: Fact) -> Result<(), End> {
        let mut updates = Vec::new();
        let shared = self.shared.clone();
        let mut table = shared.lock();
        let notice = match &fact {
            Fact::Neighbour {
                link,
                address,
                state,
            } => {
                let before = table.neighbour(*link, *address);
                before.and_then(|before| notice::of_neighbour(*address, before, *state))
            }
            Fact::Link(link) => {
                let before = table.link(link.index);
                if before != Some(link) {
                    // The kernel drops the routes of an interface without announcing it.
                    self.dirty.mark_all(clock::now_ns());
                }
                before
                    .filter(|_| table.senders().contains(&link.index))
                    .and_then(|before| {
                        let change = notice::of_link(before, link)?;
                        Some(RouteNotice::Link {
                            name: link.name.clone(),
                            change,
                        })
                    })
            }
            Fact::LinkGone { index } => {
                self.dirty.mark_all(clock::now_ns());
                let link = table
                    .link(*index)
                    .filter(|_| table.senders().contains(index));
                link.map(|link| RouteNotice::Link {
                    name: link.name.clone(),
                    change: LinkChange::Gone,
                })
            }
            Fact::Route { .. } => None,
        };
        table.apply(fact, &mut updates);
        drop(table);
        if let Some(notice) = notice {
            self.notify(notice);
        }
        self.publish(updates)
    }

    /// Asks for the routes that may have changed.
    fn query_routes(&mut self, netlink: &mut Netlink) -> Result<(), End> {
        let dirty = std::mem::take(&mut self.dirty);
        self.queried_ns = clock::now_ns();
        if dirty.is_all() {
            self.queried_all_ns = self.queried_ns;
        }
        let flows = dirty.flows(&self.shared.lock());
        let queries: Vec<_> = flows.iter().map(|(_, query)| *query).collect();
        let routes = match netlink.routes_to(&queries) {
            Ok(routes) => routes,
            Err(error) => {
                self.dirty.mark_all(clock::now_ns());
                return Err(error.into());
            }
        };
        self.take_routes(flows.into_iter().zip(routes))
    }

    fn take_routes(
        &mut self,
        routes: impl Iterator<Item = ((FlowIndex, RouteQuery), Result<Route, NoRoute>)>,
    ) -> Result<(), End> {
        let (mut moved, mut lost, mut example) = (0, 0, None);
        let mut updates = Vec::new();
        let shared = self.shared.clone();
        let mut table = shared.lock();
        for ((flow, query), route) in routes {
            let before = table.route(flow).cloned();
            table.apply(Fact::Route { flow, route }, &mut updates);
            // Told of are changes only: what was found at the start, `wait_ready` tells.
            match (before, table.route(flow)) {
                (Some(Ok(_)), Some(Err(why))) => {
                    lost += 1;
                    example.get_or_insert_with(|| (flow, query.to, why.clone()));
                }
                (Some(before), Some(after)) if before != *after && after.is_ok() => moved += 1,
                _ => {}
            }
        }
        drop(table);
        if moved + lost > 0 {
            self.notify(RouteNotice::Routes {
                moved,
                lost,
                example,
            });
        }
        self.publish(updates)
    }

    /// Asks what the kernel knows of neighbours that it has not told of.
    fn query_neighbours(&mut self, netlink: &mut Netlink) -> Result<(), End> {
        let links: BTreeSet<u32> = {
            let table = self.shared.lock();
            if self.neighbours_due {
                table.hops().map(|hop| hop.key.link).collect()
            } else {
                table.unknown_links()
            }
        };
        self.neighbours_due = false;
        for link in links {
            for (address, state) in netlink.neighbours(link)? {
                self.take_fact(Fact::Neighbour {
                    link,
                    address,
                    state,
                })?;
            }
        }
        Ok(())
    }

    /// Asks for neighbours: new ones, failed ones, and the next ones of the round.
    fn tick(&mut self, netlink: &mut Netlink, now_ns: u64) -> Result<(), End> {
        if self.neighbours_due {
            self.query_neighbours(netlink)?;
        }
        let elapsed_ns = now_ns.saturating_sub(self.ticked_ns).min(ROUND_NS);
        self.ticked_ns = now_ns;
        let asks = {
            let mut table = self.shared.lock();
            let hops = table.hop_places() as u64;
            // Counted in hop-nanoseconds, so that no fraction of a hop is lost.
            self.refresh_debt_ns =
                (self.refresh_debt_ns + elapsed_ns * hops).min(ROUND_NS * hops.max(1));
            let count = self.refresh_debt_ns / ROUND_NS;
            self.refresh_debt_ns %= ROUND_NS;
            table.refresh((count as usize).min(ASKS_PER_TICK));
            table.take_asks(ASKS_PER_TICK)
        };
        for (ask, errno) in netlink.solicit(&asks)? {
            self.take_asked(ask, errno)?;
        }
        Ok(())
    }

    fn take_asked(&mut self, ask: Ask, errno: i32) -> Result<(), End> {
        let Ask { link, address, how } = ask;
        match errno {
            0 => {}
            // There is an entry by now: look at it before asking for it again.
            libc::EEXIST => self.neighbours_due = true,
            // It has gone, and was not announced or not heard of yet.
            libc::ENOENT => {
                self.take_fact(Fact::Neighbour {
                    link,
                    address,
                    state: NeighbourState::Gone,
                })?;
            }
            // It lost its MAC in between; its announcement is on its way.
            libc::EINVAL if how == AskHow::Verify => {}
            // Said once: it is the same for every hop.
            errno if !self.refused => {
                self.refused = true;
                self.notify(RouteNotice::Refused {
                    next_hop: address,
                    errno,
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&self, updates: Vec<RouteUpdate>) -> Result<(), End> {
        for update in updates {
            select! {
                send(self.updates, update) -> sent => if sent.is_err() {
                    return Err(End::Stopped);
                },
                recv(self.stopped) -> _ => return Err(End::Stopped),
            }
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn notify(&mut self, notice: RouteNotice) {
        if self.notices_dropped > 0
            && self
                .notices
                .try_send(RouteNotice::Dropped(self.notices_dropped))
                .is_ok()
        {
            self.notices_dropped = 0;
        }
        if self.notices.try_send(notice).is_err() {
            self.notices_dropped += 1;
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
    }
}
