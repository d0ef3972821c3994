//! The other parser: what etherparse takes a packet for, where it has an opinion.

use etherparse::{
    Icmpv4Type, Icmpv6Type, LaxNetSlice, LaxSlicedPacket, LinkExtSlice, NetSlice, SlicedPacket,
    TransportSlice,
};

use crate::layout::AnswerKind;
use crate::parse::{Answer, Packet, VLAN_TAGS_MAX, parse};

/// What both parsers can tell of an answer: its kind, identifier and port, the number, and the
/// length of the payload unless it is a quote.
type Summary = (AnswerKind, [u16; 2], Option<u32>, Option<usize>);

fn summary(answer: &Answer) -> Summary {
    let payload_len = answer.has_payload().then_some(answer.payload_len);
    let ports = [answer.key.identifier, answer.key.port];
    (answer.kind, ports, answer.number, payload_len)
}

/// What etherparse takes the packet for; `None` where it is no answer; `Err` where it does not say
/// or follows another rule than we do.
fn oracle(bytes: &[u8]) -> Result<Option<Summary>, ()> {
    let sliced = SlicedPacket::from_ethernet(bytes).map_err(drop)?;
    let only_vlans = sliced
        .link_exts
        .iter()
        .all(|extension| matches!(extension, LinkExtSlice::Vlan(_)));
    // We step over two tags of IEEE's types; etherparse over three, 0x9100 among them.
    if !only_vlans || sliced.link_exts.len() > VLAN_TAGS_MAX || has_old_tag(bytes) {
        return Err(());
    }
    let is_v6 = match &sliced.net {
        // A payload length of zero is a jumbogram to etherparse, RFC 2675, and nothing to us.
        Some(NetSlice::Ipv6(ip)) if ip.header().payload_length() == 0 => return Err(()),
        Some(NetSlice::Ipv6(_)) => true,
        _ => false,
    };
    match sliced.transport.ok_or(())? {
        TransportSlice::Icmpv4(icmp) if !is_v6 => oracle_of_icmp(icmp.slice(), is_v6),
        TransportSlice::Icmpv6(icmp) if is_v6 => oracle_of_icmp(icmp.slice(), is_v6),
        // Linux takes a length of zero for the rest of the packet, and so does etherparse.
        TransportSlice::Udp(udp) if udp.length() == 0 => Err(()),
        TransportSlice::Udp(udp) => {
            let ports = [udp.destination_port(), udp.source_port()];
            let payload_len = usize::from(udp.length()) - 8;
            Ok(Some((AnswerKind::Datagram, ports, None, Some(payload_len))))
        }
        TransportSlice::Tcp(tcp) => {
            let kind = match (tcp.syn(), tcp.rst(), tcp.ack()) {
                (false, true, _) => AnswerKind::Reset,
                (true, false, true) => AnswerKind::SynAck,
                _ => return Ok(None),
            };
            let ports = [tcp.destination_port(), tcp.source_port()];
            let number = tcp
                .ack()
                .then_some(tcp.acknowledgment_number().wrapping_sub(1));
            Ok(Some((kind, ports, number, None)))
        }
        _ => Ok(None),
    }
}

fn oracle_of_icmp(message: &[u8], is_v6: bool) -> Result<Option<Summary>, ()> {
    let word = |at| u16::from_be_bytes([message[at], message[at + 1]]);
    match (is_v6, message[0]) {
        (false, 0) | (true, 129) => {
            let number = Some(u32::from(word(6)));
            let summary = (
                AnswerKind::Echo,
                [word(4), 0],
                number,
                Some(message.len() - 8),
            );
            Ok(Some(summary))
        }
        (false, 3 | 4 | 11 | 12) | (true, 1..=4) => oracle_of_quote(&message[8..], is_v6).map(Some),
        _ => Ok(None),
    }
}

/// Only whole transport headers are seen by etherparse, and those of first fragments are not.
fn oracle_of_quote(bytes: &[u8], is_v6: bool) -> Result<Summary, ()> {
    let sliced = LaxSlicedPacket::from_ip(bytes).map_err(drop)?;
    match &sliced.net {
        Some(LaxNetSlice::Ipv4(_)) if !is_v6 => {}
        Some(LaxNetSlice::Ipv6(ip)) if is_v6 && ip.header().payload_length() >= 8 => {}
        _ => return Err(()),
    }
    let (ports, number) = match sliced.transport.ok_or(())? {
        TransportSlice::Udp(udp) => ([udp.source_port(), udp.destination_port()], None),
        TransportSlice::Tcp(tcp) => {
            let ports = [tcp.source_port(), tcp.destination_port()];
            (ports, Some(tcp.sequence_number()))
        }
        TransportSlice::Icmpv4(icmp) if !is_v6 => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(echo) => ([echo.id, 0], Some(u32::from(echo.seq))),
            _ => return Err(()),
        },
        TransportSlice::Icmpv6(icmp) if is_v6 => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(echo) => ([echo.id, 0], Some(u32::from(echo.seq))),
            _ => return Err(()),
        },
        _ => return Err(()),
    };
    Ok((AnswerKind::IcmpError, ports, number, None))
}

fn has_old_tag(bytes: &[u8]) -> bool {
    [12, 16, 20]
        .iter()
        .any(|at| bytes.get(*at..at + 2) == Some(&[0x91, 0x00]))
}

/// The one check of mutants: no panic, and no disagreement where the oracle has an opinion.
pub(super) fn check_against_oracle(bytes: &[u8]) {
    let parsed = parse(bytes);
    if let Packet::Answer(answer) = parsed {
        assert!(answer.payload_at + answer.payload_len <= bytes.len());
    }
    let Ok(expected) = oracle(bytes) else { return };
    match (parsed, expected) {
        (Packet::Answer(answer), Some(expected)) => {
            assert_eq!(summary(&answer), expected, "{bytes:02x?}");
        }
        (Packet::Answer(_), None) => panic!("etherparse: no answer: {bytes:02x?}"),
        (_, Some(expected)) => panic!("etherparse: {expected:?}, we: {parsed:?}: {bytes:02x?}"),
        (_, None) => {}
    }
}
