//! Paths out of invented results: what is kept of each hop, and how it looks.

use std::num::NonZeroU8;

use pinger_ebpf::layout::AnswerKind;

use super::super::testing::{self, check_text};
use super::*;
use crate::destination::{FlowIndex, Protocol, Ttl};
use crate::result::{Answer, Outcome};

const HOPS: u8 = 8;

fn destination(name: &str, address: &str, protocol: Protocol) -> Destination {
    let address: IpAddr = address.parse().unwrap();
    Destination {
        name: name.to_owned(),
        protocol,
        port: if protocol.has_port() { 443 } else { 0 },
        ttl: Ttl::Trace(NonZeroU8::new(HOPS).unwrap()),
        ..Destination::echo(address)
    }
}

fn answer(kind: AnswerKind, responder: &str, rtt_us: u64, icmp: (u8, u8)) -> Option<Answer> {
    Some(Answer {
        rtt_ns: Some(rtt_us * 1000),
        responder: responder.parse().unwrap(),
        kind: Some(kind),
        icmp_type: icmp.0,
        icmp_code: icmp.1,
        hop_limit: Some(60),
        traffic_class: Some(0),
        mismatch_at: None,
    })
}

fn exceeded(responder: &str, rtt_us: u64) -> (Outcome, Option<Answer>) {
    let icmp = if responder.contains(':') {
        (3, 0)
    } else {
        (11, 0)
    };
    let answer = answer(AnswerKind::IcmpError, responder, rtt_us, icmp);
    (Outcome::Error, answer)
}

fn reply(kind: AnswerKind, responder: &str, rtt_us: u64) -> (Outcome, Option<Answer>) {
    (Outcome::Reply, answer(kind, responder, rtt_us, (0, 0)))
}

const LOST: (Outcome, Option<Answer>) = (Outcome::Lost, None);

fn result(flow: u32, ttl: u8, (outcome, answer): (Outcome, Option<Answer>)) -> ProbeResult {
    ProbeResult {
        flow: FlowIndex(flow),
        sequence: u64::from(ttl) - 1,
        identifier: 7,
        ttl,
        hops: HOPS,
        due_ns: 0,
        tx_ns: 0,
        outcome,
        answer,
        jitter_ns: 0,
        hop_limit_changed: false,
    }
}

/// A destination, and the results of each hop in order.
type Traced = (Destination, Vec<Vec<(Outcome, Option<Answer>)>>);

/// One of each kind of end.
fn traced() -> Vec<Traced> {
    let web = destination("web.example", "203.0.113.9", Protocol::Tcp);
    let one = destination("203.0.113.7", "203.0.113.7", Protocol::Icmp);
    let six = destination("2001:db8::9", "2001:db8::9", Protocol::Icmp6);
    let udp = destination("dns", "203.0.113.53", Protocol::Udp);
    let off = destination("198.51.100.200", "198.51.100.200", Protocol::Icmp);
    let open = |rtt_us| reply(AnswerKind::SynAck, "203.0.113.9", rtt_us);
    let echo = |rtt_us| reply(AnswerKind::Echo, "203.0.113.7", rtt_us);
    let port = answer(AnswerKind::IcmpError, "203.0.113.53", 900, (3, 3));
    let prohibited = answer(AnswerKind::IcmpError, "2001:db8:1::2", 950, (1, 1));
    vec![
        (
            web,
            vec![
                vec![exceeded("192.0.2.1", 120), exceeded("192.0.2.1", 180)],
                vec![LOST, LOST],
                vec![
                    exceeded("198.51.100.1", 1500),
                    exceeded("198.51.100.33", 1700),
                ],
                vec![open(2000), LOST, (Outcome::Late, open(0).1)],
                vec![open(2100), open(2200)],
            ],
        ),
        (
            one,
            vec![
                vec![echo(40), (Outcome::Duplicate, echo(9999).1)],
                vec![echo(41)],
            ],
        ),
        (
            six,
            vec![
                vec![exceeded("2001:db8:1::1", 500)],
                vec![(Outcome::Error, prohibited)],
                vec![(Outcome::Error, prohibited)],
            ],
        ),
        (
            udp,
            vec![
                vec![exceeded("192.0.2.1", 130)],
                vec![(Outcome::Error, port)],
                vec![(Outcome::SendFailed, None)],
            ],
        ),
        (
            off,
            [vec![exceeded("192.0.2.1", 125)]]
                .into_iter()
                .chain(vec![vec![LOST]; 7])
                .collect(),
        ),
    ]
}

