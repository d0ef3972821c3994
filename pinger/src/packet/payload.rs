//! What probes carry behind their own bytes: a destination's data, or a pattern.
//!
//! In: destinations. Out: the arrays that the kernel program compares with, each once, and the
//! same bytes for the frames.

use std::collections::HashMap;

use pinger_ebpf::layout::Payload;
use zerocopy::{FromZeros, IntoBytes};

use crate::destination::Destination;

/// The most different payloads of one run: each takes 4 KiB of the kernel's memory.
pub const PAYLOADS_MAX: usize = 1024;

/// The payload of whoever asks for no data: byte `i` is `i mod 256`, as `ping` sends.
pub fn pattern() -> Payload {
    let mut payload = Payload::new_zeroed();
    fill(None, payload.as_mut_bytes());
    payload
}

/// Fills a payload by the rule: `data` is repeated as often as it fits as a whole, and what is
/// left at the end stays zero. Without data, byte `i` is `i mod 256`.
///
/// Data longer than the payload is cut, but no [`Destination`] has that: its size has the room.
pub(super) fn fill(data: Option<&[u8]>, payload: &mut [u8]) {
    let Some(data) = data else {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte = index as u8;
        }
        return;
    };
    if data.len() > payload.len() {
        payload.copy_from_slice(&data[..payload.len()]);
        return;
    }
    payload.fill(0);
    for part in payload.chunks_exact_mut(data.len()) {
        part.copy_from_slice(data);
    }
}

/// The array for a payload of `size` bytes; the built-in pattern goes on to the array's end.
fn array(data: Option<&[u8]>, size: u16) -> Payload {
    match data {
        None => pattern(),
        Some(_) => {
            let mut payload = Payload::new_zeroed();
            fill(data, &mut payload.as_mut_bytes()[..usize::from(size)]);
            payload
        }
    }
}

/// What two destinations must have in common to share a payload: the data and how often it fits,
/// because behind that all is zero. The built-in pattern is the same at any size.
pub fn payload_key(data: Option<&[u8]>, size: u16) -> Option<(&[u8], usize)> {
    data.map(|data| (data, usize::from(size) / data.len()))
}

/// The different payloads of some destinations, and which destination has which.
pub struct Payloads {
    arrays: Vec<Payload>,
    indices: Vec<u16>,
}

impl Payloads {
    /// Those of these destinations.
    ///
    /// # Panics
    ///
    /// If there are more than [`PAYLOADS_MAX`], which `config` refuses.
    pub fn of(destinations: &[Destination]) -> Self {
        let mut arrays = Vec::new();
        let mut known = HashMap::new();
        let mut indices = Vec::with_capacity(destinations.len());
        for destination in destinations {
            let data = destination.data.as_deref();
            let index = known
                .entry(payload_key(data, destination.size))
                .or_insert_with(|| {
                    arrays.push(array(data, destination.size));
                    arrays.len() - 1
                });
            indices.push(*index as u16);
        }
        assert!(arrays.len() <= PAYLOADS_MAX, "config has counted them");
        Self { arrays, indices }
    }

    /// The payloads, by the indices of [`Payloads::index`].
    pub fn arrays(&self) -> &[Payload] {
        &self.arrays
    }

    /// Which payload the destination with this index has.
    pub fn index(&self, destination: usize) -> u16 {
        self.indices[destination]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn data_is_repeated_as_a_whole_and_the_rest_is_zero() {
        for (data, size, expected) in [
            (Some(&b"abc"[..]), 3, &b"abc"[..]),
            (Some(b"abc"), 8, b"abcabc\0\0"),
            (Some(b"abc"), 9, b"abcabcabc"),
            (Some(b"a"), 4, b"aaaa"),
            (Some(b"abc"), 0, b""),
            (None, 4, &[0, 1, 2, 3]),
            (None, 0, b""),
        ] {
            let mut payload = vec![0xa5; size];
            fill(data, &mut payload);
            assert_eq!(payload, expected, "{data:?} {size}");
        }
        let mut long = [0xa5; 258];
        fill(None, &mut long);
        assert_eq!(long[254..], [254, 255, 0, 1]);
    }

    #[test]
    fn equal_payloads_are_kept_once() {
        let destination = |data: Option<&[u8]>, size| Destination {
            data: data.map(Into::into),
            size,
            ..Destination::echo(Ipv4Addr::LOCALHOST.into())
        };
        let payloads = Payloads::of(&[
            destination(None, 56),
            destination(Some(b"abc"), 7),
            destination(None, 1400),
            destination(Some(b"abc"), 9),
            destination(Some(b"abc"), 8),
        ]);
        let indices: Vec<_> = (0..5).map(|index| payloads.index(index)).collect();
        assert_eq!(indices, [0, 1, 0, 2, 1]);
        let bytes: Vec<_> = payloads
            .arrays()
            .iter()
            .map(|p| &p.as_bytes()[..9])
            .collect();
        let expected: [&[u8]; 3] = [&[0, 1, 2, 3, 4, 5, 6, 7, 8], b"abcabc\0\0\0", b"abcabcabc"];
        assert_eq!(bytes, expected);
        assert_eq!(payloads.arrays()[0].as_bytes()[1399], (1399 % 256) as u8);
    }
}
