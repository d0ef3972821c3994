//! What a destination answers itself: ICMP echo replies, UDP datagrams, and TCP segments that
//! accept or refuse a connection.

use super::{Answer, Cursor, Ip, Refusal, read};
use crate::layout::{AnswerKind, FlowKey, PROTOCOL_TCP, PROTOCOL_UDP};

/// Bytes of an ICMP or ICMPv6 header.
pub(super) const ICMP_LEN: usize = 8;
/// Bytes of a UDP header.
pub(super) const UDP_LEN: usize = 8;
/// Bytes of a TCP header without options.
const TCP_MIN_LEN: usize = 20;

/// Type of an ICMP echo reply, RFC 792.
pub const ICMP_ECHO_REPLY: u8 = 0;
/// Type of an ICMPv6 echo reply, RFC 4443 section 4.2.
pub const ICMP6_ECHO_REPLY: u8 = 129;

/// Control bits of a TCP header, RFC 9293 section 3.1.
mod control {
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const ACK: u8 = 0x10;
}

/// Reads the answer of a destination itself: what is behind `ip`, a packet's own header.
///
/// # Errors
///
/// If it is none.
#[inline(always)]
pub fn direct<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> Result<Answer, Refusal> {
    match ip.protocol {
        PROTOCOL_UDP => datagram(packet, ip),
        PROTOCOL_TCP => segment(packet, ip),
        _ => echo_reply(packet, ip),
    }
}

/// What the header says of any answer that comes from the destination.
#[inline(always)]
fn answer<C>(packet: &C, ip: &Ip, kind: AnswerKind) -> Result<Answer, Refusal>
where
    C: Cursor + ?Sized,
{
    let source = ip.source(packet)?;
    let (hop_limit, traffic_class) = ip.limit_and_class(packet)?;
    Ok(Answer {
        kind,
        key: FlowKey {
            address: source,
            identifier: 0,
            port: 0,
            protocol: ip.protocol,
            reserved: 0,
        },
        responder: source,
        hop_limit,
        traffic_class,
        icmp_type: 0,
        icmp_code: 0,
        number: None,
        checksum: 0,
        payload_at: 0,
        payload_len: 0,
    })
}

/// RFC 792 and RFC 4443 section 4.2.
#[inline(always)]
fn echo_reply<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> Result<Answer, Refusal> {
    let header: [u8; ICMP_LEN] = read(packet, ip.transport_at)?;
    let wanted = if ip.is_v6 {
        ICMP6_ECHO_REPLY
    } else {
        ICMP_ECHO_REPLY
    };
    if header[0] != wanted {
        return Err(Refusal::NotOurs);
    }
    ip.end(packet)?;
    let mut answer = answer(packet, ip, AnswerKind::Echo)?;
    answer.icmp_type = header[0];
    answer.icmp_code = header[1];
    answer.key.identifier = u16::from_be_bytes([header[4], header[5]]);
    answer.number = Some(u32::from(u16::from_be_bytes([header[6], header[7]])));
    answer.payload_at = ip.transport_at + ICMP_LEN;
    answer.payload_len = ip.len - ICMP_LEN;
    Ok(answer)
}

/// RFC 768.
#[inline(always)]
fn datagram<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> Result<Answer, Refusal> {
    let header: [u8; UDP_LEN] = read(packet, ip.transport_at)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    ip.end(packet)?;
    if len < UDP_LEN || len > ip.len {
        return Err(Refusal::Malformed);
    }
    let mut answer = answer(packet, ip, AnswerKind::Datagram)?;
    answer.key.port = u16::from_be_bytes([header[0], header[1]]);
    answer.key.identifier = u16::from_be_bytes([header[2], header[3]]);
    answer.payload_at = ip.transport_at + UDP_LEN;
    answer.payload_len = len - UDP_LEN;
    Ok(answer)
}

/// RFC 9293 section 3.10.7: a SYN is answered by SYN and ACK, or by RST and ACK; what they
/// acknowledge is its sequence number and one. A RST without ACK names no probe.
#[inline(always)]
fn segment<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> Result<Answer, Refusal> {
    let header: [u8; 14] = read(packet, ip.transport_at)?;
    let bits = header[13];
    let acknowledges = bits & control::ACK != 0;
    let kind = match bits & (control::SYN | control::RST) {
        control::RST => AnswerKind::Reset,
        control::SYN if acknowledges => AnswerKind::SynAck,
        _ => return Err(Refusal::NotOurs),
    };
    ip.end(packet)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < TCP_MIN_LEN || header_len > ip.len {
        return Err(Refusal::Malformed);
    }
    let mut answer = answer(packet, ip, kind)?;
    answer.key.port = u16::from_be_bytes([header[0], header[1]]);
    answer.key.identifier = u16::from_be_bytes([header[2], header[3]]);
    let acknowledgment = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    answer.number = acknowledges.then_some(acknowledgment.wrapping_sub(1));
    Ok(answer)
}
