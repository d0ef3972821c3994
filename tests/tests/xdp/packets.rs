//! Packets that are written down: the vectors, each cut anywhere, each type and code, each length.

use pinger_ebpf::cookie::cookie;
use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{COOKIE_LEN, EventKind, PAYLOAD_MAX, PROTOCOL_ICMP, SlotState};
use pinger_tests::vectors::{self, Expected, Preset, SETTINGS};
use zerocopy::IntoBytes;

use crate::loaded::PACKET_LEN;
use crate::pair::{Pair, event_of, meaning, said};

#[test]
fn every_vector_comes_to_what_its_file_says() {
    let vectors = vectors::all();
    assert!(vectors.len() > 180, "the vectors are in tests/vectors");
    let mut pair = Pair::new();
    for vector in vectors {
        pair.preset(vector.preset);
        let outcome = pair.check(&vector.packet, &|| vector.name.clone());
        assert_eq!(meaning(&outcome), vector.expected, "{}", vector.name);
        if let Some(event) = outcome.event.as_deref().map(event_of) {
            assert_eq!(said(&event), vector.said, "{}", vector.name);
        }
    }
}

#[test]
fn a_packet_cut_anywhere_comes_to_the_same_in_the_kernel() {
    let mut pair = Pair::new();
    for vector in vectors::all() {
        for len in *PACKET_LEN.start()..vector.packet.len() {
            pair.preset(vector.preset);
            pair.check(&vector.packet[..len], &|| {
                format!("{}, {len} bytes", vector.name)
            });
        }
    }
}

/// Whether a message of this type is an error, by RFC 792 and RFC 4443 written out once more.
fn is_error_type(is_v6: bool, icmp_type: u8) -> bool {
    if is_v6 {
        [1, 2, 3, 4].contains(&icmp_type)
    } else {
        [3, 4, 11, 12].contains(&icmp_type)
    }
}

#[test]
fn every_type_and_code_is_an_error_or_passes() {
    let vectors = vectors::all();
    let mut pair = Pair::new();
    for (name, icmp_at) in [
        ("port unreachable to UDP, 8 bytes quoted", 34),
        ("time exceeded of an echo request", 34),
        ("time exceeded of a SYN, 8 bytes quoted", 34),
        ("port unreachable to UDP over IPv6", 54),
        ("time exceeded of an ICMPv6 echo request", 54),
        ("time exceeded of a SYN over IPv6", 54),
    ] {
        let vector = vectors.iter().find(|vector| vector.name == name);
        let vector = vector.unwrap_or_else(|| panic!("no vector {name}"));
        let mut packet = vector.packet.clone();
        for icmp_type in 0..=u8::MAX {
            let is_error = is_error_type(icmp_at == 54, icmp_type);
            let codes = if is_error { 0..=u8::MAX } else { 0..=3 };
            for code in codes {
                [packet[icmp_at], packet[icmp_at + 1]] = [icmp_type, code];
                pair.preset(vector.preset);
                let what = || format!("{name}: type {icmp_type}, code {code}");
                let outcome = pair.check(&packet, &what);
                let event = outcome.event.as_deref().map(event_of);
                let found = event.map(|event| (event.icmp_type, event.icmp_code));
                assert_eq!(found, is_error.then_some((icmp_type, code)), "{}", what());
            }
        }
    }
}

/// An answer with the longest payload, one byte of it changed, or its end moved.
fn long_answer(change: Option<usize>, len: usize) -> Vec<u8> {
    let mut packet = vectors::all()[0].packet[..42].to_vec();
    packet[29] = 11;
    packet[16..18].copy_from_slice(&(28 + len as u16).to_be_bytes());
    packet.extend_from_slice(&vectors::payload().as_bytes()[..len]);
    packet[42..42 + COOKIE_LEN].copy_from_slice(&cookie(SETTINGS.secret, 3, 5).to_le_bytes());
    if let Some(at) = change {
        packet[42 + at] ^= 1;
    }
    packet
}

#[test]
fn the_longest_payloads_are_compared_to_their_ends() {
    let mut pair = Pair::new();
    let preset = Preset {
        flow: 3,
        state: SlotState::new(SlotState::SENT, 5),
    };
    let own_len = Prefix::of(PROTOCOL_ICMP, PAYLOAD_MAX).len;
    let changes = (own_len..PAYLOAD_MAX)
        .step_by(61)
        .chain(PAYLOAD_MAX - 20..PAYLOAD_MAX);
    let cases = changes
        .map(|at| (Some(at), PAYLOAD_MAX, Some(at as u16)))
        .chain([
            (None, PAYLOAD_MAX, None),
            (None, PAYLOAD_MAX + 1, Some(PAYLOAD_MAX as u16)),
        ])
        .chain((PAYLOAD_MAX - 20..PAYLOAD_MAX).map(|len| (None, len, Some(len as u16))));
    for (change, len, mismatch) in cases {
        pair.preset(Some(preset));
        let what = || format!("change {change:?}, length {len}");
        let outcome = pair.check(&long_answer(change, len), &what);
        assert_eq!(
            meaning(&outcome),
            Expected::Told(EventKind::Reply, mismatch),
            "{}",
            what()
        );
    }
}
