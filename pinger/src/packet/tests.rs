//! Frames: against literal bytes, against an independent parser, and against what the matching
//! will look for.

mod answers;
mod drawn;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::ops::Range;

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use pinger_ebpf::identity::{tcp_sequence, udp_sequence};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

const HEAD_V4: [u8; ETHERNET_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
const HEAD_V6: [u8; ETHERNET_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
const COOKIE: u64 = 0x0807_0605_0403_0201;
const SECRET: [u64; 2] = [1, 2];

/// The literal frames were added up by hand for this check; the flow's own depends on SipHash.
const CHECK: u16 = 0x1234;

fn v4(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
}

fn destination(protocol: Protocol, address: IpAddr, size: u16) -> Destination {
    Destination {
        protocol,
        size,
        port: if protocol.has_port() { 443 } else { 0 },
        ..Destination::echo(address)
    }
}

/// The frame of one destination, with [`CHECK`] and identifier 0xabcd.
fn literal(destination: &Destination) -> Frames {
    let source = if destination.address.is_ipv4() {
        v4(1)
    } else {
        v6(1)
    };
    let destinations = std::slice::from_ref(destination);
    let mut frames = Frames::prepare(destinations, &[0xabcd], SECRET, |_| source);
    frames.patches[0].check = CHECK;
    frames
}

fn head_of(to: IpAddr) -> &'static [u8; ETHERNET_LEN] {
    if to.is_ipv4() { &HEAD_V4 } else { &HEAD_V6 }
}

/// What `write` makes of a buffer full of bytes that would show through.
fn written(frames: &Frames, write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut buffer = vec![0xa5; frames.len_max() + 7];
    let len = write(&mut buffer);
    assert!(
        buffer[len..].iter().all(|byte| *byte == 0xa5),
        "nothing behind the frame changes"
    );
    buffer.truncate(len);
    buffer
}

/// Checks the bytes behind the Ethernet header.
fn is(destination: &Destination, sequence: u64, expected: &[&[u8]]) {
    let frames = literal(destination);
    let head = head_of(destination.address);
    let frame = written(&frames, |buffer| {
        frames.write(FlowIndex(0), head, sequence, COOKIE, buffer)
    });
    assert_eq!(frame[..ETHERNET_LEN], *head);
    let expected = expected.concat();
    assert_eq!(
        frame[ETHERNET_LEN..],
        expected,
        "{:02x?}",
        &frame[ETHERNET_LEN..]
    );
}

/// Version and lengths, flow label, payload length, next header, hop limit, addresses.
fn ipv6_header(class: u8, payload_len: u8, next: u8, hops: u8) -> Vec<u8> {
    let mut header = vec![
        0x60 | class >> 4,
        class << 4,
        0,
        0,
        0,
        payload_len,
        next,
        hops,
    ];
    for last in [1, 9] {
        header.extend([
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
        ]);
    }
    header
}

/// By hand, all without the balance: 0x0800 + 0xabcd + 0x0102 + the cookie's 0x0102 + 0x0304 +
/// 0x0506 + 0x0708 + the pattern's 0x0a0b = 0xceee. The wanted checksum 0x1234 takes a sum of
/// 0xedcb: the balance is 0xedcb - 0xceee = 0x1edd.
#[test]
fn an_icmp_echo_request_is_these_bytes() {
    let destination = destination(Protocol::Icmp, v4(9), 12);
    #[rustfmt::skip]
    is(&destination, 0x7_0102, &[
        // Version and length, length 40, don't fragment, time to live 64, ICMP, addresses.
        &[0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0xb6, 0xca],
        &[192, 0, 2, 1, 192, 0, 2, 9],
        // Echo request, checksum, identifier, sequence.
        &[0x08, 0x00, 0x12, 0x34, 0xab, 0xcd, 0x01, 0x02],
        // Cookie, balance, pattern.
        &[1, 2, 3, 4, 5, 6, 7, 8, 0x1e, 0xdd, 10, 11],
    ]);
}

/// By hand: addresses 2 * (0x2001 + 0x0db8) + 1 + 9 = 0x5b7c, length 0x11, next header 0x3a:
/// 0x5bc7. Message 0x8000 + 0xabcd + 0x0102 + cookie 0x1014 + 0x0800 = 0x144e3. Together 0x1a0aa,
/// folded 0xa0ab, so the checksum is 0x5f54: with 9 bytes there is no balance.
#[test]
fn an_icmpv6_echo_request_without_balance_is_these_bytes() {
    let destination = destination(Protocol::Icmp6, v6(9), 9);
    #[rustfmt::skip]
    is(&destination, 0x0102, &[
        &ipv6_header(0, 17, 0x3a, 64),
        &[0x80, 0x00, 0x5f, 0x54, 0xab, 0xcd, 0x01, 0x02],
        &[1, 2, 3, 4, 5, 6, 7, 8, 8],
    ]);
}

/// By hand: the checksum is 0x8000 | (0x0102 ^ 0x1234) = 0x9336, which takes a sum of 0x6cc9.
/// Pseudo-header 0xc000 + 0x0201 + 0xc000 + 0x0209 + 0x11 + 0x14 = 0x1842f, header 0xabcd + 0x01bb
/// and 0x14 = 0xad9c, payload 0x0102 + cookie 0x1014 = 0x1116: 0x242e1, folded 0x42e3. The balance
/// is 0x6cc9 - 0x42e3 = 0x29e6.
#[test]
fn a_udp_datagram_is_these_bytes() {
    let destination = Destination {
        traffic_class: 0xb8,
        dont_fragment: false,
        ttl: Ttl::Trace(NonZeroU8::new(30).unwrap()),
        ..destination(Protocol::Udp, v4(9), 12)
    };
    #[rustfmt::skip]
    is(&destination, 0x0102, &[
        // Sequence 0x102 = 258 of a trace of 30 has time to live 1 + 18 = 0x13. Sum 0x45b8 + 0x28
        // and 0x1311 + 0x1840a = 0x1dcfb, folded 0xdcfc, checksum 0x2303.
        &[0x45, 0xb8, 0x00, 0x28, 0x00, 0x00, 0x00, 0x00, 0x13, 0x11, 0x23, 0x03],
        &[192, 0, 2, 1, 192, 0, 2, 9],
        &[0xab, 0xcd, 0x01, 0xbb, 0x00, 0x14, 0x93, 0x36],
        &[0x01, 0x02, 0x29, 0xe6, 1, 2, 3, 4, 5, 6, 7, 8],
    ]);
}

/// By hand, with 3 bytes of data: addresses 0x5b7c + length 11 + 17 = 0x5b98, header 0xabcd +
/// 0x01bb + 0x0b = 0xad93, data 0x6162 + 0x6300 = 0xc462: 0x1cd8d, folded 0xcd8e, checksum
/// 0x3271.
#[test]
fn a_short_datagram_over_ipv6_is_these_bytes() {
    let destination = Destination {
        traffic_class: 0x1c,
        data: Some(b"abc"[..].into()),
        ttl: Ttl::Fixed(7),
        ..destination(Protocol::Udp6, v6(9), 3)
    };
    #[rustfmt::skip]
    is(&destination, 0x0102, &[
        &ipv6_header(0x1c, 11, 17, 7),
        &[0xab, 0xcd, 0x01, 0xbb, 0x00, 0x0b, 0x32, 0x71],
        b"abc",
    ]);
}

/// By hand: the sequence number is the cookie's low half 0x0201 and 0x0102 ^ 0x1234 = 0x1336.
/// Pseudo-header 0x1840a + 6 + 24 = 0x18428, header 0xabcd + 0x01bb + 0x0201 + 0x1336 + 0x6002 +
/// 0xfaf0 + 0x0204 + 0x05b4 = 0x22569: 0x3a991, folded 0xa994, checksum 0x566b.
#[test]
fn a_syn_is_these_bytes_and_so_is_its_rst() {
    let destination = destination(Protocol::Tcp, v4(9), 0);
    #[rustfmt::skip]
    is(&destination, 0x0102, &[
        &[0x45, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xc1],
        &[192, 0, 2, 1, 192, 0, 2, 9],
        &[0xab, 0xcd, 0x01, 0xbb, 0x02, 0x01, 0x13, 0x36, 0, 0, 0, 0],
        &[0x60, 0x02, 0xfa, 0xf0, 0x56, 0x6b, 0, 0, 2, 4, 0x05, 0xb4],
    ]);
    let frames = literal(&destination);
    let reset = written(&frames, |buffer| {
        frames.write_reset(FlowIndex(0), &HEAD_V4, 0x0102, COOKIE, buffer)
    });
    // Pseudo-header 0x1840a + 6 + 20 = 0x18424, header 0xabcd + 0x01bb + 0x0201 + 0x1337 + 0x5004
    // together 0x112c4: 0x296e8, folded 0x96ea, checksum 0x6915.
    #[rustfmt::skip]
    let expected = [
        &HEAD_V4[..],
        &[0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0xb6, 0xc5],
        &[192, 0, 2, 1, 192, 0, 2, 9],
        &[0xab, 0xcd, 0x01, 0xbb, 0x02, 0x01, 0x13, 0x37, 0, 0, 0, 0],
        &[0x50, 0x04, 0, 0, 0x69, 0x15, 0, 0],
    ].concat();
    assert_eq!(reset, expected, "{reset:02x?}");
}

/// By hand: addresses 0x5b7c + 6 + 24 = 0x5b9a, header 0xabcd + 0x01bb + 0x0201 + 0x1336 + 0x6002
/// and 0xfaf0 + 0x0204 + 0x05a0 = 0x22555: 0x280ef, folded 0x80f1, checksum 0x7f0e. The RST: 0x5b7c
/// and 6 + 20 + 0x112c4 = 0x16e5a, folded 0x6e5b, checksum 0x91a4.
#[test]
fn the_same_over_ipv6() {
    let destination = destination(Protocol::Tcp6, v6(9), 0);
    #[rustfmt::skip]
    is(&destination, 0x0102, &[
        &ipv6_header(0, 24, 6, 64),
        &[0xab, 0xcd, 0x01, 0xbb, 0x02, 0x01, 0x13, 0x36, 0, 0, 0, 0],
        &[0x60, 0x02, 0xfa, 0xf0, 0x7f, 0x0e, 0, 0, 2, 4, 0x05, 0xa0],
    ]);
    let frames = literal(&destination);
    let reset = written(&frames, |buffer| {
        frames.write_reset(FlowIndex(0), &HEAD_V6, 0x0102, COOKIE, buffer)
    });
    #[rustfmt::skip]
    let expected = [
        &HEAD_V6[..],
        &ipv6_header(0, 20, 6, 64),
        &[0xab, 0xcd, 0x01, 0xbb, 0x02, 0x01, 0x13, 0x37, 0, 0, 0, 0],
        &[0x50, 0x04, 0, 0, 0x91, 0xa4, 0, 0],
    ].concat();
    assert_eq!(reset, expected, "{reset:02x?}");
}

#[test]
fn the_largest_size_is_what_the_mtu_leaves() {
    use Protocol::{Icmp, Icmp6, Tcp, Udp, Udp6};
    for (protocol, mtu, expected) in [
        (Icmp, 1500, 1472),
        (Icmp6, 1500, 1452),
        (Udp, 1500, 1472),
        (Udp6, 1500, 1452),
        (Udp, 9000, PAYLOAD_MAX as u16),
        (Icmp6, 40, 0),
        (Tcp, 1500, 1456),
    ] {
        assert_eq!(size_max(protocol, mtu), expected, "{protocol} {mtu}");
    }
}
