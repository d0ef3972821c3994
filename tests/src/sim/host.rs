//! The far end: takes a request as a host would, by etherparse's reading, and makes the answers
//! that the faults ask for, each with what it really is.

use std::net::IpAddr;

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::PROTOCOL_ICMP;

use super::rng::Rng;
use super::scenario::Faults;

const ETHERNET_LEN: usize = 14;

/// A request as the host sees it.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub source: IpAddr,
    /// Who is asked.
    pub to: IpAddr,
    /// ICMP identifier.
    pub identifier: u16,
    /// ICMP sequence number.
    pub sequence: u16,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// ICMP payload.
    pub payload: Vec<u8>,
}

/// Reads a frame as a strict host: every checksum and length must be right.
pub fn read(frame: &[u8]) -> Result<Request, String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (source, to, hop_limit) = match sliced.net.as_ref().ok_or("no IP header")? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            if header.header_checksum != header.calc_header_checksum() {
                return Err("wrong IPv4 checksum".to_owned());
            }
            (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
                header.time_to_live,
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.hop_limit(),
            )
        }
        NetSlice::Arp(_) => return Err("an ARP packet".to_owned()),
    };
    let (echo, payload) = match (sliced.transport, source, to) {
        (Some(TransportSlice::Icmpv4(icmp)), ..) => {
            if icmp.checksum() != icmp.icmp_type().calc_checksum(icmp.payload()) {
                return Err("wrong ICMP checksum".to_owned());
            }
            let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else {
                return Err("no echo request".to_owned());
            };
            (echo, icmp.payload())
        }
        (Some(TransportSlice::Icmpv6(icmp)), IpAddr::V6(from), IpAddr::V6(to)) => {
            if !icmp.is_checksum_valid(from.octets(), to.octets()) {
                return Err("wrong ICMPv6 checksum".to_owned());
            }
            let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else {
                return Err("no echo request".to_owned());
            };
            (echo, icmp.payload())
        }
        other => return Err(format!("not an ICMP message: {other:?}")),
    };
    Ok(Request {
        source,
        to,
        identifier: echo.id,
        sequence: echo.seq,
        hop_limit,
        payload: payload.to_vec(),
    })
}

/// What an answer really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// The probe's own, with its payload changed at an offset, or not.
    Genuine {
        /// The first changed byte of the payload.
        mismatch_at: Option<u16>,
        /// Time to live or hop limit on arrival.
        hop_limit: u8,
    },
    /// Nobody may take it for an answer.
    Foreign,
}

/// The answers to a request: none, one or more, in any order.
pub fn answers(request: &Request, faults: &Faults, rng: &mut Rng) -> Vec<(Vec<u8>, Nature)> {
    let mut answers = Vec::new();
    if rng.chance(faults.forge) {
        answers.push((forged(request, rng), Nature::Foreign));
    }
    if rng.chance(faults.loss) {
        return answers;
    }
    loop {
        answers.push(answer(request, faults, rng));
        if !rng.chance(faults.duplicate) {
            return answers;
        }
    }
}

/// One honest answer, as it arrives after what the network did to it.
fn answer(request: &Request, faults: &Faults, rng: &mut Rng) -> (Vec<u8>, Nature) {
    let hop_limit = 1 + rng.below(255) as u8;
    let mut payload = request.payload.clone();
    let Prefix {
        cookie_len,
        len: own_len,
        ..
    } = Prefix::of(PROTOCOL_ICMP, payload.len());
    let mut mismatch_at = None;
    if rng.chance(faults.corrupt) && payload.len() > own_len {
        let at = own_len + rng.below((payload.len() - own_len) as u64) as usize;
        payload[at] ^= 1 << rng.below(8);
        mismatch_at = Some(at as u16);
    }
    if rng.chance(faults.resize) {
        let len = own_len + rng.below((payload.len() - own_len) as u64 + 9) as usize;
        if len != payload.len() {
            let at = len.min(payload.len()) as u16;
            mismatch_at = Some(mismatch_at.map_or(at, |first| at.min(first)));
        }
        payload.resize(len, 0x77);
    }
    let mut nature = Nature::Genuine {
        mismatch_at,
        hop_limit,
    };
    if rng.chance(faults.corrupt_cookie) && cookie_len == 8 {
        payload[rng.below(8) as usize] ^= 1 << rng.below(8);
        nature = Nature::Foreign;
    }
    let mut frame = reply(
        request,
        request.identifier,
        request.sequence,
        &payload,
        hop_limit,
    );
    if rng.chance(faults.corrupt_header) && cookie_len == 8 {
        corrupt_header(&mut frame, request.to.is_ipv4(), rng);
        nature = Nature::Foreign;
    }
    (frame, nature)
}

