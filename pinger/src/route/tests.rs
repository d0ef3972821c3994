//! The table against facts in every order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const ETH: u32 = 3;
const SECOND: u32 = 5;
const OTHER: u32 = 9;
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn link(index: u32) -> Link {
    let name = format!("eth{index}");
    Link {
        index,
        name,
        mac: Some(OWN),
        mtu: 1500,
        up: true,
        running: true,
        loopback: false,
    }
}

fn host(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

fn host6(number: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number))
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

fn usable(number: u8) -> NeighbourState {
    NeighbourState::Usable {
        mac: mac(number),
        fixed: false,
    }
}

fn via(next_hop: IpAddr, source: IpAddr) -> Route {
    Route {
        link: ETH,
        source,
        next_hop,
        mtu: 0,
    }
}

fn head(destination: Mac, ethertype: [u8; 2]) -> Head {
    let mut bytes = [0; 14];
    bytes[..6].copy_from_slice(&destination.0);
    bytes[6..12].copy_from_slice(&OWN.0);
    bytes[12..].copy_from_slice(&ethertype);
    Head {
        bytes,
        link: LinkPlace(0),
    }
}

/// A table with an engine that applies its updates.
struct Bench {
    table: RouteTable,
    heads: HashMap<HopIndex, Option<Head>>,
    flows: HashMap<FlowIndex, Option<FlowRoute>>,
}

impl Bench {
    fn new(addresses: &[IpAddr]) -> Self {
        let table = RouteTable::new(addresses, &[ETH, SECOND]);
        Self {
            table,
            heads: HashMap::new(),
            flows: HashMap::new(),
        }
    }

    fn apply(&mut self, fact: Fact) -> Vec<RouteUpdate> {
        let mut updates = Vec::new();
        self.table.apply(fact, &mut updates);
        for update in &updates {
            match *update {
                RouteUpdate::Hop { hop, head } => {
                    self.heads.insert(hop, head);
                }
                RouteUpdate::Flow { flow, route } => {
                    if let Some(route) = route {
                        assert!(
                            self.heads.contains_key(&route.hop),
                            "hops come before flows"
                        );
                    }
                    self.flows.insert(flow, route);
                }
            }
        }
        updates
    }

    fn route(&mut self, flow: u32, route: Result<Route, NoRoute>) -> Vec<RouteUpdate> {
        self.apply(Fact::Route {
            flow: FlowIndex(flow),
            route,
        })
    }

    fn neighbour(&mut self, address: IpAddr, state: NeighbourState) -> Vec<RouteUpdate> {
        self.apply(Fact::Neighbour {
            link: ETH,
            address,
            state,
        })
    }

    /// The head that a probe of this flow would get.
    fn head(&self, flow: u32) -> Option<Head> {
        let route = self.flows.get(&FlowIndex(flow)).copied().flatten()?;
        self.heads[&route.hop]
    }
}

#[test]
fn flows_behind_one_gateway_share_a_hop_and_one_write_serves_all() {
    let mut bench = Bench::new(&[host(10), host(11), host(12)]);
    bench.apply(Fact::Link(link(ETH)));
    for flow in 0..3 {
        bench.route(flow, Ok(via(host(1), host(2))));
    }
    assert!(!bench.table.settled());
    let updates = bench.neighbour(host(1), usable(1));
    let expected = Some(head(mac(1), [0x08, 0x00]));
    assert_eq!(
        updates,
        [RouteUpdate::Hop {
            hop: HopIndex(0),
            head: expected
        }]
    );
    assert!((0..3).all(|flow| bench.head(flow) == expected));
    assert!(bench.table.settled());
    assert_eq!(
        bench.neighbour(host(1), usable(1)),
        [],
        "nothing new, nothing to write"
    );
}

#[test]
fn an_ipv4_route_over_an_ipv6_next_hop_keeps_its_ethertype() {
    let mut bench = Bench::new(&[host(10), host6(10)]);
    bench.apply(Fact::Link(link(ETH)));
    bench.route(0, Ok(via(host6(1), host(2))));
    bench.neighbour(host6(1), usable(1));
    bench.route(1, Ok(via(host6(1), host6(2))));
    assert_eq!(bench.head(0), Some(head(mac(1), [0x08, 0x00])));
    assert_eq!(
        bench.head(1),
        Some(head(mac(1), [0x86, 0xdd])),
        "known from its sibling"
    );
    bench.neighbour(host6(1), usable(2));
    assert_eq!(bench.head(0), Some(head(mac(2), [0x08, 0x00])));
    assert_eq!(bench.head(1), Some(head(mac(2), [0x86, 0xdd])));
}

