//! From the bytes of a returning packet to what they say, if it may be an answer to a probe.
//!
//! Ethernet with up to two VLAN tags; then `ip` (IPv4 with options, IPv6 with the common extension
//! headers), `transport` (what a destination answers itself) and `quote` (what any router says of
//! a probe). Generic over a bounds-checked [`Cursor`], so the same code runs in the kernel over
//! packet memory and on the host over slices. Reads only; never panics.
//!
//! Checksums are not looked at: a local kernel leaves those of what it sends over veth to hardware
//! that is not there.

mod ip;
mod quote;
mod transport;

use crate::layout::{AnswerKind, FlowKey};

pub use ip::Ip;
pub use quote::{error, is_error};
pub use transport::{ICMP_ECHO_REPLY, ICMP6_ECHO_REPLY, direct};

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
    /// An answer, perhaps to a probe of ours.
    Answer(Answer),
}

/// Why a packet is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As [`Packet::Malformed`].
    Malformed,
    /// As [`Packet::NotOurs`].
    NotOurs,
}

/// An answer as found on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What kind of packet it is.
    pub kind: AnswerKind,
    /// The flow that it answers, if there is such a flow.
    pub key: FlowKey,
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    pub responder: [u8; 16],
    /// Time to live or hop limit on arrival.
    pub hop_limit: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// ICMP type; zero unless it is an ICMP message.
    pub icmp_type: u8,
    /// ICMP code; zero unless it is an ICMP message.
    pub icmp_code: u8,
    /// ICMP: the probe's sequence number. TCP: its initial sequence number. `None` where the
    /// headers name neither.
    pub number: Option<u32>,
    /// Checksum of ICMP, UDP or TCP that an ICMP error quotes; else zero.
    pub checksum: u16,
    /// Offset in the packet of the payload that came back, or of what is quoted of it.
    pub payload_at: usize,
    /// Length of that, as the headers tell it; all of it is in the packet.
    pub payload_len: usize,
}

impl Answer {
    /// Whether a whole payload comes back with it.
    #[inline(always)]
    pub fn has_payload(&self) -> bool {
        matches!(self.kind, AnswerKind::Echo | AnswerKind::Datagram)
    }
}

/// EtherTypes: IEEE 802.1Q, 802.1ad, and IANA's "IEEE 802 numbers".
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const SERVICE_VLAN: u16 = 0x88a8;
}

const ETHERNET_LEN: usize = 14;
const VLAN_TAG_LEN: usize = 4;

/// The most VLAN tags stepped over: a customer's and a provider's.
const VLAN_TAGS_MAX: usize = 2;

/// Says what the packet is: [`headers`], and then [`error`] or [`direct`].
#[inline(always)]
pub fn parse<C: Cursor + ?Sized>(packet: &C) -> Packet {
    let answer = headers(packet).and_then(|ip| {
        if is_error(packet, &ip) {
            error(packet, &ip)
        } else {
            direct(packet, &ip)
        }
    });
    match answer {
        Ok(answer) => Packet::Answer(answer),
        Err(Refusal::NotOurs) => Packet::NotOurs,
        Err(Refusal::Malformed) => Packet::Malformed,
    }
}

/// Where the IP header of a packet is and what follows it.
///
/// # Errors
///
/// If the packet cannot be an answer, by these headers.
#[inline(always)]
pub fn headers<C: Cursor + ?Sized>(packet: &C) -> Result<Ip, Refusal> {
    match network_header(packet)? {
        (ethertype::IPV4, at) => ip::v4(packet, at, ip::Place::Outer),
        (ethertype::IPV6, at) => ip::v6(packet, at, ip::Place::Outer),
        _ => Err(Refusal::NotOurs),
    }
}

/// EtherType and offset of what the frame carries behind its VLAN tags; that of a further tag if
/// it has more than we step over.
#[inline(always)]
fn network_header<C: Cursor + ?Sized>(packet: &C) -> Result<(u16, usize), Refusal> {
    let mut ethertype = read_u16(packet, ETHERNET_LEN - 2)?;
    let mut at = ETHERNET_LEN;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype != ethertype::VLAN && ethertype != ethertype::SERVICE_VLAN {
            break;
        }
        ethertype = read_u16(packet, at + 2)?;
        at += VLAN_TAG_LEN;
    }
    Ok((ethertype, at))
}

/// What must be there for the packet to be whole.
#[inline(always)]
fn read<C, const N: usize>(packet: &C, at: usize) -> Result<[u8; N], Refusal>
where
    C: Cursor + ?Sized,
{
    packet.read(at).ok_or(Refusal::Malformed)
}

#[inline(always)]
fn read_u16<C: Cursor + ?Sized>(packet: &C, at: usize) -> Result<u16, Refusal> {
    read(packet, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests;
