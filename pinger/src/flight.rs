//! The flight table: one slot for each probe in flight, shared with the kernel program.
//!
//! A flow owns a power-of-two run of slots; probe `sequence` uses slot `sequence mod run`. Only
//! two parties write: the sender here, and the kernel program, which claims answers. This module
//! is the sender's side, over any memory: the mapped BPF array, or plain memory in simulations.

use std::sync::atomic::{AtomicU64, Ordering};

use pinger_ebpf::layout::{Slot, SlotState};
use pinger_ebpf::matching::SlotCell;

use crate::destination::FlowIndex;

/// The most slots one flow may own. The sequence on the wire has 16 bits, and half of them tell
/// an old answer from a new one.
pub const RUN_MAX: u64 = 1 << 15;

/// A [`Slot`] in memory that two parties write.
#[derive(Debug, Default)]
#[repr(C)]
pub struct AtomicSlot {
    tx_ns: AtomicU64,
    state: AtomicU64,
}

const _: () = assert!(size_of::<AtomicSlot>() == size_of::<Slot>());

impl AtomicSlot {
    /// A slot in a given state, for tests and simulations.
    pub fn preset(tx_ns: u64, state: SlotState) -> Self {
        Self {
            tx_ns: AtomicU64::new(tx_ns),
            state: AtomicU64::new(state.0),
        }
    }
}

impl SlotCell for AtomicSlot {
    fn tx_ns(&self) -> u64 {
        self.tx_ns.load(Ordering::Relaxed)
    }

    fn state(&self) -> SlotState {
        SlotState(self.state.load(Ordering::Acquire))
    }

    fn compare_exchange(&self, current: SlotState, new: SlotState) -> Result<(), SlotState> {
        self.state
            .compare_exchange(current.0, new.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(SlotState)
    }
}

/// How a probe stands when the sender looks at its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Still in flight, sent at this time.
    InFlight {
        /// CLOCK_MONOTONIC nanoseconds.
        tx_ns: u64,
    },
    /// The kernel program claimed an answer and told of it, or the slot holds another probe.
    Settled,
    /// The kernel program claimed an answer and could not tell of it.
    Unreported {
        /// When it was sent, CLOCK_MONOTONIC nanoseconds.
        tx_ns: u64,
        /// Round trip, nanoseconds.
        rtt_ns: u64,
        /// Whether the answer was an ICMP error.
        is_error: bool,
    },
}

/// Where a flow's slots lie in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first slot.
    pub base: u32,
    /// Number of slots minus one; the number is a power of two.
    pub mask: u32,
}

/// How many slots a flow needs for so many probes in flight, at most [`RUN_MAX`].
pub fn run_len(probes: u64) -> u64 {
    probes.clamp(1, RUN_MAX).next_power_of_two()
}

/// Assigns each flow its run of slots.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    slots: u32,
}

impl Runs {
    /// Gives the next flow room for `probes` in flight at once, at most [`RUN_MAX`].
    pub fn push(&mut self, probes: u64) {
        let len = run_len(probes) as u32;
        self.runs.push(Run {
            base: self.slots,
            mask: len - 1,
        });
        self.slots += len;
    }

    /// The run of a flow.
    pub fn of(&self, flow: FlowIndex) -> Run {
        self.runs[flow.0 as usize]
    }

    /// Number of slots of all flows.
    pub fn slots(&self) -> u32 {
        self.slots
    }
}

/// The sender's view of the flight table.
pub struct Flight<M> {
    memory: M,
    runs: Runs,
}

impl<M: AsRef<[AtomicSlot]>> Flight<M> {
    /// A table over `memory`.
    ///
    /// # Panics
    ///
    /// If the memory has fewer slots than the runs need.
    pub fn new(memory: M, runs: Runs) -> Self {
        assert!(
            memory.as_ref().len() >= runs.slots as usize,
            "a slot for each probe in flight"
        );
        Self { memory, runs }
    }

    fn slot(&self, flow: FlowIndex, sequence: u64) -> &AtomicSlot {
        let run = self.runs.of(flow);
        &self.memory.as_ref()[(run.base + (sequence as u32 & run.mask)) as usize]
    }

    /// Puts a probe in flight. Its slot's last probe has ended.
    ///
    /// The slot is freed first, so that the kernel program, meeting it half written, sees that it
    /// is neither the old probe nor the new one.
    pub fn send(&self, flow: FlowIndex, sequence: u64, tx_ns: u64) {
        let slot = self.slot(flow, sequence);
        slot.state.store(
            SlotState::new(SlotState::FREE, sequence).0,
            Ordering::Release,
        );
        slot.tx_ns.store(tx_ns, Ordering::Release);
        slot.state.store(
            SlotState::new(SlotState::SENT, sequence).0,
            Ordering::Release,
        );
    }

    /// How this probe stands.
    pub fn look(&self, flow: FlowIndex, sequence: u64) -> Standing {
        let slot = self.slot(flow, sequence);
        let state = slot.state();
        let tx_ns = slot.tx_ns();
        match state.tag() {
            SlotState::SENT if state.sequence() == sequence => Standing::InFlight { tx_ns },
            _ if state.is_unreported() && state.wire_sequence() == sequence as u16 => {
                Standing::Unreported {
                    tx_ns,
                    rtt_ns: state.rtt_ns(),
                    is_error: state.tag() == SlotState::UNREPORTED_ERROR,
                }
            }
            _ => Standing::Settled,
        }
    }

    /// Whether a TCP probe may have half opened a connection: unless its answer says that there is
    /// none, nobody knows.
    pub fn may_be_open(&self, flow: FlowIndex, sequence: u64) -> bool {
        let closed = SlotState::new(SlotState::ANSWERED, sequence);
        self.slot(flow, sequence).state() != closed
    }

    /// Number of slots that a flow has: the most probes it can have in flight.
    pub fn run(&self, flow: FlowIndex) -> u64 {
        u64::from(self.runs.of(flow).mask) + 1
    }

    /// Marks an unreported answer as told, so that it is told once. It may have been a SYN-ACK.
    pub fn settle(&self, flow: FlowIndex, sequence: u64) {
        let answered = SlotState::new(SlotState::ANSWERED_OPEN, sequence);
        self.slot(flow, sequence)
            .state
            .store(answered.0, Ordering::Release);
    }

    /// Gives the probe up. `Err` with how it stands if an answer was faster.
    pub fn expire(&self, flow: FlowIndex, sequence: u64) -> Result<(), Standing> {
        let sent = SlotState::new(SlotState::SENT, sequence);
        let expired = SlotState::new(SlotState::EXPIRED, sequence);
        self.slot(flow, sequence)
            .compare_exchange(sent, expired)
            .map_err(|_| self.look(flow, sequence))
    }
}

#[cfg(test)]
mod tests;
