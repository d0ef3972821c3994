//! The keeper: what each note and each event changes, and what it makes of them.

use pinger_ebpf::parse::ICMP_ECHO_REPLY;
use proptest::prelude::*;

use super::*;
use crate::destination::Protocol;
use crate::stats::RECENT;

const MS: u64 = 1_000_000;
const START_NS: u64 = 1000 * MS;
const FLOW: FlowIndex = FlowIndex(1);

fn keeper(flood: bool) -> StatsKeeper {
    let destination = Destination {
        id: 0,
        name: "here".to_owned(),
        address: "192.0.2.9".parse().unwrap(),
        protocol: Protocol::Icmp,
        interval_ns: 10 * MS,
        timeout_ns: 100 * MS,
        size: 16,
        ..Destination::echo("192.0.2.9".parse().unwrap())
    };
    keeper_of(&[destination.clone(), destination], flood)
}

fn keeper_of(destinations: &[Destination; 2], flood: bool) -> StatsKeeper {
    let facts = FlowFacts {
        identifier: 77,
        source: "192.0.2.1".parse().unwrap(),
    };
    let schedule = Schedule::new(destinations, START_NS, flood);
    StatsKeeper::new(destinations, &[facts; 2], Arc::new(schedule))
}

fn event(kind: EventKind, sequence: u64, tx_ns: u64, rx_ns: u64) -> Event {
    Event {
        rx_ns,
        tx_ns,
        sequence,
        responder: "::ffff:192.0.2.9".parse::<Ipv6Addr>().unwrap().octets(),
        flow: FLOW.0,
        identifier: 77,
        mismatch_at: PAYLOAD_MATCHES,
        kind: kind as u8,
        answer: AnswerKind::Echo as u8,
        icmp_type: ICMP_ECHO_REPLY,
        icmp_code: 0,
        hop_limit: 61,
        traffic_class: 0,
        reserved: [0; 2],
    }
}

fn ended(end: End) -> Note {
    Note::Ended {
        flow: FLOW,
        sequence: 3,
        due_ns: 10 * MS,
        tx_ns: 12 * MS,
        end,
    }
}

#[test]
fn a_reply_is_a_result_with_all_its_times() {
    let mut keeper = keeper(false);
    keeper.note(Note::Sent { flow: FLOW });
    // Of two flows the second has its third turn at 10 × (2 + 1/2) ms.
    let due_ns = START_NS + 25 * MS;
    let mut event = event(EventKind::Reply, 2, due_ns + 5, due_ns + 905);
    event.mismatch_at = 9;
    let answer = Answer {
        rtt_ns: Some(900),
        responder: "192.0.2.9".parse().unwrap(),
        kind: Some(AnswerKind::Echo),
        icmp_type: ICMP_ECHO_REPLY,
        icmp_code: 0,
        hop_limit: Some(61),
        traffic_class: Some(0),
        mismatch_at: Some(9),
    };
    let expected = ProbeResult {
        flow: FLOW,
        sequence: 2,
        identifier: 77,
        ttl: 64,
        hops: 0,
        due_ns,
        tx_ns: due_ns + 5,
        outcome: Outcome::Reply,
        answer: Some(answer),
        jitter_ns: 0,
        hop_limit_changed: false,
    };
    assert_eq!(keeper.event(&event), Some(expected));
    let snapshot = keeper.snapshot(&Outside::default(), true);
    let one = &snapshot.destinations[1];
    assert_eq!(
        (one.counts.reply, one.counts.mismatch, one.last_ns),
        (1, 1, Some(900))
    );
    assert!(one.recent.iter().eq([Recent::Reply(900)]));
    assert_eq!(
        (
            snapshot.rtt.min_ns,
            snapshot.rtt.max_ns,
            snapshot.lag.max_ns
        ),
        (900, 900, 5)
    );
    assert_eq!(snapshot.destinations[0].counts, Counts::default());
}

