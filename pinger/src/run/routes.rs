//! Which way each destination's probes leave this host: by which interface, from which address.
//!
//! A destination leaves through its own interface if it names one, else through that of the run,
//! else by its route. One that cannot be probed is left out, and that is told.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use thiserror::Error;

use super::RunError;
use crate::destination::{self, Destination, FlowIndex};
use crate::mistake;
use crate::packet;
use crate::route::{HopView, LINKS_MAX, Link, NoRoute, Route, RouteQuery, RouteTable, RouteUpdate};
use crate::wire::netlink::{
    InterfaceAddress, InterfaceError, Netlink, RouteKeeper, RouteNotice, interface_named,
};

/// How long the neighbours may take to answer before probing begins without them.
const NEIGHBOURS_WAIT: Duration = Duration::from_secs(3);

/// Routes asked for between two looks at the clock: some 40 ms.
const ROUTES_AT_ONCE: usize = 10_000;

/// How often the user hears how many routes are looked up.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// The ways out: the interfaces, and the destinations that can be reached through them.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// The interfaces that are used, in the places that heads name.
    pub(super) links: Vec<Link>,
    pub(super) destinations: Vec<Destination>,
    /// The address that each destination is probed from.
    pub(super) sources: Vec<IpAddr>,
    /// Destinations left out, and why, ready to be shown.
    pub(super) problems: Vec<String>,
    /// How the kernel is asked for the way to each destination.
    queries: Vec<RouteQuery>,
}

/// Why a destination cannot be probed. Written to stand behind its name.
#[derive(Debug, Error)]
enum NoWay {
    #[error(transparent)]
    Route(#[from] NoRoute),
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(
        "{0}, which it is to be probed from, is no address of this host; `ip address` shows those \
         it has"
    )]
    NotOurs(IpAddr),
    #[error("{0}, which it is to be probed from, is of the other address family; name one of its")]
    OtherFamily(IpAddr),
    #[error(
        "{interface}, which it is to be probed from, has no {family} address; give it one by \
         `ip address add`, or name another source"
    )]
    NoAddress {
        interface: String,
        family: &'static str,
    },
    #[error("a payload of {size} bytes does not fit the MTU of {mtu}; ask for {size_max} or less")]
    TooLong { size: u16, mtu: u32, size_max: u16 },
    #[error(
        "it leaves through {0}, one interface more than the {LINKS_MAX} that a run can use; probe \
         it by a second pinger"
    )]
    TooManyLinks(String),
}

