//! When to probe: flows of one interval form a cycle, spread evenly over it.
//!
//! The next due flow is the next in the ring: no heap and no timer for each destination. A cycle
//! is read twice: once where probes are due, and once, a timeout later, where they end. Pure.

use crate::destination::{Destination, FlowIndex};

/// One probe's turn: which flow, its how manieth, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose turn it is.
    pub flow: FlowIndex,
    /// Sequence of the probe in its flow.
    pub sequence: u64,
    /// When it is due, CLOCK_MONOTONIC nanoseconds.
    pub due_ns: u64,
}

/// The flows that share an interval and a timeout, in the order of their turns.
#[derive(Clone, Debug)]
pub struct Cycle {
    flows: Vec<FlowIndex>,
    start_ns: u64,
    /// Time from one turn of a flow to its next; zero means: as fast as answers come back.
    pub interval_ns: u64,
    /// How long an answer is awaited.
    pub timeout_ns: u64,
}

impl Cycle {
    /// Number of flows; at least one.
    pub fn len(&self) -> u64 {
        self.flows.len() as u64
    }

    /// Never: a cycle has at least one flow.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// When turn number `turn` of the whole cycle is due. Computed from the start, so rounding
    /// never adds up.
    pub fn due_ns(&self, turn: u64) -> u64 {
        let offset = u128::from(turn) * u128::from(self.interval_ns) / u128::from(self.len());
        self.start_ns + offset as u64
    }

    /// How many turns of the whole cycle are due before a time; in a flood, no number is known.
    pub fn turns_before(&self, until_ns: u64) -> u64 {
        if self.interval_ns == 0 {
            return u64::MAX;
        }
        let span = u128::from(until_ns.saturating_sub(self.start_ns));
        let turns = (span * u128::from(self.len())).div_ceil(u128::from(self.interval_ns));
        u64::try_from(turns).unwrap_or(u64::MAX)
    }

    /// Turn number `turn` of the whole cycle.
    pub fn turn(&self, turn: u64) -> Turn {
        let flow = self.flows[(turn % self.len()) as usize];
        Turn {
            flow,
            sequence: turn / self.len(),
            due_ns: self.due_ns(turn),
        }
    }

    /// How many probes of one flow can be in flight at once: those of a timeout, the one being
    /// sent, and one for a sender that is up to an interval late.
    pub fn in_flight_max(&self) -> u64 {
        self.timeout_ns.checked_div(self.interval_ns).unwrap_or(0) + 2
    }

    /// How many whole rounds to leave out when `turn` should be due at `now_ns` but is late by
    /// more than an interval. Catching up would send bursts that nobody asked for.
    pub fn rounds_behind(&self, turn: u64, now_ns: u64) -> u64 {
        now_ns
            .saturating_sub(self.due_ns(turn))
            .checked_div(self.interval_ns)
            .unwrap_or(0)
    }
}

/// All cycles of a run, and for each flow its place in them.
#[derive(Clone, Debug)]
pub struct Schedule {
    cycles: Vec<Cycle>,
    /// For each flow: its cycle, and its position there.
    places: Vec<(u32, u32)>,
}

impl Schedule {
    /// Groups destinations by interval and timeout; `flood` makes every interval zero.
    pub fn new(destinations: &[Destination], start_ns: u64, flood: bool) -> Self {
        let mut cycles: Vec<Cycle> = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        let mut places = Vec::with_capacity(destinations.len());
        for (index, destination) in destinations.iter().enumerate() {
            let interval_ns = if flood { 0 } else { destination.interval_ns };
            let timeout_ns = destination.timeout_ns;
            let number = *numbers.entry((interval_ns, timeout_ns)).or_insert_with(|| {
                cycles.push(Cycle {
                    flows: Vec::new(),
                    start_ns,
                    interval_ns,
                    timeout_ns,
                });
                cycles.len() - 1
            });
            let cycle: &mut Cycle = &mut cycles[number];
            places.push((number as u32, cycle.flows.len() as u32));
            cycle.flows.push(FlowIndex(index as u32));
        }
        Self { cycles, places }
    }

    /// Sets when the first turn of every cycle is due, before any of them was taken.
    pub fn start_at(&mut self, start_ns: u64) {
        for cycle in &mut self.cycles {
            cycle.start_ns = start_ns;
        }
    }

    /// The cycles.
    pub fn cycles(&self) -> &[Cycle] {
        &self.cycles
    }

    /// The cycle of a flow.
    pub fn cycle_of(&self, flow: FlowIndex) -> &Cycle {
        &self.cycles[self.places[flow.0 as usize].0 as usize]
    }

    /// When a probe was due; `None` in a flood, where it is due when it is sent.
    pub fn due_ns(&self, flow: FlowIndex, sequence: u64) -> Option<u64> {
        let (_, position) = self.places[flow.0 as usize];
        let cycle = self.cycle_of(flow);
        let turn = sequence * cycle.len() + u64::from(position);
        (cycle.interval_ns > 0).then(|| cycle.due_ns(turn))
    }
}

#[cfg(test)]
mod tests;
