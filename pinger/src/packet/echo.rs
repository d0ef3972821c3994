//! ICMP and ICMPv6 echo requests, RFC 792 and RFC 4443 section 4.1.

/// ICMP type of an echo request, RFC 792.
pub const ICMP_ECHO: u8 = 8;
/// ICMPv6 type of an echo request, RFC 4443 section 4.1.
pub const ICMP6_ECHO: u8 = 128;

/// Bytes of the header.
pub(super) const LEN: usize = 8;
/// Where the checksum stands.
pub(super) const CHECKSUM_AT: usize = 2;
/// Where the sequence stands.
pub(super) const SEQUENCE_AT: usize = 6;

/// Writes the header with sequence and checksum zero.
pub(super) fn prepare(header: &mut [u8], ipv6: bool, identifier: u16) {
    header[0] = if ipv6 { ICMP6_ECHO } else { ICMP_ECHO };
    header[4..6].copy_from_slice(&identifier.to_be_bytes());
}
