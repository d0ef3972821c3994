//! Messages as the kernel lays them out, whole and cut.

use super::*;

/// Attributes as the kernel lays them out: length, type, value, padding.
fn attributes(list: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in list {
        bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn routes_are_read_from_bytes_and_cut_ones_do_no_harm() {
    let address = IpAddr::from([198, 51, 100, 7]);
    let header = |kind| [2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
    let metrics = attributes(&[(3, &[1, 0, 0, 0]), (RTAX_MTU, &1400_u32.to_ne_bytes())]);
    let list: [(u16, &[u8]); 5] = [
        (libc::RTA_DST, &[198, 51, 100, 7]),
        (libc::RTA_OIF, &3_u32.to_ne_bytes()),
        (libc::RTA_GATEWAY, &[192, 0, 2, 1]),
        (libc::RTA_PREFSRC, &[192, 0, 2, 99]),
        (libc::RTA_METRICS, &metrics),
    ];
    let body = [header(libc::RTN_UNICAST).to_vec(), attributes(&list)].concat();
    let next_hop = IpAddr::from([192, 0, 2, 1]);
    let expected = Route {
        link: 3,
        source: IpAddr::from([192, 0, 2, 99]),
        next_hop,
        mtu: 1400,
    };
    let query = RouteQuery::from(address);
    assert_eq!(route(&query, &body), Ok(expected));
    let source = IpAddr::from([192, 0, 2, 98]);
    let asked = RouteQuery {
        source: Some(source),
        ..query
    };
    assert_eq!(route(&asked, &body), Ok(Route { source, ..expected }));
    for end in 0..body.len() {
        let _ = route(&query, &body[..end]);
    }
    let on_link = [header(libc::RTN_UNICAST).to_vec(), attributes(&list[..2])].concat();
    assert_eq!(route(&query, &on_link), Err(NoRoute::NoSource(address)));
    assert_eq!(
        route(&query, &header(libc::RTN_LOCAL)),
        Err(NoRoute::Local(address))
    );
}

#[test]
fn neighbours_are_usable_or_not_by_their_state() {
    let address = IpAddr::from([192, 0, 2, 10]);
    let mac = [2, 0, 0, 0, 0, 5];
    let state = |kind, state: u16, flags, extended: u32| {
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0, 3, 0, 0, 0];
        body.extend(state.to_ne_bytes());
        body.extend([flags, libc::RTN_UNICAST]);
        let with_mac = state & (libc::NUD_INCOMPLETE | libc::NUD_FAILED) == 0;
        let mut list: Vec<(u16, &[u8])> = vec![(libc::NDA_DST, &[192, 0, 2, 10])];
        list.extend(with_mac.then_some((libc::NDA_LLADDR, mac.as_slice())));
        let extended = extended.to_ne_bytes();
        list.push((NDA_FLAGS_EXT, &extended));
        body.extend(attributes(&list));
        match neighbour(kind, &body)? {
            Fact::Neighbour {
                link: 3,
                address: of,
                state,
            } if of == address => Some(state),
            other => panic!("{other:?}"),
        }
    };
    let usable = |fixed| {
        Some(NeighbourState::Usable {
            mac: Mac(mac),
            fixed,
        })
    };
    let new = libc::RTM_NEWNEIGH;
    for free in [
        libc::NUD_REACHABLE,
        libc::NUD_STALE,
        libc::NUD_DELAY,
        libc::NUD_PROBE,
    ] {
        assert_eq!(state(new, free, 0, 0), usable(false));
        assert_eq!(state(new, free, libc::NTF_ROUTER, 0), usable(false));
        assert_eq!(
            state(new, free, 0x10, 0),
            usable(true),
            "learnt from a control plane"
        );
        assert_eq!(state(new, free, 0, 1), usable(true), "managed");
    }
    for fixed in [libc::NUD_PERMANENT, libc::NUD_NOARP] {
        assert_eq!(state(new, fixed, 0, 0), usable(true));
    }
    assert_eq!(
        state(new, libc::NUD_INCOMPLETE, 0, 0),
        Some(NeighbourState::Resolving)
    );
    assert_eq!(
        state(new, libc::NUD_FAILED, 0, 0),
        Some(NeighbourState::Failed)
    );
    assert_eq!(
        state(libc::RTM_DELNEIGH, libc::NUD_STALE, 0, 0),
        Some(NeighbourState::Gone)
    );
    assert_eq!(state(new, libc::NUD_PERMANENT, libc::NTF_PROXY, 0), None);
}

#[test]
fn what_cannot_be_sent_says_whether_its_source_may_be_why() {
    let address = IpAddr::from([198, 51, 100, 7]);
    let plain = RouteQuery::from(address);
    let source_address = IpAddr::from([192, 0, 2, 98]);
    let from = RouteQuery {
        source: Some(source_address),
        ..plain
    };
    let kind = "blackhole";
    let forbidden = NoRoute::Forbidden { address, kind };
    assert_eq!(no_route(&plain, libc::EINVAL), forbidden);
    let refused = NoRoute::From {
        address,
        source_address,
    };
    assert_eq!(no_route(&from, libc::EINVAL), refused);
    assert_eq!(no_route(&from, libc::ENETUNREACH), refused);
    let missing = NoRoute::Missing(address);
    assert_eq!(no_route(&plain, libc::ENETUNREACH), missing);
}

#[test]
fn addresses_are_read_and_those_not_ready_are_left_out() {
    let read = |family: i32, scope: u8, list: &[(u16, &[u8])]| {
        let mut body = vec![family as u8, 24, 0, scope, 4, 0, 0, 0];
        body.extend(attributes(list));
        let found = address(libc::RTM_NEWADDR, &body);
        assert_eq!(address(libc::RTM_DELADDR, &body), None);
        found.map(|found| (found.link, found.address, found.link_local))
    };
    let (peer, own) = ([192, 0, 2, 1], [192, 0, 2, 99]);
    let v4 = [
        (libc::IFA_ADDRESS, peer.as_slice()),
        (libc::IFA_LOCAL, own.as_slice()),
    ];
    assert_eq!(read(libc::AF_INET, 0, &v4), Some((4, own.into(), false)));
    let local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    for (flags, ready) in [
        (libc::IFA_F_PERMANENT, true),
        (libc::IFA_F_TENTATIVE, false),
        (libc::IFA_F_TENTATIVE | libc::IFA_F_OPTIMISTIC, true),
        (libc::IFA_F_DADFAILED, false),
    ] {
        let flags = flags.to_ne_bytes();
        let v6 = [
            (libc::IFA_ADDRESS, local.as_slice()),
            (IFA_FLAGS, flags.as_slice()),
        ];
        let expected = ready.then(|| (4, local.into(), true));
        assert_eq!(read(libc::AF_INET6, 253, &v6), expected, "{flags:?}");
    }
}

#[test]
fn links_are_read_and_only_ethernet_has_a_mac() {
    let body = |layer: u16, flags: u32| {
        let mut body = vec![0, 0];
        body.extend(layer.to_ne_bytes());
        body.extend(4_u32.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        body.extend(attributes(&[
            (libc::IFLA_IFNAME, b"eth0\0"),
            (libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 5]),
            (libc::IFLA_MTU, &1500_u32.to_ne_bytes()),
            (9999, b"from a newer kernel"),
        ]));
        body
    };
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let read = |body: &[u8]| match link(libc::RTM_NEWLINK, body) {
        Some(Fact::Link(link)) => link,
        other => panic!("{other:?}"),
    };
    let expected = Link {
        index: 4,
        name: "eth0".into(),
        mac: Some(Mac([2, 0, 0, 0, 0, 5])),
        mtu: 1500,
        up: true,
        running: true,
        loopback: false,
    };
    assert_eq!(read(&body(libc::ARPHRD_ETHER, up)), expected);
    let tunnel = Link {
        mac: None,
        ..expected.clone()
    };
    assert_eq!(read(&body(libc::ARPHRD_NONE, up)), tunnel);
    let point_to_point = up | libc::IFF_POINTOPOINT as u32;
    assert_eq!(read(&body(libc::ARPHRD_ETHER, point_to_point)), tunnel);
    let down = Link {
        up: false,
        running: false,
        ..expected
    };
    assert_eq!(
        read(&body(libc::ARPHRD_ETHER, libc::IFF_RUNNING as u32)),
        down
    );
    let gone = link(libc::RTM_DELLINK, &body(libc::ARPHRD_ETHER, 0));
    assert_eq!(gone, Some(Fact::LinkGone { index: 4 }));
}