/// Changes one bit of a field without which an answer is not ours: EtherType, version, source
/// address, ICMP type, identifier or sequence.
fn corrupt_header(frame: &mut [u8], is_ipv4: bool, rng: &mut Rng) {
    let icmp_at = ETHERNET_LEN + if is_ipv4 { 20 } else { 40 };
    let source = if is_ipv4 { [26, 29] } else { [22, 37] };
    let (bytes, bits) = match rng.below(6) {
        0 => ([12, 13], [0, 7]),
        1 => ([ETHERNET_LEN as u64; 2], [4, 7]),
        2 => (source, [0, 7]),
        3 => ([icmp_at as u64; 2], [0, 7]),
        4 => ([icmp_at as u64 + 4, icmp_at as u64 + 5], [0, 7]),
        _ => ([icmp_at as u64 + 6, icmp_at as u64 + 7], [0, 7]),
    };
    frame[rng.between(bytes) as usize] ^= 1 << rng.between(bits);
}

/// An answer of somebody who guesses: one thing is wrong.
fn forged(request: &Request, rng: &mut Rng) -> Vec<u8> {
    let mut payload = request.payload.clone();
    let (mut identifier, mut sequence) = (request.identifier, request.sequence);
    let mut from = request.to;
    match rng.below(4) {
        0 => identifier ^= 1 + rng.below(0xffff) as u16,
        1 => sequence = sequence.wrapping_add(1 + rng.below(0xfffe) as u16),
        2 => from = other(from),
        _ => {
            for byte in payload.iter_mut().take(8) {
                *byte = byte.wrapping_add(1 + rng.below(255) as u8);
            }
        }
    }
    let forged = Request {
        to: from,
        payload: Vec::new(),
        ..*request
    };
    reply(&forged, identifier, sequence, &payload, 64)
}

fn other(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => (v4.to_bits() ^ 0x8000_0000).to_be_bytes().into(),
        IpAddr::V6(v6) => (v6.to_bits() ^ (1 << 127)).to_be_bytes().into(),
    }
}

/// The bytes of an echo reply, with all checksums.
fn reply(request: &Request, id: u16, seq: u16, payload: &[u8], hop_limit: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let echo = IcmpEchoHeader { id, seq };
    let len = (payload.len() + 8) as u16;
    let (icmp_type, checksum) = match (request.to, request.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend_from_slice(&[0x08, 0x00]);
            let mut ip = etherparse::Ipv4Header {
                total_len: 20 + len,
                time_to_live: hop_limit,
                protocol: etherparse::IpNumber::ICMP,
                source: from.octets(),
                destination: to.octets(),
                ..Default::default()
            };
            ip.header_checksum = ip.calc_header_checksum();
            frame.extend_from_slice(&ip.to_bytes());
            (0, Icmpv4Type::EchoReply(echo).calc_checksum(payload))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend_from_slice(&[0x86, 0xdd]);
            let ip = etherparse::Ipv6Header {
                payload_length: len,
                next_header: etherparse::IpNumber::IPV6_ICMP,
                hop_limit,
                source: from.octets(),
                destination: to.octets(),
                ..Default::default()
            };
            frame.extend_from_slice(&ip.to_bytes());
            let checksum =
                Icmpv6Type::EchoReply(echo).calc_checksum(from.octets(), to.octets(), payload);
            (129, checksum.expect("a payload of less than 4 GB"))
        }
        (from, to) => unreachable!("from {from} to {to}"),
    };
    frame.extend_from_slice(&[icmp_type, 0]);
    frame.extend_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&seq.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
