//! UDP datagrams, RFC 768.

/// Bytes of the header.
pub(super) const LEN: usize = 8;
/// Where the checksum stands.
pub(super) const CHECKSUM_AT: usize = 6;

/// Writes the header with the checksum zero; `len` is that of header and payload.
pub(super) fn prepare(header: &mut [u8], from_port: u16, to_port: u16, len: usize) {
    header[0..2].copy_from_slice(&from_port.to_be_bytes());
    header[2..4].copy_from_slice(&to_port.to_be_bytes());
    header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
}
