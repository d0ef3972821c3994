//! The Internet checksum, RFC 1071.

/// One's complement sum, not folded, of `bytes` as big-endian 16-bit words.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(2);
    let words: u64 = chunks
        .by_ref()
        .map(|w| u64::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    words
        + chunks
            .remainder()
            .first()
            .map_or(0, |last| u64::from(*last) << 8)
}

/// Folds a sum to 16 bits, carries included.
pub(super) fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum that goes on the wire.
pub(super) fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The word that makes `checksum` the right one for what else adds up to `sum`.
pub(super) fn balance(sum: u64, checksum: u16) -> u16 {
    // In one's complement, subtracting is adding the complement (RFC 1624 section 2).
    fold(u64::from(!checksum) + u64::from(!fold(sum)))
}
