//! One next hop: what is known of its neighbour, and what frames to it begin with.

use super::{
    AskHow, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHead, Head, HopIndex, HopKey, HopState, Mac,
    NeighbourState,
};

#[derive(Debug)]
pub(super) struct Hop {
    pub(super) key: HopKey,
    pub(super) flows: u32,
    pub(super) mac: Option<Mac>,
    pub(super) neighbour: Option<NeighbourState>,
    pub(super) head: Option<Head>,
    pub(super) queued: bool,
}

impl Hop {
    pub(super) fn state(&self) -> HopState {
        match (self.mac, self.neighbour) {
            (Some(mac), _) => HopState::Ready(mac),
            (None, Some(NeighbourState::Failed)) => HopState::Unreachable,
            (None, _) => HopState::Pending,
        }
    }

    pub(super) fn ask(&self) -> Option<AskHow> {
        match self.neighbour {
            None | Some(NeighbourState::Gone) => Some(AskHow::Create),
            Some(NeighbourState::Failed) => Some(AskHow::Resolve),
            Some(NeighbourState::Usable { fixed: false, .. }) => Some(AskHow::Verify),
            Some(NeighbourState::Usable { fixed: true, .. } | NeighbourState::Resolving) => None,
        }
    }
}

/// A hop in use, for display and for waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopView {
    /// Its position.
    pub hop: HopIndex,
    /// What it is.
    pub key: HopKey,
    /// How many flows go through it.
    pub flows: u32,
    /// Whether it has a MAC.
    pub state: HopState,
}

/// The head of a frame to a neighbour.
pub(super) fn ethernet_head(destination: Mac, source: Mac, ipv6: bool) -> EthernetHead {
    let ethertype = if ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    let mut head = [0; 14];
    head[..6].copy_from_slice(&destination.0);
    head[6..12].copy_from_slice(&source.0);
    head[12..].copy_from_slice(&ethertype.to_be_bytes());
    head
}
