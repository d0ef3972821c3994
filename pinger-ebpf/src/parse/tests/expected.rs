//! What the parser must make of a packet, told by its recipe alone.

use super::recipe::{Body, Quote, Recipe};
use crate::layout::{AnswerKind, FlowKey, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::parse::{Answer, Packet};

impl Quote {
    /// What an error at `at` says of the probe.
    fn expected(&self, mut answer: Answer, at: usize) -> Packet {
        if self.ip.fragment().0 != 0 || self.protocol == 3 {
            return Packet::NotOurs;
        }
        let (probe, transport_at) = self.probe();
        let word = |offset| {
            let at = transport_at + offset;
            u16::from_be_bytes([probe[at], probe[at + 1]])
        };
        let [source, destination] = self.ports;
        let (protocol, [identifier, port], number, checksum) = match self.protocol {
            0 => {
                let number = Some(self.number & 0xffff);
                (self.ip.icmp(), [source, 0], number, word(2))
            }
            1 => (PROTOCOL_UDP, [source, destination], None, word(6)),
            _ => {
                let ports = [source, destination];
                (PROTOCOL_TCP, ports, Some(self.number), 0)
            }
        };
        answer.key = FlowKey {
            address: self.ip.peer(),
            identifier,
            port,
            protocol,
            reserved: 0,
        };
        answer.number = number;
        answer.checksum = checksum;
        answer.payload_at = at + transport_at + 8;
        answer.payload_len = probe.len().min(self.bytes().len()) - transport_at - 8;
        Packet::Answer(answer)
    }
}

impl Recipe {
    /// What the parser must make of it, given the length of the whole frame.
    pub(super) fn expected(&self, len: usize) -> Packet {
        if self.ip.fragment() != (0, false) {
            return Packet::NotOurs;
        }
        let payload_len = match &self.body {
            Body::Error { quote, .. } => quote.bytes().len(),
            _ => self.payload.len(),
        };
        let payload_at = len - self.padding.len() - payload_len;
        let mut answer = Answer {
            kind: AnswerKind::Echo,
            key: FlowKey {
                address: self.ip.peer(),
                identifier: 0,
                port: 0,
                protocol: self.ip.icmp(),
                reserved: 0,
            },
            responder: self.ip.peer(),
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            icmp_type: 0,
            icmp_code: 0,
            number: None,
            checksum: 0,
            payload_at,
            payload_len,
        };
        match &self.body {
            Body::Echo {
                is_reply: false, ..
            } => return Packet::NotOurs,
            Body::Echo { id, sequence, .. } => {
                answer.key.identifier = *id;
                answer.number = Some(u32::from(*sequence));
                answer.icmp_type = if self.ip.is_v6() { 129 } else { 0 };
            }
            Body::Udp([source, destination]) => {
                answer.kind = AnswerKind::Datagram;
                answer.key.protocol = PROTOCOL_UDP;
                [answer.key.port, answer.key.identifier] = [*source, *destination];
            }
            Body::Tcp {
                ports: [source, destination],
                bits,
                acknowledgment,
            } => {
                answer.kind = match bits {
                    [false, true, _] => AnswerKind::Reset,
                    [true, false, true] => AnswerKind::SynAck,
                    _ => return Packet::NotOurs,
                };
                answer.key.protocol = PROTOCOL_TCP;
                [answer.key.port, answer.key.identifier] = [*source, *destination];
                answer.number = bits[2].then_some(acknowledgment.wrapping_sub(1));
                [answer.payload_at, answer.payload_len] = [0, 0];
            }
            Body::Error {
                icmp_type,
                icmp_code,
                quote,
            } => {
                answer.kind = AnswerKind::IcmpError;
                [answer.icmp_type, answer.icmp_code] = [*icmp_type, *icmp_code];
                return quote.expected(answer, payload_at);
            }
        }
        Packet::Answer(answer)
    }
}
