//! A keeper of routes, and what an engine would know from its updates.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use pinger::destination::FlowIndex;
use pinger::route::{FlowRoute, Head, HopIndex, Mac, RouteUpdate};
use pinger::wire::netlink::{RouteKeeper, RouteNotice};

/// Longer than the slowest path takes: a round of five seconds, three unanswered requests a
/// second apart, three more for the new MAC.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A keeper, and an engine's view of what it said.
pub(crate) struct Watch {
    pub(crate) updates: Receiver<RouteUpdate>,
    notices: Receiver<RouteNotice>,
    pub(crate) keeper: RouteKeeper,
    pub(crate) source: Mac,
    heads: HashMap<HopIndex, Option<Head>>,
    pub(crate) flows: HashMap<FlowIndex, Option<FlowRoute>>,
    pub(crate) notes: Vec<RouteNotice>,
}

impl Watch {
    /// Sees to what a keeper says; `source` is the MAC that heads are to show.
    pub(crate) fn new(
        updates: Receiver<RouteUpdate>,
        notices: Receiver<RouteNotice>,
        keeper: RouteKeeper,
        source: Mac,
    ) -> Self {
        Self {
            updates,
            notices,
            keeper,
            source,
            heads: HashMap::new(),
            flows: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Applies updates until this holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.notes.extend(self.notices.try_iter());
            if holds(self) {
                return;
            }
            // A short wait, as notices come on a channel of their own.
            match self.updates.recv_timeout(Duration::from_millis(20)) {
                Ok(RouteUpdate::Hop { hop, head }) => drop(self.heads.insert(hop, head)),
                Ok(RouteUpdate::Flow { flow, route }) => drop(self.flows.insert(flow, route)),
                Err(_) => assert!(
                    Instant::now() < deadline,
                    "never: {what}\nheads {:?}\nflows {:?}\nnotices {:?}",
                    self.heads,
                    self.flows,
                    self.notes
                ),
            }
        }
    }

    pub(crate) fn head(&self, flow: u32) -> Option<Head> {
        let route = self.flows.get(&FlowIndex(flow)).copied().flatten()?;
        self.heads[&route.hop]
    }

    /// Flow goes to this MAC, from ours, with the ethertype of its family.
    pub(crate) fn goes_to(&self, flow: u32, to: Mac) -> bool {
        self.head(flow).is_some_and(|head| {
            let ipv6 = self.flows[&FlowIndex(flow)].is_some_and(|route| route.source.is_ipv6());
            let ethertype = if ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
            let head = head.bytes;
            head[..6] == to.0 && head[6..12] == self.source.0 && head[12..] == ethertype
        })
    }

    pub(crate) fn until_all_go_to(&mut self, to: &[Mac]) {
        let all = |watch: &Self| (0..).zip(to).all(|(flow, to)| watch.goes_to(flow, *to));
        self.until(&format!("flows go to {to:?}"), all);
    }
}
