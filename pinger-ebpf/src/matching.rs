//! Which probe an answer answers.
//!
//! In: a parsed [`Answer`], the flow it names and the slot its sequence points to. Out: a
//! [`Match`]. The only thing changed is the slot's state word, by one compare-exchange, so of any
//! number of answers to a probe, and its expiry, exactly one wins. The kernel program and the
//! simulator both call this.
//!
//! An answer is believed in three steps. Address, protocol, ports or identifier name a flow. What
//! [`identity`](crate::identity) puts into a probe names the sequence, or its low bits: the newest
//! such probe not after the slot's is meant. And all else that came back of what only we know must
//! be that probe's own.

use crate::cookie::cookie;
use crate::identity::{Prefix, tcp_number, tcp_sequence, udp_sequence};
use crate::layout::{
    AnswerKind, Event, EventKind, Flow, PAYLOAD_MATCHES, PROTOCOL_TCP, PROTOCOL_UDP, Settings,
    SlotState,
};
use crate::parse::{Answer, Cursor};

/// A slot of the flight table as the matching side sees it.
pub trait SlotCell {
    /// [`Slot::tx_ns`](crate::layout::Slot::tx_ns), read once.
    fn tx_ns(&self) -> u64;
    /// [`Slot::state`](crate::layout::Slot::state), read once.
    fn state(&self) -> SlotState;
    /// Puts `new` in place of `current`; `Err` with what was there if that was not `current`.
    fn compare_exchange(&self, current: SlotState, new: SlotState) -> Result<(), SlotState>;
}

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// No probe of ours: something that only we know is wrong. It must pass.
    Forged,
    /// Ours, and this is to be told to user space, once the payload is compared.
    Told(Event),
    /// Ours, but there was no room to tell; a first answer is kept in its slot.
    Untold,
}

/// What the matching needs besides the packet.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The flow that the answer names.
    pub flow: &'a Flow,
    /// The program's settings.
    pub settings: &'a Settings,
    /// When the packet came, CLOCK_MONOTONIC nanoseconds.
    pub now_ns: u64,
    /// Whether there is room for an [`Event`].
    pub room: bool,
}

/// The low bits of a sequence, as an answer tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireSequence {
    value: u16,
    /// Which bits of `value` are known.
    mask: u16,
}

impl WireSequence {
    /// The slot of `flow` that this points to.
    #[inline(always)]
    pub fn slot_index(self, flow: &Flow) -> u32 {
        flow.slot_base
            .wrapping_add(u32::from(self.value) & flow.slot_mask)
    }

    /// The whole sequence of the probe that is meant: the newest not after the slot's whose low
    /// bits are these. `None` if the slot never held one. Of an unreported answer's slot only 16
    /// bits are known, so it must be the very one.
    #[inline(always)]
    fn whole(self, state: SlotState) -> Option<u64> {
        let behind = u64::from(state.wire_sequence().wrapping_sub(self.value) & self.mask);
        if state.is_unreported() {
            return (behind == 0).then_some(state.sequence());
        }
        if state.0 == SlotState::FREE || behind > state.sequence() {
            return None;
        }
        Some(state.sequence() - behind)
    }
}

impl Answer {
    /// What the answer tells of the sequence of the probe; `None` if no probe of the flow can have
    /// caused it.
    ///
    /// Where a UDP probe is too short for a sequence, the flow has one slot, and what it holds is
    /// meant.
    #[inline(always)]
    pub fn sequence<C: Cursor + ?Sized>(&self, packet: &C, flow: &Flow) -> Option<WireSequence> {
        let (value, mask) = match (self.key.protocol, self.kind) {
            (PROTOCOL_UDP, _) if prefix(flow, PROTOCOL_UDP).sequence_at.is_none() => (0, 0),
            (PROTOCOL_UDP, AnswerKind::IcmpError) => {
                (udp_sequence(flow.check, self.checksum)?, 0x7fff)
            }
            (PROTOCOL_UDP, _) => {
                let bytes = self.payload(packet, prefix(flow, PROTOCOL_UDP).sequence_at?)?;
                (u16::from_be_bytes(bytes), u16::MAX)
            }
            (PROTOCOL_TCP, _) => (tcp_sequence(flow.check, self.number?), u16::MAX),
            _ => (self.number? as u16, u16::MAX),
        };
        Some(WireSequence { value, mask })
    }

    /// Matches this answer against the slot its sequence points to, and claims it where it is the
    /// first.
    #[inline(always)]
    pub fn claim<C, S>(
        &self,
        packet: &C,
        sequence: WireSequence,
        slot: &S,
        context: Context<'_>,
    ) -> Match
    where
        C: Cursor + ?Sized,
        S: SlotCell,
    {
        let state = slot.state();
        let Some(sequence) = sequence.whole(state) else {
            return Match::Forged;
        };
        if !self.is_proven(packet, sequence, &context) {
            return Match::Forged;
        }
        let (kind, tx_ns) = if sequence == state.sequence() {
            self.settle(slot, state, &context)
        } else {
            (Some(EventKind::Stale), 0)
        };
        match kind {
            Some(kind) if context.room => Match::Told(self.event(kind, sequence, tx_ns, &context)),
            _ => Match::Untold,
        }
    }

