//! What a probe carries so that its answer can be known: for each protocol, which bits hold the
//! sequence, and which prove that nobody made them up.
//!
//! The sender writes by these functions and the matching reads by them. Each flow has a `check`,
//! 16 bits that follow from the secret; a router that quotes no more than the first 8 bytes of
//! what is behind the IP header (RFC 792) quotes it, or what is made of it:
//!
//! | probe | sequence, low bits | what else must agree | in 8 quoted bytes |
//! |---|---|---|---|
//! | ICMP, ICMPv6 | the header's 16 | cookie, checksum = check | identifier, sequence, checksum |
//! | UDP | 16 in the payload, 15 in the checksum | cookie, the checksum's | ports, checksum |
//! | TCP | 16 in the initial sequence number | its other 16: the cookie | ports, sequence number |
//!
//! A checksum takes the value wanted because two bytes of the payload, the balance, make up for
//! the rest. As a by-product all ICMP probes of a flow have one checksum, so routers that spread
//! load by it keep them on one path ("Paris traceroute", Augustin et al., IMC 2006).

use crate::cookie::cookie;
use crate::layout::{COOKIE_LEN, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_UDP};

/// Where in a payload the probe's own bytes stand; whatever does not fit is absent.
///
/// | payload | ICMP | UDP |
/// |---|---|---|
/// | below 4 bytes | – | – |
/// | 4 to 7 | – | sequence (2), balance (2) |
/// | 8 and 9 | cookie (8) | sequence, balance, first 4 bytes of the cookie |
/// | 10 and 11 | cookie, balance (2) | the same |
/// | 12 and more | the same | sequence, balance, cookie (8) |
///
/// UDP has no other place for a sequence: of a flow whose payload is shorter than 4 bytes only
/// one probe may be in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Offset of the sequence: 16 bits, big-endian.
    pub sequence_at: Option<usize>,
    /// Offset of the balance.
    pub balance_at: Option<usize>,
    /// Offset of the cookie.
    pub cookie_at: usize,
    /// Bytes of the cookie, from its little-endian start: 8, 4 or none.
    pub cookie_len: usize,
    /// Bytes of all these together, from the payload's start.
    pub len: usize,
}

impl Prefix {
    /// The prefix in a payload of `size` bytes.
    #[inline(always)]
    pub const fn of(protocol: u8, size: usize) -> Self {
        match protocol {
            PROTOCOL_ICMP | PROTOCOL_ICMP6 if size >= COOKIE_LEN => {
                let balanced = size >= COOKIE_LEN + 2;
                Self {
                    sequence_at: None,
                    balance_at: if balanced { Some(COOKIE_LEN) } else { None },
                    cookie_at: 0,
                    cookie_len: COOKIE_LEN,
                    len: if balanced { COOKIE_LEN + 2 } else { COOKIE_LEN },
                }
            }
            PROTOCOL_UDP if size >= 4 => {
                let cookie_len = match size {
                    ..8 => 0,
                    8..12 => 4,
                    _ => COOKIE_LEN,
                };
                Self {
                    sequence_at: Some(0),
                    balance_at: Some(2),
                    cookie_at: 4,
                    cookie_len,
                    len: 4 + cookie_len,
                }
            }
            _ => Self {
                sequence_at: None,
                balance_at: None,
                cookie_at: 0,
                cookie_len: 0,
                len: 0,
            },
        }
    }
}

/// The check of a flow: never 0 or 0xffff, which one's complement takes for one.
#[inline(always)]
pub fn flow_check(secret: [u64; 2], flow: u32) -> u16 {
    // No probe has this sequence.
    let check = cookie(secret, flow, u64::MAX) as u16;
    if check == 0 || check == u16::MAX {
        1
    } else {
        check
    }
}

/// The UDP checksum of a probe: never 0, which would mean none (RFC 768).
#[inline(always)]
pub const fn udp_checksum(check: u16, sequence: u64) -> u16 {
    0x8000 | (sequence as u16 ^ check) & 0x7fff
}

/// The low 15 bits of the sequence of the probe that has this UDP checksum; `None` if no probe of
/// the flow has it.
#[inline(always)]
pub const fn udp_sequence(check: u16, checksum: u16) -> Option<u16> {
    if checksum & 0x8000 == 0 {
        None
    } else {
        Some((checksum ^ check) & 0x7fff)
    }
}

/// The initial sequence number of a TCP probe.
#[inline(always)]
pub const fn tcp_number(check: u16, cookie: u64, sequence: u64) -> u32 {
    (cookie as u32) << 16 | (sequence as u16 ^ check) as u32
}

/// The low 16 bits of the sequence of the probe with this initial sequence number, if it is one:
/// [`tcp_number`] of that sequence and its cookie must come to the same.
#[inline(always)]
pub const fn tcp_sequence(check: u16, number: u32) -> u16 {
    number as u16 ^ check
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u64; 2] = [7, 9];

    #[test]
    fn checks_are_never_either_zero() {
        for flow in 0..200_000 {
            let check = flow_check(SECRET, flow);
            assert!(check != 0 && check != u16::MAX);
        }
    }

    #[test]
    fn udp_checksums_hold_the_sequence_and_are_never_zero() {
        for check in [1, 0x1234, 0x8001, 0xfffe] {
            for sequence in 0..=0x1_ffff_u64 {
                let checksum = udp_checksum(check, sequence);
                assert_ne!(checksum, 0);
                let found = udp_sequence(check, checksum);
                assert_eq!(found, Some(sequence as u16 & 0x7fff));
            }
            assert_eq!(udp_sequence(check, 0x7fff), None);
        }
    }

    #[test]
    fn tcp_numbers_hold_the_sequence_and_sixteen_bits_of_the_cookie() {
        for sequence in [0, 1, 0xffff, 0x1_0000, u64::from(u32::MAX)] {
            let cookie = cookie(SECRET, 3, sequence);
            let number = tcp_number(0x1234, cookie, sequence);
            assert_eq!(tcp_sequence(0x1234, number), sequence as u16);
            assert_eq!((number >> 16) as u16, cookie as u16);
        }
    }

    #[test]
    fn a_prefix_fits_its_payload_and_nothing_in_it_overlaps() {
        for protocol in [PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_UDP, 6] {
            for size in 0..64 {
                let prefix = Prefix::of(protocol, size);
                assert!(prefix.len <= size);
                let words = [prefix.sequence_at, prefix.balance_at]
                    .into_iter()
                    .flatten();
                let mut taken = vec![false; size];
                let places = words
                    .map(|at| (at, 2))
                    .chain([(prefix.cookie_at, prefix.cookie_len)]);
                for (at, len) in places {
                    for byte in &mut taken[at..at + len] {
                        assert!(!*byte, "{protocol} {size}: {prefix:?}");
                        *byte = true;
                    }
                }
                let filled = taken.iter().filter(|byte| **byte).count();
                assert_eq!(filled, prefix.len, "{protocol} {size}: {prefix:?}");
                // The checksum's unit is 16 bits: a balance at an odd offset would not fit it.
                assert!(prefix.balance_at.is_none_or(|at| at % 2 == 0));
            }
        }
    }
}
