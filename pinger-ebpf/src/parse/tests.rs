//! The parser against an independent one: etherparse builds the packets and judges the mutants.

mod draw;
mod expected;
mod oracle;
mod recipe;

use proptest::prelude::*;
use proptest::sample::Index;

use super::ip::EXTENSIONS_MAX;
use super::*;
use crate::layout::PROTOCOL_ICMP6;
use draw::recipe;
use oracle::check_against_oracle;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn finds_what_was_built(recipe in recipe()) {
        let bytes = recipe.build();
        prop_assert_eq!(parse(&bytes[..]), recipe.expected(bytes.len()));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_against_oracle(&bytes);
    }

    #[test]
    fn mutants_are_judged_as_etherparse_does(
        recipe in recipe(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        headers_only: bool,
    ) {
        let mut bytes = recipe.build();
        let reach = if headers_only { bytes.len().min(110) } else { bytes.len() };
        for (index, byte) in changes {
            bytes[index.index(reach)] = byte;
        }
        check_against_oracle(&bytes);
    }

    #[test]
    fn an_answer_cut_anywhere_is_malformed(recipe in recipe()) {
        let bytes = recipe.build();
        let whole @ Packet::Answer(_) = parse(&bytes[..]) else { return Ok(()) };
        for len in 0..bytes.len() {
            let cut = parse(&bytes[..len]);
            if len < bytes.len() - recipe.padding.len() {
                prop_assert_eq!(cut, Packet::Malformed, "of {} bytes", len);
            } else {
                // Only Ethernet's padding is missing.
                prop_assert_eq!(cut, whole);
            }
        }
    }
}

#[test]
fn a_third_vlan_tag_is_not_ours() {
    let mut bytes = vec![0; 12];
    for _ in 0..3 {
        bytes.extend_from_slice(&[0x81, 0x00, 0x00, 0x07]);
    }
    bytes.extend_from_slice(&[0x08, 0x00, 0x45]);
    assert_eq!(parse(&bytes[..]), Packet::NotOurs);
}

#[test]
fn a_seventh_extension_header_is_not_ours() {
    let source = [0xfd; 16];
    for count in 0..10_u8 {
        let mut bytes = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        bytes.extend_from_slice(&(u16::from(count) * 8 + 8).to_be_bytes());
        bytes.push(if count == 0 { PROTOCOL_ICMP6 } else { 60 });
        bytes.push(64);
        bytes.extend_from_slice(&source);
        bytes.extend_from_slice(&source);
        for left in (0..count).rev() {
            let next = if left == 0 { PROTOCOL_ICMP6 } else { 60 };
            bytes.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes.extend_from_slice(&[ICMP6_ECHO_REPLY, 0, 0, 0, 0, 1, 0, 2]);
        let is_reply = matches!(parse(&bytes[..]), Packet::Answer(_));
        assert_eq!(
            is_reply,
            usize::from(count) <= EXTENSIONS_MAX,
            "{count} headers"
        );
    }
}