#[test]
fn a_hop_keeps_its_last_mac_while_the_kernel_has_none() {
    for lost in [
        NeighbourState::Resolving,
        NeighbourState::Failed,
        NeighbourState::Gone,
    ] {
        let mut bench = Bench::new(&[host(10)]);
        bench.apply(Fact::Link(link(ETH)));
        bench.route(0, Ok(via(host(10), host(2))));
        bench.neighbour(host(10), usable(1));
        assert_eq!(bench.neighbour(host(10), lost), [], "{lost:?}");
        assert_eq!(bench.head(0), Some(head(mac(1), [0x08, 0x00])), "{lost:?}");
        bench.neighbour(host(10), usable(2));
        assert_eq!(bench.head(0), Some(head(mac(2), [0x08, 0x00])), "{lost:?}");
    }
}

#[test]
fn a_neighbour_that_never_answered_is_unreachable_and_that_is_an_answer() {
    let mut bench = Bench::new(&[host(10)]);
    bench.apply(Fact::Link(link(ETH)));
    bench.route(0, Ok(via(host(10), host(2))));
    bench.neighbour(host(10), NeighbourState::Resolving);
    assert!(!bench.table.settled());
    bench.neighbour(host(10), NeighbourState::Failed);
    assert!(bench.table.settled());
    let states: Vec<_> = bench.table.hops().map(|hop| hop.state).collect();
    assert_eq!(states, [HopState::Unreachable]);
    assert_eq!(bench.head(0), None);
}

#[test]
fn nothing_leaves_through_a_link_that_is_down_and_all_is_back_when_it_is_up() {
    let mut bench = Bench::new(&[host(10)]);
    bench.apply(Fact::Link(link(ETH)));
    bench.route(0, Ok(via(host(10), host(2))));
    bench.neighbour(host(10), usable(1));
    for (up, running) in [(false, false), (true, false)] {
        bench.apply(Fact::Link(Link {
            up,
            running,
            ..link(ETH)
        }));
        assert_eq!(bench.head(0), None);
        bench.apply(Fact::Link(link(ETH)));
        assert_eq!(bench.head(0), Some(head(mac(1), [0x08, 0x00])));
    }
    bench.apply(Fact::Link(Link {
        mac: Some(mac(7)),
        ..link(ETH)
    }));
    assert_eq!(
        bench.head(0).map(|head| head.bytes[6..12].to_vec()),
        Some(mac(7).0.to_vec())
    );
    bench.apply(Fact::LinkGone { index: ETH });
    assert_eq!(bench.head(0), None);
}

#[test]
fn a_route_through_another_link_is_refused_by_name() {
    let mut bench = Bench::new(&[host(10)]);
    bench.apply(Fact::Link(link(OTHER)));
    bench.route(
        0,
        Ok(Route {
            link: OTHER,
            ..via(host(10), host(2))
        }),
    );
    let why = Err(NoRoute::OtherLink {
        name: "eth9".into(),
    });
    assert_eq!(bench.table.route(FlowIndex(0)), Some(&why));
    assert_eq!(bench.head(0), None);
    assert!(bench.table.settled());
}

