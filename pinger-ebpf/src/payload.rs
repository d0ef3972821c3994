//! Whether a payload came back as it was sent.
//!
//! In: a packet, where its payload lies, and what was sent. Out: where the two differ first.
//! Pure, and a unit of its own for the BPF verifier's sake, which would otherwise follow every
//! turn of the loop once for each way a packet can reach it.

use crate::layout::{PAYLOAD_MATCHES, PAYLOAD_MAX, PAYLOAD_WORDS, Payload};
use crate::parse::Cursor;

/// A payload as it came back, and what left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where in the packet it begins.
    pub at: usize,
    /// Bytes that came back, all of them in the packet.
    pub len: usize,
    /// Bytes that were sent.
    pub sent_len: usize,
    /// Bytes at the start that are the probe's own ([`Prefix::len`](crate::identity::Prefix), at
    /// most 15), which the matching has looked at.
    pub own_len: usize,
}

impl Received {
    /// Offset of the first payload byte behind the probe's own that is not what was sent, or
    /// [`PAYLOAD_MATCHES`].
    ///
    /// One plain loop over 8-byte words; bytes that do not fill a word are compared by a word that
    /// overlaps the one before.
    #[inline(always)]
    pub fn first_difference<C: Cursor + ?Sized>(self, packet: &C, payload: &Payload) -> u16 {
        let common = if self.len < self.sent_len {
            self.len
        } else {
            self.sent_len
        };
        if common < 8 {
            return self.first_different_byte(packet, payload, common);
        }
        // The probe's own bytes reach into the first two words at most.
        for index in 0..PAYLOAD_MAX / 8 {
            let at = index * 8;
            if at + 8 > common {
                break;
            }
            let Some(word) = self.word(packet, at) else {
                return at as u16;
            };
            let mut difference = word ^ u64::from_le(payload.words[index]);
            if index < 2 {
                difference &= self.not_own(at);
            }
            if difference != 0 {
                return at as u16 + first_byte(difference);
            }
        }
        let rest = common % 8;
        if rest > 0 {
            let overlap = (common - 8) % (PAYLOAD_WORDS * 8); // a bound that the verifier sees
            let unused = (8 - rest) * 8;
            let sent = u64::from_le(payload.words[common / 8 % PAYLOAD_WORDS]) << unused;
            let Some(word) = self.word(packet, overlap) else {
                return overlap as u16;
            };
            let difference = (word ^ sent) >> unused << unused & self.not_own(overlap);
            if difference != 0 {
                return overlap as u16 + first_byte(difference);
            }
        }
        self.same_length(common)
    }

    /// The same for payloads of less than a word.
    #[inline(always)]
    fn first_different_byte<C>(self, packet: &C, payload: &Payload, common: usize) -> u16
    where
        C: Cursor + ?Sized,
    {
        let mut rest = u64::from_le(payload.words[0]);
        for at in 0..7 {
            if at >= common {
                break;
            }
            let Some([byte]) = packet.read(self.at + at) else {
                break;
            };
            if at >= self.own_len && byte != rest as u8 {
                return at as u16;
            }
            rest >>= 8;
        }
        self.same_length(common)
    }

    /// Ones where the word at `at` holds bytes that are not the probe's own.
    #[inline(always)]
    fn not_own(self, at: usize) -> u64 {
        let own = self.own_len.saturating_sub(at);
        if own < 8 { u64::MAX << (own * 8) } else { 0 }
    }

    /// A payload that is a part of what was sent differs where it ends; so does a longer one.
    #[inline(always)]
    fn same_length(self, common: usize) -> u16 {
        if self.len == self.sent_len {
            PAYLOAD_MATCHES
        } else {
            common as u16
        }
    }

    /// The payload's 8 bytes at `at`. The packet has them, but the verifier cannot know.
    #[inline(always)]
    fn word<C: Cursor + ?Sized>(self, packet: &C, at: usize) -> Option<u64> {
        packet.read(self.at + at).map(u64::from_le_bytes)
    }
}

/// Index of the lowest byte that is not zero; `word` is not zero.
#[inline(always)]
fn first_byte(word: u64) -> u16 {
    (word.trailing_zeros() / 8) as u16
}

#[cfg(test)]
mod tests;
