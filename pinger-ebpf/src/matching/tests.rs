//! The matching: which event comes of which slot state, against a table and against a naive
//! oracle; and the races that a second writer can cause, played back step by step.

mod kinds;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::identity::udp_checksum;
use crate::layout::{COOKIE_LEN, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMP6};
use crate::parse::ICMP_ECHO_REPLY;

const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 42];
const TX_NS: u64 = 1_000_000;
const NOW_NS: u64 = 1_250_000;
const SIZE: u16 = 32;

/// A slot that only the test and one claim touch; `script` holds states that another party
/// stores just before the next reads of the state, compare-exchange included.
struct TestSlot {
    tx_ns: u64,
    state: Cell<SlotState>,
    script: RefCell<VecDeque<SlotState>>,
}

impl TestSlot {
    fn new(state: SlotState) -> Self {
        Self {
            tx_ns: TX_NS,
            state: Cell::new(state),
            script: RefCell::default(),
        }
    }

    /// `first` is seen by the first read, `then` by all that follow.
    fn changing(first: SlotState, then: SlotState) -> Self {
        let slot = Self::new(first);
        slot.script.borrow_mut().extend([first, then]);
        slot
    }

    fn advance(&self) {
        if let Some(state) = self.script.borrow_mut().pop_front() {
            self.state.set(state);
        }
    }
}

impl SlotCell for TestSlot {
    fn tx_ns(&self) -> u64 {
        self.tx_ns
    }

    fn state(&self) -> SlotState {
        self.advance();
        self.state.get()
    }

    fn compare_exchange(&self, current: SlotState, new: SlotState) -> Result<(), SlotState> {
        self.advance();
        let found = self.state.get();
        if found != current {
            return Err(found);
        }
        self.state.set(new);
        Ok(())
    }
}

fn reply_to(sequence: u64, payload_len: usize) -> Answer {
    Answer {
        kind: AnswerKind::Echo,
        key: FlowKey {
            address: [9; 16],
            identifier: 77,
            port: 0,
            protocol: PROTOCOL_ICMP,
            reserved: 0,
        },
        responder: [9; 16],
        icmp_type: ICMP_ECHO_REPLY,
        icmp_code: 0,
        number: Some(u32::from(sequence as u16)),
        checksum: 0,
        hop_limit: 61,
        traffic_class: 4,
        payload_at: 3,
        payload_len,
    }
}

/// A packet whose payload begins at the third byte: the cookie of `sequence`, then
/// anything.
fn packet_of(sequence: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; 3];
    bytes.resize(3 + size, 0x55);
    if size >= COOKIE_LEN {
        bytes[3..11].copy_from_slice(&cookie(SECRET, 5, sequence).to_le_bytes());
    }
    bytes
}

const CHECK: u16 = 0x5a17;

fn flow(size: u16) -> Flow {
    Flow {
        index: 5,
        slot_base: 0,
        slot_mask: 63,
        payload_len: size,
        payload: 0,
        check: CHECK,
        reserved: 0,
    }
}

/// Matches an answer of a flow with `size` payload bytes against a slot.
fn claim_answer(slot: &TestSlot, answer: &Answer, packet: &[u8], flow: &Flow, room: bool) -> Match {
    let settings = Settings {
        secret: SECRET,
        verify: 1,
        log: 0,
    };
    let context = Context {
        flow,
        settings: &settings,
        now_ns: NOW_NS,
        room,
    };
    let Some(sequence) = answer.sequence(packet, flow) else {
        return Match::Forged;
    };
    answer.claim(packet, sequence, slot, context)
}

/// Matches an echo reply to `sequence`.
fn claim(slot: &TestSlot, sequence: u64, packet: &[u8], size: u16, room: bool) -> Match {
    let reply = reply_to(sequence, packet.len() - 3);
    claim_answer(slot, &reply, packet, &flow(size), room)
}

fn claim_whole(slot: &TestSlot, sequence: u64) -> Match {
    claim(
        slot,
        sequence,
        &packet_of(sequence, SIZE.into()),
        SIZE,
        true,
    )
}

/// The kind of event, the sequence and the send time that a match tells.
fn told(matched: Match) -> Option<(EventKind, u64, u64)> {
    let Match::Told(event) = matched else {
        return None;
    };
    let kind = EventKind::from_u8(event.kind).expect("a known kind");
    Some((kind, event.sequence, event.tx_ns))
}

const TAGS: [u64; 4] = [
    SlotState::FREE,
    SlotState::SENT,
    SlotState::ANSWERED,
    SlotState::EXPIRED,
];

/// What the table in `layout` promises for a slot that holds the very probe.
fn kind_of(tag: u64) -> EventKind {
    match tag {
        SlotState::SENT => EventKind::Reply,
        SlotState::ANSWERED => EventKind::Duplicate,
        SlotState::EXPIRED => EventKind::Late,
        _ => EventKind::Stale,
    }
}

