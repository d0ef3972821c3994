//! The comparison of payloads against a naive search.

use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;

/// Where the payload lies in the packets: at an odd offset, so that no alignment helps.
const AT: usize = 3;

fn pattern() -> Payload {
    let mut payload = Payload::new_zeroed();
    for (index, byte) in payload.as_mut_bytes().iter_mut().enumerate() {
        *byte = (index * 7 % 256) as u8;
    }
    payload
}

/// The one check: `size` bytes were sent, `own` of them the probe's own, the byte at `change`
/// came back changed, and the end came back `resize` bytes later. Neither the probe's own bytes
/// count, nor anything around the payload.
fn check(payload: &Payload, size: usize, own: usize, change: Option<usize>, resize: isize) {
    let sent = &payload.as_bytes()[..size];
    let mut received = sent.to_vec();
    received[..own].fill(0xc0);
    if let Some(at) = change.filter(|at| (own..size).contains(at)) {
        received[at] ^= 0x10;
    }
    let len = (size as isize + resize).max(0) as usize;
    received.resize(len, 0xaa);
    let naive = (own.min(len)..size.max(len)).find(|at| sent.get(*at) != received.get(*at));
    let expected = naive.map_or(PAYLOAD_MATCHES, |at| at as u16);

    let packet = [&[0xee; AT][..], &received, &[0xee; 9]].concat();
    let received = Received {
        at: AT,
        len,
        sent_len: size,
        own_len: own,
    };
    let found = received.first_difference(&packet[..], payload);
    assert_eq!(
        found, expected,
        "size {size}, own {own}, change {change:?}, resize {resize}"
    );
}

/// How many bytes of a payload of this size may be the probe's own.
fn owns(size: usize) -> impl Iterator<Item = usize> {
    [0, 4, 8, 10, 12, 15]
        .into_iter()
        .filter(move |own| *own <= size)
}

#[test]
fn every_size_and_every_offset_up_to_200_is_compared() {
    let payload = pattern();
    for size in 0..200 {
        for own in owns(size) {
            for resize in -9..=9 {
                check(&payload, size, own, None, resize);
            }
            for at in 0..size {
                check(&payload, size, own, Some(at), 0);
                check(&payload, size, own, Some(at), -1);
                check(&payload, size, own, Some(at), 1);
            }
        }
    }
}

#[test]
fn the_ends_of_the_largest_payloads_are_compared() {
    let payload = pattern();
    for size in [
        1452,
        1472,
        PAYLOAD_MAX - 8,
        PAYLOAD_MAX - 7,
        PAYLOAD_MAX - 1,
        PAYLOAD_MAX,
    ] {
        for resize in -9..=9 {
            check(&payload, size, 10, None, resize);
        }
        for at in (0..32).chain(size - 32..size) {
            check(&payload, size, 10, Some(at), 0);
        }
    }
}

proptest! {
    #[test]
    fn any_payload_is_compared(
        words in prop::collection::vec(any::<u64>(), PAYLOAD_WORDS),
        size in 0..=PAYLOAD_MAX, own in 0..16_usize, change: prop::sample::Index,
        resize in -9..10_isize,
    ) {
        let mut payload = Payload::new_zeroed();
        payload.words.copy_from_slice(&words);
        check(&payload, size, own.min(size), Some(change.index(size.max(1))), resize);
    }
}
