//! Frames: against literal bytes, against an independent parser, and against what the matching
//! will look for.

mod answers;

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

/// One flow with all that shapes its frames.
#[derive(Clone, Debug)]
struct Shape {
    destination: Destination,
    source: IpAddr,
    identifier: u16,
}

fn shapes() -> impl Strategy<Value = Shape> {
    use Protocol::{Icmp, Icmp6, Tcp, Tcp6, Udp, Udp6};
    let protocol = prop::sample::select(vec![Icmp, Icmp6, Tcp, Tcp6, Udp, Udp6]);
    let size = prop_oneof![0..40_u16, 40..200_u16, Just(1472), Just(PAYLOAD_MAX as u16)];
    let ttl = prop_oneof![
        any::<u8>().prop_map(Ttl::Fixed),
        any::<NonZeroU8>().prop_map(Ttl::Trace)
    ];
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 1..50));
    (
        (protocol, any::<[u128; 2]>(), size, ttl, data),
        (1..=u16::MAX, any::<u16>(), any::<u8>(), any::<bool>()),
    )
        .prop_map(|((protocol, bits, size, ttl, data), rest)| {
            let (port, identifier, traffic_class, dont_fragment) = rest;
            let [source, address] = bits.map(|bits| match protocol.is_ipv6() {
                true => IpAddr::from(Ipv6Addr::from_bits(bits)),
                false => Ipv4Addr::from_bits(bits as u32).into(),
            });
            let carries = protocol.number() != PROTOCOL_TCP;
            let data = data.filter(|_| carries);
            let room = data.as_ref().map_or(0, |data| data.len() as u16);
            let destination = Destination {
                protocol,
                port: if protocol.has_port() { port } else { 0 },
                size: if carries { size.max(room) } else { 0 },
                ttl,
                data: data.map(Into::into),
                traffic_class,
                dont_fragment,
                ..Destination::echo(address)
            };
            Shape {
                destination,
                source,
                identifier,
            }
        })
}

/// Everything of a frame that etherparse reads, all checksums found right.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    addresses: (IpAddr, IpAddr),
    hop_limit: u8,
    traffic_class: u8,
    /// Always false for IPv6.
    dont_fragment: bool,
    transport: ReadTransport,
    payload: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum ReadTransport {
    /// Identifier, sequence, checksum.
    Echo(u16, u16, u16),
    /// Ports, checksum.
    Udp(u16, u16, u16),
    /// Ports, sequence number, SYN (else RST).
    Tcp(u16, u16, u32, bool),
}

fn read(frame: &[u8]) -> Read {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let mut read = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), frame.len() - ETHERNET_LEN);
            Read {
                addresses: (header.source.into(), header.destination.into()),
                hop_limit: header.time_to_live,
                traffic_class: header.dscp.value() << 2 | header.ecn.value(),
                dont_fragment: header.dont_fragment,
                transport: ReadTransport::Echo(0, 0, 0),
                payload: Vec::new(),
            }
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(
                usize::from(header.payload_length),
                frame.len() - ETHERNET_LEN - 40
            );
            Read {
                addresses: (header.source.into(), header.destination.into()),
                hop_limit: header.hop_limit,
                traffic_class: header.traffic_class,
                dont_fragment: false,
                transport: ReadTransport::Echo(0, 0, 0),
                payload: Vec::new(),
            }
        }
        NetSlice::Arp(_) => panic!("no ARP leaves here"),
    };
    (read.transport, read.payload) = read_transport(sliced.transport.unwrap(), read.addresses);
    read
}

