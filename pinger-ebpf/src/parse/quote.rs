//! ICMP and ICMPv6 errors: what a router says of a probe, which it quotes.
//!
//! RFC 792 asks for the quoted IP header and 8 bytes more, RFC 1812 and RFC 4443 for as much as
//! fits; so 8 bytes must do, and what else is quoted is only told where it lies.

use super::ip::{Place, v4, v6};
use super::transport::ICMP_LEN;
use super::{Answer, Cursor, Ip, Refusal, read};
use crate::layout::{
    AnswerKind, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP,
};

/// What of a probe's transport header is quoted always.
const QUOTED_LEN: usize = 8;

const ICMP_ECHO_REQUEST: u8 = 8;
const ICMP6_ECHO_REQUEST: u8 = 128;

/// Whether this is an ICMP or ICMPv6 error, going by its type. IPv4: destination unreachable,
/// source quench, time exceeded, parameter problem (RFC 792). IPv6: destination unreachable, packet
/// too big, time exceeded, parameter problem (RFC 4443).
#[inline(always)]
pub fn is_error<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> bool {
    let Some([icmp_type]) = packet.read(ip.transport_at) else {
        return false;
    };
    match ip.protocol {
        PROTOCOL_ICMP => matches!(icmp_type, 3 | 4 | 11 | 12),
        PROTOCOL_ICMP6 => matches!(icmp_type, 1..=4),
        _ => false,
    }
}

/// Reads an ICMP error, which is behind `ip`, the packet's own header.
///
/// # Errors
///
/// If it quotes nothing that a probe can have been.
#[inline(always)]
pub fn error<C: Cursor + ?Sized>(packet: &C, ip: &Ip) -> Result<Answer, Refusal> {
    let [icmp_type, icmp_code] = read(packet, ip.transport_at)?;
    let end = ip.end(packet)?;
    let at = ip.transport_at + ICMP_LEN;
    let quoted = if ip.is_v6 {
        v6(packet, at, Place::Quoted)
    } else {
        v4(packet, at, Place::Quoted)
    }?;
    let payload_at = quoted.transport_at + QUOTED_LEN;
    if payload_at > end {
        return Err(Refusal::Malformed);
    }
    let transport = Transport::of(read(packet, quoted.transport_at)?, quoted.protocol)?;
    let (hop_limit, traffic_class) = ip.limit_and_class(packet)?;
    let sent_len = quoted.len.saturating_sub(QUOTED_LEN);
    let quoted_len = end - payload_at;
    Ok(Answer {
        kind: AnswerKind::IcmpError,
        key: FlowKey {
            address: quoted.destination(packet)?,
            identifier: transport.identifier,
            port: transport.port,
            protocol: quoted.protocol,
            reserved: 0,
        },
        responder: ip.source(packet)?,
        hop_limit,
        traffic_class,
        icmp_type,
        icmp_code,
        number: transport.number,
        checksum: transport.checksum,
        payload_at,
        payload_len: if sent_len < quoted_len {
            sent_len
        } else {
            quoted_len
        },
    })
}

/// What 8 quoted bytes of a transport header say of a probe.
#[derive(Clone, Copy)]
struct Transport {
    identifier: u16,
    port: u16,
    number: Option<u32>,
    checksum: u16,
}

impl Transport {
    #[inline(always)]
    fn of(bytes: [u8; QUOTED_LEN], protocol: u8) -> Result<Self, Refusal> {
        let [first, second, third, fourth] = [
            u16::from_be_bytes([bytes[0], bytes[1]]),
            u16::from_be_bytes([bytes[2], bytes[3]]),
            u16::from_be_bytes([bytes[4], bytes[5]]),
            u16::from_be_bytes([bytes[6], bytes[7]]),
        ];
        Ok(match protocol {
            PROTOCOL_UDP => Self {
                identifier: first,
                port: second,
                number: None,
                checksum: fourth,
            },
            PROTOCOL_TCP => Self {
                identifier: first,
                port: second,
                number: Some(u32::from(third) << 16 | u32::from(fourth)),
                checksum: 0,
            },
            _ => {
                let request = if protocol == PROTOCOL_ICMP {
                    ICMP_ECHO_REQUEST
                } else {
                    ICMP6_ECHO_REQUEST
                };
                if [bytes[0], bytes[1]] != [request, 0] {
                    return Err(Refusal::NotOurs);
                }
                Self {
                    identifier: third,
                    port: 0,
                    number: Some(u32::from(fourth)),
                    checksum: second,
                }
            }
        })
    }
}
