//! The far end as it answers: the packets that come of a probe on a network with faults, each
//! with what it really is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{AnswerKind, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};

use super::forge;
use super::host::Request;
use super::rng::Rng;
use super::scenario::Faults;

const ETHERNET_LEN: usize = 14;

/// What routers quote always of what follows the IP header, RFC 792.
pub(super) const QUOTED_MIN: usize = 8;
/// To how much some routers fill up a short quote, RFC 4884 section 5.
const FILLED_LEN: usize = 128;

const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;

/// What routers say of probes that go no further: unreachable (network, host, port, prohibited),
/// source quench, parameter problem. RFC 792.
const ERRORS_V4: [(u8, u8); 6] = [(3, 0), (3, 1), (3, 3), (3, 13), (4, 0), (12, 0)];
/// The same, and packet too big. RFC 4443.
const ERRORS_V6: [(u8, u8); 6] = [(1, 0), (1, 1), (1, 3), (1, 4), (2, 0), (4, 0)];

/// The way to a destination, and who is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// How many routers are on the way.
    pub routers: u8,
    /// Whether its port is closed.
    pub is_closed: bool,
}

/// What an answer really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// The probe's own, perhaps with its payload changed.
    Genuine(Genuine),
    /// Nobody may take it for an answer. Of TCP, the initial sequence number that it claims.
    Foreign(Option<u32>),
}

/// What a genuine answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Genuine {
    /// What kind of packet it is.
    pub kind: AnswerKind,
    /// ICMP type and code; zero for others.
    pub icmp: (u8, u8),
    /// Who sends it.
    pub responder: IpAddr,
    /// Time to live or hop limit on arrival.
    pub hop_limit: u8,
    /// The first changed byte of the payload.
    pub mismatch_at: Option<u16>,
    /// What it tells of whose it is.
    pub proof: Proof,
}

/// What an answer tells of the probe that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The bits of the sequence.
    pub bits: u16,
    /// Whether all other bits must agree, too: a cookie came back.
    pub is_whole: bool,
}

impl Proof {
    /// That of an answer which returns a probe's payload up to a length; an error's quote, or
    /// all.
    fn of(request: &Request, quoted: Option<usize>) -> Self {
        let prefix = Prefix::of(request.protocol, request.payload.len());
        let cookie_end = prefix.cookie_at + prefix.cookie_len;
        let returned = quoted.unwrap_or(usize::MAX);
        let is_whole = prefix.cookie_len > 0 && returned >= cookie_end;
        match request.protocol {
            PROTOCOL_TCP => Self {
                bits: u16::MAX,
                is_whole: true,
            },
            PROTOCOL_UDP if prefix.sequence_at.is_none() => Self {
                bits: 0,
                is_whole: false,
            },
            PROTOCOL_UDP if quoted.is_some() => Self {
                bits: 0x7fff,
                is_whole,
            },
            _ => Self {
                bits: u16::MAX,
                is_whole,
            },
        }
    }
}

/// The traffic class that an answer with this hop limit has: any, but always the same.
pub fn traffic_class(hop_limit: u8) -> u8 {
    hop_limit.wrapping_mul(37)
}

/// The answers to a probe: none, one or more, in any order.
pub fn answers(
    request: &Request,
    way: Way,
    faults: &Faults,
    rng: &mut Rng,
) -> Vec<(Vec<u8>, Nature)> {
    let mut answers = Vec::new();
    if rng.chance(faults.forge) {
        answers.push(forge::forged(request, rng));
    }
    if rng.chance(faults.loss) {
        return answers;
    }
    loop {
        answers.push(answer(request, way, faults, rng));
        if !rng.chance(faults.duplicate) {
            return answers;
        }
    }
}

/// What comes of one copy of a probe.
fn answer(request: &Request, way: Way, faults: &Faults, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let ipv4 = request.to.is_ipv4();
    if request.hop_limit <= way.routers {
        let exceeded = if ipv4 { (11, 0) } else { (3, 0) };
        return error(
            request,
            router(ipv4, request.hop_limit),
            exceeded,
            faults,
            rng,
        );
    }
    if rng.chance(faults.icmp_error) {
        let known = if ipv4 { ERRORS_V4 } else { ERRORS_V6 };
        let icmp = known[rng.below(known.len() as u64) as usize];
        let router = router(ipv4, 1 + rng.below(255) as u8);
        return error(request, router, icmp, faults, rng);
    }
    if way.is_closed && request.protocol == PROTOCOL_UDP {
        let unreachable = if ipv4 { (3, 3) } else { (1, 4) };
        return error(request, request.to, unreachable, faults, rng);
    }
    direct(request, way.is_closed, faults, rng)
}

fn router(ipv4: bool, number: u8) -> IpAddr {
    if ipv4 {
        Ipv4Addr::new(172, 16, 0, number).into()
    } else {
        Ipv6Addr::from_bits((0xfe << 120) | u128::from(number)).into()
    }
}

/// An ICMP error that quotes the probe, from 8 bytes up to all of it, and perhaps with those
/// fields of the IP header changed that routers and NAT change.
fn error(
    request: &Request,
    responder: IpAddr,
    icmp: (u8, u8),
    faults: &Faults,
    rng: &mut Rng,
) -> (Vec<u8>, Nature) {
    let hop_limit = 1 + rng.below(255) as u8;
    let whole_len = request.packet.len() - request.transport_at();
    let len = match rng.below(3) {
        0 => QUOTED_MIN,
        1 => whole_len,
        _ => rng.between([QUOTED_MIN as u64, whole_len as u64]) as usize,
    };
    let mut quote = request.packet[..request.transport_at() + len].to_vec();
    if rng.chance(faults.change_quotes) {
        change(&mut quote, request.to.is_ipv4(), rng);
        if len == QUOTED_MIN && rng.chance(0.5) {
            quote.resize(FILLED_LEN, 0);
        }
    }
    let nature = Nature::Genuine(Genuine {
        kind: AnswerKind::IcmpError,
        icmp,
        responder,
        hop_limit,
        mismatch_at: None,
        proof: Proof::of(request, Some(len - QUOTED_MIN)),
    });
    (
        quoting(responder, request.source, icmp, &quote, hop_limit),
        nature,
    )
}

