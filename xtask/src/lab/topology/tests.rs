//! Labs as data: what is set where.

use super::super::addresses::NOWHERE;
use super::*;

fn places(count: usize) -> Vec<Option<String>> {
    (0..count)
        .map(|number| Some(format!("n{number}")))
        .collect()
}

#[test]
fn the_machines_lab_is_what_status_and_readme_say() {
    let topology = Topology::new(vec![None, Some("pinger-lab".into())], Shape::default());
    assert_eq!(
        topology.links,
        [
            "link add pinger0 address 02:70:69:6e:00:01 type veth peer name far index 11 netns \
          pinger-lab \
          address 02:70:69:6e:00:02"
        ]
    );
    let prober = &topology.places[0].lines;
    for line in [
        "address replace 198.19.0.1/30 dev pinger0",
        "address replace 2001:2::1/126 dev pinger0 nodad",
        "route replace 198.18.0.0/16 via 198.19.0.2 dev pinger0",
        "route replace 2001:2:0:1::/64 via 2001:2::2 dev pinger0",
        "neighbour replace 198.19.0.2 lladdr 02:70:69:6e:00:02 dev pinger0 nud permanent",
    ] {
        assert!(
            prober.iter().any(|found| found == line),
            "{line} is missing in {prober:#?}"
        );
    }
    let hosts = &topology.places[1].lines;
    assert!(
        hosts.contains(&"route replace local 198.18.0.0/16 dev lo".into()),
        "{hosts:#?}"
    );
    assert!(
        !hosts.iter().any(|line| line.contains("/0 via")),
        "{hosts:#?}"
    );
}

#[test]
fn each_gateway_routes_to_the_next_and_back() {
    let topology = Topology::new(
        places(4),
        Shape {
            gateways: 2,
            ..Shape::default()
        },
    );
    assert_eq!(topology.links.len(), 3);
    let middle = topology.places[2].lines.join("\n");
    assert!(
        middle.contains("route replace 198.18.0.0/16 via 198.19.130.2 dev near"),
        "{middle}"
    );
    assert!(
        middle.contains("route replace 0.0.0.0/0 via 198.19.129.1 dev far"),
        "{middle}"
    );
    let forwards = |place: &Place| {
        place
            .sysctls
            .iter()
            .any(|(name, _)| name.contains("forward"))
    };
    let forwarding: Vec<bool> = topology.places.iter().map(forwards).collect();
    assert_eq!(forwarding, [false, true, true, true]);
}

#[test]
fn neighbours_are_asked_for_unless_they_are_static() {
    let shape = Shape {
        static_neighbours: false,
        direct: true,
        ..Shape::default()
    };
    let topology = Topology::new(places(2), shape);
    let all: Vec<&String> = topology
        .places
        .iter()
        .flat_map(|place| &place.lines)
        .collect();
    assert!(!all.iter().any(|line| line.starts_with("neighbour")));
    let direct = |line: &&&String| {
        line.starts_with("address") && (line.contains("/24") || line.contains("/64 dev far"))
    };
    assert_eq!(all.iter().filter(direct).count(), 1 + 2 * 253);
}

#[test]
fn the_neighbour_knows_what_cannot_be_reached() {
    let topology = Topology::new(
        places(3),
        Shape {
            gateways: 1,
            ..Shape::default()
        },
    );
    let has = |place: usize, line: &str| {
        topology.places[place]
            .lines
            .iter()
            .any(|found| found == line)
    };
    assert!(has(
        0,
        "route replace 198.19.16.0/24 via 198.19.0.2 dev pinger0"
    ));
    assert!(has(
        0,
        "route replace 2001:2:0:12::/64 via 2001:2::2 dev pinger0"
    ));
    assert!(has(1, "route replace prohibit 2001:2:0:11::/64"));
    assert!(has(1, "route replace blackhole 198.19.19.0/24"));
    assert!(!has(2, "route replace blackhole 198.19.19.0/24"));
    let none = topology.places[1]
        .lines
        .iter()
        .any(|line| line.contains(NOWHERE.ipv4));
    assert!(!none, "the neighbour has no route there");
}

#[test]
fn a_second_interface_leads_to_other_hosts_and_is_the_worse_way_to_the_first() {
    let shape = Shape {
        second: true,
        ..Shape::default()
    };
    let topology = Topology::new(places(shape.places()), shape);
    assert_eq!(topology.places.len(), 3);
    assert_eq!(
        topology.links[1],
        "link add pinger1 netns n0 address 02:70:69:6e:65:01 type veth peer name far netns n2 \
         address 02:70:69:6e:65:02"
    );
    let prober = topology.places[0].lines.join("\n");
    for line in [
        "address replace 198.19.229.1/30 dev pinger1",
        "route replace 198.19.32.0/24 via 198.19.229.2 dev pinger1",
        "route replace 198.18.0.0/16 via 198.19.229.2 dev pinger1 metric 2000",
    ] {
        assert!(prober.contains(line), "{line} is missing in {prober}");
    }
    let beside = topology.places[2].lines.join("\n");
    assert!(
        beside.contains("route replace local 198.19.32.0/24 dev lo"),
        "{beside}"
    );
    assert!(!topology.places[1].lines.join("\n").contains("198.19.32"));
}
