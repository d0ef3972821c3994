//! Packets that are no answers: of somebody who guesses, and what the network made of an answer.

use std::net::IpAddr;

use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{PROTOCOL_TCP, PROTOCOL_UDP};

use super::answer::{Nature, Proof, quoting, reply};
use super::host::Request;
use super::rng::Rng;

const ETHERNET_LEN: usize = 14;
const RST: u8 = 0x04;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

/// The one thing that is wrong in a forgery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Identifier,
    Port,
    Address,
    Sequence,
    Cookie,
    /// A TCP segment that acknowledges nothing.
    Unacknowledged,
    QuotedIdentifier,
    QuotedPort,
    QuotedAddress,
    QuotedChecksum,
    QuotedSequence,
    QuotedCookie,
    /// The quote is of something that no probe can be.
    QuotedType,
    /// The quoted probe is made up but for address, identifier and ports.
    QuotedProbe,
}

impl Wrong {
    const ALL: [Self; 14] = [
        Self::Identifier,
        Self::Port,
        Self::Address,
        Self::Sequence,
        Self::Cookie,
        Self::Unacknowledged,
        Self::QuotedIdentifier,
        Self::QuotedPort,
        Self::QuotedAddress,
        Self::QuotedChecksum,
        Self::QuotedSequence,
        Self::QuotedCookie,
        Self::QuotedType,
        Self::QuotedProbe,
    ];

    /// Whether it can be seen in an answer to this probe: short payloads have less to check.
    fn shows(self, request: &Request) -> bool {
        let prefix = Prefix::of(request.protocol, request.payload.len());
        let is_tcp = request.protocol == PROTOCOL_TCP;
        match self {
            Self::Identifier | Self::Address => true,
            Self::QuotedIdentifier | Self::QuotedAddress => true,
            Self::Port | Self::QuotedPort => request.port != 0,
            Self::Unacknowledged => is_tcp,
            Self::QuotedChecksum => prefix.balance_at.is_some(),
            Self::QuotedType => request.port == 0,
            Self::Sequence | Self::Cookie => is_tcp || prefix.cookie_len > 0,
            Self::QuotedSequence | Self::QuotedCookie | Self::QuotedProbe => {
                is_tcp || prefix.cookie_len > 0
            }
        }
    }
}

/// An answer of somebody who guesses: one thing is wrong.
pub(super) fn forged(request: &Request, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let shown = Wrong::ALL.into_iter().filter(|wrong| wrong.shows(request));
    let shown: Vec<_> = shown.collect();
    let wrong = shown[rng.below(shown.len() as u64) as usize];
    if Wrong::ALL[..6].contains(&wrong) {
        forged_reply(request, wrong, rng)
    } else {
        forged_error(request, wrong, rng)
    }
}

fn forged_reply(request: &Request, wrong: Wrong, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let mut forged = request.clone();
    let mut bits = SYN_ACK;
    let other = 1 + rng.below(0xfffe) as u16;
    match wrong {
        Wrong::Identifier => forged.identifier ^= other,
        Wrong::Port => forged.port ^= other,
        Wrong::Address => forged.to = elsewhere(request.to),
        Wrong::Sequence if request.protocol == PROTOCOL_UDP => {
            let sequence = u16::from_be_bytes([forged.payload[0], forged.payload[1]]) ^ other;
            forged.payload[..2].copy_from_slice(&sequence.to_be_bytes());
        }
        Wrong::Sequence => forged.number ^= u32::from(other),
        Wrong::Unacknowledged => bits = if other.is_multiple_of(2) { RST } else { SYN },
        _ => wrong_cookie(request, &mut forged, rng),
    }
    let claimed = (request.protocol == PROTOCOL_TCP && forged.number != request.number)
        .then_some(forged.number);
    (reply(&forged, bits, 64), Nature::Foreign(claimed))
}

