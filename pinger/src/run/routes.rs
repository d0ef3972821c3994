//! Which interface a run uses, and which destinations it can reach through it.

use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::RunError;
use crate::destination::{Destination, FlowIndex};
use crate::mistake;
use crate::packet;
use crate::route::{HopView, Link, NoRoute, Route, RouteTable, RouteUpdate, most_used_link};
use crate::wire::netlink::{Netlink, RouteKeeper, RouteNotice};

/// How long the neighbours may take to answer before probing begins without them.
const NEIGHBOURS_WAIT: Duration = Duration::from_secs(3);

/// The way out: the interface, and the destinations that can be reached through it.
pub(super) struct Way {
    pub(super) link: Link,
    pub(super) destinations: Vec<Destination>,
    /// The address that each destination is probed from.
    pub(super) sources: Vec<IpAddr>,
    /// Destinations left out, and why, ready to be shown.
    pub(super) problems: Vec<String>,
    /// Whether the user named the interface.
    named: bool,
}

impl Way {
    /// Asks the kernel for the route of each destination, through `interface` if one is named,
    /// and keeps those that leave by one interface.
    pub(super) fn find(
        interface: Option<&str>,
        destinations: Vec<Destination>,
    ) -> Result<Self, RunError> {
        let mut netlink = Netlink::open()?;
        let named = interface.map(|name| netlink.interface(name)).transpose()?;
        let addresses: Vec<IpAddr> = destinations.iter().map(|d| d.address).collect();
        let routes = netlink.routes_to(&addresses, named.as_ref().map(|link| link.index))?;
        let is_named = named.is_some();
        let links = netlink.links()?;
        let link = match named {
            Some(link) => link,
            None => {
                Self::choose(&links, &routes).ok_or_else(|| nothing_left(&destinations, &routes))?
            }
        };
        link.check()?;
        let mut way = Self {
            link,
            destinations: Vec::with_capacity(destinations.len()),
            sources: Vec::with_capacity(destinations.len()),
            problems: Vec::new(),
            named: is_named,
        };
        for (destination, route) in destinations.into_iter().zip(routes) {
            match way.accept(&destination, route, &links) {
                Ok(source) => {
                    way.sources.push(source);
                    way.destinations.push(destination);
                }
                Err(problem) => way.problems.push(problem),
            }
        }
        if way.destinations.is_empty() {
            return Err(RunError::NothingToProbe {
                reasons: mistake::reasons(&way.problems),
            });
        }
        Ok(way)
    }

    /// The interface that most destinations leave through, when the user names none.
    fn choose(links: &[Link], routes: &[Result<Route, NoRoute>]) -> Option<Link> {
        let index = most_used_link(routes.iter().flatten())?;
        links.iter().find(|link| link.index == index).cloned()
    }

    /// The address to probe a destination from, or why it is left out.
    fn accept(
        &self,
        destination: &Destination,
        route: Result<Route, NoRoute>,
        links: &[Link],
    ) -> Result<IpAddr, String> {
        let Destination {
            name,
            address,
            size,
            ..
        } = destination;
        let skipped = |why: &dyn std::fmt::Display| format!("{name} is not probed: {why}");
        let route = route.map_err(|why| skipped(&why))?;
        if route.link != self.link.index {
            let other = links.iter().find(|link| link.index == route.link);
            let name = other.map_or_else(|| "another interface".into(), |link| link.name.clone());
            return Err(skipped(&NoRoute::OtherLink { name }));
        }
        let mtu = if route.mtu == 0 {
            self.link.mtu
        } else {
            route.mtu.min(self.link.mtu)
        };
        let size_max = packet::size_max(*address, mtu);
        if *size > size_max {
            return Err(skipped(&format!(
                "a payload of {size} bytes does not fit the MTU of {mtu}; ask for {size_max} or less"
            )));
        }
        Ok(route.source)
    }

    /// Keeps the routes current from now on, and waits for the first answers of the neighbours.
    /// Returns those that did not answer.
    pub(super) fn keep(&self) -> Result<(Kept, Vec<HopView>), RunError> {
        let addresses: Vec<IpAddr> = self.destinations.iter().map(|d| d.address).collect();
        let table = RouteTable::new(&addresses, &[self.link.index]);
        let oif = self.named.then_some(self.link.index);
        let (updates, notices, keeper) = RouteKeeper::spawn(table, oif)?;
        let readiness = keeper.wait_ready(NEIGHBOURS_WAIT);
        Ok((
            Kept {
                updates,
                notices,
                _keeper: keeper,
            },
            readiness.unresolved,
        ))
    }

    /// The address a flow is probed from at the start.
    pub(super) fn source(&self, flow: FlowIndex) -> IpAddr {
        self.sources[flow.0 as usize]
    }
}

/// Routes that are kept current while this lives.
pub(super) struct Kept {
    pub(super) updates: Receiver<RouteUpdate>,
    pub(super) notices: Receiver<RouteNotice>,
    _keeper: RouteKeeper,
}

fn nothing_left(destinations: &[Destination], routes: &[Result<Route, NoRoute>]) -> RunError {
    let problems: Vec<String> = destinations
        .iter()
        .zip(routes)
        .filter_map(|(destination, route)| {
            route
                .as_ref()
                .err()
                .map(|why| format!("{}: {why}", destination.name))
        })
        .collect();
    RunError::NothingToProbe {
        reasons: mistake::reasons(&problems),
    }
}
