//! The lines of `pinger ping`, result by result, and its end.

use pinger_ebpf::layout::AnswerKind;

use super::super::testing;
use super::*;
use crate::destination::{FlowIndex, Protocol};
use crate::stats::{Counts, History};

fn destination(name: &str, address: &str) -> Destination {
    let address: IpAddr = address.parse().unwrap();
    Destination {
        id: 1,
        name: name.to_owned(),
        address,
        protocol: Protocol::echo(address),
        interval_ns: 1_000_000_000,
        timeout_ns: 1_000_000_000,
        size: 56,
        ..Destination::echo(address)
    }
}

fn answer_of(responder: &str) -> Answer {
    Answer {
        rtt_ns: Some(123_400),
        responder: responder.parse().unwrap(),
        kind: Some(AnswerKind::Echo),
        icmp_type: 0,
        icmp_code: 0,
        hop_limit: Some(64),
        traffic_class: Some(0),
        mismatch_at: None,
    }
}

fn result(flow: u32, outcome: Outcome, answer: Option<Answer>) -> ProbeResult {
    ProbeResult {
        flow: FlowIndex(flow),
        sequence: 65_537,
        identifier: 7,
        ttl: 64,
        hops: 0,
        due_ns: 0,
        tx_ns: 0,
        outcome,
        answer,
        jitter_ns: 0,
        hop_limit_changed: false,
    }
}

#[test]
fn answers_have_their_lines() {
    let reply = answer_of("198.18.0.1");
    let head = "64 bytes from 198.18.0.1: icmp_seq=1";
    for (outcome, answer, rest) in [
        (Outcome::Reply, reply, " ttl=64 time=0.1234 ms"),
        (
            Outcome::Reply,
            Answer {
                hop_limit: None,
                rtt_ns: Some(12_345_678),
                ..reply
            },
            " time=12.346 ms",
        ),
        (
            Outcome::Reply,
            Answer {
                mismatch_at: Some(16),
                ..reply
            },
            " ttl=64 time=0.1234 ms (payload changed at byte 16)",
        ),
        (Outcome::Duplicate, reply, " ttl=64 time=0.1234 ms (DUP!)"),
        (
            Outcome::Late,
            Answer {
                rtt_ns: Some(1_200_000_000),
                ..reply
            },
            " ttl=64 time=1200.000 ms (late: the timeout is 1 s)",
        ),
    ] {
        check(0, outcome, Some(answer), &format!("{head}{rest}"));
    }
    check(
        1,
        Outcome::Reply,
        Some(answer_of("2001:db8::7")),
        "64 bytes from example.org (2001:db8::7): icmp_seq=1 ttl=64 time=0.1234 ms",
    );
}

#[test]
fn errors_and_silence_have_their_lines() {
    let by_router = Answer {
        kind: Some(AnswerKind::IcmpError),
        icmp_type: 11,
        ..answer_of("198.18.9.9")
    };
    let unreachable = Answer {
        rtt_ns: None,
        icmp_type: 1,
        icmp_code: 3,
        ..answer_of("2001:db8::1")
    };
    for (flow, outcome, answer, text) in [
        (
            0,
            Outcome::Error,
            Some(by_router),
            "from 198.18.9.9: icmp_seq=1 to 198.18.0.1: time to live exceeded time=0.1234 ms",
        ),
        (
            0,
            Outcome::Duplicate,
            Some(by_router),
            "from 198.18.9.9: icmp_seq=1 to 198.18.0.1: time to live exceeded time=0.1234 ms (DUP!)",
        ),
        (
            1,
            Outcome::Error,
            Some(unreachable),
            "from 2001:db8::1: icmp_seq=1 to example.org (2001:db8::7): address unreachable",
        ),
        (
            0,
            Outcome::Lost,
            None,
            "no answer from 198.18.0.1: icmp_seq=1 after 1 s",
        ),
        (
            1,
            Outcome::SendFailed,
            None,
            "not sent to example.org (2001:db8::7): icmp_seq=1",
        ),
    ] {
        check(flow, outcome, answer, text);
    }
}

