//! Packets that are drawn: mutants of the vectors, and proof that what is told was really said.

use pinger_ebpf::cookie::cookie;
use pinger_ebpf::identity::{Prefix, tcp_number, udp_checksum};
use pinger_ebpf::layout::{
    AnswerKind, Event, Flow, FlowKey, PROTOCOL_TCP, PROTOCOL_UDP, SlotState,
};
use pinger_tests::sim::rng::Rng;
use pinger_tests::vectors::{self, Preset, SETTINGS, Vector};

use crate::loaded::PACKET_LEN;
use crate::pair::{Pair, event_of};

/// How many mutants of the vectors run.
const MUTANTS: u64 = 1_000_000;
/// Replaces the seed, to play a failure again or to try others.
const SEED_VARIABLE: &str = "PINGER_XDP_SEED";

/// A vector with some bytes changed, mostly in the headers, and perhaps another length.
fn mutant(vector: &Vector, rng: &mut Rng) -> Vec<u8> {
    let mut packet = vector.packet.clone();
    for _ in 0..rng.below(4) {
        let reach = if rng.chance(0.7) {
            packet.len().min(110)
        } else {
            packet.len()
        };
        let at = rng.below(reach as u64) as usize;
        packet[at] = match rng.below(3) {
            0 => packet[at] ^ (1 << rng.below(8)),
            1 => rng.draw() as u8,
            _ => [0, 1, 6, 17, 44, 58, 60, 0x45, 0x60, 0x81, 0xff][rng.below(11) as usize],
        };
    }
    if rng.chance(0.2) {
        let len = rng.below(packet.len() as u64 + 40) as usize;
        packet.resize(len.max(*PACKET_LEN.start()), 0);
    }
    packet
}

/// A state of a slot near the one that the packet would meet.
fn random_preset(vector: &Vector, rng: &mut Rng) -> Preset {
    let (flow, near) = vector
        .preset
        .map_or((0, 5), |preset| (preset.flow, preset.state.sequence()));
    let sequence = (near & 0xffff) + 0x1_0000 * rng.below(3) + 8 * rng.below(2);
    let state = match rng.below(7) {
        0 => SlotState::unreported(sequence, 9),
        1 => SlotState::unreported_error(sequence, 9),
        2 => SlotState::new(SlotState::FREE, sequence),
        3 => SlotState::new(SlotState::ANSWERED, sequence),
        4 => SlotState::new(SlotState::EXPIRED, sequence),
        _ => SlotState::new(SlotState::SENT, sequence),
    };
    Preset { flow, state }
}

/// What a packet must contain, wherever, to be told as an answer to this probe: found without the
/// parser. Short of it the program was fooled.
fn proof(event: &Event, key: &FlowKey, flow: &Flow) -> Vec<Vec<u8>> {
    let is_error = event.answer == AnswerKind::IcmpError as u8;
    let [identifier, port] = [key.identifier, key.port].map(u16::to_be_bytes);
    let sequence = (event.sequence as u16).to_be_bytes();
    let cookie = cookie(SETTINGS.secret, flow.index, event.sequence);
    let prefix = Prefix::of(key.protocol, flow.payload_len.into());
    let address = match key.address.strip_prefix(&[0; 10]) {
        Some(mapped) => mapped[2..].to_vec(),
        None => key.address.to_vec(),
    };
    let header = match (key.protocol, is_error) {
        (PROTOCOL_TCP, true) => {
            let number = tcp_number(flow.check, cookie, event.sequence);
            [&identifier[..], &port, &number.to_be_bytes()].concat()
        }
        (PROTOCOL_TCP, false) => {
            let number = tcp_number(flow.check, cookie, event.sequence);
            number.wrapping_add(1).to_be_bytes().to_vec()
        }
        (PROTOCOL_UDP, true) if prefix.sequence_at.is_some() => {
            udp_checksum(flow.check, event.sequence)
                .to_be_bytes()
                .to_vec()
        }
        (PROTOCOL_UDP, true) => [identifier, port].concat(),
        (PROTOCOL_UDP, false) => [port, identifier].concat(),
        (_, true) if prefix.balance_at.is_some() => {
            [flow.check.to_be_bytes(), identifier, sequence].concat()
        }
        _ => [identifier, sequence].concat(),
    };
    let mut proof = vec![address, header];
    if !is_error {
        proof.push(cookie.to_le_bytes()[..prefix.cookie_len].to_vec());
    }
    proof
}

fn check_proof(packet: &[u8], event: &Event, (key, flow): &(FlowKey, Flow), seed: u64) {
    for bytes in proof(event, key, flow) {
        assert!(
            bytes.is_empty() || packet.windows(bytes.len()).any(|window| window == bytes),
            "{SEED_VARIABLE}={seed}: without {bytes:02x?} told as {event:?}: {packet:02x?}"
        );
    }
}

#[test]
fn mutants_come_to_the_same_in_the_kernel_as_on_the_host() {
    let seed = std::env::var(SEED_VARIABLE).map_or(1, |seed| seed.parse().expect("a number"));
    let mut rng = Rng::new(seed);
    let vectors = vectors::all();
    let flows = vectors::flows();
    let mut pair = Pair::new();
    let mut told = 0;
    for number in 0..MUTANTS {
        let vector = &vectors[rng.below(vectors.len() as u64) as usize];
        let packet = mutant(vector, &mut rng);
        if rng.chance(0.3) {
            pair.set(random_preset(vector, &mut rng));
        }
        let outcome = pair.check(&packet, &|| {
            format!("{SEED_VARIABLE}={seed}, mutant {number}: {packet:02x?}")
        });
        if let Some(event) = outcome.event.as_deref().map(event_of) {
            told += 1;
            check_proof(&packet, &event, &flows[event.flow as usize], seed);
        }
    }
    assert!(told > MUTANTS / 50, "only {told} mutants are answers still");
}
