//! Which routes may have changed, and when to ask for them. Touches no socket and no clock.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::destination::FlowIndex;
use crate::route::{RouteQuery, RouteTable};

/// Routes rarely change alone: how long more changes are awaited before asking again.
const SETTLE_NS: u64 = 100_000_000;
/// Asking again happens at most this often, however fast routes change.
const REQUERY_NS: u64 = 1_000_000_000;
/// Changed prefixes kept apart; with more, all routes are asked for.
const PREFIXES_MAX: usize = 1024;

/// Routes that may have changed since they were last asked for.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    since_ns: Option<u64>,
    all: bool,
    prefixes: BTreeSet<(IpAddr, u8)>,
}

impl Dirty {
    /// Any route may have changed.
    pub(super) fn mark_all(&mut self, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
        self.all = true;
        self.prefixes.clear();
    }

    /// Routes to addresses in this prefix may have changed.
    pub(super) fn mark(&mut self, prefix: IpAddr, length: u8, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
        if self.all {
            return;
        }
        self.prefixes.insert((prefix, length));
        if self.prefixes.len() > PREFIXES_MAX {
            self.mark_all(now_ns);
        }
    }

    /// When to ask again, if it was last done at `queried_ns`; `None` if nothing has changed.
    pub(super) fn due_ns(&self, queried_ns: u64) -> Option<u64> {
        Some((self.since_ns? + SETTLE_NS).max(queried_ns + REQUERY_NS))
    }

    /// Any route may have changed.
    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// The flows to ask for, with what to ask.
    pub(super) fn flows(&self, table: &RouteTable) -> Vec<(FlowIndex, RouteQuery)> {
        let queries = (0..).map(FlowIndex).zip(table.queries());
        if self.all {
            return queries.collect();
        }
        let within = |(prefix, length): &(IpAddr, u8)| table.flows_within(*prefix, *length);
        let flows: BTreeSet<_> = self.prefixes.iter().flat_map(within).collect();
        queries.filter(|(flow, _)| flows.contains(flow)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn changes_are_gathered_and_never_asked_for_twice_in_a_second() {
        let mut dirty = Dirty::default();
        assert_eq!(dirty.due_ns(0), None);
        dirty.mark(ip("192.0.2.0"), 24, 5_000_000_000);
        dirty.mark(ip("198.51.100.0"), 24, 5_090_000_000);
        assert_eq!(dirty.due_ns(1_000_000_000), Some(5_100_000_000));
        assert_eq!(dirty.due_ns(4_900_000_000), Some(5_900_000_000));
    }

    #[test]
    fn only_those_in_changed_prefixes_are_asked_for_until_there_are_too_many() {
        let addresses = ["192.0.2.1", "2001:db8::1", "198.51.100.1", "203.0.113.1"].map(ip);
        let table = RouteTable::new(&addresses, &[1]);
        let mut dirty = Dirty::default();
        assert_eq!(dirty.flows(&table), []);
        dirty.mark(ip("198.51.100.0"), 24, 0);
        dirty.mark(ip("2001:db8::"), 32, 0);
        let flows = [1, 2].map(|index| (FlowIndex(index as u32), addresses[index].into()));
        assert_eq!(dirty.flows(&table), flows);
        for number in 0..PREFIXES_MAX as u32 {
            assert!(!dirty.is_all() || number > 1000);
            dirty.mark(IpAddr::V4((0x0a00_0000 + number).into()), 32, 0);
        }
        assert!(dirty.is_all());
        dirty.mark(ip("198.51.100.0"), 24, 0);
        assert_eq!(dirty.flows(&table).len(), 4);
    }
}
