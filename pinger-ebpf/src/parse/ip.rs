//! The IP header of a packet, or of one that an ICMP error quotes: where it is, and what follows.

use super::{Cursor, Refusal, read};
use crate::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};

/// Where an IP header lies and what follows it. What else it says is read when it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Offset of the header in the packet.
    pub at: usize,
    /// IPv6, or else IPv4.
    pub is_v6: bool,
    /// IANA number of what follows: TCP, UDP, or ICMP of the family.
    pub protocol: u8,
    /// Offset of what follows options and extension headers.
    pub transport_at: usize,
    /// Length of what follows, as the header tells it: at least 8, unless it is a quote.
    pub len: usize,
}

/// Whose header it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The packet's own.
    Outer,
    /// One that an ICMP error quotes, which may end early and be changed on its way.
    Quoted,
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

const IPV4_MIN_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// What the shortest of ICMP, UDP and TCP has.
const TRANSPORT_MIN_LEN: usize = 8;

/// "More fragments" and the offset in the 16 bits of an IPv4 header that hold them.
const FRAGMENT: u16 = 0x3fff;
/// The offset alone.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The most IPv6 extension headers stepped over: RFC 8200 section 4.1 names each kind once,
/// destination options twice.
pub(super) const EXTENSIONS_MAX: usize = 6;

impl Ip {
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    #[inline(always)]
    pub(super) fn source<C>(&self, packet: &C) -> Result<[u8; 16], Refusal>
    where
        C: Cursor + ?Sized,
    {
        let at = if self.is_v6 { 8 } else { 12 };
        self.address(packet, self.at + at)
    }

    /// Destination address, as [`Ip::source`].
    #[inline(always)]
    pub(super) fn destination<C>(&self, packet: &C) -> Result<[u8; 16], Refusal>
    where
        C: Cursor + ?Sized,
    {
        let at = if self.is_v6 { 24 } else { 16 };
        self.address(packet, self.at + at)
    }

    /// In two words: of 16 bytes that come from two places, the compiler would move each alone.
    #[inline(always)]
    fn address<C>(&self, packet: &C, at: usize) -> Result<[u8; 16], Refusal>
    where
        C: Cursor + ?Sized,
    {
        let [high, low] = if self.is_v6 {
            let high = read(packet, at)?;
            [high, read(packet, at + 8)?].map(u64::from_ne_bytes)
        } else {
            let [a, b, c, d] = read(packet, at)?;
            [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
        };
        let mut address = [0; 16];
        address[..8].copy_from_slice(&high.to_ne_bytes());
        address[8..].copy_from_slice(&low.to_ne_bytes());
        Ok(address)
    }

    /// Hop limit, and traffic class; time to live and type of service.
    #[inline(always)]
    pub(super) fn limit_and_class<C>(&self, packet: &C) -> Result<(u8, u8), Refusal>
    where
        C: Cursor + ?Sized,
    {
        let [version, class] = read(packet, self.at)?;
        let [limit] = read(packet, self.at + if self.is_v6 { 7 } else { 8 })?;
        Ok(if self.is_v6 {
            (limit, version << 4 | class >> 4)
        } else {
            (limit, class)
        })
    }

    /// Offset of the end of what follows the header, all of which must be in the packet.
    #[inline(always)]
    pub(super) fn end<C: Cursor + ?Sized>(&self, packet: &C) -> Result<usize, Refusal> {
        let end = self.transport_at + self.len;
        if packet.size() < end {
            return Err(Refusal::Malformed); // less than the IP header promises
        }
        Ok(end)
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
pub(super) fn v4<C>(packet: &C, at: usize, place: Place) -> Result<Ip, Refusal>
where
    C: Cursor + ?Sized,
{
    let header: [u8; IPV4_MIN_LEN] = read(packet, at)?;
    let protocol = header[9];
    let is_wanted = matches!(protocol, PROTOCOL_ICMP | PROTOCOL_UDP | PROTOCOL_TCP);
    if !is_wanted || header[0] >> 4 != 4 {
        return Err(Refusal::NotOurs);
    }
    // Probes and their answers are never fragments; what is quoted of a probe that was cut on its
    // way is its first piece.
    let fragment = match place {
        Place::Outer => FRAGMENT,
        Place::Quoted => FRAGMENT_OFFSET,
    };
    if u16::from_be_bytes([header[6], header[7]]) & fragment != 0 {
        return Err(Refusal::NotOurs);
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_MIN_LEN {
        return Err(Refusal::Malformed);
    }
    let len = total_len.saturating_sub(header_len);
    if place == Place::Outer && len < TRANSPORT_MIN_LEN {
        return Err(Refusal::Malformed);
    }
    Ok(Ip {
        at,
        is_v6: false,
        protocol,
        transport_at: at + header_len,
        len,
    })
}

/// RFC 8200 section 3 and 4.
#[inline(always)]
pub(super) fn v6<C>(packet: &C, at: usize, place: Place) -> Result<Ip, Refusal>
where
    C: Cursor + ?Sized,
{
    let header: [u8; IPV6_LEN] = read(packet, at)?;
    if header[0] >> 4 != 6 {
        return Err(Refusal::NotOurs);
    }
    let mut next = header[6];
    let mut remaining = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut transport_at = at + IPV6_LEN;
    for _ in 0..EXTENSIONS_MAX {
        let Some(len) = extension(packet, transport_at, &mut next, place)? else {
            break;
        };
        if remaining < len {
            return Err(Refusal::Malformed);
        }
        remaining -= len;
        transport_at += len;
    }
    if !matches!(next, PROTOCOL_ICMP6 | PROTOCOL_UDP | PROTOCOL_TCP) {
        return Err(Refusal::NotOurs);
    }
    if remaining < TRANSPORT_MIN_LEN {
        return Err(Refusal::Malformed);
    }
    Ok(Ip {
        at,
        is_v6: true,
        protocol: next,
        transport_at,
        len: remaining,
    })
}

/// Length of the extension header at `at`, whose number is `next`, and puts the number of what
/// follows it there; `None` if it is no extension header.
#[inline(always)]
fn extension<C>(
    packet: &C,
    at: usize,
    next: &mut u8,
    place: Place,
) -> Result<Option<usize>, Refusal>
where
    C: Cursor + ?Sized,
{
    let len = match *next {
        extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION_OPTIONS => {
            let [following, length] = read(packet, at)?;
            *next = following;
            (usize::from(length) + 1) * 8
        }
        extension::AUTHENTICATION => {
            let [following, length] = read(packet, at)?;
            *next = following;
            (usize::from(length) + 2) * 4
        }
        extension::FRAGMENT => {
            let [following, _, high, low] = read(packet, at)?;
            // Only an "atomic" fragment, RFC 6946, is whole: no offset and no more to come. What
            // is quoted may be the first piece.
            let more = u8::from(place == Place::Outer);
            if high != 0 || low & (0xf8 | more) != 0 {
                return Err(Refusal::NotOurs);
            }
            *next = following;
            8
        }
        _ => return Ok(None),
    };
    Ok(Some(len))
}
