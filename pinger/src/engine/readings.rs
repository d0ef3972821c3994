//! How far a cycle has been read: by the sender, and once more by whoever gives probes up.

use super::Limits;
use crate::flight::{AtomicSlot, Flight};
use crate::schedule::{Cycle, Schedule};

/// The two readings of a cycle: which turn is due next, and which one ends next.
pub(super) struct Readings {
    pub(super) next: u64,
    pub(super) end: u64,
    /// How many turns there are in all.
    pub(super) turns: u64,
    /// The most turns from `end` to `next`: with more, a flow would have more probes in flight
    /// than slots.
    pub(super) capacity: u64,
    /// How many turns in a row were passed over, as their flows have no way.
    pub(super) passed_over: u64,
}

impl Readings {
    fn of<M: AsRef<[AtomicSlot]>>(cycle: &Cycle, limits: &Limits, flight: &Flight<M>) -> Self {
        let by_count = limits.count.map(|count| count.saturating_mul(cycle.len()));
        let turns = by_count
            .unwrap_or(u64::MAX)
            .min(cycle.turns_before(limits.until_ns));
        let flows = (0..cycle.len()).map(|turn| cycle.turn(turn).flow);
        let run = flows.map(|flow| flight.run(flow)).min().unwrap_or(0);
        Self {
            next: 0,
            end: 0,
            turns,
            capacity: run * cycle.len(),
            passed_over: 0,
        }
    }
}

/// The readings of all cycles, at their start.
pub(super) fn readings<M: AsRef<[AtomicSlot]>>(
    schedule: &Schedule,
    limits: &Limits,
    flight: &Flight<M>,
) -> Vec<Readings> {
    let cycles = schedule.cycles().iter();
    cycles
        .map(|cycle| Readings::of(cycle, limits, flight))
        .collect()
}
