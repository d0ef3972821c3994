//! The parser against an independent one: etherparse builds the packets and judges the mutants.

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpAuthHeader, IpFragOffset,
    IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, LaxNetSlice,
    LaxSlicedPacket, LinkExtSlice, NetSlice, PacketBuilder, SingleVlanHeader, SlicedPacket,
    TransportSlice, VlanId,
};
use proptest::prelude::*;
use proptest::sample::Index;

use super::ip::EXTENSIONS_MAX;
use super::*;
use crate::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP};

/// What a drawn packet is made of.
#[derive(Clone, Debug)]
struct Recipe {
    vlans: Vec<(bool, u16)>,
    ip: IpRecipe,
    hop_limit: u8,
    traffic_class: u8,
    body: Body,
    payload: Vec<u8>,
    padding: Vec<u8>,
}

/// An IP header; the peer is who sends a packet, or to whom a quoted one went.
#[derive(Clone, Debug)]
enum IpRecipe {
    V4 {
        peer: [u8; 4],
        option_words: u8,
        fragment: Option<(u16, bool)>,
    },
    V6 {
        peer: [u8; 16],
        options: Vec<(u8, u8)>,
        fragment: Option<(u16, bool)>,
    },
}

#[derive(Clone, Debug)]
enum Body {
    Echo {
        is_reply: bool,
        id: u16,
        sequence: u16,
    },
    Udp([u16; 2]),
    Tcp {
        ports: [u16; 2],
        /// SYN, RST, ACK.
        bits: [bool; 3],
        acknowledgment: u32,
    },
    Error {
        icmp_type: u8,
        icmp_code: u8,
        quote: Quote,
    },
}

/// What an error quotes: a probe, cut somewhere behind the first 8 bytes of its transport header,
/// then zeros.
#[derive(Clone, Debug)]
struct Quote {
    ip: IpRecipe,
    /// 0 ICMP, 1 UDP, 2 TCP, 3 an echo reply, which no probe is.
    protocol: u8,
    ports: [u16; 2],
    number: u32,
    payload: Vec<u8>,
    cut: Option<Index>,
    zeros: usize,
}

impl IpRecipe {
    fn is_v6(&self) -> bool {
        matches!(self, Self::V6 { .. })
    }

    fn fragment(&self) -> (u16, bool) {
        let (Self::V4 { fragment, .. } | Self::V6 { fragment, .. }) = self;
        fragment.unwrap_or_default()
    }

    fn peer(&self) -> [u8; 16] {
        match self {
            Self::V4 { peer, .. } => std::net::Ipv4Addr::from(*peer).to_ipv6_mapped().octets(),
            Self::V6 { peer, .. } => *peer,
        }
    }

    fn icmp(&self) -> u8 {
        if self.is_v6() {
            PROTOCOL_ICMP6
        } else {
            PROTOCOL_ICMP
        }
    }

    fn headers(&self, hop_limit: u8, traffic_class: u8, is_quote: bool) -> IpHeaders {
        match self {
            Self::V4 {
                peer,
                option_words,
                fragment,
            } => {
                let ours = [192, 0, 2, 1];
                let [from, to] = if is_quote {
                    [ours, *peer]
                } else {
                    [*peer, ours]
                };
                let mut header = Ipv4Header::new(0, hop_limit, IpNumber::ICMP, from, to).unwrap();
                header.dscp = (traffic_class >> 2).try_into().unwrap();
                header.ecn = (traffic_class & 3).try_into().unwrap();
                let options = vec![1; usize::from(*option_words) * 4]; // "no operation"
                header.options = Ipv4Options::try_from(&options[..]).unwrap();
                if let Some((offset, more)) = fragment {
                    header.fragment_offset = IpFragOffset::try_new(*offset).unwrap();
                    header.more_fragments = *more;
                }
                IpHeaders::Ipv4(header, Default::default())
            }
            Self::V6 {
                peer,
                options,
                fragment,
            } => {
                let ours = [0xfd; 16];
                let [source, destination] = if is_quote {
                    [ours, *peer]
                } else {
                    [*peer, ours]
                };
                let header = Ipv6Header {
                    traffic_class,
                    flow_label: Ipv6FlowLabel::try_new(0xf_0f0f).unwrap(),
                    hop_limit,
                    source,
                    destination,
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, extensions(options, *fragment))
            }
        }
    }
}

