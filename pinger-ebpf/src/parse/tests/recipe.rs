//! What a drawn packet is made of, and the packet that etherparse builds of it.

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpAuthHeader, IpFragOffset,
    IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder,
    SingleVlanHeader, VlanId,
};
use proptest::sample::Index;

use crate::layout::{PROTOCOL_ICMP, PROTOCOL_ICMP6};

#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) vlans: Vec<(bool, u16)>,
    pub(super) ip: IpRecipe,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
    pub(super) body: Body,
    pub(super) payload: Vec<u8>,
    pub(super) padding: Vec<u8>,
}

/// An IP header; the peer is who sends a packet, or to whom a quoted one went.
#[derive(Clone, Debug)]
pub(super) enum IpRecipe {
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
pub(super) enum Body {
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
pub(super) struct Quote {
    pub(super) ip: IpRecipe,
    /// 0 ICMP, 1 UDP, 2 TCP, 3 an echo reply, which no probe is.
    pub(super) protocol: u8,
    pub(super) ports: [u16; 2],
    pub(super) number: u32,
    pub(super) payload: Vec<u8>,
    pub(super) cut: Option<Index>,
    pub(super) zeros: usize,
}

impl IpRecipe {
    pub(super) fn is_v6(&self) -> bool {
        matches!(self, Self::V6 { .. })
    }

    pub(super) fn fragment(&self) -> (u16, bool) {
        let (Self::V4 { fragment, .. } | Self::V6 { fragment, .. }) = self;
        fragment.unwrap_or_default()
    }

    pub(super) fn peer(&self) -> [u8; 16] {
        match self {
            Self::V4 { peer, .. } => std::net::Ipv4Addr::from(*peer).to_ipv6_mapped().octets(),
            Self::V6 { peer, .. } => *peer,
        }
    }

    pub(super) fn icmp(&self) -> u8 {
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
    pub(super) fn probe(&self) -> (Vec<u8>, usize) {
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
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (mut bytes, transport_at) = self.probe();
        if let Some(cut) = &self.cut {
            let least = transport_at + 8;
            bytes.truncate(least + cut.index(bytes.len() - least + 1));
        }
        bytes.resize(bytes.len() + self.zeros, 0);
        bytes
    }
}

impl Recipe {
    pub(super) fn build(&self) -> Vec<u8> {
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
