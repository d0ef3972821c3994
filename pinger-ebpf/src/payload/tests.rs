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

/// The one check: `size` bytes were sent, the byte at `change` came back changed, and the end
/// came back `resize` bytes later. The cookie never counts, nor anything around the payload.
fn check(payload: &Payload, size: usize, change: Option<usize>, resize: isize) {
    let first = if size < COOKIE_LEN { 0 } else { COOKIE_LEN };
    let sent = &payload.as_bytes()[..size];
    let mut received = sent.to_vec();
    received[..first].fill(0xc0);
    if let Some(at) = change.filter(|at| (first..size).contains(at)) {
        received[at] ^= 0x10;
    }
    let len = (size as isize + resize).max(first as isize) as usize;
    received.resize(len, 0xaa);
    let naive = (first..size.max(len)).find(|at| sent.get(*at) != received.get(*at));
    let expected = naive.map_or(PAYLOAD_MATCHES, |at| at as u16);

    let packet = [&[0xee; AT][..], &received, &[0xee; 9]].concat();
    let received = Received {
        at: AT,
        len,
        sent_len: size,
    };
    let found = received.first_difference(&packet[..], payload);
    assert_eq!(
        found, expected,
        "size {size}, change {change:?}, resize {resize}"
    );
}

#[test]
fn every_size_and_every_offset_up_to_200_is_compared() {
    let payload = pattern();
    for size in 0..200 {
        for resize in -9..=9 {
            check(&payload, size, None, resize);
        }
        for at in 0..size {
            check(&payload, size, Some(at), 0);
            check(&payload, size, Some(at), -1);
            check(&payload, size, Some(at), 1);
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
            check(&payload, size, None, resize);
        }
        for at in (0..32).chain(size - 32..size) {
            check(&payload, size, Some(at), 0);
        }
    }
}

proptest! {
    #[test]
    fn any_payload_is_compared(
        words in prop::collection::vec(any::<u64>(), PAYLOAD_WORDS),
        size in 0..=PAYLOAD_MAX, change: prop::sample::Index, resize in -9..10_isize,
    ) {
        let mut payload = Payload::new_zeroed();
        payload.words.copy_from_slice(&words);
        check(&payload, size, Some(change.index(size.max(1))), resize);
    }
}