#[test]
fn asks_go_to_those_who_can_answer_and_never_to_what_others_keep() {
    let mut bench = Bench::new(&[host(10), host(11), host(12), host(13)]);
    bench.apply(Fact::Link(link(ETH)));
    for flow in 0..4 {
        bench.route(flow, Ok(via(host(10 + flow as u8), host(2))));
    }
    bench.neighbour(host(10), usable(1));
    bench.neighbour(
        host(11),
        NeighbourState::Usable {
            mac: mac(2),
            fixed: true,
        },
    );
    bench.neighbour(host(12), NeighbourState::Resolving);
    let ask = |number, how| Ask {
        link: ETH,
        address: host(number),
        how,
    };
    let expected = [ask(10, AskHow::Verify), ask(13, AskHow::Create)];
    assert_eq!(bench.table.take_asks(10), expected);
    assert_eq!(bench.table.take_asks(10), [], "asked once");

    bench.neighbour(host(10), NeighbourState::Failed);
    assert_eq!(
        bench.table.take_asks(10),
        [ask(10, AskHow::Resolve)],
        "at once when it fails"
    );
    bench.neighbour(host(10), NeighbourState::Failed);
    assert_eq!(bench.table.take_asks(10), [], "but not without a pause");

    bench.neighbour(host(11), NeighbourState::Gone);
    bench.table.refresh(4);
    let mut asks = bench.table.take_asks(10);
    asks.sort_unstable_by_key(|ask| ask.address);
    let create = [ask(11, AskHow::Create), ask(13, AskHow::Create)];
    assert_eq!(asks, [ask(10, AskHow::Resolve), create[0], create[1]]);

    bench.apply(Fact::Link(Link {
        up: false,
        running: false,
        ..link(ETH)
    }));
    bench.table.refresh(4);
    assert_eq!(
        bench.table.take_asks(10),
        [],
        "nobody hears through a link that is down"
    );
}

#[test]
fn changed_prefixes_find_their_flows() {
    let addresses = [host(10), host6(10), host(200), host6(0xffff), host(11)];
    let table = RouteTable::new(&addresses, &[ETH]);
    let within = |prefix, length| -> Vec<u32> {
        let mut flows: Vec<_> = table
            .flows_within(prefix, length)
            .into_iter()
            .map(|flow| flow.0)
            .collect();
        flows.sort_unstable();
        flows
    };
    assert_eq!(within(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), [0, 2, 4]);
    assert_eq!(within(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0), [1, 3]);
    assert_eq!(within(host(0), 25), [0, 4]);
    assert_eq!(within(host(11), 32), [4]);
    assert_eq!(within(host6(0), 120), [1]);
    assert_eq!(within(host6(0xffff), 128), [3]);
    assert_eq!(within(host(64), 26), Vec::<u32>::new());
}

#[test]
fn reasons_read_well_behind_a_name() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert_eq!(
        NoRoute::Local(loopback).to_string(),
        "it is this host itself; pinger probes other hosts through an interface"
    );
    assert!(
        NoRoute::Missing(host(1))
            .to_string()
            .contains("ip route get 192.0.2.1")
    );
    assert!(
        NoRoute::Refused(libc::EPERM)
            .to_string()
            .contains("not permitted")
    );
}

const FLOWS: u32 = 6;

fn any_state() -> impl Strategy<Value = NeighbourState> {
    prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(number, fixed)| NeighbourState::Usable {
            mac: mac(number),
            fixed
        }),
        Just(NeighbourState::Resolving),
        Just(NeighbourState::Failed),
        Just(NeighbourState::Gone),
    ]
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let link_index = || prop_oneof![4 => Just(ETH), 3 => Just(SECOND), 1 => Just(OTHER)];
    let route = (link_index(), 0..4_u8, 0..2_u8).prop_map(|(link, hop, source)| {
        Ok(Route {
            link,
            source: host(100 + source),
            next_hop: host(hop),
            mtu: 0,
        })
    });
    let route = prop_oneof![3 => route, 1 => Just(Err(NoRoute::Missing(host(10))))];
    prop_oneof![
        4 => (0..FLOWS, route)
            .prop_map(|(flow, route)| Fact::Route { flow: FlowIndex(flow), route }),
        4 => (link_index(), 0..4_u8, any_state()).prop_map(|(link, number, state)| {
            Fact::Neighbour { link, address: host(number), state }
        }),
        2 => (link_index(), any::<bool>(), any::<bool>()).prop_map(|(index, up, running)| {
            Fact::Link(Link { up, running, ..link(index) })
        }),
        1 => link_index().prop_map(|index| Fact::LinkGone { index }),
    ]
}

/// What the engine must know after some facts, worked out from the facts alone.
#[derive(Default)]
struct Model {
    routes: HashMap<u32, Route>,
    links: HashMap<u32, Link>,
}