fn read_transport(
    transport: TransportSlice<'_>,
    addresses: (IpAddr, IpAddr),
) -> (ReadTransport, Vec<u8>) {
    match transport {
        TransportSlice::Icmpv4(icmp) => {
            let checksum = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), checksum);
            let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type() else {
                panic!("{icmp:?}")
            };
            let read = ReadTransport::Echo(echo.id, echo.seq, checksum);
            (read, icmp.payload().to_vec())
        }
        TransportSlice::Icmpv6(icmp) => {
            let (IpAddr::V6(source), IpAddr::V6(to)) = addresses else {
                panic!("{addresses:?}")
            };
            assert!(icmp.is_checksum_valid(source.octets(), to.octets()));
            let Icmpv6Type::EchoRequest(echo) = icmp.icmp_type() else {
                panic!("{icmp:?}")
            };
            let read = ReadTransport::Echo(echo.id, echo.seq, icmp.checksum());
            (read, icmp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let checksum = match addresses {
                (IpAddr::V4(source), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(source.octets(), to.octets(), udp.payload())
                }
                (IpAddr::V6(source), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(source.octets(), to.octets(), udp.payload())
                }
                mixed => panic!("{mixed:?}"),
            };
            assert_eq!(Ok(header.checksum), checksum);
            let ports = (header.source_port, header.destination_port);
            let read = ReadTransport::Udp(ports.0, ports.1, header.checksum);
            (read, udp.payload().to_vec())
        }
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let checksum = match addresses {
                (IpAddr::V4(source), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(source.octets(), to.octets(), tcp.payload())
                }
                (IpAddr::V6(source), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(source.octets(), to.octets(), tcp.payload())
                }
                mixed => panic!("{mixed:?}"),
            };
            assert_eq!(Ok(header.checksum), checksum);
            assert!(header.syn != header.rst && !header.ack && !header.fin && !header.psh);
            assert_eq!(header.acknowledgment_number, 0);
            let ports = (header.source_port, header.destination_port);
            let number = header.sequence_number;
            let read = ReadTransport::Tcp(ports.0, ports.1, number, header.syn);
            (read, tcp.payload().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

/// What the kernel program is told to find behind a probe's own bytes.
fn behind_prefix(destination: &Destination, payload: &[u8]) -> Range<usize> {
    Prefix::of(destination.protocol.number(), payload.len()).len..payload.len()
}

/// What must be true of a probe's frame.
fn check(shape: &Shape, flow: u32, frame: &[u8], sequence: u64, cookie: u64) {
    let Shape {
        destination,
        source,
        identifier,
    } = shape;
    let read = read(frame);
    assert_eq!(read.addresses, (*source, destination.address));
    assert_eq!(read.hop_limit, destination.ttl.of(sequence));
    assert_eq!(read.traffic_class, destination.traffic_class);
    let v4 = destination.address.is_ipv4();
    assert_eq!(read.dont_fragment, v4 && destination.dont_fragment);
    assert_eq!(read.payload.len(), usize::from(destination.size));

    let flow_check = flow_check(SECRET, flow);
    let prefix = Prefix::of(destination.protocol.number(), read.payload.len());
    match read.transport {
        ReadTransport::Echo(id, seq, checksum) => {
            assert_eq!((id, seq), (*identifier, sequence as u16));
            if prefix.balance_at.is_some() {
                assert_eq!(checksum, flow_check);
            }
        }
        ReadTransport::Udp(from, to, checksum) => {
            assert_eq!((from, to), (*identifier, destination.port));
            if let Some(at) = prefix.sequence_at {
                assert_eq!(checksum, udp_checksum(flow_check, sequence));
                let low = udp_sequence(flow_check, checksum);
                assert_eq!(low, Some(sequence as u16 & 0x7fff));
                assert_eq!(read.payload[at..at + 2], (sequence as u16).to_be_bytes());
            }
        }
        ReadTransport::Tcp(from, to, number, syn) => {
            assert_eq!((from, to, syn), (*identifier, destination.port, true));
            assert_eq!(number, tcp_number(flow_check, cookie, sequence));
            assert_eq!(tcp_sequence(flow_check, number), sequence as u16);
        }
    }
    let cookie_at = prefix.cookie_at..prefix.cookie_at + prefix.cookie_len;
    let cookie = &cookie.to_le_bytes()[..prefix.cookie_len];
    assert_eq!(read.payload[cookie_at], *cookie);
    let behind = behind_prefix(destination, &read.payload);
    let payloads = Payloads::of(std::slice::from_ref(destination));
    let expected = payloads.arrays()[usize::from(payloads.index(0))].as_bytes();
    assert_eq!(read.payload[behind.clone()], expected[behind]);
}

fn prepare(shapes: &[Shape]) -> Frames {
    let destinations: Vec<_> = shapes.iter().map(|s| s.destination.clone()).collect();
    let identifiers: Vec<_> = shapes.iter().map(|s| s.identifier).collect();
    let source = |flow: FlowIndex| shapes[flow.0 as usize].source;
    Frames::prepare(&destinations, &identifiers, SECRET, source)
}

proptest! {
    #[test]
    fn etherparse_reads_what_was_meant(
        shapes in prop::collection::vec(shapes(), 1..6), sequence: u64, cookie: u64,
    ) {
        let frames = prepare(&shapes);
        for (index, shape) in (0..).zip(&shapes) {
            let destination = &shape.destination;
            let head = head_of(destination.address);
            let frame = written(&frames, |buffer| {
                frames.write(FlowIndex(index), head, sequence, cookie, buffer)
            });
            prop_assert_eq!(frame.len(), frame_len(destination.protocol, destination.size));
            check(shape, index, &frame, sequence, cookie);
            if destination.protocol.number() == PROTOCOL_TCP {
                let reset = written(&frames, |buffer| {
                    frames.write_reset(FlowIndex(index), head, sequence, cookie, buffer)
                });
                let (syn, reset) = (read(&frame), read(&reset));
                let ReadTransport::Tcp(from, to, number, true) = syn.transport else {
                    panic!("{syn:?}");
                };
                let transport = ReadTransport::Tcp(from, to, number.wrapping_add(1), false);
                let hop_limit = match destination.ttl {
                    Ttl::Fixed(ttl) => ttl,
                    Ttl::Trace(last) => last.get(),
                };
                prop_assert_eq!(reset, Read { transport, hop_limit, ..syn });
            }
        }
    }

    #[test]
    fn another_source_address_makes_the_frame_that_it_would_have_been(
        shape in shapes(), other in shapes(), sequence: u64,
    ) {
        prop_assume!(shape.source.is_ipv4() == other.source.is_ipv4());
        let other = Shape { source: other.source, ..shape.clone() };
        let mut frames = prepare(std::slice::from_ref(&shape));
        frames.readdress(FlowIndex(0), &shape.destination, other.source, shape.identifier);
        let fresh = prepare(std::slice::from_ref(&other));
        let head = head_of(other.source);
        let write = |frames: &Frames| written(frames, |buffer| {
            frames.write(FlowIndex(0), head, sequence, COOKIE, buffer)
        });
        prop_assert_eq!(write(&frames), write(&fresh));
    }

    /// What routers hash to choose a path stays: "Paris traceroute".
    #[test]
    fn probes_of_an_icmp_flow_have_one_checksum(
        shape in shapes(), sequences: [u64; 2], cookies: [u64; 2],
    ) {
        let has_room = Prefix::of(shape.destination.protocol.number(),
            usize::from(shape.destination.size)).balance_at.is_some();
        prop_assume!(!shape.destination.protocol.has_port() && has_room);
        let frames = prepare(std::slice::from_ref(&shape));
        let head = head_of(shape.source);
        let checksums = [0, 1].map(|probe| {
            let frame = written(&frames, |buffer| {
                frames.write(FlowIndex(0), head, sequences[probe], cookies[probe], buffer)
            });
            let at = transport_at(shape.destination.protocol) + echo::CHECKSUM_AT;
            [frame[at], frame[at + 1]]
        });
        prop_assert_eq!(checksums[0], checksums[1]);
    }
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
