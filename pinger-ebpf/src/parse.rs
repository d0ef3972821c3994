//! From the bytes of a returning packet to what they say, if it may be an answer to a probe.
//!
//! Ethernet with up to two VLAN tags, IPv4 with options, IPv6 with the common extension headers,
//! ICMP and ICMPv6 echo replies. Generic over a bounds-checked [`Cursor`], so the same code runs
//! in the kernel over packet memory and on the host over slices. Reads only; never panics.

use crate::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6};

/// Bounds-checked access to a packet's bytes.
pub trait Cursor {
    /// The `N` bytes at `offset`, or `None` if the packet ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// How many bytes the packet has.
    fn size(&self) -> usize;
}

impl Cursor for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// What a packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// It ends before its headers say so.
    Malformed,
    /// Something that no probe of ours can have caused.
    NotOurs,
    /// An echo reply, perhaps to a probe of ours.
    EchoReply(EchoReply),
}

/// An echo reply as found on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    pub source: [u8; 16],
    /// IANA protocol number: ICMP or ICMPv6.
    pub protocol: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// ICMP identifier.
    pub identifier: u16,
    /// ICMP sequence number.
    pub sequence: u16,
    /// Time to live or hop limit on arrival.
    pub hop_limit: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// Offset of the ICMP payload in the packet.
    pub payload_at: usize,
    /// Length of the ICMP payload as the IP header tells it; all of it is in the packet.
    pub payload_len: usize,
}

/// EtherTypes: IEEE 802.1Q, 802.1ad, and IANA's "IEEE 802 numbers".
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const SERVICE_VLAN: u16 = 0x88a8;
}

/// Next-header values of the IPv6 extension headers that are stepped over, RFC 8200 section 4
/// and RFC 4302.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

const ETHERNET_LEN: usize = 14;
const VLAN_TAG_LEN: usize = 4;
const IPV4_MIN_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;

/// Type of an ICMP echo reply, RFC 792.
pub const ICMP_ECHO_REPLY: u8 = 0;
/// Type of an ICMPv6 echo reply, RFC 4443 section 4.2.
pub const ICMP6_ECHO_REPLY: u8 = 129;

/// The most VLAN tags stepped over: a customer's and a provider's.
const VLAN_TAGS_MAX: usize = 2;
/// The most IPv6 extension headers stepped over: RFC 8200 section 4.1 names each kind once,
/// destination options twice.
const EXTENSIONS_MAX: usize = 6;

/// Says what the packet is. `None` from a read means that the packet ends too early.
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(packet: &C) -> Packet {
    match network_header(packet) {
        Some(Some((ethertype::IPV4, at))) => ipv4(packet, at).unwrap_or(Packet::Malformed),
        Some(Some((ethertype::IPV6, at))) => ipv6(packet, at).unwrap_or(Packet::Malformed),
        Some(_) => Packet::NotOurs,
        None => Packet::Malformed,
    }
}

/// EtherType and offset of what the frame carries behind its VLAN tags; `Some(None)` if it has
/// more tags than we step over.
#[inline(always)]
fn network_header<C: Cursor + ?Sized>(packet: &C) -> Option<Option<(u16, usize)>> {
    let mut ethertype = u16::from_be_bytes(packet.read(ETHERNET_LEN - 2)?);
    let mut at = ETHERNET_LEN;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype != ethertype::VLAN && ethertype != ethertype::SERVICE_VLAN {
            break;
        }
        ethertype = u16::from_be_bytes(packet.read(at + 2)?);
        at += VLAN_TAG_LEN;
    }
    Some((ethertype == ethertype::IPV4 || ethertype == ethertype::IPV6).then_some((ethertype, at)))
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4<C: Cursor + ?Sized>(packet: &C, at: usize) -> Option<Packet> {
    let header: [u8; IPV4_MIN_LEN] = packet.read(at)?;
    if header[9] != PROTOCOL_ICMP || header[0] >> 4 != 4 {
        return Some(Packet::NotOurs);
    }
    // More fragments, or not the first one: probes and their answers are never fragments.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Some(Packet::NotOurs);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_MIN_LEN || total_len < header_len + ICMP_LEN {
        return None;
    }
    let mut source = [0; 16];
    source[10] = 0xff;
    source[11] = 0xff;
    source[12] = header[12];
    source[13] = header[13];
    source[14] = header[14];
    source[15] = header[15];
    let ip = Ip {
        source,
        protocol: PROTOCOL_ICMP,
        hop_limit: header[8],
        traffic_class: header[1],
    };
    echo_reply(packet, at + header_len, total_len - header_len, ip)
}