impl Way {
    /// Asks the kernel for the way to each destination, by `interface` where it names none of its
    /// own, and keeps those that have one. `progress` hears about once a second how many of how
    /// many are looked up.
    pub(super) fn find(
        interface: Option<&str>,
        destinations: Vec<Destination>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, RunError> {
        let mut netlink = Netlink::open()?;
        let named = interface.map(|name| netlink.interface(name)).transpose()?;
        let (links, addresses) = (netlink.links()?, netlink.addresses()?);
        let host = Host::new(links, addresses, named.map(|link| link.index));
        let mut way = Self::default();
        let mut wanted = Vec::with_capacity(destinations.len());
        let mut queries = Vec::with_capacity(destinations.len());
        for destination in destinations {
            match host.query(&destination) {
                Ok(query) => {
                    queries.push(query);
                    wanted.push(destination);
                }
                Err(why) => way.skip(&destination, &why),
            }
        }
        let routes = look_up(&mut netlink, &queries, progress)?;
        for ((destination, query), route) in wanted.into_iter().zip(queries).zip(routes) {
            match way.accept(&host, &destination, &query, route) {
                Ok(source) => {
                    way.sources.push(source);
                    way.destinations.push(destination);
                    way.queries.push(query);
                }
                Err(why) => way.skip(&destination, &why),
            }
        }
        if way.destinations.is_empty() {
            return Err(RunError::NothingToProbe {
                reasons: mistake::reasons(&way.problems),
            });
        }
        Ok(way)
    }

    fn skip(&mut self, destination: &Destination, why: &NoWay) {
        let name = &destination.name;
        self.problems.push(format!("{name} is not probed: {why}"));
    }

    /// The address to probe a destination from, or why it is left out.
    fn accept(
        &mut self,
        host: &Host,
        destination: &Destination,
        query: &RouteQuery,
        route: Result<Route, NoRoute>,
    ) -> Result<IpAddr, NoWay> {
        let route = route?;
        let other = |name: &str| NoRoute::OtherLink { name: name.into() };
        let link = host
            .link(route.link)
            .ok_or_else(|| other("an interface that has just come or gone"))?;
        if query.link.is_some_and(|index| index != route.link) {
            return Err(other(&link.name).into());
        }
        link.check()?;
        let mtu = if route.mtu == 0 {
            link.mtu
        } else {
            route.mtu.min(link.mtu)
        };
        let size = destination.size;
        let size_max = packet::size_max(destination.protocol, mtu);
        if size > size_max {
            return Err(NoWay::TooLong {
                size,
                mtu,
                size_max,
            });
        }
        self.take(link)?;
        Ok(route.source)
    }

    /// Adds a link to those that are used.
    fn take(&mut self, link: &Link) -> Result<(), NoWay> {
        if self.links.iter().any(|used| used.index == link.index) {
            return Ok(());
        }
        if self.links.len() == LINKS_MAX {
            return Err(NoWay::TooManyLinks(link.name.clone()));
        }
        self.links.push(link.clone());
        Ok(())
    }

    /// Keeps the routes current from now on, and waits for the first answers of the neighbours.
    /// Returns those that did not answer.
    pub(super) fn keep(&self) -> Result<(Kept, Vec<HopView>), RunError> {
        let links: Vec<u32> = self.links.iter().map(|link| link.index).collect();
        let table = RouteTable::new(&self.queries, &links);
        let (updates, notices, keeper) = RouteKeeper::spawn(table)?;
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

    /// The names of the interfaces, separated by commas.
    pub(super) fn interfaces(&self) -> String {
        let names: Vec<&str> = self.links.iter().map(|link| link.name.as_str()).collect();
        names.join(", ")
    }

    /// The name of the interface with this index.
    pub(super) fn interface(&self, index: u32) -> &str {
        let link = self.links.iter().find(|link| link.index == index);
        link.map_or("an unknown interface", |link| &link.name)
    }
}

/// Asks for the routes part by part, so that somebody can be told how far it is.
fn look_up(
    netlink: &mut Netlink,
    queries: &[RouteQuery],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Result<Route, NoRoute>>, RunError> {
    let mut routes = Vec::with_capacity(queries.len());
    let mut told = Instant::now();
    for part in queries.chunks(ROUTES_AT_ONCE) {
        routes.extend(netlink.routes_to(part)?);
        if told.elapsed() >= PROGRESS_PERIOD {
            progress(routes.len(), queries.len());
            told = Instant::now();
        }
    }
    Ok(routes)
}

/// What this host has to send by and from.
struct Host {
    /// In the order of their indices.
    links: Vec<Link>,
    addresses: Vec<InterfaceAddress>,
    own: HashSet<IpAddr>,
    /// Index of the interface that the run names.
    named: Option<u32>,
}

impl Host {
    fn new(mut links: Vec<Link>, addresses: Vec<InterfaceAddress>, named: Option<u32>) -> Self {
        links.sort_unstable_by_key(|link| link.index);
        let own = addresses.iter().map(|own| own.address).collect();
        Self {
            links,
            addresses,
            own,
            named,
        }
    }

    fn link(&self, index: u32) -> Option<&Link> {
        let place = self.links.binary_search_by_key(&index, |link| link.index);
        Some(&self.links[place.ok()?])
    }

    /// How to ask the kernel for the way to a destination.
    fn query(&self, destination: &Destination) -> Result<RouteQuery, NoWay> {
        let link = match &destination.interface {
            None => self.named,
            Some(name) => {
                let link = interface_named(&self.links, name)?;
                link.check()?;
                Some(link.index)
            }
        };
        Ok(RouteQuery {
            to: destination.address,
            protocol: destination.protocol,
            port: destination.port,
            traffic_class: destination.traffic_class,
            source: self.source(destination)?,
            link,
        })
    }

    /// Where a destination is to be probed from, if it says so.
    fn source(&self, destination: &Destination) -> Result<Option<IpAddr>, NoWay> {
        match &destination.from {
            None => Ok(None),
            Some(destination::From::Address(address)) => {
                if address.is_ipv4() != destination.address.is_ipv4() {
                    return Err(NoWay::OtherFamily(*address));
                }
                if !self.own.contains(address) {
                    return Err(NoWay::NotOurs(*address));
                }
                Ok(Some(*address))
            }
            Some(destination::From::Interface(name)) => {
                self.first_address(name, destination.address).map(Some)
            }
        }
    }

    /// The first address of an interface that a packet to `to` can come from; one that is valid
    /// on its link only if there is no other.
    fn first_address(&self, interface: &str, to: IpAddr) -> Result<IpAddr, NoWay> {
        let link = interface_named(&self.links, interface)?.index;
        let mut fit: Vec<_> = self
            .addresses
            .iter()
            .filter(|own| own.link == link && own.address.is_ipv4() == to.is_ipv4())
            .collect();
        fit.sort_by_key(|own| own.link_local);
        let first = fit.first().map(|own| own.address);
        first.ok_or_else(|| NoWay::NoAddress {
            interface: interface.to_owned(),
            family: if to.is_ipv4() { "IPv4" } else { "IPv6" },
        })
    }
}

/// Routes that are kept current while this lives.
pub(super) struct Kept {
    pub(super) updates: Receiver<RouteUpdate>,
    pub(super) notices: Receiver<RouteNotice>,
    _keeper: RouteKeeper,
}

#[cfg(test)]
mod tests;