impl Model {
    fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Route {
                flow,
                route: Ok(route),
            } if route.link != OTHER => {
                self.routes.insert(flow.0, *route);
            }
            Fact::Route { flow, .. } => {
                self.routes.remove(&flow.0);
            }
            Fact::Link(link) => {
                self.links.insert(link.index, link.clone());
            }
            Fact::LinkGone { index } => {
                self.links.remove(index);
            }
            Fact::Neighbour { .. } => {}
        }
    }
}

/// A flow goes where its last route says, and has a head only if its link runs and its neighbour
/// has a MAC; `learnt` is the MAC that was learnt last, of whom.
fn check_flow(
    flow: u32,
    bench: &Bench,
    model: &Model,
    learnt: Option<(u32, IpAddr, Mac)>,
) -> Result<(), TestCaseError> {
    let route = bench.flows.get(&FlowIndex(flow)).copied().flatten();
    let Some(expected) = model.routes.get(&flow) else {
        prop_assert_eq!(route, None);
        return Ok(());
    };
    let route = route.expect("it has a route");
    prop_assert_eq!(route.source, expected.source);
    let view = bench
        .table
        .hops()
        .find(|hop| hop.hop == route.hop)
        .expect("hop in use");
    prop_assert_eq!(view.key.next_hop, expected.next_hop);
    prop_assert_eq!(view.key.link, expected.link);
    let link = model.links.get(&expected.link);
    let running = link.is_some_and(|link| link.up && link.running);
    let place = LinkPlace(u8::from(expected.link == SECOND));
    let mac = match view.state {
        HopState::Ready(mac) => Some(mac),
        _ => None,
    };
    let want = mac.filter(|_| running).map(|mac| Head {
        link: place,
        ..head(mac, [0x08, 0x00])
    });
    prop_assert_eq!(bench.head(flow), want);
    if let Some((link, address, learnt)) = learnt
        && (link, address) == (expected.link, expected.next_hop)
    {
        prop_assert_eq!(mac, Some(learnt));
    }
    Ok(())
}

proptest! {
    /// After any facts: the engine that applied the updates is where a fresh snapshot would put
    /// it, each flow goes where its last route says, a head is there only if its link runs, and
    /// there are never more hops than flows.
    #[test]
    fn updates_keep_the_engine_where_the_facts_are(
        facts in prop::collection::vec(any_fact(), 1..80),
    ) {
        let addresses: Vec<_> = (0..FLOWS).map(|flow| host(10 + flow as u8)).collect();
        let mut bench = Bench::new(&addresses);
        let mut model = Model::default();
        for fact in facts {
            model.apply(&fact);
            let learnt = match fact {
                Fact::Neighbour { link, address, state: NeighbourState::Usable { mac, .. } } => {
                    Some((link, address, mac))
                }
                _ => None,
            };
            bench.apply(fact);
            bench.table.refresh(2);
            for ask in bench.table.take_asks(3) {
                prop_assert!(model.links[&ask.link].running);
                let (state, _) = bench.table.neighbour(ask.link, ask.address).expect("in use");
                prop_assert!(
                    !matches!(state, Some(NeighbourState::Usable { fixed: true, .. })),
                    "asked for one that others keep"
                );
            }

            let hops: Vec<_> = bench.table.hops().collect();
            prop_assert!(hops.len() <= bench.table.hops_max());
            prop_assert!(hops.iter().all(|hop| hop.hop.0 < FLOWS));
            let flows: u32 = hops.iter().map(|hop| hop.flows).sum();
            prop_assert_eq!(flows as usize, model.routes.len());
            let pending = hops.iter().any(|hop| hop.state == HopState::Pending);
            let answered = (0..FLOWS).all(|flow| bench.table.route(FlowIndex(flow)).is_some());
            prop_assert_eq!(bench.table.settled(), answered && !pending);

            for flow in 0..FLOWS {
                check_flow(flow, &bench, &model, learnt)?;
            }

            let mut snapshot = Vec::new();
            bench.table.snapshot(&mut snapshot);
            for update in snapshot {
                match update {
                    RouteUpdate::Hop { hop, head } => prop_assert_eq!(bench.heads[&hop], head),
                    RouteUpdate::Flow { flow, route } => {
                        prop_assert_eq!(bench.flows.get(&flow).copied().flatten(), route);
                    }
                }
            }
        }
    }
}
