//! Every kind of answer: genuine it finds its probe, and with a bit changed it does not.

use super::*;

/// An answer of some kind to a probe, as the parser would find it, and the packet that its payload
/// is in.
#[derive(Clone, Debug)]
struct Genuine {
    answer: Answer,
    packet: Vec<u8>,
    size: u16,
    prefix: Prefix,
}

impl Genuine {
    /// `quoted` payload bytes of the probe come back; all of them unless it is an error.
    fn new(protocol: u8, is_error: bool, size: u16, quoted: usize, sequence: u64) -> Self {
        let size = if protocol == PROTOCOL_TCP { 0 } else { size };
        let cookie = cookie(SECRET, 5, sequence);
        let prefix = Prefix::of(protocol, size.into());
        let mut payload = vec![0x55; size.into()];
        if let Some(at) = prefix.sequence_at {
            payload[at..at + 2].copy_from_slice(&(sequence as u16).to_be_bytes());
        }
        payload[prefix.cookie_at..][..prefix.cookie_len]
            .copy_from_slice(&cookie.to_le_bytes()[..prefix.cookie_len]);
        if is_error {
            payload.truncate(quoted);
        }
        let mut answer = reply_to(sequence, payload.len());
        answer.key.protocol = protocol;
        answer.checksum = CHECK;
        answer.kind = AnswerKind::Echo;
        match protocol {
            PROTOCOL_UDP => {
                answer.kind = AnswerKind::Datagram;
                answer.number = None;
                answer.checksum = udp_checksum(CHECK, sequence);
            }
            PROTOCOL_TCP => {
                answer.kind = AnswerKind::SynAck;
                answer.number = Some(tcp_number(CHECK, cookie, sequence));
            }
            _ => {}
        }
        if is_error {
            answer.kind = AnswerKind::IcmpError;
            answer.responder = [7; 16];
        } else {
            answer.checksum = 0;
        }
        Self {
            answer,
            packet: [&[0xee; 3][..], &payload].concat(),
            size,
            prefix,
        }
    }

    fn claim(&self, slot: &TestSlot, room: bool) -> Match {
        let mut flow = flow(self.size);
        if self.answer.key.protocol == PROTOCOL_UDP && self.prefix.sequence_at.is_none() {
            flow.slot_mask = 0;
        }
        claim_answer(slot, &self.answer, &self.packet, &flow, room)
    }

    fn is_error(&self) -> bool {
        self.answer.kind == AnswerKind::IcmpError
    }

    /// Whether a whole cookie came back, or what TCP has of it.
    fn has_cookie(&self) -> bool {
        let end = self.prefix.cookie_at + self.prefix.cookie_len;
        let came_back = self.prefix.cookie_len > 0 && self.answer.payload_len >= end;
        came_back || self.answer.key.protocol == PROTOCOL_TCP
    }
}

fn genuine() -> impl Strategy<Value = (Genuine, u64)> {
    let protocols = vec![PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP];
    let protocol = prop::sample::select(protocols);
    let sequence = 1..1_u64 << 56;
    (protocol, any::<bool>(), 0..40_u16, 0..40_usize, sequence).prop_map(
        |(protocol, is_error, size, quoted, sequence)| {
            let genuine = Genuine::new(protocol, is_error, size, quoted, sequence);
            (genuine, sequence)
        },
    )
}