#[test]
fn each_end_is_its_outcome() {
    let cases = [
        (End::Lost, Outcome::Lost, None),
        (End::Refused, Outcome::SendFailed, None),
        (End::Unreachable, Outcome::Error, Some((3, 1, None))),
        (
            End::Unreported {
                rtt_ns: 8,
                error: false,
            },
            Outcome::Reply,
            Some((0, 0, Some(8))),
        ),
        (
            End::Unreported {
                rtt_ns: 8,
                error: true,
            },
            Outcome::Error,
            Some((0, 0, Some(8))),
        ),
    ];
    for (end, outcome, answer) in cases {
        let mut keeper = keeper(false);
        keeper.note(Note::Sent { flow: FLOW });
        let result = keeper.note(ended(end)).unwrap();
        assert_eq!(
            (result.outcome, result.due_ns, result.tx_ns),
            (outcome, 10 * MS, 12 * MS)
        );
        let said = result.answer.map(|a| (a.icmp_type, a.icmp_code, a.rtt_ns));
        assert_eq!(said, answer);
        assert_eq!(keeper.totals().in_flight, 0);
    }
}

#[test]
fn an_icmp_error_is_an_end_of_its_own_and_keeps_its_time() {
    let mut keeper = keeper(false);
    let told = |keeper: &mut StatsKeeper, kind, answer: AnswerKind| {
        let mut event = event(kind, 2, START_NS, START_NS + 900);
        event.answer = answer as u8;
        (event.icmp_type, event.icmp_code) = (3, 3);
        let result = keeper.event(&event).unwrap();
        (result.outcome, result.answer.unwrap().rtt_ns)
    };
    keeper.note(Note::Sent { flow: FLOW });
    let error = told(&mut keeper, EventKind::Reply, AnswerKind::IcmpError);
    assert_eq!(error, (Outcome::Error, Some(900)));
    for (kind, outcome) in [
        (EventKind::Late, Outcome::Late),
        (EventKind::Duplicate, Outcome::Duplicate),
    ] {
        let further = told(&mut keeper, kind, AnswerKind::IcmpError);
        assert_eq!(further, (outcome, Some(900)), "no end of its own");
    }
    let snapshot = keeper.snapshot(&Outside::default(), true);
    let one = &snapshot.destinations[1];
    let last = LastError {
        responder: "192.0.2.9".parse().unwrap(),
        icmp_type: 3,
        icmp_code: 3,
    };
    assert_eq!((one.error, one.rtt.count), (Some(last), 0));
    assert_eq!((one.counts.error, one.counts.in_flight), (1, 0));
    assert_eq!(
        snapshot.answers.icmp_error, 1,
        "further answers end nothing"
    );

    keeper.note(Note::Sent { flow: FLOW });
    told(&mut keeper, EventKind::Reply, AnswerKind::SynAck);
    let snapshot = keeper.snapshot(&Outside::default(), true);
    assert_eq!(snapshot.destinations[1].error, None, "the last was a reply");
    assert_eq!(snapshot.answers.syn_ack, 1);
}

#[test]
fn a_closed_udp_ports_own_word_is_its_reply() {
    let (v4, v6) = ("192.0.2.9", "2001:db8::9");
    for (protocol, address, responder, icmp, outcome) in [
        (Protocol::Udp, v4, v4, (3, 3), Outcome::Reply),
        (Protocol::Udp6, v6, v6, (1, 4), Outcome::Reply),
        // A router or a firewall says so, or something else is said, or to another protocol.
        (Protocol::Udp, v4, "192.0.2.254", (3, 3), Outcome::Error),
        (Protocol::Udp6, v6, "2001:db8::fe", (1, 4), Outcome::Error),
        (Protocol::Udp, v4, v4, (3, 13), Outcome::Error),
        (Protocol::Udp, v4, v4, (1, 4), Outcome::Error),
        (Protocol::Udp6, v6, v6, (1, 1), Outcome::Error),
        (Protocol::Udp6, v6, v6, (3, 3), Outcome::Error),
        (Protocol::Tcp, v4, v4, (3, 3), Outcome::Error),
        (Protocol::Icmp, v4, v4, (3, 3), Outcome::Error),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let destination = Destination {
            protocol,
            port: 9,
            ..Destination::echo(address)
        };
        let destinations = [destination.clone(), destination];
        let mut keeper = keeper_of(&destinations, false);
        keeper.note(Note::Sent { flow: FLOW });
        let mut event = event(EventKind::Reply, 2, START_NS, START_NS + 900);
        event.answer = AnswerKind::IcmpError as u8;
        event.responder = crate::rows::mapped(responder.parse().unwrap()).octets();
        (event.icmp_type, event.icmp_code) = icmp;
        let result = keeper.event(&event).unwrap();
        let what = format!("{protocol:?} {icmp:?} of {responder}");
        assert_eq!(result.outcome, outcome, "{what}");
        let answer = result.answer.unwrap();
        let said = (
            answer.kind,
            answer.icmp_type,
            answer.icmp_code,
            answer.rtt_ns,
        );
        assert_eq!(
            said,
            (Some(AnswerKind::IcmpError), icmp.0, icmp.1, Some(900))
        );
        let snapshot = keeper.snapshot(&Outside::default(), true);
        let one = &snapshot.destinations[FLOW.0 as usize];
        let replied = outcome == Outcome::Reply;
        assert_eq!(
            (one.closed, one.error.is_none()),
            (replied, replied),
            "{what}"
        );
        assert_eq!(
            (one.rtt.count, one.counts.reply),
            (replied.into(), replied.into())
        );
        assert_eq!(snapshot.answers.icmp_error, 1, "{what}");
    }
}

