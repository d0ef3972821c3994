//! When to probe: flows of one interval form a cycle, spread evenly over it.
//!
//! The next due flow is the next in the ring: no heap and no timer for each destination. A cycle
//! is read twice: once where probes are due, and once, a timeout later, where they end. Pure.
//!
//! Traces go in passes: the probes of a pass leave within a moment, one round for each hop limit,
//! and the interval is that from pass to pass. A round is for a trace what the interval is for
//! the others, so any cycle is passes of so many rounds, mostly of one.

use crate::destination::{Destination, FlowIndex};

/// How long the probes of a trace's pass are spread over: with the round trip behind it a pass
/// still feels like one, and no router gets a destination's probes in one burst.
pub const PASS_SPREAD_NS: u64 = 50_000_000;

/// The least time between two probes of traces, of all destinations together: 100,000 a second,
/// which the sender keeps up with one by one.
const TRACE_GAP_NS: u64 = 10_000;

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
    /// Time from one pass to the next; but for traces a pass is one turn of each flow. Zero
    /// means: as fast as answers come back.
    pub interval_ns: u64,
    /// Turns of each flow in a pass: the hops of a trace, else one.
    rounds: u64,
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

    /// Turns of the whole cycle in a pass.
    fn pass_len(&self) -> u64 {
        self.rounds * self.len()
    }

    /// Time from one turn of a flow to its next within a pass.
    fn round_ns(&self) -> u64 {
        if self.rounds == 1 {
            return self.interval_ns;
        }
        (PASS_SPREAD_NS / self.rounds).max(self.len() * TRACE_GAP_NS)
    }

    /// Time from one pass to the next: the interval, unless a pass takes longer.
    fn pass_ns(&self) -> u64 {
        if self.interval_ns == 0 {
            return 0;
        }
        self.interval_ns.max(self.rounds * self.round_ns())
    }

    /// When turn number `turn` of the whole cycle is due. Computed from the start, so rounding
    /// never adds up.
    pub fn due_ns(&self, turn: u64) -> u64 {
        if self.interval_ns == 0 {
            return self.start_ns;
        }
        let (pass, turn) = (turn / self.pass_len(), turn % self.pass_len());
        let offset = u128::from(turn) * u128::from(self.round_ns()) / u128::from(self.len());
        self.start_ns + pass * self.pass_ns() + offset as u64
    }

    /// How many turns of the whole cycle are due before a time; in a flood, no number is known.
    pub fn turns_before(&self, until_ns: u64) -> u64 {
        if self.interval_ns == 0 {
            return u64::MAX;
        }
        let span_ns = until_ns.saturating_sub(self.start_ns);
        let (passes, rest_ns) = (span_ns / self.pass_ns(), span_ns % self.pass_ns());
        let begun = (u128::from(rest_ns) * u128::from(self.len()))
            .div_ceil(u128::from(self.round_ns()))
            .min(u128::from(self.pass_len()));
        let turns = u128::from(passes) * u128::from(self.pass_len()) + begun;
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
    /// sent, and those of a sender that is up to an interval late.
    pub fn in_flight_max(&self) -> u64 {
        if self.interval_ns == 0 {
            return 2;
        }
        // As many as passes have in a timeout, but no more than a row of rounds without a pause.
        let by_pass = (self.timeout_ns / self.pass_ns() + 1).saturating_mul(self.rounds);
        let by_round = self.timeout_ns / self.round_ns() + 1;
        by_pass.saturating_add(self.rounds).min(by_round + 1)
    }

    /// How many rounds to leave out when `turn` should be due at `now_ns` but is late by more
    /// than an interval: whole passes. Catching up would send bursts that nobody asked for.
    pub fn rounds_behind(&self, turn: u64, now_ns: u64) -> u64 {
        if self.interval_ns == 0 {
            return 0;
        }
        now_ns.saturating_sub(self.due_ns(turn)) / self.pass_ns() * self.rounds
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
    /// Groups destinations by interval, timeout and hops; `flood` makes every interval zero.
    pub fn new(destinations: &[Destination], start_ns: u64, flood: bool) -> Self {
        let mut cycles: Vec<Cycle> = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        let mut places = Vec::with_capacity(destinations.len());
        for (index, destination) in destinations.iter().enumerate() {
            let interval_ns = if flood { 0 } else { destination.interval_ns };
            let timeout_ns = destination.timeout_ns;
            let rounds = u64::from(destination.ttl.hops().max(1));
            let key = (interval_ns, timeout_ns, rounds);
            let number = *numbers.entry(key).or_insert_with(|| {
                cycles.push(Cycle {
                    flows: Vec::new(),
                    start_ns,
                    interval_ns,
                    rounds,
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