impl Quote {
    /// The quoted probe as it was sent, and where its transport header begins.
    fn probe(&self) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ip(self.ip.headers(1, 0, true));
        let [source, destination] = self.ports;
        let echo = IcmpEchoHeader {
            id: source,
            seq: self.number as u16,
        };
        let (written, transport_len) = match (self.protocol, self.ip.is_v6()) {
            (1, _) => (
                builder
                    .udp(source, destination)
                    .write(&mut bytes, &self.payload),
                8,
            ),
            (2, _) => {
                let segment = builder.tcp(source, destination, self.number, 9).syn();
                (segment.write(&mut bytes, &self.payload), 20)
            }
            (kind, false) => {
                let message = match kind {
                    0 => Icmpv4Type::EchoRequest(echo),
                    _ => Icmpv4Type::EchoReply(echo),
                };
                (builder.icmpv4(message).write(&mut bytes, &self.payload), 8)
            }
            (kind, true) => {
                let message = match kind {
                    0 => Icmpv6Type::EchoRequest(echo),
                    _ => Icmpv6Type::EchoReply(echo),
                };
                (builder.icmpv6(message).write(&mut bytes, &self.payload), 8)
            }
        };
        written.unwrap();
        let transport_at = bytes.len() - self.payload.len() - transport_len;
        (bytes, transport_at)
    }

    /// What the error carries behind its own header.
    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, transport_at) = self.probe();
        if let Some(cut) = &self.cut {
            let least = transport_at + 8;
            bytes.truncate(least + cut.index(bytes.len() - least + 1));
        }
        bytes.resize(bytes.len() + self.zeros, 0);
        bytes
    }

    /// What an error at `at` says of the probe.
    fn expected(&self, mut answer: Answer, at: usize) -> Packet {
        if self.ip.fragment().0 != 0 || self.protocol == 3 {
            return Packet::NotOurs;
        }
        let (probe, transport_at) = self.probe();
        let word = |offset| {
            let at = transport_at + offset;
            u16::from_be_bytes([probe[at], probe[at + 1]])
        };
        let [source, destination] = self.ports;
        let (protocol, [identifier, port], number, checksum) = match self.protocol {
            0 => {
                let number = Some(self.number & 0xffff);
                (self.ip.icmp(), [source, 0], number, word(2))
            }
            1 => (PROTOCOL_UDP, [source, destination], None, word(6)),
            _ => {
                let ports = [source, destination];
                (PROTOCOL_TCP, ports, Some(self.number), 0)
            }
        };
        answer.key = FlowKey {
            address: self.ip.peer(),
            identifier,
            port,
            protocol,
            reserved: 0,
        };
        answer.number = number;
        answer.checksum = checksum;
        answer.payload_at = at + transport_at + 8;
        answer.payload_len = probe.len().min(self.bytes().len()) - transport_at - 8;
        Packet::Answer(answer)
    }
}

