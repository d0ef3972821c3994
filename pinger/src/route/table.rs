//! The table of flows, next hops and links that facts build up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use super::hop::{Hop, HopView, ethernet_head};
use super::{
    Ask, Fact, FlowRoute, Head, HopIndex, HopKey, HopState, Link, LinkPlace, Mac, NeighbourState,
    NoRoute, Route, RouteQuery, RouteUpdate,
};
use crate::destination::FlowIndex;

/// Flows with their next hops, and next hops with their heads.
///
/// A neighbour's state changes a hop by these rules:
///
/// 1. A usable MAC is the head's at once.
/// 2. While the kernel asks, the last MAC stays; without one the hop is pending.
/// 3. A failed neighbour keeps its last MAC, so that probes go out and are counted as lost, and
///    are answered again at once when the host comes back; it is asked for again, in case the
///    address moved. A neighbour that never had a MAC is unreachable.
/// 4. A forgotten neighbour keeps its last MAC, too: the kernel drops idle entries, and our
///    frames pass its stack by, so to it every hop of ours is idle.
/// 5. No head leaves through an interface that is down, gone, or without a carrier.
#[derive(Debug)]
pub struct RouteTable {
    senders: Vec<u32>,
    links: HashMap<u32, Link>,
    flows: Vec<Flow>,
    by_address: Vec<(IpAddr, FlowIndex)>,
    hops: Vec<Hop>,
    by_key: HashMap<HopKey, HopIndex>,
    free: Vec<HopIndex>,
    asks: VecDeque<HopIndex>,
    refreshed: usize,
    unanswered: usize,
    pending: usize,
}

#[derive(Debug)]
struct Flow {
    query: RouteQuery,
    route: Option<Result<Route, NoRoute>>,
    hop: Option<HopIndex>,
}

impl RouteTable {
    /// A table for what is sent to these destinations, in the order of their flows, through the
    /// links with these indices. Heads name a link by its position there.
    ///
    /// # Panics
    ///
    /// If there are more links than [`LINKS_MAX`](super::LINKS_MAX).
    pub fn new<Q: Copy + Into<RouteQuery>>(queries: &[Q], senders: &[u32]) -> Self {
        assert!(senders.len() <= super::LINKS_MAX, "few enough interfaces");
        let flow = |query: &Q| Flow {
            query: (*query).into(),
            route: None,
            hop: None,
        };
        let flows: Vec<Flow> = queries.iter().map(flow).collect();
        let mut by_address: Vec<_> = flows
            .iter()
            .map(|flow| flow.query.to)
            .zip((0..).map(FlowIndex))
            .collect();
        by_address.sort_unstable();
        Self {
            senders: senders.to_vec(),
            links: HashMap::new(),
            flows,
            by_address,
            hops: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            asks: VecDeque::new(),
            refreshed: 0,
            unanswered: queries.len(),
            pending: 0,
        }
    }

    /// Takes in one fact and appends what the engine must change.
    pub fn apply(&mut self, fact: Fact, updates: &mut Vec<RouteUpdate>) {
        match fact {
            Fact::Route { flow, route } => self.apply_route(flow, route, updates),
            Fact::Neighbour {
                link,
                address,
                state,
            } => {
                for ipv6 in [false, true] {
                    let key = HopKey {
                        link,
                        next_hop: address,
                        ipv6,
                    };
                    if let Some(&hop) = self.by_key.get(&key) {
                        self.apply_neighbour(hop, state, updates);
                    }
                }
            }
            Fact::Link(link) => {
                let index = link.index;
                if self.links.get(&index) != Some(&link) {
                    self.links.insert(index, link);
                    self.apply_link(index, updates);
                }
            }
            Fact::LinkGone { index } => {
                if self.links.remove(&index).is_some() {
                    self.apply_link(index, updates);
                }
            }
        }
    }

    /// Appends what an engine that knows nothing yet must apply to be up to date.
    pub fn snapshot(&self, updates: &mut Vec<RouteUpdate>) {
        updates.extend(self.hops().map(|view| RouteUpdate::Hop {
            hop: view.hop,
            head: self.hop(view.hop).head,
        }));
        updates.extend((0..).map(FlowIndex).zip(&self.flows).map(|(flow, entry)| {
            RouteUpdate::Flow {
                flow,
                route: entry.flow_route(),
            }
        }));
    }

    /// What to ask the kernel for, in the order of the flows.
    pub fn queries(&self) -> impl ExactSizeIterator<Item = RouteQuery> {
        self.flows.iter().map(|flow| flow.query)
    }

    /// The most hops there can ever be: each flow has one at most.
    pub fn hops_max(&self) -> usize {
        self.flows.len()
    }

    /// How many hops there have been at once: those in use, and places free for others.
    pub fn hop_places(&self) -> usize {
        self.hops.len()
    }