fn check(flow: u32, outcome: Outcome, answer: Option<Answer>, text: &str) {
    let destinations = [destination("198.18.0.1", "198.18.0.1"), named()];
    let mut out = Vec::new();
    let mut view = Ping::new(destinations.into(), &mut out, io::sink());
    view.result(&result(flow, outcome, answer)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{text}\n"));
}

fn named() -> Destination {
    destination("example.org", "2001:db8::7")
}

#[test]
fn ports_are_open_closed_or_echo() {
    let of = |protocol, kind, outcome| {
        let destination = Destination {
            protocol,
            port: 443,
            ..destination("example.org", "2001:db8::7")
        };
        let answer = Answer {
            kind,
            icmp_type: 1,
            icmp_code: 4,
            ..answer_of("2001:db8::7")
        };
        line(&destination, &result(0, outcome, Some(answer)))
    };
    let who = "example.org (2001:db8::7) port 443";
    let rest = "seq=1 ttl=64 time=0.1234 ms";
    for (protocol, kind, outcome, text) in [
        (
            Protocol::Tcp6,
            Some(AnswerKind::SynAck),
            Outcome::Reply,
            format!("{who} is open: {rest}"),
        ),
        (
            Protocol::Tcp6,
            Some(AnswerKind::Reset),
            Outcome::Duplicate,
            format!("{who} is closed: {rest} (DUP!)"),
        ),
        (
            Protocol::Tcp6,
            None,
            Outcome::Reply,
            format!("{who} answered: {rest}"),
        ),
        (
            Protocol::Udp6,
            Some(AnswerKind::Datagram),
            Outcome::Reply,
            format!("56 bytes from {who}: {rest}"),
        ),
        (
            Protocol::Udp6,
            Some(AnswerKind::IcmpError),
            Outcome::Reply,
            format!("{who} is closed: {rest}"),
        ),
        (
            Protocol::Udp6,
            Some(AnswerKind::IcmpError),
            Outcome::Duplicate,
            format!("{who} is closed: {rest} (DUP!)"),
        ),
        (
            Protocol::Tcp6,
            Some(AnswerKind::IcmpError),
            Outcome::Error,
            format!("from 2001:db8::7: seq=1 to {who}: port unreachable time=0.1234 ms"),
        ),
    ] {
        assert_eq!(of(protocol, kind, outcome), text);
    }
}

#[test]
fn an_address_written_differently_is_no_name() {
    assert_eq!(
        label("2001:DB8:0::7", "2001:db8::7".parse().unwrap()),
        "2001:db8::7"
    );
}

#[test]
fn the_end_is_a_summary_per_destination() {
    let stats = |name: &str, counts, rtt, jitter_ns| DestinationStats {
        name: name.into(),
        address: "198.18.0.1".parse().unwrap(),
        counts,
        last_ns: None,
        error: None,
        closed: false,
        rtt,
        jitter_ns,
        recent: History::default(),
    };
    let replies = Counts {
        sent: 5,
        reply: 5,
        duplicate: 1,
        ..Counts::default()
    };
    let lost = Counts {
        sent: 3,
        reply: 1,
        lost: 2,
        ..Counts::default()
    };
    let rtt = Quantiles {
        count: 5,
        min_ns: 4_700,
        p50_ns: 5_000,
        p90_ns: 6_000,
        p99_ns: 1_234_567,
        p999_ns: 2_000_000,
        max_ns: 20_000_000,
    };
    let summary = Summary {
        snapshot: Arc::new(Snapshot {
            destinations: vec![
                stats("198.18.0.1", replies, rtt, Some(310_000)),
                stats("web tcp/443", lost, Quantiles::default(), None),
            ],
            ..Snapshot::default()
        }),
        rows_lost: None,
        sending: Duration::from_millis(4005),
        command: String::new(),
        suggestions: Vec::new(),
    };
    let mut out = Vec::new();
    let mut view = Ping::new([named()].into(), &mut out, io::sink());
    view.start(&testing::header(1)).unwrap();
    view.finish(&summary).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "PING example.org (2001:db8::7): 56 data bytes, through eth0 (native XDP)\n\
         \n\
         --- 198.18.0.1 ---\n\
         5 probes sent, 5 replies, 1 duplicate, 0% loss, time 4005 ms\n\
         rtt min/p50/p99/max = 0.0047/0.0050/1.235/20.000 ms, jitter 0.3100 ms\n\
         \n\
         --- web (198.18.0.1) tcp/443 ---\n\
         3 probes sent, 1 reply, 66.67% loss, time 4005 ms\n"
    );
}

#[test]
fn many_destinations_are_counted_not_named() {
    let many: Vec<_> = (0..6).map(|_| named()).collect();
    let mut out = Vec::new();
    Ping::new(many.into(), &mut out, io::sink())
        .start(&testing::header(6))
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "PING 6 destinations through eth0 (native XDP)\n"
    );
}
