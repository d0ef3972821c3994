//! Frames of flows that are drawn, as etherparse reads them.

use super::*;

/// One flow with all that shapes its frames.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) destination: Destination,
    pub(super) source: IpAddr,
    pub(super) identifier: u16,
}

pub(super) fn shapes() -> impl Strategy<Value = Shape> {
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