#[test]
fn replies_tell_how_they_differ_from_the_one_before() {
    let mut keeper = keeper(false);
    let mut heard = |kind, rtt_ns, hop_limit| {
        keeper.note(Note::Sent { flow: FLOW });
        let mut event = event(kind, 0, 2000 * MS, 2000 * MS + rtt_ns);
        event.hop_limit = hop_limit;
        let result = keeper.event(&event).unwrap();
        (result.jitter_ns, result.hop_limit_changed)
    };
    for (kind, rtt_ns, hop_limit, expected) in [
        (EventKind::Reply, 1_000, 61, (0, false)),
        (EventKind::Reply, 17_000, 61, (1_000, false)),
        // These are no replies, and the next one is not compared with them.
        (EventKind::Late, 900_000, 9, (0, false)),
        (EventKind::Duplicate, 900_000, 9, (0, false)),
        (EventKind::Reply, 33_000, 60, (1_938, true)),
        (EventKind::Reply, 33_000, 60, (1_816, false)),
    ] {
        assert_eq!(heard(kind, rtt_ns, hop_limit), expected, "{kind:?}");
    }
    keeper.note(Note::Sent { flow: FLOW });
    let rtt_ns = 33_000;
    let bare = ended(End::Unreported {
        rtt_ns,
        error: false,
    });
    let result = keeper.note(bare).unwrap();
    assert_eq!(
        (result.jitter_ns, result.hop_limit_changed),
        (1_703, false),
        "a hop limit that is not known has not changed"
    );
}

#[test]
fn a_snapshot_shows_the_jitter_of_each_destination_and_their_mean() {
    let mut keeper = keeper(false);
    for (flow, rtt_ns, one_ns, mean_ns) in [
        (FLOW, 1_000, None, None),
        (FLOW, 17_000, Some(1_000), Some(1_000)),
        (FlowIndex(0), 5_000, None, Some(1_000)),
        (FlowIndex(0), 5_000, Some(0), Some(500)),
        (FLOW, 33_000, Some(1_938), Some(969)),
    ] {
        keeper.note(Note::Sent { flow });
        let mut event = event(EventKind::Reply, 0, 2000 * MS, 2000 * MS + rtt_ns);
        event.flow = flow.0;
        keeper.event(&event).unwrap();
        let snapshot = keeper.snapshot(&Outside::default(), true);
        let one = &snapshot.destinations[flow.0 as usize];
        assert_eq!((one.jitter_ns, snapshot.jitter_ns), (one_ns, mean_ns));
    }
}

