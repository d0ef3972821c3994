//! Which probe an echo reply answers.
//!
//! In: a parsed [`EchoReply`], the flow it names and the slot its sequence points to. Out: a
//! [`Match`]. The only thing changed is the slot's state word, by one compare-exchange, so of any
//! number of answers to a probe, and its expiry, exactly one wins. The kernel program and the
//! simulator both call this.

use crate::cookie::cookie;
use crate::layout::{
    AnswerKind, COOKIE_LEN, Event, EventKind, Flow, FlowKey, PAYLOAD_MATCHES, Settings, SlotState,
};
use crate::parse::{Cursor, EchoReply};

/// A slot of the flight table as the matching side sees it.
pub trait SlotCell {
    /// [`Slot::tx_ns`](crate::layout::Slot::tx_ns), read once.
    fn tx_ns(&self) -> u64;
    /// [`Slot::state`](crate::layout::Slot::state), read once.
    fn state(&self) -> SlotState;
    /// Puts `new` in place of `current`; `Err` with what was there if that was not `current`.
    fn compare_exchange(&self, current: SlotState, new: SlotState) -> Result<(), SlotState>;
}

/// What an echo reply turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// No probe of ours: sequence or cookie is wrong. It must pass.
    Forged,
    /// Ours, and this is to be told to user space, once the payload is compared.
    Told(Event),
    /// Ours, but there was no room to tell; a first answer is kept in its slot.
    Untold,
}

/// What the matching needs besides the packet.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The flow that the reply's address and identifier name.
    pub flow: &'a Flow,
    /// The program's settings.
    pub settings: &'a Settings,
    /// When the packet came, CLOCK_MONOTONIC nanoseconds.
    pub now_ns: u64,
    /// Whether there is room for an [`Event`].
    pub room: bool,
}

impl EchoReply {
    /// The key of the flow that this may be an answer to.
    #[inline(always)]
    pub fn flow_key(&self) -> FlowKey {
        FlowKey {
            address: self.source,
            identifier: self.identifier,
            port: 0,
            protocol: self.protocol,
            reserved: 0,
        }
    }

    /// The slot of `flow` that this points to.
    #[inline(always)]
    pub fn slot_index(&self, flow: &Flow) -> u32 {
        flow.slot_base
            .wrapping_add(u32::from(self.sequence) & flow.slot_mask)
    }

    /// Matches this reply against the slot it points to, and claims it where it is the first.
    #[inline(always)]
    pub fn claim<C, S>(&self, packet: &C, slot: &S, context: Context<'_>) -> Match
    where
        C: Cursor + ?Sized,
        S: SlotCell,
    {
        let state = slot.state();
        let Some(sequence) = self.whole_sequence(state) else {
            return Match::Forged;
        };
        if !self.has_cookie(packet, sequence, &context) {
            return Match::Forged;
        }
        let (kind, tx_ns) = if sequence == state.sequence() {
            settle(slot, state, &context)
        } else {
            (Some(EventKind::Stale), 0)
        };
        match kind {
            Some(kind) if context.room => Match::Told(self.event(kind, sequence, tx_ns, &context)),
            _ => Match::Untold,
        }
    }

    /// The whole sequence of the probe that this answers: the newest not after the slot's whose
    /// low 16 bits are those on the wire. `None` if the slot never held one.
    #[inline(always)]
    fn whole_sequence(&self, state: SlotState) -> Option<u64> {
        if state.tag() == SlotState::UNREPORTED {
            return (state.wire_sequence() == self.sequence).then_some(state.sequence());
        }
        let behind = u64::from(state.wire_sequence().wrapping_sub(self.sequence));
        if state.0 == SlotState::FREE || behind > state.sequence() {
            return None;
        }
        Some(state.sequence() - behind)
    }

    /// Whether the payload begins with the cookie of that probe. Payloads too short for a cookie
    /// are taken on their address, identifier and sequence alone.
    #[inline(always)]
    fn has_cookie<C>(&self, packet: &C, sequence: u64, context: &Context<'_>) -> bool
    where
        C: Cursor + ?Sized,
    {
        if usize::from(context.flow.payload_len) < COOKIE_LEN {
            return true;
        }
        if self.payload_len < COOKIE_LEN {
            return false;
        }
        let Some(bytes) = packet.read(self.payload_at) else {
            return false;
        };
        u64::from_le_bytes(bytes) == cookie(context.settings.secret, context.flow.index, sequence)
    }

    #[inline(always)]
    fn event(&self, kind: EventKind, sequence: u64, tx_ns: u64, context: &Context<'_>) -> Event {
        Event {
            rx_ns: context.now_ns,
            tx_ns,
            sequence,
            responder: self.source,
            flow: context.flow.index,
            identifier: self.identifier,
            mismatch_at: PAYLOAD_MATCHES,
            kind: kind as u8,
            answer: AnswerKind::Echo as u8,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            reserved: [0; 2],
        }
    }
}

/// What an answer to the very probe in `slot` is, and when that probe was sent; no kind if it was
/// claimed earlier without being told. Claims the slot if the probe is in flight.
#[inline(always)]
fn settle<S: SlotCell>(
    slot: &S,
    state: SlotState,
    context: &Context<'_>,
) -> (Option<EventKind>, u64) {
    let tx_ns = slot.tx_ns();
    let found = if state.tag() == SlotState::SENT {
        let claimed = if context.room {
            SlotState::new(SlotState::ANSWERED, state.sequence())
        } else {
            SlotState::unreported(state.sequence(), context.now_ns.saturating_sub(tx_ns))
        };
        match slot.compare_exchange(state, claimed) {
            Ok(()) => return (Some(EventKind::Reply), tx_ns),
            Err(winner) => winner,
        }
    } else {
        slot.state()
    };
    // The sender may have reused the slot since its state was read first, so that `tx_ns` and
    // the new state are another probe's. An unreported state keeps no more than 16 bits.
    let is_other = if found.tag() == SlotState::UNREPORTED {
        found.wire_sequence() != state.wire_sequence()
    } else {
        found.sequence() != state.sequence()
    };
    if is_other {
        return (Some(EventKind::Stale), 0);
    }
    match found.tag() {
        SlotState::ANSWERED => (Some(EventKind::Duplicate), tx_ns),
        SlotState::EXPIRED => (Some(EventKind::Late), tx_ns),
        SlotState::UNREPORTED => (None, tx_ns),
        _ => (Some(EventKind::Stale), 0),
    }
}

#[cfg(test)]
mod tests;