/// RFC 8200 section 3 and 4.
#[inline(always)]
fn ipv6<C: Cursor + ?Sized>(packet: &C, at: usize) -> Option<Packet> {
    let header: [u8; IPV6_LEN] = packet.read(at)?;
    if header[0] >> 4 != 6 {
        return Some(Packet::NotOurs);
    }
    let mut next = header[6];
    let mut remaining = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut at = at + IPV6_LEN;
    for _ in 0..EXTENSIONS_MAX {
        let len = match next {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION_OPTIONS => {
                let [following, length] = packet.read(at)?;
                next = following;
                (usize::from(length) + 1) * 8
            }
            extension::AUTHENTICATION => {
                let [following, length] = packet.read(at)?;
                next = following;
                (usize::from(length) + 2) * 4
            }
            extension::FRAGMENT => {
                let [following, _, high, low] = packet.read(at)?;
                // Only an "atomic" fragment, RFC 6946, is whole: no offset and no more to come.
                if high != 0 || low & 0xf9 != 0 {
                    return Some(Packet::NotOurs);
                }
                next = following;
                8
            }
            _ => break,
        };
        if remaining < len {
            return None;
        }
        remaining -= len;
        at += len;
    }
    if next != PROTOCOL_ICMP6 {
        return Some(Packet::NotOurs);
    }
    if remaining < ICMP_LEN {
        return None;
    }
    let mut source = [0; 16];
    source.copy_from_slice(header.get(8..24)?);
    let traffic_class = header[0] << 4 | header[1] >> 4;
    let ip = Ip {
        source,
        protocol: PROTOCOL_ICMP6,
        hop_limit: header[7],
        traffic_class,
    };
    echo_reply(packet, at, remaining, ip)
}

/// What the IP header tells of an echo reply.
#[derive(Clone, Copy)]
struct Ip {
    source: [u8; 16],
    protocol: u8,
    hop_limit: u8,
    traffic_class: u8,
}

/// RFC 792 and RFC 4443 section 4.2; `len` counts from the ICMP header and is at least its length.
#[inline(always)]
fn echo_reply<C: Cursor + ?Sized>(packet: &C, at: usize, len: usize, ip: Ip) -> Option<Packet> {
    let [
        icmp_type,
        icmp_code,
        _,
        _,
        id_high,
        id_low,
        sequence_high,
        sequence_low,
    ]: [u8; ICMP_LEN] = packet.read(at)?;
    let wanted = if ip.protocol == PROTOCOL_ICMP {
        ICMP_ECHO_REPLY
    } else {
        ICMP6_ECHO_REPLY
    };
    if icmp_type != wanted {
        return Some(Packet::NotOurs);
    }
    if packet.size() < at + len {
        return None; // less than the IP header promises
    }
    Some(Packet::EchoReply(EchoReply {
        source: ip.source,
        protocol: ip.protocol,
        icmp_type,
        icmp_code,
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([sequence_high, sequence_low]),
        hop_limit: ip.hop_limit,
        traffic_class: ip.traffic_class,
        payload_at: at + ICMP_LEN,
        payload_len: len - ICMP_LEN,
    }))
}

#[cfg(test)]
mod tests;