#[test]
fn what_a_full_ring_hides_is_not_invented() {
    for (protocol, error, kind) in [
        (Protocol::Icmp, false, Some(AnswerKind::Echo)),
        (Protocol::Udp, false, Some(AnswerKind::Datagram)),
        (Protocol::Tcp, false, None),
        (Protocol::Tcp, true, Some(AnswerKind::IcmpError)),
        (Protocol::Udp, true, Some(AnswerKind::IcmpError)),
    ] {
        let destination = Destination {
            protocol,
            ..Destination::echo("192.0.2.9".parse().unwrap())
        };
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let identifier = 7;
        let metrics = Metrics::new(&destination, FlowFacts { identifier, source });
        let answer = metrics.bare_answer(5, error);
        assert_eq!((answer.kind, answer.hop_limit), (kind, None));
        assert_eq!(answer.responder == destination.address, !error);
    }
}

#[test]
fn a_stale_answer_in_a_flood_happened_when_it_came() {
    let stale = event(EventKind::Stale, 2, 0, 7 * MS);
    let result = keeper(true).event(&stale).unwrap();
    assert_eq!(
        (result.outcome, result.due_ns, result.tx_ns),
        (Outcome::Late, 7 * MS, 7 * MS)
    );
    assert_eq!(result.answer.unwrap().rtt_ns, None);
    let due_ns = START_NS + 25 * MS;
    let result = keeper(false).event(&stale).unwrap();
    assert_eq!(
        (result.due_ns, result.tx_ns),
        (due_ns, due_ns),
        "the schedule knows when"
    );
}

#[test]
fn what_names_no_flow_or_no_kind_is_no_result() {
    let mut keeper = keeper(false);
    let mut stranger = event(EventKind::Late, 0, 1, 2);
    stranger.flow = 2;
    assert_eq!(keeper.event(&stranger), None);
    stranger.flow = 1;
    stranger.kind = 9;
    assert_eq!(keeper.event(&stranger), None);
    assert_eq!(*keeper.totals(), Counts::default());
}

#[test]
fn the_sparkline_keeps_the_newest() {
    let mut keeper = keeper(false);
    for rtt_ns in 1..=RECENT as u64 + 3 {
        keeper.note(Note::Sent { flow: FLOW });
        keeper.event(&event(
            EventKind::Reply,
            rtt_ns,
            2000 * MS,
            2000 * MS + rtt_ns,
        ));
    }
    let snapshot = keeper.snapshot(&Outside::default(), true);
    let newest: Vec<_> = (4..=RECENT as u64 + 3).map(Recent::Reply).collect();
    let shown: Vec<_> = snapshot.destinations[1].recent.iter().collect();
    assert_eq!(shown, newest);

    keeper.note(Note::Sent { flow: FLOW });
    keeper.note(ended(End::Lost));
    let snapshot = keeper.snapshot(&Outside::default(), true);
    let shown: Vec<_> = snapshot.destinations[1].recent.iter().collect();
    assert_eq!((shown.len(), shown[RECENT - 1]), (RECENT, Recent::Lost));
    assert_eq!(shown[..RECENT - 1], newest[1..]);
}

proptest! {
    #[test]
    fn the_sum_holds_after_every_step(steps in prop::collection::vec((0..9_u8, 0..2_u32), 0..300)) {
        let mut keeper = keeper(false);
        for (step, flow) in steps {
            let open = keeper.flows[flow as usize].counts.in_flight > 0;
            let mut told = |kind| {
                let mut event = event(kind, 0, START_NS + 5, START_NS + 9);
                event.flow = flow;
                keeper.event(&event);
            };
            match step {
                0..=2 => drop(keeper.note(Note::Sent { flow: FlowIndex(flow) })),
                3 if open => told(EventKind::Reply),
                4 => told(EventKind::Duplicate),
                5 => told(EventKind::Late),
                6..=8 if open => {
                    let end = [End::Lost, End::Refused, End::Unreachable][usize::from(step) - 6];
                    let flow = FlowIndex(flow);
                    keeper.note(Note::Ended { flow, sequence: 0, due_ns: 1, tx_ns: 2, end });
                }
                _ => {}
            }
            let snapshot = keeper.snapshot(&Outside::default(), true);
            for c in snapshot.destinations.iter().map(|d| d.counts).chain([snapshot.totals]) {
                prop_assert_eq!(c.sent, c.reply + c.error + c.lost + c.send_failed + c.in_flight);
            }
        }
    }
}