impl Recipe {
    fn build(&self) -> Vec<u8> {
        let mut types: Vec<EtherType> = self
            .vlans
            .iter()
            .map(|(service, _)| {
                if *service {
                    EtherType::PROVIDER_BRIDGING
                } else {
                    EtherType::VLAN_TAGGED_FRAME
                }
            })
            .collect();
        types.push(if self.ip.is_v6() {
            EtherType::IPV6
        } else {
            EtherType::IPV4
        });
        let ethernet = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: types[0],
        };
        let mut bytes = ethernet.to_bytes().to_vec();
        for ((_, id), ether_type) in self.vlans.iter().zip(&types[1..]) {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(*id).unwrap(),
                ether_type: *ether_type,
                ..SingleVlanHeader::default()
            };
            bytes.extend_from_slice(&tag.to_bytes());
        }
        bytes.extend_from_slice(&self.ip_packet());
        bytes.extend_from_slice(&self.padding);
        bytes
    }

    fn ip_packet(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let headers = self.ip.headers(self.hop_limit, self.traffic_class, false);
        let builder = PacketBuilder::ip(headers);
        let is_v6 = self.ip.is_v6();
        let written = match &self.body {
            Body::Echo {
                is_reply,
                id,
                sequence,
            } => {
                let echo = IcmpEchoHeader {
                    id: *id,
                    seq: *sequence,
                };
                match (is_v6, is_reply) {
                    (false, true) => builder
                        .icmpv4(Icmpv4Type::EchoReply(echo))
                        .write(&mut bytes, &self.payload),
                    (false, false) => builder
                        .icmpv4(Icmpv4Type::EchoRequest(echo))
                        .write(&mut bytes, &self.payload),
                    (true, true) => builder
                        .icmpv6(Icmpv6Type::EchoReply(echo))
                        .write(&mut bytes, &self.payload),
                    (true, false) => builder
                        .icmpv6(Icmpv6Type::EchoRequest(echo))
                        .write(&mut bytes, &self.payload),
                }
            }
            Body::Udp([source, destination]) => builder
                .udp(*source, *destination)
                .write(&mut bytes, &self.payload),
            Body::Tcp {
                ports: [source, destination],
                bits: [syn, rst, ack],
                acknowledgment,
            } => {
                let mut segment = builder.tcp(*source, *destination, 1, 2);
                if *syn {
                    segment = segment.syn();
                }
                if *rst {
                    segment = segment.rst();
                }
                if *ack {
                    segment = segment.ack(*acknowledgment);
                }
                segment.write(&mut bytes, &self.payload)
            }
            Body::Error {
                icmp_type,
                icmp_code,
                quote,
            } if is_v6 => builder
                .icmpv6_raw(*icmp_type, *icmp_code, [0; 4])
                .write(&mut bytes, &quote.bytes()),
            Body::Error {
                icmp_type,
                icmp_code,
                quote,
            } => builder
                .icmpv4_raw(*icmp_type, *icmp_code, [0; 4])
                .write(&mut bytes, &quote.bytes()),
        };
        written.unwrap();
        bytes
    }

    /// What the parser must make of it, given the length of the whole frame.
    fn expected(&self, len: usize) -> Packet {
        if self.ip.fragment() != (0, false) {
            return Packet::NotOurs;
        }
        let payload_len = match &self.body {
            Body::Error { quote, .. } => quote.bytes().len(),
            _ => self.payload.len(),
        };
        let payload_at = len - self.padding.len() - payload_len;
        let mut answer = Answer {
            kind: AnswerKind::Echo,
            key: FlowKey {
                address: self.ip.peer(),
                identifier: 0,
                port: 0,
                protocol: self.ip.icmp(),
                reserved: 0,
            },
            responder: self.ip.peer(),
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            icmp_type: 0,
            icmp_code: 0,
            number: None,
            checksum: 0,
            payload_at,
            payload_len,
        };
        match &self.body {
            Body::Echo {
                is_reply: false, ..
            } => return Packet::NotOurs,
            Body::Echo { id, sequence, .. } => {
                answer.key.identifier = *id;
                answer.number = Some(u32::from(*sequence));
                answer.icmp_type = if self.ip.is_v6() { 129 } else { 0 };
            }
            Body::Udp([source, destination]) => {
                answer.kind = AnswerKind::Datagram;
                answer.key.protocol = PROTOCOL_UDP;
                [answer.key.port, answer.key.identifier] = [*source, *destination];
            }
            Body::Tcp {
                ports: [source, destination],
                bits,
                acknowledgment,
            } => {
                answer.kind = match bits {
                    [false, true, _] => AnswerKind::Reset,
                    [true, false, true] => AnswerKind::SynAck,
                    _ => return Packet::NotOurs,
                };
                answer.key.protocol = PROTOCOL_TCP;
                [answer.key.port, answer.key.identifier] = [*source, *destination];
                answer.number = bits[2].then_some(acknowledgment.wrapping_sub(1));
                [answer.payload_at, answer.payload_len] = [0, 0];
            }
            Body::Error {
                icmp_type,
                icmp_code,
                quote,
            } => {
                answer.kind = AnswerKind::IcmpError;
                [answer.icmp_type, answer.icmp_code] = [*icmp_type, *icmp_code];
                return quote.expected(answer, payload_at);
            }
        }
        Packet::Answer(answer)
    }
}