/// What a probe's IP header may have become on its way: other class, identification, hop limit,
/// checksum, flow label and source address.
fn change(quote: &mut [u8], ipv4: bool, rng: &mut Rng) {
    let places: &[[usize; 2]] = if ipv4 {
        &[[1, 2], [4, 6], [8, 9], [10, 16]]
    } else {
        &[[1, 4], [7, 24]]
    };
    for [from, to] in places {
        for byte in &mut quote[*from..*to] {
            *byte = rng.draw() as u8;
        }
    }
}

/// One honest answer of the destination, as it arrives after what the network did to it.
fn direct(request: &Request, is_closed: bool, faults: &Faults, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let hop_limit = 1 + rng.below(255) as u8;
    let mut returned = request.clone();
    let payload = &mut returned.payload;
    let own_len = Prefix::of(request.protocol, payload.len()).len;
    let mut mismatch_at = None;
    if rng.chance(faults.corrupt) && payload.len() > own_len {
        let at = own_len + rng.below((payload.len() - own_len) as u64) as usize;
        payload[at] ^= 1 << rng.below(8);
        mismatch_at = Some(at as u16);
    }
    if request.protocol != PROTOCOL_TCP && rng.chance(faults.resize) {
        let len = own_len + rng.below((payload.len() - own_len) as u64 + 9) as usize;
        if len != payload.len() {
            let at = len.min(payload.len()) as u16;
            mismatch_at = Some(mismatch_at.map_or(at, |first| at.min(first)));
        }
        payload.resize(len, 0x77);
    }
    let proof = Proof::of(request, None);
    let (kind, icmp) = match request.protocol {
        PROTOCOL_ICMP => (AnswerKind::Echo, (0, 0)),
        PROTOCOL_ICMP6 => (AnswerKind::Echo, (129, 0)),
        PROTOCOL_TCP if is_closed => (AnswerKind::Reset, (0, 0)),
        PROTOCOL_TCP => (AnswerKind::SynAck, (0, 0)),
        _ => (AnswerKind::Datagram, (0, 0)),
    };
    let mut nature = Nature::Genuine(Genuine {
        kind,
        icmp,
        responder: request.to,
        hop_limit,
        mismatch_at,
        proof,
    });
    if rng.chance(faults.corrupt_cookie) && proof.is_whole {
        forge::wrong_cookie(request, &mut returned, rng);
        nature = Nature::Foreign(None);
    }
    let bits = if is_closed { RST_ACK } else { SYN_ACK };
    let mut frame = reply(&returned, bits, hop_limit);
    if rng.chance(faults.corrupt_header) {
        forge::corrupt_header(&mut frame, request, proof, rng);
        nature = Nature::Foreign(None);
    }
    (frame, nature)
}

/// The bytes of what a destination answers; a TCP segment with these control bits. Checksums are
/// left zero, as a local kernel leaves them to hardware: nobody looks at them.
pub(super) fn reply(request: &Request, bits: u8, hop_limit: u8) -> Vec<u8> {
    let mut transport = Vec::new();
    let words = |words: &[u16]| {
        words
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect::<Vec<_>>()
    };
    match request.protocol {
        PROTOCOL_UDP => {
            let len = (request.payload.len() + 8) as u16;
            transport.extend(words(&[request.port, request.identifier, len, 0]));
        }
        PROTOCOL_TCP => {
            transport.extend(words(&[request.port, request.identifier]));
            transport.extend([1, 2, 3, 4]);
            transport.extend(request.number.wrapping_add(1).to_be_bytes());
            transport.extend([0x50, bits, 0xff, 0xff, 0, 0, 0, 0]);
        }
        protocol => {
            transport.push(if protocol == PROTOCOL_ICMP { 0 } else { 129 });
            transport.extend([0; 3]);
            transport.extend(words(&[request.identifier, request.number as u16]));
        }
    }
    transport.extend(&request.payload);
    packet(
        request.to,
        request.source,
        request.protocol,
        hop_limit,
        &transport,
    )
}

/// The bytes of an ICMP error that quotes this.
pub(super) fn quoting(
    from: IpAddr,
    to: IpAddr,
    (icmp_type, code): (u8, u8),
    quote: &[u8],
    hop_limit: u8,
) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0, 0, 0, 0, 0];
    message.extend(quote);
    let protocol = if from.is_ipv4() {
        PROTOCOL_ICMP
    } else {
        PROTOCOL_ICMP6
    };
    packet(from, to, protocol, hop_limit, &message)
}

/// A frame with an IP packet.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, hop_limit: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_LEN + 40 + transport.len());
    frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let class = traffic_class(hop_limit);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (20 + transport.len() as u16).to_be_bytes();
            frame.extend([0x08, 0x00, 0x45, class, high, low, 0, 0, 0, 0]);
            frame.extend([hop_limit, protocol, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = (transport.len() as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
            frame.extend([high, low, protocol, hop_limit]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (from, to) => unreachable!("from {from} to {to}"),
    }
    frame.extend(transport);
    frame
}
