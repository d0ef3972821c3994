//! TCP segments without payload, RFC 9293 section 3.1: a SYN, and the RST that takes it back.

/// Bytes of a SYN's header with its one option.
pub(super) const SYN_LEN: usize = LEN + MSS_LEN;
/// Bytes of a RST's header.
pub(super) const RST_LEN: usize = LEN;
/// Where the sequence number stands.
pub(super) const NUMBER_AT: usize = 4;
/// Where the checksum stands.
pub(super) const CHECKSUM_AT: usize = 16;

/// Bytes of a header without options.
const LEN: usize = 20;
/// Bytes of the option "maximum segment size", RFC 9293 section 3.7.1.
const MSS_LEN: usize = 4;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// What Linux offers too; nothing will ever be sent into it.
const WINDOW: u16 = 64_240;
/// An Ethernet's 1,500 bytes less the headers of IPv4 and TCP.
const MSS_V4: u16 = 1460;
/// The same for IPv6.
const MSS_V6: u16 = 1440;

/// Writes a SYN with sequence number and checksum zero.
pub(super) fn prepare(segment: &mut [u8], ipv6: bool, from_port: u16, to_port: u16) {
    segment[0..2].copy_from_slice(&from_port.to_be_bytes());
    segment[2..4].copy_from_slice(&to_port.to_be_bytes());
    segment[12] = data_offset(SYN_LEN);
    segment[13] = SYN;
    segment[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    let mss = if ipv6 { MSS_V6 } else { MSS_V4 };
    segment[LEN..LEN + 2].copy_from_slice(&[2, MSS_LEN as u8]);
    segment[LEN + 2..SYN_LEN].copy_from_slice(&mss.to_be_bytes());
}

/// Turns the first [`RST_LEN`] bytes of a SYN into the RST with this sequence number, the
/// checksum zero: without ACK, as whoever has no connection answers (RFC 9293 section 3.5.2).
pub(super) fn reset(segment: &mut [u8], number: u32) {
    segment[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&number.to_be_bytes());
    segment[12] = data_offset(RST_LEN);
    segment[13] = RST;
    segment[14..CHECKSUM_AT + 2].fill(0);
}

/// The header's length as its own field tells it.
fn data_offset(len: usize) -> u8 {
    ((len / 4) as u8) << 4
}