/// Extension headers by drawn numbers: 0 hop-by-hop, 1 destination, 2 routing, 3 final
/// destination, 4 authentication; each with its length in units.
fn extensions(options: &[(u8, u8)], fragment: Option<(u16, bool)>) -> Ipv6Extensions {
    let raw = |units: u8| {
        Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &vec![0; usize::from(units) * 8 + 6])
            .unwrap()
    };
    let mut extensions = Ipv6Extensions::default();
    let (mut last, mut routing) = (None, None);
    for (kind, units) in options {
        match kind {
            0 => extensions.hop_by_hop_options = Some(raw(*units)),
            1 => extensions.destination_options = Some(raw(*units)),
            2 => routing = Some(raw(*units)),
            3 => last = Some(raw(*units)),
            _ => {
                let icv = vec![7; usize::from(*units) * 4];
                extensions.auth = Some(IpAuthHeader::new(IpNumber::IPV6_ICMP, 1, 2, &icv).unwrap());
            }
        }
    }
    // The second destination options need a routing header before them, RFC 8200 section 4.1.
    extensions.routing = routing.map(|routing| Ipv6RoutingExtensions {
        routing,
        final_destination_options: last,
    });
    extensions.fragment = fragment.map(|(offset, more)| {
        let offset = IpFragOffset::try_new(offset).unwrap();
        Ipv6FragmentHeader::new(IpNumber::IPV6_ICMP, offset, more, 99)
    });
    extensions
}

fn fragment() -> impl Strategy<Value = Option<(u16, bool)>> {
    prop_oneof![
        4 => Just(None),
        1 => (0..2_u16, any::<bool>()).prop_map(Some),
        1 => (0..0x2000_u16, any::<bool>()).prop_map(Some),
    ]
}

fn ip_v4() -> impl Strategy<Value = IpRecipe> {
    (any::<[u8; 4]>(), 0..=10_u8, fragment()).prop_map(|(peer, option_words, fragment)| {
        IpRecipe::V4 {
            peer,
            option_words,
            fragment,
        }
    })
}

fn ip_v6() -> impl Strategy<Value = IpRecipe> {
    let options = prop::collection::vec((0..5_u8, 0..4_u8), 0..6);
    (any::<[u8; 16]>(), options, fragment()).prop_map(|(peer, options, fragment)| IpRecipe::V6 {
        peer,
        options,
        fragment,
    })
}

/// A packet's own header, and one to quote.
fn ips() -> impl Strategy<Value = [IpRecipe; 2]> {
    prop_oneof![[ip_v4(), ip_v4()].boxed(), [ip_v6(), ip_v6()].boxed(),]
}

prop_compose! {
    fn quote(ip: IpRecipe)(
        protocol in 0..4_u8,
        ports: [u16; 2],
        number: u32,
        payload in prop::collection::vec(any::<u8>(), 0..40),
        cut in prop::option::of(any::<Index>()),
        zeros in prop_oneof![Just(0), 0..100_usize],
    ) -> Quote {
        Quote { ip: ip.clone(), protocol, ports, number, payload, cut, zeros }
    }
}

fn body(is_v6: bool, quoted: IpRecipe) -> impl Strategy<Value = Body> {
    let icmp_type = if is_v6 {
        prop::sample::select(vec![1_u8, 2, 3, 4])
    } else {
        prop::sample::select(vec![3_u8, 4, 11, 12])
    };
    prop_oneof![
        2 => (prop::bool::weighted(0.8), any::<u16>(), any::<u16>())
            .prop_map(|(is_reply, id, sequence)| Body::Echo { is_reply, id, sequence }),
        1 => any::<[u16; 2]>().prop_map(Body::Udp),
        2 => (any::<[u16; 2]>(), any::<[bool; 3]>(), any::<u32>())
            .prop_map(|(ports, bits, acknowledgment)| Body::Tcp { ports, bits, acknowledgment }),
        4 => (icmp_type, any::<u8>(), quote(quoted))
            .prop_map(|(icmp_type, icmp_code, quote)| Body::Error { icmp_type, icmp_code, quote }),
    ]
}

fn recipe() -> impl Strategy<Value = Recipe> {
    ips().prop_flat_map(|[ip, quoted]| {
        let vlans = prop::collection::vec((any::<bool>(), 0..4096_u16), 0..=2);
        let payload = prop::collection::vec(any::<u8>(), 0..80);
        let padding = prop::collection::vec(any::<u8>(), 0..46);
        let body = body(ip.is_v6(), quoted);
        (vlans, body, any::<[u8; 2]>(), payload, padding).prop_map(
            move |(vlans, body, [hop_limit, traffic_class], payload, padding)| Recipe {
                vlans,
                ip: ip.clone(),
                hop_limit,
                traffic_class,
                body,
                payload,
                padding,
            },
        )
    })
}