proptest! {
    #[test]
    fn the_slot_says_what_an_answer_is(
        tag in 0..4_usize,
        sequence in 1..1_u64 << 56,
        behind in prop_oneof![Just(0_u64), 1..1000_u64],
    ) {
        let tag = TAGS[tag];
        let answered = sequence.saturating_sub(behind * 64);
        let held = SlotState::new(tag, sequence);
        let slot = TestSlot::new(held);
        let (kind, tx_ns) = if answered == sequence {
            let kind = kind_of(tag);
            (kind, if kind == EventKind::Stale { 0 } else { TX_NS })
        } else {
            (EventKind::Stale, 0)
        };
        prop_assert_eq!(told(claim_whole(&slot, answered)), Some((kind, answered, tx_ns)));
        let after = if kind == EventKind::Reply {
            SlotState::new(SlotState::ANSWERED, sequence)
        } else {
            held
        };
        prop_assert_eq!(slot.state.get(), after);
    }

    #[test]
    fn without_room_nothing_is_told_and_the_answer_stays(
        tag in 0..4_usize,
        sequence in 1..1_u64 << 56,
    ) {
        let held = SlotState::new(TAGS[tag], sequence);
        let slot = TestSlot::new(held);
        let packet = packet_of(sequence, SIZE.into());
        prop_assert_eq!(claim(&slot, sequence, &packet, SIZE, false), Match::Untold);
        let after = if TAGS[tag] == SlotState::SENT {
            SlotState::unreported(sequence, NOW_NS - TX_NS)
        } else {
            held
        };
        prop_assert_eq!(slot.state.get(), after);
    }

    #[test]
    fn a_wrong_cookie_is_never_ours(
        tag in 0..4_usize,
        sequence in 1..1_u64 << 56,
        bit in 0..64_usize,
    ) {
        let held = SlotState::new(TAGS[tag], sequence);
        let slot = TestSlot::new(held);
        let mut packet = packet_of(sequence, SIZE.into());
        packet[3 + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(claim(&slot, sequence, &packet, SIZE, true), Match::Forged);
        prop_assert_eq!(slot.state.get(), held);
    }

    #[test]
    fn a_sequence_not_sent_yet_is_never_ours(sequence in 0..1_u64 << 55, ahead in 1..32_768_u64) {
        let slot = TestSlot::new(SlotState::new(SlotState::SENT, sequence));
        prop_assert_eq!(claim_whole(&slot, sequence + ahead), Match::Forged);
    }
}

#[test]
fn a_slot_never_used_answers_nothing() {
    let slot = TestSlot::new(SlotState(0));
    assert_eq!(claim_whole(&slot, 0), Match::Forged);
    let bare = claim(&slot, 0, &packet_of(0, 4), 4, true);
    assert_eq!(bare, Match::Forged, "not without a cookie either");
}

#[test]
fn an_unreported_answer_is_untold_once_more() {
    let slot = TestSlot::new(SlotState::unreported(9, 1));
    assert_eq!(claim_whole(&slot, 9), Match::Untold);
    assert_eq!(slot.state.get(), SlotState::unreported(9, 1));
}

#[test]
fn an_answer_with_too_few_bytes_for_the_cookie_is_forged() {
    let slot = TestSlot::new(SlotState::new(SlotState::SENT, 9));
    let packet = packet_of(9, SIZE.into());
    assert_eq!(claim(&slot, 9, &packet[..3 + 7], SIZE, true), Match::Forged);
}

#[test]
fn what_is_told_is_what_the_packet_said() {
    let slot = TestSlot::new(SlotState::new(SlotState::SENT, 0x2_0009));
    let event = Event {
        rx_ns: NOW_NS,
        tx_ns: TX_NS,
        sequence: 0x2_0009,
        responder: [9; 16],
        flow: 5,
        identifier: 77,
        mismatch_at: PAYLOAD_MATCHES,
        kind: EventKind::Reply as u8,
        answer: AnswerKind::Echo as u8,
        icmp_type: ICMP_ECHO_REPLY,
        icmp_code: 0,
        hop_limit: 61,
        traffic_class: 4,
        reserved: [0; 2],
    };
    assert_eq!(claim_whole(&slot, 0x2_0009), Match::Told(event));
}

const FREE: u64 = SlotState::FREE;
const SENT: u64 = SlotState::SENT;
const ANSWERED: u64 = SlotState::ANSWERED;
const EXPIRED: u64 = SlotState::EXPIRED;

/// Races: what the slot holds when it is read first, what another party makes of it before the
/// next look, and what the answer to probe 100 must come to.
#[test]
fn races_with_the_sender_end_in_one_way() {
    let state = SlotState::new;
    let of_100 = |kind| Some((kind, 100, TX_NS));
    let (late, duplicate) = (of_100(EventKind::Late), of_100(EventKind::Duplicate));
    let stale = Some((EventKind::Stale, 100, 0));
    let cases = [
        // The sender gives up first, or another CPU claims first.
        (state(SENT, 100), state(EXPIRED, 100), late),
        (state(SENT, 100), state(ANSWERED, 100), duplicate),
        (state(SENT, 100), SlotState::unreported(100, 7), None),
        // The sender reuses the slot: the send time may be the new probe's.
        (state(SENT, 100), state(FREE, 164), stale),
        (state(SENT, 100), state(SENT, 164), stale),
        (state(ANSWERED, 100), state(FREE, 164), stale),
        (state(EXPIRED, 100), state(SENT, 164), stale),
        // The same, and the new probe has ended as well by now.
        (state(SENT, 100), state(ANSWERED, 164), stale),
        (state(SENT, 100), state(EXPIRED, 164), stale),
        (state(SENT, 100), SlotState::unreported(164, 7), stale),
        // The same, so much later that the sequence on the wire has come round.
        (state(SENT, 100), state(ANSWERED, 0x1_0064), stale),
        (state(ANSWERED, 100), state(EXPIRED, 0x1_0064), stale),
        // The sender settles an unreported answer.
        (
            SlotState::unreported(100, 7),
            state(ANSWERED, 100),
            duplicate,
        ),
    ];
    for (first, then, expected) in cases {
        let slot = TestSlot::changing(first, then);
        let found = told(claim_whole(&slot, 100));
        assert_eq!(found, expected, "{first:?}, then {then:?}");
        assert_eq!(slot.state.get(), then, "the loser changes nothing");
    }
}
