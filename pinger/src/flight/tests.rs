//! Slots: their life as the sender sees it, and the two writers at once on real threads.

use std::sync::atomic::{AtomicBool, AtomicU8};
use std::thread;

use pinger_ebpf::layout::{AnswerKind, Event, EventKind, Flow, FlowKey, PROTOCOL_ICMP, Settings};
use pinger_ebpf::matching::{Context, Match};
use pinger_ebpf::parse::Answer;
use proptest::prelude::*;

use super::*;

const FLOW: FlowIndex = FlowIndex(1);

fn table(probes: u64) -> Flight<Vec<AtomicSlot>> {
    let mut runs = Runs::default();
    runs.push(3);
    runs.push(probes);
    let slots = (0..runs.slots()).map(|_| AtomicSlot::default()).collect();
    Flight::new(slots, runs)
}

/// Claims an answer to `sequence` as the kernel program would. Probes without payload, so that
/// no cookie slows the race down.
fn claim(flight: &Flight<Vec<AtomicSlot>>, sequence: u64, now_ns: u64, room: bool) -> Match {
    claim_as(AnswerKind::Echo, flight, sequence, now_ns, room)
}

fn claim_as(
    kind: AnswerKind,
    flight: &Flight<Vec<AtomicSlot>>,
    sequence: u64,
    now_ns: u64,
    room: bool,
) -> Match {
    let run = flight.runs.of(FLOW);
    let flow = Flow {
        index: FLOW.0,
        slot_base: run.base,
        slot_mask: run.mask,
        payload_len: 0,
        payload: 0,
        check: 1,
        reserved: 0,
    };
    let answer = Answer {
        kind,
        key: FlowKey {
            address: [0; 16],
            identifier: 1,
            port: 0,
            protocol: PROTOCOL_ICMP,
            reserved: 0,
        },
        responder: [0; 16],
        icmp_type: 0,
        icmp_code: 0,
        number: Some(u32::from(sequence as u16)),
        checksum: 0,
        hop_limit: 64,
        traffic_class: 0,
        payload_at: 0,
        payload_len: 0,
    };
    let context = Context {
        flow: &flow,
        settings: &Settings::default(),
        now_ns,
        room,
    };
    let packet: &[u8] = &[];
    let wire = answer.sequence(packet, &flow).expect("a number");
    let slot = &flight.memory[wire.slot_index(&flow) as usize];
    answer.claim(packet, wire, slot, context)
}

fn kind_of(matched: Match) -> Option<EventKind> {
    match matched {
        Match::Told(Event { kind, .. }) => EventKind::from_u8(kind),
        Match::Untold | Match::Forged => None,
    }
}

#[test]
fn runs_are_powers_of_two_side_by_side() {
    let mut runs = Runs::default();
    for probes in [0, 1, 3, 4, 1 << 20] {
        runs.push(probes);
    }
    let runs: Vec<_> = (0..5).map(|flow| runs.of(FlowIndex(flow))).collect();
    let of = |base, mask| Run { base, mask };
    assert_eq!(
        runs,
        [of(0, 0), of(1, 0), of(2, 3), of(6, 3), of(10, 0x7fff)]
    );
}

#[test]
fn a_probe_answered_in_time_is_settled() {
    let flight = table(4);
    assert_eq!(flight.look(FLOW, 6), Standing::Settled, "never sent");
    flight.send(FLOW, 6, 100);
    assert_eq!(flight.look(FLOW, 6), Standing::InFlight { tx_ns: 100 });
    assert_eq!(
        flight.look(FLOW, 2),
        Standing::Settled,
        "the slot holds another one"
    );
    assert_eq!(
        kind_of(claim(&flight, 6, 150, true)),
        Some(EventKind::Reply)
    );
    assert_eq!(flight.look(FLOW, 6), Standing::Settled);
    assert_eq!(flight.expire(FLOW, 6), Err(Standing::Settled));
    assert_eq!(
        kind_of(claim(&flight, 6, 150, true)),
        Some(EventKind::Duplicate)
    );
}

#[test]
fn a_probe_given_up_gets_late_answers() {
    let flight = table(4);
    flight.send(FLOW, 6, 100);
    assert_eq!(flight.expire(FLOW, 6), Ok(()));
    assert_eq!(flight.expire(FLOW, 6), Err(Standing::Settled), "once");
    assert_eq!(kind_of(claim(&flight, 6, 150, true)), Some(EventKind::Late));
    flight.send(FLOW, 10, 200);
    assert_eq!(
        kind_of(claim(&flight, 6, 250, true)),
        Some(EventKind::Stale)
    );
    assert_eq!(flight.look(FLOW, 10), Standing::InFlight { tx_ns: 200 });
}