/// What both parsers can tell of an answer: its kind, identifier and port, the number, and the
/// length of the payload unless it is a quote.
type Summary = (AnswerKind, [u16; 2], Option<u32>, Option<usize>);

fn summary(answer: &Answer) -> Summary {
    let payload_len = answer.has_payload().then_some(answer.payload_len);
    let ports = [answer.key.identifier, answer.key.port];
    (answer.kind, ports, answer.number, payload_len)
}

/// What etherparse takes the packet for; `None` where it is no answer; `Err` where it does not say
/// or follows another rule than we do.
fn oracle(bytes: &[u8]) -> Result<Option<Summary>, ()> {
    let sliced = SlicedPacket::from_ethernet(bytes).map_err(drop)?;
    let only_vlans = sliced
        .link_exts
        .iter()
        .all(|extension| matches!(extension, LinkExtSlice::Vlan(_)));
    // We step over two tags of IEEE's types; etherparse over three, 0x9100 among them.
    if !only_vlans || sliced.link_exts.len() > VLAN_TAGS_MAX || has_old_tag(bytes) {
        return Err(());
    }
    let is_v6 = match &sliced.net {
        // A payload length of zero is a jumbogram to etherparse, RFC 2675, and nothing to us.
        Some(NetSlice::Ipv6(ip)) if ip.header().payload_length() == 0 => return Err(()),
        Some(NetSlice::Ipv6(_)) => true,
        _ => false,
    };
    match sliced.transport.ok_or(())? {
        TransportSlice::Icmpv4(icmp) if !is_v6 => oracle_of_icmp(icmp.slice(), is_v6),
        TransportSlice::Icmpv6(icmp) if is_v6 => oracle_of_icmp(icmp.slice(), is_v6),
        // Linux takes a length of zero for the rest of the packet, and so does etherparse.
        TransportSlice::Udp(udp) if udp.length() == 0 => Err(()),
        TransportSlice::Udp(udp) => {
            let ports = [udp.destination_port(), udp.source_port()];
            let payload_len = usize::from(udp.length()) - 8;
            Ok(Some((AnswerKind::Datagram, ports, None, Some(payload_len))))
        }
        TransportSlice::Tcp(tcp) => {
            let kind = match (tcp.syn(), tcp.rst(), tcp.ack()) {
                (false, true, _) => AnswerKind::Reset,
                (true, false, true) => AnswerKind::SynAck,
                _ => return Ok(None),
            };
            let ports = [tcp.destination_port(), tcp.source_port()];
            let number = tcp
                .ack()
                .then_some(tcp.acknowledgment_number().wrapping_sub(1));
            Ok(Some((kind, ports, number, None)))
        }
        _ => Ok(None),
    }
}

fn oracle_of_icmp(message: &[u8], is_v6: bool) -> Result<Option<Summary>, ()> {
    let word = |at| u16::from_be_bytes([message[at], message[at + 1]]);
    match (is_v6, message[0]) {
        (false, 0) | (true, 129) => {
            let number = Some(u32::from(word(6)));
            let summary = (
                AnswerKind::Echo,
                [word(4), 0],
                number,
                Some(message.len() - 8),
            );
            Ok(Some(summary))
        }
        (false, 3 | 4 | 11 | 12) | (true, 1..=4) => oracle_of_quote(&message[8..], is_v6).map(Some),
        _ => Ok(None),
    }
}

