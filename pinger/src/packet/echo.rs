//! ICMP and ICMPv6 echo requests, RFC 792 and RFC 4443 section 4.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pinger_ebpf::layout::{COOKIE_LEN, PROTOCOL_ICMP, PROTOCOL_ICMP6, Payload};
use zerocopy::IntoBytes;

use super::{ETHERNET_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, Patch, checksum, frame_len};
use crate::destination::Destination;

/// ICMP type of an echo request, RFC 792.
pub const ICMP_ECHO: u8 = 8;
/// ICMPv6 type of an echo request, RFC 4443 section 4.1.
pub const ICMP6_ECHO: u8 = 128;

/// Writes the frame of an echo request with sequence, cookie and checksum zero.
///
/// `source` is of the destination's family; a source of the other one would be a bug of ours.
pub(super) fn prepare(
    frame: &mut [u8],
    destination: &Destination,
    source: IpAddr,
    identifier: u16,
    payload: &Payload,
) -> Patch {
    let len = frame_len(destination.address, destination.size);
    let frame = &mut frame[..len];
    frame.fill(0);
    let icmp_len = ICMP_LEN + usize::from(destination.size);
    let (icmp_type, icmp_at, pseudo) = match (source, destination.address) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            ipv4(
                &mut frame[ETHERNET_LEN..],
                source,
                to,
                destination.ttl.of(0),
            );
            (ICMP_ECHO, ETHERNET_LEN + IPV4_LEN, 0)
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            ipv6(
                &mut frame[ETHERNET_LEN..],
                source,
                to,
                destination.ttl.of(0),
            );
            let pseudo = checksum::sum(&source.octets())
                + checksum::sum(&to.octets())
                + icmp_len as u64
                + u64::from(PROTOCOL_ICMP6);
            (ICMP6_ECHO, ETHERNET_LEN + IPV6_LEN, pseudo)
        }
        (source, to) => unreachable!("source {source} for destination {to}"),
    };
    let has_cookie = usize::from(destination.size) >= COOKIE_LEN;
    let icmp = &mut frame[icmp_at..];
    icmp[0] = icmp_type;
    icmp[4..6].copy_from_slice(&identifier.to_be_bytes());
    let fixed = if has_cookie { COOKIE_LEN } else { 0 };
    icmp[ICMP_LEN + fixed..]
        .copy_from_slice(&payload.as_bytes()[fixed..usize::from(destination.size)]);
    let sum = checksum::fold(pseudo + checksum::sum(icmp));
    Patch {
        len: len as u16,
        icmp_at: icmp_at as u8,
        has_cookie,
        sum,
    }
}

/// RFC 791 section 3.1. "Don't fragment" with identification zero, as RFC 6864 allows.
fn ipv4(packet: &mut [u8], source: Ipv4Addr, to: Ipv4Addr, ttl: u8) {
    const DONT_FRAGMENT: u8 = 0x40;
    let total_len = packet.len() as u16;
    let header = &mut packet[..IPV4_LEN];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[6] = DONT_FRAGMENT;
    header[8] = ttl;
    header[9] = PROTOCOL_ICMP;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = checksum::finish(checksum::sum(header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 8200 section 3.
fn ipv6(packet: &mut [u8], source: Ipv6Addr, to: Ipv6Addr, hop_limit: u8) {
    let payload_len = (packet.len() - IPV6_LEN) as u16;
    let header = &mut packet[..IPV6_LEN];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&payload_len.to_be_bytes());
    header[6] = PROTOCOL_ICMP6;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&to.octets());
}
