//! What the engine tells the stats keeper: what left, what was left out, and what ended without an
//! answer from the kernel program.

use crate::destination::FlowIndex;
use crate::flight::Standing;
use crate::schedule::{Cycle, Turn};

/// What the engine tells the stats keeper. Each probe is announced once by [`Note::Sent`]; every
/// other note but [`Note::Skipped`] ends one. Answers end the others, through the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A probe is about to leave.
    Sent {
        /// Its flow.
        flow: FlowIndex,
    },
    /// Turns that were left out because the sender was more than an interval late.
    Skipped {
        /// How many.
        turns: u64,
    },
    /// A probe ended without an answer from the kernel program.
    Ended {
        /// Its flow.
        flow: FlowIndex,
        /// Its sequence in the flow.
        sequence: u64,
        /// When it was due.
        due_ns: u64,
        /// When it was sent, or tried.
        tx_ns: u64,
        /// How it ended.
        end: End,
    },
}

/// How a probe ended without an answer from the kernel program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing came before the timeout.
    Lost,
    /// An answer came in time, but its details found the ring buffer full.
    Unreported {
        /// Round trip, nanoseconds.
        rtt_ns: u64,
        /// Whether the answer was an ICMP error.
        error: bool,
    },
    /// The link would not take it.
    Refused,
    /// There is no way to the destination: no route, or its neighbour does not answer.
    Unreachable,
}

/// Takes the engine's notes.
pub trait Sink {
    /// How many notes it can take now.
    fn room(&self) -> usize;

    /// Takes a note. Only called where there is room.
    fn push(&mut self, note: Note);

    /// How many probes have ended by an answer so far, as far as the stats keeper knows.
    fn answered(&self) -> u64;
}

/// How a probe ended that is not in flight any more, if nobody has told of it yet.
pub(super) fn unreported(standing: Standing) -> Option<(u64, End)> {
    match standing {
        Standing::Unreported {
            tx_ns,
            rtt_ns,
            is_error: error,
        } => Some((tx_ns, End::Unreported { rtt_ns, error })),
        Standing::InFlight { .. } | Standing::Settled => None,
    }
}

pub(super) fn ended_note(cycle: &Cycle, turn: Turn, tx_ns: u64, end: End) -> Note {
    let due_ns = if cycle.interval_ns == 0 {
        tx_ns
    } else {
        turn.due_ns
    };
    Note::Ended {
        flow: turn.flow,
        sequence: turn.sequence,
        due_ns,
        tx_ns,
        end,
    }
}