    /// The route of a flow, or why it has none; `None` before the kernel answered.
    pub fn route(&self, flow: FlowIndex) -> Option<&Result<Route, NoRoute>> {
        self.flows.get(flow.0 as usize)?.route.as_ref()
    }

    /// The link with this index, if the kernel told of it.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The indices of the links that the table sends through.
    pub fn senders(&self) -> &[u32] {
        &self.senders
    }

    /// The hops in use.
    pub fn hops(&self) -> impl Iterator<Item = HopView> {
        (0..)
            .map(HopIndex)
            .zip(&self.hops)
            .filter(|(_, entry)| entry.flows > 0)
            .map(|(hop, entry)| HopView {
                hop,
                key: entry.key,
                flows: entry.flows,
                state: entry.state(),
            })
    }

    /// What the kernel last said of a neighbour that a hop in use goes to, and its last MAC.
    pub fn neighbour(
        &self,
        link: u32,
        address: IpAddr,
    ) -> Option<(Option<NeighbourState>, Option<Mac>)> {
        let key = |ipv6| HopKey {
            link,
            next_hop: address,
            ipv6,
        };
        let hop = self
            .by_key
            .get(&key(false))
            .or_else(|| self.by_key.get(&key(true)))?;
        let entry = self.hop(*hop);
        Some((entry.neighbour, entry.mac))
    }

    /// The links on which hops stand of whose neighbours the kernel has said nothing yet.
    pub fn unknown_links(&self) -> BTreeSet<u32> {
        let unknown = |hop: &&Hop| hop.flows > 0 && hop.neighbour.is_none();
        self.hops
            .iter()
            .filter(unknown)
            .map(|hop| hop.key.link)
            .collect()
    }

    /// All links that the kernel told of.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Every flow has an answer, and every hop is ready or unreachable.
    pub fn settled(&self) -> bool {
        self.unanswered == 0 && self.pending == 0
    }

    /// The flows whose addresses lie in a prefix: those a changed route may concern.
    pub fn flows_within(&self, prefix: IpAddr, length: u8) -> Vec<FlowIndex> {
        let (first, last) = prefix_bounds(prefix, length);
        let from = self
            .by_address
            .partition_point(|(address, _)| *address < first);
        let until = self
            .by_address
            .partition_point(|(address, _)| *address <= last);
        self.by_address[from..until]
            .iter()
            .map(|(_, flow)| *flow)
            .collect()
    }

    /// Puts the next hops of a round over all hops on the list of those to ask for.
    pub fn refresh(&mut self, count: usize) {
        for _ in 0..count.min(self.hops.len()) {
            self.refreshed = (self.refreshed + 1) % self.hops.len();
            self.queue(HopIndex(self.refreshed as u32));
        }
    }

    /// Takes up to `max` things to ask the kernel for. What needs no asking any more is left out.
    pub fn take_asks(&mut self, max: usize) -> Vec<Ask> {
        let mut asks = Vec::new();
        while asks.len() < max {
            let Some(hop) = self.asks.pop_front() else {
                break;
            };
            let entry = &mut self.hops[hop.0 as usize];
            entry.queued = false;
            let HopKey {
                link,
                next_hop: address,
                ..
            } = entry.key;
            let usable = self.links.get(&link).is_some_and(|link| link.running);
            if let (true, true, Some(how)) = (usable, entry.flows > 0, entry.ask()) {
                asks.push(Ask { link, address, how });
            }
        }
        asks
    }

    /// There is something to ask the kernel for.
    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    fn hop(&self, hop: HopIndex) -> &Hop {
        &self.hops[hop.0 as usize]
    }

    fn queue(&mut self, hop: HopIndex) {
        let entry = &mut self.hops[hop.0 as usize];
        if entry.flows > 0 && !entry.queued && entry.ask().is_some() {
            entry.queued = true;
            self.asks.push_back(hop);
        }
    }

    fn apply_route(
        &mut self,
        flow: FlowIndex,
        route: Result<Route, NoRoute>,
        updates: &mut Vec<RouteUpdate>,
    ) {
        let route = route.and_then(|route| self.check_link(route));
        let Some(entry) = self.flows.get_mut(flow.0 as usize) else {
            return;
        };
        self.unanswered -= usize::from(entry.route.is_none());
        let before = entry.flow_route();
        let ipv6 = entry.query.to.is_ipv6();
        let key = |route: &Route| HopKey {
            link: route.link,
            next_hop: route.next_hop,
            ipv6,
        };
        let old_key = entry
            .route
            .as_ref()
            .and_then(|route| route.as_ref().ok())
            .map(key);
        let new_key = route.as_ref().ok().map(key);
        entry.route = Some(route);
        if old_key != new_key {
            let old = entry.hop.take();
            // First out, then in: so there are never more hops than flows.
            if let Some(hop) = old {
                self.release(hop);
            }
            let new = new_key.map(|key| self.acquire(key, updates));
            self.flows[flow.0 as usize].hop = new;
        }
        let after = self.flows[flow.0 as usize].flow_route();
        // The new hop may stand in the place of the old one: then the head says all.
        if before != after {
            updates.push(RouteUpdate::Flow { flow, route: after });
        }
    }