#[test]
fn an_unreported_answer_is_found_once() {
    for (kind, is_error) in [(AnswerKind::Echo, false), (AnswerKind::IcmpError, true)] {
        let flight = table(4);
        flight.send(FLOW, 0x1_0006, 100);
        let matched = claim_as(kind, &flight, 0x1_0006, 150, false);
        assert_eq!(matched, Match::Untold);
        let unreported = Standing::Unreported {
            tx_ns: 100,
            rtt_ns: 50,
            is_error,
        };
        assert_eq!(flight.expire(FLOW, 0x1_0006), Err(unreported));
        flight.settle(FLOW, 0x1_0006);
        assert_eq!(flight.look(FLOW, 0x1_0006), Standing::Settled);
        let again = claim_as(kind, &flight, 0x1_0006, 150, true);
        assert_eq!(kind_of(again), Some(EventKind::Duplicate));
    }
}

proptest! {
    #[test]
    fn probes_of_one_run_never_share_a_slot(
        probes in 1..RUN_MAX, start: u32, apart in 1..RUN_MAX,
    ) {
        let flight = table(probes);
        let run = flight.run(FLOW);
        prop_assert!(run >= probes && run.is_power_of_two());
        let (first, second) = (u64::from(start), u64::from(start) + apart % run.max(2));
        let same = std::ptr::eq(flight.slot(FLOW, first), flight.slot(FLOW, second));
        prop_assert_eq!(same, (second - first).is_multiple_of(run));
    }
}

/// How many probes the threads race for.
const PROBES: u64 = 2_000_000;

/// When probe `sequence` of the race is sent: a claim that reads another probe's time shows.
fn tx_ns(sequence: u64) -> u64 {
    sequence * 1000 + 1
}

/// What a claimer checks of each match: an end is counted, and times belong to their probe.
fn record(matched: Match, ends: &[AtomicU8], latest: u64) {
    let Match::Told(event) = matched else { return };
    match EventKind::from_u8(event.kind) {
        Some(EventKind::Reply) => {
            ends[event.sequence as usize].fetch_add(1, Ordering::Relaxed);
            assert_eq!(event.tx_ns, tx_ns(event.sequence));
        }
        Some(EventKind::Duplicate | EventKind::Late) => {
            assert_eq!(event.tx_ns, tx_ns(event.sequence), "of a {:?}", event.kind);
        }
        Some(EventKind::Stale) => assert!(event.sequence <= latest + 4 && event.tx_ns == 0),
        None => panic!("event kind {}", event.kind),
    }
}

/// Two CPUs claim what a sender sends and expires, all as fast as they can and on the same four
/// slots; each probe ends exactly once.
#[test]
fn each_probe_ends_once_whoever_is_faster() {
    let flight = table(4);
    let ends: Vec<AtomicU8> = (0..PROBES).map(|_| AtomicU8::new(0)).collect();
    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut by_sender = [0_u64; 2];
    thread::scope(|scope| {
        for claimer in 0..2_u64 {
            let (flight, ends, sent, done) = (&flight, &ends, &sent, &done);
            scope.spawn(move || {
                let mut draw = claimer + 1;
                while !done.load(Ordering::Relaxed) {
                    let latest = sent.load(Ordering::Relaxed);
                    draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Mostly the probes in flight, sometimes one whose slot has been reused.
                    let sequence = latest.saturating_sub(draw >> 61);
                    let room = draw & 0x7000_0000 != 0;
                    let matched = claim(flight, sequence, u64::MAX >> 1, room);
                    record(matched, ends, sent.load(Ordering::Relaxed));
                }
            });
        }
        for sequence in 0..PROBES + 4 {
            if sequence >= 4 {
                let end = match flight.expire(FLOW, sequence - 4) {
                    Ok(()) => Some(0),
                    Err(Standing::Unreported { tx_ns: found, .. }) => {
                        assert_eq!(found, tx_ns(sequence - 4));
                        flight.settle(FLOW, sequence - 4);
                        Some(1)
                    }
                    Err(standing) => {
                        assert_eq!(standing, Standing::Settled);
                        None
                    }
                };
                if let Some(end) = end {
                    by_sender[end] += 1;
                    ends[sequence as usize - 4].fetch_add(1, Ordering::Relaxed);
                }
            }
            if sequence < PROBES {
                flight.send(FLOW, sequence, tx_ns(sequence));
                sent.store(sequence, Ordering::Relaxed);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let wrong = ends
        .iter()
        .position(|ends| ends.load(Ordering::Relaxed) != 1);
    assert_eq!(wrong, None, "every probe ended exactly once");
    let [expired, unreported] = by_sender;
    let answered = PROBES - expired - unreported;
    assert!(
        expired > 0 && unreported > 0 && answered > 0,
        "the race was none: {expired} expired, {unreported} unreported, {answered} answered"
    );
}
