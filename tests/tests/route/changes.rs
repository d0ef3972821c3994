//! Routes and interfaces that change while they are followed.

use std::io::Write;

use pinger::destination::FlowIndex;
use pinger::route::{LinkPlace, Mac, RouteQuery};
use pinger::wire::netlink::{LinkChange, RouteNotice};

use crate::net::{Net, ip, mac, second_interface};
use crate::watch::Watch;

#[test]
fn flows_through_two_interfaces_are_followed_each_on_its_own() {
    let net = Net::new();
    let (first, second) = (net.link(), second_interface(&net));
    let plain = RouteQuery::from(ip("198.51.100.7"));
    let queries = [
        plain,
        RouteQuery {
            link: Some(second.index),
            ..plain
        },
        ip("203.0.113.1").into(),
    ];
    let mut watch = net.watch_through(&queries, &[&first, &second]);
    let leaves = |watch: &Watch, flow: u32, to: Mac, place: u8| {
        let source = [&first, &second][usize::from(place)].mac.unwrap();
        watch.head(flow).is_some_and(|head| {
            let macs = (&head.bytes[..6], &head.bytes[6..12]);
            macs == (&to.0, &source.0) && head.link == LinkPlace(place)
        })
    };
    let both = |watch: &Watch| {
        leaves(watch, 0, mac(1, 1), 0)
            && leaves(watch, 1, mac(4, 1), 1)
            && leaves(watch, 2, mac(4, 1), 1)
    };
    watch.until("each leaves by its own interface", both);

    net.hosts.ip("link set h1 down");
    watch.until(
        "the second has no carrier, the first is as before",
        |watch| {
            leaves(watch, 0, mac(1, 1), 0) && watch.head(1).is_none() && watch.head(2).is_none()
        },
    );
    let told = |watch: &Watch| {
        let of_second = |note: &RouteNotice| {
            let RouteNotice::Link { name, change } = note else {
                return false;
            };
            name == "p1" && *change == LinkChange::NoCarrier
        };
        watch.notes.iter().any(of_second)
    };
    watch.until("and that is told by name", told);
    net.hosts.ip("link set h1 up");
    watch.until("it is back", both);

    // The plain route moves to the second interface; who asked for the second one stays there.
    net.prober.ip("route del 198.51.100.0/24 via 192.0.2.1");
    watch.until("the route's interface is followed", |watch| {
        (0..3).all(|flow| leaves(watch, flow, mac(4, 1), 1))
    });
}

#[test]
fn a_route_that_moves_to_another_gateway_is_followed() {
    let net = Net::new();
    let mut watch = net.watch(&["198.51.100.7", "2001:db8:1::7", "192.0.2.10"]);
    watch.until_all_go_to(&[mac(1, 1), mac(1, 1), mac(1, 10)]);
    net.prober.ip("route replace 198.51.100.0/24 via 192.0.2.2");
    net.prober
        .ip("route replace 2001:db8:1::/64 via 2001:db8::2");
    watch.until_all_go_to(&[mac(1, 2), mac(1, 2), mac(1, 10)]);

    // A longer prefix, a policy rule, another source address: each decides anew.
    net.prober
        .ip("route add 198.51.100.7/32 via 192.0.2.1 src 192.0.2.99");
    watch.until_all_go_to(&[mac(1, 1), mac(1, 2), mac(1, 10)]);
    net.prober
        .ip("route add 198.51.100.0/24 via 192.0.2.2 table 100");
    net.prober.ip("rule add to 198.51.100.0/24 lookup 100");
    watch.until_all_go_to(&[mac(1, 2), mac(1, 2), mac(1, 10)]);
    net.prober.ip("address add 192.0.2.98/24 dev p0");
    net.prober
        .ip("route replace 198.51.100.0/24 via 192.0.2.2 src 192.0.2.98 table 100");
    watch.until("the source moves", |watch| {
        watch.flows[&FlowIndex(0)].is_some_and(|route| route.source == ip("192.0.2.98"))
    });

    net.prober.ip("rule del to 198.51.100.0/24 lookup 100");
    net.prober.ip("route del 198.51.100.7/32");
    net.prober.ip("route del 198.51.100.0/24");
    watch.until("the route is gone", |watch| {
        watch.flows[&FlowIndex(0)].is_none()
    });
    watch.until("and that is told", |watch| {
        watch
            .notes
            .iter()
            .any(|note| matches!(note, RouteNotice::Routes { lost: 1, .. }))
    });
    net.prober.ip("route add 198.51.100.0/24 via 192.0.2.1");
    watch.until_all_go_to(&[mac(1, 1), mac(1, 2), mac(1, 10)]);
}

#[test]
fn an_interface_that_goes_down_and_comes_back_is_followed() {
    let net = Net::new();
    let mut watch = net.watch(&["192.0.2.10", "198.51.100.7"]);
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);
    let told = |change: LinkChange| {
        move |watch: &Watch| {
            let same = |note: &RouteNotice| match note {
                RouteNotice::Link { change: told, .. } => *told == change,
                _ => false,
            };
            watch.notes.iter().any(same)
        }
    };

    net.hosts.ip("link set h0 down");
    watch.until("no carrier, no head", |watch| {
        watch.head(0).is_none() && watch.head(1).is_none()
    });
    watch.until("the lost carrier is told", told(LinkChange::NoCarrier));
    net.hosts.ip("link set h0 up");
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    net.prober.ip("link set p0 down");
    watch.until("no routes", |watch| {
        watch.flows.values().all(Option::is_none)
    });
    watch.until("the interface is told", told(LinkChange::Down));
    net.prober.ip("link set p0 up");
    net.prober.ip("route add 198.51.100.0/24 via 192.0.2.1");
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    watch.source = mac(3, 99);
    net.prober
        .ip(&format!("link set p0 address {}", mac(3, 99)));
    watch.until_all_go_to(&[mac(1, 10), mac(1, 1)]);

    net.prober.ip("link del p0");
    watch.until("nothing is left", |watch| {
        watch.flows.values().all(Option::is_none)
    });
    watch.until("the interface is told", told(LinkChange::Gone));
}

#[test]
fn lost_announcements_are_noticed_and_everything_is_read_again() {
    let net = Net::new();
    let mut watch = net.watch(&["198.51.100.7"]);
    watch.until_all_go_to(&[mac(1, 1)]);
    // While we hold the table, the keeper cannot listen, and a storm fills its buffer.
    watch.keeper.with_table(|_| {
        let mut batch = tempfile(&net);
        for number in 0..60_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            writeln!(batch.1, "route add 10.{b}.{c}.{d}/32 via 192.0.2.2").unwrap();
        }
        writeln!(batch.1, "route replace 198.51.100.0/24 via 192.0.2.2").unwrap();
        batch.1.flush().unwrap();
        net.prober.ip(&format!("-batch {}", batch.0.display()));
        std::fs::remove_file(&batch.0).unwrap();
    });
    watch.until_all_go_to(&[mac(1, 2)]);
    watch.until("the overrun is told", |watch| {
        watch
            .notes
            .iter()
            .any(|note| matches!(note, RouteNotice::Overrun))
    });
}

fn tempfile(net: &Net) -> (std::path::PathBuf, std::io::BufWriter<std::fs::File>) {
    let path = std::env::temp_dir().join(&net.prober.name);
    let file = std::fs::File::create(&path).unwrap();
    (path, std::io::BufWriter::new(file))
}
