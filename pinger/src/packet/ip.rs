//! IP headers, RFC 791 section 3.1 and RFC 8200 section 3: both versions behind one face.

use std::net::IpAddr;

use super::checksum;
use crate::destination::Destination;

/// Bytes of an IPv4 header without options.
const V4_LEN: usize = 20;
/// Bytes of an IPv6 header without extensions.
const V6_LEN: usize = 40;

/// Bytes of a header.
pub(super) fn header_len(ipv6: bool) -> usize {
    if ipv6 { V6_LEN } else { V4_LEN }
}

/// Writes the header of a probe into `packet`, which ends with the probe and is zero; the hop
/// limit is that of the first probe.
///
/// # Panics
///
/// If `source` is of another family than the destination; that would be a bug of ours.
pub(super) fn prepare(packet: &mut [u8], destination: &Destination, source: IpAddr) {
    let class = destination.traffic_class;
    let protocol = destination.protocol.number();
    match (source, destination.address) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            const DONT_FRAGMENT: u8 = 0x40;
            packet[0] = 0x45;
            packet[1] = class;
            // Identification zero: RFC 6864 allows it where nothing is fragmented. Where routers
            // may do that, fragments of two probes could be mixed up; they would not pass for a
            // probe then, the checksum being over the whole.
            if destination.dont_fragment {
                packet[6] = DONT_FRAGMENT;
            }
            packet[9] = protocol;
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&to.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            packet[0] = 0x60 | class >> 4;
            packet[1] = class << 4;
            packet[6] = protocol;
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
        (source, to) => unreachable!("source {source} for destination {to}"),
    }
    finish(packet, destination.ttl.of(0));
}

/// Makes a written header that of `packet`, which ends with the probe: length, hop limit and,
/// for IPv4, the checksum.
pub(super) fn finish(packet: &mut [u8], hop_limit: u8) {
    let len = packet.len();
    if is_ipv6(packet) {
        packet[4..6].copy_from_slice(&((len - V6_LEN) as u16).to_be_bytes());
        packet[7] = hop_limit;
    } else {
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[8] = hop_limit;
        packet[10..12].fill(0);
        let checksum = checksum::finish(checksum::sum(&packet[..V4_LEN]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Changes the hop limit of a finished header, and for IPv4 the checksum with it: RFC 1624,
/// equation 3.
pub(super) fn set_hop_limit(packet: &mut [u8], hop_limit: u8) {
    if is_ipv6(packet) {
        packet[7] = hop_limit;
        return;
    }
    let before = u16::from_be_bytes([packet[10], packet[11]]);
    let [old, new] = [packet[8], hop_limit].map(|ttl| u16::from(ttl) << 8);
    packet[8] = hop_limit;
    let after = checksum::finish(u64::from(!before) + u64::from(!old) + u64::from(new));
    packet[10..12].copy_from_slice(&after.to_be_bytes());
}

/// What the pseudo-header adds to the checksum of the transport (RFC 768, RFC 9293 section 3.1,
/// RFC 8200 section 8.1), of which `packet`'s header is written.
pub(super) fn pseudo_sum(packet: &[u8], transport_len: usize) -> u64 {
    let (addresses, protocol) = if is_ipv6(packet) {
        (&packet[8..40], packet[6])
    } else {
        (&packet[12..20], packet[9])
    };
    checksum::sum(addresses) + transport_len as u64 + u64::from(protocol)
}

fn is_ipv6(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6
}
