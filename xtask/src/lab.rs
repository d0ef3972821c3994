//! The lab: tens of thousands of hosts, real to a prober, whose packets never leave this machine.
//!
//! A network namespace holds prefixes as its own (an AnyIP route, `local PREFIX dev lo`), so its
//! kernel answers for every address in them. A veth pair joins it to the prober, which sits in
//! the root namespace ([`machine`], for `cargo xtask lab` and `run`) or in a namespace of its own
//! ([`Lab`], for tests, which may run many at once).

pub mod addresses;
pub mod command;
mod counters;
pub mod machine;
pub mod namespace;
pub mod record;
pub mod services;
pub mod topology;

use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use anyhow::Result;

use addresses::FAR;
pub use addresses::{
    BLACK_HOLE, DEAD_ENDS, DIRECT_IPV4, DIRECT_IPV6, DeadEnd, HOSTS_IPV4, HOSTS_IPV6, INTERFACE,
    NOWHERE, PROHIBITED, SECOND_INTERFACE, SECOND_IPV4, SECOND_IPV6, UNREACHABLE, direct_ipv4,
    direct_ipv6, router_ipv4, router_ipv6,
};
pub use namespace::Namespace;
use services::Services;
pub use services::{ECHO_PORT, TCP_PORTS};
pub use topology::Shape;
use topology::Topology;

/// Begins the name of every test lab's namespaces; the owner's process id follows.
const TEST_PREFIX: &str = "pinger-test-";

/// A lab for one test; all of it is removed on drop, whatever happened.
#[derive(Debug)]
pub struct Lab {
    /// What the hosts offer. Gone before the namespaces are, which live as long as a socket.
    _services: Vec<Services>,
    /// The prober's namespace first, then gateways, hosts, and hosts at the second interface.
    places: Vec<Namespace>,
    shape: Shape,
}

impl Lab {
    /// Makes a lab with names that no other test and no other process uses.
    ///
    /// # Errors
    /// Not root, or the kernel refuses a part; what was made until then is removed.
    pub fn new(shape: Shape) -> Result<Self> {
        /// Counts the labs of this process, for names.
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let lab = MADE.fetch_add(1, Ordering::Relaxed);
        let places = (0..shape.places())
            .map(|place| Namespace::new(format!("{TEST_PREFIX}{}-{lab}-{place}", process::id())))
            .collect::<Result<Vec<_>>>()?;
        let names = places
            .iter()
            .map(|place| Some(place.name().to_owned()))
            .collect();
        Topology::new(names, shape).apply()?;
        let services = places[shape.gateways + 1..]
            .iter()
            .map(Services::start)
            .collect::<Result<_>>()?;
        Ok(Self {
            _services: services,
            places,
            shape,
        })
    }

    /// Where the prober runs; its interface is [`INTERFACE`].
    pub fn prober(&self) -> &Namespace {
        &self.places[0]
    }

    /// Whose kernel answers for [`HOSTS_IPV4`] and [`HOSTS_IPV6`].
    pub fn hosts(&self) -> &Namespace {
        &self.places[self.shape.gateways + 1]
    }

    /// Whose kernel answers for [`SECOND_IPV4`] and [`SECOND_IPV6`], if the shape has it.
    pub fn second_hosts(&self) -> Option<&Namespace> {
        self.places.get(self.shape.gateways + 2)
    }

    /// The gateways, from the prober's side on.
    pub fn gateways(&self) -> &[Namespace] {
        &self.places[1..=self.shape.gateways]
    }

    /// What the prober's link leads to: the first gateway, or the hosts if there is none.
    ///
    /// The directly connected hosts are here.
    pub fn neighbour(&self) -> &Namespace {
        &self.places[1]
    }

    /// Gives everything at the far end of the prober's link another MAC address.
    ///
    /// # Errors
    /// The address is malformed, or a multicast one.
    pub fn set_neighbour_mac(&self, mac: &str) -> Result<()> {
        self.neighbour()
            .ip(&[&format!("link set dev {FAR} address {mac}")])
    }

    /// Sets the prober's interface up or down. Down, it loses its IPv6 addresses and routes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_interface(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.prober()
            .ip(&[&format!("link set dev {INTERFACE} {state}")])
    }

    /// Plugs the far end of the prober's link in or out: the prober sees its carrier go.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_carrier(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.neighbour()
            .ip(&[&format!("link set dev {FAR} {state}")])
    }
}

/// Removes test labs of processes that are no more: those that were killed could not.
fn remove_abandoned() {
    for name in Namespace::list() {
        let owner = name
            .strip_prefix(TEST_PREFIX)
            .and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner
            && !fs::exists(format!("/proc/{owner}")).unwrap_or(true)
        {
            // Another test may sweep at the same moment; gone is gone.
            drop(Namespace::adopt(name));
        }
    }
}
