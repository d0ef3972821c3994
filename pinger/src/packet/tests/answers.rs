//! Each frame's answers, made of the frame itself, are known by the kernel program's own parser
//! and matching; those of another run's frames are not.

use pinger_ebpf::cookie::cookie;
use pinger_ebpf::layout::{
    AnswerKind, Event, Flow, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMP6, Settings, SlotState,
};
use pinger_ebpf::matching::{Context, Match};
use pinger_ebpf::parse::{Packet, parse};

use super::drawn::{Shape, shapes};
use super::*;
use crate::flight::AtomicSlot;
use crate::flow::Flows;
use crate::schedule::Schedule;

const RX_NS: u64 = 1_000_000;

/// The only flow of a run with this secret: what the kernel program knows of it, and one frame.
fn probe(shape: &Shape, secret: [u64; 2], sequence: u64) -> (FlowKey, Flow, Vec<u8>) {
    let destinations = vec![shape.destination.clone()];
    let schedule = Schedule::new(&destinations, 0, false);
    let flows = Flows::new(destinations, vec![shape.identifier], secret);
    let (key, flow) = flows.table(&flows.runs(&schedule))[0];
    let frames = flows.frames(|_| shape.source);
    let head = head_of(shape.source);
    let frame = written(&frames, |buffer| {
        let cookie = cookie(secret, 0, sequence);
        frames.write(FlowIndex(0), head, sequence, cookie, buffer)
    });
    (key, flow, frame)
}

/// The frame as its destination sends it back: an echo reply, a datagram or a SYN-ACK.
fn returned(protocol: Protocol, frame: &[u8]) -> Vec<u8> {
    let mut back = frame.to_vec();
    let (source, to, len) = if protocol.is_ipv6() {
        (22, 38, 16)
    } else {
        (26, 30, 4)
    };
    back[source..source + len].copy_from_slice(&frame[to..to + len]);
    back[to..to + len].copy_from_slice(&frame[source..source + len]);
    let at = transport_at(protocol);
    match protocol {
        Protocol::Icmp => back[at] = 0,
        Protocol::Icmp6 => back[at] = 129,
        _ => {
            back[at..at + 2].copy_from_slice(&frame[at + 2..at + 4]);
            back[at + 2..at + 4].copy_from_slice(&frame[at..at + 2]);
        }
    }
    if protocol.number() == PROTOCOL_TCP {
        let number = [4, 5, 6, 7].map(|offset| frame[at + offset]);
        let next = u32::from_be_bytes(number).wrapping_add(1);
        back[at + 8..at + 12].copy_from_slice(&next.to_be_bytes());
        back[at + 13] = 0x12;
    }
    back
}

/// A router's error that quotes the frame up to so many bytes behind the IP header.
fn error(shape: &Shape, frame: &[u8], quoted: usize) -> Vec<u8> {
    let Shape {
        destination,
        source,
        ..
    } = shape;
    let ipv6 = destination.protocol.is_ipv6();
    let quote_end = (transport_at(destination.protocol) + quoted).min(frame.len());
    let quote = &frame[ETHERNET_LEN..quote_end];
    let router = if ipv6 { v6(77) } else { v4(77) };
    let from_router = Destination {
        address: *source,
        protocol: Protocol::echo(*source),
        traffic_class: 0,
        ..Destination::echo(*source)
    };
    let at = transport_at(from_router.protocol);
    let mut packet = head_of(*source).to_vec();
    packet.resize(at, 0);
    // Time exceeded in transit.
    packet.extend(if ipv6 { [3, 0] } else { [11, 0] });
    packet.extend([0; 6]);
    packet.extend(quote);
    ip::prepare(&mut packet[ETHERNET_LEN..], &from_router, router);
    packet
}

/// What the matching makes of a packet for a flow whose only slot holds this probe.
fn matched(packet: &[u8], key: FlowKey, flow: &Flow, secret: [u64; 2], sequence: u64) -> Match {
    let Packet::Answer(answer) = parse(packet) else {
        panic!("no answer: {packet:02x?}")
    };
    assert_eq!(answer.key, key);
    let slot = AtomicSlot::preset(1, SlotState::new(SlotState::SENT, sequence));
    let settings = Settings {
        secret,
        verify: 1,
        log: 0,
    };
    let Some(wire) = answer.sequence(packet, flow) else {
        return Match::Forged;
    };
    let context = Context {
        flow,
        settings: &settings,
        now_ns: RX_NS,
        room: true,
    };
    answer.claim(packet, wire, &slot, context)
}

/// The event must be that of the first answer to the probe.
fn is_reply(found: Match, sequence: u64, kind: AnswerKind) {
    let Match::Told(Event {
        sequence: found,
        kind: event,
        answer,
        rx_ns: RX_NS,
        tx_ns: 1,
        ..
    }) = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((found, event, answer), (sequence, 1, kind as u8));
}

proptest! {
    #[test]
    fn the_matching_knows_its_own(
        shape in shapes(), secret: [u64; 2], other: [u64; 2], sequence in 0..1_u64 << 56,
        quoted in prop_oneof![Just(8_usize), 8..200_usize],
    ) {
        let protocol = shape.destination.protocol;
        let (key, flow, frame) = probe(&shape, secret, sequence);
        let kind = match protocol.number() {
            PROTOCOL_ICMP | PROTOCOL_ICMP6 => AnswerKind::Echo,
            PROTOCOL_TCP => AnswerKind::SynAck,
            _ => AnswerKind::Datagram,
        };
        let back = returned(protocol, &frame);
        is_reply(matched(&back, key, &flow, secret, sequence), sequence, kind);
        let error = error(&shape, &frame, quoted);
        let found = matched(&error, key, &flow, secret, sequence);
        is_reply(found, sequence, AnswerKind::IcmpError);
        // Another run's frame differs in the cookie at least, where there is one.
        let prefix = Prefix::of(protocol.number(), usize::from(shape.destination.size));
        if secret != other && (prefix.cookie_len == 8 || protocol.number() == PROTOCOL_TCP) {
            let (_, _, foreign) = probe(&shape, other, sequence);
            let back = returned(protocol, &foreign);
            prop_assert_eq!(matched(&back, key, &flow, secret, sequence), Match::Forged);
        }
    }
}
