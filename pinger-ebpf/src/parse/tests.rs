//! The parser against an independent one: etherparse builds the packets and judges the mutants.

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpAuthHeader, IpFragOffset,
    IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, LinkExtSlice,
    NetSlice, PacketBuilder, SingleVlanHeader, SlicedPacket, TransportSlice, VlanId,
};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What a drawn packet is made of.
#[derive(Clone, Debug)]
struct Recipe {
    vlans: Vec<(bool, u16)>,
    ip: IpRecipe,
    hop_limit: u8,
    traffic_class: u8,
    is_reply: bool,
    id: u16,
    sequence: u16,
    payload: Vec<u8>,
    padding: Vec<u8>,
}

#[derive(Clone, Debug)]
enum IpRecipe {
    V4 {
        source: [u8; 4],
        option_words: u8,
        fragment: Option<(u16, bool)>,
    },
    V6 {
        source: [u8; 16],
        options: Vec<(u8, u8)>,
        fragment: Option<(u16, bool)>,
    },
}

impl Recipe {
    fn is_fragment(&self) -> bool {
        let (IpRecipe::V4 { fragment, .. } | IpRecipe::V6 { fragment, .. }) = &self.ip;
        fragment.is_some_and(|(offset, more)| offset != 0 || more)
    }

    fn build(&self) -> Vec<u8> {
        let mut inner = Vec::new();
        let (headers, ethertype) = self.ip_headers();
        let echo = IcmpEchoHeader {
            id: self.id,
            seq: self.sequence,
        };
        let builder = PacketBuilder::ip(headers);
        let written = match (&self.ip, self.is_reply) {
            (IpRecipe::V4 { .. }, true) => builder
                .icmpv4(Icmpv4Type::EchoReply(echo))
                .write(&mut inner, &self.payload),
            (IpRecipe::V4 { .. }, false) => builder
                .icmpv4(Icmpv4Type::EchoRequest(echo))
                .write(&mut inner, &self.payload),
            (IpRecipe::V6 { .. }, true) => builder
                .icmpv6(Icmpv6Type::EchoReply(echo))
                .write(&mut inner, &self.payload),
            (IpRecipe::V6 { .. }, false) => builder
                .icmpv6(Icmpv6Type::EchoRequest(echo))
                .write(&mut inner, &self.payload),
        };
        written.unwrap();
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
        types.push(ethertype);
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
        bytes.extend_from_slice(&inner);
        bytes.extend_from_slice(&self.padding);
        bytes
    }

    fn ip_headers(&self) -> (IpHeaders, EtherType) {
        match &self.ip {
            IpRecipe::V4 {
                source,
                option_words,
                fragment,
            } => {
                let to = [192, 0, 2, 1];
                let mut header =
                    Ipv4Header::new(0, self.hop_limit, IpNumber::ICMP, *source, to).unwrap();
                header.dscp = (self.traffic_class >> 2).try_into().unwrap();
                header.ecn = (self.traffic_class & 3).try_into().unwrap();
                let options = vec![1; usize::from(*option_words) * 4]; // "no operation"
                header.options = Ipv4Options::try_from(&options[..]).unwrap();
                if let Some((offset, more)) = fragment {
                    header.fragment_offset = IpFragOffset::try_new(*offset).unwrap();
                    header.more_fragments = *more;
                }
                (IpHeaders::Ipv4(header, Default::default()), EtherType::IPV4)
            }
            IpRecipe::V6 {
                source,
                options,
                fragment,
            } => {
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: Ipv6FlowLabel::try_new(0xf_0f0f).unwrap(),
                    hop_limit: self.hop_limit,
                    source: *source,
                    destination: [0xfd; 16],
                    ..Ipv6Header::default()
                };
                let extensions = extensions(options, *fragment);
                (IpHeaders::Ipv6(header, extensions), EtherType::IPV6)
            }
        }
    }

    fn expected(&self, len: usize) -> Packet {
        if self.is_fragment() || !self.is_reply {
            return Packet::NotOurs;
        }
        let payload_at = len - self.padding.len() - self.payload.len();
        let (source, protocol, icmp_type) = match &self.ip {
            IpRecipe::V4 { source, .. } => {
                let mapped = std::net::Ipv4Addr::from(*source).to_ipv6_mapped();
                (mapped.octets(), PROTOCOL_ICMP, ICMP_ECHO_REPLY)
            }
            IpRecipe::V6 { source, .. } => (*source, PROTOCOL_ICMP6, ICMP6_ECHO_REPLY),
        };
        Packet::EchoReply(EchoReply {
            source,
            protocol,
            icmp_type,
            icmp_code: 0,
            identifier: self.id,
            sequence: self.sequence,
            hop_limit: self.hop_limit,
            traffic_class: self.traffic_class,
            payload_at,
            payload_len: self.payload.len(),
        })
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
        3 => Just(None),
        1 => (0..4_u16, any::<bool>()).prop_map(Some),
        1 => (0..0x2000_u16, any::<bool>()).prop_map(Some),
    ]
}

