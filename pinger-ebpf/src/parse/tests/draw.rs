//! Draws packets to try: answers of every kind, and what is none.

use proptest::prelude::*;
use proptest::sample::Index;

use super::recipe::{Body, IpRecipe, Quote, Recipe};

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

pub(super) fn recipe() -> impl Strategy<Value = Recipe> {
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
