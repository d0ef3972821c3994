//! What the route keeper tells the user: one sentence each.

use std::fmt;
use std::net::IpAddr;

use super::NetlinkError;
use crate::destination::FlowIndex;
use crate::route::{Link, Mac, NeighbourState, NoRoute};

/// What became of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It carries packets again.
    Running,
    /// It is up, but has no carrier.
    NoCarrier,
    /// Someone set it down.
    Down,
    /// It is no more.
    Gone,
    /// It has another MAC.
    Mac(Option<Mac>),
}

/// Something the user should know of the ways that probes take.
#[derive(Debug)]
pub enum RouteNotice {
    /// An interface that probes leave through has changed.
    Link {
        /// Its name.
        name: String,
        /// How it changed.
        change: LinkChange,
    },
    /// Routes have changed.
    Routes {
        /// How many destinations have another way now.
        moved: usize,
        /// How many have none any more.
        lost: usize,
        /// One of the lost ones, and why.
        example: Option<(FlowIndex, IpAddr, NoRoute)>,
    },
    /// A next hop has another MAC.
    Moved {
        /// The next hop.
        next_hop: IpAddr,
        /// The MAC that the probes had gone to.
        from: Mac,
        /// The MAC they go to now.
        to: Mac,
    },
    /// A next hop does not answer the kernel's requests for its MAC any more.
    Silent {
        /// The next hop.
        next_hop: IpAddr,
    },
    /// The kernel refuses to look for a next hop.
    Refused {
        /// The next hop.
        next_hop: IpAddr,
        /// Why.
        errno: i32,
    },
    /// The kernel announced changes faster than they were read; all tables were read again.
    Overrun,
    /// Watching failed and starts again; meanwhile the routes stay as they are.
    Failed(NetlinkError),
    /// This many notices found nobody reading them.
    Dropped(u64),
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("is up again"),
            Self::NoCarrier => f.write_str("has lost its carrier; probes fail until it is back"),
            Self::Down => f.write_str("was set down; probes fail until it is up"),
            Self::Gone => f.write_str("is gone; probes fail until pinger is started again"),
            Self::Mac(Some(mac)) => write!(f, "has a new MAC, {mac}; probes use it from now on"),
            Self::Mac(None) => f.write_str("has no MAC any more; probes fail"),
        }
    }
}

impl fmt::Display for RouteNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { name, change } => write!(f, "interface {name} {change}"),
            Self::Routes {
                moved,
                lost,
                example,
            } => {
                write!(
                    f,
                    "routes changed: {moved} destinations go another way, {lost} have none"
                )?;
                match example {
                    Some((_, address, why)) => write!(f, " (such as {address}: {why})"),
                    None => Ok(()),
                }
            }
            Self::Moved { next_hop, from, to } => {
                write!(
                    f,
                    "next hop {next_hop} moved from {from} to {to}; probes follow"
                )
            }
            Self::Silent { next_hop } => {
                let protocol = if next_hop.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour discovery"
                };
                write!(
                    f,
                    "next hop {next_hop} does not answer {protocol} any more; \
                     probes still go to its last MAC"
                )
            }
            Self::Refused { next_hop, errno } => write!(
                f,
                "the kernel will not look for next hop {next_hop}: {}{}",
                std::io::Error::from_raw_os_error(*errno),
                refused_advice(*errno)
            ),
            Self::Overrun => f.write_str(
                "the kernel announced changes faster than they were read; all was read again",
            ),
            Self::Failed(error) => {
                write!(
                    f,
                    "cannot watch routes ({error}); they stay as they are, trying again"
                )
            }
            Self::Dropped(count) => write!(f, "{count} notices about routes were left out"),
        }
    }
}

fn refused_advice(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => "; pinger needs CAP_NET_ADMIN for that",
        libc::ENOBUFS | libc::ENOMEM => {
            "; its neighbour table is full: raise net.ipv4.neigh.default.gc_thresh3 \
             (or net.ipv6.…) by sysctl"
        }
        _ => "",
    }
}

/// What to tell of a neighbour that was known like this, and is now like that.
pub(super) fn of_neighbour(
    next_hop: IpAddr,
    before: (Option<NeighbourState>, Option<Mac>),
    after: NeighbourState,
) -> Option<RouteNotice> {
    match (before, after) {
        ((_, Some(from)), NeighbourState::Usable { mac: to, .. }) if from != to => {
            Some(RouteNotice::Moved { next_hop, from, to })
        }
        ((Some(NeighbourState::Usable { .. }), _), NeighbourState::Failed) => {
            Some(RouteNotice::Silent { next_hop })
        }
        _ => None,
    }
}

/// What to tell of an interface that probes leave through.
pub(super) fn of_link(before: &Link, after: &Link) -> Option<LinkChange> {
    if before.running != after.running {
        return Some(match after {
            Link { running: true, .. } => LinkChange::Running,
            Link { up: true, .. } => LinkChange::NoCarrier,
            _ => LinkChange::Down,
        });
    }
    (before.mac != after.mac).then_some(LinkChange::Mac(after.mac))
}