    fn check_link(&self, route: Route) -> Result<Route, NoRoute> {
        if self.senders.contains(&route.link) {
            return Ok(route);
        }
        let name = self.links.get(&route.link).map(|link| link.name.clone());
        Err(NoRoute::OtherLink {
            name: name.unwrap_or_else(|| format!("#{}", route.link)),
        })
    }

    fn release(&mut self, hop: HopIndex) {
        let entry = &mut self.hops[hop.0 as usize];
        entry.flows -= 1;
        if entry.flows == 0 {
            self.pending -= usize::from(entry.state() == HopState::Pending);
            self.by_key.remove(&entry.key);
            self.free.push(hop);
        }
    }

    fn acquire(&mut self, key: HopKey, updates: &mut Vec<RouteUpdate>) -> HopIndex {
        if let Some(&hop) = self.by_key.get(&key) {
            self.hops[hop.0 as usize].flows += 1;
            return hop;
        }
        let hop = self.free.pop().unwrap_or(HopIndex(self.hops.len() as u32));
        let sibling = self.by_key.get(&HopKey {
            ipv6: !key.ipv6,
            ..key
        });
        let (mac, neighbour) = sibling.map_or((None, None), |hop| {
            let entry = self.hop(*hop);
            (entry.mac, entry.neighbour)
        });
        // A freed place may still stand on the list of those to ask for.
        let queued = self
            .hops
            .get(hop.0 as usize)
            .is_some_and(|entry| entry.queued);
        let entry = Hop {
            key,
            flows: 1,
            mac,
            neighbour,
            head: None,
            queued,
        };
        self.pending += usize::from(entry.state() == HopState::Pending);
        match self.hops.get_mut(hop.0 as usize) {
            Some(place) => *place = entry,
            None => self.hops.push(entry),
        }
        self.by_key.insert(key, hop);
        let head = self.head(hop);
        self.hops[hop.0 as usize].head = head;
        updates.push(RouteUpdate::Hop { hop, head });
        self.queue(hop);
        hop
    }

    fn apply_neighbour(
        &mut self,
        hop: HopIndex,
        state: NeighbourState,
        updates: &mut Vec<RouteUpdate>,
    ) {
        let entry = &mut self.hops[hop.0 as usize];
        let was_pending = entry.state() == HopState::Pending;
        let was_usable = matches!(entry.neighbour, Some(NeighbourState::Usable { .. }));
        entry.neighbour = Some(state);
        if let NeighbourState::Usable { mac, .. } = state {
            entry.mac = Some(mac);
        }
        let is_pending = entry.state() == HopState::Pending;
        self.pending = self.pending + usize::from(is_pending) - usize::from(was_pending);
        // At once only if it just failed, or a dead host would be asked for without a pause.
        if was_usable && state == NeighbourState::Failed {
            self.queue(hop);
        }
        self.update_head(hop, updates);
    }

    fn apply_link(&mut self, index: u32, updates: &mut Vec<RouteUpdate>) {
        let through = |entry: &Hop| entry.flows > 0 && entry.key.link == index;
        let hops: Vec<_> = (0..).map(HopIndex).zip(&self.hops).collect();
        let hops: Vec<_> = hops
            .into_iter()
            .filter(|(_, hop)| through(hop))
            .map(|(hop, _)| hop)
            .collect();
        for hop in hops {
            self.update_head(hop, updates);
            self.queue(hop);
        }
    }

    fn update_head(&mut self, hop: HopIndex, updates: &mut Vec<RouteUpdate>) {
        let head = self.head(hop);
        let entry = &mut self.hops[hop.0 as usize];
        if entry.head != head {
            entry.head = head;
            updates.push(RouteUpdate::Hop { hop, head });
        }
    }

    fn head(&self, hop: HopIndex) -> Option<Head> {
        let entry = self.hop(hop);
        let index = entry.key.link;
        let link = self
            .links
            .get(&index)
            .filter(|link| link.up && link.running)?;
        let place = self.senders.iter().position(|sender| *sender == index)?;
        Some(Head {
            bytes: ethernet_head(entry.mac?, link.mac?, entry.key.ipv6),
            link: LinkPlace(place as u8),
        })
    }
}

impl Flow {
    fn flow_route(&self) -> Option<FlowRoute> {
        let source = self.route.as_ref()?.as_ref().ok()?.source;
        Some(FlowRoute {
            hop: self.hop?,
            source,
        })
    }
}

/// The first and the last address of a prefix.
fn prefix_bounds(prefix: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    match prefix {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            (
                IpAddr::V4((bits & !host).into()),
                IpAddr::V4((bits | host).into()),
            )
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            (
                IpAddr::V6((bits & !host).into()),
                IpAddr::V6((bits | host).into()),
            )
        }
    }
}
