//! The cookie: a keyed hash that ties a payload to one probe of one flow.
//!
//! SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of 16 bytes: the
//! sequence and the flow's index, both little-endian. Written out for this one length, without
//! buffers, so that the sender and the BPF program compute it in a few dozen nanoseconds.

/// The state of SipHash: four words that each round mixes.
struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }
}

/// The cookie of probe `sequence` of flow `flow` under `secret`.
///
/// On the wire its bytes stand in memory order of a little-endian integer.
#[inline(always)]
pub fn cookie(secret: [u64; 2], flow: u32, sequence: u64) -> u64 {
    let mut sip = Sip {
        v0: secret[0] ^ 0x736f_6d65_7073_6575,
        v1: secret[1] ^ 0x646f_7261_6e64_6f6d,
        v2: secret[0] ^ 0x6c79_6765_6e65_7261,
        v3: secret[1] ^ 0x7465_6462_7974_6573,
    };
    sip.absorb(sequence);
    sip.absorb(u64::from(flow));
    sip.absorb(16 << 56); // the last word holds the input's length, section 2.2
    sip.v2 ^= 0xff;
    sip.round();
    sip.round();
    sip.round();
    sip.round();
    sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::cookie;

    proptest! {
        #[test]
        fn agrees_with_an_independent_siphash(
            secret: [u64; 2], flow: u32, sequence: u64
        ) {
            let mut oracle = SipHasher24::new_with_keys(secret[0], secret[1]);
            oracle.write(&sequence.to_le_bytes());
            oracle.write(&u64::from(flow).to_le_bytes());
            prop_assert_eq!(cookie(secret, flow, sequence), oracle.finish());
        }
    }
}