fn shown(style: TraceStyle, traced: &[Traced], height: u16) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let destinations: Arc<[_]> = traced.iter().map(|(one, _)| one.clone()).collect();
    let mut view = Trace::new(destinations, style, &mut out, &mut err);
    view.size = match height {
        10 => || Ok((60, 10)),
        _ => || Ok((120, 100)),
    };
    view.start(&testing::header(traced.len())).unwrap();
    view.update(Arc::default()).unwrap();
    for ((_, hops), flow) in traced.iter().zip(0..) {
        for (results, ttl) in hops.iter().zip(1..) {
            for found in results {
                view.result(&result(flow, ttl, *found)).unwrap();
            }
        }
    }
    view.notice(Level::Warning, "a slow disk");
    view.update(Arc::default()).unwrap();
    view.finish(&testing::summary(traced.len(), 4)).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err))
}

#[test]
fn every_end_of_a_path_looks_as_agreed() {
    let (out, err) = shown(TraceStyle::Table, &traced(), 100);
    check_text("trace", &out);
    assert_eq!(err, "pinger: warning: a slow disk\n");
}

#[test]
fn a_picture_takes_the_place_of_the_one_before() {
    let (out, _) = shown(TraceStyle::Refreshed, &traced(), 10);
    // Header; first picture, cut to the screen; its erasure by the notice; the second picture.
    let up = "\x1b[8A\r\x1b[J";
    let parts: Vec<&str> = out.split(up).collect();
    assert_eq!(parts.len(), 3, "{out:?}");
    assert!(parts[0].starts_with("TRACE 5 destinations up to 8 hops through eth0 (native XDP)\n"));
    assert!(parts[0].contains("nothing known yet"), "{}", parts[0]);
    assert_eq!(parts[1].lines().count(), 8);
    for line in parts[1].lines() {
        assert!(line.chars().count() <= 60, "{line}");
    }
    assert!(parts[1].ends_with("… the rest follows at the end\n"));
    assert!(parts[2].contains("198.51.100.200: not reached"));
}

#[test]
fn programs_get_an_object_a_destination() {
    let (out, err) = shown(TraceStyle::Json, &traced(), 100);
    assert!(!out.contains("null") && err.contains("note"), "{err}");
    let reports: Vec<TraceReport> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let facts: Vec<_> = reports
        .iter()
        .map(|one| {
            (
                one.destination.as_str(),
                one.port,
                one.reached,
                one.hops.len(),
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("web.example", 443, true, 4),
            ("203.0.113.7", 0, true, 1),
            ("2001:db8::9", 0, false, 2),
            ("dns", 443, true, 2),
            ("198.51.100.200", 0, false, 1),
        ]
    );
    let web = &reports[0];
    let hop = |ttl: usize| &web.hops[ttl - 1];
    assert_eq!((hop(1).sent, hop(1).replies, hop(1).loss), (2, 2, 0.0));
    let rtt = HopRttReport {
        last: 180_000,
        min: 120_000,
        avg: 150_000,
        max: 180_000,
    };
    assert_eq!(hop(1).rtt_ns, rtt);
    assert_eq!((hop(2).address.as_str(), hop(2).loss), ("", 100.0));
    assert_eq!(hop(3).addresses, ["198.51.100.1", "198.51.100.33"]);
    assert_eq!(
        (hop(4).said.as_str(), hop(4).loss),
        ("open", 50.0),
        "late is lost"
    );
    assert_eq!(reports[2].hops[1].said, "administratively prohibited");
    assert_eq!(
        reports[1].hops[0].rtt_ns.max, 40_000,
        "a duplicate counts for nothing"
    );
}

#[test]
fn the_end_moves_with_the_path() {
    let destination = destination("d", "203.0.113.7", Protocol::Icmp);
    let mut path = Path::default();
    let mut add = |ttl, found| {
        path.add(&destination, &result(0, ttl, found));
        (path.shown().len(), path.is_reached())
    };
    let echo = || reply(AnswerKind::Echo, "203.0.113.7", 9);
    assert_eq!(add(4, echo()), (4, true));
    assert_eq!(add(3, echo()), (3, true), "whatever the order of arrival");
    assert_eq!(
        add(3, exceeded("192.0.2.1", 5)),
        (4, true),
        "it became longer"
    );
    assert_eq!(add(2, LOST), (4, true));
    assert_eq!(
        add(3, (Outcome::Late, echo().1)),
        (3, true),
        "late, but told"
    );
    assert_eq!(add(3, exceeded("192.0.2.1", 5)), (4, true));
    let mut untold = exceeded("::", 5);
    untold.1 = untold.1.map(|answer| Answer {
        hop_limit: None,
        icmp_type: 0,
        ..answer
    });
    assert_eq!(add(1, untold), (4, true), "what is not known ends no path");
    assert_eq!(path.shown()[0].addresses, Vec::<IpAddr>::new());
}