fn ip() -> impl Strategy<Value = IpRecipe> {
    let v4 = (any::<[u8; 4]>(), 0..=10_u8, fragment()).prop_map(|(source, words, fragment)| {
        IpRecipe::V4 {
            source,
            option_words: words,
            fragment,
        }
    });
    let options = prop::collection::vec((0..5_u8, 0..4_u8), 0..6);
    let v6 = (any::<[u8; 16]>(), options, fragment()).prop_map(|(source, options, fragment)| {
        IpRecipe::V6 {
            source,
            options,
            fragment,
        }
    });
    prop_oneof![v4, v6]
}

prop_compose! {
    fn recipe()(
        vlans in prop::collection::vec((any::<bool>(), 0..4096_u16), 0..=2),
        ip in ip(),
        hop_limit: u8,
        traffic_class: u8,
        is_reply in prop::bool::weighted(0.8),
        id: u16,
        sequence: u16,
        payload in prop::collection::vec(any::<u8>(), 0..80),
        padding in prop::collection::vec(any::<u8>(), 0..46),
    ) -> Recipe {
        Recipe { vlans, ip, hop_limit, traffic_class, is_reply, id, sequence, payload, padding }
    }
}

/// What etherparse takes the packet for: an echo reply's identifier, sequence and payload; `None`
/// where it is another packet; `Err` where it does not say or follows another rule than we do.
fn oracle(bytes: &[u8]) -> Result<Option<(u16, u16, usize)>, ()> {
    let sliced = SlicedPacket::from_ethernet(bytes).map_err(drop)?;
    let only_vlans = sliced
        .link_exts
        .iter()
        .all(|extension| matches!(extension, LinkExtSlice::Vlan(_)));
    // We step over two tags of IEEE's types; etherparse over three, 0x9100 among them.
    if !only_vlans || sliced.link_exts.len() > VLAN_TAGS_MAX || has_old_tag(bytes) {
        return Err(());
    }
    // A payload length of zero is a jumbogram to etherparse, RFC 2675, and an empty packet to us.
    if let Some(NetSlice::Ipv6(ip)) = &sliced.net
        && ip.header().payload_length() == 0
    {
        return Err(());
    }
    let (kind, wanted, rest, payload) = match sliced.transport.ok_or(())? {
        TransportSlice::Icmpv4(icmp) => {
            let len = icmp.slice().len() - 8;
            (icmp.type_u8(), ICMP_ECHO_REPLY, icmp.bytes5to8(), len)
        }
        TransportSlice::Icmpv6(icmp) => {
            let len = icmp.slice().len() - 8;
            (icmp.type_u8(), ICMP6_ECHO_REPLY, icmp.bytes5to8(), len)
        }
        _ => return Ok(None),
    };
    let id = u16::from_be_bytes([rest[0], rest[1]]);
    let sequence = u16::from_be_bytes([rest[2], rest[3]]);
    Ok((kind == wanted).then_some((id, sequence, payload)))
}

fn has_old_tag(bytes: &[u8]) -> bool {
    [12, 16, 20]
        .iter()
        .any(|at| bytes.get(*at..at + 2) == Some(&[0x91, 0x00]))
}

/// The one check of mutants: no panic, and no disagreement where the oracle has an opinion.
fn check_against_oracle(bytes: &[u8]) {
    let parsed = parse(bytes);
    if let Packet::EchoReply(reply) = parsed {
        assert!(reply.payload_at + reply.payload_len <= bytes.len());
    }
    let Ok(expected) = oracle(bytes) else { return };
    match (parsed, expected) {
        (Packet::EchoReply(reply), Some(expected)) => {
            let ours = (reply.identifier, reply.sequence, reply.payload_len);
            assert_eq!(ours, expected, "{bytes:02x?}");
        }
        (Packet::EchoReply(_), None) => panic!("etherparse: no echo reply: {bytes:02x?}"),
        (_, Some(_)) => panic!("etherparse: an echo reply, we: {parsed:?}: {bytes:02x?}"),
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
        let reach = if headers_only { bytes.len().min(60) } else { bytes.len() };
        for (index, byte) in changes {
            bytes[index.index(reach)] = byte;
        }
        check_against_oracle(&bytes);
    }

    #[test]
    fn a_reply_cut_anywhere_is_malformed(recipe in recipe()) {
        let bytes = recipe.build();
        let Packet::EchoReply(reply) = parse(&bytes[..]) else { return Ok(()) };
        for len in 0..bytes.len() {
            let cut = parse(&bytes[..len]);
            if len < reply.payload_at + reply.payload_len {
                prop_assert_eq!(cut, Packet::Malformed, "of {} bytes", len);
            } else {
                // Only Ethernet's padding is missing.
                prop_assert_eq!(cut, Packet::EchoReply(reply));
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
        let is_reply = matches!(parse(&bytes[..]), Packet::EchoReply(_));
        assert_eq!(
            is_reply,
            usize::from(count) <= EXTENSIONS_MAX,
            "{count} headers"
        );
    }
}