/// Only whole transport headers are seen by etherparse, and those of first fragments are not.
fn oracle_of_quote(bytes: &[u8], is_v6: bool) -> Result<Summary, ()> {
    let sliced = LaxSlicedPacket::from_ip(bytes).map_err(drop)?;
    match &sliced.net {
        Some(LaxNetSlice::Ipv4(_)) if !is_v6 => {}
        Some(LaxNetSlice::Ipv6(ip)) if is_v6 && ip.header().payload_length() >= 8 => {}
        _ => return Err(()),
    }
    let (ports, number) = match sliced.transport.ok_or(())? {
        TransportSlice::Udp(udp) => ([udp.source_port(), udp.destination_port()], None),
        TransportSlice::Tcp(tcp) => {
            let ports = [tcp.source_port(), tcp.destination_port()];
            (ports, Some(tcp.sequence_number()))
        }
        TransportSlice::Icmpv4(icmp) if !is_v6 => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(echo) => ([echo.id, 0], Some(u32::from(echo.seq))),
            _ => return Err(()),
        },
        TransportSlice::Icmpv6(icmp) if is_v6 => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(echo) => ([echo.id, 0], Some(u32::from(echo.seq))),
            _ => return Err(()),
        },
        _ => return Err(()),
    };
    Ok((AnswerKind::IcmpError, ports, number, None))
}

fn has_old_tag(bytes: &[u8]) -> bool {
    [12, 16, 20]
        .iter()
        .any(|at| bytes.get(*at..at + 2) == Some(&[0x91, 0x00]))
}

/// The one check of mutants: no panic, and no disagreement where the oracle has an opinion.
fn check_against_oracle(bytes: &[u8]) {
    let parsed = parse(bytes);
    if let Packet::Answer(answer) = parsed {
        assert!(answer.payload_at + answer.payload_len <= bytes.len());
    }
    let Ok(expected) = oracle(bytes) else { return };
    match (parsed, expected) {
        (Packet::Answer(answer), Some(expected)) => {
            assert_eq!(summary(&answer), expected, "{bytes:02x?}");
        }
        (Packet::Answer(_), None) => panic!("etherparse: no answer: {bytes:02x?}"),
        (_, Some(expected)) => panic!("etherparse: {expected:?}, we: {parsed:?}: {bytes:02x?}"),
        (_, None) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn finds_what_was_built(recipe in recipe()) {
        let bytes = recipe.build();
        prop_assert_eq!(parse(&bytes[..]), recipe.expected(bytes.len()));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_against_oracle(&bytes);
    }

    #[test]
    fn mutants_are_judged_as_etherparse_does(
        recipe in recipe(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        headers_only: bool,
    ) {
        let mut bytes = recipe.build();
        let reach = if headers_only { bytes.len().min(110) } else { bytes.len() };
        for (index, byte) in changes {
            bytes[index.index(reach)] = byte;
        }
        check_against_oracle(&bytes);
    }

    #[test]
    fn an_answer_cut_anywhere_is_malformed(recipe in recipe()) {
        let bytes = recipe.build();
        let whole @ Packet::Answer(_) = parse(&bytes[..]) else { return Ok(()) };
        for len in 0..bytes.len() {
            let cut = parse(&bytes[..len]);
            if len < bytes.len() - recipe.padding.len() {
                prop_assert_eq!(cut, Packet::Malformed, "of {} bytes", len);
            } else {
                // Only Ethernet's padding is missing.
                prop_assert_eq!(cut, whole);
            }
        }
    }
}

#[test]
fn a_third_vlan_tag_is_not_ours() {
    let mut bytes = vec![0; 12];
    for _ in 0..3 {
        bytes.extend_from_slice(&[0x81, 0x00, 0x00, 0x07]);
    }
    bytes.extend_from_slice(&[0x08, 0x00, 0x45]);
    assert_eq!(parse(&bytes[..]), Packet::NotOurs);
}

#[test]
fn a_seventh_extension_header_is_not_ours() {
    let source = [0xfd; 16];
    for count in 0..10_u8 {
        let mut bytes = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        bytes.extend_from_slice(&(u16::from(count) * 8 + 8).to_be_bytes());
        bytes.push(if count == 0 { PROTOCOL_ICMP6 } else { 60 });
        bytes.push(64);
        bytes.extend_from_slice(&source);
        bytes.extend_from_slice(&source);
        for left in (0..count).rev() {
            let next = if left == 0 { PROTOCOL_ICMP6 } else { 60 };
            bytes.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes.extend_from_slice(&[ICMP6_ECHO_REPLY, 0, 0, 0, 0, 1, 0, 2]);
        let is_reply = matches!(parse(&bytes[..]), Packet::Answer(_));
        assert_eq!(
            is_reply,
            usize::from(count) <= EXTENSIONS_MAX,
            "{count} headers"
        );
    }
}