    /// Whether what came back of the probe's checks is that probe's own. What came back of a
    /// payload without room for a cookie is taken on all else alone.
    #[inline(always)]
    fn is_proven<C>(&self, packet: &C, sequence: u64, context: &Context<'_>) -> bool
    where
        C: Cursor + ?Sized,
    {
        let flow = context.flow;
        let prefix = prefix(flow, self.key.protocol);
        let is_tcp = self.key.protocol == PROTOCOL_TCP;
        let is_error = matches!(self.kind, AnswerKind::IcmpError);
        // A UDP checksum was looked at when it gave the sequence.
        let is_balanced = prefix.balance_at.is_some() && self.key.protocol != PROTOCOL_UDP;
        if is_error && is_balanced && self.checksum != flow.check {
            return false;
        }
        if prefix.cookie_len == 0 && !is_tcp {
            return true;
        }
        let cookie = cookie(context.settings.secret, flow.index, sequence);
        if is_tcp {
            return self.number == Some(tcp_number(flow.check, cookie, sequence));
        }
        match self.cookie(packet, prefix) {
            // Routers fill up what they quote with zeros, RFC 4884 section 5.
            None | Some(0) if is_error => true,
            Some(found) if prefix.cookie_len == 4 => found == u64::from(cookie as u32),
            found => found == Some(cookie),
        }
    }

    /// The cookie that came back, as far as probes of the flow have one; `None` if not all of that
    /// did.
    #[inline(always)]
    fn cookie<C: Cursor + ?Sized>(&self, packet: &C, prefix: Prefix) -> Option<u64> {
        if prefix.cookie_len == 4 {
            let bytes = self.payload(packet, prefix.cookie_at)?;
            Some(u64::from(u32::from_le_bytes(bytes)))
        } else {
            self.payload(packet, prefix.cookie_at)
                .map(u64::from_le_bytes)
        }
    }

    /// The `N` bytes at an offset of the payload, if they came back.
    #[inline(always)]
    fn payload<C, const N: usize>(&self, packet: &C, at: usize) -> Option<[u8; N]>
    where
        C: Cursor + ?Sized,
    {
        if self.payload_len < at + N {
            return None;
        }
        packet.read(self.payload_at + at)
    }

    #[inline(always)]
    fn event(&self, kind: EventKind, sequence: u64, tx_ns: u64, context: &Context<'_>) -> Event {
        Event {
            rx_ns: context.now_ns,
            tx_ns,
            sequence,
            responder: self.responder,
            flow: context.flow.index,
            identifier: self.key.identifier,
            mismatch_at: PAYLOAD_MATCHES,
            kind: kind as u8,
            answer: self.kind as u8,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            reserved: [0; 2],
        }
    }

    /// What an answer to the very probe in `slot` is, and when that probe was sent; no kind if it
    /// was claimed earlier without being told. Claims the slot if the probe is in flight.
    #[inline(always)]
    fn settle<S: SlotCell>(
        &self,
        slot: &S,
        state: SlotState,
        context: &Context<'_>,
    ) -> (Option<EventKind>, u64) {
        let tx_ns = slot.tx_ns();
        let found = if state.tag() == SlotState::SENT {
            match slot.compare_exchange(state, self.claimed(state.sequence(), tx_ns, context)) {
                Ok(()) => return (Some(EventKind::Reply), tx_ns),
                Err(winner) => winner,
            }
        } else {
            slot.state()
        };
        // The sender may have reused the slot since its state was read first, so that `tx_ns` and
        // the new state are another probe's. An unreported state keeps no more than 16 bits.
        let is_other = if found.is_unreported() {
            found.wire_sequence() != state.wire_sequence()
        } else {
            found.sequence() != state.sequence()
        };
        if is_other {
            return (Some(EventKind::Stale), 0);
        }
        match found.tag() {
            SlotState::ANSWERED | SlotState::ANSWERED_OPEN => (Some(EventKind::Duplicate), tx_ns),
            SlotState::EXPIRED => (Some(EventKind::Late), tx_ns),
            SlotState::UNREPORTED | SlotState::UNREPORTED_ERROR => (None, tx_ns),
            _ => (Some(EventKind::Stale), 0),
        }
    }

    /// What becomes of the slot of a probe in flight that this answers.
    #[inline(always)]
    fn claimed(&self, sequence: u64, tx_ns: u64, context: &Context<'_>) -> SlotState {
        let rtt_ns = context.now_ns.saturating_sub(tx_ns);
        if context.room {
            let tag = match self.kind {
                AnswerKind::SynAck => SlotState::ANSWERED_OPEN,
                _ => SlotState::ANSWERED,
            };
            SlotState::new(tag, sequence)
        } else if matches!(self.kind, AnswerKind::IcmpError) {
            SlotState::unreported_error(sequence, rtt_ns)
        } else {
            SlotState::unreported(sequence, rtt_ns)
        }
    }
}

/// What probes of the flow have in their payloads.
#[inline(always)]
fn prefix(flow: &Flow, protocol: u8) -> Prefix {
    Prefix::of(protocol, usize::from(flow.payload_len))
}

#[cfg(test)]
mod tests;
