//! Frames: against literal bytes, and against an independent parser.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::destination::{Protocol, Ttl};

const HEAD_V4: [u8; ETHERNET_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
const HEAD_V6: [u8; ETHERNET_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
const COOKIE: u64 = 0x0807_0605_0403_0201;

fn destination(address: IpAddr, size: u16, ttl: u8) -> Destination {
    Destination {
        id: 0,
        name: String::new(),
        address,
        protocol: Protocol::echo(address),
        interval_ns: 1,
        timeout_ns: 1,
        size,
        ttl: Ttl::Fixed(ttl),
        ..Destination::echo(address)
    }
}

/// The one frame of one destination, written over bytes that would show through.
fn frame(source: IpAddr, to: IpAddr, size: u16, identifier: u16, sequence: u64) -> Vec<u8> {
    let destinations = [destination(to, size, 64)];
    let frames = Frames::prepare(&destinations, &[identifier], |_| source, &pattern());
    written(&frames, FlowIndex(0), head_of(to), sequence, COOKIE)
}

fn head_of(to: IpAddr) -> &'static [u8; ETHERNET_LEN] {
    if to.is_ipv4() { &HEAD_V4 } else { &HEAD_V6 }
}

fn written(
    frames: &Frames,
    flow: FlowIndex,
    head: &[u8; ETHERNET_LEN],
    sequence: u64,
    cookie: u64,
) -> Vec<u8> {
    let mut buffer = vec![0xa5; frames.len_max() + 7];
    let len = frames.write(flow, head, sequence, cookie, &mut buffer);
    assert!(
        buffer[len..].iter().all(|byte| *byte == 0xa5),
        "nothing behind the frame changes"
    );
    buffer.truncate(len);
    buffer
}

/// Added up by hand: the header's words sum to 0x14935, folded 0x4936, so its checksum is 0xb6ca;
/// the message's sum to 0x3d5e, so its checksum is 0xc2a1.
#[test]
fn an_icmp_echo_request_is_these_bytes() {
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
        // Version and length, length 40, don't fragment, time to live 64, ICMP, addresses.
        0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0xb6, 0xca,
        192, 0, 2, 1, 192, 0, 2, 9,
        // Echo request, checksum, identifier, sequence.
        0x08, 0x00, 0xc2, 0xa1, 0x12, 0x34, 0x01, 0x02,
        // Cookie, pattern.
        1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11,
    ];
    let (source, to) = ([192, 0, 2, 1], [192, 0, 2, 9]);
    let frame = frame(source.into(), to.into(), 12, 0x1234, 0x7_0102);
    assert_eq!(frame, expected);
}

/// Added up by hand: pseudo-header and message sum to 0x0712 when folded, so the checksum is
/// 0xf8ed. The payload's odd last byte counts as 0x0800.
#[test]
fn an_icmpv6_echo_request_is_these_bytes() {
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        // Version, payload length 17, ICMPv6, hop limit 64, addresses.
        0x60, 0x00, 0x00, 0x00, 0x00, 0x11, 0x3a, 0x40,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9,
        // Echo request, checksum, identifier, sequence.
        0x80, 0x00, 0xf8, 0xed, 0x12, 0x34, 0x01, 0x02,
        // Cookie, pattern.
        1, 2, 3, 4, 5, 6, 7, 8, 8,
    ];
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let to: Ipv6Addr = "2001:db8::9".parse().unwrap();
    assert_eq!(frame(source.into(), to.into(), 9, 0x1234, 0x0102), expected);
}

/// What must be true of every frame, by etherparse's reading.
fn check(frame: &[u8], source: IpAddr, to: IpAddr, expected: (u16, u16, u8), payload: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let addresses = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert!(header.dont_fragment && header.time_to_live == expected.2);
            (header.source.into(), header.destination.into())
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(ip.header().hop_limit(), expected.2);
            (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            )
        }
        NetSlice::Arp(_) => panic!("no ARP leaves here"),
    };
    assert_eq!(addresses, (source, to));
    let (echo, found) = match sliced.transport.unwrap() {
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(
                icmp.checksum(),
                icmp.icmp_type().calc_checksum(icmp.payload())
            );
            let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else {
                panic!("{icmp:?}")
            };
            (echo, icmp.payload())
        }
        TransportSlice::Icmpv6(icmp) => {
            let (IpAddr::V6(source), IpAddr::V6(to)) = (source, to) else {
                panic!("{source}")
            };
            assert!(icmp.is_checksum_valid(source.octets(), to.octets()));
            let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else {
                panic!("{icmp:?}")
            };
            (echo, icmp.payload())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((echo.id, echo.seq), (expected.0, expected.1));
    assert_eq!(found, payload);
}

fn expected_payload(size: u16, cookie: u64) -> Vec<u8> {
    let mut payload = pattern().as_bytes()[..usize::from(size)].to_vec();
    if payload.len() >= COOKIE_LEN {
        payload[..COOKIE_LEN].copy_from_slice(&cookie.to_le_bytes());
    }
    payload
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

proptest! {
    #[test]
    fn etherparse_reads_what_was_meant(
        flows in prop::collection::vec(
            (addresses(), prop_oneof![0..200_u16, Just(1472), Just(PAYLOAD_MAX as u16)], any::<u16>()),
            1..6,
        ),
        ttl: u8, sequence: u64, cookie: u64,
    ) {
        let destinations: Vec<_> =
            flows.iter().map(|((_, to), size, _)| destination(*to, *size, ttl)).collect();
        let identifiers: Vec<_> = flows.iter().map(|flow| flow.2).collect();
        let source = |flow: FlowIndex| flows[flow.0 as usize].0.0;
        let frames = Frames::prepare(&destinations, &identifiers, source, &pattern());
        for (index, ((source, to), size, identifier)) in flows.iter().enumerate() {
            let frame = written(&frames, FlowIndex(index as u32), head_of(*to), sequence, cookie);
            prop_assert_eq!(frame.len(), frame_len(*to, *size));
            let payload = expected_payload(*size, cookie);
            check(&frame, *source, *to, (*identifier, sequence as u16, ttl), &payload);
        }
    }

    #[test]
    fn another_source_address_makes_the_frame_that_it_would_have_been(
        (source, to) in addresses(), (other, _) in addresses(), size in 0..100_u16, identifier: u16,
    ) {
        prop_assume!(source.is_ipv4() == other.is_ipv4());
        let destinations = [destination(to, size, 9)];
        let mut frames = Frames::prepare(&destinations, &[identifier], |_| source, &pattern());
        frames.readdress(FlowIndex(0), &destinations[0], other, identifier, &pattern());
        let fresh = Frames::prepare(&destinations, &[identifier], |_| other, &pattern());
        let write = |frames: &Frames| written(frames, FlowIndex(0), head_of(to), 3, COOKIE);
        prop_assert_eq!(write(&frames), write(&fresh));
    }
}

#[test]
fn the_largest_size_is_what_the_mtu_leaves() {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    assert_eq!((size_max(v4, 1500), size_max(v6, 1500)), (1472, 1452));
    assert_eq!(usize::from(size_max(v4, 9000)), PAYLOAD_MAX);
    assert_eq!(size_max(v6, 40), 0);
}