fn forged_error(request: &Request, wrong: Wrong, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let ipv4 = request.to.is_ipv4();
    let mut quote = request.packet.clone();
    let at = request.transport_at();
    let prefix = Prefix::of(request.protocol, request.payload.len());
    let payload_at = quote.len() - request.payload.len();
    let is_tcp = request.protocol == PROTOCOL_TCP;
    let is_udp = request.protocol == PROTOCOL_UDP;
    let (identifier_at, checksum_at) = match request.port {
        0 => (at + 4, at + 2),
        _ => (at, at + 6),
    };
    let other = 1 + rng.below(0x7ffe) as u16;
    match wrong {
        Wrong::QuotedIdentifier => mix(&mut quote, identifier_at, other),
        Wrong::QuotedPort => mix(&mut quote, at + 2, other),
        Wrong::QuotedAddress => quote[if ipv4 { 16 } else { 24 }] ^= 0x80,
        // Any UDP checksum with the topmost bit names a probe.
        Wrong::QuotedChecksum if is_udp => quote[checksum_at] &= 0x7f,
        Wrong::QuotedChecksum => mix(&mut quote, checksum_at, other),
        // ICMP's sequence, UDP's checksum and the lower half of TCP's number stand there.
        Wrong::QuotedSequence => mix(&mut quote, at + 6, other),
        Wrong::QuotedCookie if is_tcp => mix(&mut quote, at + 4, other),
        Wrong::QuotedCookie => {
            for byte in &mut quote[payload_at + prefix.cookie_at..][..prefix.cookie_len] {
                *byte = byte.wrapping_add(1 + rng.below(255) as u8);
            }
        }
        Wrong::QuotedType => quote[at] = if ipv4 { 0 } else { 129 },
        _ => {
            let from = if is_tcp { at + 4 } else { at + 6 };
            for byte in &mut quote[from..] {
                *byte = rng.draw() as u8;
            }
            if request.port == 0 {
                mix(&mut quote, checksum_at, rng.draw() as u16);
            }
        }
    }
    let quoted = [4, 5, 6, 7].map(|offset| quote[at + offset]);
    let claimed = u32::from_be_bytes(quoted);
    let claimed = (is_tcp && claimed != request.number).then_some(claimed);
    let icmp = if ipv4 { (11, 0) } else { (3, 0) };
    let frame = quoting(elsewhere(request.to), request.source, icmp, &quote, 64);
    (frame, Nature::Foreign(claimed))
}

/// Changes some bits of a word.
fn mix(bytes: &mut [u8], at: usize, bits: u16) {
    let word = u16::from_be_bytes([bytes[at], bytes[at + 1]]) ^ bits;
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

fn elsewhere(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => (v4.to_bits() ^ 0x8000_0000).to_be_bytes().into(),
        IpAddr::V6(v6) => (v6.to_bits() ^ (1 << 127)).to_be_bytes().into(),
    }
}

/// Changes what of a probe with a cookie comes back of it.
pub(super) fn wrong_cookie(request: &Request, returned: &mut Request, rng: &mut Rng) {
    if request.protocol == PROTOCOL_TCP {
        returned.number ^= (1 + rng.below(0xffff) as u32) << 16;
        return;
    }
    let prefix = Prefix::of(request.protocol, request.payload.len());
    let at = prefix.cookie_at + rng.below(prefix.cookie_len as u64) as usize;
    returned.payload[at] ^= 1 << rng.below(8);
}

/// Changes one bit of a field without which an answer is not ours: EtherType, version, source
/// address, ICMP type, identifier or port; and, where a cookie comes back, sequence.
pub(super) fn corrupt_header(frame: &mut [u8], request: &Request, proof: Proof, rng: &mut Rng) {
    let is_ipv4 = request.to.is_ipv4();
    let at = (ETHERNET_LEN + request.transport_at()) as u64;
    // Where a destination of ours has the source that comes of it, its identifier is another one;
    // flows of ports share theirs.
    let source = match (is_ipv4, request.port == 0) {
        (true, true) => [26, 29],
        (true, false) => [26, 26],
        (false, true) => [22, 37],
        (false, false) => [22, 22],
    };
    let (first, identifier, sequence) = match request.protocol {
        PROTOCOL_UDP => ([at, at + 1], [at + 2, at + 3], [at + 8, at + 9]),
        // Of TCP, what is made of the cookie.
        PROTOCOL_TCP => ([at, at + 1], [at + 2, at + 3], [at + 8, at + 9]),
        _ => ([at, at], [at + 4, at + 5], [at + 6, at + 7]),
    };
    let (bytes, bits) = match rng.below(if proof.is_whole { 6 } else { 5 }) {
        0 => ([12, 13], [0, 7]),
        1 => ([ETHERNET_LEN as u64; 2], [4, 7]),
        2 => (source, [0, 7]),
        3 => (first, [0, 7]),
        4 => (identifier, [0, 7]),
        _ => (sequence, [0, 7]),
    };
    frame[rng.between(bytes) as usize] ^= 1 << rng.between(bits);
}