/// A match that neither says that the probe was answered nor takes its slot.
fn check_refused(matched: Match, slot: &TestSlot, held: SlotState) -> Result<(), TestCaseError> {
    if let Some((kind, ..)) = told(matched) {
        prop_assert_eq!(kind, EventKind::Stale);
    }
    prop_assert_eq!(slot.state.get(), held);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_kind_of_answer_finds_its_probe((genuine, sequence) in genuine()) {
        let slot = TestSlot::new(SlotState::new(SlotState::SENT, sequence));
        let Match::Told(event) = genuine.claim(&slot, true) else {
            return Err(TestCaseError::fail(format!("not told: {genuine:?}")));
        };
        prop_assert_eq!((event.kind, event.sequence), (EventKind::Reply as u8, sequence));
        prop_assert_eq!(event.answer, genuine.answer.kind as u8);
        prop_assert_eq!((event.responder, event.tx_ns), (genuine.answer.responder, TX_NS));
        let tag = match genuine.answer.kind {
            AnswerKind::SynAck => SlotState::ANSWERED_OPEN,
            _ => SlotState::ANSWERED,
        };
        prop_assert_eq!(slot.state.get(), SlotState::new(tag, sequence));
        let again = told(genuine.claim(&slot, true));
        prop_assert_eq!(again, Some((EventKind::Duplicate, sequence, TX_NS)));
    }

    #[test]
    fn without_room_the_slot_keeps_whether_it_was_an_error((genuine, sequence) in genuine()) {
        let slot = TestSlot::new(SlotState::new(SlotState::SENT, sequence));
        prop_assert_eq!(genuine.claim(&slot, false), Match::Untold);
        let rtt_ns = NOW_NS - TX_NS;
        let expected = if genuine.is_error() {
            SlotState::unreported_error(sequence, rtt_ns)
        } else {
            SlotState::unreported(sequence, rtt_ns)
        };
        prop_assert_eq!(slot.state.get(), expected);
    }

    #[test]
    fn what_is_older_than_the_slot_proves_itself_as_stale(
        (genuine, sequence) in genuine(), behind in 1..500_u64,
    ) {
        if genuine.answer.key.protocol == PROTOCOL_UDP && genuine.size < 4 {
            return Ok(()); // one slot, and no sequence
        }
        let held = SlotState::new(SlotState::SENT, sequence + behind * 64);
        let slot = TestSlot::new(held);
        let stale = Some((EventKind::Stale, sequence, 0));
        prop_assert_eq!(told(genuine.claim(&slot, true)), stale);
        prop_assert_eq!(slot.state.get(), held);
    }

    #[test]
    fn a_bit_changed_in_the_number_is_never_an_answer(
        (mut genuine, sequence) in genuine(), bit in 0..32_u32,
    ) {
        let is_tcp = genuine.answer.key.protocol == PROTOCOL_TCP;
        let Some(number) = genuine.answer.number else { return Ok(()) };
        let bit = if is_tcp { bit } else { bit % 16 };
        genuine.answer.number = Some(number ^ 1 << bit);
        let held = SlotState::new(SlotState::SENT, sequence);
        let slot = TestSlot::new(held);
        let matched = genuine.claim(&slot, true);
        check_refused(matched, &slot, held)?;
        // Of TCP's 16 bits of the cookie, one in 65,536 fits another probe.
        if genuine.has_cookie() && (!is_tcp || bit >= 16) {
            prop_assert_eq!(matched, Match::Forged);
        }
    }

    #[test]
    fn a_bit_changed_in_a_quoted_checksum_is_never_an_answer(
        (mut genuine, sequence) in genuine(), bit in 0..16_u32,
    ) {
        let is_udp = genuine.answer.key.protocol == PROTOCOL_UDP;
        if !genuine.is_error() || genuine.prefix.balance_at.is_none() {
            return Ok(());
        }
        genuine.answer.checksum ^= 1 << bit;
        let held = SlotState::new(SlotState::SENT, sequence);
        let slot = TestSlot::new(held);
        let matched = genuine.claim(&slot, true);
        check_refused(matched, &slot, held)?;
        if !is_udp || bit == 15 || genuine.has_cookie() {
            prop_assert_eq!(matched, Match::Forged);
        }
    }

    #[test]
    fn a_bit_changed_in_what_came_back_of_the_cookie_is_forged(
        (mut genuine, sequence) in genuine(), bit in 0..64_usize,
    ) {
        let Prefix { cookie_at, cookie_len, .. } = genuine.prefix;
        if cookie_len == 0 || !genuine.has_cookie() {
            return Ok(());
        }
        let bit = bit % (cookie_len * 8);
        genuine.packet[3 + cookie_at + bit / 8] ^= 1 << (bit % 8);
        let held = SlotState::new(SlotState::SENT, sequence);
        let slot = TestSlot::new(held);
        prop_assert_eq!(genuine.claim(&slot, true), Match::Forged);
        prop_assert_eq!(slot.state.get(), held);
    }
}

#[test]
fn a_reset_that_acknowledges_nothing_is_forged() {
    let slot = TestSlot::new(SlotState::new(SlotState::SENT, 9));
    let mut genuine = Genuine::new(PROTOCOL_TCP, false, 0, 0, 9);
    genuine.answer.kind = AnswerKind::Reset;
    genuine.answer.number = None;
    assert_eq!(genuine.claim(&slot, true), Match::Forged);
}

/// RFC 4884 fills up what is quoted with zeros.
#[test]
fn a_quoted_cookie_of_zeros_was_not_quoted() {
    for protocol in [PROTOCOL_ICMP, PROTOCOL_UDP] {
        for size in [10, 40] {
            let mut genuine = Genuine::new(protocol, true, size, size.into(), 9);
            genuine.packet[3..].fill(0);
            let slot = TestSlot::new(SlotState::new(SlotState::SENT, 9));
            let found = told(genuine.claim(&slot, true));
            assert_eq!(
                found,
                Some((EventKind::Reply, 9, TX_NS)),
                "{protocol} {size}"
            );
            // A destination itself sends back what it got.
            let mut direct = Genuine::new(protocol, false, size, 0, 9);
            let Prefix {
                cookie_at,
                cookie_len,
                ..
            } = direct.prefix;
            direct.packet[3 + cookie_at..][..cookie_len].fill(0);
            let slot = TestSlot::new(SlotState::new(SlotState::SENT, 9));
            assert_eq!(
                direct.claim(&slot, true),
                Match::Forged,
                "{protocol} {size}"
            );
        }
    }
}

#[test]
fn a_datagram_without_the_sequence_is_forged() {
    for len in 0..8 {
        let mut genuine = Genuine::new(PROTOCOL_UDP, false, 8, 0, 9);
        genuine.packet.truncate(3 + len);
        genuine.answer.payload_len = len;
        let slot = TestSlot::new(SlotState::new(SlotState::SENT, 9));
        assert_eq!(genuine.claim(&slot, true), Match::Forged, "{len} bytes");
    }
}
